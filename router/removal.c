/* SPDX-License-Identifier: Apache-2.0 */
/* Subscriptions of connections and links that have ended are taken away here, with one budget a turn.
 *
 *   link: leaving_first -> connection -> connection -> leaving_last      kicked or closing, with subscriptions left
 *   link: end_conn                                                       ending: all of its connections, one after the other
 *
 * The lists go through the connections themselves, so nothing can fail. A connection with few subscriptions is done with at once.
 */
#include "base/check.h"
#include "router/cost.h"
#include "router/router.h"

enum { REMOVE_AT_ONCE = 16 };

/* True if none is left. */
static bool remove_subs(struct router *r, struct link *l, struct conn *c, uint64_t until) {
    while (c->first_sub && r->work < until)
        interest_drop(r, l, c, c->first_sub);
    return c->first_sub == 0;
}

static void removed(struct router *r, struct link *l, uint32_t number, const struct conn *c) {
    if (c->state == CONN_CLOSING)
        egress_mark(r, l, number, MARK_FREE);
}

void removal_queue(struct router *r, struct link *l, uint32_t number, struct conn *c) {
    if (c->leaving)
        return;
    c->leaving = true;
    c->leaving_next = 0;
    if (l->leaving_last)
        link_conn(l, l->leaving_last - 1)->leaving_next = number + 1;
    else
        l->leaving_first = number + 1;
    l->leaving_last = number + 1;
    r->leaving_count++;
    router_wary(r, WARY_DEAD, true);
}

void removal_add(struct router *r, struct link *l, uint32_t number, struct conn *c) {
    if (c->leaving || c->sub_count > REMOVE_AT_ONCE) {
        removal_queue(r, l, number, c);
        return;
    }
    remove_subs(r, l, c, UINT64_MAX);
    removed(r, l, number, c);
}

static void leave_list(struct router *r, struct link *l, struct conn *c) {
    l->leaving_first = c->leaving_next;
    if (!l->leaving_first)
        l->leaving_last = 0;
    c->leaving = false;
    r->leaving_count--;
}

static void remove_of_conns(struct router *r, struct link *l, uint64_t until) {
    while (l->leaving_first && r->work < until) {
        uint32_t number = l->leaving_first - 1;
        struct conn *c = link_conn(l, number);
        if (!remove_subs(r, l, c, until))
            return;
        leave_list(r, l, c);
        removed(r, l, number, c);
    }
}

bool link_is_clear(const struct link *l) {
    return l->end_conn >= l->conn_high;
}

static void remove_of_link(struct router *r, struct link *l, uint64_t until) {
    while (l->leaving_first)
        leave_list(r, l, link_conn(l, l->leaving_first - 1));
    for (; !link_is_clear(l) && r->work < until; l->end_conn++, r->work += COST_CONN) {
        struct conn *c = link_conn(l, l->end_conn);
        if (!c || c->state == CONN_FREE)
            continue;
        if (!remove_subs(r, l, c, until))
            return;
        if (c->state != CONN_CLOSING) /* its CLOSE has counted already */
            admit_count(r, l, -1);
        stall_end(r, l, c);
        c->state = CONN_FREE;
    }
}

bool removal_waits(const struct router *r) {
    if (r->leaving_count != 0)
        return true;
    for (uint32_t i = 0; i < r->link_high; i++)
        if (r->link[i].state == LINK_ENDING && !link_is_clear(&r->link[i]))
            return true;
    return false;
}

bool removal_step(struct router *r) {
    if (!(r->wary & WARY_DEAD))
        return false;
    uint64_t begun = r->work, until = begun + REMOVAL_UNITS;
    bool ending = false;
    for (uint32_t i = 0; i < r->link_high && r->work < until; i++) {
        uint32_t n = r->turn_first + i;
        struct link *l = &r->link[n < r->link_high ? n : n - r->link_high];
        if (l->state == LINK_LIVE)
            remove_of_conns(r, l, until);
        else if (l->state == LINK_ENDING)
            remove_of_link(r, l, until);
    }
    for (uint32_t i = 0; i < r->link_high; i++)
        ending |= r->link[i].state == LINK_ENDING;
    router_wary(r, WARY_DEAD, ending || r->leaving_count != 0);
    return r->work != begun;
}
