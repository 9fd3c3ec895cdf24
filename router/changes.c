/* SPDX-License-Identifier: Apache-2.0 */
/* Applies a changed account book to connections: floors end them, permits give them other rights, lower limits end the newest.
 *
 * accounts.c notes in each account what has changed; here every connection is looked at, some in each turn. New bindings are held
 * against the accounts at once, and authd hears that the book was read only when all of this is done. A book that changes
 * meanwhile has the walk begin anew: a connection that was looked at already is then looked at again.
 */
#include <stdlib.h>

#include "base/log.h"
#include "router/cost.h"
#include "router/router.h"
#include "shm/limit.h"

static void apply_to(struct router *r, struct link *l, uint32_t number, struct conn *c, const struct account *a) {
    const struct standing *s = account_standing(a, c->principal);
    if (s && c->serial < s->floor)
        admit_kick(r, l, number, (enum record_kick)s->kick);
    else if (c->serial < a->floor)
        admit_kick(r, l, number, (enum record_kick)a->floor_kick);
    else if (s && c->serial < s->permit &&
             (c->permissions != s->permissions || c->payload_max != limit_most(s->payload_max)))
        rights_give(r, l, number, c, s->permissions, s->payload_max);
}

/* ---- a lower limit of connections ---- */

struct member {
    uint64_t serial;
    uint32_t number;
    uint8_t link;
};

static int newest_first(const void *a, const void *b) {
    uint64_t x = ((const struct member *)a)->serial, y = ((const struct member *)b)->serial;
    return x < y ? 1 : x > y ? -1 : 0;
}

static bool has_conns(const struct link *l) {
    return l->state == LINK_LIVE || l->state == LINK_REPLAY;
}

static uint32_t members(struct router *r, const struct account *a, struct member *all) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        for (uint32_t n = 0; has_conns(l) && n < l->conn_high && count < a->conn_count; n++) {
            const struct conn *c = link_conn(l, n);
            if (c && c->state == CONN_BOUND && c->account == a->number)
                all[count++] = (struct member){.serial = c->serial, .number = n, .link = (uint8_t)i};
        }
    }
    return count;
}

/* The newest connections end, as if the limit had been there when they came. */
static void thin_out(struct router *r, struct account *a) {
    struct member *all = malloc(a->conn_count * sizeof *all);
    if (!all) {
        log_error("account %u: no memory to bring its connections down to %u", a->number, limit_most(a->conns_max));
        return;
    }
    uint32_t count = members(r, a, all);
    qsort(all, count, sizeof *all, newest_first);
    for (uint32_t i = 0; i < count && account_is_crowded(a); i++)
        admit_kick(r, &r->link[all[i].link], all[i].number, RECORD_KICK_ACCOUNT_CONNS);
    free(all);
}

/* ---- the walk ---- */

static void finish(struct router *r) {
    for (uint32_t n = 0; n < r->account_high; n++) {
        struct account *a = r->account[n];
        if (!a)
            continue;
        a->changed = false;
        if (account_is_crowded(a))
            thin_out(r, a);
    }
    r->changes.active = false;
}

void changes_begin(struct router *r) {
    r->changes = (struct changes){.active = true};
}

bool changes_step(struct router *r) {
    struct changes *at = &r->changes;
    if (likely(!at->active))
        return false;
    uint64_t until = r->work + CHANGES_UNITS;
    for (; at->link < r->link_high; at->link++, at->conn = 0) {
        struct link *l = &r->link[at->link];
        for (; has_conns(l) && at->conn < l->conn_high; at->conn++, r->work += COST_CONN) {
            if (r->work >= until)
                return true;
            struct conn *c = link_conn(l, at->conn);
            const struct account *a = c && c->state == CONN_BOUND ? account_find(r, c->account) : NULL;
            if (a && a->changed)
                apply_to(r, l, at->conn, c, a);
        }
    }
    finish(r);
    return true;
}
