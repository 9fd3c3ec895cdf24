/* SPDX-License-Identifier: Apache-2.0 */
/* What this frontend tells a new router: every connection with a number, and its subscriptions; see edge/replay.h. */
#include "frontend/frontend.h"

/* True if a CLOSE of that connection has been written and consumed: nothing of it can follow. */
static bool close_consumed(const struct frontend *f, const struct client *c) {
    return (c->flags & CLIENT_CLOSE_TOLD) && c->edge.last_pos <= f->link.ingress.consumed_pos;
}

static void tell(struct frontend *f, const struct client *c) {
    struct edge_replay *r = &f->replay;
    if (!edge_replay_conn(r, &c->binding, c->edge.number, c->options, c->flags & CLIENT_GATE_TOLD))
        return;
    for (uint32_t slot = c->first_sub; slot;) {
        const struct fsub *s = sub_at(f, slot);
        edge_replay_sub(r, c->edge.number,
                        &(struct edge_replay_sub){slot - 1, s->delivered, s->max, sub_subject(f, s), sub_queue(f, s)});
        slot = s->conn_next;
    }
}

void replay_begin(struct frontend *f, uint32_t epoch) {
    edge_replay_begin(&f->replay, &f->link, f->counters, epoch);
    egress_run(f); /* drains what the dead router has left, and trims the journal to what it consumed */
    for (uint32_t n = 0; n < f->number_high; n++)
        if (f->by_number[n] && close_consumed(f, f->by_number[n]))
            ends_freed(f, f->by_number[n]);
    edge_replay_undo(&f->replay, &f->journal, f->number_high, f->sub_high);
    for (uint32_t n = 0; n < f->number_high; n++)
        if (f->by_number[n])
            tell(f, f->by_number[n]);
    edge_replay_end(&f->replay);
}
