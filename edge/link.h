/* SPDX-License-Identifier: Apache-2.0 */
/* edge/link.h: an edge's end of its link to the router.
 *
 * An edge writes records into the ingress ring and reads those of the egress ring; the replay ring carries its state to a new router
 * (edge/replay.h). A record is claimed, filled and put; edge_link_publish makes all that were put visible together. What the router has
 * done is looked at once a turn, by edge_link_look: the positions that it leaves in the struct belong together, and all that waits for
 * the router (journal, fences, windows) is held against them and not against a later look.
 *
 * The router is believed nothing: a position that cannot be ends the process, whose connections then come back to a new one.
 */
#ifndef EDGE_LINK_H
#define EDGE_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "shm/record.h"
#include "shm/ring.h"

enum { EDGE_LINK_FDS = 8 };

/* What a link knows of one of the edge's connections; part of the edge's own struct. */
struct edge_conn {
    uint32_t number;   /* on the link; EDGE_NO_NUMBER: the router does not know the connection */
    uint64_t last_pos; /* ingress position behind its last record; 0: none was put */
};
#define EDGE_NO_NUMBER UINT32_MAX

struct edge_link {
    int bell_out, bell_in; /* the router's doorbell; the edge's own, to be read when it is readable */
    struct ring_map ingress_map, egress_map, replay_map;
    struct ring_writer ingress, replay;
    struct ring_reader egress;
    uint64_t consumed_acted; /* ingress position that the router had consumed at the last edge_link_look */
    uint64_t owed_pos; /* egress position behind all that the router had for this edge then, its overflow included */
    bool ring_full;    /* a record found no room in the ingress ring; edge_link_room clears it */
};

/* Maps the memories. fds: in the order of the message Link (ipc/control.proto); the bells are kept, the others closed, also after
 * an error. */
enum err edge_link_open(struct edge_link *l, const int fds[static EDGE_LINK_FDS]);

/* Room for a record of len bytes, or null: the ring is full, and ring_full says so. Fill it, then edge_link_put. */
uint8_t *edge_link_claim(struct edge_link *l, uint64_t len);
void edge_link_put(struct edge_link *l, struct edge_conn *c, uint64_t len);
/* A record without texts; false: the ring is full. */
bool edge_link_small(struct edge_link *l, struct edge_conn *c, enum record_type type, uint32_t aux);
/* Makes all records that were put visible, and rings if the router sleeps. */
void edge_link_publish(struct edge_link *l);
/* A ring that was full takes records again once a quarter of it is free. */
void edge_link_room(struct edge_link *l);

/* Loads consumed, then produced, then owed. In this order: what a consumed record has caused lies below owed_pos. */
void edge_link_look(struct edge_link *l);
/* Records that were skipped (ring_skip) go back to the router; nothing may point into them any more. */
void edge_link_release(struct edge_link *l);

/* Wakes the router. */
void edge_link_ring(struct edge_link *l);
/* Before sleeping: the router is to ring for records, and, if writes or replays, when it has consumed some of those rings. The
 * caller looks for work once more afterwards. */
void edge_link_sleeps(struct edge_link *l, bool writes, bool replays);
/* The router does what no router does; `what` says it to the log. */
_Noreturn void edge_link_unsound(const char *what);

#endif
