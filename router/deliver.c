/* Messages to edges: one DELIVER and as many DELIVER_MORE as its targets need, on each link.
 *
 * Whoever calls has made sure of room. Nothing here can fail, and nothing is visible to an edge before the turn's commit.
 */
#include <stdlib.h>

#include "base/copy.h"
#include "router/cost.h"
#include "router/message.h"

/* What one link gets. */
struct share {
    uint32_t count; /* targets */
    uint32_t ending; /* of them, subscriptions that reach their max with this message */
};

/* ---- targets ---- */

__attribute__((noinline)) bool target_may(struct router *r, struct message *m, const struct sub *s, struct view subject) {
    if (likely((r->wary & WARY_OF_TARGETS) == WARY_FILTERS && !(s->flags & SUB_FILTERED)))
        return true;
    const struct link *l = &r->link[s->link];
    struct conn *c = &l->conn_chunk[s->conn / CHUNK][s->conn % CHUNK];
    if (l->state != LINK_LIVE || c->state != CONN_BOUND)
        return false;
    if (likely(!(s->flags & SUB_FILTERED) && !c->rechecking))
        return true;
    uint64_t other_no = 0; /* the remembered answer is for the message's own subject */
    enum right right = rights_deliver(r, s, c, subject, subject.at == m->subject.at ? &m->no : &other_no);
    m->later |= right == RIGHT_LATER;
    return right == RIGHT_YES;
}

bool targets_reserve(struct router *r, uint32_t count) {
    if (likely(count <= r->targets_cap))
        return true;
    struct sub **grown = realloc(r->targets, 2 * (size_t)count * sizeof(struct sub *));
    if (!grown)
        return false;
    r->targets = grown;
    r->targets_cap = 2 * count;
    return true;
}

/* ---- writing ---- */

uint64_t deliver_bytes(const struct message *m, uint32_t targets) {
    uint32_t first = targets < RECORD_TARGETS_MAX ? targets : RECORD_TARGETS_MAX;
    uint64_t bytes = ring_round(record_len(0, first, m->subject.len, m->reply.len, m->payload_len));
    for (uint32_t left = targets - first; left > 0;) {
        uint32_t n = left < RECORD_TARGETS_MAX ? left : RECORD_TARGETS_MAX;
        bytes += ring_round(record_len(0, n, 0, 0, 0));
        left -= n;
    }
    return bytes;
}

static void put_names(uint8_t *to, const struct message *m) {
    copy_small(to, (const uint8_t *)m->subject.at, m->subject.len);
    copy_small(to + m->subject.len, (const uint8_t *)m->reply.at, m->reply.len);
    copy_small(to + m->subject.len + m->reply.len, m->payload, m->payload_len);
}

void deliver_write(struct router *r, struct link *l, const struct message *m, struct sub *const *targets, uint32_t count) {
    for (uint32_t done = 0; done < count || done == 0;) {
        uint32_t n = count - done < RECORD_TARGETS_MAX ? count - done : RECORD_TARGETS_MAX;
        bool first = done == 0;
        struct record rec = {
            .type = first ? RECORD_DELIVER : RECORD_DELIVER_MORE,
            .flags = (uint8_t)(m->flags | (done + n < count ? RECORD_MORE : 0)),
            .subject_len = first ? (uint16_t)m->subject.len : 0,
            .reply_len = first ? (uint16_t)m->reply.len : 0,
            .payload_len = first ? m->payload_len : 0,
            .target_count = (uint16_t)n,
            .aux = first ? m->header_len : 0,
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
            put_names(to, m);
        egress_advance(r, l, rec.len);
        done += n;
    }
    r->work += (uint64_t)COST_TARGET * count;
    if (unlikely(r->wary & WARY_RESPONSES) && m->reply.len != 0)
        rights_delivered(r, targets, count, m->reply);
}

/* What a delivery means for the subscription, once it is written: counted, perhaps over; its publisher perhaps stalled. */
static inline void settle(struct router *r, const struct message *m, struct sub *s) {
    struct link *l = &r->link[s->link];
    if (unlikely(l->gated_count != 0) && link_conn(l, s->conn)->gated)
        stall_publisher(r, m->source, m->conn, m->rec->conn, s->link, s->conn);
    else if (unlikely(l->spilling) && egress_spill_deep(l))
        stall_publisher(r, m->source, m->conn, m->rec->conn, s->link, STALL_FOR_LINK);
    s->delivered++;
    if (likely(s->max == 0) || s->delivered < s->max)
        return;
    uint32_t slot = s->slot, number = s->conn;
    interest_drop(r, l, link_conn(l, number), link_slot(l, slot));
    egress_small(r, l, RECORD_SLOT_FREE, number, slot);
}

void deliver_to(struct router *r, struct link *l, const struct message *m, struct sub *const *targets, uint32_t count) {
    deliver_write(r, l, m, targets, count);
    for (uint32_t i = 0; i < count; i++)
        settle(r, m, targets[i]);
}

enum step deliver_all(struct router *r, const struct message *m, uint32_t count, bool *too_large) {
    struct share share[LINKS_MAX] = {0};
    uint32_t ending = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct share *sh = &share[r->targets[i]->link];
        sh->count++;
        sh->ending += sub_ends_now(r->targets[i]);
    }
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        bool answer = (m->rec->flags & RECORD_ANSWER) && l == m->source;
        if (share[i].count == 0 && !answer)
            continue;
        uint64_t bytes = deliver_bytes(m, share[i].count) + (uint64_t)share[i].ending * SMALL + (answer ? SMALL : 0);
        ending += share[i].ending;
        if (too_large && (bytes > l->egress.cap / 2 || ending > FANOUT_WARY)) {
            *too_large = true;
            return STEP_WAIT;
        }
        if (!egress_has_room(r, l, bytes, false)) {
            r->no_room = l->number;
            return STEP_WAIT;
        }
    }
    if (m->rec->flags & RECORD_ANSWER)
        egress_small(r, m->source, RECORD_OK, m->rec->conn, 0);
    /* Group by link: a counting sort into the second half of the target array. */
    struct sub **grouped = r->targets + count;
    uint32_t start[LINKS_MAX], at = 0;
    for (uint32_t i = 0; i < r->link_high; i++) {
        start[i] = at;
        at += share[i].count;
    }
    for (uint32_t i = 0; i < count; i++)
        grouped[start[r->targets[i]->link]++] = r->targets[i];
    for (uint32_t i = 0, done = 0; i < r->link_high; done += share[i++].count)
        if (share[i].count != 0)
            deliver_to(r, &r->link[i], m, grouped + done, share[i].count);
    return STEP_DONE;
}
