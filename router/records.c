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

static struct outcome take_bind(struct router *r, struct link *l, struct conn *c, const struct record *rec,
                                const struct record_parts *parts, const uint8_t *at) {
    (void)c;
    return outcome_of(admit_bind(r, l, rec, at + parts->payload, false));
}

static struct outcome take_sub(struct router *r, struct link *l, struct conn *c, const struct record *rec,
                               const struct record_parts *parts, const uint8_t *at) {
    return interest_sub(r, l, c, rec, parts, at, false);
}

static struct outcome take_unsub(struct router *r, struct link *l, struct conn *c, const struct record *rec,
                                 const struct record_parts *parts, const uint8_t *at) {
    (void)parts;
    return interest_unsub(r, l, c, rec, at);
}

static struct outcome take_options(struct router *r, struct link *l, struct conn *c, const struct record *rec,
                                   const struct record_parts *parts, const uint8_t *at) {
    (void)r, (void)l, (void)parts, (void)at;
    if (rec->aux > RECORD_OPTIONS_ALL)
        return outcome_of(STEP_BAD);
    c->options = (uint8_t)rec->aux;
    return outcome_of(STEP_DONE);
}

static struct outcome take_gate(struct router *r, struct link *l, struct conn *c, const struct record *rec,
                                const struct record_parts *parts, const uint8_t *at) {
    (void)parts, (void)at;
    stall_gate(r, l, c, rec->aux != RECORD_GATE_OPEN);
    if (rec->aux == RECORD_GATE_DRAINS)
        c->took_at = r->now;
    return outcome_of(STEP_DONE);
}

static struct outcome take_close(struct router *r, struct link *l, struct conn *c, const struct record *rec,
                                 const struct record_parts *parts, const uint8_t *at) {
    (void)parts, (void)at;
    admit_close(r, l, rec->conn, c);
    return outcome_of(STEP_DONE);
}

/* ---- the table ---- */

#define IN(state)  (1u << (state))
#define FROM(kind) (1u << (kind))
#define FROM_ALL   (FROM(LINK_FRONTEND) | FROM(LINK_GATEWAYD) | FROM(LINK_LEAFD) | FROM(LINK_SYSACCT))

/* What has no rule, and what is neither taken nor ignored, ends the link. */
static const struct rule {
    uint8_t from;    /* kinds of links whose edges may send it */
    uint8_t taken;   /* states of its connection in which it is handled */
    uint8_t ignored; /* states in which it is counted and passed over */
    struct outcome (*handle)(struct router *r, struct link *l, struct conn *c, const struct record *rec,
                             const struct record_parts *parts, const uint8_t *at);
} rules[RECORD_TYPE_END] = {
    [RECORD_BIND] = {FROM_ALL, IN(CONN_FREE), 0, take_bind},
    [RECORD_OPTIONS] = {FROM_ALL, IN(CONN_BOUND), IN(CONN_KICKED), take_options},
    [RECORD_SUB] = {FROM_ALL, IN(CONN_BOUND) | IN(CONN_KICKED), 0, take_sub},
    [RECORD_UNSUB] = {FROM_ALL, IN(CONN_BOUND), IN(CONN_KICKED), take_unsub},
    [RECORD_PUB] = {FROM_ALL, IN(CONN_BOUND), IN(CONN_KICKED), NULL}, /* record_handle itself */
    [RECORD_GATE] = {FROM_ALL, IN(CONN_BOUND), IN(CONN_KICKED), take_gate},
    [RECORD_CLOSE] = {FROM_ALL, IN(CONN_BOUND) | IN(CONN_KICKED), 0, take_close},
};

enum record_rule record_rule(enum link_kind kind, enum record_type type, enum conn_state state) {
    const struct rule *rule = &rules[type];
    if (!(rule->from & FROM(kind)))
        return RECORD_ENDS_LINK;
    return rule->taken & IN(state) ? RECORD_IS_TAKEN : rule->ignored & IN(state) ? RECORD_IS_IGNORED : RECORD_ENDS_LINK;
}

struct outcome record_handle(struct router *r, struct link *l, const struct record *rec,
                             const struct record_parts *parts, const uint8_t *at) {
    struct conn *c = link_conn(l, rec->conn); /* null: a number that was never used */
    enum conn_state state = likely(c != NULL) ? c->state : CONN_FREE;
    const struct rule *rule = &rules[rec->type];
    if (unlikely(!(rule->from & FROM(l->kind)) || !(rule->taken & IN(state))))
        return record_rule(l->kind, rec->type, state) == RECORD_IS_IGNORED ? ignore(r, l) : outcome_of(STEP_BAD);
    if (likely(rec->type == RECORD_PUB)) /* most records: not by a pointer */
        return publish(r, l, c, rec, parts, at);
    return rule->handle(r, l, c, rec, parts, at);
}
