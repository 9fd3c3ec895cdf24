/* SPDX-License-Identifier: Apache-2.0 */
/* A lame duck, and connections that a smaller max_connections leaves no place for.
 *
 * A lame duck accepts nobody, tells its clients so that they go elsewhere, waits until the supervisor gives it a pace,
 * and then closes them one by one, so that they do not all arrive elsewhere at once. The connections to close are found in the
 * timer heap: every open connection is there, with its PING.
 */
#include <stdlib.h>
#include <unistd.h>

#include "frontend/frontend.h"
#include "ipc/note.h"
#include "nats/errors.h"

static bool is_open(const struct client *c) {
    return c->state < CLIENT_ENDING;
}

/* One that is open, beginning to look anywhere; stranger: one with a place that nobody has logged in on. Null: none. */
static struct client *pick(const struct frontend *f, bool stranger) {
    uint32_t count = f->heap_count, from = count ? (uint32_t)(hash_pair(&f->hash, f->now_ns, count) % count) : 0;
    for (uint32_t i = 0; i < count; i++) {
        struct client *c = f->heap[(from + i) % count];
        if (is_open(c) && (!stranger || (c->state == CLIENT_OPEN && c->flags & CLIENT_PLACE)))
            return c;
    }
    return NULL;
}

/* ---- the lame duck ---- */

static void close_listener(struct frontend *f) {
    if (f->listener < 0)
        return;
    accept_disarm(f);
    close(f->listener);
    f->listener = -1;
}

static void set_due(struct frontend *f, uint64_t due_ns) {
    f->lame_due_ns = due_ns;
    f->lame_due_ms = (due_ns + 999999) / 1000000;
}

static void tell_clients(struct frontend *f) {
    for (uint32_t n = 0; n < f->number_high; n++) {
        struct client *c = f->by_number[n];
        if (c && is_open(c) && c->protocol >= 1 && c->flags & CLIENT_PINGED)
            accept_info(f, c);
    }
}

void lame_begin(struct frontend *f, uint32_t wait_us, uint32_t pace_us) {
    bool first = !f->lame;
    f->lame = true;
    if (first) {
        close_listener(f);
        tell_clients(f);
    }
    f->lame_pace_us = pace_us;
    if (pace_us)
        set_due(f, f->now_ns + wait_us * UINT64_C(1000));
}

/* The time until the next one. */
static uint64_t next_wait_ns(const struct frontend *f) {
    uint64_t pace_ns = f->lame_pace_us * UINT64_C(1000);
    return pace_ns / 2 + hash_pair(&f->hash, f->now_ns, f->lame_due_ns) % (pace_ns / 2 + 1);
}

void lame_run(struct frontend *f) {
    if (f->client_count == 0) {
        if (!f->lame_told)
            f->lame_told = note_send(&f->control, NOTE_LAME_DONE, 0, 0) == ERR_OK;
        set_due(f, 0);
        return;
    }
    while (f->lame_due_ns != 0 && f->lame_due_ns <= f->now_ns) {
        struct client *c = pick(f, false);
        set_due(f, c ? f->lame_due_ns + next_wait_ns(f) : 0);
        if (!c)
            return; /* the rest is about to end */
        client_finish(f, c, "Server Shutdown");
        timer_update(f, c);
    }
}

/* ---- fewer places ---- */

void lame_shed(struct frontend *f, uint32_t count, bool strangers) {
    uint32_t idle = f->places < count ? f->places : count;
    if (idle && note_send(&f->control, NOTE_PLACES_BACK, idle, 0) == ERR_OK) {
        f->places -= idle;
        count -= idle;
    }
    if (!strangers)
        f->shed += count;
    for (uint32_t i = 0; i < count; i++) {
        struct client *c = pick(f, strangers);
        if (!c)
            return;
        f->shed += strangers;
        client_log(c, 'E', NATS_ERR_MAX_CONNECTIONS);
        client_error(f, c, NATS_ERR_MAX_CONNECTIONS, "Maximum Connections Exceeded");
        c->write_due_ms = f->now_ms + LINGER_MS;
        timer_update(f, c);
    }
}
