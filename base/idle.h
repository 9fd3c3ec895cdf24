/* base/idle.h: whether a process that has nothing to do looks around a little before it sleeps.
 *
 * A wake-up by the kernel costs more than a short message exchange. Spinning pays when the next piece of work comes soon, and
 * only then: so the whole idle gap is measured, and a process whose gaps are long stops spinning until they are short again.
 */
#ifndef BASE_IDLE_H
#define BASE_IDLE_H

#include <stdbool.h>
#include <stdint.h>

enum {
    IDLE_SPIN_NS = 20000,
    IDLE_WAKE_NS = 40000, /* a gap up to the spin plus this would have been better spun through */
    IDLE_MISSES_MAX = 16,
    IDLE_MISSES_SPIN = 8, /* below: spin */
};

struct idle {
    uint64_t since_ns; /* 0: busy */
    int misses;
};

/* True if spinning is worth it now. */
static inline bool idle_spins(const struct idle *i) {
    return i->misses < IDLE_MISSES_SPIN;
}

/* Work has come after a gap that began at since_ns. */
static inline void idle_end(struct idle *i, uint64_t now_ns) {
    if (i->since_ns == 0)
        return;
    if (now_ns - i->since_ns < IDLE_SPIN_NS + IDLE_WAKE_NS)
        i->misses = i->misses > 2 ? i->misses - 2 : 0;
    else if (i->misses < IDLE_MISSES_MAX)
        i->misses++;
    i->since_ns = 0;
}

#endif
