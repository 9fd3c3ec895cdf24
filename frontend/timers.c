/* SPDX-License-Identifier: Apache-2.0 */
/* Pings, deadlines, the time for a login and the ends of stalls: one heap entry per connection, due at the earliest of its times.
 *
 * Activity does not touch the heap: a timer that fires looks at when the connection was last active and goes on waiting.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "frontend/frontend.h"
#include "nats/errors.h"

enum { FIRST_PING_MS = 2000, RTT_VALID_MS = 60 * 60 * 1000 };

/* ---- the heap ---- */

static void put(struct frontend *f, uint32_t i, struct client *c) {
    f->heap[i] = c;
    c->heap_at = i + 1;
}

static void sift_up(struct frontend *f, uint32_t i, struct client *c) {
    while (i > 0 && f->heap[(i - 1) / 2]->due_ms > c->due_ms) {
        put(f, i, f->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    put(f, i, c);
}

static void sift_down(struct frontend *f, uint32_t i, struct client *c) {
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= f->heap_count)
            break;
        if (child + 1 < f->heap_count && f->heap[child + 1]->due_ms < f->heap[child]->due_ms)
            child++;
        if (f->heap[child]->due_ms >= c->due_ms)
            break;
        put(f, i, f->heap[child]);
        i = child;
    }
    put(f, i, c);
}

void timer_remove(struct frontend *f, struct client *c) {
    if (c->heap_at == 0)
        return;
    uint32_t i = c->heap_at - 1;
    struct client *last = f->heap[--f->heap_count];
    c->heap_at = 0;
    if (last == c)
        return;
    if (i > 0 && f->heap[(i - 1) / 2]->due_ms > last->due_ms)
        sift_up(f, i, last);
    else
        sift_down(f, i, last);
}

static uint64_t earliest(uint64_t a, uint64_t b) {
    return a == 0 ? b : b == 0 ? a : a < b ? a : b;
}

/* 0: never. */
static uint64_t due_of(const struct client *c) {
    uint64_t due = earliest(earliest(c->write_due_ms, c->auth_due_ms), earliest(c->ping_due_ms, c->stall_due_ms));
    return unlikely(c->tls != NULL) ? earliest(due, tls_due_ms(c->tls)) : due;
}

bool timers_reserve(struct frontend *f) {
    if (f->client_count < f->heap_cap)
        return true;
    uint32_t cap = f->heap_cap ? 2 * f->heap_cap : 256;
    struct client **grown = realloc(f->heap, cap * sizeof(struct client *));
    if (!grown)
        return false;
    f->heap = grown;
    f->heap_cap = cap;
    return true;
}

void timer_update(struct frontend *f, struct client *c) {
    uint64_t due = due_of(c);
    if (due == 0 || c->state >= CLIENT_FAILED) {
        timer_remove(f, c);
        return;
    }
    if (c->heap_at != 0 && c->due_ms == due)
        return;
    if (c->heap_at == 0) {
        check(f->heap_count < f->heap_cap); /* there is one entry for each client that has a socket */
        c->due_ms = due;
        sift_up(f, f->heap_count++, c);
        return;
    }
    uint32_t i = c->heap_at - 1;
    bool earlier = due < c->due_ms;
    c->due_ms = due;
    if (earlier)
        sift_up(f, i, c);
    else
        sift_down(f, i, c);
}

/* Entries that are never due any more stay until they come up. */
void timers_renew(struct frontend *f) {
    for (uint32_t i = 0; i < f->heap_count; i++) {
        uint64_t due = due_of(f->heap[i]);
        f->heap[i]->due_ms = due ? due : UINT64_MAX;
    }
    for (uint32_t i = f->heap_count / 2; i-- > 0;)
        sift_down(f, i, f->heap[i]);
}

int timers_wait_ms(const struct frontend *f) {
    uint64_t due = earliest(f->heap_count ? f->heap[0]->due_ms : 0, f->lame_due_ms);
    if (unlikely(f->delays != NULL))
        due = earliest(due, delays_due_ms(f));
    if (f->rest_until_ms > f->now_ms)
        due = earliest(due, f->rest_until_ms);
    if (due == 0)
        return -1;
    return due <= f->now_ms ? 0 : due - f->now_ms > 60000 ? 60000 : (int)(due - f->now_ms);
}

/* ---- what is due ---- */

void ping_restart(struct frontend *f, struct client *c, bool first) {
    uint64_t wait = f->settings.ping_interval_ms;
    if (first) {
        wait = wait < FIRST_PING_MS ? wait : FIRST_PING_MS;
        wait += wait * (hash_pair(&f->hash, c->cid, f->now_ns) % 200) / 1000;
    }
    c->ping_due_ms = f->now_ms + wait;
    timer_update(f, c);
}

static void ping_due(struct frontend *f, struct client *c) {
    uint64_t interval = f->settings.ping_interval_ms;
    bool measured = c->ping_sent_ms != 0 && f->now_ms - c->ping_sent_ms < RTT_VALID_MS;
    bool active = c->activity_ms != 0 && f->now_ms - c->activity_ms < interval;
    client_log(c, LOG_DEBUG, "Client Ping Timer");
    if (!(measured && active)) {
        if (c->ping_out + 1u > f->settings.ping_max) {
            counter_add(f->counters, COUNTER_STALE, 1);
            client_log(c, LOG_DEBUG, "Stale Client Connection - Closing");
            client_error(f, c, NATS_ERR_STALE, "Stale Connection");
            return;
        }
        c->ping_out++;
        c->ping_sent_ms = f->now_ms;
        out_bytes(f, c, "PING\r\n", 6);
        if (log_traces())
            client_trace_out(c, VIEW("PING"));
    }
    ping_restart(f, c, false);
}

static void write_due(struct frontend *f, struct client *c) {
    out_flush(f, c); /* the socket may have drained since: then the deadline has moved or is gone */
    if (c->state >= CLIENT_FAILED || c->write_due_ms == 0 || c->write_due_ms > f->now_ms)
        return;
    client_log(c, LOG_INFO, "Slow Consumer Detected: WriteDeadline of %.3gs exceeded with %llu total bytes.",
               f->settings.write_deadline_ms / 1000.0, (unsigned long long)c->out_bytes);
    counter_add(f->counters, COUNTER_SLOW_CONSUMERS, 1);
    client_fail(f, c, "Slow Consumer (Write Deadline)");
}

static bool is_due(const struct frontend *f, uint64_t due_ms) {
    return due_ms != 0 && due_ms <= f->now_ms;
}

void timers_run(struct frontend *f) {
    while (f->heap_count > 0 && f->heap[0]->due_ms <= f->now_ms) {
        struct client *c = f->heap[0];
        if (c->state >= CLIENT_FAILED) {
            timer_remove(f, c);
            continue;
        }
        if (is_due(f, c->stall_due_ms)) {
            c->stall_due_ms = 0;
            c->flags &= ~(uint32_t)CLIENT_STALLED;
            link_window_begin(c, 1);
            client_wake(f, c);
        }
        if (is_due(f, c->auth_due_ms))
            login_due(f, c);
        if (is_due(f, c->ping_due_ms)) {
            c->ping_due_ms = 0;
            if (c->state < CLIENT_ENDING)
                ping_due(f, c);
        }
        if (is_due(f, c->write_due_ms))
            write_due(f, c);
        if (unlikely(c->tls != NULL) && c->state < CLIENT_FAILED && is_due(f, tls_due_ms(c->tls)))
            tls_due(f, c);
        timer_update(f, c);
    }
}
