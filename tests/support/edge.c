/* SPDX-License-Identifier: Apache-2.0 */
/* The model of an honest edge: numbers, slots, journal; records out and in, each checked; its replay. */
#include "tests/support/edge.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "nats/subject.h"
#include "shm/memfd.h"

static void bell(int ends[2]) {
    check(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
}

void edge_make(struct world *w, uint32_t number, uint8_t kind) {
    struct edge *e = &w->edge[number];
    edge_delivered *delivered = e->delivered;
    *e = (struct edge){.world = w, .number = number, .kind = kind, .incarnation = ++w->incarnation, .fresh = true};
    e->delivered = delivered;
    const size_t bytes[8] = {ring_data_bytes(w->ring_bytes),
                             RING_PAGE,
                             ring_data_bytes(w->ring_bytes),
                             RING_PAGE,
                             ring_data_bytes(w->replay_bytes),
                             RING_PAGE,
                             w->spill_bytes,
                             sizeof(struct soft_link)};
    for (int i = 0; i < 8; i++)
        e->fds[i] = world_memory(bytes[i]);
    bell(e->bell_to_router);
    bell(e->bell_to_edge);
    check(ring_map(&e->ingress_map, e->fds[0], e->fds[1], true) == ERR_OK);
    check(ring_map(&e->egress_map, e->fds[2], e->fds[3], false) == ERR_OK);
    check(ring_map(&e->replay_map, e->fds[4], e->fds[5], true) == ERR_OK);
    check(ring_writer_open(&e->ingress, &e->ingress_map) == ERR_OK);
    check(ring_reader_open(&e->egress, &e->egress_map) == ERR_OK);
    check(ring_writer_open(&e->replay, &e->replay_map) == ERR_OK);
    e->conn = calloc(EDGE_CONNS_MAX, sizeof *e->conn);
    check(e->conn != NULL);
}

void edge_free(struct edge *e) {
    for (int i = 0; i < 8; i++)
        close(e->fds[i]);
    for (int i = 0; i < 2; i++) {
        close(e->bell_to_edge[i]);
        close(e->bell_to_router[i]);
    }
    ring_unmap(&e->ingress_map);
    ring_unmap(&e->egress_map);
    ring_unmap(&e->replay_map);
    for (uint32_t i = 0; i < e->sub_high; i++)
        free(e->sub[i].text);
    free(e->sub);
    free(e->slot_free);
    free(e->conn);
    free(e->journal);
    free(e->snapshot);
}

/* ---- numbers, slots, journal ---- */

static void journal(struct edge *e, enum record_type type, uint32_t id, uint8_t old_flag, uint32_t old_max) {
    if (e->journal_at + e->journal_count == e->journal_cap) {
        if (e->journal_at > 0 && e->journal_count > 0)
            memmove(e->journal, e->journal + e->journal_at, e->journal_count * sizeof *e->journal);
        e->journal_at = 0;
        if (e->journal_count * 2 >= e->journal_cap) {
            e->journal_cap = e->journal_cap ? 2 * e->journal_cap : 256;
            e->journal = realloc(e->journal, e->journal_cap * sizeof *e->journal);
            check(e->journal != NULL);
        }
    }
    e->journal[e->journal_at + e->journal_count++] =
        (struct edge_journal){e->ingress.head_pos, id, old_max, (uint8_t)type, old_flag};
}

static void journal_trim(struct edge *e, uint64_t consumed) {
    while (e->journal_count > 0 && e->journal[e->journal_at].end_pos <= consumed) {
        e->journal_at++;
        e->journal_count--;
    }
}

uint32_t edge_number(struct edge *e) {
    uint32_t n = e->conn_used_below;
    while (n < e->conn_high && e->conn[n].used)
        n++;
    e->conn_used_below = n;
    check(n < EDGE_CONNS_MAX);
    if (n == e->conn_high)
        e->conn_high++;
    struct edge_conn *c = &e->conn[n];
    *c = (struct edge_conn){.used = true, .generation = c->generation + 1};
    return n;
}

static uint32_t slot_take(struct edge *e) {
    if (e->slot_free_count > 0)
        return e->slot_free[--e->slot_free_count];
    if (e->sub_high == e->sub_cap) {
        e->sub_cap = e->sub_cap ? 2 * e->sub_cap : 256;
        e->sub = realloc(e->sub, e->sub_cap * sizeof *e->sub);
        e->slot_free = realloc(e->slot_free, e->sub_cap * sizeof *e->slot_free);
        check(e->sub && e->slot_free);
    }
    e->sub[e->sub_high] = (struct edge_sub){0};
    return e->sub_high++;
}

static void slot_give(struct edge *e, uint32_t slot) {
    free(e->sub[slot].text);
    e->sub[slot] = (struct edge_sub){0};
    e->slot_free[e->slot_free_count++] = slot;
}

static void conn_freed(struct edge *e, uint32_t number) {
    for (uint32_t i = 0; i < e->sub_high; i++)
        if (e->sub[i].used && e->sub[i].conn == number)
            slot_give(e, i);
    e->conn[number].used = false;
    if (number < e->conn_used_below)
        e->conn_used_below = number;
}

/* ---- writing ---- */

static uint8_t *claim(struct edge *e, uint64_t len) {
    uint64_t until = clock_mono_ms() + 60000;
    while (!ring_has_room(&e->ingress, ring_round(len), 0)) {
        check(!e->ingress.broken && clock_mono_ms() < until);
        edge_publish(e);
        if (!world_step(e->world))
            e->world->now += 1000000;
    }
    return ring_head(&e->ingress);
}

void edge_put_raw(struct edge *e, const void *bytes, uint32_t len) {
    memcpy(claim(e, len), bytes, len);
    ring_advance(&e->ingress, len);
}

void edge_put(struct edge *e, const struct record *rec, const void *fixed, uint32_t fixed_len, struct view subject,
              struct view reply, const void *payload) {
    struct record r = *rec;
    r.subject_len = (uint16_t)subject.len;
    r.reply_len = (uint16_t)reply.len;
    r.len = (uint32_t)record_len(fixed_len, r.target_count, subject.len, reply.len, r.payload_len);
    uint8_t *at = claim(e, r.len);
    memcpy(at, &r, sizeof r);
    at += sizeof r;
    if (fixed_len)
        memcpy(at, fixed, fixed_len);
    at += fixed_len;
    if (subject.len)
        memcpy(at, subject.at, subject.len);
    if (reply.len)
        memcpy(at + subject.len, reply.at, reply.len);
    if (r.payload_len)
        memcpy(at + subject.len + reply.len, payload, r.payload_len);
    ring_advance(&e->ingress, r.len);
    if (rec->conn < e->conn_high)
        e->conn[rec->conn].last_pos = e->ingress.head_pos;
}

static void put_small(struct edge *e, enum record_type type, uint32_t conn, uint32_t aux) {
    struct record rec = {.type = (uint8_t)type, .conn = conn, .aux = aux};
    edge_put(e, &rec, NULL, 0, (struct view){0}, (struct view){0}, NULL);
}

struct binding edge_binding(struct edge *e, uint32_t number, uint32_t account) {
    struct world *w = e->world;
    struct binding b = {.kind = e->kind,
                        .link = e->number,
                        .incarnation = e->incarnation,
                        .conn = number,
                        .generation = number < e->conn_high ? e->conn[number].generation : 1,
                        .serial = ++w->serial,
                        .issued_s = w->wall,
                        .account = account,
                        .principal = 1,
                        .payload_max = w->settings.max_payload};
    binding_seal(&b, &w->key);
    return b;
}

void edge_bind(struct edge *e, uint32_t number, const struct binding *b) {
    struct record rec = {.type = RECORD_BIND, .conn = number, .payload_len = sizeof *b};
    e->conn[number].binding = *b;
    edge_put(e, &rec, NULL, 0, (struct view){0}, (struct view){0}, b);
    journal(e, RECORD_BIND, number, 0, 0);
}

void edge_options(struct edge *e, uint32_t number, uint8_t options) {
    uint8_t old = e->conn[number].options;
    put_small(e, RECORD_OPTIONS, number, options);
    journal(e, RECORD_OPTIONS, number, old, 0);
    e->conn[number].options = options;
}

uint32_t edge_connect(struct edge *e, uint32_t account, uint8_t options) {
    uint32_t number = edge_number(e);
    struct binding b = edge_binding(e, number, account);
    edge_bind(e, number, &b);
    edge_options(e, number, options);
    return number;
}

uint32_t edge_subscribe(struct edge *e, uint32_t conn, const char *subject, const char *queue, uint32_t after,
                        uint8_t flags) {
    uint32_t slot = slot_take(e);
    struct view s = view_of(subject, strlen(subject)), q = view_of(queue, queue ? strlen(queue) : 0);
    check(s.len + q.len <= EDGE_TEXT_MAX);
    e->sub[slot] = (struct edge_sub){.used = true,
                                     .conn = conn,
                                     .subject_len = (uint8_t)s.len,
                                     .queue_len = (uint8_t)q.len,
                                     .text = malloc(s.len + q.len + 1)};
    check(e->sub[slot].text != NULL);
    memcpy(e->sub[slot].text, s.at, s.len);
    if (q.len)
        memcpy(e->sub[slot].text + s.len, q.at, q.len);
    struct record rec = {.type = RECORD_SUB, .flags = flags, .conn = conn};
    struct record_sub fixed = {slot, after, 0, 0};
    edge_put(e, &rec, &fixed, sizeof fixed, s, q, NULL);
    journal(e, RECORD_SUB, slot, 0, 0);
    return slot;
}

void edge_unsub(struct edge *e, uint32_t conn, uint32_t slot, uint32_t max, uint8_t flags) {
    struct record rec = {.type = RECORD_UNSUB, .flags = flags, .conn = conn};
    struct record_unsub fixed = {slot, max};
    edge_put(e, &rec, &fixed, sizeof fixed, (struct view){0}, (struct view){0}, NULL);
    if (slot >= e->sub_high || !e->sub[slot].used)
        return;
    struct edge_sub *s = &e->sub[slot];
    journal(e, RECORD_UNSUB, slot, s->ended, s->max);
    s->max = max;
    s->ended |= max == 0;
}

void edge_pub(struct edge *e, uint32_t conn, const char *subject, const char *reply, const void *payload, uint32_t len,
              uint8_t flags) {
    struct record rec = {.type = RECORD_PUB, .flags = flags, .conn = conn, .payload_len = len};
    edge_put(e, &rec, NULL, 0, view_of(subject, strlen(subject)), view_of(reply, reply ? strlen(reply) : 0), payload);
}

void edge_gate(struct edge *e, uint32_t conn, bool on) {
    bool old = e->conn[conn].gate;
    put_small(e, RECORD_GATE, conn, on);
    journal(e, RECORD_GATE, conn, old, 0);
    e->conn[conn].gate = on;
}

bool edge_stalled(const struct edge *e, uint32_t conn) {
    return e->conn[conn].stalled_until > e->world->now;
}

void edge_drains(struct edge *e, uint32_t conn) {
    put_small(e, RECORD_GATE, conn, RECORD_GATE_DRAINS);
    journal(e, RECORD_GATE, conn, e->conn[conn].gate, 0);
}

void edge_close(struct edge *e, uint32_t conn) {
    put_small(e, RECORD_CLOSE, conn, 0);
    journal(e, RECORD_CLOSE, conn, 0, 0);
    e->conn[conn].closed = true;
}

void edge_publish(struct edge *e) {
    ring_publish(&e->ingress);
}

/* ---- reading ---- */

static void note_seen(struct edge *e, const struct record *rec, struct view subject, struct view reply, uint32_t slot) {
    if (e->seen_count == SEEN_MAX) {
        memmove(e->seen, e->seen + 1, (SEEN_MAX - 1) * sizeof e->seen[0]);
        e->seen_count--;
    }
    struct seen *s = &e->seen[e->seen_count++];
    *s = (struct seen){.type = rec->type,
                       .flags = rec->flags,
                       .conn = rec->conn,
                       .aux = rec->aux,
                       .slot = slot,
                       .payload_len = rec->payload_len};
    snprintf(s->subject, sizeof s->subject, "%.*s", (int)subject.len, subject.at ? subject.at : "");
    snprintf(s->reply, sizeof s->reply, "%.*s", (int)reply.len, reply.at ? reply.at : "");
}

const struct seen *edge_seen(const struct edge *e, uint8_t type) {
    for (uint32_t i = e->seen_count; i-- > 0;)
        if (e->seen[i].type == type)
            return &e->seen[i];
    return NULL;
}

void edge_forget_seen(struct edge *e) {
    e->seen_count = 0;
}

static void take_targets(struct edge *e, const struct record *rec, const struct record *message,
                         const struct record_parts *parts, const uint8_t *at, struct view subject, struct view reply,
                         const uint8_t *payload) {
    check(rec->target_count > 0);
    for (uint32_t i = 0; i < rec->target_count; i++) {
        struct record_target t;
        memcpy(&t, at + parts->targets + 8 * (size_t)i, sizeof t);
        e->delivered_count++;
        if (e->hostile)
            continue;
        check(t.slot < e->sub_high && e->sub[t.slot].used && e->sub[t.slot].conn == t.conn);
        check(e->conn[t.conn].used);
        if (message->flags & RECORD_UNCOUNTED)
            e->uncounted_total++;
        else
            e->sub[t.slot].delivered++;
        if (e->delivered)
            e->delivered(e, t.slot, message, subject, reply, payload);
    }
}

static void take_answer(struct edge *e, const struct record *rec) {
    if (rec->type == RECORD_EPOCH || e->hostile)
        return;
    check(rec->conn < e->conn_high && e->conn[rec->conn].used);
    struct edge_conn *c = &e->conn[rec->conn];
    switch (rec->type) {
    case RECORD_SLOT_FREE:
        check(rec->aux < e->sub_high && e->sub[rec->aux].used && e->sub[rec->aux].conn == rec->conn);
        slot_give(e, rec->aux);
        e->slot_free_total++;
        break;
    case RECORD_CONN_FREE:
        check(c->closed);
        conn_freed(e, rec->conn);
        e->conn_free_total++;
        break;
    case RECORD_OK:
        c->ok_count++;
        break;
    case RECORD_DENY:
        check(rec->aux > 0 && rec->aux < RECORD_DENY_END);
        c->deny_count++;
        break;
    case RECORD_KICK:
        check(rec->aux > 0 && rec->aux < RECORD_KICK_END);
        c->kick_count++;
        c->kick = rec->aux;
        e->kick_total++;
        break;
    case RECORD_STALL:
        check(rec->aux > 0 && rec->aux <= RECORD_STALL_MS_MAX);
        c->stall_count++;
        c->stalled_until = e->world->now + (uint64_t)rec->aux * 1000000;
        break;
    case RECORD_RESUME:
        c->resume_count++;
        c->stalled_until = 0;
        break;
    default:
        check(!"a record that no router sends");
    }
}

static void drain(struct edge *e) {
    bool more = false;
    struct record message = {0};
    struct view subject = {0}, reply = {0};
    const uint8_t *payload = NULL;
    struct ring_reader *ring = &e->egress;
    uint32_t taken = 0;
    while (ring_ready(ring) > 0 && (more || e->read_max == 0 || taken++ < e->read_max)) {
        struct record rec;
        struct record_parts parts;
        const uint8_t *at = ring_tail(ring);
        check(record_take(&rec, &parts, at, ring_ready(ring), RECORD_TO_EDGE) == ERR_OK);
        check(more == (rec.type == RECORD_DELIVER_MORE));
        uint32_t slot = 0;
        if (rec.type != RECORD_DELIVER_MORE) {
            memcpy(e->names, at + parts.subject, (size_t)rec.subject_len + rec.reply_len);
            subject = view_of((const char *)e->names, rec.subject_len);
            reply = view_of((const char *)e->names + rec.subject_len, rec.reply_len);
            message = rec;
            payload = at + parts.payload;
        }
        if (rec.target_count > 0) {
            struct record_target t;
            memcpy(&t, at + parts.targets, sizeof t);
            slot = t.slot;
        }
        note_seen(e, &rec, subject, reply, slot);
        if (rec.type == RECORD_DELIVER || rec.type == RECORD_DELIVER_MORE) {
            check(subject.len > 0 && subject_is_clean(subject) && subject_is_clean(reply));
            take_targets(e, &rec, &message, &parts, at, subject, reply, payload);
            more = rec.flags & RECORD_MORE;
        } else {
            take_answer(e, &rec);
        }
        ring_skip(ring, rec.len);
    }
    check(!more);
    ring_release(ring);
}

bool edge_read(struct edge *e) {
    check(ring_writer_refresh(&e->ingress));
    check(ring_reader_refresh(&e->egress));
    uint64_t consumed = e->ingress.consumed_pos;
    e->owed_pos = ring_reader_owed(&e->egress);
    bool any = ring_ready(&e->egress) > 0;
    if (any)
        drain(e);
    journal_trim(e, consumed);
    return any;
}

bool edge_fence_passes(const struct edge *e, uint32_t conn) {
    return e->conn[conn].last_pos <= e->ingress.consumed_pos && ring_ready(&e->egress) == 0 &&
           e->owed_pos <= e->egress.tail_pos;
}

/* ---- replay: the same steps as edge/replay.c ---- */

static void snap(struct edge *e, const struct record *rec, const void *a, size_t a_len, const void *b, size_t b_len) {
    uint64_t len = ring_round(rec->len);
    if (!e->snapshot || e->snapshot_len + len > e->snapshot_cap) {
        e->snapshot_cap = 2 * (e->snapshot_len + len) + 4096;
        e->snapshot = realloc(e->snapshot, e->snapshot_cap);
        check(e->snapshot != NULL);
    }
    uint8_t *at = e->snapshot + e->snapshot_len;
    memset(at, 0, len);
    memcpy(at, rec, sizeof *rec);
    if (a_len)
        memcpy(at + sizeof *rec, a, a_len);
    if (b_len)
        memcpy(at + sizeof *rec + a_len, b, b_len);
    e->snapshot_len += len;
}

static void snap_small(struct edge *e, enum record_type type, uint32_t conn, uint32_t aux) {
    struct record rec = {.len = RECORD_HEADER, .type = (uint8_t)type, .conn = conn, .aux = aux};
    snap(e, &rec, NULL, 0, NULL, 0);
}

struct undo {
    uint8_t *conn_out, *conn_option, *conn_gate, *sub_out, *sub_undone;
    uint32_t *sub_max;
};

static void undo_make(struct undo *u, const struct edge *e) {
    u->conn_out = calloc(e->conn_high + 1, 1);
    u->conn_option = calloc(e->conn_high + 1, 1);
    u->conn_gate = calloc(e->conn_high + 1, 1);
    u->sub_out = calloc(e->sub_high + 1, 1);
    u->sub_undone = calloc(e->sub_high + 1, 1);
    u->sub_max = calloc(e->sub_high + 1, sizeof *u->sub_max);
    for (uint32_t i = e->journal_count; i-- > 0;) {
        const struct edge_journal *j = &e->journal[e->journal_at + i];
        if (j->type == RECORD_BIND)
            u->conn_out[j->id] = 1;
        else if (j->type == RECORD_OPTIONS)
            u->conn_option[j->id] = (uint8_t)(j->old_flag + 1);
        else if (j->type == RECORD_GATE)
            u->conn_gate[j->id] = (uint8_t)(j->old_flag + 1);
        else if (j->type == RECORD_SUB)
            u->sub_out[j->id] = 1;
        else if (j->type == RECORD_UNSUB) {
            u->sub_undone[j->id] = 1;
            u->sub_max[j->id] = j->old_max;
        }
    }
}

static void undo_free(struct undo *u) {
    free(u->conn_out);
    free(u->conn_option);
    free(u->conn_gate);
    free(u->sub_out);
    free(u->sub_undone);
    free(u->sub_max);
}

static void snap_conn(struct edge *e, uint32_t n, const struct undo *u) {
    const struct edge_conn *c = &e->conn[n];
    struct record rec = {.len = (uint32_t)record_len(0, 0, 0, 0, sizeof c->binding),
                         .type = RECORD_BIND,
                         .conn = n,
                         .payload_len = sizeof c->binding};
    snap(e, &rec, &c->binding, sizeof c->binding, NULL, 0);
    snap_small(e, RECORD_OPTIONS, n, u->conn_option[n] ? u->conn_option[n] - 1u : c->options);
    if (u->conn_gate[n] ? u->conn_gate[n] - 1 : c->gate)
        snap_small(e, RECORD_GATE, n, 1);
    for (uint32_t slot = e->sub_high; slot-- > 0;) { /* newest first, as there */
        const struct edge_sub *s = &e->sub[slot];
        if (!s->used || s->conn != n || u->sub_out[slot])
            continue;
        struct record_sub fixed = {slot, RECORD_NO_SLOT, s->delivered, u->sub_undone[slot] ? u->sub_max[slot] : s->max};
        struct record sub = {.len = (uint32_t)record_len(sizeof fixed, 0, s->subject_len, s->queue_len, 0),
                             .type = RECORD_SUB,
                             .conn = n,
                             .subject_len = s->subject_len,
                             .reply_len = s->queue_len};
        snap(e, &sub, &fixed, sizeof fixed, s->text, (size_t)s->subject_len + s->queue_len);
    }
}

void edge_replay(struct edge *e, uint32_t epoch) {
    edge_read(e);
    for (uint32_t n = 0; n < e->conn_high; n++)
        if (e->conn[n].used && e->conn[n].closed && e->conn[n].last_pos <= e->ingress.consumed_pos)
            conn_freed(e, n);
    struct undo u;
    undo_make(&u, e);
    free(e->snapshot);
    e->snapshot = NULL;
    e->snapshot_len = e->snapshot_at = 0;
    snap_small(e, RECORD_REPLAY_BEGIN, 0, epoch);
    for (uint32_t n = 0; n < e->conn_high; n++)
        if (e->conn[n].used && !u.conn_out[n] && e->conn[n].last_pos != 0)
            snap_conn(e, n, &u);
    snap_small(e, RECORD_REPLAY_END, 0, epoch);
    undo_free(&u);
    e->replayed_epoch = epoch;
    edge_replay_more(e);
}

bool edge_replay_more(struct edge *e) {
    bool any = false;
    if (!e->snapshot)
        return false;
    while (e->snapshot_at < e->snapshot_len) {
        struct record rec;
        memcpy(&rec, e->snapshot + e->snapshot_at, sizeof rec);
        if (!ring_has_room(&e->replay, ring_round(rec.len), 0))
            break;
        memcpy(ring_head(&e->replay), e->snapshot + e->snapshot_at, rec.len);
        ring_advance(&e->replay, rec.len);
        e->snapshot_at += ring_round(rec.len);
        any = true;
    }
    check(!e->replay.broken);
    ring_publish(&e->replay);
    if (e->snapshot_at == e->snapshot_len) {
        free(e->snapshot);
        e->snapshot = NULL;
    }
    return any;
}
