/* SPDX-License-Identifier: Apache-2.0 */
/* What waits for the router on the frontend's link: windows, fences, records that found no room.
 *
 * A fence is a line that promises that all its client sent before has taken effect (PONG), or that simply comes after it in
 * the protocol (-ERR, +OK, the end). It is written when the router has consumed the client's last record and the egress ring
 * has been drained to what the router had for us when that was seen, its overflow included. While a fence stands, its client's
 * parser makes no new record: so each line comes in its place, and one fence per connection is enough. A PING makes no record, so it
 * may join a fence that stands, until that holds FENCE_BYTES; from there on it waits as every other operation does.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/log.h"
#include "frontend/frontend.h"

enum { FENCE_FIRST = 64, FENCE_BYTES_MAX = FENCE_BYTES + 4096 /* a second INFO and a last -ERR come on top */ };

static void charge(struct client *c, uint64_t len) {
    c->window_units += (uint32_t)len + RECORD_UNITS;
}

void link_put(struct frontend *f, struct client *c, uint64_t len) {
    edge_link_put(&f->link, &c->edge, len);
    charge(c, len);
}

bool link_small(struct frontend *f, struct client *c, enum record_type type, uint32_t aux) {
    if (!edge_link_small(&f->link, &c->edge, type, aux))
        return false;
    charge(c, RECORD_HEADER);
    return true;
}

void link_journal(struct frontend *f, enum record_type type, uint32_t id, uint8_t old_flag, uint32_t old_max) {
    edge_journal_add(&f->journal, f->link.ingress.head_pos, type, id, old_flag, old_max);
}

/* ---- the window ----
 *
 * What one connection has put into the ring, the others of this frontend wait for. Its bytes say little of what it costs the router: a
 * message may have to be held against thousands of patterns. The router says beside `consumed` how much work it has done for this
 * link. A connection that waited for its window while that grew by more than WINDOW_DEAR_WORK goes on with one record at a time,
 * and gets more as long as that is cheap; and so does a new connection begin.
 *
 * Windows begin anew, too, when somebody of this frontend is stalled. Until a window has grown to its whole size, all that was sent must
 * have been handled, and a STALL for it seen, before more is sent: so of many who publish to a reader that falls behind none
 * has sent it a whole window before it is stalled.
 */

void link_window_begin(struct client *c, uint32_t units) {
    c->window_cap = c->window_units = (units + 1) / 2;
    c->stall_no = 0;
}

static void window_wait(struct frontend *f, struct client *c) {
    c->window_work = ring_writer_work(&f->link.ingress);
    list_add(&f->deferred, &c->waits);
}

/* True if a window that is not yet whole has room for another record. */
static bool window_grows(struct frontend *f, struct client *c) {
    if (c->window_cap == 0) /* it was whole, but others were stalled since: it may be next */
        link_window_begin(c, WINDOW_FIRST_UNITS);
    if (c->window_units < c->window_cap)
        return true;
    c->window_pos = c->edge.last_pos;
    if (c->edge.last_pos > f->link.consumed_acted) {
        window_wait(f, c);
        return false;
    }
    c->window_units = 0;
    c->window_cap *= 2;
    if (c->window_cap >= WINDOW_SHARED_UNITS) {
        c->window_cap = 0;
        c->stall_no = f->stall_no;
    }
    return true;
}

bool link_window(struct frontend *f, struct client *c) {
    if (unlikely(c->stall_no != f->stall_no))
        return window_grows(f, c);
    if (likely(c->window_units < (f->now_ms < f->shared_until_ms ? WINDOW_SHARED_UNITS : WINDOW_UNITS)))
        return true;
    if (c->window_pos > f->link.ingress.consumed_pos && ring_writer_refresh(&f->link.ingress) &&
        c->window_pos > f->link.ingress.consumed_pos) {
        window_wait(f, c);
        return false;
    }
    c->window_pos = c->edge.last_pos;
    c->window_units = 0;
    return true;
}

/* One that grows is doubled at its next record, so this halves it. */
static void window_shrink(struct client *c) {
    if (c->window_cap == 0)
        link_window_begin(c, 1);
    else
        c->window_cap = c->window_cap > 4 ? c->window_cap / 4 : 1;
}

void link_window_pass(struct frontend *f) {
    uint64_t work = ring_writer_work(&f->link.ingress);
    for (struct list_link *link = f->deferred.head.next, *next; link != &f->deferred.head; link = next) {
        struct client *c = list_entry(link, struct client, waits);
        next = link->next;
        if (c->window_pos > f->link.ingress.consumed_pos)
            continue;
        list_remove(link);
        if (unlikely((int64_t)(work - c->window_work) > WINDOW_DEAR_WORK)) /* a new router counts from 0 */
            window_shrink(c);
        client_wake(f, c);
    }
}

/* ---- fences ---- */

bool fence_takes(const struct frontend *f, const struct client *c, size_t len) {
    return c->fence_len == 0 || c->fence_len + len <= (f->flush_bytes < FENCE_BYTES ? f->flush_bytes : FENCE_BYTES);
}

static bool fence_reserve(struct client *c, size_t len) {
    if (len <= c->fence_cap)
        return true;
    size_t cap = c->fence_cap ? c->fence_cap : FENCE_FIRST;
    while (cap < len)
        cap *= 2;
    char *grown = realloc(c->fence, cap);
    if (!grown)
        return false;
    c->fence = grown;
    c->fence_cap = (uint32_t)cap;
    return true;
}

void fence_add(struct frontend *f, struct client *c, const char *text, size_t len) {
    if (c->state >= CLIENT_FAILED)
        return;
    if (c->fence_len + len > FENCE_BYTES_MAX) {
        client_fail(f, c, "Too Many Lines Wait");
        return;
    }
    if (!fence_reserve(c, c->fence_len + len)) {
        client_no_memory(f, c);
        return;
    }
    if (len > 0)
        memcpy(c->fence + c->fence_len, text, len);
    c->fence_len += (uint32_t)len;
    f->again |= c->edge.last_pos <= f->link.ingress.consumed_pos;
    list_add(&f->fenced, &c->fenced);
}

/* All that the router had for us when it had consumed the client's last record has been read. A line that was added since then
 * asks anew. */
static bool fence_drained(struct frontend *f, struct client *c) {
    if (likely(f->link.owed_pos <= f->link.egress.tail_pos))
        return true;
    if (c->fence_owed == 0 || c->fence_asked != c->fence_len) {
        c->fence_owed = f->link.owed_pos;
        c->fence_asked = c->fence_len;
    }
    return c->fence_owed <= f->link.egress.tail_pos;
}

void fence_pass(struct frontend *f) {
    uint64_t consumed = f->link.consumed_acted; /* not a later look: owed_pos and what was drained go with it */
    for (struct list_link *link = f->fenced.head.next, *next; link != &f->fenced.head; link = next) {
        struct client *c = list_entry(link, struct client, fenced);
        next = link->next;
        if (c->edge.last_pos > consumed || !fence_drained(f, c))
            continue;
        list_remove(link);
        c->fence_owed = 0;
        char *text = c->fence;
        uint32_t len = c->fence_len;
        c->fence = NULL;
        c->fence_len = c->fence_cap = 0;
        if (len > 0)
            out_bytes(f, c, text, len);
        if (unlikely(log_traces()) && len > 0)
            client_trace_out(c, view_of(text, len));
        free(text);
        if (c->state == CLIENT_ENDING)
            out_flush(f, c); /* closes when all is written, at the latest by the write deadline */
        else
            client_wake(f, c);
    }
}

/* ---- what is owed ---- */

void owes(struct frontend *f, struct client *c) {
    list_add(&f->owing, &c->owes);
}

/* GATE and CLOSE, which may have found the ring full. False: it still is, or memory is short. */
static bool pay(struct frontend *f, struct client *c) {
    if (c->edge.number == EDGE_NO_NUMBER || (c->flags & CLIENT_CLOSE_TOLD))
        return true;
    if (!edge_journal_reserve(&f->journal, 1))
        return false;
    if (c->state == CLIENT_GONE) {
        if (!link_small(f, c, RECORD_CLOSE, 0))
            return false;
        c->flags |= CLIENT_CLOSE_TOLD;
        link_journal(f, RECORD_CLOSE, c->edge.number, 0, 0);
        return true;
    }
    bool gated = c->flags & CLIENT_GATED, told = c->flags & CLIENT_GATE_TOLD, drains = c->flags & CLIENT_DRAINS;
    if (gated == told && !(gated && drains))
        return true;
    if (!link_small(f, c, RECORD_GATE, !gated ? RECORD_GATE_OPEN : drains ? RECORD_GATE_DRAINS : RECORD_GATE_FULL))
        return false;
    c->flags &= ~(uint32_t)CLIENT_DRAINS;
    if (gated == told)
        return true;
    c->flags ^= CLIENT_GATE_TOLD;
    c->gate_pos = c->edge.last_pos;
    link_journal(f, RECORD_GATE, c->edge.number, told, 0);
    return true;
}

void owes_pay(struct frontend *f) {
    for (struct list_link *link = f->owing.head.next, *next; link != &f->owing.head; link = next) {
        next = link->next;
        if (pay(f, list_entry(link, struct client, owes)))
            list_remove(link);
    }
}
