/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the ring that are not inline: mapping, and the checked looks at the other side.
 *
 * The record area is mapped twice, one copy behind the other, so that a record that crosses the end of the area is still
 * contiguous for both sides. The capacity need not be a power of two: offsets are carried along, never computed from a
 * position except at the opening.
 */
#include "shm/ring.h"

#include <sys/mman.h>

#include "shm/memfd.h"

enum err ring_map(struct ring_map *map, int data_fd, int credit_fd, bool producer) {
    size_t data_bytes, credit_bytes;
    enum err e = memfd_size(data_fd, &data_bytes);
    if (e == ERR_OK)
        e = memfd_size(credit_fd, &credit_bytes);
    if (e != ERR_OK)
        return e;
    if (data_bytes <= RING_PAGE || data_bytes % RING_PAGE != 0 || credit_bytes != RING_PAGE)
        return ERR_HOSTILE;
    size_t cap = data_bytes - RING_PAGE;
    int prot = producer ? PROT_READ | PROT_WRITE : PROT_READ;
    char *base = mmap(NULL, RING_PAGE + 2 * cap, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        return memfd_map_error();
    if (mmap(base, data_bytes, prot, MAP_SHARED | MAP_FIXED, data_fd, 0) == MAP_FAILED ||
        mmap(base + data_bytes, cap, prot, MAP_SHARED | MAP_FIXED, data_fd, RING_PAGE) == MAP_FAILED) {
        e = memfd_map_error();
        munmap(base, RING_PAGE + 2 * cap);
        return e;
    }
    void *credit;
    e = memfd_map(&credit, credit_fd, RING_PAGE, !producer);
    if (e != ERR_OK) {
        munmap(base, RING_PAGE + 2 * cap);
        return e;
    }
    *map = (struct ring_map){base, credit, cap};
    return ERR_OK;
}

void ring_unmap(struct ring_map *map) {
    if (map->data) {
        munmap(map->data, RING_PAGE + 2 * map->cap);
        munmap(map->credit, RING_PAGE);
    }
    *map = (struct ring_map){0};
}

enum err ring_writer_open(struct ring_writer *w, const struct ring_map *map) {
    struct ring_data *data = map->data;
    const struct ring_credit *credit = map->credit;
    uint64_t produced = atomic_load_explicit(&data->produced_pos, memory_order_acquire);
    uint64_t consumed = atomic_load_explicit(&credit->consumed_pos, memory_order_acquire);
    if (produced - consumed > map->cap || produced % RING_ALIGN != 0 || consumed % RING_ALIGN != 0)
        return ERR_HOSTILE;
    *w = (struct ring_writer){
        .data = data,
        .credit = credit,
        .area = (uint8_t *)map->data + RING_PAGE,
        .cap = map->cap,
        .head_pos = produced,
        .head_off = produced % map->cap,
        .produced_pos = produced,
        .consumed_pos = consumed,
    };
    return ERR_OK;
}

enum err ring_reader_open(struct ring_reader *r, const struct ring_map *map) {
    const struct ring_data *data = map->data;
    struct ring_credit *credit = map->credit;
    uint64_t produced = atomic_load_explicit(&data->produced_pos, memory_order_acquire);
    uint64_t consumed = atomic_load_explicit(&credit->consumed_pos, memory_order_acquire);
    if (produced - consumed > map->cap || produced % RING_ALIGN != 0 || consumed % RING_ALIGN != 0)
        return ERR_HOSTILE;
    *r = (struct ring_reader){
        .data = data,
        .credit = credit,
        .area = (const uint8_t *)map->data + RING_PAGE,
        .cap = map->cap,
        .tail_pos = consumed,
        .tail_off = consumed % map->cap,
        .produced_pos = produced,
        .consumed_pos = consumed,
    };
    return ERR_OK;
}

bool ring_writer_refresh(struct ring_writer *w) {
    uint64_t consumed = atomic_load_explicit(&w->credit->consumed_pos, memory_order_acquire);
    /* Between what it gave back before and what it has been shown; and on a record's border. */
    if (consumed - w->consumed_pos > w->produced_pos - w->consumed_pos || consumed % RING_ALIGN != 0) {
        w->broken = true;
        return false;
    }
    w->consumed_pos = consumed;
    return true;
}

bool ring_reader_refresh(struct ring_reader *r) {
    uint64_t produced = atomic_load_explicit(&r->data->produced_pos, memory_order_acquire);
    if (produced - r->consumed_pos > r->cap || produced - r->consumed_pos < r->produced_pos - r->consumed_pos ||
        produced % RING_ALIGN != 0) {
        r->broken = true;
        return false;
    }
    r->produced_pos = produced;
    return true;
}

void ring_writer_sleeps(struct ring_writer *w) {
    uint64_t no = atomic_load_explicit(&w->data->room_no, memory_order_relaxed);
    atomic_store_explicit(&w->data->room_no, no + 1, memory_order_relaxed);
}

void ring_reader_sleeps(struct ring_reader *r) {
    uint64_t no = atomic_load_explicit(&r->credit->sleep_no, memory_order_relaxed);
    atomic_store_explicit(&r->credit->sleep_no, no + 1, memory_order_relaxed);
}
