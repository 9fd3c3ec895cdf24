/* SPDX-License-Identifier: Apache-2.0 */
/* The rings and bells of an edge; see link.h. */
#include "edge/link.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"

void edge_link_unsound(const char *what) {
    log_die("The router sent what it cannot send: %s; this process starts anew", what);
}

enum err edge_link_open(struct edge_link *l, const int fds[static EDGE_LINK_FDS]) {
    *l = (struct edge_link){.bell_out = fds[6], .bell_in = fds[7]};
    enum err e = ring_map(&l->ingress_map, fds[0], fds[1], true);
    if (e == ERR_OK)
        e = ring_map(&l->egress_map, fds[2], fds[3], false);
    if (e == ERR_OK)
        e = ring_map(&l->replay_map, fds[4], fds[5], true);
    for (int i = 0; i < 6; i++)
        close(fds[i]);
    if (e == ERR_OK)
        e = ring_writer_open(&l->ingress, &l->ingress_map);
    if (e == ERR_OK)
        e = ring_reader_open(&l->egress, &l->egress_map);
    if (e == ERR_OK)
        e = ring_writer_open(&l->replay, &l->replay_map);
    return e;
}

/* ---- writing ---- */

uint8_t *edge_link_claim(struct edge_link *l, uint64_t len) {
    if (likely(ring_has_room(&l->ingress, ring_round(len), 0)))
        return ring_head(&l->ingress);
    if (l->ingress.broken)
        edge_link_unsound("a position of the ingress ring that cannot be");
    l->ring_full = true;
    return NULL;
}

void edge_link_put(struct edge_link *l, struct edge_conn *c, uint64_t len) {
    ring_advance(&l->ingress, len);
    c->last_pos = l->ingress.head_pos;
}

bool edge_link_small(struct edge_link *l, struct edge_conn *c, enum record_type type, uint32_t aux) {
    uint8_t *at = edge_link_claim(l, RECORD_HEADER);
    if (!at)
        return false;
    struct record rec = {.len = RECORD_HEADER, .type = (uint8_t)type, .conn = c->number, .aux = aux};
    memcpy(at, &rec, sizeof rec);
    edge_link_put(l, c, RECORD_HEADER);
    return true;
}

void edge_link_publish(struct edge_link *l) {
    if (l->ingress.head_pos == l->ingress.produced_pos)
        return;
    ring_publish(&l->ingress);
    ring_fence();
    if (ring_writer_must_ring(&l->ingress))
        edge_link_ring(l);
}

void edge_link_room(struct edge_link *l) {
    if (l->ring_full && ring_writer_refresh(&l->ingress) && ring_room(&l->ingress) > l->ingress.cap / 4)
        l->ring_full = false;
}

/* ---- reading ---- */

void edge_link_look(struct edge_link *l) {
    if (!ring_writer_refresh(&l->ingress) || !ring_reader_refresh(&l->egress))
        edge_link_unsound("a position that cannot be");
    l->consumed_acted = l->ingress.consumed_pos;
    l->owed_pos = ring_reader_owed(&l->egress);
}

void edge_link_release(struct edge_link *l) {
    ring_release(&l->egress);
    ring_fence();
    if (ring_reader_must_ring(&l->egress))
        edge_link_ring(l);
}

/* ---- bells ---- */

void edge_link_ring(struct edge_link *l) {
    char bell = 1;
    if (write(l->bell_out, &bell, 1) < 0 && errno != EAGAIN && errno != EPIPE)
        log_debug("The router's doorbell does not take a ring");
}

void edge_link_sleeps(struct edge_link *l, bool writes, bool replays) {
    ring_reader_sleeps(&l->egress);
    if (writes)
        ring_writer_sleeps(&l->ingress);
    if (replays)
        ring_writer_sleeps(&l->replay);
    ring_fence();
}
