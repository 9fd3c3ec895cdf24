/* SPDX-License-Identifier: Apache-2.0 */
/* shm/limit.h: limits in bindings and in the account book, where 0 is no limit. */
#ifndef SHM_LIMIT_H
#define SHM_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#define LIMIT_NOTHING UINT32_MAX /* not even one */

/* May there be so many? */
static inline bool limit_allows(uint32_t limit, uint32_t count) {
    return limit == 0 || (limit != LIMIT_NOTHING && count <= limit);
}

/* The most that a limit allows. */
static inline uint32_t limit_most(uint32_t limit) {
    return limit == 0 ? UINT32_MAX : limit == LIMIT_NOTHING ? 0 : limit;
}

/* The stricter one of two. */
static inline uint32_t limit_stricter(uint32_t a, uint32_t b) {
    return limit_most(a) <= limit_most(b) ? a : b;
}

#endif
