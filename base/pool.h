/* SPDX-License-Identifier: Apache-2.0 */
/* base/pool.h: small pieces that are named by 32 bits.
 *
 * A reference is a chunk's number and a place in it, in units of 8 bytes. Pieces never move. A chunk holds pieces of
 * one size and goes back to the C library with its last piece; the first chunks of a size are small, for accounts with
 * little in them. Every operation is O(1) but for the directory of chunks, a thousandth of the pieces, which grows by
 * realloc.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include <stddef.h>
#include <stdint.h>

enum {
    POOL_UNIT = 8,
    POOL_PIECE_MAX = 256,
    POOL_CHUNK_BITS = 13, /* a reference's lower bits: the unit in the chunk */
    POOL_CHUNK_UNITS = 1 << POOL_CHUNK_BITS,
    POOL_REF_BITS = 31 /* the highest bit is the caller's */
};

struct pool_chunk {
    uint32_t next, prev; /* among the chunks of this size that have room; next also among unused entries */
    uint16_t piece_units;
    uint16_t unit_count;
    uint16_t fresh;      /* first unit of the rest that was never used */
    uint16_t free_first; /* unit of a given-back piece, which holds the unit of the next; POOL_CHUNK_UNITS: none */
    uint16_t live;       /* pieces in use */
};

/* Zeroed: empty, without memory. */
struct pool {
    char **bases;              /* of the chunks; null: the entry is unused. Apart from the rest, for pool_at */
    struct pool_chunk *chunks; /* entry 0 is unused, so that no reference is 0 */
    uint32_t chunk_count, chunk_cap;
    uint32_t live_chunks;
    uint32_t unused_first;                              /* a chunk number; 0: none */
    uint32_t open[POOL_PIECE_MAX / POOL_UNIT + 1];      /* by size: first chunk with room */
    uint32_t chunks_of[POOL_PIECE_MAX / POOL_UNIT + 1]; /* by size: how many there are */
    size_t bytes;                                       /* of all chunks and the directory */
    size_t used;                                        /* of the pieces in use */
};

/* size is 1 to POOL_PIECE_MAX. Null when memory is short. The piece is not zeroed. */
void *pool_take(struct pool *p, size_t size, uint32_t *ref);
void pool_give(struct pool *p, uint32_t ref);
void pool_free(struct pool *p);

static inline void *pool_at(const struct pool *p, uint32_t ref) {
    return p->bases[ref >> POOL_CHUNK_BITS] + (size_t)(ref & (POOL_CHUNK_UNITS - 1)) * POOL_UNIT;
}

#endif
