/* SPDX-License-Identifier: Apache-2.0 */
/* base/idle.h: whether a process that has nothing to do looks around a little before it sleeps.
 *
 * A wake-up by the kernel costs more than a short message exchange. Spinning pays when the next piece of work comes soon, and
 * only then: so the whole idle gap is measured, and a process whose gaps are long stops spinning until they are short again.
 * It does not pay either after bulk work: there a wake-up is spread over many messages, and the processor is better left to
 * the process that makes the next ones.
 */
#ifndef BASE_IDLE_H
#define BASE_IDLE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    IDLE_SPIN_NS = 20000,
    IDLE_WAKE_NS = 40000, /* a gap up to the spin plus this would have been better spun through */
    IDLE_MISSES_MAX = 16,
    IDLE_MISSES_SPIN = 8,   /* below: spin */
    IDLE_BULK_BYTES = 8192, /* handled between two gaps: bulk */
};

struct idle {
    uint64_t since_ns; /* when the idle gap began; 0: busy */
    int misses; /* gaps that were too long to spin through, less twice those that were not; 0 to IDLE_MISSES_MAX */
    uint64_t work_bytes; /* handled since the last gap */
};

/* True if spinning is worth it now. */
static inline bool idle_spins(const struct idle *i) {
    return i->misses < IDLE_MISSES_SPIN && i->work_bytes < IDLE_BULK_BYTES;
}

/* Work of so many bytes was done, perhaps after a gap. */
static inline void idle_end(struct idle *i, uint64_t now_ns, uint64_t bytes) {
    i->work_bytes += bytes;
    if (i->since_ns == 0)
        return;
    i->work_bytes = bytes;
    if (now_ns - i->since_ns < IDLE_SPIN_NS + IDLE_WAKE_NS)
        i->misses = i->misses > 2 ? i->misses - 2 : 0;
    else if (i->misses < IDLE_MISSES_MAX)
        i->misses++;
    i->since_ns = 0;
}

#endif
