/* SPDX-License-Identifier: Apache-2.0 */
/* SUB and UNSUB.
 *
 * The order of tests is the protocol's: permission, token count, subscription count, validity. Whatever ends a
 * subscription, or keeps it from coming to life, its edge gets exactly one SLOT_FREE (or the CONN_FREE of its
 * connection).
 */
#include "base/check.h"
#include "base/log.h"
#include "nats/proto.h"
#include "nats/subject.h"
#include "router/cost.h"
#include "router/router.h"
#include "shm/limit.h"

static void conn_list_add(struct router *r, struct conn *c, uint32_t index) {
    struct sub *s = router_sub(r, index);
    s->conn_next = c->first_sub;
    s->conn_prev = 0;
    if (c->first_sub)
        router_sub(r, c->first_sub)->conn_prev = index;
    c->first_sub = index;
    c->sub_count++;
}

static void conn_list_remove(struct router *r, struct conn *c, uint32_t index) {
    struct sub *s = router_sub(r, index);
    if (s->conn_prev)
        router_sub(r, s->conn_prev)->conn_next = s->conn_next;
    else
        c->first_sub = s->conn_next;
    if (unlikely(c->recheck_at == index))
        c->recheck_at = s->conn_next;
    if (s->conn_next)
        router_sub(r, s->conn_next)->conn_prev = s->conn_prev;
    c->sub_count--;
}

void interest_drop(struct router *r, struct link *l, struct conn *c, uint32_t index) {
    struct sub *s = router_sub(r, index);
    struct account *a = account_find(r, c->account);
    check(a != NULL);
    rights_sub_flags(r, s, 0);
    uint64_t price = sublist_price_of(a->sublist, s);
    r->work += COST_SUB + (uint64_t)COST_NODE * sublist_remove(a->sublist, s);
    a->sub_count--;
    conn_list_remove(r, c, index);
    link_slot_set(l, s->slot, 0);
    router_sub_give(r, index);
    memory_refund(r, c, a, price);
    counter_set(r->counters, COUNTER_SUBS, r->sub_count);
}

/* Why the subscription is refused; 0: it is not. allowed: by the connection's permissions. */
static enum record_deny refusal(const struct router *r, const struct conn *c, const struct account *a,
                                struct view subject, struct view queue, bool allowed) {
    if (!allowed || view_equal(queue, VIEW(PROTO_SYSTEM_QUEUE)))
        return RECORD_DENY_SUB;
    uint32_t tokens_max = r->settings.max_sub_tokens;
    if (tokens_max != 0 && subject_token_count(subject) > tokens_max)
        return RECORD_DENY_TOKENS;
    if (!limit_allows(c->subs_max, c->sub_count + 1) || !limit_allows(a->subs_max, c->sub_count + 1))
        return RECORD_DENY_MAX_SUBS;
    if (memory_refuses(r, c, a, sublist_price(subject, queue)))
        return RECORD_DENY_MEMORY;
    return 0;
}

static bool after_lives(const struct router *r, const struct link *l, const struct record *rec, uint32_t after) {
    uint32_t index = after == RECORD_NO_SLOT ? 0 : link_slot(l, after);
    return index != 0 && router_sub(r, index)->conn == rec->conn;
}

/* A new subscription, in the sublist, the connection's list and the slot table; 0: no memory, nothing has changed. */
static uint32_t make(struct router *r, struct link *l, struct conn *c, uint32_t number, const struct record_sub *fixed,
                     struct view subject, struct view queue, uint16_t flags) {
    struct account *a = account_find(r, c->account);
    uint32_t index = router_sub_take(r);
    if (index == 0)
        return 0;
    r->work += COST_SUB + (subject_has_wildcard(subject) ? (uint64_t)COST_NODE * subject_token_count(subject) : 0);
    struct sub *s = router_sub(r, index);
    s->conn = number;
    s->slot = fixed->slot;
    s->link = l->number;
    s->delivered = fixed->delivered;
    s->max = fixed->max;
    if (sublist_insert(a->sublist, s, subject, queue) != ERR_OK) {
        router_sub_give(r, index);
        return 0;
    }
    rights_sub_flags(r, s, flags);
    conn_list_add(r, c, index);
    if (unlikely(++a->sub_count == SPREAD_SUBS))
        r->spread = true;
    link_slot_set(l, fixed->slot, index);
    memory_charge(r, c, a, sublist_price(subject, queue));
    counter_set(r->counters, COUNTER_SUBS, r->sub_count);
    return index;
}

static struct outcome end_for_memory(struct router *r, const struct link *l, uint32_t conn) {
    log_error("link %u connection %u: it is closed, because there is no memory for a subscription of it", l->number,
              conn);
    counter_add(r->counters, COUNTER_MEMORY_KICKED, 1);
    return outcome_kick(RECORD_KICK_MEMORY);
}

/* A replay brings what is beyond a limit: an edge that lies, or a limit that was lowered since. */
static struct outcome take_away(struct router *r, struct link *l, uint32_t number, uint32_t slot, struct view subject,
                                struct view queue) {
    if (!egress_has_room(r, l, DENY_SUB_BYTES(subject.len, queue.len) + SMALL, true))
        return outcome_wait(l);
    record_deny_sub(r, l, number, slot, RECORD_DENY_REMOVED, subject, queue);
    egress_small(r, l, RECORD_SLOT_FREE, number, slot);
    return outcome_of(STEP_DONE);
}

struct outcome interest_sub(struct router *r, struct link *l, struct conn *c, const struct record *rec,
                            const struct record_parts *parts, const uint8_t *at, bool replay) {
    struct record_sub fixed;
    memcpy(&fixed, at + RECORD_HEADER, sizeof fixed);
    if (!replay)
        fixed.delivered = fixed.max = 0;
    memcpy(r->scratch, at + parts->subject, (size_t)rec->subject_len + rec->reply_len);
    struct view subject = view_of((const char *)r->scratch, rec->subject_len);
    struct view queue = view_of((const char *)r->scratch + rec->subject_len, rec->reply_len);
    if (!subject_is_clean(subject) || !subject_is_clean(queue) || link_slot(l, fixed.slot) != 0)
        return outcome_of(STEP_BAD);
    enum err e = link_slot_make(l, fixed.slot);
    if (e == ERR_RANGE)
        return outcome_of(STEP_BAD);
    if (!replay && !egress_has_room(r, l, 2 * SMALL + DENY_SUB_BYTES(subject.len, queue.len), true))
        return outcome_wait(l);

    uint32_t index = 0;
    struct outcome o = outcome_of(STEP_DONE);
    if (c->state == CONN_BOUND) {
        struct account *a = account_find(r, c->account);
        uint16_t flags = 0;
        /* Of a replay all is looked at again when traffic runs (rights_give). */
        enum right right = replay || !c->set ? RIGHT_YES : rights_subscribe(r, c, subject, queue, &flags);
        if (right == RIGHT_LATER)
            return outcome_of(STEP_MORE);
        enum record_deny why = refusal(r, c, a, subject, queue, right == RIGHT_YES);
        bool repeats = after_lives(r, l, rec, fixed.after); /* the sid is in use: not even its subject is looked at */
        if (why == 0 && !repeats && !subject_is_pattern(subject)) {
            if (replay)
                return outcome_of(STEP_BAD);
            why = RECORD_DENY_SUBJECT;
        }
        if (why != 0 && replay)
            return take_away(r, l, rec->conn, fixed.slot, subject, queue);
        if (why != 0)
            record_deny_sub(r, l, rec->conn, fixed.slot, why, subject, queue);
        else if (rec->flags & RECORD_ANSWER && !replay)
            egress_small(r, l, RECORD_OK, rec->conn, 0);
        if (why == 0 && !repeats) {
            if (e == ERR_OK)
                index = make(r, l, c, rec->conn, &fixed, subject, queue, flags);
            if (index == 0)
                o = end_for_memory(r, l, rec->conn);
            else if (replay && c->rechecking)
                c->recheck_at = c->first_sub;
        }
    } else {
        counter_add(r->counters, COUNTER_RECORDS_IGNORED, 1);
    }
    if (index == 0 && !replay)
        egress_small(r, l, RECORD_SLOT_FREE, rec->conn, fixed.slot);
    return o;
}

struct outcome interest_unsub(struct router *r, struct link *l, struct conn *c, const struct record *rec,
                              const uint8_t *at) {
    struct record_unsub fixed;
    memcpy(&fixed, at + RECORD_HEADER, sizeof fixed);
    if (fixed.slot >= SLOTS_MAX)
        return outcome_of(STEP_BAD);
    if (!egress_has_room(r, l, 2 * SMALL, true))
        return outcome_wait(l);
    uint32_t index = link_slot(l, fixed.slot);
    struct sub *s = index ? router_sub(r, index) : NULL;
    if (s && s->conn != rec->conn)
        return outcome_of(STEP_BAD);
    if ((rec->flags & RECORD_ANSWER) && c->state == CONN_BOUND)
        egress_small(r, l, RECORD_OK, rec->conn, 0);
    if (!s) {
        counter_add(r->counters, COUNTER_RECORDS_IGNORED, 1);
    } else if (fixed.max > s->delivered) {
        s->max = fixed.max;
    } else {
        interest_drop(r, l, c, index);
        egress_small(r, l, RECORD_SLOT_FREE, rec->conn, fixed.slot);
    }
    return outcome_of(STEP_DONE);
}
