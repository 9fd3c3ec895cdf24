/* SPDX-License-Identifier: Apache-2.0 */
/* A connection's beginning, and the marks of its end.
 *
 * There are three ways to end: with a text after all that came before (client_error), quietly after all that came before
 * (client_finish), or now (client_fail). Each only marks the connection, so a function that is at work on it may still read it
 * and its buffers; output that is added later is dropped. The work is done in one place, once a turn: ends.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/check.h"
#include "frontend/frontend.h"

struct client *client_new(struct frontend *f, int fd) {
    struct client *c = timers_reserve(f) ? calloc(1, sizeof *c) : NULL;
    if (!c)
        return NULL;
    c->fd = fd;
    c->edge.number = EDGE_NO_NUMBER;
    c->options = RECORD_ECHO | RECORD_VERBOSE | RECORD_PEDANTIC;
    c->window_cap = WINDOW_FIRST_UNITS;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        free(c);
        return NULL;
    }
    f->client_count++;
    return c;
}

void client_sync_events(struct frontend *f, struct client *c) {
    struct epoll_event event = {.data.ptr = c};
    if (!(c->flags & CLIENT_DISARMED))
        event.events |= EPOLLIN;
    if (c->flags & CLIENT_BLOCKED)
        event.events |= EPOLLOUT;
    epoll_ctl(f->epoll, EPOLL_CTL_MOD, c->fd, &event);
}

bool client_paused(const struct client *c) {
    return c->flags & (CLIENT_WANTS_PLACE | CLIENT_STALLED | CLIENT_CHECKED);
}

void client_wake(struct frontend *f, struct client *c) {
    if ((c->flags & CLIENT_HELD) && c->state < CLIENT_ENDING && !client_paused(c))
        list_add(&f->ready, &c->ready);
}

/* ---- the marks ---- */

void client_finish(struct frontend *f, struct client *c, const char *reason) {
    if (c->state >= CLIENT_ENDING)
        return;
    c->state = CLIENT_ENDING;
    c->reason = reason;
    c->ping_due_ms = c->auth_due_ms = 0;
    list_add(&f->ended, &c->ended);
    fence_add(f, c, NULL, 0);
}

void client_error(struct frontend *f, struct client *c, const char *text, const char *reason) {
    if (c->state >= CLIENT_ENDING)
        return;
    if (text) {
        char line[256];
        int n = snprintf(line, sizeof line, "-ERR '%s'\r\n", text);
        fence_add(f, c, line, (size_t)n);
    }
    client_finish(f, c, reason);
}

void client_fail(struct frontend *f, struct client *c, const char *reason) {
    if (c->state >= CLIENT_FAILED)
        return;
    if (c->state == CLIENT_ENDING)
        c->flags |= CLIENT_POLITE;
    c->state = CLIENT_FAILED;
    c->reason = reason;
    list_add(&f->ended, &c->ended);
}

void client_no_memory(struct frontend *f, struct client *c) {
    if (c->state < CLIENT_FAILED)
        counter_add(f->counters, COUNTER_MEMORY_KICKED, 1);
    client_fail(f, c, "Out Of Memory");
}
