/* SPDX-License-Identifier: Apache-2.0 */
/* authd/logins.h: bindings, sealed for logins that have been decided. Sends and receives nothing.
 *
 * What a binding says about link, incarnation and kind comes from struct logins_edge, which is filled from the
 * supervisor's word, never from a login.
 */
#ifndef AUTHD_LOGINS_H
#define AUTHD_LOGINS_H

#include <stdint.h>

#include "authd/users.h"
#include "base/err.h"
#include "shm/binding.h"
#include "shm/commit.h"
#include "shm/counters.h"

struct logins {
    const struct binding_key *key;
    struct counters *counters; /* COUNTER_SERIAL_HIGH outlives this process */
    uint64_t serial;           /* the last one given out */
};

/* One edge process, as the supervisor has introduced it. */
struct logins_edge {
    uint32_t link;
    uint64_t incarnation;
    uint8_t kind;
    uint32_t last_generation[SOFT_CONNS_MAX]; /* of each connection number; 0: none yet */
};

/* Serials go on above every serial that was ever given out: above the clock and above the last one on the counters
 * page. */
void logins_open(struct logins *l, const struct binding_key *key, struct counters *counters, uint64_t wall_ns);

/* Takes a login up, whatever will become of it. ERR_STALE: a number beyond the table, or a generation that is not
 * higher than the last one of that number. */
enum err logins_admit(struct logins *l, struct logins_edge *edge, uint32_t conn, uint32_t generation);

/* Seals a binding for a user of a table that has its numbers (authd/identity.h). */
void logins_seal(struct logins *l, const struct logins_edge *edge, uint32_t conn, uint32_t generation,
                 const struct user *user, uint64_t wall_s, struct binding *out);

#endif
