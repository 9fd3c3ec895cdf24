/* SPDX-License-Identifier: Apache-2.0 */
/* Messages for more targets than one step serves, because they are many or because their bytes would never find room at
 * once.
 *
 *   PINNING   the pointers of all targets are copied in one go; then, some in each turn, those that are still what they
 * were become (link, slot, stamp), and three passes of a radix sort bring these into the order of (link, slot) SERVING
 * in that order each step serves as many as there is room for; the commit page holds how far it came, so that a new
 *             router goes on at that place
 *
 * A subscription's struct never moves and its memory is never given back, so a pointer stays good; a stamp above the
 * one at the time of the copy, or none, tells that the subscription has ended since. While targets are pinned nothing
 * has been delivered and a router that dies leaves nothing behind.
 */
#include <stdlib.h>

#include "base/check.h"
#include "router/cost.h"
#include "router/message.h"

/* The digits of (link, slot), the lowest first: 10 bits of the slot, 10 more, its last 4 with the link. */
enum { PASSES = 3, DIGIT_BITS = 10, DIGITS = 1 << DIGIT_BITS, LINK_SHIFT = 24 };
_Static_assert(SLOTS_MAX <= 1 << LINK_SHIFT && (uint64_t)LINKS_MAX << LINK_SHIFT <= (uint64_t)1
                                                                                        << (PASSES * DIGIT_BITS),
               "a key of three digits");
/* Memory for more targets than that is given back when they have been served. */
enum { KEPT_TARGETS = 4 * FANOUT_AT_ONCE };

struct fanout_pins {
    struct sub **sub;            /* as they were copied */
    struct fanout_target *other; /* the radix sort's second array */
    uint32_t total;
    uint32_t stamp;                 /* the highest at the time of the copy */
    uint32_t pass;                  /* 0: pointers become targets; else of the sort */
    uint32_t start[PASSES][DIGITS]; /* in pass 0 how many have that digit, then where the next one goes */
};

static uint32_t digit_of(const struct fanout_target *t, uint32_t pass) {
    return ((t->link << LINK_SHIFT | t->slot) >> pass * DIGIT_BITS) & (DIGITS - 1);
}

static bool is_behind(const struct fanout_target *t, uint32_t link, uint32_t slot) {
    return t->link != link ? t->link > link : t->slot > slot;
}

/* ---- memory ---- */

static void pins_free(struct fanout *f) {
    if (!f->pins)
        return;
    free(f->pins->sub);
    free(f->pins->other);
    free(f->pins);
    f->pins = NULL;
}

void fanout_free(struct fanout *f) {
    pins_free(f);
    free(f->target);
    free(f->names);
    *f = (struct fanout){0};
}

void fanout_drop(struct fanout *f) {
    f->phase = FANOUT_NONE;
    if (f->cap > KEPT_TARGETS)
        fanout_free(f);
}

static bool reserve(struct fanout *f, uint32_t count) {
    if (!f->pins && !(f->pins = calloc(1, sizeof *f->pins)))
        return false;
    if (count <= f->cap)
        return true;
    struct fanout_pins *p = f->pins;
    free(f->target);
    free(p->sub);
    free(p->other);
    f->target = malloc(count * sizeof *f->target);
    p->sub = malloc(count * sizeof(struct sub *));
    p->other = malloc(count * sizeof *p->other);
    f->cap = f->target && p->sub && p->other ? count : 0;
    return f->cap != 0;
}

static bool keep_names(struct fanout *f, const struct leg *leg) {
    uint32_t len = (uint32_t)(leg->subject.len + leg->reply.len);
    if (f->names_cap < len) {
        uint8_t *grown = realloc(f->names, len);
        if (!grown)
            return false;
        f->names = grown;
        f->names_cap = len;
    }
    memcpy(f->names, leg->subject.at, leg->subject.len);
    if (leg->reply.len != 0)
        memcpy(f->names + leg->subject.len, leg->reply.at, leg->reply.len);
    return true;
}

/* ---- pinning ---- */

enum err fanout_begin(struct router *r, const struct plan *p) {
    struct fanout *f = &p->source->fanout;
    const struct match *found = p->leg->found;
    check(p->leg_count == 1);
    if (!reserve(f, found->plain_total ? found->plain_total : 1) || !keep_names(f, p->leg))
        return ERR_NOMEM;
    struct fanout_pins *pins = f->pins;
    memset(pins->start, 0, sizeof pins->start);
    pins->total = pins->pass = 0;
    pins->stamp = r->stamp;
    for (uint32_t i = 0; i < found->plain_count; i++) {
        struct sub_run run = found->plain[i];
        memcpy(pins->sub + pins->total, run.subs, run.count * sizeof(struct sub *));
        pins->total += run.count;
    }
    r->work += pins->total;
    f->rec = *p->rec;
    f->parts = *p->parts;
    f->phase = FANOUT_PINNING;
    f->served = false;
    f->at = f->count = 0;
    return ERR_OK;
}

static void take_targets(struct router *r, struct fanout *f, uint32_t most) {
    struct fanout_pins *p = f->pins;
    uint32_t end = p->total - f->at < most ? p->total : f->at + most;
    for (; f->at < end; f->at++) {
        const struct sub *s = p->sub[f->at];
        if (s->stamp == 0 || (int32_t)(p->stamp - s->stamp) < 0)
            continue;
        struct fanout_target *t = &f->target[f->count++];
        *t = (struct fanout_target){s->link, s->slot, s->stamp};
        for (uint32_t pass = 0; pass < PASSES; pass++)
            p->start[pass][digit_of(t, pass)]++;
    }
    if (f->at < p->total)
        return;
    for (uint32_t pass = 0; pass < PASSES; pass++)
        for (uint32_t i = 0, at = 0; i < DIGITS; i++) {
            uint32_t n = p->start[pass][i];
            p->start[pass][i] = at;
            at += n;
        }
    p->pass = 1;
    f->at = 0;
    r->work += (uint64_t)PASSES * DIGITS;
}

static void sort_targets(struct fanout *f, uint32_t most) {
    struct fanout_pins *p = f->pins;
    uint32_t end = f->count - f->at < most ? f->count : f->at + most, *start = p->start[p->pass - 1];
    for (; f->at < end; f->at++) {
        const struct fanout_target *t = &f->target[f->at];
        p->other[start[digit_of(t, p->pass - 1)]++] = *t;
    }
    if (f->at < f->count)
        return;
    struct fanout_target *sorted = p->other;
    p->other = f->target;
    f->target = sorted;
    p->pass++;
    f->at = 0;
}

struct outcome fanout_pin(struct router *r, const struct plan *p) {
    struct fanout *f = &p->source->fanout;
    uint64_t until = r->work + FANOUT_UNITS;
    while (f->pins->pass <= PASSES) {
        if (r->work >= until)
            return outcome_of(STEP_MORE);
        uint32_t price = f->pins->pass == 0 ? COST_TARGET : COST_PIN, before = f->at;
        uint64_t most = (until - r->work) / price + 1;
        uint32_t left = (f->pins->pass == 0 ? f->pins->total : f->count) - before;
        r->work += (uint64_t)price * (left < most ? left : most);
        if (f->pins->pass == 0)
            take_targets(r, f, (uint32_t)most);
        else
            sort_targets(f, (uint32_t)most);
    }
    return outcome_of(STEP_DONE);
}

void fanout_open(struct link *source, bool served) {
    struct fanout *f = &source->fanout;
    f->phase = FANOUT_SERVING;
    f->served = served;
    const struct commit_link *kept = &source->resume;
    if (kept->cursor == CURSOR_SERVED)
        while (f->at < f->count && !is_behind(&f->target[f->at], kept->cursor_link, kept->cursor_slot))
            f->at++;
    source->dirty = true;
}

/* ---- serving ---- */

enum commit_cursor fanout_cursor(const struct fanout *f, const struct fanout_target **last) {
    *last = f->at > 0 ? &f->target[f->at - 1] : NULL;
    return f->phase != FANOUT_SERVING ? CURSOR_NONE : f->at == 0 ? CURSOR_BEGUN : CURSOR_SERVED;
}

/* The subscription that was pinned, if it is still the same and still there. */
static struct sub *pinned_sub(const struct router *r, const struct fanout_target *t) {
    const struct link *l = &r->link[t->link];
    uint32_t index = l->state == LINK_LIVE ? link_slot(l, t->slot) : 0;
    struct sub *s = index ? router_sub(r, index) : NULL;
    bool same = s && s->stamp == t->stamp;
    return same && l->conn_chunk[s->conn / CHUNK][s->conn % CHUNK].state == CONN_BOUND ? s : NULL;
}

/* Serves one link's next targets within the budget; false if it has no room for even a few, or is to go on in the next
 * turn (p->later). */
static bool serve_link(struct router *r, struct plan *p, struct link *l, uint64_t until) {
    struct fanout *f = &p->source->fanout;
    struct leg *leg = p->leg;
    uint32_t n = 0, at = f->at;
    uint64_t price = 0;
    while (at < f->count && f->target[at].link == l->number && r->work + price < until && at - f->at < FANOUT_AT_ONCE) {
        struct sub *s = pinned_sub(r, &f->target[at++]);
        price += COST_TARGET;
        if (!s || !target_takes(r, leg, s))
            continue;
        price += sub_ends_now(s) ? COST_SUB : 0;
        r->targets[n++] = s;
    }
    if (unlikely(p->later))
        return false;
    /* Halve until it fits: a target may bring a SLOT_FREE with it. Half a ring is enough for one message, also in the
     * overflow: it moves into the ring in one piece. */
    uint32_t fit = n;
    while (fit > 64 && deliver_bytes(leg, fit) > l->egress.cap / 2)
        fit /= 2;
    while (fit > 0 && !egress_has_room(r, l, deliver_bytes(leg, fit) + (uint64_t)fit * SMALL, false))
        fit = fit > 64 ? fit / 2 : 0;
    if (n > 0 && fit == 0)
        return false;
    if (fit < n) { /* stop behind the last one that fits */
        while (at > f->at && (f->target[at - 1].slot > r->targets[fit - 1]->slot))
            at--;
    }
    r->work += (uint64_t)COST_TARGET * (at - f->at - fit);
    if (fit > 0) {
        deliver_to(r, leg, l, r->targets, fit);
        f->served = true;
    }
    f->at = at;
    return true;
}

struct outcome fanout_serve(struct router *r, struct plan *p) {
    struct fanout *f = &p->source->fanout;
    if (!targets_reserve(r, FANOUT_AT_ONCE))
        return outcome_of(STEP_NOMEM);
    uint32_t begun = f->at;
    uint64_t until = r->work + FANOUT_UNITS;
    p->source->dirty = true;
    while (f->at < f->count && r->work < until) {
        struct link *l = &r->link[f->target[f->at].link];
        if (!serve_link(r, p, l, until))
            return f->at > begun || p->later ? outcome_of(STEP_MORE) : outcome_wait(l);
    }
    return outcome_of(f->at < f->count ? STEP_MORE : STEP_DONE);
}
