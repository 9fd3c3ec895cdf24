/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/links.h"

#include <fcntl.h>
#include <unistd.h>

#include "shm/commit.h"
#include "shm/memfd.h"
#include "shm/record.h"
#include "shm/ring.h"

static const struct link_memory none = {
    .ingress_data = {-1, -1},
    .egress_credit = {-1, -1},
    .replay_data = {-1, -1},
    .ingress_credit = {-1, -1},
    .egress_data = {-1, -1},
    .replay_credit = {-1, -1},
    .spill = -1,
    .soft = -1,
    .bell_to_router = {-1, -1},
    .bell_to_edge = {-1, -1},
};

static enum err piece_make(struct link_piece *p, const char *name, size_t bytes) {
    enum err e = memfd_make(&p->writable, name, bytes, 1);
    return e == ERR_OK ? memfd_reader(&p->reader, p->writable) : e;
}

static void close_fd(int *fd) {
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void piece_close(struct link_piece *p) {
    close_fd(&p->writable);
    close_fd(&p->reader);
}

void links_close(struct link_memory *m) {
    piece_close(&m->ingress_data);
    piece_close(&m->egress_credit);
    piece_close(&m->replay_data);
    piece_close(&m->ingress_credit);
    piece_close(&m->egress_data);
    piece_close(&m->replay_credit);
    close_fd(&m->spill);
    close_fd(&m->soft);
    for (int i = 0; i < 2; i++) {
        close_fd(&m->bell_to_router[i]);
        close_fd(&m->bell_to_edge[i]);
    }
}

/* Four records of the largest size, at least 2 MB, and what is asked for. */
static uint64_t ring_cap(uint32_t max_payload, uint32_t max_control_line, uint64_t asked) {
    uint64_t needed = 4 * record_bytes_max(max_payload, max_control_line);
    needed = needed > asked ? needed : asked;
    return memfd_round(needed > 2 << 20 ? needed : 2 << 20);
}

uint64_t links_mapped_bytes(uint32_t max_payload, uint32_t max_control_line, uint64_t ring_bytes_least,
                            uint64_t spill_bytes) {
    uint64_t twice = 2 * ring_cap(max_payload, max_control_line, ring_bytes_least) + LINK_REPLAY_BYTES + spill_bytes;
    return 2 * twice + sizeof(struct soft_link); /* each byte of a ring has two addresses */
}

enum err links_make(struct link_memory *m, uint32_t max_payload, uint32_t max_control_line, uint64_t ring_bytes_least,
                    uint64_t spill_bytes) {
    *m = none;
    uint64_t spill_least = record_spill_least(max_payload, max_control_line);
    spill_bytes = spill_bytes < spill_least ? spill_least : spill_bytes;
    size_t ring_bytes = ring_data_bytes(ring_cap(max_payload, max_control_line, ring_bytes_least));
    enum err e = piece_make(&m->ingress_data, "ingress", ring_bytes);
    if (e == ERR_OK)
        e = piece_make(&m->ingress_credit, "ingress credit", RING_PAGE);
    if (e == ERR_OK)
        e = piece_make(&m->egress_data, "egress", ring_bytes);
    if (e == ERR_OK)
        e = piece_make(&m->egress_credit, "egress credit", RING_PAGE);
    if (e == ERR_OK)
        e = piece_make(&m->replay_data, "replay", ring_data_bytes(LINK_REPLAY_BYTES));
    if (e == ERR_OK)
        e = piece_make(&m->replay_credit, "replay credit", RING_PAGE);
    if (e == ERR_OK)
        e = memfd_make(&m->spill, "overflow", memfd_round(spill_bytes), 0);
    if (e == ERR_OK)
        e = memfd_make(&m->soft, "soft state", sizeof(struct soft_link), 0);
    if (e == ERR_OK &&
        (pipe2(m->bell_to_router, O_CLOEXEC | O_NONBLOCK) != 0 || pipe2(m->bell_to_edge, O_CLOEXEC | O_NONBLOCK) != 0))
        e = ERR_SYSTEM;
    if (e != ERR_OK)
        links_close(m);
    return e;
}

void links_edge_fds(const struct link_memory *m, int fds[static LINK_EDGE_FDS]) {
    const int order[LINK_EDGE_FDS] = {
        m->ingress_data.writable, m->ingress_credit.reader, m->egress_data.reader, m->egress_credit.writable,
        m->replay_data.writable,  m->replay_credit.reader,  m->bell_to_router[1],  m->bell_to_edge[0],
    };
    for (int i = 0; i < LINK_EDGE_FDS; i++)
        fds[i] = order[i];
}

void links_router_fds(const struct link_memory *m, int fds[static LINK_ROUTER_FDS]) {
    const int order[LINK_ROUTER_FDS] = {
        m->ingress_data.reader,
        m->ingress_credit.writable,
        m->egress_data.writable,
        m->egress_credit.reader,
        m->replay_data.reader,
        m->replay_credit.writable,
        m->spill,
        m->soft,
        m->bell_to_router[0],
        m->bell_to_edge[1],
    };
    for (int i = 0; i < LINK_ROUTER_FDS; i++)
        fds[i] = order[i];
}

enum err links_seal_edge(struct link_memory *m) {
    struct link_piece *const pieces[] = {&m->ingress_data, &m->egress_credit, &m->replay_data};
    for (int i = 0; i < 3; i++) {
        if (memfd_seal_writer(pieces[i]->writable) != ERR_OK)
            return ERR_SYSTEM;
        close_fd(&pieces[i]->writable);
    }
    return ERR_OK;
}
