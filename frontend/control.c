/* SPDX-License-Identifier: Apache-2.0 */
/* What the supervisor says: settings, the link, ids and places, a new authd, a new router, the end. */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "frontend/frontend.h"
#include "ipc/control.pb-c.h"
#include "ipc/note.h"
#include "shm/memfd.h"

enum { STATE_NEW = 0, STATE_SET, STATE_LINKED, STATE_GOING };
enum { TLS_MESSAGE_MAX = 16 * 1024 }; /* lists of suites and curves, pins */
#define IN_NEW    (1u << STATE_NEW)
#define IN_SET    (1u << STATE_SET)
#define IN_LINKED (1u << STATE_LINKED)
#define IN_GOING  (1u << STATE_GOING)

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* If two of the largest messages exceed max_pending, one more is allowed, so that a client with one pending message is not closed
 * as a slow consumer by the next one. */
static void set_output_bounds(struct frontend *f) {
    uint64_t pending = f->settings.max_pending, payload = f->settings.max_payload;
    f->pending_bytes = payload <= pending && 2 * payload > pending ? pending + payload : pending;
    f->gate_bytes = least(pending / 2, GATE_BYTES);
    f->flush_bytes = least(pending, FLUSH_BYTES);
}

static enum err on_settings(struct channel *c, void *owner, const void *message, const int *fds) {
    struct frontend *f = owner;
    void *counters;
    enum err e = settings_take(&f->settings, message);
    if (e == ERR_OK)
        e = memfd_map(&counters, fds[0], sizeof(struct counters), 1);
    close(fds[0]);
    if (e != ERR_OK)
        return e;
    f->counters = counters;
    f->limits = (struct parse_limits){f->settings.max_control_line, f->settings.max_payload};
    set_output_bounds(f);
    log_set(f->settings.debug, f->settings.trace);
    c->state = STATE_SET;
    return ERR_OK;
}

static enum err on_prepare(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)fds;
    struct frontend *f = owner;
    uint32_t generation = ((const Bulkhead__Settings *)message)->generation;
    if (!tls_acceptable(f, generation)) {
        f->change.prepared = false;
        return note_send(c, NOTE_PREPARED, generation, SETTINGS_BAD);
    }
    return settings_prepare(&f->change, c, message, f->have_link ? f->link.ingress.cap : UINT64_MAX);
}

/* PINGs that are due later than they would be now come sooner. */
static void restart_pings(struct frontend *f) {
    for (uint32_t n = 0; n < f->number_high; n++) {
        struct client *c = f->by_number[n];
        if (c && c->ping_due_ms > f->now_ms + f->settings.ping_interval_ms)
            ping_restart(f, c, false);
    }
}

static enum err on_commit(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)fds;
    struct frontend *f = owner;
    enum err e = settings_commit(&f->settings, &f->change, message);
    if (e != ERR_OK)
        return e;
    f->limits = (struct parse_limits){f->settings.max_control_line, f->settings.max_payload};
    set_output_bounds(f);
    tls_commit(f, f->settings.generation);
    restart_pings(f);
    log_set(f->settings.debug, f->settings.trace);
    return note_send(c, NOTE_APPLIED, f->settings.generation, 0);
}

static enum err on_lame_duck(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    const Bulkhead__LameDuck *m = message;
    lame_begin(owner, m->wait_us, m->pace_us);
    return ERR_OK;
}

static enum err on_shed(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    const Bulkhead__Shed *m = message;
    lame_shed(owner, m->count, m->strangers);
    return ERR_OK;
}

/* Descriptors in the order of the message Link (ipc/control.proto); all but the bells are closed once mapped. */
static enum err on_link(struct channel *c, void *owner, const void *message, const int *fds) {
    struct frontend *f = owner;
    const Bulkhead__Link *m = message;
    enum err e = edge_link_open(&f->link, fds);
    if (e != ERR_OK)
        return e;
    f->have_link = true;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &f->link.bell_in};
    if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, f->link.bell_in, &event) != 0)
        return ERR_SYSTEM;
    c->state = STATE_LINKED;
    return note_send(c, NOTE_MAPPED, m->link, m->incarnation);
}

static enum err on_peer(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c;
    const Bulkhead__Peer *m = message;
    if (m->role == BULKHEAD__ROLE__ROLE_AUTHD)
        return login_open(owner, fds[0]);
    enum err e = m->role == BULKHEAD__ROLE__ROLE_SIGNER ? tls_signer_open(owner, fds[0]) : ERR_STATE;
    if (e != ERR_OK)
        close(fds[0]);
    return e;
}

static enum err on_tls(struct channel *c, void *owner, const void *message, const int *fds) {
    return tls_message(owner, message, fds[0], c->state == STATE_SET);
}

static enum err on_listener(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)message;
    struct frontend *f = owner;
    if (f->listener >= 0) {
        close(fds[0]);
        return ERR_STATE;
    }
    f->listener = fds[0];
    return ERR_OK;
}

static enum err on_cids(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct frontend *f = owner;
    const Bulkhead__Cids *m = message;
    f->cids_asked = false;
    f->cid_then = m->first;
    f->cid_then_end = m->first + m->count;
    return ERR_OK;
}

static enum err on_places(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    accept_places(owner, ((const Bulkhead__Places *)message)->count);
    return ERR_OK;
}

static enum err on_recall(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)message, (void)fds;
    accept_recall(owner);
    return ERR_OK;
}

static enum err on_delay(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    const Bulkhead__Delay *m = message;
    struct in6_addr source;
    if (m->source.len != sizeof source)
        return ERR_RANGE;
    memcpy(&source, m->source.data, sizeof source);
    return delays_add(owner, &source, m->wait_ms, m->lasts_ms);
}

static enum err on_go(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)message, (void)fds;
    struct frontend *f = owner;
    f->go = true;
    c->state = STATE_GOING;
    return ERR_OK;
}

static enum err on_replay(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    replay_begin(owner, ((const Bulkhead__Replay *)message)->epoch);
    return ERR_OK;
}

static enum err on_poke(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)message, (void)fds;
    counter_add(((struct frontend *)owner)->counters, COUNTER_HEARTBEAT, 1);
    return ERR_OK;
}

static enum err on_stop(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)message, (void)fds;
    ((struct frontend *)owner)->stopping = true;
    return ERR_OK;
}

static const struct channel_rule rules[] = {
    {MESSAGE_SETTINGS, 1, IN_NEW, 4096, &bulkhead__settings__descriptor, on_settings},
    {MESSAGE_LINK, 8, IN_SET, 64, &bulkhead__link__descriptor, on_link},
    {MESSAGE_PEER, 1, IN_LINKED | IN_GOING, 64, &bulkhead__peer__descriptor, on_peer},
    {MESSAGE_TLS, 1, IN_SET | IN_LINKED | IN_GOING, TLS_MESSAGE_MAX, &bulkhead__tls__descriptor, on_tls},
    {MESSAGE_LISTENER, 1, IN_LINKED, 64, &bulkhead__listener__descriptor, on_listener},
    {MESSAGE_CIDS, 0, IN_LINKED | IN_GOING, 64, &bulkhead__cids__descriptor, on_cids},
    {MESSAGE_PLACES, 0, IN_LINKED | IN_GOING, 64, &bulkhead__places__descriptor, on_places},
    {MESSAGE_RECALL, 0, IN_LINKED | IN_GOING, 64, &bulkhead__recall__descriptor, on_recall},
    {MESSAGE_DELAY, 0, IN_LINKED | IN_GOING, 64, &bulkhead__delay__descriptor, on_delay},
    {MESSAGE_GO, 0, IN_LINKED, 64, &bulkhead__go__descriptor, on_go},
    {MESSAGE_REPLAY, 0, IN_GOING, 64, &bulkhead__replay__descriptor, on_replay},
    {MESSAGE_PREPARE, 0, IN_SET | IN_LINKED | IN_GOING, 4096, &bulkhead__settings__descriptor, on_prepare},
    {MESSAGE_COMMIT, 0, IN_SET | IN_LINKED | IN_GOING, 64, &bulkhead__commit__descriptor, on_commit},
    {MESSAGE_LAME_DUCK, 0, IN_GOING, 64, &bulkhead__lame_duck__descriptor, on_lame_duck},
    {MESSAGE_SHED, 0, IN_LINKED | IN_GOING, 64, &bulkhead__shed__descriptor, on_shed},
    {MESSAGE_POKE, 0, IN_SET | IN_LINKED | IN_GOING, 0, &bulkhead__poke__descriptor, on_poke},
    {MESSAGE_STOP, 0, IN_NEW | IN_SET | IN_LINKED | IN_GOING, 64, &bulkhead__stop__descriptor, on_stop},
};

enum err control_open(struct frontend *f) {
    enum err e = channel_open(&f->control, CONTROL_FD, "supervisor", rules, sizeof rules / sizeof *rules, f, 1);
    if (e != ERR_OK)
        return e;
    return channel_watch(&f->control, f->epoll, (union epoll_data){.ptr = &f->control});
}

void control_events(struct frontend *f) {
    enum err e = channel_receive(&f->control, 64);
    if (e == ERR_END)
        exit(0); /* the supervisor has gone, and the family with it */
    if (e != ERR_OK)
        log_die("The supervisor's conversation broke: %s", err_text(e));
}
