/* SPDX-License-Identifier: Apache-2.0 */
/* The watch over hangs: looks at every child's heartbeat, pokes, and ends the one that hangs (supervisor/hangs.h decides).
 *
 * The heartbeat lies in the counters page of the child's role; the spare router has one of its own there. The child writes
 * it, so a lost one can pretend to live: it then is what it was before, a lost process that nobody has noticed.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "shm/counters.h"
#include "supervisor/supervisor.h"

/* ---- what the kernel says ---- */

static bool read_proc(char *out, size_t cap, pid_t pid, const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, cap - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        return false;
    out[n] = '\0';
    return true;
}

static void read_times(struct hangs_sample *at, pid_t pid) {
    char text[256], *end;
    if (!read_proc(text, sizeof text, pid, "schedstat"))
        return;
    at->ran_ns = strtoull(text, &end, 10);
    at->timed = *end == ' ';
    at->queued_ns = strtoull(end, NULL, 10);
}

static enum hangs_state read_state(pid_t pid) {
    char text[512];
    const char *name_end = read_proc(text, sizeof text, pid, "stat") ? strrchr(text, ')') : NULL;
    if (!name_end || name_end[1] != ' ')
        return HANGS_UNKNOWN;
    switch (name_end[2]) {
    case 'R':
        return HANGS_RUNS;
    case 'S':
        return HANGS_SLEEPS;
    case 'T':
        return HANGS_STOPPED;
    case 't':
        return HANGS_TRACED;
    case 'D':
        return HANGS_WAITS_FOR_DISK;
    default:
        return HANGS_UNKNOWN;
    }
}

/* ---- one child ---- */

static bool read_beat(const struct supervisor *s, const struct child *c, uint64_t *beat) {
    enum counter which = child_is_spare(s, c) ? COUNTER_HEARTBEAT_SPARE : COUNTER_HEARTBEAT;
    return pread(child_counters(s, c), beat, sizeof *beat, which * (off_t)sizeof *beat) == sizeof *beat;
}

static void end_hung(struct supervisor *s, struct child *c) {
    log_error("%s %u%s (pid %d) hangs: for %llu ms it %s. It is killed", c->role->name, c->index,
              child_is_spare(s, c) ? ", the spare," : "", (int)c->pid, (unsigned long long)c->hangs.stood_ms,
              hangs_words(&c->hangs));
    c->blamed = true;
    c->stopped = c->hangs.last.state == HANGS_STOPPED;
    c->hung = !c->stopped;
    child_signal(c, SIGKILL);
}

static void look_at(struct supervisor *s, struct child *c, uint64_t elapsed_ms, bool on_time) {
    struct hangs_sample now = {0};
    struct hangs_patience patience = {.ms = s->hang_ms, .work = c->role->work, .blocks = c->role->gifts & GIFT_STDERR};
    if (!read_beat(s, c, &now.beat))
        return;
    read_times(&now, c->pid);
    if (c->hangs.poked && now.beat == c->hangs.last.beat)
        now.state = read_state(c->pid);
    switch (hangs_look(&c->hangs, &now, elapsed_ms, on_time, &patience)) {
    case HANGS_GOES_ON:
        log_warn("%s %u (pid %d) goes on", c->role->name, c->index, (int)c->pid);
        /* fall through */
    case HANGS_MOVED:
        child_send(s, c, MESSAGE_POKE, NULL, NULL, 0);
        break;
    case HANGS_STUCK:
        log_warn("%s %u (pid %d) is stuck: for %llu ms it %s. It is left alone, because a successor would be stuck too",
                 c->role->name, c->index, (int)c->pid, (unsigned long long)c->hangs.stood_ms, hangs_words(&c->hangs));
        break;
    case HANGS_HUNG:
        end_hung(s, c);
        break;
    case HANGS_STANDS:
        break;
    }
}

/* ---- all of them ---- */

void watch_begin(struct supervisor *s) {
    s->hang_ms = (uint32_t)(s->config.options.hang_ns / 1000000);
    s->watch_ms = s->now_ms;
}

uint64_t watch_tick(struct supervisor *s) {
    uint32_t wanted_ms = hangs_look_ms(s->hang_ms);
    uint64_t elapsed_ms = s->now_ms - s->watch_ms;
    if (s->stop || !s->hang_ms)
        return 0;
    if (elapsed_ms < wanted_ms)
        return s->watch_ms + wanted_ms;
    bool on_time = elapsed_ms < wanted_ms + wanted_ms / 2;
    s->watch_ms = s->now_ms;
    for (uint32_t i = 0; i < FAMILY_UIDS; i++) {
        if (s->child[i].pid && !s->child[i].blamed && !s->child[i].dismissed && !(s->child[i].role->gifts & GIFT_BRIEF))
            look_at(s, &s->child[i], elapsed_ms, on_time);
    }
    return s->watch_ms + wanted_ms;
}
