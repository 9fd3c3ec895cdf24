/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that wait before a byte of them is read, because frontends died of input from their address.
 *
 * The supervisor says which sources wait, and how long (ipc/control.proto, Delay). Such a connection is accepted and set aside
 * as a bare socket: no client, no place, no INFO. When its time has come it begins as any other does. Both tables are small; of more
 * connections than fit the newest is closed at once.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "frontend/frontend.h"

enum { SOURCES_MAX = 128, ASIDE_MAX = 256, AGAIN_MS = 10 };

struct delays {
    uint32_t source_count, aside_count;
    struct {
        struct in6_addr address; /* IPv6: the network of 64 bits */
        uint32_t wait_ms;
        uint64_t until_ms;
    } source[SOURCES_MAX];
    struct {
        struct sockaddr_storage from;
        uint64_t due_ms;
        int fd;
    } aside[ASIDE_MAX];
};

static uint32_t find_source(const struct delays *d, const struct in6_addr *address) {
    uint32_t i = 0;
    while (i < d->source_count && memcmp(&d->source[i].address, address, sizeof *address) != 0)
        i++;
    return i;
}

enum err delays_add(struct frontend *f, const struct in6_addr *source, uint32_t wait_ms, uint32_t lasts_ms) {
    if (!f->delays)
        f->delays = calloc(1, sizeof *f->delays);
    struct delays *d = f->delays;
    if (!d)
        return ERR_OK; /* then nobody waits */
    uint32_t at = find_source(d, source);
    if (at == SOURCES_MAX) { /* the table is full: replaces the source whose time ends first */
        at = 0;
        for (uint32_t i = 1; i < SOURCES_MAX; i++)
            at = d->source[i].until_ms < d->source[at].until_ms ? i : at;
    }
    if (at == d->source_count)
        d->source_count++;
    d->source[at].address = *source;
    d->source[at].wait_ms = wait_ms;
    d->source[at].until_ms = f->now_ms + lasts_ms;
    return ERR_OK;
}

/* For how long a new connection from there waits; 0: not at all. */
static uint32_t wait_of(const struct frontend *f, const struct sockaddr_storage *from) {
    uint16_t port;
    struct in6_addr source = accept_address(from, &port);
    if (!IN6_IS_ADDR_V4MAPPED(&source))
        memset(&source.s6_addr[8], 0, 8);
    uint32_t at = find_source(f->delays, &source);
    return at < f->delays->source_count && f->delays->source[at].until_ms > f->now_ms ? f->delays->source[at].wait_ms
                                                                                      : 0;
}

bool delays_hold(struct frontend *f, int fd, const struct sockaddr_storage *from) {
    struct delays *d = f->delays;
    uint32_t wait_ms = wait_of(f, from);
    if (!wait_ms)
        return false;
    if (d->aside_count == ASIDE_MAX) {
        log_debug("Too many connections of delayed addresses: one is closed");
        close(fd);
        return true;
    }
    d->aside[d->aside_count].fd = fd;
    d->aside[d->aside_count].from = *from;
    d->aside[d->aside_count++].due_ms = f->now_ms + wait_ms;
    return true;
}

void delays_run(struct frontend *f) {
    struct delays *d = f->delays;
    for (uint32_t i = 0; i < d->aside_count;) {
        if (!f->lame && d->aside[i].due_ms > f->now_ms) {
            i++;
        } else if (f->lame || accept_begin(f, d->aside[i].fd, &d->aside[i].from)) {
            if (f->lame)
                close(d->aside[i].fd);
            d->aside[i] = d->aside[--d->aside_count];
        } else {
            d->aside[i++].due_ms = f->now_ms + AGAIN_MS;
        }
    }
}

uint32_t delays_count(const struct frontend *f) {
    return f->delays ? f->delays->aside_count : 0;
}

uint64_t delays_due_ms(const struct frontend *f) {
    uint64_t due_ms = 0;
    for (uint32_t i = 0; i < f->delays->aside_count; i++) {
        if (due_ms == 0 || f->delays->aside[i].due_ms < due_ms)
            due_ms = f->delays->aside[i].due_ms;
    }
    return due_ms;
}
