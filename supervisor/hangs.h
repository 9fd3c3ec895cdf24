/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/hangs.h: whether one process hangs. No clock, no system call: what was seen goes in, a verdict comes out.
 *
 * Every HANGS_LOOK_MS or so the supervisor looks at all children. One whose heartbeat has moved since the last look is poked:
 * the poke makes its main loop turn, so its heartbeat has moved by the next look, also if it has nothing else to do. One
 * whose heartbeat has not moved is held to account for the time between, but only for time that was its own:
 *
 *   stopped                      all of it
 *   asleep somewhere             all of it but what it waited for a processor
 *   running, or wanting to run   the processor time that it burned
 *   waiting for a disk           none: killing it would not end that wait
 *   held by a debugger           none
 *
 * So a busy machine kills nobody; nor does one that stood still as a whole, because then the look itself comes late and
 * the time between does not count for anybody.
 */
#ifndef SUPERVISOR_HANGS_H
#define SUPERVISOR_HANGS_H

#include <stdbool.h>
#include <stdint.h>

/* What the kernel says that a process does. */
enum hangs_state { HANGS_UNKNOWN, HANGS_RUNS, HANGS_SLEEPS, HANGS_WAITS_FOR_DISK, HANGS_STOPPED, HANGS_TRACED };

/* One look at one process. state need only be right where the heartbeat has not moved. */
struct hangs_sample {
    uint64_t beat;
    enum hangs_state state;
    bool timed;                 /* the next two are known */
    uint64_t ran_ns, queued_ns; /* since it was made: on a processor; waiting for one */
};

/* Zeroed when the process starts. */
struct hangs {
    bool poked;
    bool moved; /* it has answered a poke: its start lies behind it */
    bool told;  /* HANGS_STUCK was said of this standstill */
    struct hangs_sample last;
    uint64_t counted_ms; /* of the standstill, as above */
    uint64_t stood_ms;   /* all of it */
};

enum hangs_verdict {
    HANGS_MOVED,   /* poke it */
    HANGS_GOES_ON, /* the same, and it had been said to be stuck */
    HANGS_STANDS,  /* not long enough yet */
    HANGS_STUCK,   /* for long, and killing would not help; said once */
    HANGS_HUNG,
};

/* What is granted to a process. */
struct hangs_patience {
    uint32_t ms;   /* a standstill of so much counted time is a hang */
    uint32_t work; /* of time that it burns so many times as much: its longest honest work in one go */
    bool blocks;   /* it may wait for others when it writes, and then its successor would too */
};

enum { HANGS_START = 10 /* until it has answered the first poke, asleep or at work, so many times as much */ };

/* The time between two looks. */
static inline uint32_t hangs_look_ms(uint32_t patience_ms) {
    return patience_ms + patience_ms / 8;
}

/* Another look after so many milliseconds; on_time: it was not much later than wanted. */
enum hangs_verdict hangs_look(struct hangs *h, const struct hangs_sample *now, uint64_t elapsed_ms, bool on_time,
                              const struct hangs_patience *patience);

/* What it does, for a log line: "has stood stopped". */
const char *hangs_words(const struct hangs *h);

#endif
