/* SPDX-License-Identifier: Apache-2.0 */
/* One record from an edge: is it allowed now, and whose is it?
 *
 * The table of state, record and action is docs/protocol.md, section 4. Only the impossible ends a link; what crosses
 * an end on its way (a connection kicked, a slot over) is ignored and counted.
 */
#include "base/check.h"
#include "router/router.h"

static void put_deny(struct router *r, struct link *l, uint32_t conn, enum record_deny why,
                     const struct record_target *target, struct view subject, struct view queue) {
    struct record rec = {
        .type = RECORD_DENY,
        .conn = conn,
        .aux = why,
        .subject_len = (uint16_t)subject.len,
        .reply_len = (uint16_t)queue.len,
        .target_count = target != NULL,
    };
    rec.len = (uint32_t)record_len(0, rec.target_count, subject.len, queue.len, 0);
    uint8_t *at = egress_claim(l);
    memcpy(at, &rec, sizeof rec);
    at += RECORD_HEADER;
    if (target) {
        memcpy(at, target, sizeof *target);
        at += sizeof *target;
    }
    memcpy(at, subject.at, subject.len);
    if (queue.len != 0)
        memcpy(at + subject.len, queue.at, queue.len);
    egress_advance(r, l, rec.len);
    if (why == RECORD_DENY_MEMORY)
        counter_add(r->counters, COUNTER_MEMORY_REFUSED, 1);
    if (why == RECORD_DENY_PUBLISH || why == RECORD_DENY_REPLY || why == RECORD_DENY_SUB || why == RECORD_DENY_REMOVED)
        counter_add(r->counters, COUNTER_DENIED, 1);
}

void record_deny(struct router *r, struct link *l, uint32_t conn, enum record_deny why, struct view name) {
    put_deny(r, l, conn, why, NULL, name, (struct view){0});
}

void record_deny_sub(struct router *r, struct link *l, uint32_t conn, uint32_t slot, enum record_deny why,
                     struct view subject, struct view queue) {
    struct record_target target = {conn, slot};
    put_deny(r, l, conn, why, &target, subject, queue);
}

static struct outcome ignore(struct router *r, struct link *l) {
    publish_drop(l); /* a kicked publisher's fan-out ends where it is */
    counter_add(r->counters, COUNTER_RECORDS_IGNORED, 1);
    return outcome_of(STEP_DONE);
}

struct outcome record_handle(struct router *r, struct link *l, const struct record *rec,
                             const struct record_parts *parts, const uint8_t *at) {
    if (rec->type == RECORD_BIND)
        return outcome_of(admit_bind(r, l, rec, at + parts->payload, false));
    struct conn *c = link_conn(l, rec->conn);
    if (unlikely(!c || c->state == CONN_FREE || c->state == CONN_CLOSING))
        return outcome_of(STEP_BAD);
    switch (rec->type) {
    case RECORD_PUB:
        return likely(c->state == CONN_BOUND) ? publish(r, l, c, rec, parts, at) : ignore(r, l);
    case RECORD_SUB:
        return interest_sub(r, l, c, rec, parts, at, false);
    case RECORD_UNSUB:
        return c->state == CONN_BOUND ? interest_unsub(r, l, c, rec, at) : ignore(r, l);
    case RECORD_OPTIONS:
        if (rec->aux > RECORD_OPTIONS_ALL)
            return outcome_of(STEP_BAD);
        c->options = (uint8_t)rec->aux;
        return outcome_of(STEP_DONE);
    case RECORD_GATE:
        if (c->state == CONN_BOUND)
            stall_gate(r, l, c, rec->aux != RECORD_GATE_OPEN);
        if (rec->aux == RECORD_GATE_DRAINS)
            c->took_at = r->now;
        return outcome_of(STEP_DONE);
    case RECORD_CLOSE:
        admit_close(r, l, rec->conn, c);
        return outcome_of(STEP_DONE);
    default:
        return outcome_of(STEP_BAD); /* replay records outside a replay */
    }
}
