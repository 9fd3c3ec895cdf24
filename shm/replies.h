/* SPDX-License-Identifier: Apache-2.0 */
/* shm/replies.h: the table of open replies, which outlives the router.
 *
 * A connection whose permission set has responses may answer on the reply subject of each message that it gets, for so
 * many messages and so long, whatever else it may publish. Each such right is one entry of this table. The memory is
 * the supervisor's; the living router alone writes it.
 *
 *   | turns of groups of buckets | bucket | bucket | …
 *   bucket: 8 entries of 64 bytes: | key | owner | turn | was | now |
 *
 * An entry's key is a 128-bit keyed hash of its owner (connection, generation, and the user's allow_responses: while that
 * option has other values the right is not found) and its reply. The hash's key is derived from the binding key, so it is the
 * same for every router. A turn changes an entry in `now`, after it has saved `now` to `was` and put its number into `turn`: a
 * router that finds entries of a turn that was not committed takes `was` instead (replies_recover). So a router that dies
 * loses no right and gives none twice.
 *
 * The table is bounded, and so is what one connection can have of it: its entries lie in a window of REPLIES_WINDOW
 * buckets, in the emptier one of two that its key names. When both are full, the owner with most entries
 * in them loses its oldest one. So a connection drives out its own entries, not those of a connection that has fewer.
 */
#ifndef SHM_REPLIES_H
#define SHM_REPLIES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/view.h"
#include "shm/binding.h"

enum {
    REPLIES_WAYS = 8,        /* entries of a bucket */
    REPLIES_BUCKETS = 16384, /* a power of two */
    REPLIES_GROUP = 64,      /* buckets */
    REPLIES_WINDOW = 1024,   /* buckets that one connection uses: room for 8,192 replies */
};
#define REPLIES_UNLIMITED UINT32_MAX

/* How much is left of a right. */
struct replies_right {
    uint64_t until_ns; /* CLOCK_MONOTONIC; UINT64_MAX: for ever; 0: there is none */
    uint32_t left;     /* messages; REPLIES_UNLIMITED */
    uint32_t spent_at; /* place (replies_spend) of the last message that was taken from it; 0: none */
};

struct replies_entry {
    uint64_t key[2];
    uint64_t owner;
    uint64_t turn; /* number of the turn that last changed the entry */
    struct replies_right was, now;
};
_Static_assert(sizeof(struct replies_entry) == 64, "an entry is a cache line");

struct replies_table {
    /* By group of buckets: the last turn that has changed one of its entries; 0: none has, so recovery skips the group. */
    uint64_t group_turn[REPLIES_BUCKETS / REPLIES_GROUP];
    struct replies_entry entry[REPLIES_BUCKETS][REPLIES_WAYS];
};

struct replies {
    struct replies_table *table;
    uint8_t hash_key[16];
    uint8_t text[16 + 65536]; /* owner and reply, while they are hashed */
};

/* A connection in one generation with one allow_responses; nothing but that ever matches its entries. */
struct replies_owner {
    uint64_t id[2];
};

/* table is the mapped memory, at first all zero. */
void replies_open(struct replies *r, struct replies_table *table, const struct binding_key *key);

/* Undoes what turns above commit_no have changed; once, before anything else, by a router that takes over. */
void replies_recover(struct replies *r, uint64_t commit_no);

/* most and for_ns: for how many messages and how long its permission set allows answers (router/permissions.h). */
struct replies_owner replies_owner(const struct replies *r, uint32_t link, uint64_t incarnation, uint32_t conn,
                                   uint32_t generation, uint32_t most, uint64_t for_ns);

/* A message with that reply goes to the owner in the turn that will have that number: the right is there anew. */
void replies_give(struct replies *r, const struct replies_owner *owner, struct view reply, struct replies_right right,
                  uint64_t now_ns, uint64_t turn);

/* Takes one message from the right; false if there is none, or it is used up or too old. place names the message (0:
 * none) among those of its owner: the last one that was taken is not taken again, so it may be asked for until it has
 * been handled, also by another router. */
bool replies_spend(struct replies *r, const struct replies_owner *owner, struct view reply, uint32_t place,
                   uint64_t now_ns, uint64_t turn);

#endif
