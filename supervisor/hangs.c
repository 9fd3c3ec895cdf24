/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/hangs.h"

enum { BLIND = 4 /* where the kernel does not say what a process does, so many times as much patience */ };

static uint64_t since_ms(uint64_t now_ns, uint64_t then_ns) {
    return now_ns > then_ns ? (now_ns - then_ns) / 1000000 : 0;
}

/* How much of the time since the last look was the process's own. */
static uint64_t own_ms(const struct hangs_sample *last, const struct hangs_sample *now, uint64_t elapsed_ms) {
    uint64_t queued_ms;
    bool timed = last->timed && now->timed;
    switch (now->state) {
    case HANGS_WAITS_FOR_DISK:
    case HANGS_TRACED:
        return 0;
    case HANGS_RUNS:
        return timed ? since_ms(now->ran_ns, last->ran_ns) : elapsed_ms / BLIND;
    case HANGS_UNKNOWN:
        return elapsed_ms / BLIND;
    case HANGS_SLEEPS:
    case HANGS_STOPPED:
        break;
    }
    queued_ms = timed ? since_ms(now->queued_ns, last->queued_ns) : 0;
    return queued_ms < elapsed_ms ? elapsed_ms - queued_ms : 0;
}

static uint64_t granted_ms(const struct hangs *h, enum hangs_state state, const struct hangs_patience *patience) {
    if (state == HANGS_STOPPED)
        return patience->ms;
    uint64_t ms = state == HANGS_SLEEPS ? patience->ms : (uint64_t)patience->ms * patience->work;
    return h->moved ? ms : ms * HANGS_START;
}

/* Its successor would wait in the same place. */
static bool is_stuck(enum hangs_state state, const struct hangs_patience *patience) {
    return state == HANGS_WAITS_FOR_DISK || (state == HANGS_SLEEPS && patience->blocks);
}

static enum hangs_verdict begin(struct hangs *h, const struct hangs_sample *now) {
    bool told = h->told;
    *h = (struct hangs){.poked = true, .moved = h->poked, .last = *now};
    return told ? HANGS_GOES_ON : HANGS_MOVED;
}

enum hangs_verdict hangs_look(struct hangs *h, const struct hangs_sample *now, uint64_t elapsed_ms, bool on_time,
                              const struct hangs_patience *patience) {
    if (!h->poked || now->beat != h->last.beat)
        return begin(h, now);
    if (on_time) {
        h->counted_ms += own_ms(&h->last, now, elapsed_ms);
        h->stood_ms += elapsed_ms;
    }
    h->last = *now;
    if (is_stuck(now->state, patience)) {
        bool say = !h->told && h->stood_ms >= (uint64_t)patience->ms * HANGS_START;
        h->told = h->told || say;
        h->counted_ms = 0;
        return say ? HANGS_STUCK : HANGS_STANDS;
    }
    return h->counted_ms >= granted_ms(h, now->state, patience) ? HANGS_HUNG : HANGS_STANDS;
}

const char *hangs_words(const struct hangs *h) {
    switch (h->last.state) {
    case HANGS_RUNS:
        return "has run without end";
    case HANGS_SLEEPS:
        return "has slept and not woken up";
    case HANGS_WAITS_FOR_DISK:
        return "has waited for a disk";
    case HANGS_STOPPED:
        return "has stood stopped";
    case HANGS_TRACED:
        return "has been held by a debugger";
    case HANGS_UNKNOWN:
        break;
    }
    return "has not moved";
}
