/* Publishers of connections that do not read.
 *
 * An edge says GATE on when a client's output fills. Whoever publishes to that client is told to STALL: its edge stops
 * reading it for 100 ms, or until RESUME. Only client connections are stalled. For the sake of one that does not drain a
 * publisher is stalled for at most half of any second; one that drains sets its publishers' pace for as long as it does. The same befalls those who publish to a link whose overflow grows: else a busy edge would be given more than it can
 * take until nothing is left but to end it. A new router forgets stalls, which end by themselves, and learns the gates from the replay.
 */
#include <stdlib.h>

#include "router/router.h"

enum { DRAINS_NS = 1000000000, STALL_NS = 100000000, STALL_MS = 100, STALL_WINDOW_NS = 1000000000, STALL_SHARE_MS = 500 };

void stall_resume(struct router *r, uint8_t by_link, uint32_t by_conn) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->stalled_count; i++) {
        struct stalled s = r->stalled[i];
        if (s.by_link != by_link || s.by_conn != by_conn) {
            r->stalled[kept++] = s;
            continue;
        }
        struct conn *c = link_conn(&r->link[s.link], s.conn);
        if (c && c->state == CONN_BOUND && c->stalled_until > r->now) {
            c->stalled_until = 0;
            egress_mark(r, &r->link[s.link], s.conn, MARK_RESUME);
        }
    }
    r->stalled_count = kept;
}

void stall_gate(struct router *r, struct link *l, struct conn *c, uint32_t number, bool on) {
    if (c->gated == on)
        return;
    c->gated = on;
    if (on) {
        l->gated_count++;
        return;
    }
    l->gated_count--;
    c->drained_at = r->now;
    stall_resume(r, l->number, number);
}

/* Drops those whose time is over, so that the list holds no more than what was stalled within 100 ms. */
static void forget_over(struct router *r) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->stalled_count; i++) {
        struct stalled s = r->stalled[i];
        struct conn *c = link_conn(&r->link[s.link], s.conn);
        if (c && c->stalled_until > r->now)
            r->stalled[kept++] = s;
    }
    r->stalled_count = kept;
}

/* True if whoever it is done for takes what it gets. */
static bool drains(struct router *r, uint8_t by_link, uint32_t by_conn) {
    struct link *l = &r->link[by_link];
    if (by_conn == STALL_FOR_LINK)
        return l->lively;
    const struct conn *c = link_conn(l, by_conn);
    return c && c->drained_at != 0 && r->now - c->drained_at < DRAINS_NS;
}

void stall_publisher(struct router *r, struct link *l, struct conn *c, uint32_t number, uint8_t by_link, uint32_t by_conn) {
    if (l->kind != LINK_FRONTEND || c->stalled_until > r->now || c->state != CONN_BOUND)
        return;
    if (r->now - c->stall_window > STALL_WINDOW_NS) {
        c->stall_window = r->now;
        c->stall_used = 0;
    }
    if (c->stall_used >= STALL_SHARE_MS && !drains(r, by_link, by_conn))
        return;
    if (r->stalled_count == r->stalled_cap) {
        forget_over(r);
        if (r->stalled_count == r->stalled_cap) {
            uint32_t cap = r->stalled_cap ? 2 * r->stalled_cap : 64;
            struct stalled *grown = realloc(r->stalled, cap * sizeof *grown);
            if (!grown)
                return;
            r->stalled = grown;
            r->stalled_cap = cap;
        }
    }
    r->stalled[r->stalled_count++] = (struct stalled){l->number, by_link, number, by_conn};
    c->stalled_until = r->now + STALL_NS;
    c->stall_used += STALL_MS;
    counter_add(r->counters, COUNTER_STALLS, 1);
    egress_mark(r, l, number, MARK_STALL);
}

void stall_forget(struct router *r, uint8_t link, uint32_t number) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < r->stalled_count; i++)
        if (r->stalled[i].link != link || r->stalled[i].conn != number)
            r->stalled[kept++] = r->stalled[i];
    r->stalled_count = kept;
}
