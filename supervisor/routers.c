/* SPDX-License-Identifier: Apache-2.0 */
/* The router at work and the one that waits.
 *
 *   spawn -> Key, Settings -> (spare) -> Kernel, Link…, Peer(authd), Begin -> NOTE_RECOVERED -> NOTE_READY -> (at work)
 *
 * When the router at work dies, the spare gets the kernel memory and every live link in the same turn of the loop. Its
 * successor as spare is started when it is ready, so that the two do not compete for a processor.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "shm/commit.h"
#include "supervisor/supervisor.h"

/* Lets c, which runs and waits, play the router. */
static void put_to_work(struct supervisor *s, struct child *c) {
    s->router = c->number;
    s->router_state = ROUTER_RECOVERING;
    c->hangs.poked = false; /* its heartbeat is another one now */
    Bulkhead__Kernel kernel = BULKHEAD__KERNEL__INIT;
    kernel.epoch = ++s->epoch;
    kernel.died_signal = s->died_signal;
    child_send(s, c, MESSAGE_KERNEL, &kernel.base, (int[]){s->commit_fd, s->replies_fd}, 2);
    edges_router_begins(s);
    child_meet(s, c);
    child_send(s, c, MESSAGE_BEGIN, NULL, NULL, 0);
}

/* A spare that runs takes over. */
static void fill_vacancy(struct supervisor *s) {
    for (uint32_t i = 0; i < 2 && !s->router && !s->stop; i++) {
        struct child *c = child_of(s, BULKHEAD__ROLE__ROLE_ROUTER, i);
        if (c->pid && !c->blamed)
            put_to_work(s, c);
    }
}

void routers_start(struct supervisor *s, struct child *c) {
    bool wanted = !s->router || s->router_state == ROUTER_READY;
    if (s->stop || c->pid || !wanted || c->restart_ms > s->now_ms || child_start(s, c) != ERR_OK)
        return;
    child_send(s, c, MESSAGE_BOOK, NULL, &s->book_reader_fd, 1);
    fill_vacancy(s);
}

static void start_all(struct supervisor *s, const struct family_role *role) {
    for (uint32_t i = 0; i < role->most; i++)
        routers_start(s, child_of(s, role->role, i));
}

void routers_settings(const struct supervisor *s, struct settings *settings) {
    settings->max_payload = s->payload_most;
}

static void on_ready(struct supervisor *s, struct child *c) {
    c->ready = true;
    if (c->number != s->router)
        return; /* a spare that is ready to wait */
    if (s->router_state == ROUTER_READY)
        return;
    s->router_state = ROUTER_READY;
    if (s->router_died_ms)
        log_info("Router (pid %d) took over %llu ms after the death of the one before", (int)c->pid,
                 (unsigned long long)(clock_mono_ms() - s->router_died_ms));
    s->router_died_ms = 0;
    edges_link_waiting(s);
    start_all(s, c->role);
}

void routers_on_note(struct supervisor *s, struct child *c, const struct note *note) {
    if (note->type == NOTE_READY) {
        on_ready(s, c);
        return;
    }
    if (c->number != s->router) {
        child_blame(c, "sent a note though it is not at work");
        return;
    }
    struct edge *edge = note->number < LINKS_MAX ? &s->edge[note->number] : NULL;
    bool link_known = edge && edge->child;
    switch (note->type) {
    case NOTE_RECOVERED:
        if (note->number != s->epoch || s->router_state != ROUTER_RECOVERING) {
            child_blame(c, "recovered out of turn");
            return;
        }
        s->router_state = ROUTER_REPLAYING;
        edges_router_recovered(s);
        return;
    case NOTE_MAPPED:
        if (link_known) {
            edges_router_mapped(s, edge);
            return;
        }
        break;
    case NOTE_LINK_BAD:
        if (link_known) {
            edges_router_bad(edge, note->value);
            return;
        }
        break;
    case NOTE_LINK_GONE:
        if (link_known) {
            edges_router_gone(s, edge, note->value);
            return;
        }
        break;
    default:
        break;
    }
    child_blame(c, "sent a note that its role may not send");
}

void routers_on_exit(struct supervisor *s, struct child *c, const struct death *death) {
    child_rest(s, c, death->fault, CHILD_REST_MS);
    if (c->number == s->router) {
        s->router = 0;
        s->router_state = ROUTER_NONE;
        /* A router that was killed because it hangs died of what it was working on; one that somebody had stopped did not. */
        bool outside =
            (death->signal_number == SIGKILL || death->signal_number == SIGTERM) && (!c->blamed || c->stopped);
        s->died_signal = outside ? 0 : death->signal_number;
        s->router_died_ms = s->now_ms;
        edges_router_died(s);
        fill_vacancy(s);
    }
    start_all(s, c->role);
}
