/* SPDX-License-Identifier: Apache-2.0 */
/* A router takes over.
 *
 * The rings, the commit page, the account book and the soft state are there. Interest is missing; each
 * edge has its part of it. In order:
 *
 *   Kernel, Links   the memory is mapped
 *   Begin           an unfinished commit is completed, rings are opened, overflows are drained, NOTE_RECOVERED goes out
 *   (supervisor)    tells every edge to replay
 *   replay rings    BIND, OPTIONS, SUB, GATE as of `consumed`; nothing of the ingress rings is touched
 *   all ended       EPOCH into every egress ring, NOTE_READY, traffic
 *
 * An edge is ended when nothing comes of it for replay_ms: half of the interest would mean losses and false 503s, and a
 * silent edge must not hold up the others. One that comes on may take its time, within REPLAY_LONGEST. The clocks count
 * only while this router itself runs: a step that comes late says that the machine stood still.
 */
#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "ipc/note.h"
#include "router/router.h"

/* Steps 3 and 4 of a commit (shm/commit.h): plain stores of known values, so doing them twice does no harm. */
static void complete_commit(struct router *r) {
    struct commit_page *p = r->page;
    r->commit_no = atomic_load_explicit(&p->commit_no, memory_order_acquire);
    if (atomic_load_explicit(&p->done_no, memory_order_acquire) == r->commit_no)
        return;
    const struct commit_turn *turn = &p->turn[r->commit_no & 1];
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        const struct commit_link *e = &turn->link[i];
        if (l->state == LINK_NONE || e->incarnation != l->incarnation || e->ended)
            continue;
        struct ring_data *egress = l->egress_map.data;
        atomic_store_explicit(&egress->owed_pos, e->egress_produced + (e->spill_produced - e->spill_consumed),
                              memory_order_release);
        atomic_store_explicit(&egress->produced_pos, e->egress_produced, memory_order_release);
    }
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (l->state != LINK_NONE && turn->link[i].incarnation == l->incarnation && !turn->link[i].ended)
            atomic_store_explicit(&((struct ring_credit *)l->ingress_map.credit)->consumed_pos,
                                  turn->link[i].ingress_consumed, memory_order_release);
    }
    atomic_store_explicit(&p->done_no, r->commit_no, memory_order_release);
}

/* ---- patience ---- */

enum {
    REPLAY_LONGEST = 100,     /* longest replay, as a multiple of replay_ms */
    REPLAY_UNHEARD = 5,       /* times replay_ms: until any edge is heard it may be the supervisor that is late */
    REPLAY_AT_ONCE = 1 << 18, /* bytes of one replay in one step */
};

static uint64_t patience_ns(const struct router *r) {
    return (uint64_t)r->settings.replay_ms * 1000000u;
}

static void clocks_begin(struct router *r) {
    r->takeover_ns = r->stepped_ns = r->now;
    for (uint32_t i = 0; i < r->link_high; i++)
        r->link[i].heard_ns = r->now;
}

/* A late step: the edges stood still as well, for all that is known. On a slow machine a step counts as a quarter of
 * the patience at most; after a pause that is longer than the patience all have it anew. */
static void clocks_look(struct router *r) {
    uint64_t since = r->now - r->stepped_ns, most = patience_ns(r) / 4;
    r->stepped_ns = r->now;
    if (since <= most)
        return;
    bool anew = since > patience_ns(r);
    r->takeover_ns += since - most;
    for (uint32_t i = 0; i < r->link_high; i++)
        r->link[i].heard_ns = anew ? r->now : r->link[i].heard_ns + (since - most);
}

static bool is_silent(const struct router *r, const struct link *l, uint32_t times) {
    return r->now - l->heard_ns > times * patience_ns(r);
}

/* An edge can tell its state as of `consumed` only when everything that those records caused has reached it: slots and
 * connections whose end still lies in the overflow would come back to life. True if something moved. */
static bool overflows_drain(struct router *r) {
    bool left = false, moved = false;
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (!l->spilling)
            continue;
        if (egress_spill_write(r, l)) {
            moved = true;
            l->heard_ns = r->now;
        }
        if (l->spilling && is_silent(r, l, 1))
            link_end(r, l, "it does not take its overflow");
        left |= l->spilling && !l->failed;
    }
    if (unlikely(r->failing))
        links_end_failed(r);
    if (moved)
        turn_commit(r);
    if (left)
        return moved;
    r->recovered = true;
    clocks_begin(r);
    note_send(&r->control, NOTE_RECOVERED, r->epoch, 0);
    return true;
}

void takeover_begin(struct router *r) {
    turn_works_on(r, WORK_TAKEOVER);
    complete_commit(r);
    replies_recover(&r->replies, r->commit_no);
    counter_set(r->counters, COUNTER_CONNS, 0);
    for (uint32_t i = 0; i < LINKS_MAX; i++)
        atomic_store_explicit(&r->counters->link_conns[i], 0, memory_order_relaxed);
    counter_set(r->counters, COUNTER_SUBS, 0);
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (l->state != LINK_MAPPED && l->state != LINK_REPLAY)
            continue;
        bool replays = l->state == LINK_REPLAY;
        const char *why = NULL;
        if (link_open(r, l) != ERR_OK)
            why = "the positions of its rings cannot be";
        else if (l->resume.ended)
            why = "the router before had ended it";
        if (why) {
            link_end(r, l, why);
            continue;
        }
        admit_recover(r, l);
        l->state = replays ? LINK_REPLAY : LINK_LIVE;
    }
    poison_find(r);
    r->begun = true;
    clocks_begin(r);
    overflows_drain(r);
}

/* One record of a replay. */
static struct outcome replay_record(struct router *r, struct link *l, const struct record *rec,
                                    const struct record_parts *parts, const uint8_t *at) {
    if (rec->type == RECORD_REPLAY_BEGIN) {
        if (l->replaying)
            return outcome_of(STEP_BAD);
        l->replaying = rec->aux == r->epoch;
        return outcome_of(STEP_DONE);
    }
    if (!l->replaying)
        return outcome_of(STEP_DONE); /* left over from a replay to a router that did not live to its end */
    if (rec->type == RECORD_REPLAY_END) {
        if (rec->aux != r->epoch)
            return outcome_of(STEP_BAD);
        l->state = LINK_LIVE;
        return outcome_of(STEP_DONE);
    }
    if (rec->type == RECORD_BIND && unlikely(poison_replays(r, l, rec->conn)))
        return outcome_of(admit_poisoned(r, l, rec->conn));
    if (rec->type == RECORD_BIND)
        return outcome_of(admit_bind(r, l, rec, at + parts->payload, true));
    struct conn *c = link_conn(l, rec->conn);
    if (!c || c->state == CONN_FREE || c->state == CONN_CLOSING)
        return outcome_of(STEP_BAD);
    switch (rec->type) {
    case RECORD_OPTIONS:
        c->options = (uint8_t)(rec->aux & RECORD_OPTIONS_ALL);
        return outcome_of(STEP_DONE);
    case RECORD_SUB:
        return interest_sub(r, l, c, rec, parts, at, true);
    case RECORD_GATE:
        if (c->state == CONN_BOUND)
            stall_gate(r, l, c, rec->aux != 0);
        return outcome_of(STEP_DONE);
    default:
        return outcome_of(STEP_BAD);
    }
}

/* Takes some of a replay; true if anything was taken. */
static bool replay_read(struct router *r, struct link *l) {
    struct ring_reader *ring = &l->replay;
    uint64_t begin_pos = ring->tail_pos;
    while (l->state == LINK_REPLAY && ring->tail_pos - begin_pos < REPLAY_AT_ONCE) {
        if (ring_ready(ring) == 0 && (!ring_reader_refresh(ring) || ring_ready(ring) == 0))
            break;
        struct record rec;
        struct record_parts parts;
        const uint8_t *at = ring_tail(ring);
        struct outcome o = outcome_of(STEP_BAD);
        if (record_take(&rec, &parts, at, ring_ready(ring), RECORD_TO_ROUTER) == ERR_OK) {
            atomic_store_explicit(&r->page->box, commit_box_replay(l->number, rec.conn), memory_order_relaxed);
            o = replay_record(r, l, &rec, &parts, at);
        }
        if (o.step == STEP_BAD) {
            link_end(r, l, "its replay cannot be");
            break;
        }
        if (o.step == STEP_WAIT)
            break;
        if (unlikely(o.step == STEP_KICK))
            admit_kick(r, l, rec.conn, o.kick);
        memory_watch(r);
        ring_skip(ring, rec.len);
        if (likely(l->replaying)) { /* records of an earlier replay are no progress */
            l->heard_ns = r->now;
            r->heard = true;
        }
    }
    turn_works_on(r, WORK_TAKEOVER);
    if (l->state == LINK_ENDING)
        return true;
    if (ring->broken) {
        link_end(r, l, "it moved a position of its replay ring to where it cannot be");
        return true;
    }
    ring_release(ring);
    ring_fence();
    if (ring_reader_must_ring(ring))
        link_ring(l);
    return ring->tail_pos != begin_pos;
}

/* True if anything moved; *all: every replay has ended. */
static bool replays_read(struct router *r, bool *all) {
    bool moved = false, dirty = false;
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (l->state != LINK_REPLAY)
            continue;
        moved |= replay_read(r, l);
        if (l->state == LINK_REPLAY && is_silent(r, l, r->heard ? 1 : REPLAY_UNHEARD))
            link_end(r, l, "its replay does not come on");
        if (l->state == LINK_REPLAY && r->now - r->takeover_ns > REPLAY_LONGEST * patience_ns(r))
            link_end(r, l, "its replay does not end");
        *all &= l->state != LINK_REPLAY;
        dirty |= l->dirty;
    }
    if (dirty || unlikely(r->failing))
        turn_commit(r); /* refusals: their edge is to take them, to make room for more */
    return moved;
}

bool takeover_step(struct router *r) {
    turn_works_on(r, WORK_TAKEOVER);
    counter_add(r->counters, COUNTER_HEARTBEAT, 1);
    clocks_look(r);
    if (!r->recovered)
        return overflows_drain(r);
    bool all = true, moved = replays_read(r, &all);
    if (!all)
        return moved;
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (l->state != LINK_LIVE)
            continue;
        l->epoch_due = true;
        egress_marks_write(r, l);
    }
    turn_commit(r);
    turn_works_on(r, WORK_NONE);
    r->running = true;
    note_send(&r->control, NOTE_READY, r->epoch, 0);
    return true;
}
