/* SPDX-License-Identifier: Apache-2.0 */
/* A turn: a budget of records from each link, then one commit.
 *
 * Until the commit nothing that the turn wrote is visible to anybody. The commit page gets all positions, then the
 * commit number; only then the rings get theirs: every produced before any consumed, so that whoever sees a record
 * consumed also finds what it caused. A router that dies between is completed by the next one (replay.c).
 */
#include "base/check.h"
#include "base/log.h"
#include "router/cost.h"
#include "router/router.h"

/* Fetches what the next records will look up. Hints only: nothing that lies there is believed, nor kept. */
static void look_ahead(const struct router *r, struct link *l) {
    const uint8_t *at = ring_tail(&l->ingress);
    uint64_t ready = ring_ready(&l->ingress), pos = 0;
    for (int ahead = 0; ahead <= 2; ahead++) {
        struct record rec;
        if (ready - pos < RECORD_HEADER)
            return;
        memcpy(&rec, at + pos, sizeof rec);
        if (rec.len < RECORD_HEADER || rec.len > ready - pos || ring_round(rec.len) > ready - pos)
            return;
        struct conn *c = ahead > 0 && rec.type == RECORD_PUB ? link_conn(l, rec.conn) : NULL;
        if (c && c->state == CONN_BOUND && rec.subject_len <= rec.len - RECORD_HEADER)
            sublist_hint(r->account[c->account]->sublist,
                         view_of((const char *)at + pos + RECORD_HEADER, rec.subject_len), ahead == 1);
        pos += ring_round(rec.len);
    }
}

/* Handles the record at the tail. */
static inline __attribute__((always_inline)) struct outcome take_one(struct router *r, struct link *l) {
    struct record rec;
    struct record_parts parts;
    const uint8_t *at = ring_tail(&l->ingress);
    uint64_t pos = l->ingress.tail_pos;
    if (unlikely(l->fanout.phase != FANOUT_NONE)) {
        rec = l->fanout.rec;
        parts = l->fanout.parts;
    } else if (unlikely(record_take(&rec, &parts, at, ring_ready(&l->ingress), RECORD_TO_ROUTER) != ERR_OK)) {
        return outcome_of(STEP_BAD);
    }
    struct outcome o;
    bool poison = pos == l->poison_pos;
    if (unlikely(poison)) {
        l->poison_pos = UINT64_MAX;
        o = outcome_of(poison_skip(r, l, &rec, &parts, at));
    } else {
        o = record_handle(r, l, &rec, &parts, at);
    }
    if (unlikely(o.step == STEP_KICK)) {
        admit_kick(r, l, rec.conn, o.kick);
        o.step = STEP_DONE;
    }
    if (likely(o.step == STEP_DONE)) {
        ring_skip(&l->ingress, rec.len);
        r->turn_bytes += rec.len;
        l->resume.cursor = CURSOR_NONE;
        l->dirty = true;
        if (unlikely(l->choice.active))
            publish_drop(l);
        if (unlikely(poison))
            turn_commit(r); /* at once: a router that dies of the next record must not come back to this one */
    }
    r->work += cost_record(rec.len);
    return o;
}

static bool take_some(struct router *r, struct link *l) {
    bool worked = false;
    uint64_t begun = r->work, until = begun + TURN_UNITS;
    while (r->work < until && l->state == LINK_LIVE) {
        if (ring_ready(&l->ingress) == 0) {
            if (!ring_reader_refresh(&l->ingress)) {
                link_end(r, l, "it moved a position of its ring to where it cannot be");
                break;
            }
            if (ring_ready(&l->ingress) == 0)
                break;
        }
        /* From here on a death is this record's: of the look ahead, too, which begins at it. */
        atomic_store_explicit(&r->page->box, commit_box(l->number, l->ingress.tail_pos), memory_order_relaxed);
        if (unlikely(r->spread))
            look_ahead(r, l);
        struct outcome o = take_one(r, l);
        if (likely(o.step == STEP_DONE && !l->waiting)) {
            worked = true;
            continue;
        }
        if (o.step == STEP_BAD) {
            link_end(r, l, "it sent a record that no honest edge can send");
            break;
        }
        if (o.step == STEP_WAIT) {
            if (unlikely(r->failing))
                links_end_failed(r);
            if (l->state != LINK_LIVE || !egress_wait(r, l, o.waits_for))
                break;
            continue; /* the room has changed: plan again */
        }
        worked = true;
        egress_wait_end(r, l);
        if (o.step == STEP_MORE)
            break;
    }
    l->work += r->work - begun;
    return worked;
}

bool turn_run(struct router *r) {
    bool worked = false;
    uint64_t begun = r->work;
    uint32_t looked = 0;
    r->turn_bytes = 0;
    for (; looked < r->link_high && (looked == 0 || r->work - begun < TURN_ALL_UNITS); looked++) {
        uint32_t n = r->turn_first + looked;
        struct link *l = &r->link[n < r->link_high ? n : n - r->link_high];
        if (likely(l->state == LINK_LIVE))
            worked |= take_some(r, l);
    }
    /* The next turn begins with the link behind the first of this one, or where this one had to stop. */
    if (likely(r->link_high != 0))
        r->turn_first = (r->turn_first + (looked == r->link_high ? 1 : looked)) % r->link_high;
    turn_works_on(r, WORK_REMOVAL);
    memory_watch(r);
    if (unlikely(r->wary & WARY_DEAD))
        worked |= removal_step(r);
    if (unlikely(r->recheck_count != 0)) {
        turn_works_on(r, WORK_RECHECK);
        worked |= rights_recheck_step(r);
    }
    turn_works_on(r, WORK_EGRESS);
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (l->state != LINK_LIVE)
            continue;
        if (unlikely(l->spilling))
            worked |= egress_spill_write(r, l);
        if (l->marked_count != 0 || unlikely(l->epoch_due))
            worked |= egress_marks_write(r, l);
        if (unlikely(l->full_since != 0))
            egress_watch(r, l);
    }
    if (worked || unlikely(r->commit_due || r->failing))
        turn_commit(r);
    turn_works_on(r, WORK_NONE);
    if (unlikely(r->work - begun > r->turn_units_most)) {
        r->turn_units_most = r->work - begun;
        counter_set(r->counters, COUNTER_TURN_UNITS, r->turn_units_most);
    }
    return worked;
}

/* Its rings are open, and its edge is not to be ended. */
static bool link_works(const struct link *l) {
    return l->state == LINK_LIVE || l->state == LINK_REPLAY;
}

static void fill_entry(struct commit_link *e, const struct link *l) {
    if (unlikely(!link_works(l))) {
        *e = (struct commit_link){.incarnation = l->incarnation, .ended = l->state == LINK_ENDING};
        return;
    }
    e->ended = 0;
    e->incarnation = l->incarnation;
    e->egress_produced = l->egress.head_pos;
    e->ingress_consumed = l->ingress.tail_pos;
    e->spill_produced = l->spill.head_pos;
    e->spill_consumed = l->spill.tail_pos;
    const struct fanout_target *last;
    e->cursor = fanout_cursor(&l->fanout, &last);
    if (e->cursor == CURSOR_SERVED) {
        e->cursor_link = last->link;
        e->cursor_slot = last->slot;
    } else if (l->resume.cursor != CURSOR_NONE) { /* not yet taken up again */
        e->cursor = l->resume.cursor;
        e->cursor_link = l->resume.cursor_link;
        e->cursor_slot = l->resume.cursor_slot;
    }
}

void turn_commit(struct router *r) {
    struct commit_page *p = r->page;
    if (unlikely(r->failing))
        links_end_failed(r);
    turn_works_on(r, WORK_COMMIT);
    uint64_t no = r->commit_no + 1;
    struct commit_turn *turn = &p->turn[no & 1];
    for (uint32_t i = 0; i < r->link_high; i++)
        fill_entry(&turn->link[i], &r->link[i]);
    atomic_store_explicit(&p->commit_no, no, memory_order_release);
    r->commit_no = no;
    r->commit_due = false;
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (!link_works(l) || !l->dirty)
            continue;
        if (unlikely(l->spilling)) /* when it stops, produced_pos has come to where owed_pos was */
            ring_owe(&l->egress, l->spill.head_pos - l->spill.tail_pos);
        ring_publish(&l->egress);
    }
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (!link_works(l) || !l->dirty)
            continue;
        ring_charge(&l->ingress, l->work);
        ring_release(&l->ingress);
    }
    atomic_store_explicit(&p->done_no, no, memory_order_release);
    ring_fence();
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (!link_works(l) || !l->dirty)
            continue;
        l->dirty = false;
        bool records = ring_writer_must_ring(&l->egress), room = ring_reader_must_ring(&l->ingress);
        if (records || room)
            link_ring(l);
    }
    counter_add(r->counters, COUNTER_HEARTBEAT, 1);
    counter_set(r->counters, COUNTER_LOG_DROPPED, log_dropped());
}

static bool has_work(struct router *r) {
    if (r->changes.active || !rights_recheck_waits(r) || ((r->wary & WARY_DEAD) && removal_waits(r)))
        return true;
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (l->state != LINK_LIVE)
            continue;
        if (!l->waiting &&
            (ring_ready(&l->ingress) != 0 || !ring_reader_refresh(&l->ingress) || ring_ready(&l->ingress) != 0))
            return true;
        if (l->marked_count != 0 && egress_has_room(r, l, 4 * SMALL, true))
            return true;
        if (l->epoch_due && egress_has_room(r, l, SMALL, true))
            return true;
        if (l->fanout.phase != FANOUT_NONE && !l->waiting)
            return true;
    }
    return false;
}

bool turn_has_work(struct router *r) {
    return has_work(r) || r->failing;
}
