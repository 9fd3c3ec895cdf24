/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "nats/subject.h"
#include "tests/support/oracle.h"

static const char *const subjects[] = {"a", "b", "a.x", "a.y", "b.x", "b.y.z"};
static const char *const patterns[] = {"a", "b", "a.x", "a.y", "b.x", "b.y.z", "*", "a.*", ">", "b.>", "*.x", "b.*.z"};
static const char *const queues[STREAM_QUEUES] = {NULL, "q1", "q2"};
enum { SUBJECTS = sizeof subjects / sizeof *subjects, PATTERNS = sizeof patterns / sizeof *patterns };

static void log_add(struct log *l, uint64_t entry) {
    if (l->count == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 16;
        l->at = realloc(l->at, l->cap * sizeof *l->at);
        check(l->at != NULL);
    }
    l->at[l->count++] = entry;
}

/* ---- permissions ---- */

enum { SETS = 3 };
static const struct oracle_set sets[SETS + 1] = {
    [1] = {.line = {"+pub a.>", "+pub *", "-pub b", "-sub b.x", "-sub a.x q1"}, .count = 5},
    [2] = {.line = {"+sub a.>", "+sub > q2", "+sub b", "-pub a.y", "-sub a.y"}, .count = 5},
    [3] = {.line = {"-pub b.*.z", "-sub *.x", "-sub b q2"}, .count = 3},
};

static void stream_rules(struct world *w) {
    for (uint32_t i = 1; i <= SETS; i++) {
        const char *lines[ORACLE_LINES_MAX];
        for (uint32_t k = 0; k < sets[i].count; k++)
            lines[k] = sets[i].line[k];
        world_rules(w, i, lines, sets[i].count, 0, 0);
    }
}

/* ---- the oracle ---- */

static void want_pub(struct stream *s, const struct op *op) {
    struct result *o = &s->want;
    uint64_t id = (uint64_t)op->conn << 32 | op->seq;
    struct stream_conn *from = &o->conn[op->conn];
    bool echo = from->options & RECORD_ECHO;
    if (from->set && !oracle_publish(&sets[from->set], subjects[op->subject])) {
        from->denies++;
        return;
    }
    bool served[STREAM_QUEUES] = {false};
    struct view subject = view_of(subjects[op->subject], strlen(subjects[op->subject]));
    for (uint32_t i = 0; i < s->sub_count; i++) {
        struct stream_sub *sub = &o->sub[i];
        if (!sub->live || (sub->conn == op->conn && !echo) ||
            !subject_matches(view_of(patterns[sub->subject], strlen(patterns[sub->subject])), subject))
            continue;
        uint8_t set = o->conn[sub->conn].set;
        if (set && oracle_withheld(&sets[set], subjects[op->subject], queues[sub->queue]))
            continue;
        if (sub->queue) {
            if (!served[sub->queue])
                log_add(&o->group[sub->queue], id);
            served[sub->queue] = true;
            continue;
        }
        log_add(&sub->log, id);
        if (++sub->delivered >= sub->max && sub->max != 0)
            sub->live = false;
    }
}

static void want_op(struct stream *s, const struct op *op) {
    struct result *o = &s->want;
    struct stream_sub *sub = &o->sub[op->sub];
    struct stream_conn *conn = &o->conn[op->conn];
    switch (op->type) {
    case OP_CONNECT:
        *conn = (struct stream_conn){.link = op->link, .options = op->options, .set = op->set, .live = true};
        break;
    case OP_OPTIONS:
        conn->options = op->options;
        break;
    case OP_SUB:
        *sub = (struct stream_sub){.conn = op->conn, .subject = op->subject, .queue = op->queue, .made = true};
        sub->live = op->after == UINT32_MAX || !o->sub[op->after].live;
        if (conn->set && !oracle_subscribe(&sets[conn->set], patterns[op->subject], queues[op->queue])) {
            sub->live = false;
            conn->denies++;
        }
        break;
    case OP_UNSUB:
        if (!sub->live)
            break;
        sub->had_max |= op->max != 0;
        sub->max = op->max;
        sub->live = op->max > sub->delivered;
        break;
    case OP_PUB:
        want_pub(s, op);
        break;
    case OP_CLOSE:
        conn->live = false;
        for (uint32_t i = 0; i < s->sub_count; i++)
            if (o->sub[i].conn == op->conn)
                o->sub[i].live = false;
        break;
    case OP_GATE:
        conn->gate = op->max != 0;
        break;
    }
}

/* ---- making one ---- */

static void add(struct stream *s, struct op op) {
    if (s->op_count == s->op_cap) {
        s->op_cap = s->op_cap ? 2 * s->op_cap : 256;
        s->op = realloc(s->op, s->op_cap * sizeof *s->op);
        check(s->op != NULL);
    }
    s->op[s->op_count++] = op;
    want_op(s, &op);
}

static uint32_t pick_conn(const struct stream *s, struct rnd *r, uint32_t link) {
    uint32_t found = UINT32_MAX, seen = 0;
    for (uint32_t i = 0; i < s->conn_count; i++)
        if (s->want.conn[i].live && s->want.conn[i].link == link && rnd_below(r, ++seen) == 0)
            found = i;
    return found;
}

static uint32_t pick_sub(const struct stream *s, struct rnd *r, uint32_t conn) {
    uint32_t found = UINT32_MAX, seen = 0;
    for (uint32_t i = 0; i < s->sub_count; i++)
        if (s->want.sub[i].live && s->want.sub[i].conn == conn && rnd_below(r, ++seen) == 0)
            found = i;
    return found;
}

static void add_connect(struct stream *s, struct rnd *r, uint32_t link) {
    check(s->conn_count < STREAM_CONNS_MAX);
    uint8_t options = (uint8_t)(RECORD_HEADERS | (rnd_below(r, 4) ? RECORD_ECHO : 0));
    uint8_t set = (uint8_t)(rnd_below(r, 2) ? 1 + rnd_below(r, SETS) : 0);
    add(s, (struct op){
               .type = OP_CONNECT, .link = (uint8_t)link, .conn = s->conn_count++, .options = options, .set = set});
}

static void add_pub(struct stream *s, struct rnd *r, uint32_t link) {
    uint32_t conn = pick_conn(s, r, link);
    if (conn == UINT32_MAX)
        return;
    add(s, (struct op){.type = OP_PUB,
                       .link = (uint8_t)link,
                       .conn = conn,
                       .subject = (uint8_t)rnd_below(r, SUBJECTS),
                       .seq = ++s->want.conn[conn].seq});
}

static void add_some(struct stream *s, struct rnd *r, uint32_t link) {
    uint32_t dice = rnd_below(r, 100), conn = pick_conn(s, r, link);
    if (conn == UINT32_MAX || dice < 4) {
        add_connect(s, r, link);
    } else if (dice < 7) {
        add(s, (struct op){.type = OP_CLOSE, .link = (uint8_t)link, .conn = conn});
    } else if (dice < 10) {
        add(s, (struct op){.type = OP_OPTIONS,
                           .link = (uint8_t)link,
                           .conn = conn,
                           .options = (uint8_t)(rnd_below(r, 2) ? RECORD_ECHO : 0)});
    } else if (dice < 12) {
        add(s, (struct op){.type = OP_GATE, .link = (uint8_t)link, .conn = conn, .max = rnd_below(r, 2)});
    } else if (dice < 35) {
        check(s->sub_count < STREAM_SUBS_MAX);
        uint32_t after = rnd_below(r, 4) == 0 && s->sub_count > 0 ? rnd_below(r, s->sub_count) : UINT32_MAX;
        if (after != UINT32_MAX && s->want.sub[after].conn != conn)
            after = UINT32_MAX;
        uint32_t uid = s->sub_count++;
        add(s, (struct op){.type = OP_SUB,
                           .link = (uint8_t)link,
                           .conn = conn,
                           .sub = uid,
                           .after = after,
                           .subject = (uint8_t)rnd_below(r, PATTERNS),
                           .queue = (uint8_t)(rnd_below(r, 3) ? 0 : 1 + rnd_below(r, STREAM_QUEUES - 1))});
    } else if (dice < 52) {
        uint32_t sub = pick_sub(s, r, conn);
        if (sub == UINT32_MAX)
            return;
        uint32_t max = s->want.sub[sub].queue || rnd_below(r, 2) ? 0 : s->want.sub[sub].delivered + rnd_below(r, 6);
        add(s, (struct op){.type = OP_UNSUB, .link = (uint8_t)link, .conn = conn, .sub = sub, .max = max});
    } else {
        add_pub(s, r, link);
    }
}

struct stream *stream_make(uint64_t seed, uint32_t link_count, uint32_t batch_count) {
    struct stream *s = calloc(1, sizeof *s);
    struct rnd r = {seed};
    check(s != NULL);
    s->batch = calloc(batch_count, sizeof *s->batch);
    s->batch_count = batch_count;
    check(s->batch != NULL);
    for (uint32_t i = 0; i < batch_count; i++) {
        s->batch[i].first = s->op_count;
        uint32_t link = rnd_below(&r, link_count), n = 4 + rnd_below(&r, 24);
        bool messages = i >= 4 && rnd_below(&r, 3) == 0;
        if (i < link_count)
            link = i;
        for (uint32_t k = 0; k < n; k++) {
            if (messages)
                add_pub(s, &r, rnd_below(&r, link_count));
            else
                add_some(s, &r, link);
        }
        s->batch[i].count = s->op_count - s->batch[i].first;
    }
    return s;
}

static void outcome_free(struct result *o) {
    for (uint32_t i = 0; i < STREAM_SUBS_MAX; i++)
        free(o->sub[i].log.at);
    for (uint32_t i = 0; i < STREAM_QUEUES; i++)
        free(o->group[i].at);
}

void stream_free(struct stream *s) {
    outcome_free(&s->want);
    free(s->op);
    free(s->batch);
    free(s);
}

/* ---- running one ---- */

static struct run *running; /* the callback has no other way to it */

struct stamp {
    uint32_t conn, seq, subject;
};

static void delivered(struct edge *e, uint32_t slot, const struct record *rec, struct view subject, struct view reply,
                      const uint8_t *payload) {
    struct stamp stamp;
    check(rec->payload_len == sizeof stamp && reply.len == 0);
    memcpy(&stamp, payload, sizeof stamp);
    check(stamp.subject < SUBJECTS &&
          view_equal(subject, view_of(subjects[stamp.subject], strlen(subjects[stamp.subject]))));
    uint64_t id = (uint64_t)stamp.conn << 32 | stamp.seq;
    struct stream_sub *sub = &running->got.sub[e->sub[slot].uid];
    check(sub->made && sub->slot == slot);
    log_add(sub->queue ? &running->got.group[sub->queue] : &sub->log, id);
}

void run_begin(struct run *run, const struct stream *s, struct world *w) {
    memset(run, 0, sizeof *run);
    run->stream = s;
    run->world = w;
    running = run;
    stream_rules(w);
    for (uint32_t i = 0; i < w->edge_count; i++)
        w->edge[i].delivered = delivered;
}

void run_op(struct run *run, const struct op *op) {
    struct edge *e = &run->world->edge[op->link];
    struct result *o = &run->got;
    struct stream_conn *conn = &o->conn[op->conn];
    struct stream_sub *sub = &o->sub[op->sub];
    switch (op->type) {
    case OP_CONNECT: {
        conn->link = op->link;
        conn->number = edge_number(e);
        struct binding b = edge_binding(e, conn->number, 1);
        b.permissions = op->set;
        binding_seal(&b, &e->world->key);
        edge_bind(e, conn->number, &b);
        edge_options(e, conn->number, op->options);
        e->conn[conn->number].uid = op->conn;
        break;
    }
    case OP_OPTIONS:
        edge_options(e, conn->number, op->options);
        break;
    case OP_SUB: {
        uint32_t after = RECORD_NO_SLOT;
        if (op->after != UINT32_MAX) {
            uint32_t slot = o->sub[op->after].slot;
            if (e->sub[slot].used && e->sub[slot].uid == op->after)
                after = slot;
        }
        *sub = (struct stream_sub){.conn = op->conn, .queue = op->queue, .made = true};
        sub->slot = edge_subscribe(e, conn->number, patterns[op->subject], queues[op->queue], after, 0);
        e->sub[sub->slot].uid = op->sub;
        break;
    }
    case OP_UNSUB:
        if (e->sub[sub->slot].used && e->sub[sub->slot].uid == op->sub)
            edge_unsub(e, conn->number, sub->slot, op->max, 0);
        break;
    case OP_PUB: {
        struct stamp stamp = {op->conn, op->seq, op->subject};
        edge_pub(e, conn->number, subjects[op->subject], NULL, &stamp, sizeof stamp, 0);
        break;
    }
    case OP_CLOSE:
        edge_close(e, conn->number);
        break;
    case OP_GATE:
        edge_gate(e, conn->number, op->max != 0);
        break;
    }
}

void run_publish(struct run *run) {
    for (uint32_t i = 0; i < run->world->edge_count; i++)
        edge_publish(&run->world->edge[i]);
}

/* ---- judging ---- */

static int by_id(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static char verdict[300];

/* Each publisher's messages come in its order; so with all of them in that order already, a sort changes nothing within
 * one. */
static bool in_order(const struct log *l) {
    static uint32_t last[STREAM_CONNS_MAX];
    memset(last, 0, sizeof last);
    for (uint32_t i = 0; i < l->count; i++) {
        uint32_t publisher = (uint32_t)(l->at[i] >> 32), seq = (uint32_t)l->at[i];
        if (seq <= last[publisher])
            return false;
        last[publisher] = seq;
    }
    return true;
}

static bool same(struct log *got, const struct log *want) {
    if (got->count != want->count)
        return false;
    if (got->count == 0)
        return true;
    size_t bytes = got->count * sizeof *got->at;
    uint64_t *a = malloc(bytes), *b = malloc(bytes);
    check(a && b);
    memcpy(a, got->at, bytes);
    memcpy(b, want->at, bytes);
    qsort(a, got->count, sizeof *a, by_id);
    qsort(b, got->count, sizeof *b, by_id);
    bool equal = memcmp(a, b, bytes) == 0;
    free(a);
    free(b);
    return equal;
}

const char *run_judge(struct run *run) {
    const struct stream *s = run->stream;
    for (uint32_t i = 0; i < s->sub_count; i++) {
        struct stream_sub *got = &run->got.sub[i];
        const struct stream_sub *want = &s->want.sub[i];
        if (!want->made || want->queue)
            continue;
        if (!in_order(&got->log) ||
            (want->had_max ? got->log.count != want->log.count : !same(&got->log, &want->log))) {
            snprintf(verdict, sizeof verdict,
                     "subscription %u (%s, connection %u, slot %u%s) got %u messages, not %u%s", i,
                     patterns[want->subject], want->conn, got->slot, want->had_max ? ", max" : "", got->log.count,
                     want->log.count, in_order(&got->log) ? "" : ", out of order");
            return verdict;
        }
        struct edge *e = &run->world->edge[run->got.conn[want->conn].link];
        bool used = e->sub[got->slot].used && e->sub[got->slot].uid == i;
        if (used != want->live) {
            snprintf(verdict, sizeof verdict, "subscription %u is %s, not so", i, used ? "alive" : "over");
            return verdict;
        }
    }
    for (uint32_t i = 1; i < STREAM_QUEUES; i++) {
        if (!same(&run->got.group[i], &s->want.group[i])) {
            snprintf(verdict, sizeof verdict, "group %u got %u messages, not the %u", i, run->got.group[i].count,
                     s->want.group[i].count);
            return verdict;
        }
    }
    uint32_t live_subs = 0, live_conns = 0;
    for (uint32_t i = 0; i < s->sub_count; i++)
        live_subs += s->want.sub[i].live;
    for (uint32_t i = 0; i < s->conn_count; i++) {
        const struct stream_conn *got = &run->got.conn[i];
        const struct edge *e = &run->world->edge[got->link];
        live_conns += s->want.conn[i].live;
        bool used = e->conn[got->number].used && e->conn[got->number].uid == i;
        if (used != s->want.conn[i].live || (used && e->conn[got->number].kick_count)) {
            snprintf(verdict, sizeof verdict, "connection %u is %s, not so", i, used ? "alive or kicked" : "over");
            return verdict;
        }
        if (used && e->conn[got->number].deny_count != s->want.conn[i].denies) {
            snprintf(verdict, sizeof verdict, "connection %u was refused %u times, not %u", i,
                     e->conn[got->number].deny_count, s->want.conn[i].denies);
            return verdict;
        }
    }
    if (counter_get(run->world->counters, COUNTER_SUBS) != live_subs ||
        counter_get(run->world->counters, COUNTER_CONNS) != live_conns) {
        snprintf(verdict, sizeof verdict, "the router counts %llu subscriptions and %llu connections, not %u and %u",
                 (unsigned long long)counter_get(run->world->counters, COUNTER_SUBS),
                 (unsigned long long)counter_get(run->world->counters, COUNTER_CONNS), live_subs, live_conns);
        return verdict;
    }
    for (uint32_t i = 0; i < run->world->edge_count; i++)
        if (run->world->edge[i].bad)
            return "a link was ended";
    return NULL;
}

void run_end(struct run *run) {
    outcome_free(&run->got);
}
