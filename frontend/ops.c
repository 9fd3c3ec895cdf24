/* SPDX-License-Identifier: Apache-2.0 */
/* Operations to records.
 *
 * What must be decided with others' knowledge (permissions, limits, whether a sid has ended) the router decides; what is the
 * client's own affair is decided here. A line that this process writes itself takes its place behind everything that the
 * client sent before (fence_add), and no new record is made while one waits: so every answer comes in its order.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/copy.h"
#include "base/log.h"
#include "frontend/frontend.h"
#include "nats/errors.h"
#include "nats/subject.h"
#include "shm/limit.h"

#define OK_LINE   "+OK\r\n"
#define PONG_LINE "PONG\r\n"

static enum op_result line(struct frontend *f, struct client *c, const char *text, size_t len) {
    fence_add(f, c, text, len);
    return c->state < CLIENT_ENDING ? OP_DONE : OP_ENDED;
}

static enum op_result no_memory(struct frontend *f, struct client *c) {
    client_no_memory(f, c);
    return OP_ENDED;
}

/* ---- before any record ---- */

/* A record may be made: the connection has its binding and no line waits. Without authentication an operation may come
 * before any CONNECT. */
static enum op_result prepare(struct frontend *f, struct client *c) {
    if (unlikely(list_has(&c->fenced) || !link_window(f, c)))
        return OP_PAUSE;
    if (likely(c->state == CLIENT_BOUND))
        return OP_DONE;
    return login_stock_bind(f, c);
}

/* ---- PUB, HPUB ---- */

static bool complains(struct client *c, struct view subject) {
    if (likely(!(c->options & RECORD_PEDANTIC)) || subject_is_literal(subject))
        return false;
    c->flags ^= CLIENT_COMPLAINED; /* set while the text waits; clear again when the message itself goes on */
    return c->flags & CLIENT_COMPLAINED;
}

static const char complaint[] = "-ERR '" NATS_ERR_PUBLISH_SUBJECT "'\r\n";

static const char no_headers[] = "message headers not supported";

void op_announced(struct frontend *f, struct client *c, const struct parse_line *l, struct view rest) {
    if (l->op == PARSE_HPUB && !(c->options & RECORD_HEADERS))
        fault_operation(f, c, no_headers);
    else if (rest.len > l->payload_len && rest.at[l->payload_len] != '\r')
        fault_payload_end(f, c, view_of(rest.at + l->payload_len, rest.len - l->payload_len));
    else if (!(c->flags & CLIENT_COMPLAINED) && complains(c, l->subject))
        fence_add(f, c, complaint, sizeof complaint - 1);
}

static enum op_result op_pub(struct frontend *f, struct client *c, const struct parse_line *l, const char *payload) {
    uint32_t header_len = l->op == PARSE_HPUB ? l->header_len : 0;
    if (unlikely(memcmp(payload + l->payload_len, "\r\n", 2) != 0)) {
        fault_payload_end(f, c, view_of(payload + l->payload_len, 2));
        return OP_ENDED;
    }
    if (unlikely(l->op == PARSE_HPUB && !(c->options & RECORD_HEADERS))) {
        fault_operation(f, c, no_headers);
        return OP_ENDED;
    }
    enum op_result r = prepare(f, c);
    if (unlikely(r != OP_DONE))
        return r;
    uint64_t len = record_len(0, 0, l->subject.len, l->reply.len, l->payload_len);
    uint8_t *at = edge_link_claim(&f->link, len);
    if (unlikely(!at))
        return OP_PAUSE;
    if (unlikely(complains(c, l->subject))) {
        fence_add(f, c, complaint, sizeof complaint - 1);
        return OP_PAUSE;
    }
    struct record rec = {
        .len = (uint32_t)len,
        .type = RECORD_PUB,
        .flags = c->options & RECORD_VERBOSE ? RECORD_ANSWER : 0,
        .subject_len = (uint16_t)l->subject.len,
        .conn = c->edge.number,
        .payload_len = l->payload_len,
        .reply_len = (uint16_t)l->reply.len,
        .aux = header_len,
    };
    memcpy(at, &rec, sizeof rec);
    at += RECORD_HEADER;
    at = copy_small(at, l->subject.at, l->subject.len);
    at = copy_small(at, l->reply.at, l->reply.len);
    copy_small(at, payload, l->payload_len);
    link_put(f, c, len);
    c->activity_ms = f->now_ms;
    counter_add(f->counters, COUNTER_IN_MSGS, 1);
    counter_add(f->counters, COUNTER_IN_BYTES, l->payload_len);
    return OP_DONE;
}

/* ---- SUB, UNSUB ---- */

static size_t text_len(const struct parse_line *l) {
    return l->sid.len + l->subject.len + l->queue.len;
}

/* Too much memory for one client. What it has ended before may still be on its way: that is awaited first. */
static enum op_result sub_refused(struct frontend *f, struct client *c, const struct parse_line *l) {
    static const char text[] = "-ERR '" NATS_ERR_MAX_SUBSCRIPTIONS "'\r\n";
    c->flags ^= CLIENT_MEASURED;
    if (c->flags & CLIENT_MEASURED)
        return fence_add(f, c, NULL, 0), OP_PAUSE;
    counter_add(f->counters, COUNTER_MEMORY_REFUSED, 1);
    client_log(c, LOG_ERROR, NATS_ERR_MAX_SUBSCRIPTIONS ": no memory left for \"%.*s\" - %s",
               l->subject.len < 500 ? (int)l->subject.len : 500, l->subject.at, client_user(c));
    return line(f, c, text, sizeof text - 1);
}

static enum op_result op_sub(struct frontend *f, struct client *c, const struct parse_line *l) {
    enum op_result r = prepare(f, c);
    if (r != OP_DONE)
        return r;
    uint32_t older = sub_find(f, c->edge.number, l->sid, 0);
    if (older && sub_find(f, c->edge.number, l->sid, older))
        return fence_add(f, c, NULL, 0), OP_PAUSE; /* until it is known which of the two lives */
    if (unlikely(memory_refuses(f, c, sub_price(text_len(l)))))
        return sub_refused(f, c, l);
    if (!edge_journal_reserve(&f->journal, 1))
        return no_memory(f, c);
    struct record_sub fixed = {.after = older ? older - 1 : RECORD_NO_SLOT};
    uint64_t len = record_len(sizeof fixed, 0, l->subject.len, l->queue.len, 0);
    uint8_t *at = edge_link_claim(&f->link, len);
    if (!at)
        return OP_PAUSE;
    uint32_t slot = sub_make(f, c, l);
    if (slot == 0)
        return no_memory(f, c);
    c->flags &= ~(uint32_t)CLIENT_MEASURED;
    fixed.slot = slot - 1;
    struct record rec = {
        .len = (uint32_t)len,
        .type = RECORD_SUB,
        .flags = c->options & RECORD_VERBOSE ? RECORD_ANSWER : 0,
        .subject_len = (uint16_t)l->subject.len,
        .conn = c->edge.number,
        .reply_len = (uint16_t)l->queue.len,
    };
    memcpy(at, &rec, sizeof rec);
    memcpy(at + RECORD_HEADER, &fixed, sizeof fixed);
    at += RECORD_HEADER + sizeof fixed;
    memcpy(at, l->subject.at, l->subject.len);
    if (l->queue.len > 0)
        memcpy(at + l->subject.len, l->queue.at, l->queue.len);
    link_put(f, c, len);
    c->window_units += SUB_UNITS;
    c->activity_ms = f->now_ms;
    link_journal(f, RECORD_SUB, slot - 1, 0, 0);
    return OP_DONE;
}

/* There is room for it in the ring and in the journal. */
static void put_unsub(struct frontend *f, struct client *c, uint32_t slot, uint32_t max, bool answer) {
    struct record_unsub fixed = {.slot = slot - 1, .max = max};
    uint64_t len = record_len(sizeof fixed, 0, 0, 0, 0);
    uint8_t *at = edge_link_claim(&f->link, len);
    struct record rec = {
        .len = (uint32_t)len, .type = RECORD_UNSUB, .flags = answer ? RECORD_ANSWER : 0, .conn = c->edge.number};
    memcpy(at, &rec, sizeof rec);
    memcpy(at + RECORD_HEADER, &fixed, sizeof fixed);
    link_put(f, c, len);
    c->window_units += SUB_UNITS;
    struct fsub *s = sub_at(f, slot);
    link_journal(f, RECORD_UNSUB, slot - 1, 0, s->max);
    s->max = max;
}

static enum op_result op_unsub(struct frontend *f, struct client *c, const struct parse_line *l) {
    enum op_result r = prepare(f, c);
    if (r != OP_DONE)
        return r;
    c->activity_ms = f->now_ms;
    bool verbose = c->options & RECORD_VERBOSE;
    uint32_t newest = sub_find(f, c->edge.number, l->sid, 0);
    uint32_t older = newest ? sub_find(f, c->edge.number, l->sid, newest) : 0;
    if (newest == 0)
        return verbose ? line(f, c, OK_LINE, 5) : OP_DONE;
    if (!edge_journal_reserve(&f->journal, 2))
        return no_memory(f, c);
    if (!ring_has_room(&f->link.ingress, 2 * ring_round(record_len(sizeof(struct record_unsub), 0, 0, 0, 0)), 0)) {
        f->link.ring_full = true;
        return OP_PAUSE;
    }
    /* At most one of the two lives; the router passes over the one that has ended. */
    uint32_t max = l->has_max ? l->max : 0;
    if (older)
        put_unsub(f, c, older, max, false);
    put_unsub(f, c, newest, max, verbose);
    return OP_DONE;
}

/* ---- the table ---- */

/* Its first INFO could not know a payload limit of its own. */
static bool wants_second_info(const struct frontend *f, const struct client *c) {
    return !(c->flags & CLIENT_PINGED) && c->protocol >= 1 && limit_most(c->binding.payload_max) < f->settings.max_payload;
}

static enum op_result op_ping(struct frontend *f, struct client *c) {
    if (unlikely(!fence_takes(f, c, sizeof PONG_LINE - 1)))
        return OP_PAUSE;
    bool second = wants_second_info(f, c);
    c->flags |= CLIENT_PINGED;
    c->activity_ms = f->now_ms;
    enum op_result r = line(f, c, PONG_LINE, 6);
    if (r != OP_DONE || likely(!second))
        return r;
    char info[INFO_BYTES];
    return line(f, c, info, accept_info_line(f, c, info));
}

enum op_result op_run(struct frontend *f, struct client *c, const struct parse_line *l, const char *payload) {
    char text[SNIPPET_TEXT];
    switch (l->op) {
    case PARSE_PUB:
    case PARSE_HPUB:
        return op_pub(f, c, l, payload);
    case PARSE_SUB:
        return op_sub(f, c, l);
    case PARSE_UNSUB:
        return op_unsub(f, c, l);
    case PARSE_PING:
        return op_ping(f, c);
    case PARSE_PONG:
        c->ping_out = 0;
        return OP_DONE;
    case PARSE_CONNECT:
        return connect_run(f, c, l->json);
    case PARSE_PLUS_OK:
        return OP_DONE;
    case PARSE_INFO:
        if (connect_is_object(l->json))
            return OP_DONE;
        fault_operation(f, c, "INFO is no JSON object");
        return OP_ENDED;
    case PARSE_MINUS_ERR:
        client_snippet(text, sizeof text, l->json);
        client_log(c, LOG_ERROR, "Client Error \"%s", text);
        counter_add(f->counters, COUNTER_PROTOCOL_ERRORS, 1);
        client_error(f, c, NULL, "Parse Error");
        return OP_ENDED;
    }
    check(false);
    return OP_ENDED;
}
