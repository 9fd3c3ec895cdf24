/* SPDX-License-Identifier: Apache-2.0 */
/* One turn of the loop, and what an event does. Time is as the caller has read it; nothing waits here. */
#include <sys/epoll.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "frontend/frontend.h"

/* ---- events ---- */

/* The connection is gone in both directions. What was read from it before still counts. */
static void hung_up(struct frontend *f, struct client *c) {
    if (!(c->flags & CLIENT_HELD) || c->state >= CLIENT_ENDING) {
        client_fail(f, c, "Client Closed");
        return;
    }
    c->flags |= CLIENT_HALF | CLIENT_DISARMED;
    epoll_ctl(f->epoll, EPOLL_CTL_DEL, c->fd, NULL); /* it would be reported without end */
}

static void client_event(struct frontend *f, struct client *c, uint32_t events) {
    if (c->state >= CLIENT_FAILED)
        return;
    if (events & EPOLLOUT) {
        if (unlikely(c->tls != NULL) && tls_wants_write(c->tls))
            tls_writable(f, c);
        else
            out_flush(f, c);
    }
    if ((events & EPOLLIN) && !f->link.ring_full)
        input_read(f, c);
    if ((events & (EPOLLERR | EPOLLHUP)) && c->state < CLIENT_FAILED && (c->flags & (CLIENT_DISARMED | CLIENT_HALF)))
        hung_up(f, c);
}

void turn_event(struct frontend *f, const struct epoll_event *e) {
    if (e->data.ptr == &f->control) {
        control_events(f);
    } else if (e->data.ptr == &f->authd) {
        login_events(f);
    } else if (e->data.ptr == f->signer) {
        tls_signer_events(f, e->events);
    } else if (e->data.ptr == &f->listener) {
        accept_some(f);
    } else if (e->data.ptr == &f->link.bell_in) {
        char bells[256];
        if (read(f->link.bell_in, bells, sizeof bells) == 0)
            epoll_ctl(f->epoll, EPOLL_CTL_DEL, f->link.bell_in, NULL);
    } else {
        client_event(f, e->data.ptr, e->events);
    }
}

/* ---- a turn ---- */

static void publish(struct frontend *f) {
    owes_pay(f);
    edge_link_publish(&f->link);
}

void turn_once(struct frontend *f) {
    f->turn_written = 0;
    if (!f->link.ring_full) {
        login_run(f);
        input_resume(f);
    }
    publish(f);
    egress_run(f);
    publish(f);
    if (edge_replay_pending(&f->replay))
        edge_replay_write(&f->replay);
    timers_run(f);
    out_flush_dirty(f);
    ends_run(f);
    memory_watch(f);
    ends_run(f);
    ends_empty(f);
    if (unlikely(f->delays != NULL))
        delays_run(f);
    if (unlikely(f->lame))
        lame_run(f);
    publish(f);
    edge_link_room(&f->link);
    login_refill(f);
    counter_add(f->counters, COUNTER_HEARTBEAT, 1);
    counter_set(f->counters, COUNTER_LOG_DROPPED, log_dropped());
    counter_set(f->counters, COUNTER_CONNS, f->client_count);
    counter_set(f->counters, COUNTER_SUBS, f->sub_count);
}
