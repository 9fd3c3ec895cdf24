/* SPDX-License-Identifier: Apache-2.0 */
/* Applies a changed account book to connections: floors end them, permits give them other rights, lower limits end the newest.
 *
 *   APPLY    every connection is held against what accounts.c has noted in its account
 *   COLLECT  if an account has more connections than it may: all of such accounts are noted, in a heap
 *   THIN     the newest of the heap ends, while its account has too many; then the next
 *
 * Each step does CHANGES_UNITS of that. New bindings are held against the accounts at once, and authd hears that the book was read
 * only when all of this is done. A book that changes meanwhile has the walk begin anew: a connection that was looked at already is
 * then looked at again.
 */
#include <stdlib.h>

#include "base/log.h"
#include "router/cost.h"
#include "router/router.h"
#include "shm/limit.h"

static void give(struct router *r, struct link *l, uint32_t number, struct conn *c, const struct standing *s) {
    if (rights_give(r, l, number, c, s->permissions, s->payload_max) == ERR_NOMEM)
        admit_kick(r, l, number, RECORD_KICK_MEMORY);
}

static void apply_to(struct router *r, struct link *l, uint32_t number, struct conn *c, const struct account *a) {
    const struct standing *s = account_standing(a, c->principal);
    if (s && c->serial < s->floor)
        admit_kick(r, l, number, (enum record_kick)s->kick);
    else if (c->serial < a->floor)
        admit_kick(r, l, number, (enum record_kick)a->floor_kick);
    else if (s && c->serial < s->permit &&
             (c->permissions != s->permissions || c->payload_max != limit_most(s->payload_max)))
        give(r, l, number, c, s);
}

/* ---- a lower limit of connections ---- */

struct changes_member {
    uint64_t serial;
    uint32_t number;
    uint8_t link;
};

enum {
    COST_MEMBER = 8 * COST_CONN, /* one is put into the heap, or taken out of it */
    MEMBERS_KEPT = 4096,         /* memory for more is given back */
};

static bool members_put(struct changes *at, struct changes_member m) {
    if (at->count == at->cap) {
        uint32_t cap = at->cap ? 2 * at->cap : 1024;
        struct changes_member *grown = realloc(at->member, cap * sizeof *grown);
        if (!grown)
            return false;
        at->member = grown;
        at->cap = cap;
    }
    uint32_t i = at->count++;
    for (; i > 0 && at->member[(i - 1) / 2].serial < m.serial; i = (i - 1) / 2)
        at->member[i] = at->member[(i - 1) / 2];
    at->member[i] = m;
    return true;
}

static struct changes_member members_take(struct changes *at) {
    struct changes_member newest = at->member[0], last = at->member[--at->count];
    uint32_t i = 0;
    for (uint32_t child; (child = 2 * i + 1) < at->count; i = child) {
        child += child + 1 < at->count && at->member[child + 1].serial > at->member[child].serial;
        if (at->member[child].serial <= last.serial)
            break;
        at->member[i] = at->member[child];
    }
    at->member[i] = last;
    return newest;
}

/* The newest connections end, as if the limit had been there when they came. */
static void thin_one(struct router *r, struct changes_member m) {
    struct link *l = &r->link[m.link];
    const struct conn *c = link_conn(l, m.number);
    if (!c || c->state != CONN_BOUND || c->serial != m.serial)
        return; /* it has ended meanwhile */
    const struct account *a = account_find(r, c->account);
    if (a && account_is_crowded(a))
        admit_kick(r, l, m.number, RECORD_KICK_ACCOUNT_CONNS);
}

/* ---- the walk ---- */

static bool has_conns(const struct link *l) {
    return l->state == LINK_LIVE || l->state == LINK_REPLAY;
}

static void collect(struct router *r, const struct link *l, uint32_t number, const struct conn *c,
                    const struct account *a) {
    if (!account_is_crowded(a))
        return;
    r->work += COST_MEMBER;
    if (!members_put(&r->changes, (struct changes_member){.serial = c->serial, .number = number, .link = l->number}))
        log_error("account %u: no memory to bring its connections down to %u", a->number, limit_most(a->conns_max));
}

/* True if every connection has been looked at in this phase. */
static bool walk(struct router *r, uint64_t until) {
    struct changes *at = &r->changes;
    for (; at->link < r->link_high; at->link++, at->conn = 0) {
        struct link *l = &r->link[at->link];
        for (; has_conns(l) && at->conn < l->conn_high; at->conn++, r->work += COST_CONN) {
            if (r->work >= until)
                return false;
            struct conn *c = link_conn(l, at->conn);
            const struct account *a = c && c->state == CONN_BOUND ? account_find(r, c->account) : NULL;
            if (a && at->phase == CHANGES_COLLECT)
                collect(r, l, at->conn, c, a);
            else if (a && a->changed)
                apply_to(r, l, at->conn, c, a);
        }
    }
    at->link = 0;
    return true;
}

/* All has been applied. True: some account has more connections than it may. */
static bool applied(struct router *r) {
    bool crowded = false;
    for (uint32_t n = 0; n < r->account_high; n++) {
        struct account *a = r->account[n];
        if (!a)
            continue;
        a->changed = false;
        crowded |= account_is_crowded(a);
    }
    return crowded;
}

void changes_free(struct changes *at) {
    free(at->member);
    *at = (struct changes){0};
}

static void finish(struct changes *at) {
    at->active = false;
    if (at->cap > MEMBERS_KEPT)
        changes_free(at);
}

void changes_begin(struct router *r) {
    struct changes *at = &r->changes;
    at->active = true;
    at->phase = CHANGES_APPLY;
    at->link = 0;
    at->conn = at->count = 0;
}

bool changes_step(struct router *r) {
    struct changes *at = &r->changes;
    if (likely(!at->active))
        return false;
    uint64_t until = r->work + CHANGES_UNITS;
    if (at->phase != CHANGES_THIN) {
        if (!walk(r, until))
            return true;
        if (at->phase == CHANGES_COLLECT)
            at->phase = CHANGES_THIN;
        else if (applied(r))
            at->phase = CHANGES_COLLECT;
        else
            finish(at);
        return true;
    }
    for (; at->count > 0 && r->work < until; r->work += COST_MEMBER)
        thin_one(r, members_take(at));
    if (at->count == 0)
        finish(at);
    return true;
}
