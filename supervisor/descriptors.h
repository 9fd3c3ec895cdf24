/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/descriptors.h: what the limit of open files lets this server be.
 *
 * Every process has the limit for itself. The supervisor needs some descriptors for each frontend, so a low limit bounds
 * how many there are; a frontend needs one for each client, so it bounds how many connections they hold. No system call.
 */
#ifndef SUPERVISOR_DESCRIPTORS_H
#define SUPERVISOR_DESCRIPTORS_H

#include <stdint.h>

enum {
    DESCRIPTORS_SERVER = 72,   /* the supervisor's at most, without frontends, while it reloads */
    DESCRIPTORS_FRONTEND = 22, /* and so many more for each */
};

/* How many descriptors a server with so many frontends needs in its supervisor. */
static inline uint32_t descriptors_needed(uint32_t frontends) {
    return DESCRIPTORS_SERVER + frontends * DESCRIPTORS_FRONTEND;
}

/* How many frontends a limit is enough for. */
static inline uint32_t descriptors_frontends(uint32_t limit) {
    return limit < DESCRIPTORS_SERVER ? 0 : (limit - DESCRIPTORS_SERVER) / DESCRIPTORS_FRONTEND;
}

/* How many connections one frontend can hold: beside its own descriptors some are left for clients that are being told that
 * there is no place for them. */
uint32_t descriptors_connections(uint32_t limit);

#endif
