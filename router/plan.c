/* SPDX-License-Identifier: Apache-2.0 */
/* The plan of one message: the targets of its legs, what that is for each link, and whether there is room.
 *
 *   plan_match -> plan_targets -> plan_weigh -> plan_fits -> plan_write
 *                                     |             |
 *                       too much: fanout.c     no room: thrown away, the record stays
 *
 * Nothing is written before plan_write, and nothing can fail in it. A match is bounded (sublist.h): where it is cut,
 * those who were found get the message, the cut is counted, and nobody is told that there is nobody.
 */
#include <stdlib.h>

#include "base/log.h"
#include "router/cost.h"
#include "router/message.h"

/* One step of plan_serve: a function of its own for the reader and for tests, in one piece with it for the processor.
 */
#define PART __attribute__((always_inline)) inline

/* ---- match ---- */

enum { CUT_LOG_NS = 1000000000 };

static void note_cut(struct router *r, const struct leg *leg) {
    counter_add(r->counters, COUNTER_MATCHES_CUT, 1);
    if (r->now - r->cut_logged < CUT_LOG_NS)
        return;
    r->cut_logged = r->now;
    log_warn("account %u: a subject of %zu bytes meets too many patterns or queue groups: not all who want it get the "
             "message",
             leg->account->number, leg->subject.len);
}

__attribute__((noinline)) bool plan_match_cut(struct router *r, struct leg *leg, enum err e) {
    const struct link *source = leg->plan->source;
    if (e == ERR_RANGE && !source->choice.active && source->fanout.phase == FANOUT_NONE)
        note_cut(r, leg);
    leg->plan->cut |= e == ERR_RANGE;
    return e == ERR_RANGE;
}

/* ---- targets ---- */

__attribute__((noinline)) bool target_may(struct router *r, struct leg *leg, const struct sub *s) {
    if (likely((r->wary & WARY_OF_TARGETS) == WARY_FILTERS && !(s->flags & SUB_FILTERED)))
        return true;
    const struct link *l = &r->link[s->link];
    struct conn *c = &l->conn_chunk[s->conn / CHUNK][s->conn % CHUNK];
    if (l->state != LINK_LIVE || c->state != CONN_BOUND)
        return false;
    if (likely(!(s->flags & SUB_FILTERED) && !c->rechecking))
        return true;
    enum right right = rights_deliver(r, s, c, leg->subject, &leg->no);
    leg->plan->later |= right == RIGHT_LATER;
    return right == RIGHT_YES;
}

bool targets_reserve(struct router *r, uint32_t count) {
    if (likely(count <= r->targets_cap))
        return true;
    struct sub **grown = realloc(r->targets, 2 * (size_t)count * sizeof(struct sub *));
    if (!grown)
        return false;
    r->targets = grown;
    r->targets_cap = 2 * count;
    return true;
}

/* Adds all plain targets of the leg; room was made sure of. */
static inline void collect_plain(struct router *r, struct leg *leg) {
    const struct match *found = leg->found;
    uint32_t before = leg->first + leg->count, n = before;
    for (uint32_t i = 0; i < found->plain_count; i++) {
        struct sub_run run = found->plain[i];
        for (uint32_t k = 0; k < run.count; k++)
            if (target_takes(r, leg, run.subs[k]))
                r->targets[n++] = run.subs[k];
    }
    leg->count += n - before;
    r->work += (uint64_t)COST_TARGET * (found->plain_total - (n - before));
}

PART struct outcome plan_targets(struct router *r, struct plan *p, bool plain) {
    uint32_t before = 0;
    for (uint32_t i = 0; i < plan_legs(p); i++) {
        struct leg *leg = &p->leg[i];
        leg->first = before;
        leg->count = 0;
        if (leg->found->queue_count != 0) {
            struct outcome o = choose_members(r, leg);
            if (o.step != STEP_DONE)
                return o;
        }
        /* Twice: they are grouped by link into what lies behind them. */
        before += leg->count + (plain ? leg->found->plain_total : 0);
        if (unlikely(!targets_reserve(r, 2 * before)))
            return outcome_of(STEP_NOMEM);
        if (plain)
            collect_plain(r, leg);
        before = leg->first + leg->count;
    }
    return outcome_of(unlikely(p->later) ? STEP_MORE : STEP_DONE);
}

/* ---- room ---- */

PART void plan_weigh(const struct router *r, const struct plan *p, struct weight *w) {
    w->ending = 0;
    memset(w->link, 0, r->link_high * sizeof *w->link);
    if (p->rec->flags & RECORD_ANSWER)
        w->link[p->source->number].bytes = SMALL;
    for (uint32_t n = 0; n < plan_legs(p); n++) {
        const struct leg *leg = &p->leg[n];
        for (uint32_t i = leg->first; i < leg->first + leg->count; i++) {
            const struct sub *s = r->targets[i];
            w->link[s->link].leg[n].count++;
            w->link[s->link].leg[n].ending += sub_ends_now(s);
        }
        for (struct share *share = w->link; share < w->link + r->link_high; share++) {
            uint32_t count = share->leg[n].count, ending = share->leg[n].ending;
            share->bytes += count == 0 ? 0 : deliver_bytes(leg, count) + (uint64_t)ending * SMALL;
            w->ending += ending;
        }
    }
}

PART struct outcome plan_fits(struct router *r, const struct weight *w, bool whole) {
    if (unlikely(whole && w->ending > FANOUT_WARY))
        return outcome_of(STEP_LARGE);
    for (uint32_t i = 0; i < r->link_high; i++) {
        uint64_t bytes = w->link[i].bytes;
        struct link *l = &r->link[i];
        if (bytes == 0)
            continue;
        if (unlikely(whole && bytes > l->egress.cap / 2))
            return outcome_of(STEP_LARGE);
        if (unlikely(!egress_has_room(r, l, bytes, false)))
            return outcome_wait(l);
    }
    return outcome_of(STEP_DONE);
}

/* ---- write ---- */

PART void plan_write(struct router *r, const struct plan *p, const struct weight *w) {
    if (p->rec->flags & RECORD_ANSWER)
        egress_small(r, p->source, RECORD_OK, p->rec->conn, 0);
    for (uint32_t n = 0; n < plan_legs(p); n++) {
        /* By link: a counting sort into what lies behind the targets of all legs. */
        const struct leg *leg = &p->leg[n];
        struct sub **grouped = r->targets + plan_count(p);
        uint32_t start[LINKS_MAX], at = 0;
        for (uint32_t i = 0; i < r->link_high; i++) {
            start[i] = at;
            at += w->link[i].leg[n].count;
        }
        for (uint32_t i = leg->first; i < leg->first + leg->count; i++)
            grouped[start[r->targets[i]->link]++] = r->targets[i];
        for (uint32_t i = 0; i < r->link_high; i++) {
            uint32_t count = w->link[i].leg[n].count;
            if (count != 0)
                deliver_to(r, leg, &r->link[i], grouped, count);
            grouped += count;
        }
    }
}

struct outcome plan_serve(struct router *r, struct plan *p, bool plain) {
    struct outcome o = plan_targets(r, p, plain);
    if (unlikely(o.step != STEP_DONE) || (plain && plan_count(p) == 0))
        return o;
    struct weight w;
    plan_weigh(r, p, &w);
    o = plan_fits(r, &w, plain);
    if (likely(o.step == STEP_DONE))
        plan_write(r, p, &w);
    return o;
}
