/* SPDX-License-Identifier: Apache-2.0 */
/* The router's conversation: how far the account book goes, and how far the router has read it. */
#include <sys/epoll.h>

#include "authd/authd.h"
#include "ipc/book.pb-c.h"

static void router_close(struct authd *a) {
    if (a->router.fd < 0)
        return;
    authd_poll(a, a->router.fd, EVENT_ROUTER, &a->router_polled, 0);
    channel_close(&a->router);
    a->read_pos = 0;
    authd_on_book(a);
}

static enum err on_book_read(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct authd *a = owner;
    a->read_pos = ((const Bulkhead__BookRead *)message)->read_pos;
    authd_on_book(a);
    return ERR_OK;
}

static const struct channel_rule rules[] = {
    {MESSAGE_BOOK_READ, 0, 1, 64, &bulkhead__book_read__descriptor, on_book_read},
};

void router_tell(struct authd *a) {
    if (a->router.fd < 0)
        return;
    Bulkhead__BookGrown grown = BULKHEAD__BOOK_GROWN__INIT;
    grown.written_pos = a->identity.book.pos;
    if (channel_send(&a->router, MESSAGE_BOOK_GROWN, &grown.base, NULL, 0) != ERR_OK)
        router_close(a); /* it has died already; the next one will come */
    else
        authd_poll(a, a->router.fd, EVENT_ROUTER, &a->router_polled, EPOLLIN | (a->router.backlog ? EPOLLOUT : 0u));
}

enum err router_open(struct authd *a, int fd) {
    router_close(a);
    enum err e = channel_open(&a->router, fd, "router", rules, 1, a, 0);
    if (e == ERR_OK)
        router_tell(a);
    return e;
}

void router_on_event(struct authd *a) {
    if (a->router.fd < 0)
        return;
    channel_flush(&a->router);
    if (channel_receive(&a->router, PACKETS_PER_TURN) != ERR_OK)
        router_close(a);
    else
        authd_poll(a, a->router.fd, EVENT_ROUTER, &a->router_polled, EPOLLIN | (a->router.backlog ? EPOLLOUT : 0u));
}
