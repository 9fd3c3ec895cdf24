/* SPDX-License-Identifier: Apache-2.0 */
/* Blocks in a chain, the newest first; a piece is cut from the newest or gets a block of its own. */
#include "config/arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "base/wipe.h"

enum { BLOCK_BYTES = 16384, ALIGNMENT = alignof(max_align_t) };

struct arena_block {
    struct arena_block *older;
    size_t used, cap;
    alignas(ALIGNMENT) char bytes[];
};

static struct arena_block *block_make(size_t cap) {
    struct arena_block *b = calloc(1, sizeof *b + cap);
    if (!b)
        log_die("No memory for the configuration");
    b->cap = cap;
    return b;
}

void *arena_take(struct arena *a, size_t size) {
    check(size < SIZE_MAX / 2);
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    struct arena_block *b = a->newest;
    if (!b || b->cap - b->used < size) {
        b = block_make(size > BLOCK_BYTES ? size : BLOCK_BYTES);
        b->older = a->newest;
        a->newest = b;
    }
    void *piece = b->bytes + b->used;
    b->used += size;
    return piece;
}

struct view arena_copy(struct arena *a, struct view bytes) {
    char *copy = arena_take(a, bytes.len + 1);
    if (bytes.len)
        memcpy(copy, bytes.at, bytes.len);
    return view_of(copy, bytes.len);
}

void *arena_grow(struct arena *a, void *array, size_t count, size_t *cap, size_t element_size) {
    if (count < *cap)
        return array;
    *cap = *cap ? *cap * 2 : 4;
    void *larger = arena_take(a, *cap * element_size);
    if (count)
        memcpy(larger, array, count * element_size);
    return larger;
}

void arena_free(struct arena *a) {
    while (a->newest) {
        struct arena_block *b = a->newest;
        a->newest = b->older;
        wipe(b->bytes, b->used);
        free(b);
    }
}
