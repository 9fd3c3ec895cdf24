/* PUB: who may, who gets it, and is there room?
 *
 * A record is handled in two steps. The plan copies the names, checks them, matches, chooses queue members and counts the
 * room in every ring, including the records that the router makes itself; nothing changes. The commit writes and cannot fail.
 * No room somewhere: the record stays, its source waits, the plan is made anew later.
 *
 * What is too much for one step goes on in the next turn: a choice among thousands of queue members (choose.c), and a message for
 * thousands of targets (fanout.c). The queue members of such a message are served in the step in which its cursor begins, so no
 * choice is made twice. A match is bounded (sublist.h): where it is cut, those who were found get the message, the cut is
 * counted, and nobody is told that there is nobody.
 */
#include "base/check.h"
#include "base/copy.h"
#include "base/log.h"
#include "nats/name.h"
#include "nats/proto.h"
#include "router/cost.h"
#include "router/message.h"

/* ---- who may ---- */

static bool longer_than(struct view s, struct view prefix) {
    return s.len > prefix.len && view_starts(s, prefix);
}

/* Names that clients may not publish to or ask replies on. */
static enum record_deny reserved(const struct message *m) {
    if (unlikely(m->subject.at[0] == '_') && longer_than(m->subject, VIEW(PROTO_GATEWAY_REPLY)))
        return RECORD_DENY_PUBLISH;
    if (m->reply.len != 0 && (m->reply.at[0] == '_' || m->reply.at[0] == '$')) {
        if (view_starts(m->reply, VIEW(PROTO_SERVICE_REPLY)) || longer_than(m->reply, VIEW(PROTO_GATEWAY_REPLY)) ||
            longer_than(m->reply, VIEW(PROTO_ACK_REPLY)))
            return RECORD_DENY_REPLY;
    }
    return 0;
}

/* ---- who gets it ---- */

enum { CUT_LOG_NS = 1000000000 };

static void note_cut(struct router *r, const struct message *m) {
    counter_add(r->counters, COUNTER_MATCHES_CUT, 1);
    if (r->now - r->cut_logged < CUT_LOG_NS)
        return;
    r->cut_logged = r->now;
    log_warn("account %u: a subject of %zu bytes meets too many patterns or queue groups: not all who want it get the message",
             m->conn->account, m->subject.len);
}

/* What the publisher's account has for the message's subject, in r->match. False: no memory. */
static inline bool match_message(struct router *r, struct message *m) {
    uint32_t visited;
    struct account *a = account_find(r, m->conn->account);
    enum err e = sublist_match(a->sublist, m->subject, &r->match, &visited);
    r->work += (uint64_t)COST_NODE * visited;
    if (likely(e == ERR_OK))
        return true;
    if (e == ERR_RANGE && !m->source->choice.active && m->source->fanout.phase == FANOUT_NONE)
        note_cut(r, m);
    m->cut = e == ERR_RANGE;
    return e == ERR_RANGE;
}

/* Adds all plain targets to the `queued` ones in r->targets; returns how many there are then. Room was made sure of. */
static uint32_t collect_plain(struct router *r, struct message *m, uint32_t queued) {
    const struct match *found = &r->match;
    uint32_t n = queued;
    for (uint32_t i = 0; i < found->plain_count; i++) {
        struct sub_run run = found->plain[i];
        for (uint32_t k = 0; k < run.count; k++)
            if (target_takes(r, m, run.subs[k]))
                r->targets[n++] = run.subs[k];
    }
    r->work += (uint64_t)COST_TARGET * (found->plain_total - (n - queued));
    return n;
}

/* No memory for a message: it is lost, which is counted, and its publisher is ended. */
static enum step fail(struct router *r, const struct message *m) {
    counter_add(r->counters, COUNTER_FAILED, 1);
    admit_kick(r, m->source, m->rec->conn, RECORD_KICK_MEMORY);
    return STEP_DONE;
}

/* ---- nobody there ---- */

enum { REPLY_LOOKS_MAX = 4096 };

static bool in_run(const struct sub_run *run, const struct sub *s) {
    return s->place < run->count && run->subs[s->place] == s;
}

static bool replies_to(struct router *r, struct message *m, const struct sub *s) {
    return likely(!(r->wary & WARY_OF_TARGETS)) || target_may(r, m, s, m->reply);
}

/* By the publisher's own subscriptions: for each, whether it is in what was found. */
static struct sub *reply_sub_of_conn(struct router *r, struct message *m) {
    const struct match *found = &r->match_reply;
    for (uint32_t at = m->conn->first_sub; at; at = router_sub(r, at)->conn_next) {
        struct sub *s = router_sub(r, at);
        for (uint32_t i = 0; i < found->plain_count && s->queue == 0; i++)
            if (in_run(&found->plain[i], s) && replies_to(r, m, s))
                return s;
    }
    return NULL;
}

/* By what was found: whose it is. */
static struct sub *reply_sub_of_match(struct router *r, struct message *m) {
    const struct match *found = &r->match_reply;
    for (uint32_t i = 0; i < found->plain_count; i++)
        for (uint32_t k = 0; k < found->plain[i].count; k++) {
            struct sub *s = found->plain[i].subs[k];
            if (s->link == m->source->number && s->conn == m->rec->conn && replies_to(r, m, s))
                return s;
        }
    return NULL;
}

/* The publisher's own plain subscription for the reply, or null. A deny rule keeps a 503 from it as any message. The shorter of
 * two ways is gone, so that thousands of others who listen to the same replies do not make it dear; who has thousands himself, all of
 * whose replies thousands listen to, gets none. */
static struct sub *reply_sub(struct router *r, struct message *m) {
    if (m->reply.len == 0 || !(m->conn->options & RECORD_NO_RESPONDERS) ||
        (name_look(m->reply.at, m->reply.len) & NAME_EMPTY_TOKEN))
        return NULL;
    struct account *a = account_find(r, m->conn->account);
    uint32_t visited;
    enum err e = sublist_match(a->sublist, m->reply, &r->match_reply, &visited);
    r->work += (uint64_t)COST_NODE * visited;
    if (e == ERR_NOMEM)
        return NULL;
    uint64_t all = r->match_reply.plain_total, own = (uint64_t)m->conn->sub_count * r->match_reply.plain_count;
    uint64_t looks = all < own ? all : own;
    if (looks > REPLY_LOOKS_MAX)
        return NULL;
    r->work += COST_TARGET * looks;
    return all < own ? reply_sub_of_match(r, m) : reply_sub_of_conn(r, m);
}

/* answer: the publisher is verbose and has not had its OK. */
static enum step no_responders(struct router *r, struct message *m, bool answer) {
    struct sub *s = m->cut ? NULL : reply_sub(r, m);
    if (unlikely(m->later))
        return STEP_MORE;
    if (likely(!s && !answer))
        return STEP_DONE;
    struct message none = {
        .source = m->source,
        .conn = m->conn,
        .rec = m->rec,
        .subject = m->reply,
        .payload = (const uint8_t *)PROTO_NO_RESPONDERS,
        .payload_len = sizeof PROTO_NO_RESPONDERS - 1,
        .header_len = sizeof PROTO_NO_RESPONDERS - 1,
        .flags = RECORD_UNCOUNTED,
    };
    if (!egress_has_room(r, m->source, SMALL + deliver_bytes(&none, 1), true)) {
        r->no_room = m->source->number;
        return STEP_WAIT;
    }
    if (answer)
        egress_small(r, m->source, RECORD_OK, m->rec->conn, 0);
    if (s)
        deliver_write(r, m->source, &none, &s, 1);
    return STEP_DONE;
}

/* ---- one record ---- */

/* One plain target: the most common message by far. */
static enum step publish_one(struct router *r, const struct message *m, struct sub *s) {
    struct link *l = &r->link[s->link];
    uint64_t bytes = ring_round(record_len(0, 1, m->subject.len, m->reply.len, m->payload_len));
    bool answer = m->rec->flags & RECORD_ANSWER;
    uint64_t extra = (sub_ends_now(s) ? SMALL : 0) + (answer ? SMALL : 0);
    if (unlikely(!egress_has_room(r, l, bytes + extra, false))) {
        r->no_room = l->number;
        return STEP_WAIT;
    }
    if (answer) {
        if (!egress_has_room(r, m->source, SMALL, true)) {
            r->no_room = m->source->number;
            return STEP_WAIT;
        }
        egress_small(r, m->source, RECORD_OK, m->rec->conn, 0);
    }
    deliver_to(r, l, m, &s, 1);
    return STEP_DONE;
}

/* The targets of a message that is served step by step are in order: queue members get it, and the cursor begins. */
static enum step open_fanout(struct router *r, struct message *m) {
    uint32_t queued = 0;
    if (m->source->resume.cursor == CURSOR_NONE) {
        enum step s = match_message(r, m) ? choose_members(r, m, &queued) : STEP_BAD;
        if (s == STEP_DONE && !targets_reserve(r, 2 * queued))
            s = STEP_BAD;
        if (s == STEP_DONE && (queued > 0 || (m->rec->flags & RECORD_ANSWER)))
            s = deliver_all(r, m, queued, NULL);
        if (s != STEP_DONE)
            return s;
        choose_drop(&m->source->choice);
    }
    fanout_open(m->source, queued > 0 || m->cut || m->source->resume.cursor != CURSOR_NONE);
    return STEP_DONE;
}

static enum step go_on(struct router *r, struct message *m) {
    struct fanout *f = &m->source->fanout;
    enum step s = STEP_DONE;
    if (f->phase == FANOUT_PINNING)
        s = fanout_pin(r, m);
    if (s == STEP_DONE && f->phase == FANOUT_PINNING)
        s = open_fanout(r, m);
    if (s == STEP_DONE)
        s = fanout_serve(r, m);
    if (s == STEP_DONE && !f->served)
        s = no_responders(r, m, false);
    if (s == STEP_DONE || s == STEP_BAD)
        publish_drop(m->source);
    return s == STEP_BAD ? fail(r, m) : s;
}

/* Everybody at once if that is not too much. */
static enum step publish_some(struct router *r, struct message *m) {
    uint32_t plain = r->match.plain_total, queued = 0;
    bool too_large = plain > (r->wary & WARY_OF_TARGETS ? FANOUT_WARY : FANOUT_AT_ONCE);
    if (likely(m->source->resume.cursor == CURSOR_NONE && !too_large)) {
        enum step s = r->match.queue_count != 0 ? choose_members(r, m, &queued) : STEP_DONE;
        if (s != STEP_DONE)
            return s == STEP_BAD ? fail(r, m) : s;
        if (!targets_reserve(r, 2 * (queued + plain)))
            return fail(r, m);
        uint32_t count = collect_plain(r, m, queued);
        if (unlikely(m->later))
            return STEP_MORE;
        s = count == 0 ? no_responders(r, m, m->rec->flags & RECORD_ANSWER) : deliver_all(r, m, count, &too_large);
        if (!too_large)
            return s;
    }
    if (fanout_begin(r, m) != ERR_OK)
        return fail(r, m);
    return go_on(r, m);
}

void publish_drop(struct link *l) {
    if (l->fanout.phase != FANOUT_NONE)
        fanout_drop(&l->fanout);
    if (l->choice.active)
        choose_drop(&l->choice);
}

static enum step refuse(struct router *r, const struct message *m, enum record_deny why) {
    struct view name = why == RECORD_DENY_REPLY ? m->reply : m->subject;
    if (!egress_has_room(r, m->source, DENY_BYTES(name.len, 0), true)) {
        r->no_room = m->source->number;
        return STEP_WAIT;
    }
    record_deny(r, m->source, m->rec->conn, why, name, (struct view){0});
    return STEP_DONE;
}

/* A message that may be published. */
static inline enum step route(struct router *r, struct message *m, unsigned look) {
    enum record_deny why = reserved(m);
    if (unlikely(why != 0))
        return refuse(r, m, why);
    if (unlikely(look & NAME_EMPTY_TOKEN))
        return no_responders(r, m, m->rec->flags & RECORD_ANSWER);
    if (unlikely(!match_message(r, m)))
        return fail(r, m);
    if (likely(r->match.plain_total == 1 && r->match.queue_count == 0 && m->source->resume.cursor == CURSOR_NONE)) {
        struct sub *s = r->match.plain[0].subs[0];
        if (likely(target_takes(r, m, s)))
            return publish_one(r, m, s);
        return m->later ? STEP_MORE : no_responders(r, m, m->rec->flags & RECORD_ANSWER);
    }
    if (r->match.plain_total == 0 && r->match.queue_count == 0 && likely(m->source->resume.cursor == CURSOR_NONE))
        return no_responders(r, m, m->rec->flags & RECORD_ANSWER);
    return publish_some(r, m);
}

enum step publish(struct router *r, struct link *l, struct conn *c, const struct record *rec,
                  const struct record_parts *parts, const uint8_t *at) {
    /* A fan-out goes on with the names that were checked when it began, whatever lies in the ring by now. */
    const char *names = (const char *)r->scratch;
    if (unlikely(l->fanout.phase != FANOUT_NONE))
        names = (const char *)l->fanout.names;
    else
        copy_small(r->scratch, at + parts->subject, (size_t)rec->subject_len + rec->reply_len);
    struct message m = {
        .source = l,
        .conn = c,
        .rec = rec,
        .parts = parts,
        .subject = view_of(names, rec->subject_len),
        .reply = view_of(names + rec->subject_len, rec->reply_len),
        .payload = at + parts->payload,
        .payload_len = rec->payload_len,
        .header_len = rec->aux,
    };
    if (unlikely(l->fanout.phase != FANOUT_NONE))
        return go_on(r, &m);
    unsigned look = name_look(m.subject.at, m.subject.len);
    if (unlikely((look & NAME_DIRTY) || m.subject.len == 0 || rec->payload_len > r->settings.max_payload ||
                 (m.reply.len != 0 && (name_look(m.reply.at, m.reply.len) & NAME_DIRTY))))
        return STEP_BAD;
    if (unlikely(c->limited)) {
        if (unlikely(rec->payload_len > c->payload_max)) {
            admit_kick(r, l, rec->conn, RECORD_KICK_PAYLOAD);
            return STEP_DONE;
        }
        enum right right = rights_publish(r, l, c, rec, m.subject);
        if (right == RIGHT_LATER)
            return STEP_MORE;
        if (right == RIGHT_NO) /* what was begun under other permissions ends where it is */
            return l->resume.cursor == CURSOR_NONE ? refuse(r, &m, RECORD_DENY_PUBLISH) : STEP_DONE;
    }
    return route(r, &m, look);
}
