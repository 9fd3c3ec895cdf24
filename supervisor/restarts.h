/* supervisor/restarts.h: how soon a process that died is started again, and when to give up.
 *
 * Only faults of its own count (a signal that it caused, an exit that nobody asked for, a broken rule, death before it
 * was ready); a process killed from outside is started again at once. The first fault in a minute costs nothing,
 * further ones 100 ms doubling to 5 s; the tenth in a minute is a crash loop.
 */
#ifndef SUPERVISOR_RESTARTS_H
#define SUPERVISOR_RESTARTS_H

#include <stdbool.h>
#include <stdint.h>

enum { RESTARTS_GIVE_UP = 10, RESTARTS_WINDOW_MS = 60000, RESTARTS_DELAY_MS = 100, RESTARTS_DELAY_MAX_MS = 5000 };

/* Zeroed is ready. */
struct restarts {
    uint64_t fault_ms[RESTARTS_GIVE_UP]; /* when the last faults happened; a ring */
    uint32_t fault_count;                /* all of them since the start */
};

/* Notes a death. Returns false for a crash loop, else *delay_ms says how long to wait. */
bool restarts_note(struct restarts *r, uint64_t now_ms, bool fault, uint32_t *delay_ms);

#endif
