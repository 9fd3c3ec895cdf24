/* SPDX-License-Identifier: Apache-2.0 */
/* shm/ring.h: a ring of records between exactly two processes.
 *
 * Two pieces of memory, each with one writer (docs/protocol.md, section 1):
 *
 *   data side, written by the producer        credit side, written by the consumer
 *   +--------------+----------------------+   +--------------+
 *   | struct       | record area, mapped  |   | struct       |
 *   | ring_data    | twice back to back   |   | ring_credit  |
 *   +--------------+----------------------+   +--------------+
 *
 * Positions are byte counts that only grow; records start at multiples of 8 and are contiguous thanks to the second mapping.
 * The producer fills records privately and makes them visible with one ordered store (ring_publish); the consumer frees room
 * with another (ring_release). Neither side believes the other: each position that is read from the other side is checked,
 * and a bad position ends the link (ERR_HOSTILE). What the records hold is checked by their reader (shm/record.h).
 *
 * Bells: a side that wants to sleep writes a new sleep number into its own page, fences, looks once more, sleeps. The other
 * side publishes, fences, and rings once for each sleep number that it has not rung for. So a bell costs one system call
 * per sleep, and none while both are awake.
 */
#ifndef SHM_RING_H
#define SHM_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/err.h"

enum { RING_PAGE = 4096, RING_ALIGN = 8 };

/* First page of the data side. Written by the producer alone. */
struct ring_data {
    /* All records below may be read. */
    _Alignas(64) _Atomic uint64_t produced_pos;
    /* Where produced_pos will be when all records have come that the producer keeps in an overflow; not above produced_pos:
     * it keeps none. */
    _Atomic uint64_t owed_pos;
    /* Number of the producer's last sleep for room; 0: it never slept. */
    _Alignas(64) _Atomic uint64_t room_no;
};

/* The one page of the credit side. Written by the consumer alone. */
struct ring_credit {
    /* The area below may be overwritten. */
    _Alignas(64) _Atomic uint64_t consumed_pos;
    /* Price of the records below consumed_pos since this consumer began, in units (router/cost.h). */
    _Atomic uint64_t work;
    /* Number of the consumer's last sleep for a record; 0: it never slept. */
    _Alignas(64) _Atomic uint64_t sleep_no;
};

/* The mappings of one ring in one process. */
struct ring_map {
    void *data;   /* RING_PAGE, area, area again */
    void *credit; /* RING_PAGE */
    uint64_t cap; /* bytes of the area */
};

/* Bytes of a data memory with a record area of cap bytes (a multiple of the page). */
static inline size_t ring_data_bytes(uint64_t cap) {
    return RING_PAGE + (size_t)cap;
}

/* Maps both sides; the area's size follows from the size of data_fd. The producer needs a writable data_fd, the consumer a
 * writable credit_fd; the other side's memory is mapped read-only. Descriptors stay the caller's. */
enum err ring_map(struct ring_map *map, int data_fd, int credit_fd, bool producer);
void ring_unmap(struct ring_map *map);

struct ring_writer {
    struct ring_data *data;
    const struct ring_credit *credit;
    uint8_t *area;
    uint64_t cap;
    uint64_t head_pos;     /* where the next record begins; not visible yet beyond produced_pos */
    uint64_t head_off;     /* the same inside the area */
    uint64_t produced_pos; /* all below was published */
    uint64_t consumed_pos; /* the consumer's, as it was loaded last */
    uint64_t rung_no;      /* the consumer's sleep that was last rung for */
    bool broken;           /* the consumer broke a rule */
};

struct ring_reader {
    const struct ring_data *data;
    struct ring_credit *credit;
    const uint8_t *area;
    uint64_t cap;
    uint64_t tail_pos;     /* next record to read */
    uint64_t tail_off;     /* the same inside the area */
    uint64_t produced_pos; /* the producer's, as it was loaded last */
    uint64_t consumed_pos; /* all below was released */
    uint64_t rung_no;      /* the producer's sleep that was last rung for */
    bool broken;           /* the producer broke a rule */
};

/* Writer and reader go on at the positions that the memory holds. ERR_HOSTILE if those positions break a rule. */
enum err ring_writer_open(struct ring_writer *w, const struct ring_map *map);
enum err ring_reader_open(struct ring_reader *r, const struct ring_map *map);

/* ---- producer ---- */

/* Loads the consumer's position; false (and broken) if it ran backwards or ahead of what was published. */
bool ring_writer_refresh(struct ring_writer *w);

static inline uint64_t ring_round(uint64_t len) {
    return (len + (RING_ALIGN - 1)) & ~(uint64_t)(RING_ALIGN - 1);
}

/* Bytes that can be claimed, by the last look at the other side. */
static inline uint64_t ring_room(const struct ring_writer *w) {
    return w->cap - (w->head_pos - w->consumed_pos);
}

/* True if len bytes and `spare` beyond them are free; looks at the other side only when the last look does not suffice. */
static inline bool ring_has_room(struct ring_writer *w, uint64_t len, uint64_t spare) {
    if (likely(ring_room(w) >= len + spare))
        return true;
    return ring_writer_refresh(w) && ring_room(w) >= len + spare;
}

enum { RING_AHEAD = 512 }; /* bytes that are fetched ahead: the lines come from the other side's cache */

/* Where the next record goes. The caller has made sure of the room, fills it and calls ring_advance. */
static inline uint8_t *ring_head(const struct ring_writer *w) {
    __builtin_prefetch(w->area + w->head_off + RING_AHEAD, 1);
    return w->area + w->head_off;
}

/* The record of len bytes at the head is complete (not yet visible). */
static inline void ring_advance(struct ring_writer *w, uint64_t len) {
    len = ring_round(len);
    w->head_pos += len;
    w->head_off += len;
    if (w->head_off >= w->cap)
        w->head_off -= w->cap;
}

/* Makes all complete records visible. */
static inline void ring_publish(struct ring_writer *w) {
    if (w->produced_pos != w->head_pos) {
        w->produced_pos = w->head_pos;
        atomic_store_explicit(&w->data->produced_pos, w->head_pos, memory_order_release);
    }
}

/* The producer keeps so many bytes for this ring in an overflow. To be called just before ring_publish. */
static inline void ring_owe(struct ring_writer *w, uint64_t kept) {
    atomic_store_explicit(&w->data->owed_pos, w->head_pos + kept, memory_order_release);
}

/* Price of the records below consumed_pos, in units (router/cost.h), as the consumer says. It is not checked: nothing follows
 * from it but how much is written at a time. */
static inline uint64_t ring_writer_work(const struct ring_writer *w) {
    return atomic_load_explicit(&w->credit->work, memory_order_relaxed);
}

/* After a publish and a full fence: true if the consumer sleeps and was not rung for yet; the caller then rings once. */
static inline bool ring_writer_must_ring(struct ring_writer *w) {
    uint64_t no = atomic_load_explicit(&w->credit->sleep_no, memory_order_relaxed);
    if (no == w->rung_no)
        return false;
    w->rung_no = no;
    return true;
}

/* The producer is about to sleep for room: writes a new number. The caller then fences, looks again, and sleeps. */
void ring_writer_sleeps(struct ring_writer *w);

/* ---- consumer ---- */

/* Loads the producer's position; false (and broken) if it ran backwards, beyond the capacity or off the alignment. */
bool ring_reader_refresh(struct ring_reader *r);

/* Bytes that can be read, by the last load of produced_pos. */
static inline uint64_t ring_ready(const struct ring_reader *r) {
    return r->produced_pos - r->tail_pos;
}

static inline const uint8_t *ring_tail(const struct ring_reader *r) {
    __builtin_prefetch(r->area + r->tail_off + RING_AHEAD);
    return r->area + r->tail_off;
}

/* The position at which the reader has read all that the producer had for this ring, its overflow included. It is not checked:
 * nothing follows from it but when the reader says that it has read all. */
static inline uint64_t ring_reader_owed(const struct ring_reader *r) {
    return atomic_load_explicit(&r->data->owed_pos, memory_order_acquire);
}

/* Goes on behind a record of len bytes; len was checked against ring_ready. */
static inline void ring_skip(struct ring_reader *r, uint64_t len) {
    len = ring_round(len);
    r->tail_pos += len;
    r->tail_off += len;
    if (r->tail_off >= r->cap)
        r->tail_off -= r->cap;
}

/* Gives the room of all records that were read back to the producer. */
static inline void ring_release(struct ring_reader *r) {
    if (r->consumed_pos != r->tail_pos) {
        r->consumed_pos = r->tail_pos;
        atomic_store_explicit(&r->credit->consumed_pos, r->tail_pos, memory_order_release);
    }
}

/* Stores the price of all records that were read, in units. To be called just before ring_release. */
static inline void ring_charge(struct ring_reader *r, uint64_t work) {
    atomic_store_explicit(&r->credit->work, work, memory_order_relaxed);
}

/* After a release and a full fence: true if the producer sleeps for room and was not rung for yet. */
static inline bool ring_reader_must_ring(struct ring_reader *r) {
    uint64_t no = atomic_load_explicit(&r->data->room_no, memory_order_relaxed);
    if (no == r->rung_no)
        return false;
    r->rung_no = no;
    return true;
}

/* The consumer is about to sleep: writes a new number. The caller then fences, looks again, and sleeps. */
void ring_reader_sleeps(struct ring_reader *r);

/* The fence that stands between a store that the other side must see and the look at the other side's page. */
static inline void ring_fence(void) {
    atomic_thread_fence(memory_order_seq_cst);
}

#endif
