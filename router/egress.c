/* SPDX-License-Identifier: Apache-2.0 */
/* All that the router writes to an edge.
 *
 * Messages leave CONTROL_RESERVE bytes of a ring free, so that answers find room when messages do not. A record without room
 * makes its source wait; if it waits too long, the destination spills: from then on every record for it, answers too, goes
 * to the overflow, and the overflow goes out before anything newer. So the order of a link never changes. An edge that moves
 * nothing for edge_dead_ms is ended; so is one with a full overflow that takes little, or that has held sources for too long.
 *
 * Marks (KICK, STALL, RESUME, CONN_FREE) are bits of a connection and a queue of connection numbers; they become records
 * when there is room.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "router/router.h"

static uint64_t spill_room(const struct spill *s) {
    return s->cap - (s->head_pos - s->tail_pos);
}

bool egress_has_room(struct router *r, struct link *l, uint64_t len, bool control) {
    if (likely(!l->spilling)) {
        if (likely(ring_has_room(&l->egress, ring_round(len), control ? 0 : CONTROL_RESERVE)))
            return true;
        if (l->egress.broken)
            link_fail(r, l, "it moved a position of its ring to where it cannot be");
        return false;
    }
    if (spill_room(&l->spill) >= ring_round(len) + (control ? 0 : CONTROL_RESERVE))
        return true;
    if (!l->lively)
        link_fail(r, l, "its overflow is full and it takes too little");
    return false;
}

uint8_t *egress_claim(struct link *l) {
    if (likely(!l->spilling))
        return ring_head(&l->egress);
    return l->spill.area + l->spill.head_pos % l->spill.cap;
}

void egress_advance(struct router *r, struct link *l, uint64_t len) {
    l->dirty = true;
    if (likely(!l->spilling)) {
        ring_advance(&l->egress, len);
        return;
    }
    l->spill.head_pos += ring_round(len);
    counter_add(r->counters, COUNTER_SPILLED, 1);
}

void egress_small(struct router *r, struct link *l, enum record_type type, uint32_t conn, uint32_t aux) {
    struct record rec = {.len = SMALL, .type = (uint8_t)type, .conn = conn, .aux = aux};
    memcpy(egress_claim(l), &rec, sizeof rec);
    egress_advance(r, l, SMALL);
}

/* ---- marks ---- */

static bool marked_push(struct link *l, uint32_t number) {
    if (l->marked_count == l->marked_cap) {
        uint32_t cap = l->marked_cap ? 2 * l->marked_cap : 64;
        uint32_t *grown = malloc(cap * sizeof *grown);
        if (!grown)
            return false;
        for (uint32_t i = 0; i < l->marked_count; i++)
            grown[i] = l->marked[(l->marked_at + i) % l->marked_cap];
        free(l->marked);
        l->marked = grown;
        l->marked_at = 0;
        l->marked_cap = cap;
    }
    l->marked[(l->marked_at + l->marked_count++) % l->marked_cap] = number;
    return true;
}

void egress_mark(struct router *r, struct link *l, uint32_t number, enum conn_mark mark) {
    struct conn *c = link_conn(l, number);
    if (l->state == LINK_ENDING || !c)
        return;
    if (mark == MARK_RESUME && (c->marks & MARK_STALL)) {
        c->marks &= (uint8_t)~MARK_STALL; /* the later one wins */
        return;
    }
    if (mark == MARK_STALL)
        c->marks &= (uint8_t)~MARK_RESUME;
    c->marks |= (uint8_t)mark;
    if (c->marks & MARK_QUEUED)
        return;
    if (!marked_push(l, number)) {
        link_fail(r, l, "no memory for its control marks");
        return;
    }
    c->marks |= MARK_QUEUED;
}

bool egress_marks_write(struct router *r, struct link *l) {
    bool wrote = false;
    if (unlikely(l->epoch_due) && egress_has_room(r, l, SMALL, true)) {
        egress_small(r, l, RECORD_EPOCH, 0, r->epoch);
        l->epoch_due = false;
        wrote = true;
    }
    while (l->marked_count > 0 && egress_has_room(r, l, 4 * SMALL, true)) {
        uint32_t number = l->marked[l->marked_at];
        l->marked_at = (l->marked_at + 1) % l->marked_cap;
        l->marked_count--;
        struct conn *c = link_conn(l, number);
        uint8_t marks = c->marks;
        c->marks = 0;
        if (marks & MARK_STALL)
            egress_small(r, l, RECORD_STALL, number, stall_ms(r, c));
        if (marks & MARK_RESUME)
            egress_small(r, l, RECORD_RESUME, number, 0);
        if (marks & MARK_KICK)
            egress_small(r, l, RECORD_KICK, number, c->kick);
        if (marks & MARK_FREE) {
            egress_small(r, l, RECORD_CONN_FREE, number, 0);
            c->state = CONN_FREE;
        }
        wrote = true;
    }
    return wrote;
}

/* ---- overflow ---- */

bool egress_spill_deep(const struct link *l) {
    return l->spill.head_pos - l->spill.tail_pos > l->spill.cap / 8;
}

/* Bytes of the oldest record in the overflow and of the DELIVER_MOREs that belong to it: an edge finds all of them or none. */
static uint64_t spill_group_len(const struct spill *s) {
    uint64_t len = 0;
    struct record rec;
    do {
        memcpy(&rec, s->area + (s->tail_pos + len) % s->cap, sizeof rec);
        len += ring_round(rec.len);
    } while (rec.flags & RECORD_MORE && (rec.type == RECORD_DELIVER || rec.type == RECORD_DELIVER_MORE));
    return len;
}

bool egress_spill_write(struct router *r, struct link *l) {
    struct spill *s = &l->spill;
    bool moved = false;
    while (s->head_pos != s->tail_pos) {
        uint64_t len = spill_group_len(s);
        if (!ring_has_room(&l->egress, len, 0))
            break;
        memcpy(ring_head(&l->egress), s->area + s->tail_pos % s->cap, len);
        ring_advance(&l->egress, len);
        s->tail_pos += len;
        moved = true;
    }
    if (l->egress.broken) {
        link_fail(r, l, "it moved a position of its ring to where it cannot be");
        return false;
    }
    l->dirty |= moved;
    if (s->head_pos == s->tail_pos) {
        l->spilling = false;
        l->full_since = 0;
        r->spilling_count--;
        stall_resume(r, &l->stalled);
        log_debug("link %u: its overflow has drained", l->number);
    }
    return moved;
}

/* ---- waiting ---- */

enum {
    SECOND_NS = 1000000000,
    LIVELY_NS = 200000000,
    HELD_LOOK_NS = 20000000, /* most that counts between two looks: a longer gap means that this process did not run */
    HELD_SHARES = 5,         /* longest hold of frontends, as a multiple of source_share_ms */
};

static bool patience_is_over(const struct router *r, const struct link *source, const struct link *l) {
    uint64_t waited = r->now - source->wait_since;
    return waited > (uint64_t)r->settings.source_wait_ms * 1000000u ||
           l->waited_ns + waited > (uint64_t)r->settings.source_share_ms * 1000000u;
}

static void wait_begin(struct router *r, struct link *source, struct link *l) {
    source->waiting = true;
    source->wait_link = l->number;
    source->wait_since = r->now;
    r->waiting_count++;
    if (l->waiters++ == 0)
        l->held_at = r->now;
    l->deaf_waiters += source->kind != LINK_FRONTEND;
}

bool egress_wait(struct router *r, struct link *source, struct link *l) {
    if (l->state != LINK_LIVE)
        return true; /* it has just been ended, because it had no room: plan again without it */
    if (!source->waiting || source->wait_link != l->number) {
        egress_wait_end(r, source);
        wait_begin(r, source, l);
    }
    if (l->full_since == 0) {
        l->full_since = r->now;
        l->full_consumed = l->egress.consumed_pos;
    }
    if (r->now - l->waited_window > SECOND_NS) {
        l->waited_window = r->now;
        l->waited_ns = 0;
    }
    if (l->spilling || !patience_is_over(r, source, l))
        return false;
    log_debug("link %u: its ring has been full for too long, records for it go to the overflow", l->number);
    l->spilling = true;
    l->lively = true; /* until it shows otherwise */
    l->lively_since = r->now;
    l->lively_pos = l->egress.consumed_pos;
    r->spilling_count++;
    return true;
}

void egress_wait_end(struct router *r, struct link *source) {
    if (!source->waiting)
        return;
    struct link *l = &r->link[source->wait_link];
    l->waited_ns += r->now - source->wait_since;
    source->waiting = false;
    r->waiting_count--;
    l->waiters--;
    l->deaf_waiters -= source->kind != LINK_FRONTEND;
}

/* An edge that takes at least half of its ring in each window is busy, not dead: then its sources wait for it even with a full
 * overflow, within bounds. One that trickles is not worth that. */
static void watch_pace(struct router *r, struct link *l) {
    if (r->now - l->lively_since < LIVELY_NS)
        return;
    l->lively = l->egress.consumed_pos - l->lively_pos >= l->egress.cap / 2;
    l->lively_since = r->now;
    l->lively_pos = l->egress.consumed_pos;
}

/* Sources stand still behind the full overflow of l, with all that is published through them. Frontends have long been told to
 * stall the publishers; an edge that cannot be told so is held for a smaller share of a second. True: the share is used up, and
 * l is ended. */
static bool watch_hold(struct router *r, struct link *l) {
    uint64_t gone = r->now - l->held_at;
    gone = gone < HELD_LOOK_NS ? gone : HELD_LOOK_NS;
    l->held_at = r->now;
    if (!l->spilling || l->waiters == 0)
        return false;
    if (r->now - l->held_window > SECOND_NS) {
        l->held_window = r->now;
        l->held_ns = l->deaf_held_ns = 0;
    }
    l->held_ns += gone;
    l->deaf_held_ns += l->deaf_waiters ? gone : 0;
    uint64_t share_ns = (uint64_t)r->settings.source_share_ms * 1000000u;
    if (l->held_ns <= HELD_SHARES * share_ns && l->deaf_held_ns <= share_ns)
        return false;
    link_fail(r, l, "its overflow is full and others have waited for it for too long");
    return true;
}

void egress_watch(struct router *r, struct link *l) {
    if (l->full_since == 0)
        return;
    if (!ring_writer_refresh(&l->egress)) {
        link_fail(r, l, "it moved a position of its ring to where it cannot be");
        return;
    }
    watch_pace(r, l);
    if (watch_hold(r, l))
        return;
    if (l->egress.consumed_pos != l->full_consumed) {
        l->full_consumed = l->egress.consumed_pos;
        l->full_since = l->spilling ? r->now : 0;
    } else if (r->now - l->full_since > (uint64_t)r->settings.edge_dead_ms * 1000000u) {
        link_fail(r, l, "it has taken nothing from its full ring for too long");
    }
}

/* ---- records lost with an edge ---- */

enum { LOST_AT_ONCE = 4096 };

bool egress_lost_step(struct router *r, struct link *l) {
    struct ring_writer *w = &l->egress;
    struct spill *s = &l->spill;
    for (uint32_t i = 0; i < LOST_AT_ONCE; i++) {
        bool in_ring = w->consumed_pos != w->head_pos;
        if (!in_ring && s->tail_pos == s->head_pos)
            return true;
        uint64_t left = in_ring ? w->head_pos - w->consumed_pos : s->head_pos - s->tail_pos;
        struct record rec;
        memcpy(&rec, in_ring ? w->area + w->consumed_pos % w->cap : s->area + s->tail_pos % s->cap, sizeof rec);
        uint64_t len = ring_round(rec.len);
        if (rec.len < RECORD_HEADER || len > left)
            len = left; /* the edge's position was on no record's border */
        else if ((rec.type == RECORD_DELIVER || rec.type == RECORD_DELIVER_MORE) && !(rec.flags & RECORD_UNCOUNTED))
            counter_add(r->counters, COUNTER_LOST, rec.target_count);
        *(in_ring ? &w->consumed_pos : &s->tail_pos) += len;
    }
    return false;
}
