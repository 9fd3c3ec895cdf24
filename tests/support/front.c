/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/front.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"
#include "frontend/secrets.h"
#include "frontend/tls.h"
#include "ipc/control.pb-c.h"
#include "ipc/note.h"
#include "nats/json.h"
#include "shm/memfd.h"

/* ---- the supervisor ---- */

static void ring_make(int fds[2]) {
    check(memfd_make(&fds[0], "data", ring_data_bytes(FRONT_RING), 1) == ERR_OK);
    check(memfd_make(&fds[1], "credit", RING_PAGE, 1) == ERR_OK);
}

static void reader_open(struct ring_reader *r, const int fds[2]) {
    struct ring_map map;
    check(ring_map(&map, fds[0], fds[1], false) == ERR_OK && ring_reader_open(r, &map) == ERR_OK);
}

static void writer_open(struct ring_writer *w, const int fds[2]) {
    struct ring_map map;
    check(ring_map(&map, fds[0], fds[1], true) == ERR_OK && ring_writer_open(w, &map) == ERR_OK);
}

static void send_settings(struct channel *supervisor) {
    struct settings settings = {.host = "0.0.0.0",
                                .server_id = "S",
                                .server_name = "S",
                                .max_payload = FRONT_PAYLOAD_MAX,
                                .max_control_line = FRONT_LINE_MAX,
                                .max_pending = FRONT_PENDING_MAX,
                                .ping_interval_ms = 10000,
                                .ping_max = 2,
                                .write_deadline_ms = 2000,
                                .auth_timeout_ms = 1000};
    Bulkhead__Settings message;
    int counters;
    check(memfd_make(&counters, "counters", sizeof(struct counters), 1) == ERR_OK);
    settings_fill(&message, &settings);
    check(channel_send(supervisor, MESSAGE_SETTINGS, &message.base, &counters, 1) == ERR_OK);
    close(counters);
}

static void send_link(struct front *w, struct channel *supervisor) {
    Bulkhead__Link link = BULKHEAD__LINK__INIT;
    int fds[8], bells[4];
    for (int i = 0; i < 6; i += 2)
        ring_make(&fds[i]);
    reader_open(&w->ingress, &fds[0]);
    writer_open(&w->egress, &fds[2]);
    reader_open(&w->replay, &fds[4]);
    check(pipe2(&bells[0], O_NONBLOCK) == 0 && pipe2(&bells[2], O_NONBLOCK) == 0);
    fds[6] = bells[1];
    fds[7] = bells[2];
    link.kind = LINK_FRONTEND;
    link.incarnation = 1;
    link.fresh = true;
    check(channel_send(supervisor, MESSAGE_LINK, &link.base, fds, 8) == ERR_OK);
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    check(channel_send(supervisor, MESSAGE_LISTENER, NULL, &w->listener, 1) == ERR_OK);
}

void front_open(struct front *w) {
    struct frontend *f = &w->f;
    int pair[2];
    struct channel supervisor;
    signal(SIGPIPE, SIG_IGN);
    check(frontend_open(f) == ERR_OK);
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
    int far = fcntl(pair[1], F_DUPFD, 16), near = fcntl(pair[0], F_DUPFD, 16);
    check(far >= 0 && near >= 0);
    close(pair[0]);
    close(pair[1]);
    check(dup2(near, CONTROL_FD) == CONTROL_FD);
    close(near);
    f->epoll = epoll_create1(EPOLL_CLOEXEC);
    f->now_ms = 1000000;
    f->now_ns = f->now_ms * 1000000;
    json_prepare();
    accept_prepare(f);
    secrets_prepare();
    check(f->epoll >= 0 && control_open(f) == ERR_OK);
    struct sockaddr_un any = {.sun_family = AF_UNIX};
    w->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    check(w->listener >= 0 && bind(w->listener, (struct sockaddr *)&any, sizeof any.sun_family) == 0);
    check(listen(w->listener, 512) == 0);
    check(channel_open(&supervisor, far, "frontend", NULL, 0, NULL, 1) == ERR_OK);
    send_settings(&supervisor);
    send_link(w, &supervisor);
    check(channel_send(&supervisor, MESSAGE_GO, NULL, NULL, 0) == ERR_OK);
    control_events(f);
    check(f->have_link && f->go);
    w->control = dup(far);
    channel_close(&supervisor);
    f->cid_next = 1;
    f->cid_end = UINT64_MAX;
    f->cids_asked = true;
    f->places = 1000000;
}

/* ---- authd ---- */

static uint32_t principal_of(const Bulkhead__Login *m) {
    uint32_t sum = 1;
    for (size_t i = 0; m->has_user && i < m->user.len; i++)
        sum += m->user.data[i];
    return sum;
}

static void send_bound(struct front *w, const struct front_login *l, uint32_t principal, uint32_t payload_max) {
    struct binding b = {.version = BINDING_VERSION,
                        .kind = LINK_FRONTEND,
                        .incarnation = 1,
                        .conn = l->id,
                        .generation = l->generation,
                        .serial = ++w->serial,
                        .account = 1,
                        .principal = principal,
                        .payload_max = payload_max};
    Bulkhead__Bound m = BULKHEAD__BOUND__INIT;
    m.id = l->id;
    m.sealed = (ProtobufCBinaryData){sizeof b, (uint8_t *)&b};
    m.payload_max = payload_max;
    channel_send(&w->authd, MESSAGE_BOUND, &m.base, NULL, 0);
}

static enum err on_login(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct front *w = owner;
    const Bulkhead__Login *m = message;
    struct front_login l = {m->id, m->generation, m->ahead, principal_of(m)};
    if (l.ahead)
        send_bound(w, &l, 0, 0);
    else if (w->login_count < FRONT_LOGINS)
        w->login[w->login_count++] = l;
    return ERR_OK;
}

static enum err on_cancel(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)owner, (void)message, (void)fds;
    return ERR_OK; /* its answer comes all the same */
}

static enum err on_want_nonces(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct front *w = owner;
    uint8_t text[16 * NONCE_CHARS];
    memset(text, 'n', sizeof text);
    uint32_t count = ((const Bulkhead__WantNonces *)message)->count;
    Bulkhead__Nonces m = BULKHEAD__NONCES__INIT;
    m.text = (ProtobufCBinaryData){(count < 16 ? count : 16) * NONCE_CHARS, text};
    channel_send(&w->authd, MESSAGE_NONCES, &m.base, NULL, 0);
    return ERR_OK;
}

static const struct channel_rule authd_rules[] = {
    {MESSAGE_LOGIN, 0, 1, CHANNEL_FRAME_MAX - 4, &bulkhead__login__descriptor, on_login},
    {MESSAGE_CANCEL, 0, 1, 64, &bulkhead__cancel__descriptor, on_cancel},
    {MESSAGE_WANT_NONCES, 0, 1, 64, &bulkhead__want_nonces__descriptor, on_want_nonces},
};

void front_authd_new(struct front *w, bool login, bool anonymous, bool nonce) {
    int pair[2];
    if (w->authd_open)
        channel_close(&w->authd);
    w->login_count = 0;
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
    check(channel_open(&w->authd, pair[0], "frontend", authd_rules, sizeof authd_rules / sizeof *authd_rules, w, 0) ==
          ERR_OK);
    w->authd_open = true;
    check(login_open(&w->f, pair[1]) == ERR_OK);
    Bulkhead__Policy m = BULKHEAD__POLICY__INIT;
    m.auth_required = m.login = login;
    m.anonymous = anonymous;
    m.nonce = nonce;
    m.log_form = BULKHEAD__LOG_FORM__LOG_USER;
    check(channel_send(&w->authd, MESSAGE_POLICY, &m.base, NULL, 0) == ERR_OK);
}

void front_authd_read(struct front *w) {
    channel_flush(&w->authd);
    check(channel_receive(&w->authd, INT_MAX) == ERR_OK);
}

static bool next_login(struct front *w, struct front_login *l) {
    if (w->login_count == 0)
        return false;
    *l = w->login[0];
    memmove(w->login, w->login + 1, --w->login_count * sizeof *w->login);
    return true;
}

void front_authd_bind(struct front *w, uint32_t principal, uint32_t payload_max) {
    struct front_login l;
    if (next_login(w, &l))
        send_bound(w, &l, principal ? principal : l.principal, payload_max);
}

void front_authd_refuse(struct front *w, Bulkhead__RefusalReason why) {
    struct front_login l;
    if (!next_login(w, &l))
        return;
    Bulkhead__Refusal m = BULKHEAD__REFUSAL__INIT;
    m.id = l.id;
    m.reason = why;
    channel_send(&w->authd, MESSAGE_REFUSAL, &m.base, NULL, 0);
}

/* ---- clients ---- */

void front_client_open(struct front *w, struct front_client *c) {
    struct sockaddr_un to;
    socklen_t len = sizeof to;
    *c = (struct front_client){.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
    check(c->fd >= 0 && getsockname(w->listener, (struct sockaddr *)&to, &len) == 0);
    check(connect(c->fd, (struct sockaddr *)&to, len) == 0);
}

void front_client_close(struct front_client *c) {
    if (c->fd >= 0)
        close(c->fd);
    free(c->unread);
    *c = (struct front_client){.fd = -1};
}

size_t front_client_send(struct front_client *c, const void *bytes, size_t len) {
    ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);
    return n < 0 ? 0 : (size_t)n;
}

static bool begins(const char *line, size_t len, const char *with) {
    return len >= strlen(with) && memcmp(line, with, strlen(with)) == 0;
}

/* The length of the line or message at the start, 0: it is not complete. */
static size_t one(struct front_client *c, const char *at, size_t len) {
    const char *end = memmem(at, len, "\r\n", 2);
    if (!end)
        return 0;
    size_t line = (size_t)(end - at) + 2;
    if (begins(at, line, "MSG ") || begins(at, line, "HMSG ")) {
        const char *size = memrchr(at, ' ', line);
        size_t whole = line + strtoul(size + 1, NULL, 10) + 2;
        if (whole > len)
            return 0;
        check(memcmp(at + whole - 2, "\r\n", 2) == 0);
        c->messages++;
        return whole;
    }
    if (begins(at, line, "PONG\r\n"))
        c->pongs++;
    else if (begins(at, line, "+OK\r\n"))
        c->oks++;
    else if (begins(at, line, "-ERR '"))
        c->errors++;
    else if (begins(at, line, "INFO {"))
        c->infos++;
    else
        check(begins(at, line, "PING\r\n"));
    return line;
}

void front_client_read(struct front_client *c) {
    enum { STEP = 64 * 1024 };
    for (;;) {
        char *grown = realloc(c->unread, c->unread_len + STEP);
        check(grown != NULL);
        c->unread = grown;
        ssize_t n = recv(c->fd, c->unread + c->unread_len, STEP, 0);
        if (n <= 0)
            return;
        c->unread_len += (size_t)n;
        size_t at = 0;
        for (size_t len; (len = one(c, c->unread + at, c->unread_len - at)) > 0;)
            at += len;
        memmove(c->unread, c->unread + at, c->unread_len - at);
        c->unread_len -= at;
    }
}

/* ---- the loop ---- */

static void forget_notes(struct front *w) {
    struct note note;
    while (note_receive(w->control, &note) == ERR_OK)
        w->f.cids_asked = true;
}

void front_turn(struct front *w) {
    struct frontend *f = &w->f;
    struct epoll_event events[64];
    int n = epoll_wait(f->epoll, events, 64, 0);
    for (int i = 0; i < n; i++)
        turn_event(f, &events[i]);
    turn_once(f);
    accept_arm(f);
    forget_notes(w);
}

void front_pass(struct front *w, uint64_t ms) {
    w->f.now_ms += ms;
    w->f.now_ns += ms * 1000000;
}

/* ---- the router ---- */

static uint8_t *put(struct front *w, struct record *rec) {
    if (!ring_has_room(&w->egress, ring_round(rec->len), 0))
        return NULL;
    uint8_t *at = ring_head(&w->egress);
    memcpy(at, rec, sizeof *rec);
    ring_advance(&w->egress, rec->len);
    return at + sizeof *rec;
}

void front_router_small(struct front *w, enum record_type type, uint32_t conn, uint32_t aux) {
    struct record rec = {.len = RECORD_HEADER, .type = (uint8_t)type, .conn = conn, .aux = aux};
    put(w, &rec);
    ring_publish(&w->egress);
}

void front_router_end_slot(struct front *w, uint32_t slot) {
    struct record rec = {.len = RECORD_HEADER, .type = RECORD_SLOT_FREE, .conn = w->slot[slot].conn, .aux = slot};
    if (!w->slot[slot].used || !put(w, &rec))
        return;
    w->slot[slot].used = false;
    ring_publish(&w->egress);
}

static void count(struct front *w, uint32_t slot) {
    struct front_slot *s = &w->slot[slot];
    s->delivered++;
    if (s->max != 0 && s->delivered >= s->max)
        front_router_end_slot(w, slot);
}

/* One record with these targets; false: no room. */
static bool put_message(struct front *w, bool first, bool more, const uint32_t *slots, uint32_t slot_count,
                        struct view subject, const void *payload, uint32_t payload_len, uint32_t header_len) {
    struct record rec = {.type = first ? RECORD_DELIVER : RECORD_DELIVER_MORE,
                         .flags = more ? RECORD_MORE : 0,
                         .target_count = (uint16_t)slot_count};
    if (first) {
        rec.subject_len = (uint16_t)subject.len;
        rec.payload_len = payload_len;
        rec.aux = header_len;
    }
    rec.len = (uint32_t)record_len(0, slot_count, rec.subject_len, 0, rec.payload_len);
    uint8_t *at = put(w, &rec);
    if (!at)
        return false;
    for (uint32_t i = 0; i < slot_count; i++, at += sizeof(struct record_target)) {
        struct record_target t = {w->slot[slots[i]].conn, slots[i]};
        memcpy(at, &t, sizeof t);
    }
    if (!first)
        return true;
    memcpy(at, subject.at, subject.len);
    if (payload_len > 0)
        memcpy(at + subject.len, payload, payload_len);
    return true;
}

static void send_message(struct front *w, const uint32_t *slots, uint32_t slot_count, struct view subject,
                         const void *payload, uint32_t payload_len, uint32_t header_len, bool split) {
    if (slot_count == 0 || ring_room(&w->egress) < record_len(0, 2 * slot_count + 8, subject.len, 0, payload_len + 64))
        return;
    uint32_t first = split && slot_count > 1 ? 1 : slot_count;
    check(put_message(w, true, first < slot_count, slots, first, subject, payload, payload_len, header_len));
    if (first < slot_count)
        check(
            put_message(w, false, false, slots + first, slot_count - first, subject, payload, payload_len, header_len));
    ring_publish(&w->egress);
    for (uint32_t i = 0; i < slot_count; i++)
        count(w, slots[i]);
}

void front_router_deliver(struct front *w, uint32_t slot, uint32_t target_count, uint32_t payload_len,
                          uint32_t header_len, bool split) {
    static char payload[FRONT_PAYLOAD_MAX];
    uint32_t slots[8], found = 0;
    ring_writer_refresh(&w->egress);
    memset(payload, 'd', sizeof payload);
    for (uint32_t i = slot; i < w->slot_high && found < target_count && found < 8; i++)
        if (w->slot[i].used)
            slots[found++] = i;
    send_message(w, slots, found, view_text("from.router"), payload, payload_len, header_len, split);
}

static void on_sub(struct front *w, const struct record *rec, const struct record_sub *sub, const char *text) {
    check(sub->slot < FRONT_SLOTS && !w->slot[sub->slot].used);
    struct front_slot *s = &w->slot[sub->slot];
    *s = (struct front_slot){.used = true, .conn = rec->conn, .delivered = sub->delivered, .max = sub->max};
    s->subject_len = (uint8_t)(rec->subject_len < FRONT_SUBJECT ? rec->subject_len : 0);
    memcpy(s->subject, text, s->subject_len);
    if (sub->slot >= w->slot_high)
        w->slot_high = sub->slot + 1;
    if (sub->after != RECORD_NO_SLOT && w->slot[sub->after].used)
        front_router_end_slot(w, sub->slot); /* the older one of that sid lives */
}

static void on_pub(struct front *w, const struct record *rec, const char *subject, const char *payload) {
    uint32_t slots[8], found = 0;
    for (uint32_t i = 0; i < w->slot_high && found < 8; i++) {
        const struct front_slot *s = &w->slot[i];
        if (s->used && rec->subject_len > 0 && s->subject_len == rec->subject_len &&
            memcmp(s->subject, subject, rec->subject_len) == 0)
            slots[found++] = i;
    }
    send_message(w, slots, found, view_of(subject, rec->subject_len), payload, rec->payload_len, rec->aux, false);
}

/* slot: of the subscription that is refused; null: it is a message. */
static void deny(struct front *w, const struct record *rec, const char *text, uint32_t why, const uint32_t *slot) {
    struct record out = {
        .type = RECORD_DENY, .conn = rec->conn, .aux = why, .subject_len = rec->subject_len, .target_count = slot != NULL};
    struct record_target target = {rec->conn, slot ? *slot : 0};
    uint32_t target_len = slot ? sizeof target : 0;
    out.len = (uint32_t)record_len(0, out.target_count, out.subject_len, 0, 0);
    uint8_t *at = put(w, &out);
    if (!at)
        return;
    memcpy(at, &target, target_len);
    if (out.subject_len > 0)
        memcpy(at + target_len, text, out.subject_len);
}

static void free_closed(struct front *w) {
    for (uint32_t n = 0; n < w->conn_high && !w->keeps_closed; n++) {
        struct record rec = {.len = RECORD_HEADER, .type = RECORD_CONN_FREE, .conn = n};
        if (!w->conn[n].closed || !put(w, &rec))
            continue;
        w->conn[n] = (struct front_conn){0};
        for (uint32_t i = 0; i < w->slot_high; i++)
            w->slot[i].used &= w->slot[i].conn != n;
    }
    ring_publish(&w->egress);
}

static void take(struct front *w, const struct record *rec, const struct record_parts *parts, const uint8_t *at) {
    check(rec->conn < FRONT_CONNS);
    struct front_conn *c = &w->conn[rec->conn];
    const char *subject = (const char *)at + parts->subject;
    check(rec->type == RECORD_BIND ? !c->bound : c->bound && !c->closed);
    bool answers = rec->flags & RECORD_ANSWER;
    switch (rec->type) {
    case RECORD_BIND:
        *c = (struct front_conn){.bound = true};
        if (rec->conn >= w->conn_high)
            w->conn_high = rec->conn + 1;
        break;
    case RECORD_OPTIONS:
        c->options = (uint8_t)rec->aux;
        c->has_options = true;
        break;
    case RECORD_GATE:
        c->gate = rec->aux == RECORD_GATE_DRAINS ? c->gate : rec->aux == RECORD_GATE_FULL;
        break;
    case RECORD_SUB: {
        struct record_sub sub;
        memcpy(&sub, at + RECORD_HEADER, sizeof sub);
        if (answers)
            front_router_small(w, RECORD_OK, rec->conn, 0);
        on_sub(w, rec, &sub, subject);
        if (rec->subject_len > 2 && memcmp(subject, "no.", 3) == 0) {
            deny(w, rec, subject, RECORD_DENY_SUB, &sub.slot);
            front_router_end_slot(w, sub.slot);
        }
        break;
    }
    case RECORD_UNSUB: {
        struct record_unsub unsub;
        memcpy(&unsub, at + RECORD_HEADER, sizeof unsub);
        check(unsub.slot < FRONT_SLOTS);
        struct front_slot *s = &w->slot[unsub.slot];
        if (answers)
            front_router_small(w, RECORD_OK, rec->conn, 0);
        if (!s->used || s->conn != rec->conn)
            break;
        s->max = unsub.max;
        if (s->max == 0 || s->delivered >= s->max)
            front_router_end_slot(w, unsub.slot);
        break;
    }
    case RECORD_PUB:
        if (answers)
            front_router_small(w, RECORD_OK, rec->conn, 0);
        if (rec->subject_len > 2 && memcmp(subject, "no.", 3) == 0)
            deny(w, rec, subject, RECORD_DENY_PUBLISH, NULL);
        else
            on_pub(w, rec, subject, (const char *)at + parts->payload);
        break;
    case RECORD_CLOSE:
        c->closed = true;
        break;
    default:
        check(!"a record that a frontend sends");
    }
}

void front_router(struct front *w, uint32_t most) {
    check(ring_reader_refresh(&w->ingress) && ring_writer_refresh(&w->egress));
    /* Nothing is taken whose answer might find no room: the model does not wait in the middle. */
    for (uint32_t i = 0;
         i < most && ring_ready(&w->ingress) > 0 && ring_room(&w->egress) > 3 * (uint64_t)FRONT_PAYLOAD_MAX; i++) {
        struct record rec;
        struct record_parts parts;
        const uint8_t *at = ring_tail(&w->ingress);
        check(record_take(&rec, &parts, at, ring_ready(&w->ingress), RECORD_TO_ROUTER) == ERR_OK);
        take(w, &rec, &parts, at);
        ring_skip(&w->ingress, rec.len);
        ring_publish(&w->egress); /* before what it was caused by is consumed */
        ring_release(&w->ingress);
    }
    free_closed(w);
}

uint32_t front_conn_at(const struct front *w, uint32_t from) {
    for (uint32_t i = 0; i < w->conn_high; i++) {
        uint32_t n = (from + i) % w->conn_high;
        if (w->conn[n].bound && !w->conn[n].closed)
            return n;
    }
    return EDGE_NO_NUMBER;
}

uint32_t front_slot_at(const struct front *w, uint32_t from) {
    for (uint32_t i = 0; i < w->slot_high; i++) {
        uint32_t slot = (from + i) % w->slot_high;
        if (w->slot[slot].used)
            return slot;
    }
    return RECORD_NO_SLOT;
}

/* ---- a replay ---- */

struct replayed {
    bool ended;
    uint32_t conns, subs;
    struct front_conn conn[FRONT_CONNS];
};

static void take_replayed(struct front *w, struct replayed *r, const struct record *rec, const uint8_t *at) {
    switch (rec->type) {
    case RECORD_REPLAY_BEGIN:
        check(rec->aux == w->epoch);
        break;
    case RECORD_BIND:
        check(w->conn[rec->conn].bound && !r->conn[rec->conn].bound);
        r->conn[rec->conn].bound = true;
        r->conns++;
        break;
    case RECORD_OPTIONS:
        r->conn[rec->conn].options = (uint8_t)rec->aux;
        break;
    case RECORD_GATE:
        r->conn[rec->conn].gate = rec->aux == RECORD_GATE_FULL;
        break;
    case RECORD_SUB: {
        struct record_sub sub;
        memcpy(&sub, at + RECORD_HEADER, sizeof sub);
        const struct front_slot *s = &w->slot[sub.slot];
        check(s->used && s->conn == rec->conn && s->delivered == sub.delivered && s->max == sub.max);
        r->subs++;
        break;
    }
    case RECORD_REPLAY_END:
        check(rec->aux == w->epoch);
        r->ended = true;
        break;
    default:
        check(!"a record of a replay");
    }
}

static void read_replay(struct front *w, struct replayed *r) {
    check(ring_reader_refresh(&w->replay));
    while (ring_ready(&w->replay) > 0) {
        struct record rec;
        struct record_parts parts;
        const uint8_t *at = ring_tail(&w->replay);
        check(record_take(&rec, &parts, at, ring_ready(&w->replay), RECORD_TO_ROUTER) == ERR_OK);
        take_replayed(w, r, &rec, at);
        ring_skip(&w->replay, rec.len);
    }
    ring_release(&w->replay);
}

void front_router_dies(struct front *w) {
    static struct replayed r;
    r = (struct replayed){0};
    for (uint32_t n = 0; n < w->conn_high; n++) {
        if (!w->conn[n].closed)
            continue;
        w->conn[n] = (struct front_conn){0}; /* the frontend knows that CLOSE was consumed, and forgets it by itself */
        for (uint32_t i = 0; i < w->slot_high; i++)
            w->slot[i].used &= w->slot[i].conn != n;
    }
    replay_begin(&w->f, ++w->epoch);
    for (read_replay(w, &r); !r.ended; read_replay(w, &r))
        edge_replay_write(&w->f.replay);
    uint32_t conns = 0, subs = 0;
    for (uint32_t n = 0; n < w->conn_high; n++) {
        const struct front_conn *c = &w->conn[n];
        conns += c->bound;
        check(!c->bound || !c->has_options || r.conn[n].options == c->options);
        check(!c->bound || r.conn[n].gate == c->gate);
    }
    for (uint32_t i = 0; i < w->slot_high; i++)
        subs += w->slot[i].used;
    check(conns == r.conns && subs == r.subs);
    front_router_small(w, RECORD_EPOCH, 0, w->epoch);
}

/* ---- TLS ---- */

char *front_certificate(void) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    check(key && x && X509_set_version(x, 2) && ASN1_INTEGER_set(X509_get_serialNumber(x), 1));
    check(X509_gmtime_adj(X509_getm_notBefore(x), 0) && X509_gmtime_adj(X509_getm_notAfter(x), 86400));
    check(X509_set_pubkey(x, key) && X509_sign(x, key, EVP_sha256()));
    BIO *bio = BIO_new(BIO_s_mem());
    check(PEM_write_bio_X509(bio, x));
    char *at;
    long len = BIO_get_mem_data(bio, &at);
    char *pem = strndup(at, (size_t)len);
    BIO_free(bio);
    X509_free(x);
    EVP_PKEY_free(key);
    return pem;
}

struct tls_context *front_tls(struct front *w) {
    struct tls_context *made;
    int signer[2];
    check(tls_prepare() == ERR_OK);
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, signer) == 0);
    check(tls_signer_open(&w->f, signer[0]) == ERR_OK);
    char *pem = front_certificate(), why[256];
    Bulkhead__Tls m = BULKHEAD__TLS__INIT;
    m.chain_bytes = (uint32_t)strlen(pem);
    m.timeout_ms = 1000;
    m.allow_non_tls = true;
    check(tls_context_make(&made, &m, pem, why, sizeof why) == ERR_OK);
    free(pem);
    return made;
}

/* ---- the end ---- */

void front_settle(struct front *w) {
    w->keeps_closed = false;
    for (int still = 0, rounds = 0; still < 3; rounds++) {
        check(rounds < 10000);
        uint64_t before = w->ingress.tail_pos + w->egress.head_pos + w->f.link.egress.tail_pos;
        front_turn(w);
        front_authd_read(w);
        front_router(w, UINT32_MAX);
        bool moved = w->ingress.tail_pos + w->egress.head_pos + w->f.link.egress.tail_pos != before || w->f.again ||
                     !list_is_empty(&w->f.ended) || !list_is_empty(&w->f.ready);
        still = moved ? 0 : still + 1;
    }
}

void front_check_empty(struct front *w) {
    struct frontend *f = &w->f;
    const struct list *lists[] = {&f->fenced,    &f->dirty,     &f->borrowers, &f->owing,  &f->ready,   &f->ended,
                                  &f->placeless, &f->stockless, &f->deferred,  &f->asking, &f->admitted};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        check(list_is_empty(lists[i]));
    check(f->client_count == 0 && f->heap_count == 0 && f->sub_count == 0 && f->journal.count == 0);
    for (uint32_t n = 0; n < f->number_high; n++)
        check(!f->by_number[n] && !(n < FRONT_CONNS && w->conn[n].bound));
}
