/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/restarts.h: how soon a process that died is started again.
 *
 * Only faults of its own count (a signal that it caused, an exit that nobody asked for, a broken rule, a hang). The first
 * fault costs nothing, each further one twice as much as the one before it, from 100 ms on: a crash loop ends in long
 * rests, never in giving up. Time without a fault heals: one fault is forgotten for every six seconds.
 *
 * A process that is killed from outside is started again at once, however young it was. Only where somebody kills one
 * after the other without a pause, each successor waits for a moment, so that the machine has time for other things.
 */
#ifndef SUPERVISOR_RESTARTS_H
#define SUPERVISOR_RESTARTS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    RESTARTS_DELAY_MS = 100,  /* after the second fault */
    RESTARTS_HEAL_MS = 6000,  /* without a fault, and one is forgotten */
    RESTARTS_LOOP = 10,       /* faults that count: a crash loop */
    RESTARTS_FAULTS_MAX = 12, /* more are not counted, so that two minutes heal everything */
    RESTARTS_KILLS_FREE = 20, /* kills from outside in a row that cost nothing */
    RESTARTS_ROW_MS = 1000,   /* a kill so long after the one before it begins a new row */
};

/* Zeroed is ready. */
struct restarts {
    uint32_t faults;     /* that count now */
    uint64_t healing_ms; /* since when time heals: when the process was to be started again */
    uint32_t kills;      /* in a row */
    uint64_t kill_ms;    /* the last one */
};

/* Notes a death and returns how many milliseconds to wait before the next start, most_ms at most. */
uint32_t restarts_note(struct restarts *r, uint64_t now_ms, bool fault, uint32_t most_ms);

#endif
