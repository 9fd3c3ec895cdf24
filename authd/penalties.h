/* authd/penalties.h: who guesses passwords waits.
 *
 * Failed logins are counted by source. From the configured number within a minute on, each further verdict for that
 * source is held back, longer with each failure up to a limit, good verdicts too: how long an answer takes says nothing
 * about it. Of one source only so many verdicts are held back at a time; more are refused without a look at them. The
 * table is bounded: the source that failed longest ago is forgotten. Connections that are established never wait.
 */
#ifndef AUTHD_PENALTIES_H
#define AUTHD_PENALTIES_H

#include "authd/source.h"
#include "authd/users.h"

enum { PENALTIES_SOURCES = 4096, PENALTIES_WINDOW_MS = 60000, PENALTIES_HELD_MAX = 64 };

struct penalty {
    struct source_address source;
    uint64_t first_ms, last_ms; /* of the failures that count; 0: a free place */
    uint32_t failures, held;
    uint32_t next; /* in its bucket, number + 1 */
};

struct penalties {
    struct hash_key key;
    uint32_t bucket[PENALTIES_SOURCES]; /* number + 1 */
    struct penalty at[PENALTIES_SOURCES];
};

void penalties_open(struct penalties *p);

/* How long a verdict for a source must wait now, in ms. ERR_LONG: too many wait already. */
enum err penalties_delay(struct penalties *p, const struct user_penalties *rules, struct source_address source,
                         uint64_t now_ms, uint32_t *delay_ms);

/* A login failed. */
void penalties_count(struct penalties *p, struct source_address source, uint64_t now_ms);

/* A verdict begins to wait; it has been said or dropped. */
void penalties_hold(struct penalties *p, struct source_address source);
void penalties_release(struct penalties *p, struct source_address source);

#endif
