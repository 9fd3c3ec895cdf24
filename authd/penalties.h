/* SPDX-License-Identifier: Apache-2.0 */
/* authd/penalties.h: sources of failed logins wait.
 *
 * Failed logins are counted by source and link: the source is the edge's word, so one link's say nothing about
 * another's. From the configured number within a minute on, each further verdict for that source is held back, longer
 * with each failure up to a limit, good verdicts too: how long an answer takes says nothing about it. Of one source
 * only so many bad verdicts are held back at a time; further ones are said at once, while a good one waits the longest
 * time. A good verdict that has waited and must be asked for once more, because the configuration has changed, waits no second
 * time. The table is bounded: of the link that has most of it, the source that failed longest ago is forgotten.
 * Connections that are established never wait.
 */
#ifndef AUTHD_PENALTIES_H
#define AUTHD_PENALTIES_H

#include "authd/source.h"
#include "authd/users.h"
#include "shm/commit.h"

enum { PENALTIES_SOURCES = 4096, PENALTIES_WINDOW_MS = 60000, PENALTIES_HELD_MAX = 64 };

struct penalty {
    struct source_address source;
    uint32_t link;
    uint64_t first_ms, last_ms; /* of the failures that count; 0: a free place */
    uint32_t failures, held;
    uint32_t served; /* good verdicts that have waited already and come again */
    uint32_t next;   /* in its bucket, number + 1 */
};

struct penalties {
    struct hash_key key;
    uint32_t bucket[PENALTIES_SOURCES]; /* number + 1 */
    uint32_t of_link[LINKS_MAX];        /* sources */
    struct penalty at[PENALTIES_SOURCES];
};

void penalties_open(struct penalties *p);

/* How long a verdict for a source must wait now, in ms. Where too many bad ones wait already: 0 for a bad one, the
 * longest time for a good one. */
uint32_t penalties_delay(struct penalties *p, const struct user_penalties *rules, uint32_t link,
                         struct source_address source, uint64_t now_ms, bool good);

/* A login failed. */
void penalties_count(struct penalties *p, uint32_t link, struct source_address source, uint64_t now_ms);

/* A bad verdict begins to wait; it has been said or dropped. */
void penalties_hold(struct penalties *p, uint32_t link, struct source_address source);
void penalties_release(struct penalties *p, uint32_t link, struct source_address source);

/* A good verdict has waited its time and is void: the next good one for that source does not wait. */
void penalties_serve(struct penalties *p, uint32_t link, struct source_address source);

#endif
