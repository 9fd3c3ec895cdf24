/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/culprits.h: addresses whose bytes frontends died of.
 *
 * A frontend notes whose bytes it is working on (shm/counters.h, PEER). A death by a signal that it caused, or by a hang,
 * counts against that address alone. From the third within ten minutes on new connections from there are accepted and
 * not read for a while: a second at first, twice as long with each further death, a minute at most. Ten minutes after the
 * last death all is forgotten. An IPv6 source is its network of 64 bits.
 *
 * The address is the word of a frontend that has just died: one that is lost can make others wait by dying, and no more.
 */
#ifndef SUPERVISOR_CULPRITS_H
#define SUPERVISOR_CULPRITS_H

#include <netinet/in.h>
#include <stdint.h>

enum {
    CULPRITS_MAX = 128,  /* of more, the one is forgotten whose last death is longest ago */
    CULPRITS_DEATHS = 3, /* within CULPRITS_MEMORY_MS, and its connections wait */
    CULPRITS_MEMORY_MS = 600000,
    CULPRITS_WAIT_MS = 1000,
    CULPRITS_WAIT_MAX_MS = 60000,
    CULPRITS_TEXT = INET6_ADDRSTRLEN + 8,
};

struct culprit {
    struct in6_addr source;
    uint64_t died_ms[CULPRITS_DEATHS]; /* the last ones, newest first; 0: none */
    uint32_t wait_ms;                  /* its new connections wait so long; 0: not at all */
};

/* Zeroed is ready. */
struct culprits {
    struct culprit at[CULPRITS_MAX];
    uint32_t count;
};

/* Notes a death at bytes of that address (IPv4: mapped). What is returned holds until the next call. */
const struct culprit *culprits_note(struct culprits *t, const struct in6_addr *peer, uint64_t now_ms);

/* How long its connections still have to wait for wait_ms; 0: no more. */
uint64_t culprits_lasts_ms(const struct culprit *c, uint64_t now_ms);

/* The source for a log line. Returns text. */
const char *culprits_text(const struct culprit *c, char text[static CULPRITS_TEXT]);

#endif
