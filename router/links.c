/* SPDX-License-Identifier: Apache-2.0 */
/* A link's memory and tables.
 *
 * Connection and slot tables are directories of chunks that come as they are used. A replay brings numbers in any order, so no
 * order is asked for; the memory that a hostile edge can make us allocate is bounded by the tables (64 MB of slots, 6 MB of connections).
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "router/router.h"
#include "shm/memfd.h"

struct conn *link_conn(struct link *l, uint32_t number) {
    if (unlikely(number >= l->conn_high || !l->conn_chunk[number / CHUNK]))
        return NULL;
    return &l->conn_chunk[number / CHUNK][number % CHUNK];
}

struct conn *link_conn_make(struct link *l, uint32_t number) {
    if (number >= SOFT_CONNS_MAX)
        return NULL;
    if (!l->conn_chunk[number / CHUNK]) {
        l->conn_chunk[number / CHUNK] = calloc(CHUNK, sizeof(struct conn));
        if (!l->conn_chunk[number / CHUNK])
            return NULL;
    }
    if (number >= l->conn_high)
        l->conn_high = (number / CHUNK + 1) * CHUNK;
    return link_conn(l, number);
}

uint32_t link_slot(const struct link *l, uint32_t slot) {
    if (unlikely(slot >= l->slot_high || !l->slot_chunk[slot / CHUNK]))
        return 0;
    return l->slot_chunk[slot / CHUNK][slot % CHUNK];
}

enum err link_slot_make(struct link *l, uint32_t slot) {
    if (slot >= SLOTS_MAX)
        return ERR_RANGE;
    uint32_t **chunk = &l->slot_chunk[slot / CHUNK];
    if (unlikely(!*chunk)) {
        *chunk = calloc(CHUNK, sizeof(uint32_t));
        if (!*chunk)
            return ERR_NOMEM;
        if (slot >= l->slot_high)
            l->slot_high = (slot / CHUNK + 1) * CHUNK;
    }
    return ERR_OK;
}

void link_slot_set(struct link *l, uint32_t slot, uint32_t sub) {
    l->slot_chunk[slot / CHUNK][slot % CHUNK] = sub;
}

/* ---- the pool of subscriptions ---- */

struct sub *router_sub(const struct router *r, uint32_t index) {
    return &r->sub_chunk[index / CHUNK][index % CHUNK];
}

uint32_t router_sub_take(struct router *r) {
    uint32_t index = r->sub_free;
    if (index) {
        r->sub_free = router_sub(r, index)->conn_next;
    } else {
        if (r->sub_high == 0)
            r->sub_high = 1; /* index 0 means none */
        uint32_t chunk = r->sub_high / CHUNK;
        if (chunk >= SLOT_CHUNKS_MAX)
            return 0;
        if (!r->sub_chunk[chunk] && !(r->sub_chunk[chunk] = calloc(CHUNK, sizeof(struct sub))))
            return 0;
        index = r->sub_high++;
    }
    r->sub_count++;
    struct sub *s = router_sub(r, index);
    *s = (struct sub){.stamp = ++r->stamp};
    return index;
}

void router_sub_give(struct router *r, uint32_t index) {
    struct sub *s = router_sub(r, index);
    s->stamp = 0;
    s->conn_next = r->sub_free;
    r->sub_free = index;
    r->sub_count--;
}

/* ---- memory ---- */

static enum err spill_map(struct spill *s, int fd) {
    size_t cap;
    enum err e = memfd_size(fd, &cap);
    if (e != ERR_OK)
        return e;
    uint8_t *area = mmap(NULL, 2 * cap, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED)
        return memfd_map_error();
    int prot = PROT_READ | PROT_WRITE;
    if (mmap(area, cap, prot, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED ||
        mmap(area + cap, cap, prot, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED)
        return memfd_map_error();
    *s = (struct spill){.area = area, .cap = cap};
    return ERR_OK;
}

/* The order of descriptors is that of the message Link in ipc/control.proto. All but the bells are closed. */
enum err link_map(struct router *r, uint32_t number, uint8_t kind, uint64_t incarnation, const int *fds) {
    struct link *l = &r->link[number];
    if (l->state != LINK_NONE)
        return ERR_STATE;
    *l = (struct link){.number = (uint8_t)number, .kind = kind, .incarnation = incarnation, .poison_pos = UINT64_MAX};
    list_init(&l->stalled);
    void *soft = NULL;
    enum err e = ring_map(&l->ingress_map, fds[0], fds[1], false);
    if (e == ERR_OK)
        e = ring_map(&l->egress_map, fds[2], fds[3], true);
    if (e == ERR_OK)
        e = ring_map(&l->replay_map, fds[4], fds[5], false);
    if (e == ERR_OK)
        e = spill_map(&l->spill, fds[6]);
    if (e == ERR_OK)
        e = memfd_map(&soft, fds[7], sizeof(struct soft_link), 1);
    for (int i = 0; i < 8; i++)
        close(fds[i]);
    l->bell_in = fds[8];
    l->bell_out = fds[9];
    if (e != ERR_OK)
        return e;
    l->soft = soft;
    l->slot_chunk = calloc(SLOT_CHUNKS_MAX, sizeof(uint32_t *)); /* large, so its pages come as they are touched */
    if (!l->slot_chunk)
        return ERR_NOMEM;
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 100 + number};
    if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, l->bell_in, &event) != 0)
        return ERR_SYSTEM;
    l->state = LINK_MAPPED;
    if (number >= r->link_high)
        r->link_high = number + 1;
    return ERR_OK;
}

enum err link_open(struct router *r, struct link *l) {
    enum err e = ring_reader_open(&l->ingress, &l->ingress_map);
    if (e == ERR_OK)
        e = ring_writer_open(&l->egress, &l->egress_map);
    if (e == ERR_OK)
        e = ring_reader_open(&l->replay, &l->replay_map);
    const struct commit_link *kept = &r->page->turn[r->commit_no & 1].link[l->number];
    if (kept->incarnation == l->incarnation) {
        l->spill.head_pos = kept->spill_produced;
        l->spill.tail_pos = kept->spill_consumed;
        l->resume = *kept;
        if (l->spill.head_pos != l->spill.tail_pos) {
            l->spilling = true;
            r->spilling_count++;
        }
    }
    return e;
}

void link_unmap(struct router *r, struct link *l) {
    epoll_ctl(r->epoll, EPOLL_CTL_DEL, l->bell_in, NULL);
    close(l->bell_in);
    close(l->bell_out);
    ring_unmap(&l->ingress_map);
    ring_unmap(&l->egress_map);
    ring_unmap(&l->replay_map);
    munmap(l->spill.area, 2 * l->spill.cap);
    munmap(l->soft, sizeof *l->soft);
    for (uint32_t i = 0; i < l->slot_high / CHUNK; i++)
        free(l->slot_chunk[i]);
    free(l->slot_chunk);
    for (uint32_t i = 0; i < CONN_CHUNKS_MAX; i++)
        free(l->conn_chunk[i]);
    free(l->marked);
    *l = (struct link){.number = l->number};
}

void link_fail(struct router *r, struct link *l, const char *why) {
    if (l->failed || l->state == LINK_ENDING || l->state == LINK_NONE)
        return;
    l->failed = why;
    r->failing = true;
}

void link_ring(struct link *l) {
    char bell = 1;
    /* A full pipe means that the other side has bells enough to wake up. */
    if (write(l->bell_out, &bell, 1) < 0 && errno != EAGAIN)
        log_debug("link %u: its doorbell is gone; its end will be reported by the supervisor", l->number);
}
