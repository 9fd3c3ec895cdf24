/* SPDX-License-Identifier: Apache-2.0 */
/* The output that waits for a client: a list of pieces.
 *
 * Small output lands in pooled pieces, the first one of a connection small, the next ones large, and leaves in one writev. A
 * large payload that goes to several clients is held once and referred to. A payload that goes to a single client is
 * written from the ring, and copied only if the socket does not take it before the ring's room is given back. A connection
 * without output has no piece.
 *
 * A client that reads slowly is gated: the router stalls its publishers. It is a slow consumer when more than max_pending waits
 * for it, not counting messages that were under way when the router heard of the gate. Those may be UNDER_WAY_BYTES for all
 * clients together and half of that for one client, so a client's output is bounded by max_pending and that half.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/check.h"
#include "base/log.h"
#include "frontend/frontend.h"

enum {
    PIECE_TINY = 256 - sizeof(struct piece), /* between shared payloads: the end of one, the line of the next */
    PIECE_SMALL = 2048 - sizeof(struct piece),
    PIECE_LARGE = 32768 - sizeof(struct piece),
    KEPT_SMALL = 4096, /* free pieces kept for reuse */
    KEPT_LARGE = 512,
    IOVECS = 64,
    SHARE_BYTES = 1 << 20,         /* written to one connection at a time */
    SHARE_LEAST_BYTES = 64 * 1024, /* the same when the turn has written enough */
    OWN_LINES_BYTES = 64 * 1024,   /* beyond max_pending, for lines that no other client causes */
    SETTLE_MS = 250,               /* a pause in what comes for a gated client: from now on it is new */
};

struct blob {
    uint32_t references;
    uint32_t len;
    char data[];
};

static uint64_t held; /* bytes of all pieces in use and of all blobs */

uint64_t out_held(void) {
    return held;
}

struct blob *blob_make(const void *bytes, uint32_t n) {
    struct blob *b = malloc(sizeof *b + n);
    if (!b)
        return NULL;
    held += sizeof *b + n;
    b->references = 1;
    b->len = n;
    memcpy(b->data, bytes, n);
    return b;
}

void blob_drop(struct blob *b) {
    if (--b->references > 0)
        return;
    held -= sizeof *b + b->len;
    free(b);
}

/* ---- pieces ---- */

/* A piece for n bytes that follow what c has. */
static struct piece *piece_take(struct frontend *f, const struct client *c, uint32_t n) {
    struct piece **kept = NULL;
    uint32_t cap = n, *count = NULL;
    if (n <= PIECE_TINY && c->out_last && c->out_last->cap == 0) {
        cap = PIECE_TINY;
    } else if (n <= PIECE_SMALL && !c->out_first) {
        kept = &f->free_small, count = &f->free_small_count, cap = PIECE_SMALL;
    } else if (n <= PIECE_LARGE) {
        kept = &f->free_large, count = &f->free_large_count, cap = PIECE_LARGE;
    }
    struct piece *p = kept ? *kept : NULL;
    if (p) {
        *kept = p->next;
        --*count;
    } else if (!(p = malloc(sizeof *p + cap))) {
        return NULL;
    }
    held += sizeof *p + cap;
    p->next = NULL;
    p->blob = NULL;
    p->at = p->data;
    p->len = 0;
    p->cap = cap;
    return p;
}

static void piece_give(struct frontend *f, struct piece *p) {
    if (p->blob)
        blob_drop(p->blob);
    held -= sizeof *p + p->cap;
    if (p->cap == PIECE_SMALL && f->free_small_count < KEPT_SMALL) {
        p->next = f->free_small;
        f->free_small = p;
        f->free_small_count++;
    } else if (p->cap == PIECE_LARGE && f->free_large_count < KEPT_LARGE) {
        p->next = f->free_large;
        f->free_large = p;
        f->free_large_count++;
    } else {
        free(p);
    }
}

static void piece_add(struct client *c, struct piece *p) {
    if (c->out_last)
        c->out_last->next = p;
    else
        c->out_first = p;
    c->out_last = p;
}

static uint32_t piece_room(const struct piece *p) {
    return p->cap == 0 ? 0 : p->cap - (uint32_t)(p->at - p->data) - p->len;
}

/* ---- adding ---- */

static void grown(struct frontend *f, struct client *c, uint32_t n) {
    c->out_bytes += n;
    list_add(&f->dirty, &c->dirty);
}

/* ---- bounds ---- */

static void under_way_set(struct frontend *f, struct client *c, uint64_t bytes) {
    f->under_way += bytes - c->under_way;
    c->under_way = bytes;
}

/* May c have so much beyond max_pending? One client gets at most half of what there is for all, many get less each. */
static bool under_way_grow(struct frontend *f, struct client *c, uint64_t bytes) {
    uint64_t others = f->under_way - c->under_way;
    if (bytes > c->under_way && others + 2 * bytes > UNDER_WAY_BYTES)
        return false;
    under_way_set(f, c, bytes);
    return true;
}

/* n bytes have come for a gated client. What the rings held when the router heard of the gate, and what its publishers had
 * sent before they were stalled, comes without a pause: it is under way, and not held against the client. */
static void watch_under_way(struct frontend *f, struct client *c, uint32_t n) {
    if ((c->flags & CLIENT_SETTLED) || !(c->flags & CLIENT_GATE_TOLD) || c->gate_pos > f->link.consumed_acted)
        return;
    if (c->settle_ms == 0 || f->now_ms < c->settle_ms) {
        c->settle_ms = f->now_ms + SETTLE_MS;
        return;
    }
    c->flags |= CLIENT_SETTLED;
    uint64_t before = c->out_bytes - n;
    if (before > f->gate_bytes + c->under_way)
        under_way_grow(f, c, before - f->gate_bytes);
}

/* More waits for c than it may have: is that because of what is under way? A line of our own, a PING for example, does not end
 * a client whose messages are excused. */
static bool excused(struct frontend *f, struct client *c) {
    if (!f->delivering)
        return c->out_bytes <= f->pending_bytes + c->under_way + OWN_LINES_BYTES;
    if (c->state != CLIENT_BOUND || (c->flags & CLIENT_SETTLED))
        return false;
    return under_way_grow(f, c, c->out_bytes - f->pending_bytes);
}

static void too_much(struct frontend *f, struct client *c) {
    client_log(c, LOG_INFO, "Slow Consumer Detected: MaxPending of %llu Exceeded",
               (unsigned long long)f->settings.max_pending);
    counter_add(f->counters, COUNTER_SLOW_CONSUMERS, 1);
    client_fail(f, c, "Slow Consumer (Pending Bytes)");
}

static void gate_open(struct frontend *f, struct client *c) {
    c->flags &= ~(uint32_t)(CLIENT_GATED | CLIENT_SETTLED);
    c->settle_ms = 0;
    under_way_set(f, c, 0);
}

static void watch_gate(struct frontend *f, struct client *c) {
    bool gated = c->flags & CLIENT_GATED;
    if (likely(!gated && c->out_bytes <= f->gate_bytes))
        return;
    if (!gated && c->state == CLIENT_BOUND)
        c->flags |= CLIENT_GATED;
    else if (gated && c->out_bytes < f->gate_bytes / 2)
        gate_open(f, c);
    else
        return;
    owes(f, c);
}

/* After n bytes were added: much output is written at once, and its bounds are checked. The output of a client whose socket is
 * full grows without a write, so its gate is checked here too. */
static void bound(struct frontend *f, struct client *c, uint32_t n) {
    if (likely(c->out_bytes < f->flush_bytes))
        return;
    if (!(c->flags & CLIENT_BLOCKED))
        out_flush(f, c);
    else
        watch_gate(f, c);
    if (unlikely(c->flags & CLIENT_GATED))
        watch_under_way(f, c, n);
    if (unlikely(c->out_bytes > f->pending_bytes + c->under_way) && c->state < CLIENT_FAILED && !excused(f, c))
        too_much(f, c);
}

char *out_room(struct frontend *f, struct client *c, uint32_t n) {
    struct piece *p = c->out_last;
    if (likely(p && piece_room(p) >= n))
        return p->data + (p->at - p->data) + p->len;
    p = piece_take(f, c, n);
    if (!p) {
        client_no_memory(f, c);
        return NULL;
    }
    piece_add(c, p);
    return p->data;
}

void out_put(struct frontend *f, struct client *c, uint32_t n) {
    c->out_last->len += n;
    grown(f, c, n);
    bound(f, c, n);
}

void out_bytes(struct frontend *f, struct client *c, const void *bytes, uint32_t n) {
    if (unlikely(c->state >= CLIENT_FAILED))
        return;
    const char *from = bytes;
    struct piece *p = c->out_last;
    uint32_t room = p ? piece_room(p) : 0;
    uint32_t now = n < room ? n : room;
    if (now > 0) {
        memcpy(p->data + (p->at - p->data) + p->len, from, now);
        p->len += now;
    }
    if (now < n) {
        p = piece_take(f, c, n - now);
        if (!p) {
            client_no_memory(f, c);
            return;
        }
        memcpy(p->data, from + now, n - now);
        p->len = n - now;
        piece_add(c, p);
    }
    grown(f, c, n);
    bound(f, c, n);
}

void out_blob(struct frontend *f, struct client *c, struct blob *b, uint32_t from, uint32_t n) {
    if (c->state >= CLIENT_FAILED)
        return;
    struct piece *p = malloc(sizeof *p);
    if (!p) {
        client_no_memory(f, c);
        return;
    }
    held += sizeof *p;
    b->references++;
    *p = (struct piece){.blob = b, .at = b->data + from, .len = n};
    piece_add(c, p);
    grown(f, c, n);
    bound(f, c, n);
}

void out_borrow(struct frontend *f, struct client *c, const void *bytes, uint32_t n) {
    if (c->state >= CLIENT_FAILED)
        return;
    struct piece *p = malloc(sizeof *p);
    if (!p) {
        client_no_memory(f, c);
        return;
    }
    held += sizeof *p;
    *p = (struct piece){.at = bytes, .len = n};
    piece_add(c, p);
    list_add(&f->borrowers, &c->borrows);
    grown(f, c, n);
    bound(f, c, n);
}

/* Copies output that still lies in the ring; false: no memory. */
static bool keep(struct client *c) {
    for (struct piece **link = &c->out_first; *link; link = &(*link)->next) {
        struct piece *p = *link;
        if (p->cap != 0 || p->blob)
            continue;
        struct piece *own = malloc(sizeof *own + p->len);
        if (!own)
            return false;
        *own = (struct piece){.next = p->next, .at = own->data, .len = p->len, .cap = p->len};
        held += p->len;
        memcpy(own->data, p->at, p->len);
        *link = own;
        if (c->out_last == p)
            c->out_last = own;
        free(p);
    }
    return true;
}

void out_return_borrowed(struct frontend *f) {
    for (struct list_link *link; (link = list_pop(&f->borrowers));) {
        struct client *c = list_entry(link, struct client, borrows);
        if (c->state < CLIENT_FAILED && !keep(c))
            client_no_memory(f, c);
    }
}

uint64_t out_held_by(const struct client *c) {
    uint64_t bytes = 0;
    for (const struct piece *p = c->out_first; p; p = p->next)
        bytes += sizeof *p + p->cap + (p->blob ? p->blob->len / p->blob->references : 0);
    return bytes;
}

void out_drop(struct frontend *f, struct client *c) {
    while (c->out_first) {
        struct piece *p = c->out_first;
        c->out_first = p->next;
        piece_give(f, p);
    }
    c->out_last = NULL;
    c->out_bytes = 0;
    under_way_set(f, c, 0);
}

/* ---- writing ---- */

static void tell_drain(struct frontend *f, struct client *c, size_t n) {
    c->drained += n < DRAINS_BYTES ? (uint32_t)n : DRAINS_BYTES;
    if (c->drained < DRAINS_BYTES)
        return;
    c->drained = 0;
    c->flags |= CLIENT_DRAINS;
    owes(f, c);
}

static void written(struct frontend *f, struct client *c, size_t n) {
    c->out_bytes -= n;
    if (unlikely(c->flags & CLIENT_GATE_TOLD))
        tell_drain(f, c, n);
    while (n > 0) {
        struct piece *p = c->out_first;
        if (n < p->len) {
            p->at += n;
            p->len -= (uint32_t)n;
            return;
        }
        n -= p->len;
        c->out_first = p->next;
        if (!c->out_first)
            c->out_last = NULL;
        piece_give(f, p);
    }
}

/* The bytes of the next record: where they lie, or gathered from several pieces. As long as nothing is taken, the same bytes
 * come again, followed by no fewer: an encrypted record that waits for the socket is theirs. */
static size_t next_record(const struct client *c, const char **at) {
    static char gathered[16 * 1024];
    const struct piece *p = c->out_first;
    *at = p->at;
    if (p->len >= sizeof gathered)
        return sizeof gathered;
    if (!p->next)
        return p->len;
    size_t len = 0;
    for (*at = gathered; p && len < sizeof gathered; p = p->next) {
        size_t n = p->len < sizeof gathered - len ? p->len : sizeof gathered - len;
        memcpy(gathered + len, p->at, n);
        len += n;
    }
    return len;
}

static bool write_records(struct frontend *f, struct client *c, uint64_t share) {
    while (c->out_bytes > 0) {
        const char *at;
        size_t len = next_record(c, &at);
        ssize_t n = tls_write(c, at, len);
        if (n < 0)
            return errno == EAGAIN;
        f->turn_written += (uint64_t)n;
        written(f, c, (size_t)n);
        if ((uint64_t)n >= share)
            break;
        share -= (uint64_t)n;
    }
    return true;
}

/* Writes until nothing is left, the socket is full or this connection has had its share of the turn; false: the socket is
 * broken. When the turn has written enough in all, the share is small, but never nothing: else the clients served last
 * would starve behind a few with much output. */
static bool write_all(struct frontend *f, struct client *c) {
    uint64_t share = f->turn_written < TURN_WRITE_BYTES ? SHARE_BYTES : SHARE_LEAST_BYTES;
    if (unlikely(c->tls != NULL) && tls_has_begun(c->tls))
        return write_records(f, c, share);
    while (c->out_bytes > 0 && share > 0) {
        struct iovec iov[IOVECS];
        int count = 0;
        size_t offered = 0;
        for (struct piece *p = c->out_first; p && count < IOVECS && offered < share; p = p->next) {
            size_t len = p->len < share - offered ? p->len : share - offered;
            iov[count++] = (struct iovec){(void *)(uintptr_t)p->at, len};
            offered += len;
        }
        ssize_t n = writev(c->fd, iov, count);
        if (n < 0)
            return errno == EAGAIN || errno == EINTR;
        f->turn_written += (uint64_t)n;
        share -= (uint64_t)n;
        written(f, c, (size_t)n);
        if ((size_t)n < offered)
            return true;
    }
    return true;
}

/* The deadline runs from the first write that did not go through, for what was pending then. */
static void watch_deadline(struct frontend *f, struct client *c, uint64_t before) {
    if (c->out_bytes == 0) {
        c->write_due_ms = 0;
        return;
    }
    uint64_t sent = before - c->out_bytes;
    if (c->write_due_ms != 0 && c->write_mark > sent) {
        c->write_mark -= sent;
        return;
    }
    c->write_mark = c->out_bytes;
    c->write_due_ms = f->now_ms + f->settings.write_deadline_ms;
    timer_update(f, c);
}

void out_flush(struct frontend *f, struct client *c) {
    if (c->state >= CLIENT_FAILED)
        return;
    uint64_t before = c->out_bytes;
    if (!write_all(f, c)) {
        client_fail(f, c, "Write Error");
        return;
    }
    bool blocked = c->out_bytes > 0 || (unlikely(c->tls != NULL) && tls_wants_write(c->tls));
    if (unlikely(blocked || c->write_due_ms != 0))
        watch_deadline(f, c, before);
    if (unlikely(blocked != !!(c->flags & CLIENT_BLOCKED))) {
        c->flags ^= CLIENT_BLOCKED;
        client_sync_events(f, c);
    }
    watch_gate(f, c);
    if (unlikely(c->state == CLIENT_ENDING) && c->out_bytes == 0 && !list_has(&c->fenced))
        client_fail(f, c, c->reason);
}

void out_flush_dirty(struct frontend *f) {
    for (struct list_link *link; (link = list_pop(&f->dirty));) {
        struct client *c = list_entry(link, struct client, dirty);
        if (!(c->flags & CLIENT_BLOCKED))
            out_flush(f, c);
    }
}
