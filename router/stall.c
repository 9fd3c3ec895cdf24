/* SPDX-License-Identifier: Apache-2.0 */
/* Publishers of connections that do not read.
 *
 * An edge says GATE when a client's output fills. A connection that publishes to that client is told to STALL: its edge
 * stops reading it until RESUME, or until the time that the STALL names is over; then it may send one message, which stalls it again if it
 * goes to the same client. Only client connections are stalled.
 *
 * A connection sets the pace of its publishers as long as it takes something. A stall is as long as it has taken nothing, or a
 * quarter of the time for which it has been gated, between STALL_MIN_MS and RECORD_STALL_MS_MAX: so many publishers do not send it
 * more than it takes. When it has taken nothing for the write deadline and a second, its edge should have ended it, and no
 * publisher is stalled for its sake any more. An edge that lies can hold publishers as a slow reader can, and no better.
 * Publishers to a link whose overflow grows are stalled too, for at most half of any second unless that link is lively.
 *
 * A stalled connection is on one list, that of the connection or link that it is stalled for: so each event costs as much as it
 * has publishers. A new router forgets stalls, which end by themselves, and learns the gates from the replay.
 */
#include "router/router.h"

enum {
    STALL_MIN_MS = 100,
    STALL_WINDOW_MS = 1000, /* of the share */
    STALL_SHARE_MS = 500,
    HOLD_MORE_MS = 1000, /* beyond the write deadline */
    MS_NS = 1000000,
};

void stall_resume(struct router *r, struct list *stalled) {
    for (struct list_link *link; (link = list_pop(stalled)) != NULL;) {
        struct conn *c = list_entry(link, struct conn, stalled_by);
        if (c->state != CONN_BOUND || c->stalled_until <= r->now)
            continue;
        c->stalled_until = 0;
        egress_mark(r, &r->link[c->stalled_link], c->stalled_number, MARK_RESUME);
    }
}

/* ---- gates ---- */

void stall_gate(struct router *r, struct link *l, struct conn *c, bool on) {
    if (c->gated == on)
        return;
    c->gated = on;
    if (on) {
        l->gated_count++;
        c->gated_at = c->took_at = r->now;
    } else {
        l->gated_count--;
        stall_resume(r, &c->stalled);
    }
}

void stall_end(struct router *r, struct link *l, struct conn *c) {
    stall_gate(r, l, c, false);
    list_remove(&c->stalled_by);
}

/* ---- stalls ---- */

/* For so long, in ms, for the sake of a gated connection; 0: not at all. */
static uint64_t time_for_conn(const struct router *r, const struct conn *by) {
    uint64_t nothing_ms = (r->now - by->took_at) / MS_NS;
    if (nothing_ms > (uint64_t)r->settings.write_deadline_ms + HOLD_MORE_MS)
        return 0;
    uint64_t gated_ms = (r->now - by->gated_at) / MS_NS;
    uint64_t ms = nothing_ms > gated_ms / 4 ? nothing_ms : gated_ms / 4;
    return ms < STALL_MIN_MS ? STALL_MIN_MS : ms > RECORD_STALL_MS_MAX ? RECORD_STALL_MS_MAX : ms;
}

/* The same for the sake of a link that spills. */
static uint64_t time_for_link(const struct router *r, const struct link *by, struct conn *c) {
    if (r->now - c->stall_window > (uint64_t)STALL_WINDOW_MS * MS_NS) {
        c->stall_window = r->now;
        c->stall_used = 0;
    }
    if (c->stall_used >= STALL_SHARE_MS && !by->lively)
        return 0;
    c->stall_used += STALL_MIN_MS;
    return STALL_MIN_MS;
}

void stall_publisher(struct router *r, struct link *l, struct conn *c, uint32_t number, uint8_t by_link,
                     uint32_t by_conn) {
    if (l->kind != LINK_FRONTEND || c->stalled_until > r->now || c->state != CONN_BOUND)
        return;
    struct link *by = &r->link[by_link];
    struct conn *gated = by_conn == STALL_FOR_LINK ? NULL : link_conn(by, by_conn);
    uint64_t ms = gated ? time_for_conn(r, gated) : time_for_link(r, by, c);
    if (ms == 0)
        return;
    list_remove(&c->stalled_by);
    list_add(gated ? &gated->stalled : &by->stalled, &c->stalled_by);
    c->stalled_link = l->number;
    c->stalled_number = number;
    c->stalled_until = r->now + ms * MS_NS;
    counter_add(r->counters, COUNTER_STALLS, 1);
    egress_mark(r, l, number, MARK_STALL);
}

uint32_t stall_ms(const struct router *r, const struct conn *c) {
    return c->stalled_until > r->now ? (uint32_t)((c->stalled_until - r->now + MS_NS - 1) / MS_NS) : 1;
}
