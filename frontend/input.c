/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes to operations.
 *
 * A connection's bytes are parsed where they lie: in the process's one read buffer, or, when something was left over from
 * before, in the connection's own. What cannot be used yet moves to a buffer of its own that is as large as what was
 * received, never as what was announced. Of a large payload that is coming in, the rest is read straight to its place.
 *
 * The bytes are this module's, whatever is done with them: no operation frees or changes them, and what may be secret in them is
 * wiped here.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/log.h"
#include "base/wipe.h"
#include "frontend/frontend.h"
#include "shm/limit.h"

enum { SMALLEST = 64 };

static uint64_t held;

uint64_t input_held(void) {
    return held;
}

/* ---- a connection's own buffer ---- */

/* Where a CONNECT was cut in two, its first half may hold a credential. */
static bool may_be_secret(const struct client *c, const char *at, size_t len) {
    return len > 0 && (c->state == CLIENT_OPEN || at[0] == 'C' || at[0] == 'c');
}

static void wipe_secret(const struct client *c, char *at, size_t len) {
    if (may_be_secret(c, at, len))
        wipe(at, len);
}

/* What a connection that has ended or is held leaves in the read buffer: a CONNECT may stand anywhere in it. It is wiped when
 * nothing else is to do, so that a flood does not pay for it at each pause. */
static void leave(struct frontend *f, const struct client *c, size_t at, size_t len) {
    if (c->state >= CLIENT_ENDING || (c->flags & CLIENT_HELD))
        f->read_left = at + len > f->read_left ? at + len : f->read_left;
    else
        wipe_secret(c, f->read + at, len);
}

void input_wipe(struct frontend *f) {
    wipe(f->read, f->read_left);
    f->read_left = 0;
}

/* As realloc, but what was there is wiped if it may be secret. */
static char *in_grow(const struct client *c, size_t cap) {
    if (!may_be_secret(c, c->in, c->in_len))
        return realloc(c->in, cap);
    char *grown = malloc(cap);
    if (!grown)
        return NULL;
    memcpy(grown, c->in, c->in_len);
    wipe(c->in, c->in_len);
    free(c->in);
    return grown;
}

static bool in_reserve(struct client *c, size_t len) {
    if (len <= c->in_cap)
        return true;
    size_t cap = c->in_cap ? c->in_cap : SMALLEST;
    while (cap < len)
        cap *= 2;
    if (c->in_need > len && cap > c->in_need)
        cap = c->in_need; /* a payload's end is known: no more than that */
    char *grown = in_grow(c, cap);
    if (!grown)
        return false;
    held += cap - c->in_cap;
    c->in = grown;
    c->in_cap = (uint32_t)cap;
    return true;
}

void input_release(struct client *c) {
    if (c->in_len > 0 && c->state >= CLIENT_ENDING)
        wipe(c->in, c->in_len);
    else
        wipe_secret(c, c->in, c->in_len);
    free(c->in);
    held -= c->in_cap;
    c->in = NULL;
    c->in_len = c->in_cap = c->in_need = 0;
}

/* ---- parsing ---- */

static void trace(const struct frontend *f, const struct client *c, const struct parse_line *line, const char *at) {
    if (line->op <= PARSE_UNSUB)
        client_trace(c, view_of(at, line->used));
    else if (line->op == PARSE_CONNECT)
        client_trace_connect(c, view_of(at, line->used));
    else
        client_trace_other(c, view_of(at, line->used));
    if (line->op == PARSE_PUB || line->op == PARSE_HPUB)
        client_trace_payload(c, view_of(at + line->used, (size_t)line->payload_len), f->settings.max_traced_msg_len);
}

/* Runs operations from at[0..len); returns how many bytes were used. Stops when the rest is incomplete, must wait, or is no
 * longer wanted. */
static size_t run(struct frontend *f, struct client *c, char *at, size_t len) {
    size_t used = 0;
    struct parse_limits limits = f->limits;
    if (unlikely(limit_most(c->binding.payload_max) < limits.payload))
        limits.payload = limit_most(c->binding.payload_max);
    c->in_need = 0;
    c->flags &= ~(uint32_t)CLIENT_HELD;
    while (used < len && c->state < CLIENT_ENDING) {
        if (unlikely(client_paused(c))) {
            c->flags |= CLIENT_HELD;
            break;
        }
        if (unlikely(c->state == CLIENT_OPEN) && !login_gate(f, c, at[used])) {
            c->flags |= CLIENT_HELD;
            break;
        }
        struct parse_line line;
        enum parse_result result = parser_next(at + used, len - used, &limits, &line);
        if (unlikely(result != PARSE_DONE)) {
            if (result != PARSE_MORE)
                fault_parse(f, c, result, &line, view_of(at + used, len - used));
            break;
        }
        size_t whole = line.used;
        if (line.op == PARSE_PUB || line.op == PARSE_HPUB) {
            whole += (size_t)line.payload_len + 2;
            if (unlikely(whole > len - used)) {
                c->in_need = (uint32_t)whole;
                op_announced(f, c, &line, view_of(at + used + line.used, len - used - line.used));
                break;
            }
        }
        if (unlikely(log_traces()) && !(c->flags & CLIENT_TRACED))
            trace(f, c, &line, at + used);
        enum op_result done = op_run(f, c, &line, at + used + line.used);
        c->flags &= ~(uint32_t)CLIENT_TRACED;
        if (unlikely(done == OP_PAUSE)) {
            c->flags |= CLIENT_HELD | CLIENT_TRACED;
            if (f->link.ring_full)
                client_wake(f, c); /* tried again as soon as there is room */
            break;
        }
        if (unlikely(done == OP_SECRET))
            wipe(at + used, whole);
        used += whole;
    }
    return used;
}

/* The client has closed its side: what it sent before counts, half an operation does not. */
static void after(struct frontend *f, struct client *c) {
    if (unlikely(c->flags & CLIENT_HALF) && !(c->flags & CLIENT_HELD))
        client_finish(f, c, "Client Closed");
}

/* Says in the counters page whose bytes are being worked on, or that nobody's are: if this process dies of them, the supervisor
 * knows whose they were. */
static void work_for(struct frontend *f, const struct client *c) {
    uint64_t half[2] = {0, 0};
    if (c)
        memcpy(half, &c->peer, sizeof half);
    counter_set(f->counters, COUNTER_PEER_HIGH, half[0]);
    counter_set(f->counters, COUNTER_PEER_LOW, half[1]);
}

/* Parses the connection's own buffer and keeps the rest at its start. */
static void run_own(struct frontend *f, struct client *c) {
    work_for(f, c);
    uint32_t len = c->in_len;
    size_t used = run(f, c, c->in, len);
    if (c->state >= CLIENT_ENDING)
        return; /* what is left is wiped when the connection leaves */
    if (used == len) {
        input_release(c);
    } else if (used > 0) {
        memmove(c->in, c->in + used, len - used);
        c->in_len = (uint32_t)(len - used);
        if (may_be_secret(c, c->in, c->in_len))
            wipe(c->in + c->in_len, used);
    }
    after(f, c);
}

/* ---- reading ---- */

static void read_done(struct frontend *f, struct client *c, ssize_t n) {
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            client_fail(f, c, errno == ECONNRESET ? "Client Closed" : "Read Error");
        return;
    }
    c->flags |= CLIENT_HALF | CLIENT_DISARMED;
    client_sync_events(f, c);
    after(f, c);
}

static ssize_t receive(struct frontend *f, struct client *c, char *at, size_t cap) {
    return likely(!c->tls) ? recv(c->fd, at, cap, 0) : tls_read(f, c, at, cap);
}

/* What TLS has in hand is read in the next turn, unless the parser stands still: then when it goes on. */
static void read_more(struct frontend *f, struct client *c) {
    if (c->state >= CLIENT_ENDING || !c->tls || !tls_more(c->tls) || (c->flags & CLIENT_HELD))
        return;
    list_add(&f->ready, &c->ready);
}

/* The rest of a large message goes straight to its place. */
static void read_own(struct frontend *f, struct client *c) {
    size_t room = READ_BYTES;
    if (likely(!c->tls) && c->in_need > c->in_len && c->in_need - c->in_len < room)
        room = c->in_need - c->in_len;
    if (!in_reserve(c, c->in_len + room)) {
        client_no_memory(f, c);
        return;
    }
    ssize_t n = receive(f, c, c->in + c->in_len, room);
    if (n <= 0) {
        read_done(f, c, n);
        return;
    }
    c->in_len += (uint32_t)n;
    if (c->in_len + 1 >= c->in_need) /* the last byte but one may be wrong already */
        run_own(f, c);
}

static void read_some(struct frontend *f, struct client *c) {
    if (c->state >= CLIENT_ENDING || (c->flags & (CLIENT_DISARMED | CLIENT_HALF)))
        return;
    if (unlikely((c->flags & CLIENT_HELD) || client_paused(c))) {
        c->flags |= CLIENT_HELD | CLIENT_DISARMED;
        client_sync_events(f, c);
        return;
    }
    work_for(f, c);
    if (f->last_reader != c->cid) {
        f->shared_until_ms = f->now_ms + SHARED_MS;
        f->last_reader = c->cid;
    }
    if (c->in_len > READ_HALF || c->in_need > c->in_len + READ_HALF) {
        read_own(f, c);
        return;
    }
    /* A small rest is joined with what comes in the read buffer, so that parsing stays in one place. */
    size_t kept = c->in_len;
    if (kept > 0)
        memcpy(f->read, c->in, kept);
    ssize_t n = receive(f, c, f->read + kept, READ_BYTES - kept);
    if (n <= 0) {
        wipe_secret(c, f->read, kept);
        read_done(f, c, n);
        return;
    }
    size_t len = kept + (size_t)n;
    size_t used = len + 1 < c->in_need ? 0 : run(f, c, f->read, len); /* as in read_own */
    size_t rest = len - used;
    if (c->state >= CLIENT_ENDING) {
        leave(f, c, 0, len);
        return;
    }
    if (rest == 0) {
        if (c->in)
            input_release(c);
        return;
    }
    if (rest < kept || c->in_cap > 4 * rest) { /* shrink: a new buffer for a new rest */
        uint32_t need = c->in_need;
        input_release(c);
        c->in_need = need;
    }
    if (!in_reserve(c, rest)) {
        client_no_memory(f, c);
        leave(f, c, used, rest);
        return;
    }
    memcpy(c->in, f->read + used, rest);
    leave(f, c, used, rest);
    c->in_len = (uint32_t)rest;
}

void input_read(struct frontend *f, struct client *c) {
    read_some(f, c);
    if (unlikely(c->tls != NULL))
        read_more(f, c);
    work_for(f, NULL);
}

void input_resume(struct frontend *f) {
    struct list now;
    list_move(&now, &f->ready); /* what becomes ready meanwhile has its turn later */
    for (struct list_link *link; (link = list_pop(&now));) {
        struct client *c = list_entry(link, struct client, ready);
        if (c->state >= CLIENT_ENDING)
            continue;
        if (client_paused(c)) {
            c->flags |= CLIENT_HELD; /* its wake is what goes on */
            continue;
        }
        c->flags &= ~(uint32_t)CLIENT_HELD;
        run_own(f, c);
        if (c->state < CLIENT_ENDING && (c->flags & (CLIENT_DISARMED | CLIENT_HALF | CLIENT_HELD)) == CLIENT_DISARMED) {
            c->flags &= ~(uint32_t)CLIENT_DISARMED;
            client_sync_events(f, c);
        }
        if (unlikely(c->tls != NULL) && c->state < CLIENT_ENDING && !(c->flags & CLIENT_HELD) && tls_more(c->tls))
            input_read(f, c);
    }
    work_for(f, NULL);
}
