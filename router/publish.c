/* SPDX-License-Identifier: Apache-2.0 */
/* PUB: may it be published, and what follows when nobody is there?
 *
 * A record is handled in two steps. The plan copies the names, checks them, matches, chooses queue members and counts
 * the room in every ring, including the records that the router makes itself; nothing changes (plan.c). Then all is
 * written, which cannot fail. No room somewhere: the record stays, its source waits, the plan is made anew later.
 *
 * What is too much for one step goes on in the next turn: a choice among thousands of queue members (choose.c), and a
 * message for thousands of targets (fanout.c). The queue members of such a message are served in the step in which its
 * cursor begins, so no choice is made twice.
 */
#include "base/copy.h"
#include "nats/name.h"
#include "nats/proto.h"
#include "router/cost.h"
#include "router/message.h"

/* ---- who may ---- */

static bool longer_than(struct view s, struct view prefix) {
    return s.len > prefix.len && view_starts(s, prefix);
}

/* Names that clients may not publish to or ask replies on. */
static enum record_deny reserved(const struct leg *m) {
    if (unlikely(m->subject.at[0] == '_') && longer_than(m->subject, VIEW(PROTO_GATEWAY_REPLY)))
        return RECORD_DENY_PUBLISH;
    if (m->reply.len != 0 && (m->reply.at[0] == '_' || m->reply.at[0] == '$')) {
        if (view_starts(m->reply, VIEW(PROTO_SERVICE_REPLY)) || longer_than(m->reply, VIEW(PROTO_GATEWAY_REPLY)) ||
            longer_than(m->reply, VIEW(PROTO_ACK_REPLY)))
            return RECORD_DENY_REPLY;
    }
    return 0;
}

__attribute__((noinline)) static struct outcome refuse(struct router *r, const struct plan *p, enum record_deny why) {
    struct view name = why == RECORD_DENY_REPLY ? p->leg->reply : p->leg->subject;
    if (!egress_has_room(r, p->source, DENY_BYTES(name.len), true))
        return outcome_wait(p->source);
    record_deny(r, p->source, p->rec->conn, why, name);
    return outcome_of(STEP_DONE);
}

/* ---- nobody there ---- */

enum { REPLY_LOOKS_MAX = 4096 };

static bool in_run(const struct sub_run *run, const struct sub *s) {
    return s->place < run->count && run->subs[s->place] == s;
}

static bool replies_to(struct router *r, struct leg *none, const struct sub *s) {
    return likely(!(r->wary & WARY_OF_TARGETS)) || target_may(r, none, s);
}

/* By the publisher's own subscriptions: for each, whether it is in what was found. */
static struct sub *reply_sub_of_conn(struct router *r, struct leg *none) {
    const struct plan *p = none->plan;
    const struct match *found = none->found;
    for (uint32_t at = p->conn->first_sub; at; at = router_sub(r, at)->conn_next) {
        struct sub *s = router_sub(r, at);
        for (uint32_t i = 0; i < found->plain_count && s->queue == 0; i++)
            if (in_run(&found->plain[i], s) && replies_to(r, none, s))
                return s;
    }
    return NULL;
}

/* By what was found: whose it is. */
static struct sub *reply_sub_of_match(struct router *r, struct leg *none) {
    const struct plan *p = none->plan;
    const struct match *found = none->found;
    for (uint32_t i = 0; i < found->plain_count; i++)
        for (uint32_t k = 0; k < found->plain[i].count; k++) {
            struct sub *s = found->plain[i].subs[k];
            if (s->link == p->source->number && s->conn == p->rec->conn && replies_to(r, none, s))
                return s;
        }
    return NULL;
}

/* The publisher's own plain subscription for the reply, which is the leg's subject, or null. A deny rule keeps a 503
 * from it as any message. The shorter of two ways is gone, so that thousands of others who listen to the same replies
 * do not make it dear; who has thousands himself, all of whose replies thousands listen to, gets none. */
static struct sub *reply_sub(struct router *r, struct leg *none) {
    if (name_look(none->subject.at, none->subject.len) & NAME_EMPTY_TOKEN)
        return NULL;
    const struct match *found = none->found;
    uint32_t visited;
    enum err e = sublist_match(none->account->sublist, none->subject, none->found, &visited);
    r->work += (uint64_t)COST_NODE * visited;
    if (e == ERR_NOMEM)
        return NULL;
    uint64_t all = found->plain_total, own = (uint64_t)none->plan->conn->sub_count * found->plain_count;
    uint64_t looks = all < own ? all : own;
    if (looks > REPLY_LOOKS_MAX)
        return NULL;
    r->work += COST_TARGET * looks;
    return all < own ? reply_sub_of_match(r, none) : reply_sub_of_conn(r, none);
}

/* A 503 to s, if it is not null, and before it the publisher's OK. */
static struct outcome write_nobody(struct router *r, const struct leg *none, struct sub *s, bool answer) {
    const struct plan *p = none->plan;
    if (!egress_has_room(r, p->source, SMALL + deliver_bytes(none, 1), true))
        return outcome_wait(p->source);
    if (answer)
        egress_small(r, p->source, RECORD_OK, p->rec->conn, 0);
    if (s)
        deliver_write(r, none, p->source, &s, 1);
    return outcome_of(STEP_DONE);
}

/* No leg has a target. answer: the publisher is verbose and has not had its OK. */
static struct outcome no_responders(struct router *r, struct plan *p, bool answer) {
    struct view reply = p->leg->reply;
    bool asks = reply.len != 0 && p->conn->options & RECORD_NO_RESPONDERS && !p->cut;
    if (likely(!asks && !answer))
        return outcome_of(STEP_DONE);
    struct leg none;
    leg_begin(&none, p, LEG_NOBODY, p->leg->account, &r->match_reply);
    none.subject = reply;
    none.reply = (struct view){0};
    none.header = VIEW(PROTO_NO_RESPONDERS);
    none.body = NULL;
    none.payload_len = none.header_len = sizeof PROTO_NO_RESPONDERS - 1;
    none.flags = RECORD_UNCOUNTED;
    struct sub *s = asks ? reply_sub(r, &none) : NULL;
    if (unlikely(p->later))
        return outcome_of(STEP_MORE);
    return likely(!s && !answer) ? outcome_of(STEP_DONE) : write_nobody(r, &none, s, answer);
}

static inline struct outcome nobody(struct router *r, struct plan *p) {
    return no_responders(r, p, p->rec->flags & RECORD_ANSWER);
}

/* ---- one record ---- */

/* One leg with one plain target: the most common message by far. */
static struct outcome publish_one(struct router *r, const struct leg *leg, struct sub *s) {
    const struct plan *p = leg->plan;
    struct link *l = &r->link[s->link];
    uint64_t bytes = ring_round(record_len(0, 1, leg->subject.len, leg->reply.len, leg->payload_len));
    bool answer = p->rec->flags & RECORD_ANSWER;
    uint64_t extra = (sub_ends_now(s) ? SMALL : 0) + (answer ? SMALL : 0);
    if (unlikely(!egress_has_room(r, l, bytes + extra, false)))
        return outcome_wait(l);
    if (answer) {
        if (!egress_has_room(r, p->source, SMALL, true))
            return outcome_wait(p->source);
        egress_small(r, p->source, RECORD_OK, p->rec->conn, 0);
    }
    deliver_to(r, leg, l, &s, 1);
    return outcome_of(STEP_DONE);
}

/* The targets of a message that is served step by step are in order: queue members get it, and the cursor begins. */
static struct outcome open_fanout(struct router *r, struct plan *p) {
    uint32_t queued = 0;
    if (p->source->resume.cursor == CURSOR_NONE) {
        struct outcome o = plan_match(r, p->leg) ? plan_serve(r, p, false) : outcome_of(STEP_NOMEM);
        if (o.step != STEP_DONE)
            return o;
        queued = plan_count(p);
        choose_drop(&p->source->choice);
    }
    fanout_open(p->source, queued > 0 || p->cut || p->source->resume.cursor != CURSOR_NONE);
    return outcome_of(STEP_DONE);
}

__attribute__((noinline)) static struct outcome go_on(struct router *r, struct plan *p) {
    struct fanout *f = &p->source->fanout;
    struct outcome o = outcome_of(STEP_DONE);
    if (f->phase == FANOUT_PINNING)
        o = fanout_pin(r, p);
    if (o.step == STEP_DONE && f->phase == FANOUT_PINNING)
        o = open_fanout(r, p);
    if (o.step == STEP_DONE)
        o = fanout_serve(r, p);
    if (o.step == STEP_DONE && !f->served)
        o = no_responders(r, p, false);
    if (o.step == STEP_DONE)
        publish_drop(p->source);
    return o;
}

/* Everybody at once if that is not too much. */
static struct outcome publish_some(struct router *r, struct plan *p) {
    bool too_large = p->leg->found->plain_total > (r->wary & WARY_OF_TARGETS ? FANOUT_WARY : FANOUT_AT_ONCE);
    if (likely(p->source->resume.cursor == CURSOR_NONE && !too_large)) {
        struct outcome o = plan_serve(r, p, true);
        if (o.step == STEP_DONE && plan_count(p) == 0)
            return nobody(r, p);
        if (likely(o.step != STEP_LARGE))
            return o;
    }
    return fanout_begin(r, p) == ERR_OK ? go_on(r, p) : outcome_of(STEP_NOMEM);
}

void publish_drop(struct link *l) {
    if (l->fanout.phase != FANOUT_NONE)
        fanout_drop(&l->fanout);
    if (l->choice.active)
        choose_drop(&l->choice);
}

/* A message that may be published. */
static inline struct outcome route(struct router *r, struct plan *p, unsigned look) {
    struct leg *own = p->leg;
    enum record_deny why = reserved(own);
    if (unlikely(why != 0))
        return refuse(r, p, why);
    if (unlikely(look & NAME_EMPTY_TOKEN))
        return nobody(r, p);
    if (unlikely(!plan_match(r, own)))
        return outcome_of(STEP_NOMEM);
    const struct match *found = own->found;
    if (likely(found->plain_total == 1 && found->queue_count == 0 && p->source->resume.cursor == CURSOR_NONE)) {
        struct sub *s = found->plain[0].subs[0];
        if (likely(target_takes(r, own, s)))
            return publish_one(r, own, s);
        return p->later ? outcome_of(STEP_MORE) : nobody(r, p);
    }
    if (found->plain_total == 0 && found->queue_count == 0 && likely(p->source->resume.cursor == CURSOR_NONE))
        return nobody(r, p);
    return publish_some(r, p);
}

/* The names are checked, and held against what the connection may do. */
static inline struct outcome publish_checked(struct router *r, struct plan *p) {
    const struct record *rec = p->rec;
    const struct leg *own = p->leg;
    unsigned look = name_look(own->subject.at, own->subject.len);
    if (unlikely((look & NAME_DIRTY) || own->subject.len == 0 || rec->payload_len > r->settings.max_payload ||
                 (own->reply.len != 0 && (name_look(own->reply.at, own->reply.len) & NAME_DIRTY))))
        return outcome_of(STEP_BAD);
    if (unlikely(p->conn->limited)) {
        if (unlikely(rec->payload_len > p->conn->payload_max))
            return outcome_kick(RECORD_KICK_PAYLOAD);
        enum right right = rights_publish(r, p->source, p->conn, rec, own->subject);
        if (right == RIGHT_LATER)
            return outcome_of(STEP_MORE);
        if (right == RIGHT_NO) /* what was begun under other permissions ends where it is */
            return p->source->resume.cursor == CURSOR_NONE ? refuse(r, p, RECORD_DENY_PUBLISH) : outcome_of(STEP_DONE);
    }
    return route(r, p, look);
}

/* No memory for a message: it is lost, which is counted, and its publisher is ended. */
__attribute__((noinline)) static struct outcome lose(struct router *r, struct link *l) {
    counter_add(r->counters, COUNTER_FAILED, 1);
    publish_drop(l);
    return outcome_kick(RECORD_KICK_MEMORY);
}

struct outcome publish(struct router *r, struct link *l, struct conn *c, const struct record *rec,
                       const struct record_parts *parts, const uint8_t *at) {
    /* A fan-out goes on with the names that were checked when it began, whatever lies in the ring by now. */
    bool goes_on = l->fanout.phase != FANOUT_NONE;
    const char *names = (const char *)r->scratch;
    if (unlikely(goes_on))
        names = (const char *)l->fanout.names;
    else
        copy_small(r->scratch, at + parts->subject, (size_t)rec->subject_len + rec->reply_len);
    struct plan p;
    struct leg own;
    p.source = l;
    p.conn = c;
    p.rec = rec;
    p.parts = parts;
    p.cut = p.later = false;
    p.leg_count = 1;
    p.leg = &own;
    leg_begin(&own, &p, LEG_OWN, account_find(r, c->account), &r->match);
    own.subject = view_of(names, rec->subject_len);
    own.reply = view_of(names + rec->subject_len, rec->reply_len);
    own.body = at + parts->payload;
    own.payload_len = rec->payload_len;
    own.header_len = rec->aux;
    struct outcome o = unlikely(goes_on) ? go_on(r, &p) : publish_checked(r, &p);
    return likely(o.step != STEP_NOMEM) ? o : lose(r, l);
}
