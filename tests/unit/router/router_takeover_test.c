/* SPDX-License-Identifier: Apache-2.0 */
/* A takeover: who is waited for and how long, what a replay may bring, and what the router before has ended. */
#include <check.h>
#include <stdlib.h>

#include "ipc/note.h"
#include "nats/proto.h"
#include "tests/support/edge.h"
#include "tests/unit/unit.h"

enum { MS = 1000000, PATIENCE_MS = 100 };

static struct world w;
static struct edge *a, *b;
static uint32_t a_conn, b_conn;

static void setup(void) {
    world_make(&w, 2, 160 * 1024, 8 << 20);
    w.settings.replay_ms = PATIENCE_MS;
    world_begin(&w);
    a = &w.edge[0], b = &w.edge[1];
    a_conn = edge_connect(a, 1, RECORD_ECHO);
    b_conn = edge_connect(b, 1, RECORD_ECHO);
    world_settle(&w);
}

/* b stands, and gets so many hundred messages on `f`: its link spills. */
static void spill_to_b(int hundreds) {
    static uint8_t payload[1000];
    b->paused = true;
    for (int k = 0; k < hundreds; k++) {
        for (int i = 0; i < 100; i++)
            edge_pub(a, a_conn, "f", NULL, payload, sizeof payload, 0);
        edge_publish(a);
        for (int i = 0; i < 10; i++)
            world_step(&w);
        world_pass(&w, 25);
    }
    ck_assert(w.router->link[1].spilling);
}

/* ---- patience: here the router's steps and the edges' pace are the test's own ---- */

/* The router has died, and the next one waits for replays. */
static void next_router(void) {
    world_die(&w);
    a->silent = b->silent = true;
    world_start(&w);
    ck_assert(w.router->recovered);
}

static void step_after(uint32_t ms) {
    w.now += (uint64_t)ms * MS;
    w.router->now = w.now;
    if (!w.router->running)
        takeover_step(w.router);
}

static bool is_ended(const struct edge *e) {
    return w.router->link[e->number].state == LINK_ENDING;
}

START_TEST(test_a_silent_edge_delays_nobody_longer) {
    setup();
    next_router();
    edge_replay(b, w.epoch);
    uint32_t ms = 0;
    for (; !w.router->running; ms += 5)
        step_after(5);
    ck_assert(is_ended(a) && !is_ended(b));
    ck_assert_uint_ge(ms, PATIENCE_MS);
    ck_assert_uint_le(ms, PATIENCE_MS + 15);
    world_free(&w);
}
END_TEST

START_TEST(test_one_that_comes_on_is_waited_for) {
    setup();
    for (int i = 0; i < 20000; i++)
        edge_subscribe(a, a_conn, "many", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    next_router();
    edge_replay(b, w.epoch);
    edge_replay(a, w.epoch);
    uint32_t ms = 0;
    while (!w.router->running) {
        for (int i = 0; i < 18; i++, ms += 5)
            step_after(5);
        edge_replay_more(a);
    }
    ck_assert(!is_ended(a) && !is_ended(b));
    ck_assert_uint_gt(ms, 10 * PATIENCE_MS);
    ck_assert_uint_eq(counter_get(w.counters, COUNTER_SUBS), 20000);
    world_free(&w);
}
END_TEST

/* Neither the machine's pauses nor a late supervisor are an edge's fault. */
START_TEST(test_stalls) {
    setup();
    next_router();
    for (int i = 0; i < 40; i++) /* nobody was told to replay yet */
        step_after(10);
    edge_replay(b, w.epoch);
    for (int i = 0; i < 20; i++)
        step_after(3000); /* a step that comes late */
    ck_assert(!is_ended(a) && !is_ended(b));
    edge_replay(a, w.epoch);
    step_after(3000);
    ck_assert(w.router->running && !is_ended(a) && !is_ended(b));
    world_free(&w);
}
END_TEST

/* Yet where every step is late, a silent edge does not hold up the others for ever. */
START_TEST(test_slow_machine) {
    setup();
    next_router();
    edge_replay(b, w.epoch);
    uint32_t steps = 0;
    for (; !w.router->running; steps++)
        step_after(60);
    ck_assert(is_ended(a) && !is_ended(b));
    ck_assert_uint_le(steps, 7);
    world_free(&w);
}
END_TEST

START_TEST(test_nobody_is_heard) {
    setup();
    next_router();
    uint32_t ms = 0;
    for (; !w.router->running; ms += 10)
        step_after(10);
    ck_assert(is_ended(a) && is_ended(b));
    ck_assert_uint_le(ms, 6 * PATIENCE_MS);
    world_free(&w);
}
END_TEST

static void put_replay(enum record_type type, uint32_t aux) {
    struct record rec = {.len = RECORD_HEADER, .type = (uint8_t)type, .conn = a_conn, .aux = aux};
    if (!ring_has_room(&a->replay, RECORD_HEADER, 0))
        return;
    memcpy(ring_head(&a->replay), &rec, sizeof rec);
    ring_advance(&a->replay, RECORD_HEADER);
    ring_publish(&a->replay);
}

/* An edge that lies cannot make a takeover last for ever. */
START_TEST(test_replay_without_end) {
    setup();
    next_router();
    edge_replay(b, w.epoch);
    edge_replay(a, w.epoch);
    a->replay.head_pos -= RECORD_HEADER; /* all but the END */
    atomic_store(&a->replay.data->produced_pos, a->replay.head_pos);
    a->replay.produced_pos = a->replay.head_pos;
    a->replay.head_off = a->replay.head_pos % a->replay.cap;
    uint32_t ms = 0;
    for (; !w.router->running; ms += 20) {
        put_replay(RECORD_OPTIONS, RECORD_ECHO);
        step_after(20);
    }
    ck_assert(is_ended(a) && !is_ended(b));
    ck_assert_uint_ge(ms, 100 * PATIENCE_MS);
    ck_assert_uint_le(ms, 101 * PATIENCE_MS);
    world_free(&w);
}
END_TEST

/* What belongs to no replay of this takeover is no sign of life, and there is one BEGIN. */
START_TEST(test_no_progress) {
    setup();
    next_router();
    edge_replay(b, w.epoch);
    uint32_t ms = 0;
    for (; !w.router->running && ms < 1000; ms += 20) {
        put_replay(_i == 0 ? RECORD_OPTIONS : RECORD_REPLAY_BEGIN, _i == 0 ? RECORD_ECHO : w.epoch + (uint32_t)_i - 2);
        step_after(20);
    }
    ck_assert(is_ended(a) && !is_ended(b));
    ck_assert_uint_le(ms, PATIENCE_MS + 40);
    world_free(&w);
}
END_TEST

/* An edge that does not take its overflow. */
START_TEST(test_overflow_is_not_taken) {
    setup();
    uint32_t slot = edge_subscribe(b, b_conn, "f", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    spill_to_b(6);
    world_die(&w);
    a->silent = b->silent = true;
    world_start(&w);
    ck_assert(!w.router->recovered);
    uint32_t ms = 0;
    if (_i == 0) { /* it takes some now and then */
        b->read_max = 20;
        for (; !w.router->recovered; ms += 10) {
            if (ms % 90 == 0)
                edge_read(b);
            step_after(10);
        }
        ck_assert(!is_ended(b));
        ck_assert_uint_gt(ms, 3 * PATIENCE_MS);
        b->read_max = 0;
        edge_read(b);
        ck_assert_uint_eq(b->sub[slot].delivered, 600);
    } else {
        for (; !w.router->recovered; ms += 10)
            step_after(10);
        ck_assert(is_ended(b));
        ck_assert_uint_le(ms, PATIENCE_MS + 20);
    }
    world_free(&w);
}
END_TEST

/* ---- limits ---- */

/* The binding of n as its edge shows it to the next router. */
static void bind_otherwise(struct edge *e, uint32_t n, uint32_t subs_max) {
    struct binding b2 = e->conn[n].binding;
    b2.subs_max = subs_max;
    binding_seal(&b2, &w.key);
    e->conn[n].binding = b2;
}

static uint32_t live_slots(const struct edge *e) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < e->sub_high; i++)
        count += e->sub[i].used;
    return count;
}

START_TEST(test_subs_max) {
    setup();
    uint32_t count = _i == 0 ? 11 : 6000; /* so many that their refusals do not fit into the ring */
    for (uint32_t i = 0; i < count; i++)
        edge_subscribe(a, a_conn, "a.subject.of.some.length", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    ck_assert_uint_eq(a->conn[a_conn].deny_count, 0);
    bind_otherwise(a, a_conn, 2);
    world_die(&w);
    world_begin(&w);
    world_settle(&w);
    ck_assert(!a->bad);
    ck_assert_uint_eq(a->conn[a_conn].kick_count, 0);
    ck_assert_uint_eq(live_slots(a), 2);
    ck_assert_uint_eq(a->conn[a_conn].deny_count, count - 2);
    ck_assert_uint_eq(edge_seen(a, RECORD_DENY)->aux, RECORD_DENY_REMOVED);
    ck_assert_uint_eq(w.router->account[1]->sub_count, 2);
    world_die(&w); /* and they stay away */
    world_begin(&w);
    world_settle(&w);
    ck_assert_uint_eq(live_slots(a), 2);
    ck_assert_uint_eq(a->conn[a_conn].deny_count, count - 2);
    world_free(&w);
}
END_TEST

START_TEST(test_other_limits) {
    setup();
    uint32_t fits = edge_subscribe(a, a_conn, "1.2.3", NULL, RECORD_NO_SLOT, 0);
    uint32_t deep = edge_subscribe(a, a_conn, "1.2.3.4", NULL, RECORD_NO_SLOT, 0);
    uint32_t reserved = edge_subscribe(a, a_conn, "1.2", "xxxxx", RECORD_NO_SLOT, 0);
    world_settle(&w);
    size_t len = sizeof PROTO_SYSTEM_QUEUE - 1;
    free(a->sub[reserved].text);
    a->sub[reserved].text = malloc(3 + len);
    memcpy(a->sub[reserved].text, "1.2" PROTO_SYSTEM_QUEUE, 3 + len);
    a->sub[reserved].queue_len = (uint8_t)len;
    w.settings.max_sub_tokens = 3;
    world_die(&w);
    world_begin(&w);
    world_settle(&w);
    ck_assert(!a->bad && a->sub[fits].used && !a->sub[deep].used && !a->sub[reserved].used);
    ck_assert_uint_eq(a->conn[a_conn].deny_count, 2);
    world_free(&w);
}
END_TEST

/* ---- what has ended stays ended ---- */

/* A link ends, its note is never read, and the router dies some turns later: the next one does not take it up again, with
 * positions of another time. */
START_TEST(test_ended_link) {
    setup();
    edge_subscribe(b, b_conn, "f", NULL, RECORD_NO_SLOT, 0);
    uint32_t slot = edge_subscribe(a, a_conn, "g", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    struct link *l = &w.router->link[1];
    static uint8_t payload[1000];
    spill_to_b(4);
    uint64_t spilled = l->spill.head_pos - l->spill.tail_pos;
    ck_assert_uint_gt(spilled, 0);
    while (l->state == LINK_LIVE) { /* it reads nothing for a second; the router alone goes on */
        w.now += 100 * MS;
        w.router->now = w.now;
        turn_run(w.router);
    }
    for (int i = 0; i < _i; i++) {
        edge_pub(a, a_conn, "g", NULL, payload, 100, 0);
        edge_publish(a);
        turn_run(w.router);
    }
    const struct commit_link *e = &w.page->turn[w.router->commit_no & 1].link[1];
    ck_assert(e->incarnation == b->incarnation && e->ended);
    struct note n;
    while (note_receive(w.control[0], &n) == ERR_OK) /* lost with the router */
        ;
    if (_i == 3) /* the positions of an ended link are no positions */
        atomic_store(&w.page->done_no, w.router->commit_no - 1);
    uint64_t produced = atomic_load(&b->egress.data->produced_pos);
    world_die(&w);
    b->silent = true;
    world_start(&w);
    ck_assert(is_ended(b));
    ck_assert_uint_eq(atomic_load(&b->egress.data->produced_pos), produced);
    while (!w.ready)
        world_step(&w);
    ck_assert(b->bad);
    world_settle(&w);
    ck_assert_uint_eq(a->sub[slot].delivered, (uint32_t)_i);
    world_free(&w);
}
END_TEST

/* A note that finds the socket full is not lost: else an edge that has gone would never be followed by another. */
START_TEST(test_notes) {
    setup();
    int full = 0;
    while (note_send(&w.router->control, NOTE_APPLIED, 0, 0) == ERR_OK && !w.router->control.backlog)
        full++;
    ck_assert_int_gt(full, 0);
    struct link *l = &w.router->link[1];
    link_end(w.router, l, NULL);
    l->down = true;
    b->bad = true;
    while (l->state != LINK_NONE) /* world_step would read the notes */
        world_router_step(&w);
    struct note n;
    for (int i = 0; i <= full; i++) {
        ck_assert(note_receive(w.control[0], &n) == ERR_OK && n.type == NOTE_APPLIED);
        world_router_step(&w);
    }
    while (!b->gone)
        world_step(&w);
    world_free(&w);
}
END_TEST

/* What an edge has not taken when it ends is counted: what lies in its ring, and in its overflow. */
START_TEST(test_lost) {
    setup();
    uint32_t slot = edge_subscribe(b, b_conn, "f", NULL, RECORD_NO_SLOT, 0);
    edge_subscribe(b, b_conn, "f", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    spill_to_b(4);
    b->read_max = 30;
    edge_read(b);
    ring_release(&b->egress);
    uint32_t taken = b->sub[slot].delivered;
    ck_assert_uint_gt(taken, 10);
    if (_i == 1) /* its position is on no record's border: something is counted, and nothing goes wrong */
        atomic_store(&b->egress.credit->consumed_pos, b->egress.consumed_pos + 8);
    world_edge_down(&w, b);
    uint64_t lost = counter_get(w.counters, COUNTER_LOST);
    if (_i == 0)
        ck_assert_uint_eq(lost, 2 * (400 - taken));
    else
        ck_assert_uint_lt(lost, 2 * (400 - taken));
    world_free(&w);
}
END_TEST

/* An EPOCH that finds no room is work that is left, once there is room. */
START_TEST(test_epoch) {
    setup();
    edge_subscribe(b, b_conn, "f", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    world_die(&w);
    world_start(&w);
    while (!w.recovered)
        world_edges_step(&w);
    struct link *l = &w.router->link[1];
    b->paused = true;
    while (ring_has_room(&l->egress, SMALL, 0)) /* full to the last byte */
        egress_small(w.router, l, RECORD_RESUME, b_conn, 0);
    turn_commit(w.router);
    while (!w.ready)
        world_step(&w);
    ck_assert(l->epoch_due);
    turn_run(w.router);
    ck_assert(!turn_has_work(w.router));
    b->paused = false;
    edge_read(b);
    ck_assert(turn_has_work(w.router));
    world_settle(&w);
    ck_assert(!l->epoch_due);
    ck_assert_uint_eq(b->seen[b->seen_count - 1].type, RECORD_EPOCH);
    world_free(&w);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("router takeover");
    TCase *c = tcase_create("takeover");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, test_a_silent_edge_delays_nobody_longer);
    tcase_add_test(c, test_one_that_comes_on_is_waited_for);
    tcase_add_test(c, test_stalls);
    tcase_add_test(c, test_slow_machine);
    tcase_add_test(c, test_nobody_is_heard);
    tcase_add_test(c, test_replay_without_end);
    tcase_add_loop_test(c, test_no_progress, 0, 3);
    tcase_add_loop_test(c, test_overflow_is_not_taken, 0, 2);
    tcase_add_loop_test(c, test_subs_max, 0, 2);
    tcase_add_test(c, test_other_limits);
    tcase_add_loop_test(c, test_ended_link, 0, 4);
    tcase_add_loop_test(c, test_lost, 0, 2);
    tcase_add_test(c, test_notes);
    tcase_add_test(c, test_epoch);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
