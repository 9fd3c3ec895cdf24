/* SPDX-License-Identifier: Apache-2.0 */
/* The state as of `consumed`, for a new router.
 *
 * The rings live on, so a new router goes on exactly where the dead one had committed. It needs the state in force there:
 * our tables as they are now, with the journal's records above `consumed` undone, newest first. Additions above it are left
 * out, removals above it are still in; the records themselves follow in the ingress ring as news.
 *
 * The snapshot is made in one go, since the tables must not change meanwhile; pieces that are ready go out to the replay ring at
 * once, as far as there is room. So the router gets something all the time: it ends an edge from which nothing comes.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "frontend/frontend.h"

/* What the journal undoes, by number or slot. Present only for those that the journal names. */
struct undo {
    uint8_t *conn_out;    /* by number: BIND lies above */
    uint8_t *conn_option; /* by number: options + 1 as of consumed; 0: as they are */
    uint8_t *conn_gate;   /* by number: gate + 1 as of consumed */
    uint8_t *sub_out;     /* by slot: SUB lies above */
    uint8_t *sub_undone;  /* by slot: max is the one in sub_max */
    uint32_t *sub_max;
};

static bool undo_make(struct undo *u, const struct frontend *f) {
    size_t conns = f->number_high + 1, subs = f->sub_high + 1;
    uint8_t *bytes = calloc(3 * conns + 2 * subs, 1);
    u->sub_max = calloc(subs, sizeof *u->sub_max);
    if (!bytes || !u->sub_max) {
        free(bytes);
        free(u->sub_max);
        return false;
    }
    u->conn_out = bytes;
    u->conn_option = bytes + conns;
    u->conn_gate = bytes + 2 * conns;
    u->sub_out = bytes + 3 * conns;
    u->sub_undone = bytes + 3 * conns + subs;
    for (uint32_t i = f->journal_count; i-- > 0;) {
        const struct journal *j = &f->journal[(f->journal_at + i) % f->journal_cap];
        switch (j->type) {
        case RECORD_BIND:
            u->conn_out[j->id] = 1;
            break;
        case RECORD_OPTIONS:
            u->conn_option[j->id] = (uint8_t)(j->old_flag + 1);
            break;
        case RECORD_GATE:
            u->conn_gate[j->id] = (uint8_t)(j->old_flag + 1);
            break;
        case RECORD_SUB:
            u->sub_out[j->id] = 1;
            break;
        case RECORD_UNSUB:
            u->sub_undone[j->id] = 1;
            u->sub_max[j->id] = j->old_max;
            break;
        default: /* CLOSE: the connection is still in */
            break;
        }
    }
    return true;
}

static void undo_free(struct undo *u) {
    free(u->conn_out);
    free(u->sub_max);
}

/* ---- the snapshot ---- */

enum { PIECE = 64 * 1024 };

static uint8_t *snapshot_put(struct frontend *f, const struct record *rec) {
    if (f->snapshot_len / PIECE != (f->snapshot_len + rec->len) / PIECE) {
        replay_write(f);
        counter_add(f->counters, COUNTER_HEARTBEAT, 1);
    }
    uint64_t need = f->snapshot_len + ring_round(rec->len);
    if (need > f->snapshot_cap) {
        uint64_t cap = f->snapshot_cap ? f->snapshot_cap : 64 * 1024;
        while (cap < need)
            cap *= 2;
        uint8_t *grown = realloc(f->snapshot, cap);
        if (!grown)
            log_die("No memory for a replay: this frontend starts anew");
        f->snapshot = grown;
        f->snapshot_cap = cap;
    }
    uint8_t *at = f->snapshot + f->snapshot_len;
    memcpy(at, rec, sizeof *rec);
    f->snapshot_len = need;
    return at + RECORD_HEADER;
}

static void put_small(struct frontend *f, enum record_type type, uint32_t conn, uint32_t aux) {
    struct record rec = {.len = RECORD_HEADER, .type = (uint8_t)type, .conn = conn, .aux = aux};
    snapshot_put(f, &rec);
}

static void put_sub(struct frontend *f, uint32_t slot, const struct fsub *s, uint32_t max) {
    struct record_sub fixed = {slot - 1, RECORD_NO_SLOT, s->delivered, max};
    struct record rec = {
        .len = (uint32_t)record_len(sizeof fixed, 0, s->subject_len, s->queue_len, 0),
        .type = RECORD_SUB,
        .conn = s->number,
        .subject_len = s->subject_len,
        .reply_len = s->queue_len,
    };
    uint8_t *at = snapshot_put(f, &rec);
    memcpy(at, &fixed, sizeof fixed);
    memcpy(at + sizeof fixed, sub_subject(f, s).at, (size_t)s->subject_len + s->queue_len);
}

static void put_client(struct frontend *f, const struct client *c, const struct undo *u) {
    struct record rec = {
        .len = (uint32_t)record_len(0, 0, 0, 0, sizeof c->binding),
        .type = RECORD_BIND,
        .conn = c->number,
        .payload_len = sizeof c->binding,
    };
    memcpy(snapshot_put(f, &rec), &c->binding, sizeof c->binding);
    uint8_t option = u->conn_option[c->number], gate = u->conn_gate[c->number];
    put_small(f, RECORD_OPTIONS, c->number, option ? option - 1u : c->options);
    if (gate ? gate - 1 : (c->flags & CLIENT_GATE_TOLD) != 0)
        put_small(f, RECORD_GATE, c->number, 1);
    for (uint32_t slot = c->first_sub; slot;) {
        const struct fsub *s = sub_at(f, slot);
        if (!u->sub_out[slot])
            put_sub(f, slot, s, u->sub_undone[slot] ? u->sub_max[slot] : s->max);
        slot = s->conn_next;
    }
}

/* True if a CLOSE of that connection has been written and consumed: nothing of it can follow. */
static bool close_consumed(const struct frontend *f, const struct client *c) {
    return (c->flags & CLIENT_CLOSE_TOLD) && c->last_pos <= f->ingress.consumed_pos;
}

void replay_begin(struct frontend *f, uint32_t epoch) {
    f->snapshot_len = f->snapshot_at = 0;
    put_small(f, RECORD_REPLAY_BEGIN, 0, epoch);
    replay_write(f);
    egress_run(f); /* drains the dead router's records, and trims the journal to its consumed_pos */
    for (uint32_t n = 0; n < f->number_high; n++)
        if (f->by_number[n] && close_consumed(f, f->by_number[n]))
            ends_freed(f, f->by_number[n]);
    struct undo undo;
    if (!undo_make(&undo, f))
        log_die("No memory for a replay: this frontend starts anew");
    for (uint32_t n = 0; n < f->number_high; n++)
        if (f->by_number[n] && !undo.conn_out[n])
            put_client(f, f->by_number[n], &undo);
    put_small(f, RECORD_REPLAY_END, 0, epoch);
    undo_free(&undo);
    replay_write(f);
}

void replay_write(struct frontend *f) {
    struct ring_writer *ring = &f->replay;
    while (f->snapshot_at < f->snapshot_len) {
        struct record rec;
        memcpy(&rec, f->snapshot + f->snapshot_at, sizeof rec);
        if (!ring_has_room(ring, ring_round(rec.len), 0))
            break;
        memcpy(ring_head(ring), f->snapshot + f->snapshot_at, rec.len);
        ring_advance(ring, rec.len);
        f->snapshot_at += ring_round(rec.len);
    }
    if (ring->broken)
        log_die("The router moved a position of its replay ring to where it cannot be; this frontend starts anew");
    ring_publish(ring);
    ring_fence();
    if (ring_writer_must_ring(ring))
        link_ring(f);
    if (f->snapshot_at == f->snapshot_len) {
        free(f->snapshot);
        f->snapshot = NULL;
        f->snapshot_len = f->snapshot_at = f->snapshot_cap = 0;
    }
}
