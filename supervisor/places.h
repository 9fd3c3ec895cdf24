/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/places.h: how many connections each frontend may have, so that all together stay within max_connections.
 *
 * A place is the right to one connection. The supervisor leases places to frontends in blocks, one by one near the
 * bound. Are all leased and one frontend asks, its request waits, and the others give back what they have:
 *
 *   RECALL  every other one is told to give back what it does not use. One that says nothing is ended.
 *   SHED    if there was nothing: the one that holds most beyond its due is told to close connections that nobody has
 *           logged in on. One that closes none, and still holds so much, is ended.
 *   END     the lease of a frontend that has ended comes back whole.
 *
 * Due to a frontend are an equal share of all, or the connections that the router knows of it and a few more, whichever is
 * more. So one that is lost and says that it uses what it does not use keeps its share from the others, and no more.
 * If nothing comes of all this the answer is 0: there is no place. Nothing here sends anything: the callbacks do.
 */
#ifndef SUPERVISOR_PLACES_H
#define SUPERVISOR_PLACES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "shm/commit.h"

enum { PLACES_BLOCK_MAX = 256 };
#ifdef BULKHEAD_SANITIZED
enum { PLACES_WAIT_MS = 40000 };
#else
enum { PLACES_WAIT_MS = 2000 }; /* for a frontend to answer */
#endif

enum places_stage { PLACES_REST, PLACES_RECALL, PLACES_SHED, PLACES_END };

struct places {
    uint32_t free;
    uint32_t leased[LINKS_MAX];
    bool present[LINKS_MAX]; /* takes part: may ask, is told to give back */
    bool asking[LINKS_MAX];
    bool recalled[LINKS_MAX]; /* owes an answer to a Recall */
    uint8_t queue[LINKS_MAX]; /* links that ask, in order; each once */
    uint32_t queue_len;
    enum places_stage stage; /* of what is done for queue[0] */
    uint64_t stage_ends_ms;
    uint32_t shedding; /* the link that was told to close connections */
    uint32_t total;
    uint32_t each_max; /* one frontend's lease at most; set after places_open, which sets no bound */
    uint32_t owed;     /* leased beyond total: places that come back go here first */
    bool resizing;     /* a round of recalls runs for what is owed; it ends at resize_ends_ms */
    uint64_t resize_ends_ms;
    void *owner;
    void (*send_places)(void *owner, uint32_t frontend, uint32_t count);
    void (*send_recall)(void *owner, uint32_t frontend);
    /* Set after places_open, or null. To a frontend: close so many connections; strangers: of those that nobody has logged
     * in on. How many connections of it the router knows. End it: what says what it has done. */
    void (*send_shed)(void *owner, uint32_t frontend, uint32_t count, bool strangers);
    uint32_t (*count_bound)(void *owner, uint32_t frontend);
    void (*end)(void *owner, uint32_t frontend, const char *what);
};

void places_open(struct places *p, uint32_t count, void *owner, void (*send_places)(void *, uint32_t, uint32_t),
                 void (*send_recall)(void *, uint32_t));

/* A frontend's process is there, or has gone. */
void places_join(struct places *p, uint32_t frontend);
void places_leave(struct places *p, uint32_t frontend, uint64_t now_ms);

/* It asks for places; asking again before the answer changes nothing. */
void places_want(struct places *p, uint32_t frontend, uint64_t now_ms);

/* It gives count places back. ERR_HOSTILE: it never had so many. */
enum err places_back(struct places *p, uint32_t frontend, uint32_t count, uint64_t now_ms);

/* The bound becomes another one. Places that are leased beyond it are called back, and if too many are in use, frontends
 * are told to close connections (send_shed). */
void places_resize(struct places *p, uint32_t total, uint64_t now_ms);

/* Ends a round that somebody does not answer. Returns when to call again, 0: no need. */
uint64_t places_tick(struct places *p, uint64_t now_ms);

/* So much time did not count for anybody. */
void places_forgive(struct places *p, uint64_t ms);

#endif
