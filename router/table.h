/* SPDX-License-Identifier: Apache-2.0 */
/* router/table.h: a flat hash from a 32-bit tag to references, 8 bytes a slot.
 *
 * The table knows no keys: it hands out every reference that was entered under a tag, and the caller compares. A tag is
 * the upper half of a good 64-bit hash; its upper bits are the slot, so nothing but the slots is read to move them.
 * Every insert, remove and table_step moves a few slots while the table changes its size; nothing moves all of them.
 */
#ifndef ROUTER_TABLE_H
#define ROUTER_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/err.h"

struct slot {
    uint32_t tag;
    uint32_t ref; /* 0: the slot is empty */
};

/* Zeroed: empty, without memory. */
struct table {
    struct slot *slots; /* null while nothing was entered */
    struct slot *old;   /* the former table while it is being emptied, else null */
    uint32_t mask, old_mask;
    uint32_t shift, old_shift; /* 32 - log2(slots): tag >> shift is the home slot */
    uint32_t count;            /* references in both */
    uint32_t old_pos;          /* next slot of old to move; all before it are empty */
};

/* ref must not be 0, nor be in the table. ERR_NOMEM: not entered. */
enum err table_insert(struct table *t, uint32_t tag, uint32_t ref);
/* ref must be in the table under tag. The memory goes with the last one. */
void table_remove(struct table *t, uint32_t tag, uint32_t ref);
/* Moves a few slots; only of use while t->old is not null. */
void table_step(struct table *t);
void table_free(struct table *t);
size_t table_bytes(const struct table *t);

/* Calls visit for every reference; the table must not change meanwhile. */
void table_each(const struct table *t, void (*visit)(void *context, uint32_t ref), void *context);

/* A search for one tag: start with table_seek, then table_next until it returns 0. */
struct table_seek {
    const struct slot *slots;
    const struct slot *then; /* where to go on after slots, or null */
    uint32_t mask, pos, tag;
};

static inline struct table_seek table_seek(const struct table *t, uint32_t tag) {
    return (struct table_seek){.slots = t->slots, .then = t->old, .mask = t->mask, .pos = tag >> t->shift, .tag = tag};
}

static inline uint32_t table_next(const struct table *t, struct table_seek *k) {
    if (unlikely(k->slots == NULL))
        return 0;
    for (;;) {
        struct slot slot = k->slots[k->pos];
        if (slot.ref == 0) {
            if (likely(k->then == NULL))
                return 0;
            k->slots = k->then;
            k->then = NULL;
            k->mask = t->old_mask;
            k->pos = k->tag >> t->old_shift;
            continue;
        }
        k->pos = (k->pos + 1) & k->mask;
        if (slot.tag == k->tag)
            return slot.ref;
    }
}

#endif
