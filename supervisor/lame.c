/* Lame duck: nobody new, and those who are there leave one by one; then the server ends with status 0.
 *
 * Every frontend spreads its own clients over the same time; together they close one in a second at most, unless there
 * are so many that this would take longer than lame_duck_duration.
 */
#include <signal.h>
#include <unistd.h>

#include "base/log.h"
#include "supervisor/notify.h"
#include "supervisor/supervisor.h"

enum { INTERVAL_MS = 1000 };

static uint32_t to_ms(int64_t ns) {
    return ns < 0 ? 0 : (uint32_t)(ns / 1000000);
}

static bool all_done(const struct supervisor *s) {
    for (uint32_t i = 0; i < s->edge_count; i++) {
        if (!s->edge[i].lame_done)
            return false;
    }
    return true;
}

void lame_begin(struct supervisor *s) {
    const struct options *o = &s->config.options;
    if (s->lame || s->stop)
        return;
    s->lame = true;
    log_info("Entering lame duck mode, stop accepting new clients");
    notify_stopping();
    Bulkhead__LameDuck message = BULKHEAD__LAME_DUCK__INIT;
    message.grace_ms = to_ms(o->lame_duck_grace_period_ns);
    message.spread_ms = to_ms(o->lame_duck_duration_ns - o->lame_duck_grace_period_ns);
    message.interval_ms = INTERVAL_MS * s->edge_count;
    s->lame_closing_ms = s->now_ms + message.grace_ms + 1;
    for (uint32_t i = 0; i < s->edge_count; i++) {
        struct child *c = child_of(s, BULKHEAD__ROLE__ROLE_FRONTEND, i);
        close(s->edge[i].listener);
        s->edge[i].listener = -1;
        if (c->pid && s->edge[i].state == EDGE_GOING) {
            child_send(s, c, MESSAGE_LAME_DUCK, &message.base, NULL, 0);
        } else { /* it has no clients, and shall get none */
            s->edge[i].lame_done = true;
            child_signal(c, SIGKILL);
        }
    }
    lame_go_on(s);
}

void lame_on_done(struct supervisor *s, uint32_t link) {
    s->edge[link].lame_done = true;
    lame_go_on(s);
}

void lame_go_on(struct supervisor *s) {
    if (s->lame && !s->stop && all_done(s))
        supervisor_stop(s, SIGINT);
}

uint64_t lame_tick(struct supervisor *s) {
    if (s->lame_closing_ms && s->now_ms >= s->lame_closing_ms) {
        s->lame_closing_ms = 0;
        if (!s->stop)
            log_info("Closing existing clients");
    }
    return s->lame_closing_ms;
}
