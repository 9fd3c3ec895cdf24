/* SPDX-License-Identifier: Apache-2.0 */
/* The one way in for a connection, and the one way out.
 *
 * Whatever the kind of edge, a connection exists for the router only through a sealed binding, and the binding is held
 * against what the supervisor said of the link, never against what the edge says. A binding is good for one connection
 * number in one generation: a generation that was closed, and a serial that is not higher than the last one of that number,
 * are refused. Refused is not hostile: revocation and login may cross, so the connection is kicked and its records are
 * ignored until its CLOSE.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "router/cost.h"
#include "router/router.h"

/* One store, so that a death cannot leave half of it. */
static void soft_set(struct link *l, uint32_t number, uint32_t generation, uint64_t turn) {
    struct soft_conn entry = {generation, (uint32_t)turn};
    uint64_t word;
    memcpy(&word, &entry, sizeof word);
    memcpy(&l->soft->conn[number], &word, sizeof word);
}

/* That generation is over, if this turn gets committed. */
static void soft_close(struct router *r, struct link *l, uint32_t number, uint32_t generation) {
    if (generation > l->soft->conn[number].closed_generation)
        soft_set(l, number, generation, r->commit_no + 1);
}

void admit_recover(struct router *r, struct link *l) {
    for (uint32_t n = 0; n < SOFT_CONNS_MAX; n++) {
        const struct soft_conn *s = &l->soft->conn[n];
        if (s->turn == (uint32_t)(r->commit_no + 1) && s->closed_generation != 0)
            soft_set(l, n, s->closed_generation - 1, r->commit_no);
    }
}

static enum err judge(struct router *r, struct link *l, uint32_t number, const struct conn *c, const struct record *rec,
                      const uint8_t *sealed, bool replay, struct binding *b) {
    enum err e = binding_open(b, &r->key, sealed, rec->payload_len);
    if (e != ERR_OK)
        return e;
    if (b->link != l->number || b->incarnation != l->incarnation || b->kind != l->kind || b->conn != number)
        return ERR_STATE;
    uint32_t closed = l->soft->conn[number].closed_generation;
    if (c->generation > closed && c->state == CONN_FREE)
        closed = c->generation; /* closed in this life */
    if (b->generation <= closed || (!replay && b->serial <= c->serial))
        return ERR_STALE;
    if (b->expires_s != 0 && b->expires_s <= r->wall)
        return ERR_STALE;
    if (!account_find(r, b->account) || (b->permissions != 0 && !account_set(r, b->permissions)))
        accounts_read(r);
    struct account *a = account_find(r, b->account);
    if (!a)
        return ERR_RANGE;
    if (b->serial < account_floor(a, b->principal))
        return ERR_STALE;
    const struct standing *s = account_standing(a, b->principal);
    if (s && b->serial < s->permit) {
        b->permissions = s->permissions;
        b->payload_max = s->payload_max;
    }
    return b->permissions == 0 || account_set(r, b->permissions) ? ERR_OK : ERR_RANGE;
}

void admit_count(struct router *r, const struct link *l, int more) {
    uint64_t count = atomic_load_explicit(&r->counters->link_conns[l->number], memory_order_relaxed);
    counter_add(r->counters, COUNTER_CONNS, (uint64_t)more);
    atomic_store_explicit(&r->counters->link_conns[l->number], count + (uint64_t)more, memory_order_relaxed);
}

/* The connection of a first record; null if the number cannot be, or is in use. */
static struct conn *conn_begin(struct router *r, struct link *l, uint32_t number) {
    struct conn *c = link_conn_make(l, number);
    if (!c || c->state != CONN_FREE)
        return NULL;
    list_init(&c->stalled);
    admit_count(r, l, 1);
    return c;
}

static void refuse(struct router *r, struct link *l, uint32_t number, struct conn *c, enum record_kick why) {
    counter_add(r->counters, COUNTER_BINDINGS_REFUSED, 1);
    c->state = CONN_BOUND; /* admit_kick takes it from there */
    c->account = 0;
    admit_kick(r, l, number, why);
}

enum step admit_poisoned(struct router *r, struct link *l, uint32_t number) {
    struct conn *c = conn_begin(r, l, number);
    if (!c)
        return STEP_BAD;
    refuse(r, l, number, c, RECORD_KICK_POISON);
    return STEP_DONE;
}

enum step admit_bind(struct router *r, struct link *l, const struct record *rec, const uint8_t *sealed, bool replay) {
    struct conn *c = conn_begin(r, l, rec->conn);
    if (!c)
        return STEP_BAD;
    struct binding b;
    r->work += COST_BIND;
    enum err e = judge(r, l, rec->conn, c, rec, sealed, replay, &b);
    if (e != ERR_OK) {
        log_warn("link %u connection %u: its binding was refused: %s", l->number, rec->conn, err_text(e));
        if (e != ERR_FORGED && e != ERR_STATE && b.generation > c->generation)
            c->generation = b.generation;
        refuse(r, l, rec->conn, c, RECORD_KICK_BINDING);
        return STEP_DONE;
    }
    struct account *a = account_find(r, b.account);
    c->state = CONN_BOUND;
    c->options = RECORD_ECHO;
    c->generation = b.generation;
    c->serial = b.serial;
    c->account = b.account;
    c->principal = b.principal;
    c->subs_max = b.subs_max;
    c->expires_s = b.expires_s;
    r->expiring |= b.expires_s != 0;
    c->first_sub = 0;
    c->sub_count = 0;
    c->sub_bytes = c->sub_bytes_most = 0;
    c->stalled_until = 0;
    check(rights_give(r, l, rec->conn, c, b.permissions, b.payload_max) == ERR_OK); /* nothing is to be looked at again */
    a->conn_count++;
    counter_add(r->counters, COUNTER_BINDINGS, 1);
    if (account_is_crowded(a))
        admit_kick(r, l, rec->conn, RECORD_KICK_ACCOUNT_CONNS);
    else if (replay && c->set && rights_recheck(r, l, rec->conn, c) != ERR_OK) /* the router before may not have ended that */
        admit_kick(r, l, rec->conn, RECORD_KICK_MEMORY);
    return STEP_DONE;
}

/* Leaves its account, its permissions and the lists of those who are stalled. */
static void retire(struct router *r, struct link *l, struct conn *c) {
    struct account *a = account_find(r, c->account);
    if (a && c->state == CONN_BOUND)
        a->conn_count--;
    rights_end(r, c);
    memory_leaves(r, c);
    stall_end(r, l, c);
}

static void kick(struct router *r, struct link *l, uint32_t number, struct conn *c, enum record_kick why) {
    retire(r, l, c);
    c->state = CONN_KICKED;
    c->kick = (uint8_t)why;
    soft_close(r, l, number, c->generation); /* it does not come back with a new router */
    r->work += COST_BIND;
    egress_mark(r, l, number, MARK_KICK);
}

void admit_kick(struct router *r, struct link *l, uint32_t number, enum record_kick why) {
    struct conn *c = link_conn(l, number);
    if (!c || c->state != CONN_BOUND)
        return;
    kick(r, l, number, c, why);
    removal_add(r, l, number, c);
}

void admit_kick_poisoned(struct router *r, struct link *l, uint32_t number) {
    struct conn *c = link_conn(l, number);
    if (!c || c->state != CONN_BOUND)
        return;
    kick(r, l, number, c, RECORD_KICK_POISON);
    removal_queue(r, l, number, c);
}

static void closes(struct router *r, struct link *l, uint32_t number, struct conn *c) {
    if (c->state == CONN_BOUND)
        retire(r, l, c);
    c->state = CONN_CLOSING;
    soft_close(r, l, number, c->generation);
    admit_count(r, l, -1);
    r->work += COST_BIND;
}

void admit_close(struct router *r, struct link *l, uint32_t number, struct conn *c) {
    closes(r, l, number, c);
    removal_add(r, l, number, c);
}

void admit_close_poisoned(struct router *r, struct link *l, uint32_t number, struct conn *c) {
    closes(r, l, number, c);
    removal_queue(r, l, number, c);
}

void admit_expire(struct router *r) {
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (l->state != LINK_LIVE)
            continue;
        for (uint32_t n = 0; n < l->conn_high; n++) {
            struct conn *c = link_conn(l, n);
            if (c && c->state == CONN_BOUND && c->expires_s != 0 && c->expires_s <= r->wall)
                admit_kick(r, l, n, RECORD_KICK_EXPIRED);
        }
    }
}
