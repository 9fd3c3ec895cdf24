/* SPDX-License-Identifier: Apache-2.0 */
/* One directory of chunks; in each chunk pieces of one size, with a free list through the pieces. A chunk that has room
 * is in the list of its size; a full one is in no list; an empty one is gone at once.
 *
 *   open[5] -> chunk 7 <-> chunk 3        chunk 3: | piece | free | piece | piece | fresh … |
 */
#include "base/pool.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum {
    NO_UNIT = POOL_CHUNK_UNITS,
    CHUNK_SHIFT_MAX = 7, /* chunks of one size have 64, 128, … 8192 units */
    CHUNK_COUNT_MAX = 1 << (POOL_REF_BITS - POOL_CHUNK_BITS)
};

static bool has_room(const struct pool_chunk *c) {
    return c->free_first != NO_UNIT || c->fresh + c->piece_units <= c->unit_count;
}

static void open_link(struct pool *p, uint32_t number) {
    struct pool_chunk *c = &p->chunks[number];
    c->prev = 0;
    c->next = p->open[c->piece_units];
    if (c->next != 0)
        p->chunks[c->next].prev = number;
    p->open[c->piece_units] = number;
}

static void open_unlink(struct pool *p, uint32_t number) {
    struct pool_chunk *c = &p->chunks[number];
    if (c->prev != 0)
        p->chunks[c->prev].next = c->next;
    else
        p->open[c->piece_units] = c->next;
    if (c->next != 0)
        p->chunks[c->next].prev = c->prev;
}

static bool directory_grow(struct pool *p) {
    uint32_t cap = p->chunk_cap == 0 ? 4 : p->chunk_cap * 2;
    char **bases = realloc(p->bases, cap * sizeof *bases);
    if (bases == NULL)
        return false;
    p->bases = bases;
    struct pool_chunk *chunks = realloc(p->chunks, cap * sizeof *chunks);
    if (chunks == NULL)
        return false;
    if (p->chunk_cap == 0)
        p->chunk_count = 1;
    p->bytes += (cap - p->chunk_cap) * (sizeof *chunks + sizeof *bases);
    p->chunks = chunks;
    p->chunk_cap = cap;
    return true;
}

/* Adds a chunk for pieces of so many units to the list of those with room. */
static bool chunk_new(struct pool *p, uint32_t piece_units) {
    bool reuse = p->unused_first != 0;
    if (!reuse && p->chunk_count == p->chunk_cap && (p->chunk_cap >= CHUNK_COUNT_MAX || !directory_grow(p)))
        return false;
    uint32_t shift = p->chunks_of[piece_units] < CHUNK_SHIFT_MAX ? p->chunks_of[piece_units] : CHUNK_SHIFT_MAX;
    uint32_t unit_count = (uint32_t)POOL_CHUNK_UNITS >> (CHUNK_SHIFT_MAX - shift);
    char *base = malloc((size_t)unit_count * POOL_UNIT);
    if (base == NULL)
        return false;
    uint32_t number = reuse ? p->unused_first : p->chunk_count++;
    if (reuse)
        p->unused_first = p->chunks[number].next;
    p->chunks[number] = (struct pool_chunk){
        .piece_units = (uint16_t)piece_units, .unit_count = (uint16_t)unit_count, .free_first = NO_UNIT};
    p->bases[number] = base;
    p->chunks_of[piece_units]++;
    p->live_chunks++;
    p->bytes += (size_t)unit_count * POOL_UNIT;
    open_link(p, number);
    return true;
}

/* The chunk is empty and in no list. */
static void chunk_drop(struct pool *p, uint32_t number) {
    struct pool_chunk *c = &p->chunks[number];
    free(p->bases[number]);
    p->bases[number] = NULL;
    p->bytes -= (size_t)c->unit_count * POOL_UNIT;
    p->chunks_of[c->piece_units]--;
    p->live_chunks--;
    *c = (struct pool_chunk){.next = p->unused_first};
    p->unused_first = number;
    if (p->live_chunks == 0)
        pool_free(p);
}

void *pool_take(struct pool *p, size_t size, uint32_t *ref) {
    check(size > 0 && size <= POOL_PIECE_MAX);
    uint32_t piece_units = (uint32_t)((size + POOL_UNIT - 1) / POOL_UNIT);
    if (p->open[piece_units] == 0 && !chunk_new(p, piece_units))
        return NULL;
    uint32_t number = p->open[piece_units];
    struct pool_chunk *c = &p->chunks[number];
    uint32_t unit = c->free_first;
    char *piece;
    if (unit != NO_UNIT) {
        piece = p->bases[number] + (size_t)unit * POOL_UNIT;
        memcpy(&c->free_first, piece, sizeof c->free_first);
    } else {
        unit = c->fresh;
        piece = p->bases[number] + (size_t)unit * POOL_UNIT;
        c->fresh = (uint16_t)(c->fresh + piece_units);
    }
    c->live++;
    p->used += (size_t)piece_units * POOL_UNIT;
    if (!has_room(c))
        open_unlink(p, number);
    *ref = number << POOL_CHUNK_BITS | unit;
    return piece;
}

void pool_give(struct pool *p, uint32_t ref) {
    uint32_t number = ref >> POOL_CHUNK_BITS;
    check(number > 0 && number < p->chunk_count);
    struct pool_chunk *c = &p->chunks[number];
    check(c->live > 0);
    bool was_full = !has_room(c);
    memcpy(pool_at(p, ref), &c->free_first, sizeof c->free_first);
    c->free_first = (uint16_t)(ref & (POOL_CHUNK_UNITS - 1));
    c->live--;
    p->used -= (size_t)c->piece_units * POOL_UNIT;
    if (c->live == 0) {
        if (!was_full)
            open_unlink(p, number);
        chunk_drop(p, number);
    } else if (was_full) {
        open_link(p, number);
    }
}

void pool_free(struct pool *p) {
    for (uint32_t i = 1; i < p->chunk_count; i++)
        free(p->bases[i]);
    free(p->bases);
    free(p->chunks);
    *p = (struct pool){0};
}
