/* SPDX-License-Identifier: Apache-2.0 */
/* One member of each queue group.
 *
 * A choice begins at a random member and goes round the group until a member takes the message; one whose link is in
 * overflow is taken only if no other can. Nearly always the first does. Where thousands of members cannot take it,
 * because they are the publisher's own without echo, because deny rules keep it from them, or because they belong to
 * connections that are ending, the choice goes on in the next turn: it then has a state, in the source link, and takes
 * the groups in the order of their numbers, because a new match may bring them in another order.
 */
#include <stdlib.h>

#include "router/cost.h"
#include "router/message.h"

static uint64_t random_next(struct router *r) {
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return r->random;
}

enum { AHEAD = 8 }; /* who has been looked at in vain is seldom the only one */

/* The members of one group in the order in which they are looked at. */
struct look {
    uint32_t first, looked;
    struct sub *second; /* takes it, but its link is in overflow */
    struct sub *found;  /* null: nobody */
};

/* True if the group is decided; false if the budget is spent, or a member's permissions are being compiled. */
static inline bool decide(struct router *r, struct leg *leg, const struct queue_run *runs, uint32_t total,
                          uint64_t until, struct look *k) {
    uint32_t place = k->first + k->looked;
    place = place >= total ? place - total : place;
    const struct queue_run *run = runs;
    for (; place >= run->run.count; run++)
        place -= run->run.count;
    for (uint32_t left = total - k->looked; left > 0; left--) {
        struct sub *s = run->run.subs[place];
        r->work += COST_TARGET;
        if (likely(target_takes(r, leg, s))) {
            if (likely(!r->link[s->link].spilling)) {
                k->found = s;
                return true;
            }
            if (!k->second)
                k->second = s;
        }
        if (unlikely(leg->plan->later))
            return false;
        if (run->run.count - place > AHEAD)
            __builtin_prefetch(run->run.subs[place + AHEAD]);
        k->looked++;
        if (++place == run->run.count) {
            place = 0;
            run = k->first + k->looked == total ? runs : run + 1;
        }
        if (unlikely(r->work >= until) && left > 1)
            return false;
    }
    k->found = k->second;
    return true;
}

/* ---- a choice that goes on ---- */

static struct sub *still(const struct chosen *c) {
    return c->sub && c->sub->stamp == c->stamp ? c->sub : NULL;
}

static struct chosen chosen_of(struct sub *s) {
    return (struct chosen){s, s ? s->stamp : 0};
}

static bool keep(struct choice *c, struct sub *s) {
    if (c->count == c->cap) {
        uint32_t cap = c->cap ? 2 * c->cap : 16;
        struct chosen *grown = realloc(c->done, cap * sizeof *grown);
        if (!grown)
            return false;
        c->done = grown;
        c->cap = cap;
    }
    c->done[c->count++] = chosen_of(s);
    return true;
}

void choose_drop(struct choice *c) {
    free(c->done);
    *c = (struct choice){0};
}

static void begin(struct choice *c) {
    c->active = true;
    c->queue = c->looked = c->count = 0;
    c->second = (struct chosen){0};
}

/* All groups are decided: those who were chosen are there still, or all is done anew. */
static struct outcome finish(struct router *r, struct leg *leg, struct choice *c) {
    if (!targets_reserve(r, leg->first + c->count))
        return outcome_of(STEP_NOMEM);
    for (uint32_t i = 0; i < c->count; i++) {
        struct sub *s = still(&c->done[i]);
        if (!s || !target_takes(r, leg, s)) {
            begin(c);
            return outcome_of(STEP_MORE);
        }
        r->targets[leg->first + i] = s;
    }
    leg->count = c->count;
    return outcome_of(STEP_DONE);
}

static struct outcome go_on(struct router *r, struct leg *leg, uint64_t until) {
    struct choice *c = &leg->plan->source->choice;
    struct match *found = leg->found;
    if (!found->queues_sorted)
        match_sort_queues(found);
    const struct queue_run *all = found->queue;
    for (uint32_t i = 0, j, total; i < found->queue_count; i = j) {
        for (j = i, total = 0; j < found->queue_count && all[j].queue == all[i].queue; j++)
            total += all[j].run.count;
        if (all[i].queue < c->queue)
            continue;
        if (all[i].queue > c->queue || c->first >= total ||
            c->looked > total) { /* another one, or it has changed much */
            c->queue = all[i].queue;
            c->first = (uint32_t)(((random_next(r) >> 32) * total) >> 32);
            c->looked = 0;
            c->second = (struct chosen){0};
        }
        struct look k = {.first = c->first, .looked = c->looked, .second = still(&c->second)};
        bool decided = decide(r, leg, &all[i], total, until, &k);
        c->looked = k.looked;
        c->second = chosen_of(k.second);
        if (!decided)
            return outcome_of(STEP_MORE);
        if (k.found && !keep(c, k.found))
            return outcome_of(STEP_NOMEM);
        c->queue++;
        c->first = UINT32_MAX; /* no group begins there */
    }
    return finish(r, leg, c);
}

struct outcome choose_members(struct router *r, struct leg *leg) {
    const struct match *found = leg->found;
    r->work += (uint64_t)COST_QUEUE * found->queue_count;
    uint64_t until = r->work + CHOICE_UNITS;
    if (unlikely(leg->plan->source->choice.active))
        return go_on(r, leg, until);
    if (!targets_reserve(r, leg->first + found->queue_count))
        return outcome_of(STEP_NOMEM);
    uint32_t n = leg->first;
    for (uint32_t i = 0, j, total; i < found->queue_count; i = j) {
        for (j = i, total = 0; j < found->queue_count && found->queue[j].queue == found->queue[i].queue; j++)
            total += found->queue[j].run.count;
        struct look k = {.first = (uint32_t)(((random_next(r) >> 32) * total) >> 32)};
        if (unlikely(!decide(r, leg, &found->queue[i], total, until, &k))) {
            if (!leg->plan->later)
                begin(&leg->plan->source->choice);
            return outcome_of(STEP_MORE);
        }
        if (k.found)
            r->targets[n++] = k.found;
    }
    leg->count = n - leg->first;
    return outcome_of(STEP_DONE);
}
