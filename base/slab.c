/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of one size class form a free list through their own first word; what was never used yet is cut from the
 * newest block. The rest of a block that is too short for a request joins the free list of its own size, so nothing is
 * lost.
 *
 *   block: | previous block | piece | piece | free ->| piece | fresh …            |
 *
 * It never searches, never merges and never looks at a piece that is in use.
 */
#include "base/slab.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 64 * 1024 - 64 }; /* with malloc's own header it stays below 64 KB */

#ifdef BULKHEAD_SANITIZED
static bool is_large(size_t size) {
    (void)size;
    return true;
}
#else
static bool is_large(size_t size) {
    return size > SLAB_PIECE_MAX;
}
#endif

static size_t class_of(size_t size) {
    return size == 0 ? 1 : (size + 7) / 8;
}

static void push(struct slab *s, void *piece, size_t class) {
    memcpy(piece, &s->free[class], sizeof(void *));
    s->free[class] = piece;
}

static bool add_block(struct slab *s) {
    char *block = malloc(BLOCK_BYTES);
    if (block == NULL)
        return false;
    if (s->fresh_len > 0)
        push(s, s->fresh, s->fresh_len / 8);
    memcpy(block, &s->blocks, sizeof(void *));
    s->blocks = block;
    s->fresh = block + sizeof(void *);
    s->fresh_len = BLOCK_BYTES - sizeof(void *);
    return true;
}

void *slab_take(struct slab *s, size_t size) {
    if (is_large(size))
        return malloc(size == 0 ? 8 : size);
    size_t class = class_of(size);
    void *piece = s->free[class];
    if (piece != NULL) {
        memcpy(&s->free[class], piece, sizeof(void *));
        return piece;
    }
    if (s->fresh_len < class * 8 && !add_block(s))
        return NULL;
    piece = s->fresh;
    s->fresh += class * 8;
    s->fresh_len -= class * 8;
    return piece;
}

void slab_give(struct slab *s, void *piece, size_t size) {
    if (is_large(size))
        free(piece);
    else if (piece != NULL)
        push(s, piece, class_of(size));
}

void *slab_resize(struct slab *s, void *piece, size_t old_size, size_t new_size) {
    if (is_large(old_size) && is_large(new_size))
        return realloc(piece, new_size == 0 ? 8 : new_size);
    if (!is_large(old_size) && !is_large(new_size) && class_of(old_size) == class_of(new_size))
        return piece;
    void *moved = slab_take(s, new_size);
    if (moved == NULL)
        return NULL;
    memcpy(moved, piece, old_size < new_size ? old_size : new_size);
    slab_give(s, piece, old_size);
    return moved;
}

void slab_free(struct slab *s) {
    while (s->blocks != NULL) {
        void *block = s->blocks;
        memcpy(&s->blocks, block, sizeof(void *));
        free(block);
    }
    memset(s, 0, sizeof *s);
}
