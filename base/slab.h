/* SPDX-License-Identifier: Apache-2.0 */
/* base/slab.h: many small pieces of known size, without headers.
 *
 * Sizes are rounded up to 8 bytes, up to SLAB_PIECE_MAX; larger ones come from malloc. The caller tells the size again
 * when it gives a piece back, so a piece costs nothing beside itself. Blocks are taken as needed and kept for reuse.
 * One slab belongs to one thread. In a sanitized build every piece comes from malloc, so that its misuse is seen.
 */
#ifndef BASE_SLAB_H
#define BASE_SLAB_H

#include <stddef.h>

enum { SLAB_PIECE_MAX = 256 };

struct slab {
    void *free[SLAB_PIECE_MAX / 8 + 1]; /* first free piece of each class */
    char *fresh;                        /* unused rest of the newest block */
    size_t fresh_len;
    void *blocks; /* the newest block; each block begins with a pointer to the next older one */
};

/* A zeroed struct slab is ready. Null when memory is short; size 0 gives a piece of 8 bytes. Aligned to 8 bytes. */
void *slab_take(struct slab *s, size_t size);
void slab_give(struct slab *s, void *piece, size_t size);

/* A piece of the new size with the old content, as far as it fits; the old piece is gone. Null when memory is short:
 * the old piece stays. Large pieces move without a copy where the C library can do it. */
void *slab_resize(struct slab *s, void *piece, size_t old_size, size_t new_size);

/* Returns all blocks; every piece must have been given back. The slab is ready again. */
void slab_free(struct slab *s);

#endif
