/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of subscriptions, and the connections that are charged for it.
 *
 * A connection is charged a price for each subscription, a formula of its texts (sublist_price): the same amount
 * is charged at SUB and given back at the end, whatever other connections do. The price is more than a subscription can take, so a bound of
 * prices is a bound of memory. An account, and the process, which is the sum of its accounts, are held to the memory
 * that is really used.
 *
 *   connection, account or process beyond its bound:  the subscription is refused (RECORD_DENY_MEMORY)
 *   process beyond its bound:                         of the account that uses most, the connection that has taken most is
 *                                                     closed (RECORD_KICK_MEMORY), and so on until the rest fits
 *
 * Pieces that are free lie in chunks amid others, where only pieces of their size find room. A connection that makes
 * subscriptions of ever other sizes and leaves one in each chunk holds far more than it uses. A quarter more than the process's bound may be held
 * so; beyond it subscriptions are refused and connections closed one at a time. "Has taken most" is the highest price since
 * BIND, because that made the holes. A closed connection's subscriptions are removed in steps and do not count meanwhile; but at
 * twice the process's bound every subscription is refused.
 */
#include "base/log.h"
#include "router/cost.h"
#include "router/router.h"

enum { NEXT_NS = 100000000 };

static uint64_t holes_limit(const struct router *r) {
    return r->settings.router_bytes + r->settings.router_bytes / 4;
}

/* Bytes that remain when all leaving subscriptions have been removed. A price is more than the memory that it stands for, so the
 * result may be too small; the bounds are checked again then. */
static uint64_t less(uint64_t bytes, uint64_t leaving) {
    return bytes > leaving ? bytes - leaving : 0;
}

static bool exceeds(uint64_t bytes, uint64_t limit) {
    return limit != 0 && bytes > limit;
}

bool memory_refuses(const struct router *r, const struct conn *c, const struct account *a, uint64_t price) {
    const struct settings *t = &r->settings;
    /* A replay comes in another order, so tables may have grown more than before: no subscription may be lost for that. */
    uint64_t account_limit = likely(r->running) ? t->account_bytes : t->account_bytes + t->account_bytes / 4;
    return exceeds(c->sub_bytes + price, t->conn_bytes) ||
           exceeds(less(a->used_bytes, a->leaving_bytes) + price, account_limit) ||
           exceeds(less(r->held_bytes, r->leaving_bytes) + price, holes_limit(r)) ||
           exceeds(r->held_bytes + price, 2 * t->router_bytes);
}

static void look(struct router *r, struct account *a) {
    uint64_t subs = (uint64_t)a->sub_count * SUBLIST_SUB_BYTES;
    uint64_t used = subs + sublist_bytes_used(a->sublist), held = subs + sublist_bytes(a->sublist);
    r->used_bytes += used - a->used_bytes;
    r->held_bytes += held - a->held_bytes;
    a->used_bytes = used;
    a->held_bytes = held;
    counter_set(r->counters, COUNTER_MEMORY, r->held_bytes);
}

void memory_charge(struct router *r, struct conn *c, struct account *a, uint64_t price) {
    c->sub_bytes += price;
    if (c->sub_bytes > c->sub_bytes_most)
        c->sub_bytes_most = c->sub_bytes;
    look(r, a);
}

void memory_refund(struct router *r, struct conn *c, struct account *a, uint64_t price) {
    c->sub_bytes -= price;
    if (c->state != CONN_BOUND) {
        a->leaving_bytes -= price;
        r->leaving_bytes -= price;
    }
    look(r, a);
}

void memory_leaves(struct router *r, struct conn *c) {
    struct account *a = account_find(r, c->account);
    if (!a)
        return;
    a->leaving_bytes += c->sub_bytes;
    r->leaving_bytes += c->sub_bytes;
}

static struct account *largest_account(struct router *r) {
    struct account *largest = NULL;
    uint64_t most = 0;
    for (uint32_t i = 0; i < r->account_high; i++) {
        struct account *a = r->account[i];
        uint64_t bytes = a ? less(a->used_bytes, a->leaving_bytes) : 0;
        if (bytes > most) {
            most = bytes;
            largest = a;
        }
    }
    return largest;
}

/* A connection and where it is. */
struct holder {
    struct link *link;
    uint32_t number;
    struct conn *conn; /* null: there is none */
};

static struct holder largest_holder(struct router *r, const struct account *a) {
    struct holder largest = {NULL, 0, NULL};
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (l->state != LINK_LIVE && l->state != LINK_REPLAY)
            continue;
        r->work += (uint64_t)COST_CONN * l->conn_high;
        for (uint32_t n = 0; n < l->conn_high; n++) {
            struct conn *c = link_conn(l, n);
            if (!c || c->state != CONN_BOUND || c->account != a->number || c->sub_bytes == 0)
                continue;
            if (!largest.conn || c->sub_bytes_most > largest.conn->sub_bytes_most)
                largest = (struct holder){l, n, c};
        }
    }
    return largest;
}

/* False: nobody has any. */
static bool close_largest(struct router *r) {
    struct account *a = largest_account(r);
    struct holder h = a ? largest_holder(r, a) : (struct holder){NULL, 0, NULL};
    if (!h.conn)
        return false;
    log_error(
        "link %u connection %u of account %s is closed, because subscriptions take %llu bytes, more than the option "
        "`memory router` allows: it has %u of them, worth %llu bytes at most, the largest share of that account",
        h.link->number, h.number, a->name, (unsigned long long)r->held_bytes, h.conn->sub_count,
        (unsigned long long)h.conn->sub_bytes_most);
    counter_add(r->counters, COUNTER_MEMORY_KICKED, 1);
    admit_kick(r, h.link, h.number, RECORD_KICK_MEMORY);
    return true;
}

void memory_watch(struct router *r) {
    while (unlikely(exceeds(less(r->used_bytes, r->leaving_bytes), r->settings.router_bytes)))
        if (!close_largest(r))
            return;
    if (likely(!exceeds(r->held_bytes, holes_limit(r))) || r->leaving_bytes != 0 || r->now < r->memory_next)
        return;
    r->memory_next = r->now + NEXT_NS;
    close_largest(r);
}
