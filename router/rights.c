/* SPDX-License-Identifier: Apache-2.0 */
/* The rights of connections: permission sets, and the right to answer on reply subjects.
 *
 * One set of functions for every kind of edge and every way: PUB, SUB, delivery. A set comes with the binding, or from
 * the book when a user's permissions change under way; then publishing goes by the new set at once, and so does
 * delivery, while the subscriptions are checked again step by step: a subscription that is no longer allowed is removed
 * with a DENY and its SLOT_FREE when there is room for both; the others get their flag anew. A new router checks all
 * replayed subscriptions, however far the dead router had come: so an edge cannot smuggle a subscription in, and a
 * removal that a death has interrupted is not lost.
 */
#include <stdlib.h>

#include "base/check.h"
#include "nats/subject.h"
#include "router/cost.h"
#include "router/router.h"
#include "shm/limit.h"

void router_wary(struct router *r, enum wary why, bool on) {
    r->wary = (uint8_t)(on ? r->wary | why : r->wary & ~why);
}

/* ---- the connection ---- */

static bool responds(const struct conn *c) {
    uint64_t ns;
    return c->set && permissions_responses(c->set, &ns) != 0;
}

static void count_responding(struct router *r, uint32_t more, uint32_t less) {
    r->responding_count += more - less;
    router_wary(r, WARY_RESPONSES, r->responding_count != 0);
}

enum err rights_give(struct router *r, struct link *l, uint32_t number, struct conn *c, uint32_t permissions,
                     uint32_t payload_max) {
    struct permissions *set = permissions ? account_set(r, permissions) : NULL;
    if (permissions != 0 && !set)
        return ERR_RANGE;
    uint32_t less = c->responding;
    bool changed = c->permissions != permissions;
    c->set = set;
    c->permissions = permissions;
    c->payload_max = limit_most(payload_max);
    c->limited = set || c->payload_max != UINT32_MAX;
    c->responding = responds(c);
    count_responding(r, c->responding, less);
    return changed && c->first_sub ? rights_recheck(r, l, number, c) : ERR_OK;
}

void rights_end(struct router *r, struct conn *c) {
    count_responding(r, 0, c->responding);
    c->responding = c->limited = c->rechecking = false;
    c->set = NULL;
    c->permissions = 0;
    c->recheck_at = 0;
}

/* ---- publish ---- */

static struct replies_owner owner_of(const struct router *r, const struct link *l, const struct conn *c,
                                     uint32_t number) {
    uint64_t ns;
    uint32_t most = permissions_responses(c->set, &ns);
    return replies_owner(&r->replies, l->number, l->incarnation, number, c->generation, most, ns);
}

enum right rights_publish(struct router *r, struct link *l, const struct conn *c, const struct record *rec,
                          struct view subject) {
    uint64_t ns;
    if (!c->set)
        return RIGHT_YES;
    if (!permissions_compile(c->set, &r->book))
        return RIGHT_LATER;
    if (likely(permissions_publish(c->set, subject)))
        return RIGHT_YES;
    if (permissions_responses(c->set, &ns) == 0)
        return RIGHT_NO;
    struct replies_owner owner = owner_of(r, l, c, rec->conn);
    uint32_t place = (uint32_t)(l->ingress.tail_pos >> 3) | 1;
    return replies_spend(&r->replies, &owner, subject, place, r->now, r->commit_no + 1) ? RIGHT_YES : RIGHT_NO;
}

void rights_delivered(struct router *r, struct sub *const *targets, uint32_t count, struct view reply) {
    for (uint32_t i = 0; i < count; i++) {
        struct link *l = &r->link[targets[i]->link];
        const struct conn *c = link_conn(l, targets[i]->conn);
        if (!c->responding)
            continue;
        uint64_t ns;
        struct replies_right right = {.left = permissions_responses(c->set, &ns)};
        right.until_ns = ns < UINT64_MAX - r->now ? r->now + ns : UINT64_MAX;
        struct replies_owner owner = owner_of(r, l, c, targets[i]->conn);
        replies_give(&r->replies, &owner, reply, right, r->now, r->commit_no + 1);
        r->work += COST_RULE;
    }
}

/* ---- subscribe and deliver ---- */

enum right rights_subscribe(struct router *r, struct conn *c, struct view subject, struct view queue, uint16_t *flags) {
    if (!permissions_compile(c->set, &r->book))
        return RIGHT_LATER;
    if (!permissions_subscribe(c->set, subject, queue))
        return RIGHT_NO;
    *flags = permissions_filters(c->set, subject, queue) ? SUB_FILTERED : 0;
    return RIGHT_YES;
}

void rights_sub_flags(struct router *r, struct sub *s, uint16_t flags) {
    if (likely(s->flags == flags))
        return;
    r->filtered_count += (flags & SUB_FILTERED ? 1u : 0u) - (s->flags & SUB_FILTERED ? 1u : 0u);
    s->flags = flags;
    router_wary(r, WARY_FILTERS, r->filtered_count != 0);
}

static struct view queue_of(const struct account *a, const struct sub *s) {
    return s->queue ? sublist_queue_name(a->sublist, s->queue) : (struct view){0};
}

/* The pattern of s, in r->pattern. */
static struct view pattern_of(struct router *r, const struct account *a, const struct sub *s) {
    return view_of(r->pattern, sublist_pattern(a->sublist, s, r->pattern, sizeof r->pattern));
}

enum right rights_deliver(struct router *r, const struct sub *s, struct conn *c, struct view subject,
                          uint64_t *message_no) {
    if (!c->set)
        return RIGHT_YES;
    if (!permissions_compile(c->set, &r->book))
        return RIGHT_LATER;
    const struct account *a = account_find(r, c->account);
    struct view queue = queue_of(a, s);
    if (unlikely(c->rechecking) && !permissions_subscribe(c->set, pattern_of(r, a, s), queue))
        return RIGHT_NO;
    if (*message_no == 0)
        *message_no = ++r->message_no;
    return permissions_deliver(c->set, subject, queue, *message_no) ? RIGHT_YES : RIGHT_NO;
}

/* ---- looking again ---- */

enum err rights_recheck(struct router *r, struct link *l, uint32_t number, struct conn *c) {
    c->recheck_at = c->first_sub;
    if (c->rechecking)
        return ERR_OK;
    if (r->recheck_count == r->recheck_cap) {
        uint32_t cap = r->recheck_cap ? 2 * r->recheck_cap : 64;
        struct rechecked *grown = realloc(r->recheck, cap * sizeof *grown);
        if (!grown)
            return ERR_NOMEM;
        r->recheck = grown;
        r->recheck_cap = cap;
    }
    r->recheck[r->recheck_count++] = (struct rechecked){l->number, number};
    c->rechecking = true;
    router_wary(r, WARY_RECHECKS, true);
    return ERR_OK;
}

/* Removes the subscription and tells its edge; false: not now, for want of room. While the link spills nothing is removed, because
 * removals must not fill the overflow. */
static bool take_away(struct router *r, struct link *l, struct conn *c, uint32_t index, struct view pattern,
                      struct view queue) {
    struct sub *s = router_sub(r, index);
    uint64_t bytes = DENY_SUB_BYTES(pattern.len, queue.len) + SMALL;
    if (l->spilling || !egress_has_room(r, l, bytes, false)) {
        l->recheck_room = (uint32_t)bytes;
        return false;
    }
    uint32_t number = s->conn, slot = s->slot;
    record_deny_sub(r, l, number, slot, RECORD_DENY_REMOVED, pattern, queue);
    interest_drop(r, l, c, index);
    egress_small(r, l, RECORD_SLOT_FREE, number, slot);
    return true;
}

/* True if the connection's subscriptions have all been looked at. */
static bool recheck_some(struct router *r, struct link *l, struct conn *c, uint64_t until, bool *worked) {
    if (c->set && !permissions_compile(c->set, &r->book)) {
        *worked = true;
        return false;
    }
    const struct account *a = account_find(r, c->account);
    for (; c->recheck_at && r->work < until; r->work += COST_SUB / 4) {
        uint32_t index = c->recheck_at;
        struct sub *s = router_sub(r, index);
        struct view pattern = pattern_of(r, a, s), queue = queue_of(a, s);
        if (c->set && !permissions_subscribe(c->set, pattern, queue)) {
            if (!take_away(r, l, c, index, pattern, queue))
                return false;
        } else {
            rights_sub_flags(r, s, c->set && permissions_filters(c->set, pattern, queue) ? SUB_FILTERED : 0);
            c->recheck_at = s->conn_next;
        }
        *worked = true;
    }
    return c->recheck_at == 0;
}

bool rights_recheck_step(struct router *r) {
    uint32_t kept = 0, count = r->recheck_count;
    bool worked = false;
    uint64_t until = r->work + TURN_UNITS;
    for (uint32_t i = 0; i < count; i++) {
        struct rechecked at = r->recheck[i];
        struct link *l = &r->link[at.link];
        struct conn *c = link_conn(l, at.conn);
        if (l->state != LINK_LIVE || !c || !c->rechecking)
            continue; /* it has ended, or another entry was done */
        l->recheck_room = 0;
        if (r->work < until && recheck_some(r, l, c, until, &worked))
            c->rechecking = false;
        else
            r->recheck[kept++] = at;
    }
    r->recheck_count = kept;
    router_wary(r, WARY_RECHECKS, kept != 0);
    return worked;
}

bool rights_recheck_waits(struct router *r) {
    for (uint32_t i = 0; i < r->recheck_count; i++) {
        struct link *l = &r->link[r->recheck[i].link];
        if (l->state != LINK_LIVE || (!l->spilling && egress_has_room(r, l, l->recheck_room, false)))
            return false;
    }
    return true;
}
