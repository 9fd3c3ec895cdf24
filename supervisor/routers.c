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

static struct child *router_at_work(struct supervisor *s) {
    return s->router ? &s->child[s->router] : NULL;
}

void routers_link(struct supervisor *s, uint32_t link, bool fresh) {
    int fds[LINK_ROUTER_FDS];
    links_router_fds(&s->edge[link].memory, fds);
    Bulkhead__Link message = BULKHEAD__LINK__INIT;
    message.link = link;
    message.kind = LINK_FRONTEND;
    message.incarnation = s->edge[link].incarnation;
    message.fresh = fresh;
    child_send(s, router_at_work(s), MESSAGE_LINK, &message.base, fds, LINK_ROUTER_FDS);
}

static void send_links(struct supervisor *s) {
    for (uint32_t i = 0; i < s->edge_count; i++) {
        struct edge *edge = &s->edge[i];
        if (edge->state == EDGE_MAPPED)
            edge->state = EDGE_LINKING;
        if (edge->state != EDGE_LINKING && edge->state != EDGE_GOING)
            continue;
        edge->replay_owed = edge->state == EDGE_GOING;
        routers_link(s, i, !edge->replay_owed);
    }
}

/* Lets c, which runs and waits, play the router. */
static void put_to_work(struct supervisor *s, struct child *c) {
    s->router = c->number;
    s->router_state = ROUTER_RECOVERING;
    c->hangs.poked = false; /* its heartbeat is another one now */
    Bulkhead__Kernel kernel = BULKHEAD__KERNEL__INIT;
    kernel.epoch = ++s->epoch;
    kernel.died_signal = s->died_signal;
    child_send(s, c, MESSAGE_KERNEL, &kernel.base, (int[]){s->commit_fd, s->replies_fd}, 2);
    send_links(s);
    child_introduce(s, c, child_of(s, BULKHEAD__ROLE__ROLE_AUTHD, 0));
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

void routers_start(struct supervisor *s) {
    for (uint32_t i = 0; i < 2 && !s->stop; i++) {
        struct child *c = child_of(s, BULKHEAD__ROLE__ROLE_ROUTER, i);
        bool wanted = !s->router || s->router_state == ROUTER_READY;
        if (wanted && !c->pid && c->restart_ms <= s->now_ms &&
            child_start(s, c, s->counters_fd[c->role->role]) == ERR_OK) {
            child_send(s, c, MESSAGE_BOOK, NULL, &s->book_reader_fd, 1);
            fill_vacancy(s);
        }
    }
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
    routers_start(s);
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
    bool link_known = note->number < s->edge_count;
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
            edges_router_mapped(s, note->number);
            return;
        }
        break;
    case NOTE_LINK_BAD:
        if (link_known) {
            edges_router_bad(s, note->number, note->value);
            return;
        }
        break;
    case NOTE_LINK_GONE:
        if (link_known) {
            edges_router_gone(s, note->number, note->value);
            return;
        }
        break;
    default:
        break;
    }
    child_blame(c, "sent a note that its role may not send");
}

void routers_on_exit(struct supervisor *s, struct child *c, bool fault, int signal_number) {
    c->restart_ms = s->now_ms + child_restart_delay(s, c, &s->router_restarts, fault, CHILD_REST_MS);
    if (c->number == s->router) {
        s->router = 0;
        s->router_state = ROUTER_NONE;
        /* A router that was killed because it hangs died of what it was working on; one that somebody had stopped did not. */
        bool outside = (signal_number == SIGKILL || signal_number == SIGTERM) && (!c->blamed || c->stopped);
        s->died_signal = outside ? 0 : signal_number;
        s->router_died_ms = s->now_ms;
        edges_router_died(s);
        fill_vacancy(s);
    }
    routers_start(s);
}
