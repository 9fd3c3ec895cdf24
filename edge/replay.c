/* SPDX-License-Identifier: Apache-2.0 */
/* The snapshot of an edge's state; see replay.h. */
#include "edge/replay.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum { PIECE = 64 * 1024, SNAPSHOT_FIRST = 64 * 1024 };

static _Noreturn void no_memory(void) {
    log_die("No memory for a replay: this process starts anew");
}

/* ---- records ---- */

/* Room for the record behind its header, which is copied. */
static uint8_t *put(struct edge_replay *r, const struct record *rec) {
    if (r->len / PIECE != (r->len + rec->len) / PIECE) {
        edge_replay_write(r);
        counter_add(r->counters, COUNTER_HEARTBEAT, 1);
    }
    uint64_t need = r->len + ring_round(rec->len);
    if (need > r->cap) {
        uint64_t cap = r->cap ? r->cap : SNAPSHOT_FIRST;
        while (cap < need)
            cap *= 2;
        uint8_t *grown = realloc(r->snapshot, cap);
        if (!grown)
            no_memory();
        r->snapshot = grown;
        r->cap = cap;
    }
    uint8_t *at = r->snapshot + r->len;
    memcpy(at, rec, sizeof *rec);
    r->len = need;
    return at + RECORD_HEADER;
}

static void put_small(struct edge_replay *r, enum record_type type, uint32_t conn, uint32_t aux) {
    struct record rec = {.len = RECORD_HEADER, .type = (uint8_t)type, .conn = conn, .aux = aux};
    put(r, &rec);
}

void edge_replay_free(struct edge_replay *r) {
    free(r->snapshot);
    r->snapshot = NULL;
    r->len = r->at = r->cap = 0;
}

/* ---- the replay ---- */

void edge_replay_begin(struct edge_replay *r, struct edge_link *l, struct counters *counters, uint32_t epoch) {
    edge_replay_free(r);
    r->epoch = epoch;
    r->link = l;
    r->counters = counters;
    put_small(r, RECORD_REPLAY_BEGIN, 0, epoch);
    edge_replay_write(r);
}

void edge_replay_undo(struct edge_replay *r, const struct edge_journal *j, uint32_t conn_count, uint32_t slot_count) {
    if (edge_undo_make(&r->undo, j, conn_count, slot_count) != ERR_OK)
        no_memory();
}

bool edge_replay_conn(struct edge_replay *r, const struct binding *b, uint32_t number, uint8_t options, bool gated) {
    const struct edge_undo *u = &r->undo;
    if (u->conn_out[number])
        return false;
    struct record rec = {
        .len = (uint32_t)record_len(0, 0, 0, 0, sizeof *b),
        .type = RECORD_BIND,
        .conn = number,
        .payload_len = sizeof *b,
    };
    memcpy(put(r, &rec), b, sizeof *b);
    put_small(r, RECORD_OPTIONS, number, u->conn_option[number] ? u->conn_option[number] - 1u : options);
    if (u->conn_gate[number] ? u->conn_gate[number] - 1 : gated)
        put_small(r, RECORD_GATE, number, RECORD_GATE_FULL);
    return true;
}

void edge_replay_sub(struct edge_replay *r, uint32_t number, const struct edge_replay_sub *s) {
    const struct edge_undo *u = &r->undo;
    if (u->slot_out[s->slot])
        return;
    uint32_t max = u->slot_undone[s->slot] ? u->slot_max[s->slot] : s->max;
    struct record_sub fixed = {s->slot, RECORD_NO_SLOT, s->delivered, max};
    struct record rec = {
        .len = (uint32_t)record_len(sizeof fixed, 0, s->subject.len, s->queue.len, 0),
        .type = RECORD_SUB,
        .conn = number,
        .subject_len = (uint16_t)s->subject.len,
        .reply_len = (uint16_t)s->queue.len,
    };
    uint8_t *at = put(r, &rec);
    memcpy(at, &fixed, sizeof fixed);
    memcpy(at + sizeof fixed, s->subject.at, s->subject.len);
    if (s->queue.len > 0)
        memcpy(at + sizeof fixed + s->subject.len, s->queue.at, s->queue.len);
}

void edge_replay_end(struct edge_replay *r) {
    put_small(r, RECORD_REPLAY_END, 0, r->epoch);
    edge_undo_free(&r->undo);
    edge_replay_write(r);
}

bool edge_replay_write(struct edge_replay *r) {
    struct ring_writer *ring = &r->link->replay;
    uint64_t before = r->at;
    while (r->at < r->len) {
        struct record rec;
        memcpy(&rec, r->snapshot + r->at, sizeof rec);
        if (!ring_has_room(ring, ring_round(rec.len), 0))
            break;
        memcpy(ring_head(ring), r->snapshot + r->at, rec.len);
        ring_advance(ring, rec.len);
        r->at += ring_round(rec.len);
    }
    bool any = r->at != before;
    if (ring->broken)
        edge_link_unsound("a position of the replay ring that cannot be");
    ring_publish(ring);
    ring_fence();
    if (ring_writer_must_ring(ring))
        edge_link_ring(r->link);
    if (r->at == r->len)
        edge_replay_free(r);
    return any;
}
