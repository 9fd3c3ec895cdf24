/* SPDX-License-Identifier: Apache-2.0 */
/* New connections: a place, a connection id, INFO.
 *
 * max_connections counts over all frontends, so places are leased from the supervisor, in blocks while there are many and one
 * by one near the bound. A connection that finds no place in hand gets its INFO at once and waits for the verdict. The cid
 * comes from blocks of the supervisor's, asked for ahead.
 *
 * A listener that cannot be served is not watched: without ids, without what INFO needs, while all descriptors for clients
 * are in use, and for REST_MS and then twice as long each time while the system has none to give.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "frontend/frontend.h"
#include "ipc/note.h"
#include "nats/errors.h"
#include "nats/info.h"
#include "shm/limit.h"

enum { ACCEPT_AT_ONCE = 64, PLACES_KEPT = 256, REST_MS = 10, REST_MOST_MS = 1000, REST_TOLD_MS = 1000 };

static void want_places(struct frontend *f) {
    if (f->places_asked == 0 && note_send(&f->control, NOTE_WANT_PLACES, 1, 0) == ERR_OK)
        f->places_asked = 1;
}

static bool has_cid(const struct frontend *f) {
    return f->cid_next != f->cid_end || f->cid_then != f->cid_then_end;
}

static void want_cids(struct frontend *f) {
    if (!f->cids_asked)
        f->cids_asked = note_send(&f->control, NOTE_WANT_CIDS, 0, 0) == ERR_OK;
}

static bool next_cid(struct frontend *f, uint64_t *cid) {
    if (f->cid_next == f->cid_end) {
        f->cid_next = f->cid_then;
        f->cid_end = f->cid_then_end;
        f->cid_then = f->cid_then_end = 0;
    }
    if (f->cid_then == f->cid_then_end)
        want_cids(f);
    if (f->cid_next == f->cid_end)
        return false;
    *cid = f->cid_next++;
    return true;
}

struct in6_addr accept_address(const struct sockaddr_storage *from, uint16_t *port) {
    if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *a = (const void *)from;
        *port = ntohs(a->sin6_port);
        return a->sin6_addr;
    }
    const struct sockaddr_in *a = (const void *)from;
    struct in6_addr mapped = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    memcpy(&mapped.s6_addr[12], &a->sin_addr, 4);
    *port = ntohs(a->sin_port);
    return mapped;
}

size_t accept_info_line(const struct frontend *f, const struct client *c, char out[static INFO_BYTES]) {
    char ip[INET6_ADDRSTRLEN];
    uint32_t own = limit_most(c->binding.payload_max), max = f->settings.max_payload;
    bool v4 = IN6_IS_ADDR_V4MAPPED(&c->peer);
    inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? (const void *)&c->peer.s6_addr[12] : &c->peer, ip, sizeof ip);
    struct info info = {
        .server_id = view_text(f->settings.server_id),
        .server_name = view_text(f->settings.server_name),
        .host = view_text(f->settings.host),
        .port = f->settings.port,
        .headers = !f->settings.no_headers,
        .auth_required = f->policy.auth_required,
        .max_payload = own < max ? own : max,
        .client_id = c->cid,
        .client_ip = view_text(ip),
        .nonce = view_text(c->flags & CLIENT_GREETED ? "" : c->nonce),
        .cluster = view_text(f->settings.cluster),
        .ldm = f->lame,
    };
    tls_describe(f, &info);
    size_t n = info_format(out, INFO_BYTES, &info);
    check(n > 0);
    return n;
}

void accept_info(struct frontend *f, struct client *c) {
    char line[INFO_BYTES];
    if (!(c->flags & CLIENT_GREETED))
        login_greet(f, c);
    size_t n = accept_info_line(f, c, line);
    c->flags |= CLIENT_GREETED;
    out_bytes(f, c, line, (uint32_t)n);
    out_flush(f, c);
}

static void refuse(struct frontend *f, struct client *c) {
    client_log(c, LOG_ERROR, NATS_ERR_MAX_CONNECTIONS);
    client_error(f, c, NATS_ERR_MAX_CONNECTIONS, "Maximum Connections Exceeded");
    c->write_due_ms = f->now_ms + LINGER_MS;
    timer_update(f, c);
}

static void begin(struct frontend *f, int fd, const struct sockaddr_storage *from) {
    struct client *c = client_new(f, fd);
    if (!c || !next_cid(f, &c->cid)) {
        log_error("No memory or no connection id for a new connection: it is closed");
        if (c)
            client_fail(f, c, "No Connection Id");
        else
            close(fd);
        return;
    }
    c->peer = accept_address(from, &c->peer_port);
    counter_add(f->counters, COUNTER_CONNS_TOTAL, 1);
    client_log(c, LOG_DEBUG, "Client connection created");
    if (f->places > 0) {
        f->places--;
        c->flags |= CLIENT_PLACE;
    } else {
        c->flags |= CLIENT_WANTS_PLACE;
        list_add(&f->placeless, &c->waits);
    }
    if (f->places < PLACES_KEPT / 8)
        want_places(f);
    if (f->tls) {
        tls_accept(f, c);
        return;
    }
    ping_restart(f, c, false);
    accept_info(f, c);
    login_clock(f, c);
}

bool accept_begin(struct frontend *f, int fd, const struct sockaddr_storage *from) {
    if (!has_cid(f) || !login_can_greet(f))
        return false;
    begin(f, fd, from);
    return true;
}

void accept_prepare(struct frontend *f) {
    struct rlimit limit = {0, 0};
    getrlimit(RLIMIT_NOFILE, &limit);
    f->sockets_max = limit.rlim_cur > EDGE_DESCRIPTORS ? (uint32_t)limit.rlim_cur - EDGE_DESCRIPTORS : 1;
}

/* The listener's queue waits. One line a second says so. */
static void rest(struct frontend *f, const char *why) {
    f->rest_ms = f->rest_ms == 0 ? REST_MS : f->rest_ms < REST_MOST_MS / 2 ? 2 * f->rest_ms : REST_MOST_MS;
    f->rest_until_ms = f->now_ms + f->rest_ms;
    if (f->rest_told_ms && f->now_ms - f->rest_told_ms < REST_TOLD_MS)
        return;
    f->rest_told_ms = f->now_ms;
    log_error("New connections wait in the listener's queue: %s; %u are open", why, f->client_count);
}

static bool has_descriptor(const struct frontend *f) {
    return f->client_count + delays_count(f) < f->sockets_max;
}

/* What a new connection needs is there. */
static bool can_accept(struct frontend *f) {
    if (!has_cid(f))
        want_cids(f);
    return has_cid(f) && has_descriptor(f) && f->now_ms >= f->rest_until_ms && login_can_greet(f);
}

void accept_arm(struct frontend *f) {
    if (f->listener_armed || f->listener < 0 || !f->go || f->lame || !can_accept(f))
        return;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &f->listener};
    if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, f->listener, &event) != 0)
        log_die("The listener cannot be watched");
    f->listener_armed = true;
    if (!f->listener_told)
        note_send(&f->control, NOTE_READY, 0, 0);
    f->listener_told = true;
}

void accept_disarm(struct frontend *f) {
    if (f->listener_armed)
        epoll_ctl(f->epoll, EPOLL_CTL_DEL, f->listener, NULL);
    f->listener_armed = false;
}

static bool is_shortage(int error) {
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}

void accept_some(struct frontend *f) {
    for (int i = 0; i < ACCEPT_AT_ONCE; i++) {
        struct sockaddr_storage from;
        socklen_t len = sizeof from;
        if (!has_descriptor(f))
            rest(f, "all descriptors for clients are in use");
        if (!can_accept(f)) {
            accept_disarm(f);
            return;
        }
        int fd = accept4(f->listener, (struct sockaddr *)&from, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (is_shortage(errno)) {
                rest(f, strerror(errno));
                accept_disarm(f);
            }
            return;
        }
        f->rest_ms = 0;
        if (likely(!f->delays) || !delays_hold(f, fd, &from))
            begin(f, fd, &from);
    }
}

/* Gives the places in hand to connections that wait for one. */
static void serve_placeless(struct frontend *f) {
    while (f->places > 0 && !list_is_empty(&f->placeless)) {
        struct client *c = list_entry(list_pop(&f->placeless), struct client, waits);
        c->flags &= ~(uint32_t)CLIENT_WANTS_PLACE;
        if (c->state >= CLIENT_FAILED)
            continue;
        f->places--;
        c->flags |= CLIENT_PLACE;
        client_wake(f, c);
    }
}

void accept_places(struct frontend *f, uint32_t count) {
    f->places_asked = 0;
    f->places += count;
    serve_placeless(f);
    while (count == 0 && !list_is_empty(&f->placeless)) {
        struct client *c = list_entry(list_pop(&f->placeless), struct client, waits);
        c->flags &= ~(uint32_t)CLIENT_WANTS_PLACE;
        if (c->state < CLIENT_ENDING)
            refuse(f, c);
    }
    if (!list_is_empty(&f->placeless))
        want_places(f);
}

void accept_recall(struct frontend *f) {
    if (note_send(&f->control, NOTE_PLACES_BACK, f->places, 0) == ERR_OK)
        f->places = 0;
}

void accept_place_back(struct frontend *f, struct client *c) {
    if (!(c->flags & CLIENT_PLACE))
        return;
    c->flags &= ~(uint32_t)CLIENT_PLACE;
    if (f->shed && note_send(&f->control, NOTE_PLACES_BACK, 1, 0) == ERR_OK) {
        f->shed--;
        return;
    }
    f->places++;
    serve_placeless(f);
    if (f->places > PLACES_KEPT && note_send(&f->control, NOTE_PLACES_BACK, PLACES_KEPT / 2, 0) == ERR_OK)
        f->places -= PLACES_KEPT / 2;
}
