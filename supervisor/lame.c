/* SPDX-License-Identifier: Apache-2.0 */
/* Lame duck: nobody new, and those who are there leave one by one; then the server ends with status 0.
 *
 * At the end of the grace period the supervisor looks how many clients each frontend has left, and gives each a pace
 * that closes its share in the time that all take together: one in a second at most, or as many as lame_duck_duration
 * asks for. They begin one after the other, so that one closes at a time.
 */
#include <signal.h>
#include <unistd.h>

#include "base/log.h"
#include "shm/counters.h"
#include "supervisor/notify.h"
#include "supervisor/supervisor.h"

enum { INTERVAL_US = 1000000, CLIENTS_MAX = 1 << 24 };

static void go_on(struct supervisor *s) {
    for (struct edge *e = edges_next(s, NULL); e; e = edges_next(s, e)) {
        if (!e->lame_done)
            return;
    }
    s->stop_wanted = SIGINT;
}

void lame_begin(struct supervisor *s) {
    const struct options *o = &s->config.options;
    if (s->lame || s->stop)
        return;
    s->lame = true;
    log_info("Entering lame duck mode, stop accepting new clients");
    notify_stopping();
    Bulkhead__LameDuck message = BULKHEAD__LAME_DUCK__INIT;
    s->lame_closing_ms = s->now_ms + (uint64_t)(o->lame_duck_grace_period_ns / 1000000) + 1;
    for (struct edge *e = edges_next(s, NULL); e; e = edges_next(s, e)) {
        close(e->listener);
        e->listener = -1;
        if (e->child->pid && e->state == EDGE_GOING) {
            child_send(s, e->child, MESSAGE_LAME_DUCK, &message.base, NULL, 0);
        } else { /* it has no clients, and shall get none */
            e->lame_done = true;
            child_signal(e->child, SIGKILL);
        }
    }
    go_on(s);
}

void lame_on_done(struct supervisor *s, struct edge *edge) {
    edge->lame_done = true;
    go_on(s);
}

/* As its counters page says; a false number spoils the pace and nothing else. */
static uint32_t count_clients(const struct edge *edge) {
    uint64_t count = 0;
    if (!edge->child->pid || pread(edge->counters_fd, &count, sizeof count, COUNTER_CONNS * (off_t)sizeof count) < 0)
        return 0;
    return count > CLIENTS_MAX ? CLIENTS_MAX : (uint32_t)count;
}

/* Between two clients of all. */
static uint64_t interval_us(const struct options *o, uint64_t total) {
    uint64_t spread_us = (uint64_t)(o->lame_duck_duration_ns - o->lame_duck_grace_period_ns) / 1000;
    uint64_t interval = spread_us / total;
    return interval > INTERVAL_US ? INTERVAL_US : interval ? interval : 1;
}

static void close_clients(struct supervisor *s) {
    uint32_t counts[LINKS_MAX];
    uint64_t total = 0, begun = 0;
    for (struct edge *e = edges_next(s, NULL); e; e = edges_next(s, e))
        total += counts[e->child->link] = count_clients(e);
    log_info("Closing existing clients");
    uint64_t interval = interval_us(&s->config.options, total ? total : 1);
    for (struct edge *e = edges_next(s, NULL); e; e = edges_next(s, e)) {
        uint32_t count = counts[e->child->link];
        Bulkhead__LameDuck message = BULKHEAD__LAME_DUCK__INIT;
        uint64_t pace = interval * (total ? total : 1) / (count ? count : 1);
        message.wait_us = (uint32_t)(count ? begun++ * interval : 0);
        message.pace_us = pace > UINT32_MAX ? UINT32_MAX : (uint32_t)pace;
        if (!e->lame_done)
            child_send(s, e->child, MESSAGE_LAME_DUCK, &message.base, NULL, 0);
    }
}

uint64_t lame_tick(struct supervisor *s) {
    if (s->lame_closing_ms && s->now_ms >= s->lame_closing_ms) {
        s->lame_closing_ms = 0;
        if (!s->stop)
            close_clients(s);
    }
    return s->lame_closing_ms;
}
