/* SPDX-License-Identifier: Apache-2.0 */
/* edge/replay.h: an edge's state as of `consumed`, for a new router.
 *
 * The rings live on, so a new router goes on exactly where the dead one had committed. It needs what was in force there: the edge's tables
 * as they are now, with the journal's records above `consumed` undone, newest first. Additions above it are left out, removals
 * above it are still in; the records themselves follow in the ingress ring as news.
 *
 *   edge_replay_begin     on the router's Replay; it hears of the edge at once
 *                         (now drain the egress ring, and free every connection whose CLOSE was consumed)
 *   edge_replay_undo      the journal must be trimmed to consumed_acted
 *   edge_replay_conn      for each connection; if true, edge_replay_sub for each of its subscriptions, newest first
 *   edge_replay_end
 *   edge_replay_write     once a turn, until edge_replay_pending is false
 *
 * From edge_replay_undo to edge_replay_end nothing that the replay tells may change, so this is one go; pieces that are ready go out
 * to the replay ring meanwhile, as far as there is room, and the heartbeat grows with each. No memory ends the process.
 */
#ifndef EDGE_REPLAY_H
#define EDGE_REPLAY_H

#include "base/view.h"
#include "edge/journal.h"
#include "edge/link.h"
#include "shm/binding.h"
#include "shm/counters.h"

/* Zeroed: no replay is under way. */
struct edge_replay {
    uint8_t *snapshot; /* records in the form of the ring; null: all is written */
    uint64_t len, at, cap;
    struct edge_undo undo; /* between edge_replay_undo and edge_replay_end */
    uint32_t epoch;
    struct edge_link *link;    /* the caller's */
    struct counters *counters; /* the caller's: the heartbeat */
};

/* A subscription as the edge has it now. */
struct edge_replay_sub {
    uint32_t slot, delivered, max; /* as in struct record_sub */
    struct view subject, queue;
};

/* A replay that is not written yet is dropped: the router that it was for is dead. */
void edge_replay_begin(struct edge_replay *r, struct edge_link *l, struct counters *counters, uint32_t epoch);
void edge_replay_undo(struct edge_replay *r, const struct edge_journal *j, uint32_t conn_count, uint32_t slot_count);
/* options and gated: as they are now. False: the router did not know of the connection at consumed, nor of any subscription of it. */
bool edge_replay_conn(struct edge_replay *r, const struct binding *b, uint32_t number, uint8_t options, bool gated);
void edge_replay_sub(struct edge_replay *r, uint32_t number, const struct edge_replay_sub *s);
void edge_replay_end(struct edge_replay *r);
/* Writes what the ring takes now. True if that was anything. */
bool edge_replay_write(struct edge_replay *r);
static inline bool edge_replay_pending(const struct edge_replay *r) {
    return r->snapshot != NULL;
}
void edge_replay_free(struct edge_replay *r); /* what was not written is dropped */

#endif
