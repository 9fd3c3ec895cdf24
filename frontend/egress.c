/* SPDX-License-Identifier: Apache-2.0 */
/* The router's records to protocol lines.
 *
 * The order matters: `consumed` of the ingress ring is loaded first, then `produced` of the egress ring, then the egress ring
 * is drained to it. Since the router stores every produced before any consumed, whatever a consumed record caused is among
 * what was drained; so fences up to that consumed may pass.
 *
 * The router's memory is looked at with the same care as it looks at ours: names are copied before they are checked, and a
 * byte that could end a line is never written. A record that no sound router sends ends this process.
 */
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/copy.h"
#include "base/log.h"
#include "frontend/frontend.h"
#include "ipc/auth.pb-c.h"
#include "nats/errors.h"
#include "nats/name.h"
#include "nats/quote.h"

/* The message being delivered. */
struct delivery {
    struct view subject;
    const uint8_t *payload;
    uint32_t payload_len, header_len;
    bool uncounted;
    struct blob *blob;    /* the payload, if it is shared */
    bool shares;          /* more than one target and large */
    char plain[RECORD_TEXT_MAX + 32]; /* "[reply ]size\r\n" for those without headers */
    char headed[RECORD_TEXT_MAX + 48];
    uint32_t plain_len, headed_len;
};

static struct delivery delivery; /* large, and one at a time */

static uint32_t put_number(char *to, uint32_t n) {
    char digits[10];
    uint32_t len = 0;
    do
        digits[len++] = (char)('0' + n % 10);
    while (n /= 10);
    for (uint32_t i = 0; i < len; i++)
        to[i] = digits[len - 1 - i];
    return len;
}

/* A size as text; the same one comes again and again. */
static char *put_size(char *to, uint32_t n) {
    static uint32_t last = UINT32_MAX, len;
    static char text[12];
    if (unlikely(n != last)) {
        len = put_number(text, n);
        last = n;
    }
    memcpy(to, text, sizeof text); /* there is room for more than a size behind it */
    return to + len;
}

/* The end of a message line: what does not depend on the target. */
static uint32_t line_tail(char *to, struct view reply, uint32_t header_len, uint32_t size) {
    char *at = to;
    if (reply.len > 0) {
        at = copy_small(at, reply.at, reply.len);
        *at++ = ' ';
    }
    if (header_len > 0) {
        at += put_number(at, header_len);
        *at++ = ' ';
    }
    at = put_size(at, size);
    *at++ = '\r';
    *at++ = '\n';
    return (uint32_t)(at - to);
}

static void delivery_begin(struct frontend *f, const struct record *rec, const struct record_parts *parts,
                           const uint8_t *at) {
    struct delivery *d = &delivery;
    memcpy(f->names, at + parts->subject, (size_t)rec->subject_len + rec->reply_len);
    struct view subject = view_of((const char *)f->names, rec->subject_len);
    struct view reply = view_of((const char *)f->names + rec->subject_len, rec->reply_len);
    if (unlikely(rec->subject_len == 0 || (name_look(subject.at, subject.len) & NAME_DIRTY) ||
                 (rec->reply_len != 0 && (name_look(reply.at, reply.len) & NAME_DIRTY))))
        edge_link_unsound("a name that could end a line");
    d->subject = subject;
    d->payload = at + parts->payload;
    d->payload_len = rec->payload_len;
    d->header_len = rec->aux;
    d->uncounted = rec->flags & RECORD_UNCOUNTED;
    d->blob = NULL;
    d->shares = rec->payload_len >= SHARED_BYTES && (rec->target_count > 1 || (rec->flags & RECORD_MORE));
    d->plain_len = line_tail(d->plain, reply, 0, rec->payload_len - rec->aux);
    d->headed_len = rec->aux > 0 ? line_tail(d->headed, reply, rec->aux, rec->payload_len) : 0;
}

static void delivery_end(void) {
    if (delivery.blob)
        blob_drop(delivery.blob);
    delivery.blob = NULL;
}

/* The payload, when it does not go into the same stretch as the line. */
static void put_payload(struct frontend *f, struct client *c, uint32_t from) {
    struct delivery *d = &delivery;
    if (d->shares && !d->blob)
        d->blob = blob_make(d->payload, d->payload_len);
    if (d->blob)
        out_blob(f, c, d->blob, from, d->payload_len - from);
    else
        out_borrow(f, c, d->payload + from, d->payload_len - from);
    out_bytes(f, c, "\r\n", 2);
}

/* One message to one subscription. */
static void deliver(struct frontend *f, struct client *c, const struct fsub *s) {
    struct delivery *d = &delivery;
    bool headed = d->header_len > 0 && (c->options & RECORD_HEADERS);
    uint32_t from = headed ? 0 : d->header_len; /* a header block is cut for those who do not understand it */
    const char *tail = headed ? d->headed : d->plain;
    uint32_t tail_len = headed ? d->headed_len : d->plain_len;
    uint32_t line_len = 7 + (uint32_t)d->subject.len + s->sid_len + tail_len;
    uint32_t body = d->payload_len - from;
    bool together = body <= 4096;
    char *begin = out_room(f, c, line_len + (together ? body + 2 : 0)), *to = begin;
    if (unlikely(!begin))
        return;
    if (headed)
        *to++ = 'H';
    memcpy(to, "MSG ", 4);
    to = copy_small(to + 4, d->subject.at, d->subject.len);
    *to++ = ' ';
    to = copy_small(to, sub_text(f, s), s->sid_len);
    *to++ = ' ';
    to = copy_small(to, tail, tail_len);
    if (unlikely(log_traces()))
        client_trace_out(c, view_of(begin, (size_t)(to - begin)));
    if (likely(together)) {
        to = copy_small(to, (const char *)d->payload + from, body);
        *to++ = '\r';
        *to++ = '\n';
        out_put(f, c, (uint32_t)(to - begin));
    } else {
        out_put(f, c, (uint32_t)(to - begin));
        put_payload(f, c, from);
    }
    c->activity_ms = f->now_ms;
}

static void deliver_all(struct frontend *f, const struct record *rec, const struct record_parts *parts,
                        const uint8_t *at) {
    f->delivering = true;
    for (uint32_t i = 0; i < rec->target_count; i++) {
        struct record_target t;
        memcpy(&t, at + parts->targets + 8 * (size_t)i, sizeof t);
        struct fsub *s = sub_at(f, t.slot + 1);
        if (unlikely(!s || s->number != t.conn))
            edge_link_unsound("a delivery for a slot that is not in use");
        struct client *c = f->by_number[s->number];
        if (!delivery.uncounted)
            s->delivered++;
        if (likely(c->state < CLIENT_FAILED)) {
            deliver(f, c, s);
            if (unlikely(c->state >= CLIENT_FAILED))
                counter_add(f->counters, COUNTER_UNDELIVERED, 1);
        }
    }
    f->delivering = false;
    counter_add(f->counters, COUNTER_OUT_MSGS, rec->target_count);
    counter_add(f->counters, COUNTER_OUT_BYTES, (uint64_t)delivery.payload_len * rec->target_count);
}

/* ---- answers ---- */

static struct client *client_of(struct frontend *f, uint32_t number) {
    struct client *c = number < f->number_high ? f->by_number[number] : NULL;
    if (!c)
        edge_link_unsound("an answer for a connection that is not in use");
    return c;
}

static const char *deny_format(uint32_t why, bool queue) {
    switch (why) {
    case RECORD_DENY_PUBLISH:
        return NATS_ERR_DENY_PUBLISH;
    case RECORD_DENY_REPLY:
        return NATS_ERR_DENY_REPLY;
    case RECORD_DENY_SUB:
        return queue ? NATS_ERR_DENY_SUB_QUEUE : NATS_ERR_DENY_SUB;
    case RECORD_DENY_TOKENS:
        return NATS_ERR_DENY_SUB_TOKENS;
    case RECORD_DENY_MAX_SUBS:
        return NATS_ERR_MAX_SUBSCRIPTIONS;
    case RECORD_DENY_MEMORY: /* the same words, because clients know what they mean */
        return NATS_ERR_MAX_SUBSCRIPTIONS;
    case RECORD_DENY_SUBJECT:
        return NATS_ERR_SUBJECT;
    case RECORD_DENY_REMOVED:
        return NATS_ERR_DENY_SUB_REMOVED;
    default:
        edge_link_unsound("an unknown reason of a refusal");
    }
}

static bool denies_publish(uint32_t why) {
    return why == RECORD_DENY_PUBLISH || why == RECORD_DENY_REPLY;
}

/* The sid of the subscription that is refused or taken away; empty for a message. */
static struct view denied_sid(struct frontend *f, const struct record *rec, const struct record_parts *parts,
                              const uint8_t *at) {
    struct record_target t;
    if (rec->target_count != (denies_publish(rec->aux) ? 0 : 1))
        edge_link_unsound("a refusal that does not name what it refuses");
    if (denies_publish(rec->aux))
        return view_of(NULL, 0);
    memcpy(&t, at + parts->targets, sizeof t);
    const struct fsub *s = sub_at(f, t.slot + 1);
    if (!s || s->number != rec->conn || t.conn != rec->conn)
        edge_link_unsound("the end of a subscription that is not there");
    f->denied_slot = rec->aux == RECORD_DENY_REMOVED ? 0 : t.slot + 1;
    return sub_sid(f, s);
}

static void log_denied(const struct client *c, enum record_deny why, const char *subject, const char *queue, const char *sid,
                       const char *text) {
    const char *user = client_user(c);
    switch (why) {
    case RECORD_DENY_PUBLISH:
        client_log(c, LOG_ERROR, "Publish Violation - %s, Subject \"%.500s\"", user, subject);
        break;
    case RECORD_DENY_REPLY:
        client_log(c, LOG_ERROR, "Publish Violation - %s, Reply \"%.500s\"", user, subject);
        break;
    case RECORD_DENY_SUB:
        client_log(c, LOG_ERROR, "Subscription Violation - %s, Subject \"%.500s\"%s%.200s%s, SID %.200s", user, subject,
                   *queue ? ", Queue: \"" : "", queue, *queue ? "\"" : "", sid);
        break;
    case RECORD_DENY_REMOVED:
        client_log(c, LOG_INFO, "Removed sub \"%.500s\" (sid \"%.200s\") for %s - not authorized", subject, sid, user);
        break;
    case RECORD_DENY_MEMORY:
        client_log(c, LOG_ERROR, NATS_ERR_MAX_SUBSCRIPTIONS ": no memory left for \"%.500s\" - %s", subject, user);
        break;
    default:
        client_log(c, LOG_ERROR, "%.1000s, SID %.200s", text, sid);
    }
}

enum { QUOTED_MAX = 10 * RECORD_TEXT_MAX + 1 };

static const char *quoted(char out[static QUOTED_MAX], struct view name) {
    out[quote_text(out, QUOTED_MAX - 1, name)] = '\0';
    return out;
}

/* Quotes the names into scratch that is large enough for the longest of them. */
static void denied(struct frontend *f, struct client *c, const struct record *rec, const struct record_parts *parts,
                   const uint8_t *at) {
    static char subject[QUOTED_MAX], queue[QUOTED_MAX], sid[QUOTED_MAX], text[2 * QUOTED_MAX + 256];
    memcpy(f->names, at + parts->subject, (size_t)rec->subject_len + rec->reply_len);
    quoted(subject, view_of((const char *)f->names, rec->subject_len));
    quoted(queue, view_of((const char *)f->names + rec->subject_len, rec->reply_len));
    quoted(sid, denied_sid(f, rec, parts, at));
    bool removed = rec->aux == RECORD_DENY_REMOVED;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    int len = snprintf(text, sizeof text, deny_format(rec->aux, rec->reply_len > 0), subject, removed ? sid : queue);
#pragma GCC diagnostic pop
    log_denied(c, (enum record_deny)rec->aux, subject, queue, sid, text);
    if (unlikely(log_traces()))
        client_log(c, LOG_TRACE, "->> [-ERR %s]", text);
    out_bytes(f, c, "-ERR '", 6);
    if (c->state != CLIENT_GONE)
        out_bytes(f, c, text, (uint32_t)len);
    if (c->state != CLIENT_GONE)
        out_bytes(f, c, "'\r\n", 3);
}

static void kicked(struct frontend *f, struct client *c, uint32_t why) {
    if (why == RECORD_KICK_BINDING || why == RECORD_KICK_ACCOUNT_CONNS)
        c->fence_len = 0; /* it never was let in: no PONG, no +OK */
    switch (why) {
    case RECORD_KICK_BINDING:
    case RECORD_KICK_REFUSED:
        if (f->policy.log_form == BULKHEAD__LOG_FORM__LOG_PLAIN)
            client_log(c, LOG_ERROR, "authentication error");
        else
            client_log(c, LOG_ERROR, "authentication error - %s", client_user(c));
        client_error(f, c, NATS_ERR_AUTHORIZATION, "Authentication Failure");
        break;
    case RECORD_KICK_REVOKED:
        client_log(c, LOG_ERROR, NATS_ERR_REVOKED " - %s", client_user(c));
        client_error(f, c, NATS_ERR_REVOKED, "Credentials Revoked");
        break;
    case RECORD_KICK_MOVED:
        client_error(f, c, NULL, "Client Closed");
        break;
    case RECORD_KICK_EXPIRED:
        client_log(c, LOG_ERROR, NATS_ERR_AUTH_EXPIRED " - %s", client_user(c));
        client_error(f, c, NATS_ERR_AUTH_EXPIRED, "Authentication Expired");
        break;
    case RECORD_KICK_ACCOUNT_CONNS:
        client_log(c, LOG_ERROR, NATS_ERR_ACCOUNT_CONNS);
        client_error(f, c, NATS_ERR_ACCOUNT_CONNS, "Maximum Account Connections Exceeded");
        break;
    case RECORD_KICK_PAYLOAD:
        client_log(c, LOG_ERROR, "maximum payload exceeded - %s", client_user(c));
        client_error(f, c, NATS_ERR_PAYLOAD, "Maximum Message Payload Exceeded");
        break;
    case RECORD_KICK_MEMORY:
        client_log(c, LOG_ERROR, "Out Of Memory: the router closes it for what its subscriptions take");
        client_error(f, c, NULL, "Out Of Memory");
        break;
    default:
        client_error(f, c, NULL, "Kicked");
        break;
    }
}

static void stalled(struct frontend *f, struct client *c, uint32_t ms) {
    c->flags |= CLIENT_STALLED;
    c->stall_due_ms = f->now_ms + (ms < RECORD_STALL_MS_MAX ? ms : RECORD_STALL_MS_MAX);
    timer_update(f, c);
    if (f->now_ms < f->stall_no_ms)
        return;
    f->stall_no_ms = f->now_ms + STALL_NO_MS;
    f->stall_no += f->stall_no == UINT32_MAX ? 2 : 1;
}

/* One publisher goes on at once; of many each sends a little first. */
static void resumed(struct frontend *f, struct client *c) {
    c->flags &= ~(uint32_t)CLIENT_STALLED;
    c->stall_due_ms = 0;
    if (f->now_ms < f->shared_until_ms) {
        link_window_begin(c, WINDOW_FIRST_UNITS);
    } else {
        c->window_cap = 0;
        c->stall_no = f->stall_no;
    }
    timer_update(f, c);
    client_wake(f, c);
}

/* A new router knows of no stall, so it sends no RESUME. */
static void all_resumed(struct frontend *f) {
    for (uint32_t n = 0; n < f->number_high; n++) {
        struct client *c = f->by_number[n];
        if (c && c->state == CLIENT_BOUND && (c->flags & CLIENT_STALLED))
            resumed(f, c);
    }
}

static void slot_free(struct frontend *f, const struct record *rec, const struct client *c) {
    struct fsub *s = sub_at(f, rec->aux + 1);
    if (!s || s->number != rec->conn)
        edge_link_unsound("the end of a slot that is not in use");
    if (unlikely(log_traces()) && c->state < CLIENT_FAILED && f->denied_slot != rec->aux + 1)
        client_trace_end(c, sub_sid(f, s));
    f->denied_slot = 0;
    sub_drop(f, rec->aux + 1);
}

/* Everything but deliveries. */
static void answer(struct frontend *f, const struct record *rec, const struct record_parts *parts, const uint8_t *at) {
    if (rec->type == RECORD_EPOCH) {
        all_resumed(f);
        return;
    }
    struct client *c = client_of(f, rec->conn);
    bool lives = c->state < CLIENT_FAILED;
    switch (rec->type) {
    case RECORD_SLOT_FREE:
        slot_free(f, rec, c);
        break;
    case RECORD_CONN_FREE:
        if (!(c->flags & CLIENT_CLOSE_TOLD))
            edge_link_unsound("the end of a connection that was not closed");
        ends_freed(f, c);
        break;
    case RECORD_OK:
        if (unlikely(log_traces()))
            client_trace_out(c, VIEW("+OK"));
        out_bytes(f, c, "+OK\r\n", 5);
        break;
    case RECORD_DENY:
        if (lives)
            denied(f, c, rec, parts, at);
        break;
    case RECORD_KICK:
        if (lives)
            kicked(f, c, rec->aux);
        break;
    case RECORD_STALL:
        if (c->state == CLIENT_BOUND)
            stalled(f, c, rec->aux);
        break;
    case RECORD_RESUME:
        if (c->state == CLIENT_BOUND)
            resumed(f, c);
        break;
    default:
        edge_link_unsound("a record of an unknown type");
    }
}

/* ---- the ring ---- */

static void give_back(struct frontend *f) {
    if (!list_is_empty(&f->borrowers)) {
        out_flush_dirty(f);
        out_return_borrowed(f);
    }
    edge_link_release(&f->link);
}

/* With more subscriptions than caches hold: fetches what the next records will look up. Hints only, nothing is believed. */
static void look_ahead(const struct frontend *f, const uint8_t *at, uint64_t ready) {
    uint64_t pos = 0;
    for (int ahead = 0; ahead <= 2; ahead++) {
        struct record rec;
        struct record_target t;
        if (ready - pos < RECORD_HEADER + sizeof t)
            return;
        memcpy(&rec, at + pos, sizeof rec);
        if (rec.len < RECORD_HEADER || rec.len > ready - pos || ring_round(rec.len) > ready - pos)
            return;
        memcpy(&t, at + pos + RECORD_HEADER, sizeof t);
        const struct fsub *s = ahead > 0 && rec.target_count > 0 ? sub_hint(f, t.slot + 1) : NULL;
        if (s)
            __builtin_prefetch(ahead == 1 ? pool_at(&f->texts, s->text) : s);
        pos += ring_round(rec.len);
    }
}

static void drain(struct frontend *f) {
    struct ring_reader *ring = &f->link.egress;
    uint64_t taken = 0;
    bool more = false;
    while (ring_ready(ring) > 0) {
        struct record rec;
        struct record_parts parts;
        const uint8_t *at = ring_tail(ring);
        if (unlikely(f->sub_count > SPREAD_SUBS))
            look_ahead(f, at, ring_ready(ring));
        if (unlikely(record_take(&rec, &parts, at, ring_ready(ring), RECORD_TO_EDGE) != ERR_OK))
            edge_link_unsound("a malformed record");
        if (unlikely(more != (rec.type == RECORD_DELIVER_MORE)))
            edge_link_unsound("a fan-out without its message");
        if (rec.type == RECORD_DELIVER)
            delivery_begin(f, &rec, &parts, at);
        if (rec.type == RECORD_DELIVER || rec.type == RECORD_DELIVER_MORE) {
            deliver_all(f, &rec, &parts, at);
            more = rec.flags & RECORD_MORE;
            if (!more)
                delivery_end();
        } else {
            answer(f, &rec, &parts, at);
        }
        ring_skip(ring, rec.len);
        taken += rec.len <= DRAIN_PLAIN ? rec.len : rec.len / 4; /* larger ones in larger batches: fewer writes */
        if (!more && taken >= DRAIN_BYTES) {
            taken = 0;
            give_back(f);
            out_flush_dirty(f);
            memory_watch(f);
        }
    }
    if (more)
        edge_link_unsound("a fan-out that does not end");
    give_back(f);
}

void egress_run(struct frontend *f) {
    edge_link_look(&f->link);
    f->again = false;
    if (ring_ready(&f->link.egress) > 0)
        drain(f);
    edge_journal_trim(&f->journal, f->link.consumed_acted);
    fence_pass(f);
    link_window_pass(f);
}
