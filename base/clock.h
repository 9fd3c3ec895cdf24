/* SPDX-License-Identifier: Apache-2.0 */
/* base/clock.h: the two clocks. Nobody on the message path reads one more than once per turn. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds that only grow; for intervals. */
static inline uint64_t clock_mono_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline uint64_t clock_mono_ms(void) {
    return clock_mono_ns() / 1000000u;
}

/* Seconds since 1970; for log lines and for what expires by the calendar. */
static inline uint64_t clock_wall_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec;
}

/* Nanoseconds since 1970; for numbers that must be above those of an earlier life. */
static inline uint64_t clock_wall_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

#endif
