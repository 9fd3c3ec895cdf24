/* What subscriptions take in the router, and who pays for it.
 *
 * A connection is charged a price for each subscription, a formula of its texts (sublist_price): what is charged at SUB is
 * given back when it ends, and nobody pays for what others do. The price is more than a subscription can take, so a bound of
 * prices is a bound of memory. An account is held to what its sublist really takes, pieces that are free amid others
 * included; so is the process, which is the sum of its accounts.
 *
 *   connection beyond its bound, account beyond its own:  the subscription is refused (RECORD_DENY_MEMORY)
 *   process beyond its bound:                             of the account that takes most, the connection that has taken
 *                                                         most is ended (RECORD_KICK_MEMORY), and so on
 *   process a quarter beyond it:                          every subscription is refused: removals have not kept up
 *
 * "Has taken most" is the highest price since BIND: whoever fills chunks and leaves one piece in each holds their memory.
 */
#include "base/log.h"
#include "router/router.h"

enum { SECOND_NS = 1000000000 };

static uint64_t account_bytes(const struct account *a) {
    return a->sublist_bytes + (uint64_t)a->sub_count * SUBLIST_SUB_BYTES;
}

static uint64_t process_bytes(const struct router *r) {
    return r->sublist_bytes + r->sub_count * SUBLIST_SUB_BYTES;
}

/* What will be left when all that leaves has gone. A price is more than what it stands for, so this may be too little, and
 * is looked at again then. */
static uint64_t less(uint64_t bytes, uint64_t leaving) {
    return bytes > leaving ? bytes - leaving : 0;
}

static bool exceeds(uint64_t bytes, uint64_t limit) {
    return limit != 0 && bytes > limit;
}

bool memory_refuses(const struct router *r, const struct conn *c, const struct account *a, uint64_t price) {
    const struct settings *t = &r->settings;
    return exceeds(c->sub_bytes + price, t->conn_bytes) || exceeds(account_bytes(a) + price, t->account_bytes) ||
           exceeds(process_bytes(r) + price, t->router_bytes + t->router_bytes / 4);
}

static void look(struct router *r, struct account *a) {
    uint64_t bytes = sublist_bytes(a->sublist);
    r->sublist_bytes += bytes - a->sublist_bytes;
    a->sublist_bytes = bytes;
    counter_set(r->counters, COUNTER_MEMORY, process_bytes(r));
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
        uint64_t bytes = a ? less(account_bytes(a), a->leaving_bytes) : 0;
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

void memory_watch(struct router *r) {
    while (exceeds(less(process_bytes(r), r->leaving_bytes), r->settings.router_bytes)) {
        struct account *a = largest_account(r);
        struct holder h = a ? largest_holder(r, a) : (struct holder){NULL, 0, NULL};
        if (!h.conn) {
            if (r->now - r->memory_told > SECOND_NS)
                log_error("Subscriptions take %llu bytes, more than `memory router` allows, and there is no connection to close",
                          (unsigned long long)process_bytes(r));
            r->memory_told = r->now;
            return;
        }
        log_error("link %u connection %u of account %s: it is closed, because subscriptions take %llu bytes, more than "
                  "`memory router` allows; its %u, worth %llu at most, are the largest share of the account that has most",
                  h.link->number, h.number, a->name, (unsigned long long)process_bytes(r), h.conn->sub_count,
                  (unsigned long long)h.conn->sub_bytes_most);
        counter_add(r->counters, COUNTER_MEMORY_KICKED, 1);
        admit_kick(r, h.link, h.number, RECORD_KICK_MEMORY);
    }
}
