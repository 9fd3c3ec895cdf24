/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of edge/link.c, edge/journal.c and edge/replay.c together: an edge of nothing but tables, and a router that applies what it
 * consumes to tables of its own. At any record that router may die. What the replay tells must then be, in every detail, what the
 * dead router's tables held; and with the rest of the ring on top, what the edge's tables hold.
 */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "edge/replay.h"
#include "shm/memfd.h"
#include "tests/unit/shm/shm_testing.h"
#include "tests/unit/unit.h"

enum { CONNS = 12, SLOTS = 40, RING = 8192, REPLAY = 4096, STEPS = 3000, SEEDS = 20, TEXT = 24 };

struct sub {
    bool there;
    uint32_t conn, max, delivered;
    char subject[TEXT], queue[TEXT];
};

struct tables {
    struct {
        bool there, gated;
        uint8_t options;
        uint32_t generation;
    } conn[CONNS];
    struct sub sub[SLOTS];
};

static struct {
    struct edge_link link;
    struct edge_journal journal;
    struct edge_replay replay;
    struct counters counters;
    struct tables now; /* connections that are closed stay until the router has consumed their CLOSE */
    struct edge_conn conn[CONNS];
    bool closed[CONNS];
    uint32_t generation;
} edge;

static struct {
    struct ring_reader ingress, replay;
    struct ring_writer egress;
    struct tables tables;
    int bell;
} router;

static uint64_t seed;

static uint32_t below(uint32_t n) {
    return (uint32_t)random_below(&seed, n);
}

/* ---- both sides ---- */

static void make(int fds[2], size_t bytes) {
    check(memfd_make(&fds[0], "data", ring_data_bytes(bytes), 0) == ERR_OK);
    check(memfd_make(&fds[1], "credit", RING_PAGE, 0) == ERR_OK);
}

static void begin(void) {
    int fds[EDGE_LINK_FDS], bells[2];
    struct ring_map map;
    memset(&edge, 0, sizeof edge);
    memset(&router, 0, sizeof router);
    make(&fds[0], RING);
    make(&fds[2], RING);
    make(&fds[4], REPLAY);
    check(ring_map(&map, fds[0], fds[1], false) == ERR_OK && ring_reader_open(&router.ingress, &map) == ERR_OK);
    check(ring_map(&map, fds[2], fds[3], true) == ERR_OK && ring_writer_open(&router.egress, &map) == ERR_OK);
    check(ring_map(&map, fds[4], fds[5], false) == ERR_OK && ring_reader_open(&router.replay, &map) == ERR_OK);
    check(pipe2(bells, O_NONBLOCK) == 0);
    router.bell = bells[0];
    fds[6] = bells[1];
    fds[7] = -1;
    ck_assert_int_eq(edge_link_open(&edge.link, fds), ERR_OK);
    ck_assert_int_eq(fcntl(fds[0], F_GETFD), -1); /* mapped, and closed */
}

static void end(void) {
    edge_journal_free(&edge.journal);
    edge_replay_free(&edge.replay);
    ring_unmap(&edge.link.ingress_map);
    ring_unmap(&edge.link.egress_map);
    ring_unmap(&edge.link.replay_map);
    close(edge.link.bell_out);
    close(router.bell);
}

static void conn_gone(struct tables *t, uint32_t number) {
    memset(&t->conn[number], 0, sizeof t->conn[number]);
    for (int i = 0; i < SLOTS; i++)
        if (t->sub[i].there && t->sub[i].conn == number)
            memset(&t->sub[i], 0, sizeof t->sub[i]);
}

static void apply(struct tables *t, const struct record *rec, const struct record_parts *parts, const uint8_t *at) {
    struct record_sub sub;
    struct record_unsub unsub;
    struct binding binding;
    switch (rec->type) {
    case RECORD_BIND:
        ck_assert(!t->conn[rec->conn].there);
        memcpy(&binding, at + parts->payload, sizeof binding);
        ck_assert_uint_eq(binding.conn, rec->conn);
        t->conn[rec->conn].there = true;
        t->conn[rec->conn].generation = binding.generation;
        break;
    case RECORD_OPTIONS:
        t->conn[rec->conn].options = (uint8_t)rec->aux;
        break;
    case RECORD_GATE:
        t->conn[rec->conn].gated = rec->aux != RECORD_GATE_OPEN;
        break;
    case RECORD_SUB:
        memcpy(&sub, at + RECORD_HEADER, sizeof sub);
        ck_assert(!t->sub[sub.slot].there && t->conn[rec->conn].there);
        t->sub[sub.slot] = (struct sub){.there = true, .conn = rec->conn, .max = sub.max};
        memcpy(t->sub[sub.slot].subject, at + parts->subject, rec->subject_len);
        memcpy(t->sub[sub.slot].queue, at + parts->reply, rec->reply_len);
        break;
    case RECORD_UNSUB:
        memcpy(&unsub, at + RECORD_HEADER, sizeof unsub);
        t->sub[unsub.slot].max = unsub.max;
        break;
    case RECORD_CLOSE:
        conn_gone(t, rec->conn);
        break;
    default:
        ck_abort_msg("type %d", rec->type);
    }
}

/* ---- the edge ---- */

static void journal(enum record_type type, uint32_t id, uint8_t old_flag, uint32_t old_max) {
    edge_journal_add(&edge.journal, edge.link.ingress.head_pos, type, id, old_flag, old_max);
}

static struct binding binding_of(uint32_t n) {
    return (struct binding){.conn = n, .generation = edge.now.conn[n].generation};
}

static bool bind_conn(uint32_t n) {
    uint64_t len = record_len(0, 0, 0, 0, sizeof(struct binding));
    uint8_t *at = edge_link_claim(&edge.link, len);
    if (!at)
        return false;
    edge.conn[n].number = n;
    edge.now.conn[n].there = true;
    edge.now.conn[n].generation = ++edge.generation;
    struct binding b = binding_of(n);
    struct record rec = {.len = (uint32_t)len, .type = RECORD_BIND, .conn = n, .payload_len = sizeof b};
    memcpy(at, &rec, sizeof rec);
    memcpy(at + RECORD_HEADER, &b, sizeof b);
    edge_link_put(&edge.link, &edge.conn[n], len);
    journal(RECORD_BIND, n, 0, 0);
    return true;
}

static bool subscribe(uint32_t n, uint32_t slot) {
    struct sub *s = &edge.now.sub[slot];
    struct sub made = {.there = true, .conn = n};
    snprintf(made.subject, TEXT, "subject.%u", below(1000));
    if (below(3) == 0)
        snprintf(made.queue, TEXT, "queue%u", below(10));
    struct record_sub fixed = {slot, RECORD_NO_SLOT, 0, 0};
    size_t subject = strlen(made.subject), queue = strlen(made.queue);
    uint64_t len = record_len(sizeof fixed, 0, subject, queue, 0);
    uint8_t *at = edge_link_claim(&edge.link, len);
    if (!at)
        return false;
    *s = made;
    struct record rec = {.len = (uint32_t)len,
                         .type = RECORD_SUB,
                         .conn = n,
                         .subject_len = (uint16_t)subject,
                         .reply_len = (uint16_t)queue};
    memcpy(at, &rec, sizeof rec);
    memcpy(at + RECORD_HEADER, &fixed, sizeof fixed);
    memcpy(at + RECORD_HEADER + sizeof fixed, made.subject, subject);
    memcpy(at + RECORD_HEADER + sizeof fixed + subject, made.queue, queue);
    edge_link_put(&edge.link, &edge.conn[n], len);
    journal(RECORD_SUB, slot, 0, 0);
    return true;
}

static bool unsubscribe(uint32_t slot) {
    struct sub *s = &edge.now.sub[slot];
    struct record_unsub fixed = {slot, 1 + below(100)};
    uint64_t len = record_len(sizeof fixed, 0, 0, 0, 0);
    uint8_t *at = edge_link_claim(&edge.link, len);
    if (!at)
        return false;
    struct record rec = {.len = (uint32_t)len, .type = RECORD_UNSUB, .conn = s->conn};
    memcpy(at, &rec, sizeof rec);
    memcpy(at + RECORD_HEADER, &fixed, sizeof fixed);
    edge_link_put(&edge.link, &edge.conn[s->conn], len);
    journal(RECORD_UNSUB, slot, 0, s->max);
    s->max = fixed.max;
    return true;
}

static bool change(uint32_t n) {
    uint32_t value;
    switch (below(4)) {
    case 0:
        value = below(2);
        if (!edge_link_small(&edge.link, &edge.conn[n], RECORD_GATE, value))
            return false;
        journal(RECORD_GATE, n, edge.now.conn[n].gated, 0);
        edge.now.conn[n].gated = value;
        return true;
    case 1:
        if (below(4) || !edge_link_small(&edge.link, &edge.conn[n], RECORD_CLOSE, 0))
            return true;
        journal(RECORD_CLOSE, n, 0, 0);
        edge.closed[n] = true;
        return true;
    default:
        value = below(8);
        if (!edge_link_small(&edge.link, &edge.conn[n], RECORD_OPTIONS, value))
            return false;
        journal(RECORD_OPTIONS, n, edge.now.conn[n].options, 0);
        edge.now.conn[n].options = (uint8_t)value;
        return true;
    }
}

/* One record, or none. False: the ring is full. */
static bool edge_step(void) {
    uint32_t n = below(CONNS), slot = below(SLOTS);
    check(edge_journal_reserve(&edge.journal, 1));
    if (!edge.now.conn[n].there)
        return bind_conn(n);
    if (edge.closed[n])
        return true;
    if (below(3) == 0)
        return change(n);
    if (!edge.now.sub[slot].there)
        return subscribe(n, slot);
    return edge.closed[edge.now.sub[slot].conn] || unsubscribe(slot);
}

/* As with CONN_FREE: nothing of it is in the ring any more. */
static void free_closed(void) {
    for (uint32_t n = 0; n < CONNS; n++) {
        if (!edge.closed[n] || edge.conn[n].last_pos > edge.link.consumed_acted)
            continue;
        conn_gone(&edge.now, n);
        edge.closed[n] = false;
    }
}

static void edge_look(void) {
    edge_link_look(&edge.link);
    edge_journal_trim(&edge.journal, edge.link.consumed_acted);
    free_closed();
    edge_link_room(&edge.link);
}

/* ---- the router ---- */

static void router_step(struct tables *t, uint32_t most) {
    struct ring_reader *ring = &router.ingress;
    check(ring_reader_refresh(ring));
    while (most-- > 0 && ring_ready(ring) > 0) {
        struct record rec;
        struct record_parts parts;
        const uint8_t *at = ring_tail(ring);
        ck_assert_int_eq(record_take(&rec, &parts, at, ring_ready(ring), RECORD_TO_ROUTER), ERR_OK);
        apply(t, &rec, &parts, at);
        ring_skip(ring, rec.len);
    }
    ring_release(ring);
}

/* A record of a replay; what belongs to the replay of an earlier router is forgotten. True: it was the last. */
static bool take_record(struct tables *t, uint32_t epoch) {
    struct record rec;
    struct record_parts parts;
    const uint8_t *at = ring_tail(&router.replay);
    ck_assert_int_eq(record_take(&rec, &parts, at, ring_ready(&router.replay), RECORD_TO_ROUTER), ERR_OK);
    if (rec.type == RECORD_REPLAY_BEGIN)
        memset(t, 0, sizeof *t);
    else if (rec.type != RECORD_REPLAY_END)
        apply(t, &rec, &parts, at);
    ring_skip(&router.replay, rec.len);
    return rec.type == RECORD_REPLAY_END && rec.aux == epoch;
}

static void take_replay(struct tables *t, uint32_t epoch) {
    bool ended = false;
    while (!ended) {
        check(ring_reader_refresh(&router.replay));
        ck_assert(ring_ready(&router.replay) > 0);
        while (!ended && ring_ready(&router.replay) > 0)
            ended = take_record(t, epoch);
        ring_release(&router.replay);
        if (!ended)
            ck_assert(edge_replay_write(&edge.replay));
    }
    ck_assert(!edge_replay_pending(&edge.replay) && ring_ready(&router.replay) == 0);
}

static void tell(uint32_t epoch) {
    struct edge_replay *r = &edge.replay;
    edge_replay_begin(r, &edge.link, &edge.counters, epoch);
    edge_look();
    edge_replay_undo(r, &edge.journal, CONNS, SLOTS);
    for (uint32_t n = 0; n < CONNS; n++) {
        struct binding b = binding_of(n);
        if (!edge.now.conn[n].there || !edge_replay_conn(r, &b, n, edge.now.conn[n].options, edge.now.conn[n].gated))
            continue;
        for (uint32_t i = 0; i < SLOTS; i++) {
            const struct sub *s = &edge.now.sub[i];
            if (s->there && s->conn == n)
                edge_replay_sub(r, n,
                                &(struct edge_replay_sub){i, 0, s->max, view_of(s->subject, strlen(s->subject)),
                                                          view_of(s->queue, strlen(s->queue))});
        }
    }
    edge_replay_end(r);
}

static bool same(const struct tables *a, const struct tables *b) {
    bool equal = true;
    for (int n = 0; n < CONNS; n++)
        equal &= a->conn[n].there == b->conn[n].there && a->conn[n].gated == b->conn[n].gated &&
                 a->conn[n].options == b->conn[n].options && a->conn[n].generation == b->conn[n].generation;
    for (int i = 0; i < SLOTS; i++) {
        const struct sub *s = &a->sub[i], *t = &b->sub[i];
        equal &= s->there == t->there && s->conn == t->conn && s->max == t->max && !strcmp(s->subject, t->subject) &&
                 !strcmp(s->queue, t->queue);
    }
    return equal;
}

/* ---- tests ---- */

/* A new router has what the dead one had consumed, and goes on in its place. */
static void die(uint32_t *epoch) {
    struct tables heir = {0};
    tell(++*epoch);
    if (below(8) == 0)
        tell(++*epoch); /* the heir died before it had read anything */
    take_replay(&heir, *epoch);
    ck_assert(same(&heir, &router.tables));
    router.tables = heir;
}

START_TEST(test_deaths) {
    seed = testing_seed("edge replay_test deaths") + (uint64_t)_i;
    begin();
    uint32_t epoch = 0;
    for (uint32_t i = 0; i < STEPS; i++) {
        if (!edge_step()) {
            ck_assert(edge.link.ring_full);
            edge_link_publish(&edge.link);
            router_step(&router.tables, UINT32_MAX);
            edge_look();
            ck_assert(!edge.link.ring_full);
        }
        if (below(4) == 0)
            edge_link_publish(&edge.link);
        if (below(40) == 0)
            router_step(&router.tables, below(60));
        if (below(8) == 0)
            edge_look();
        if (below(60) == 0)
            die(&epoch);
    }
    edge_link_publish(&edge.link);
    router_step(&router.tables, UINT32_MAX);
    edge_look();
    ck_assert(epoch > 0 && same(&edge.now, &router.tables));
    ck_assert_uint_eq(edge.journal.count, 0);
    end();
}
END_TEST

/* The router is rung only while it sleeps, once for each sleep. */
static bool rings(void) {
    char bells[8];
    return read(router.bell, bells, sizeof bells) > 0;
}

START_TEST(test_bell) {
    struct edge_conn c = {.number = 3};
    begin();
    edge_link_publish(&edge.link);
    ck_assert(!rings());
    ck_assert(edge_link_small(&edge.link, &c, RECORD_OPTIONS, 1));
    edge_link_publish(&edge.link);
    ck_assert(!rings());
    ck_assert_uint_eq(c.last_pos, RECORD_HEADER);
    ring_reader_sleeps(&router.ingress);
    ck_assert(edge_link_small(&edge.link, &c, RECORD_OPTIONS, 1));
    ck_assert(!rings()); /* not before it can be seen */
    edge_link_publish(&edge.link);
    ck_assert(rings());
    ck_assert(edge_link_small(&edge.link, &c, RECORD_OPTIONS, 1));
    edge_link_publish(&edge.link);
    ck_assert(!rings());
    end();
}
END_TEST

/* What was loaded in one look stays until the next one, whatever the router does. */
START_TEST(test_look) {
    struct edge_conn c = {.number = 3};
    begin();
    ck_assert(edge_link_small(&edge.link, &c, RECORD_OPTIONS, 1));
    edge_link_publish(&edge.link);
    edge_link_look(&edge.link);
    ck_assert_uint_eq(edge.link.consumed_acted, 0);
    check(ring_reader_refresh(&router.ingress));
    ring_skip(&router.ingress, RECORD_HEADER);
    ring_release(&router.ingress);
    ck_assert(ring_writer_refresh(&edge.link.ingress));
    ck_assert_uint_eq(edge.link.consumed_acted, 0);
    edge_link_look(&edge.link);
    ck_assert_uint_eq(edge.link.consumed_acted, c.last_pos);
    end();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("edge");
    TCase *tcase = tcase_create("all");
    tcase_add_loop_test(tcase, test_deaths, 0, SEEDS);
    tcase_add_test(tcase, test_bell);
    tcase_add_test(tcase, test_look);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
