/* SPDX-License-Identifier: Apache-2.0 */
/* Linear probing; a removal shifts the rest of its cluster back, so no tombstones are left and churn costs nothing.
 *
 * To change its size the table becomes `old` beside an empty one of the new size. Whole clusters move, in slot order,
 * so that in both tables a search may always stop at an empty slot:
 *
 *   old:   | emptied … |.| cluster |.| cluster |.  …          new: inserts go here
 *                        ^ old_pos
 *
 * The home slot is the tag's upper bits, so old and new have the same order: moving walks through both from left to
 * right. Large tables come from mmap, which zeroes a page when it is first touched, and go back piece by piece. Nothing
 * here is O(n) but table_each and table_free.
 */
#include "router/table.h"

#include <stdlib.h>
#include <sys/mman.h>

enum {
    BITS_MIN = 4,
    BITS_MAX = 31,
    STEP_SLOTS = 16,             /* looked at per step, then on to the end of the cluster */
    MAPPED_BYTES = 64 * 1024,    /* from here on by mmap */
    RETURN_SLOTS = 64 * 1024 / 8 /* emptied slots whose memory is returned at a time */
};

static size_t slots_bytes(uint32_t mask) {
    return ((size_t)mask + 1) * sizeof(struct slot);
}

static struct slot *slots_new(uint32_t mask) {
    size_t bytes = slots_bytes(mask);
    if (bytes < MAPPED_BYTES)
        return calloc(1, bytes);
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

static void slots_free(struct slot *slots, uint32_t mask) {
    size_t bytes = slots_bytes(mask);
    if (bytes < MAPPED_BYTES)
        free(slots);
    else if (slots != NULL)
        munmap(slots, bytes);
}

/* Puts a reference into the current slots, which have room. */
static void place(struct table *t, struct slot slot) {
    uint32_t pos = slot.tag >> t->shift;
    while (t->slots[pos].ref != 0)
        pos = (pos + 1) & t->mask;
    t->slots[pos] = slot;
}

/* Empties the slot at pos and closes the gap: what may lie nearer to its home does. */
static void take_out(struct slot *slots, uint32_t mask, uint32_t shift, uint32_t pos) {
    for (uint32_t next = (pos + 1) & mask; slots[next].ref != 0; next = (next + 1) & mask) {
        uint32_t home = slots[next].tag >> shift;
        if (((next - home) & mask) >= ((next - pos) & mask)) {
            slots[pos] = slots[next];
            pos = next;
        }
    }
    slots[pos] = (struct slot){0, 0};
}

static bool find_and_take_out(struct slot *slots, uint32_t mask, uint32_t shift, struct slot which) {
    for (uint32_t pos = which.tag >> shift; slots[pos].ref != 0; pos = (pos + 1) & mask) {
        if (slots[pos].ref == which.ref) {
            take_out(slots, mask, shift, pos);
            return true;
        }
    }
    return false;
}

/* Returns the memory of the part of old that ends at old_pos, where nothing is left. */
static void return_emptied(const struct table *t) {
    if (t->old_pos % RETURN_SLOTS == 0 && slots_bytes(t->old_mask) >= MAPPED_BYTES)
        madvise(t->old + (t->old_pos - RETURN_SLOTS), RETURN_SLOTS * sizeof(struct slot), MADV_DONTNEED);
}

void table_step(struct table *t) {
    if (t->old == NULL)
        return;
    for (uint32_t seen = 0; t->old_pos <= t->old_mask; seen++) {
        struct slot *slot = &t->old[t->old_pos];
        if (slot->ref == 0 && seen >= STEP_SLOTS)
            return;
        if (slot->ref != 0) {
            place(t, *slot);
            *slot = (struct slot){0, 0};
        }
        t->old_pos++;
        return_emptied(t);
    }
    slots_free(t->old, t->old_mask);
    t->old = NULL;
}

/* Begins the move into 1 << bits new slots. */
static bool resize(struct table *t, uint32_t bits) {
    uint32_t mask = (uint32_t)((UINT64_C(1) << bits) - 1);
    struct slot *slots = slots_new(mask);
    if (slots == NULL)
        return false;
    if (t->count > 0) {
        t->old = t->slots;
        t->old_mask = t->mask;
        t->old_shift = t->shift;
        t->old_pos = 0; /* perhaps amid a cluster that runs over the end; nothing that stays lies behind its tail */
    } else {
        slots_free(t->slots, t->mask);
    }
    t->slots = slots;
    t->mask = mask;
    t->shift = 32 - bits;
    return true;
}

/* The move into twice as many slots ends long before these are three quarters full: it takes 1/16 as many inserts as
 * the old table has slots. */
enum err table_insert(struct table *t, uint32_t tag, uint32_t ref) {
    table_step(t);
    if (t->slots == NULL && !resize(t, BITS_MIN))
        return ERR_NOMEM;
    uint32_t slot_count = t->mask + 1;
    if (t->old == NULL && t->count >= slot_count / 4 * 3) {
        uint32_t bits = 32 - t->shift + 1;
        bool grows = bits <= BITS_MAX && resize(t, bits);
        if (!grows && t->count >= slot_count / 16 * 15)
            return ERR_NOMEM;
    }
    place(t, (struct slot){tag, ref});
    t->count++;
    return ERR_OK;
}

void table_remove(struct table *t, uint32_t tag, uint32_t ref) {
    struct slot which = {tag, ref};
    check(t->slots != NULL);
    check(find_and_take_out(t->slots, t->mask, t->shift, which) ||
          (t->old != NULL && find_and_take_out(t->old, t->old_mask, t->old_shift, which)));
    t->count--;
    if (t->count == 0) {
        table_free(t);
        return;
    }
    table_step(t);
    if (t->old == NULL && t->count < (t->mask + 1) / 8 && 32 - t->shift > BITS_MIN)
        resize(t, 32 - t->shift - 1); /* without memory for it the table stays as it is */
}

void table_free(struct table *t) {
    slots_free(t->slots, t->mask);
    if (t->old != NULL)
        slots_free(t->old, t->old_mask);
    *t = (struct table){0};
}

size_t table_bytes(const struct table *t) {
    return (t->slots ? slots_bytes(t->mask) : 0) + (t->old ? slots_bytes(t->old_mask) : 0);
}

static void each(const struct slot *slots, uint32_t mask, void (*visit)(void *, uint32_t), void *context) {
    for (uint64_t pos = 0; slots != NULL && pos <= mask; pos++) {
        if (slots[pos].ref != 0)
            visit(context, slots[pos].ref);
    }
}

void table_each(const struct table *t, void (*visit)(void *context, uint32_t ref), void *context) {
    each(t->slots, t->mask, visit, context);
    each(t->old, t->old_mask, visit, context);
}
