/* SPDX-License-Identifier: Apache-2.0 */
/* Takes clients that have ended out of every module.
 *
 *   OPEN, BOUND --client_finish--> ENDING --all said--> FAILED --ends_run--> GONE --CONN_FREE, ends_empty--> freed
 *       `-----------------client_fail-----------------^
 *
 * An ending is a mark (client.c), set anywhere: in the middle of parsing, of a delivery, of a handshake. Here, once a turn and
 * called by nothing that is at work on a connection, buffers are freed and sockets closed. After its socket is closed the struct
 * stays, with its binding and subscriptions, until the router has freed the connection's number: a new router may have to be told of
 * it.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "frontend/frontend.h"

/* In one turn: so many connections that end, and so many subscriptions of those that have ended. */
enum { ENDS_AT_ONCE = 128, SUBS_AT_ONCE = 2048 };

/* No more input. What is to be said still goes out. */
static void fall_silent(struct frontend *f, struct client *c) {
    login_drop(f, c);
    input_release(c);
    list_remove(&c->ready);
    list_remove(&c->waits);
    if (c->flags & CLIENT_DISARMED)
        return;
    c->flags |= CLIENT_DISARMED;
    client_sync_events(f, c);
}

/* Input that nobody will read would turn our close into a reset, and a reset could overtake the last text. */
static void drain_input(int fd) {
    char sink[16384];
    for (int i = 0; i < 16; i++)
        if (recv(fd, sink, sizeof sink, MSG_DONTWAIT) <= 0)
            return;
}

static void close_socket(struct frontend *f, struct client *c) {
    if (c->flags & CLIENT_POLITE)
        drain_input(c->fd);
    close(c->fd);
    c->fd = -1;
    f->client_count--;
    accept_place_back(f, c);
}

/* Only what a replay needs stays. */
static void leave(struct frontend *f, struct client *c) {
    client_log(c, LOG_DEBUG, "Client connection closed: %s", c->reason);
    if (unlikely(c->tls != NULL))
        tls_end(c, (c->flags & CLIENT_POLITE) && c->out_bytes == 0);
    login_drop(f, c);
    input_release(c);
    out_drop(f, c);
    timer_remove(f, c);
    struct list_link *links[] = {&c->fenced, &c->dirty, &c->borrows, &c->owes, &c->ready, &c->waits};
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        list_remove(links[i]);
    free(c->fence);
    free(c->who);
    free(c->user);
    c->fence = c->who = c->user = NULL;
    close_socket(f, c);
    c->state = CLIENT_GONE;
    memory_leaves(f, c);
    if (c->edge.number != EDGE_NO_NUMBER)
        owes(f, c);
    else
        free(c);
}

/* Its number is free when its subscriptions have gone: until then they are found by it. */
void ends_freed(struct frontend *f, struct client *c) {
    check(c->state == CLIENT_GONE);
    f->by_number[c->edge.number] = NULL;
    list_remove(&c->owes);
    list_add(&f->freed, &c->ended);
}

/* Subscriptions of connections that the router has freed go some in each turn: they may be many. */
void ends_empty(struct frontend *f) {
    uint32_t most = SUBS_AT_ONCE;
    while (!list_is_empty(&f->freed)) {
        struct client *c = list_entry(f->freed.head.next, struct client, ended);
        if (!sub_drop_some(f, c, &most))
            return;
        list_remove(&c->ended);
        number_free(f, c->edge.number);
        free(c);
    }
}

void ends_run(struct frontend *f) {
    struct list_link *link = NULL;
    for (uint32_t n = 0; n < ENDS_AT_ONCE && (link = list_pop(&f->ended)); n++) {
        struct client *c = list_entry(link, struct client, ended);
        switch ((enum client_state)c->state) {
        case CLIENT_ENDING:
            fall_silent(f, c);
            break;
        case CLIENT_FAILED:
            leave(f, c);
            break;
        case CLIENT_GONE:
        case CLIENT_OPEN:
        case CLIENT_BOUND:
            check(false);
        }
    }
    if (list_is_empty(&f->ended))
        f->failing_bytes = 0;
}
