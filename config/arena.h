/* SPDX-License-Identifier: Apache-2.0 */
/* config/arena.h: the memory of one configuration.
 *
 * Everything that the reader makes lies in one arena and goes with it. It may hold passwords: what is given back is
 * wiped first. The reader is a process of its own with nobody to harm: when memory is short it ends with a message.
 * What a file can make it take is bounded where the file is read (config/parser.h), not here.
 */
#ifndef CONFIG_ARENA_H
#define CONFIG_ARENA_H

#include <stddef.h>

#include "base/view.h"

/* A zeroed struct arena is ready. */
struct arena {
    struct arena_block *newest;
};

/* Zeroed bytes, aligned for any type; never NULL. */
void *arena_take(struct arena *a, size_t size);

/* A copy with a NUL behind it. */
struct view arena_copy(struct arena *a, struct view bytes);

/* Room for more elements in an array of *cap elements of which count are used; the array may move. */
void *arena_grow(struct arena *a, void *array, size_t count, size_t *cap, size_t element_size);

void arena_free(struct arena *a);

#endif
