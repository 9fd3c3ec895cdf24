/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/links.h: the memory of one link between an edge and the router.
 *
 *              edge writes          router writes
 *   ingress    data                 credit
 *   egress     credit               data
 *   replay     data                 credit
 *   other                           overflow, soft state
 *   bells      to the router        from the router
 *
 * What the edge writes is sealed once it has mapped it; the supervisor then keeps descriptors for reading only. What
 * the router writes outlives it, so the supervisor keeps the writable descriptors for the next router.
 */
#ifndef SUPERVISOR_LINKS_H
#define SUPERVISOR_LINKS_H

#include <stdint.h>

#include "base/err.h"

enum { LINK_REPLAY_BYTES = 1 << 20, LINK_EDGE_FDS = 8, LINK_ROUTER_FDS = 10 };

/* One memory: -1 where there is no descriptor. */
struct link_piece {
    int writable;
    int reader;
};

struct link_memory {
    struct link_piece ingress_data, egress_credit, replay_data;   /* written by the edge */
    struct link_piece ingress_credit, egress_data, replay_credit; /* written by the router */
    int spill, soft;                                              /* the router's alone */
    int bell_to_router[2], bell_to_edge[2];                       /* read end, write end */
};

/* Makes everything for messages of that size, with rings of ring_bytes at least. ERR_SYSTEM: nothing is left over. */
enum err links_make(struct link_memory *m, uint32_t max_payload, uint32_t max_control_line, uint64_t ring_bytes,
                    uint64_t spill_bytes);

/* Bytes of addresses that the router, which maps more of it than the edge, maps for such a link. */
uint64_t links_mapped_bytes(uint32_t max_payload, uint32_t max_control_line, uint64_t ring_bytes, uint64_t spill_bytes);

/* The descriptors in the order of ipc/control.proto; they stay links'. */
void links_edge_fds(const struct link_memory *m, int fds[static LINK_EDGE_FDS]);
void links_router_fds(const struct link_memory *m, int fds[static LINK_ROUTER_FDS]);

/* The edge has mapped: seals what it writes and gives up the writable descriptors. */
enum err links_seal_edge(struct link_memory *m);

/* Closes everything. */
void links_close(struct link_memory *m);

#endif
