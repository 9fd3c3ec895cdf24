/* PUB: who gets it, and is there room?
 *
 * A record is handled in two steps. The plan copies the names, checks them, matches, chooses queue members and counts the
 * room in every ring, including the records that the router makes itself; nothing changes. The commit writes and cannot fail.
 * No room somewhere: the record stays, its source waits, the plan is made anew later.
 *
 * What is too large for one step, because it has too many targets or because they would never find room at once, becomes a
 * fan-out cursor: the targets are pinned in the order of (link, slot), each step serves as many as there is room for, and the
 * commit page holds how far it came, so that a new router goes on at that place. Queue members are served in the first step,
 * so no choice is made twice.
 */
#include <stdlib.h>

#include "base/check.h"
#include "base/copy.h"
#include "nats/name.h"
#include "nats/proto.h"
#include "router/cost.h"
#include "router/router.h"

/* The message being handled. */
struct message {
    struct link *source;
    struct conn *conn;
    const struct record *rec;
    const struct record_parts *parts;
    struct view subject; /* both in the router's own memory */
    struct view reply;
    const uint8_t *payload; /* in the source's ring: passed on, never looked at */
    uint32_t payload_len;
    uint32_t header_len;
    uint8_t flags; /* of the DELIVER */
    bool later;    /* the permissions of a target are being compiled: the plan is made anew in the next turn */
    uint64_t no;   /* of this plan, when its subject was first held against deny rules */
};

/* What one link gets. */
struct share {
    uint32_t count; /* targets */
    uint32_t ending; /* of them, subscriptions that reach their max with this message */
};

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

enum { WARY_OF_TARGETS = WARY_DEAD | WARY_FILTERS | WARY_RECHECKS };

/* Its connection lives, and may get messages of that subject. */
__attribute__((noinline)) static bool target_may(struct router *r, struct message *m, const struct sub *s, struct view subject) {
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

static inline bool target_takes(struct router *r, struct message *m, const struct sub *s) {
    if (s->link == m->source->number && !(m->conn->options & RECORD_ECHO) && s->conn == m->rec->conn)
        return false;
    if (likely(!(r->wary & WARY_OF_TARGETS)))
        return true;
    return target_may(r, m, s, m->subject);
}

static bool targets_reserve(struct router *r, uint32_t count) {
    if (likely(count <= r->targets_cap))
        return true;
    struct sub **grown = realloc(r->targets, 2 * (size_t)count * sizeof(struct sub *));
    if (!grown)
        return false;
    r->targets = grown;
    r->targets_cap = 2 * count;
    return true;
}

static uint64_t random_next(struct router *r) {
    r->random ^= r->random << 13;
    r->random ^= r->random >> 7;
    r->random ^= r->random << 17;
    return r->random;
}

/* The member at place n of a group that is spread over several runs. */
static struct sub *member_at(const struct queue_run *runs, uint32_t n) {
    while (n >= runs->run.count) {
        n -= runs->run.count;
        runs++;
    }
    return runs->run.subs[n];
}

/* One member of the group whose runs begin at runs: uniform at random, then in circular order until one can take it. A member
 * on a link in overflow is taken only if no other can. */
static struct sub *choose(struct router *r, struct message *m, const struct queue_run *runs, uint32_t total) {
    uint32_t first = (uint32_t)(((random_next(r) >> 32) * total) >> 32);
    struct sub *second_best = NULL;
    for (uint32_t i = 0; i < total; i++) {
        struct sub *s = member_at(runs, (first + i) % total);
        if (!target_takes(r, m, s))
            continue;
        if (likely(!r->link[s->link].spilling))
            return s;
        if (!second_best)
            second_best = s;
    }
    return second_best;
}

/* Fills r->targets: queue members first (their number in *queued), then plain ones. ERR_NOMEM. */
static enum err collect(struct router *r, struct message *m, uint32_t *count, uint32_t *queued) {
    const struct match *found = &r->match;
    if (!targets_reserve(r, found->plain_total + found->queue_count))
        return ERR_NOMEM;
    uint32_t n = 0;
    for (uint32_t i = 0; i < found->queue_count;) {
        uint32_t j = i, total = 0;
        while (j < found->queue_count && found->queue[j].queue == found->queue[i].queue)
            total += found->queue[j++].run.count;
        struct sub *s = choose(r, m, &found->queue[i], total);
        if (s)
            r->targets[n++] = s;
        i = j;
    }
    *queued = n;
    for (uint32_t i = 0; i < found->plain_count; i++) {
        struct sub_run run = found->plain[i];
        for (uint32_t k = 0; k < run.count; k++)
            if (target_takes(r, m, run.subs[k]))
                r->targets[n++] = run.subs[k];
    }
    *count = n;
    return ERR_OK;
}

/* ---- writing ---- */

static uint64_t deliver_bytes(const struct message *m, uint32_t targets) {
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

/* One DELIVER and as many DELIVER_MORE as the targets need, on one link. Room was made sure of. */
static void write_deliver(struct router *r, struct link *l, const struct message *m, struct sub *const *targets,
                          uint32_t count) {
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
    if (unlikely(r->wary & WARY_RESPONSES) && m->reply.len != 0)
        rights_delivered(r, targets, count, m->reply);
}

/* What a delivery means for the subscription, once it is written: counted, perhaps over; its publisher perhaps stalled. */
static void settle(struct router *r, const struct message *m, struct sub *s) {
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

static bool ends_now(const struct sub *s) {
    return s->max != 0 && s->delivered + 1 >= s->max;
}

/* ---- nobody there ---- */

/* The publisher's own plain subscription for the reply, or null. A deny rule keeps a 503 from it as any message. */
static struct sub *reply_sub(struct router *r, struct message *m) {
    if (m->reply.len == 0 || !(m->conn->options & RECORD_NO_RESPONDERS) ||
        (name_look(m->reply.at, m->reply.len) & NAME_EMPTY_TOKEN))
        return NULL;
    struct account *a = account_find(r, m->conn->account);
    if (sublist_match(a->sublist, m->reply, &r->match_reply, NULL) != ERR_OK)
        return NULL;
    for (uint32_t i = 0; i < r->match_reply.plain_count; i++) {
        struct sub_run run = r->match_reply.plain[i];
        for (uint32_t k = 0; k < run.count; k++)
            if (run.subs[k]->link == m->source->number && run.subs[k]->conn == m->rec->conn &&
                (likely(!(r->wary & WARY_OF_TARGETS)) || target_may(r, m, run.subs[k], m->reply)))
                return run.subs[k];
    }
    return NULL;
}

static enum step no_responders(struct router *r, struct message *m) {
    struct sub *s = reply_sub(r, m);
    if (unlikely(m->later))
        return STEP_MORE;
    struct message answer = {
        .source = m->source,
        .conn = m->conn,
        .rec = m->rec,
        .subject = m->reply,
        .payload = (const uint8_t *)PROTO_NO_RESPONDERS,
        .payload_len = sizeof PROTO_NO_RESPONDERS - 1,
        .header_len = sizeof PROTO_NO_RESPONDERS - 1,
        .flags = RECORD_UNCOUNTED,
    };
    if (!egress_has_room(r, m->source, SMALL + deliver_bytes(&answer, 1), true)) {
        r->no_room = m->source->number;
        return STEP_WAIT;
    }
    if (m->rec->flags & RECORD_ANSWER)
        egress_small(r, m->source, RECORD_OK, m->rec->conn, 0);
    if (s)
        write_deliver(r, m->source, &answer, &s, 1);
    return STEP_DONE;
}

/* ---- the cursor ---- */

static int by_link_and_slot(const void *a, const void *b) {
    const struct fanout_target *x = a, *y = b;
    if (x->link != y->link)
        return x->link < y->link ? -1 : 1;
    return x->slot < y->slot ? -1 : x->slot > y->slot;
}

/* Pins the message and its plain targets; those that a router before this one has served are left out. */
static enum err fanout_pin(const struct message *m, struct sub *const *plain, uint32_t count) {
    struct fanout *f = &m->source->fanout;
    if (f->cap < count) {
        struct fanout_target *grown = realloc(f->target, count * sizeof *grown);
        if (!grown)
            return ERR_NOMEM;
        f->target = grown;
        f->cap = count;
    }
    for (uint32_t i = 0; i < count; i++)
        f->target[i] = (struct fanout_target){plain[i]->link, plain[i]->slot, plain[i]->stamp};
    qsort(f->target, count, sizeof *f->target, by_link_and_slot);
    uint32_t names_len = (uint32_t)(m->subject.len + m->reply.len);
    if (f->names_cap < names_len) {
        uint8_t *grown = realloc(f->names, names_len);
        if (!grown)
            return ERR_NOMEM;
        f->names = grown;
        f->names_cap = names_len;
    }
    memcpy(f->names, m->subject.at, m->subject.len);
    if (m->reply.len != 0)
        memcpy(f->names + m->subject.len, m->reply.at, m->reply.len);
    f->rec = *m->rec;
    f->parts = *m->parts;
    f->active = true;
    f->at = 0;
    f->count = count;
    const struct commit_link *kept = &m->source->resume;
    if (kept->cursor == CURSOR_SERVED) {
        struct fanout_target last = {kept->cursor_link, kept->cursor_slot, 0};
        while (f->at < f->count && by_link_and_slot(&f->target[f->at], &last) <= 0)
            f->at++;
    }
    return ERR_OK;
}

/* The subscription that was pinned, if it is still the same and still there. */
static struct sub *pinned_sub(const struct router *r, const struct fanout_target *t) {
    const struct link *l = &r->link[t->link];
    uint32_t index = l->state == LINK_LIVE ? link_slot(l, t->slot) : 0;
    struct sub *s = index ? router_sub(r, index) : NULL;
    bool same = s && s->stamp == t->stamp;
    return same && l->conn_chunk[s->conn / CHUNK][s->conn % CHUNK].state == CONN_BOUND ? s : NULL;
}

/* Serves one link's next targets; false if it has no room for even a few, or is to go on in the next turn (m->later). */
static bool fanout_serve(struct router *r, struct message *m, struct link *l, uint32_t most) {
    struct fanout *f = &m->source->fanout;
    uint32_t n = 0, at = f->at;
    while (at < f->count && f->target[at].link == l->number && n < most) {
        struct sub *s = pinned_sub(r, &f->target[at++]);
        if (s && (likely(!(r->wary & WARY_OF_TARGETS)) || target_may(r, m, s, m->subject)))
            r->targets[n++] = s;
    }
    if (unlikely(m->later))
        return false;
    /* Halve until it fits: a target may bring a SLOT_FREE with it. */
    uint32_t fit = n;
    while (fit > 0 && !egress_has_room(r, l, deliver_bytes(m, fit) + (uint64_t)fit * SMALL, false)) {
        if (l->state != LINK_LIVE)
            return true; /* its targets vanish */
        fit = fit > 64 ? fit / 2 : 0;
    }
    if (n > 0 && fit == 0)
        return false;
    if (fit < n) { /* stop behind the last one that fits */
        while (at > f->at && (f->target[at - 1].slot > r->targets[fit - 1]->slot))
            at--;
    }
    if (fit > 0) {
        write_deliver(r, l, m, r->targets, fit);
        for (uint32_t i = 0; i < fit; i++)
            settle(r, m, r->targets[i]);
    }
    f->at = at;
    return true;
}

static enum step fanout_step(struct router *r, struct message *m) {
    struct fanout *f = &m->source->fanout;
    if (!targets_reserve(r, FANOUT_AT_ONCE))
        return STEP_WAIT;
    uint32_t begun = f->at;
    while (f->at < f->count && f->at - begun < FANOUT_AT_ONCE) {
        struct link *l = &r->link[f->target[f->at].link];
        if (!fanout_serve(r, m, l, FANOUT_AT_ONCE)) {
            r->no_room = l->number;
            m->source->dirty = true;
            return f->at > begun || m->later ? STEP_MORE : STEP_WAIT;
        }
    }
    m->source->dirty = true;
    if (f->at < f->count)
        return STEP_MORE;
    f->active = false;
    return STEP_DONE;
}

/* ---- one record ---- */

/* One plain target: the most common message by far. */
static enum step publish_one(struct router *r, const struct message *m, struct sub *s) {
    struct link *l = &r->link[s->link];
    uint64_t bytes = ring_round(record_len(0, 1, m->subject.len, m->reply.len, m->payload_len));
    bool answer = m->rec->flags & RECORD_ANSWER;
    uint64_t extra = (ends_now(s) ? SMALL : 0) + (answer ? SMALL : 0);
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
    write_deliver(r, l, m, &s, 1);
    settle(r, m, s);
    return STEP_DONE;
}

/* All targets at once: counts the room on every link first. too_large: set if they would fill most of a ring; null: they are
 * not cut, and what no ring can take goes through the overflow. */
static enum step publish_all(struct router *r, const struct message *m, uint32_t count, bool *too_large) {
    struct share share[LINKS_MAX] = {0};
    for (uint32_t i = 0; i < count; i++) {
        struct share *sh = &share[r->targets[i]->link];
        sh->count++;
        sh->ending += ends_now(r->targets[i]);
    }
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        bool answer = (m->rec->flags & RECORD_ANSWER) && l == m->source;
        if (share[i].count == 0 && !answer)
            continue;
        uint64_t bytes = deliver_bytes(m, share[i].count) + (uint64_t)share[i].ending * SMALL + (answer ? SMALL : 0);
        if (too_large && bytes > l->egress.cap / 2) {
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
    for (uint32_t i = 0, done = 0; i < r->link_high; done += share[i++].count) {
        if (share[i].count == 0)
            continue;
        write_deliver(r, &r->link[i], m, grouped + done, share[i].count);
        for (uint32_t k = 0; k < share[i].count; k++)
            settle(r, m, grouped[done + k]);
    }
    return STEP_DONE;
}

static enum step publish_some(struct router *r, struct message *m) {
    struct link *source = m->source;
    bool resumed = source->resume.cursor != CURSOR_NONE;
    uint32_t count, queued;
    if (collect(r, m, &count, &queued) != ERR_OK)
        return STEP_DONE;
    if (unlikely(m->later))
        return STEP_MORE;
    if (count == 0)
        return resumed ? STEP_DONE : no_responders(r, m);
    if (!targets_reserve(r, 2 * count))
        return STEP_DONE;
    bool too_large = count > FANOUT_AT_ONCE || resumed;
    if (!too_large) {
        enum step s = publish_all(r, m, count, &too_large);
        if (!too_large)
            return s;
    }
    if (fanout_pin(m, r->targets + queued, count - queued) != ERR_OK)
        return STEP_DONE;
    if (!resumed) {
        enum step s = queued > 0 || (m->rec->flags & RECORD_ANSWER) ? publish_all(r, m, queued, NULL) : STEP_DONE;
        if (s != STEP_DONE) {
            source->fanout.active = false;
            return s;
        }
    }
    return fanout_step(r, m);
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
        return no_responders(r, m);
    struct account *a = account_find(r, m->conn->account);
    enum err e = sublist_match(a->sublist, m->subject, &r->match, NULL);
    if (unlikely(e != ERR_OK))
        return no_responders(r, m);
    if (likely(r->match.plain_total == 1 && r->match.queue_count == 0 && m->source->resume.cursor == CURSOR_NONE)) {
        struct sub *s = r->match.plain[0].subs[0];
        if (likely(target_takes(r, m, s)))
            return publish_one(r, m, s);
        return m->later ? STEP_MORE : no_responders(r, m);
    }
    return publish_some(r, m);
}

enum step publish(struct router *r, struct link *l, struct conn *c, const struct record *rec,
                  const struct record_parts *parts, const uint8_t *at) {
    /* A fan-out goes on with the names that were checked when it began, whatever lies in the ring by now. */
    const char *names = (const char *)r->scratch;
    if (unlikely(l->fanout.active))
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
    if (unlikely(l->fanout.active))
        return fanout_step(r, &m);
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
