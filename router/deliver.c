/* SPDX-License-Identifier: Apache-2.0 */
/* One leg of a message to edges: one DELIVER and as many DELIVER_MORE as its targets need, on each link.
 *
 * Whoever calls has made sure of room. Nothing here can fail, and nothing is visible to an edge before the turn's
 * commit.
 */
#include "base/copy.h"
#include "router/cost.h"
#include "router/message.h"

uint64_t deliver_bytes(const struct leg *leg, uint32_t targets) {
    uint32_t first = targets < RECORD_TARGETS_MAX ? targets : RECORD_TARGETS_MAX;
    uint64_t bytes = ring_round(record_len(0, first, leg->subject.len, leg->reply.len, leg->payload_len));
    for (uint32_t left = targets - first; left > 0;) {
        uint32_t n = left < RECORD_TARGETS_MAX ? left : RECORD_TARGETS_MAX;
        bytes += ring_round(record_len(0, n, 0, 0, 0));
        left -= n;
    }
    return bytes;
}

__attribute__((noinline)) static void put_header_and_body(uint8_t *to, const struct leg *leg) {
    memcpy(to, leg->header.at, leg->header.len);
    copy_small(to + leg->header.len, leg->body, leg->payload_len - leg->header.len);
}

static void put_texts(uint8_t *to, const struct leg *leg) {
    copy_small(to, (const uint8_t *)leg->subject.at, leg->subject.len);
    copy_small(to + leg->subject.len, (const uint8_t *)leg->reply.at, leg->reply.len);
    uint8_t *payload = to + leg->subject.len + leg->reply.len;
    if (unlikely(leg->header.len != 0))
        put_header_and_body(payload, leg);
    else
        copy_small(payload, leg->body, leg->payload_len);
}

void deliver_write(struct router *r, const struct leg *leg, struct link *l, struct sub *const *targets,
                   uint32_t count) {
    for (uint32_t done = 0; done < count || done == 0;) {
        uint32_t n = count - done < RECORD_TARGETS_MAX ? count - done : RECORD_TARGETS_MAX;
        bool first = done == 0;
        struct record rec = {
            .type = first ? RECORD_DELIVER : RECORD_DELIVER_MORE,
            .flags = (uint8_t)(leg->flags | (done + n < count ? RECORD_MORE : 0)),
            .subject_len = first ? (uint16_t)leg->subject.len : 0,
            .reply_len = first ? (uint16_t)leg->reply.len : 0,
            .payload_len = first ? leg->payload_len : 0,
            .target_count = (uint16_t)n,
            .aux = first ? leg->header_len : 0,
        };
        rec.len = (uint32_t)record_len(0, n, rec.subject_len, rec.reply_len, rec.payload_len);
        uint8_t *at = egress_claim(l);
        memcpy(at, &rec, sizeof rec);
        uint8_t *to = at + RECORD_HEADER;
        for (uint32_t i = 0; i < n; i++, to += 8) {
            struct record_target t = {targets[done + i]->conn, targets[done + i]->slot};
            memcpy(to, &t, sizeof t);
        }
        if (first)
            put_texts(to, leg);
        egress_advance(r, l, rec.len);
        done += n;
    }
    r->work += (uint64_t)COST_TARGET * count;
    if (unlikely(r->wary & WARY_RESPONSES) && leg->reply.len != 0)
        rights_delivered(r, targets, count, leg->reply);
}

/* What a delivery means for the subscription, once it is written: counted, perhaps over; its publisher perhaps stalled.
 */
static inline void settle(struct router *r, const struct plan *p, struct sub *s) {
    struct link *l = &r->link[s->link];
    if (unlikely(l->gated_count != 0) && link_conn(l, s->conn)->gated)
        stall_publisher(r, p->source, p->conn, p->rec->conn, s->link, s->conn);
    else if (unlikely(l->spilling) && egress_spill_deep(l))
        stall_publisher(r, p->source, p->conn, p->rec->conn, s->link, STALL_FOR_LINK);
    s->delivered++;
    if (likely(s->max == 0) || s->delivered < s->max)
        return;
    uint32_t slot = s->slot, number = s->conn;
    interest_drop(r, l, link_conn(l, number), link_slot(l, slot));
    egress_small(r, l, RECORD_SLOT_FREE, number, slot);
}

void deliver_to(struct router *r, const struct leg *leg, struct link *l, struct sub *const *targets, uint32_t count) {
    deliver_write(r, leg, l, targets, count);
    for (uint32_t i = 0; i < count; i++)
        settle(r, leg->plan, targets[i]);
}
