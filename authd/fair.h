/* SPDX-License-Identifier: Apache-2.0 */
/* authd/fair.h: a queue of dear work that is shared out evenly.
 *
 * Links that want work done get the same amount of it each, whatever they ask for; within a link its sources take
 * turns. So a link that floods delays itself, and a source that floods delays itself first. A link holds at most so
 * many items and bytes, one source of it at most half of that. In a full link the source that has most gives way: one
 * that has few is always let in.
 */
#ifndef AUTHD_FAIR_H
#define AUTHD_FAIR_H

#include <stdbool.h>

#include "authd/source.h"
#include "base/err.h"
#include "base/hash.h"
#include "shm/commit.h"

enum { FAIR_ITEMS_MAX = 8192, FAIR_BYTES_MAX = 16 << 20, FAIR_BUCKETS = 1024 };

/* Embedded in what waits; the owner's again when it comes out. */
struct fair_item {
    struct fair_item *next, *prev;
    struct fair_source *of; /* NULL: it does not wait */
    uint32_t link;
    uint32_t bytes; /* of memory */
    struct source_address source;
    uint64_t price; /* of the work, at least 1 */
};

struct fair_source;

struct fair_link {
    uint64_t spent; /* on this link, in prices; of one that had nothing to do: as much as on the others */
    uint32_t items, bytes;
    struct fair_source *last; /* a ring of the sources that wait; the first is the next of the last */
};

struct fair {
    struct hash_key key;
    uint64_t spent; /* of the link that was served last */
    struct fair_link link[LINKS_MAX];
    struct fair_source *bucket[FAIR_BUCKETS];
};

void fair_open(struct fair *f);

/* *dropped: a list of the items that had to make room, whatever is returned; NULL: none. ERR_LONG: the item's own
 * source has most of a full link, or its half; ERR_NOMEM. */
enum err fair_put(struct fair *f, struct fair_item *item, struct fair_item **dropped);

/* Takes an item back. False: it does not wait any more. */
bool fair_remove(struct fair *f, struct fair_item *item);

/* Whose turn it is; NULL: nothing waits. */
struct fair_item *fair_take(struct fair *f);

/* Any item of a link; NULL: it has none. */
struct fair_item *fair_take_of(struct fair *f, uint32_t link);

#endif
