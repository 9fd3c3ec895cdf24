/* SPDX-License-Identifier: Apache-2.0 */
/* The black box: it names the record that is being handled and nothing else; and what a skipped record leaves behind. */
#include <check.h>
#include <signal.h>
#include <stdio.h>

#include "tests/support/edge.h"
#include "tests/unit/unit.h"

static struct world w;
static struct edge *a, *b;
static uint32_t conn, b_conn;

static void setup(uint64_t ring) {
    world_make(&w, 2, ring, 4 << 20);
    world_begin(&w);
    a = &w.edge[0], b = &w.edge[1];
    conn = edge_connect(a, 1, RECORD_ECHO);
    b_conn = edge_connect(b, 1, RECORD_ECHO);
    world_settle(&w);
}

static uint64_t box(void) {
    return atomic_load(&w.page->box);
}

static uint64_t poisoned(void) {
    return counter_get(w.counters, COUNTER_POISONED);
}

/* The router dies by a fault of its own with that in its box; the next one takes over. */
static void die_at(uint64_t what) {
    world_die(&w);
    atomic_store(&w.page->box, what);
    w.died_signal = SIGSEGV;
    world_begin(&w);
    world_settle(&w);
}

/* A router that waits, whatever for, has died of no record. */
START_TEST(test_waiting_blames_nobody) {
    setup(160 * 1024);
    uint32_t slot = edge_subscribe(b, b_conn, "f", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    ck_assert_uint_eq(box(), WORK_NONE);
    b->paused = true;
    static uint8_t payload[1000];
    for (int i = 0; i < 120; i++)
        edge_pub(a, conn, "f", NULL, payload, sizeof payload, 0);
    edge_publish(a);
    for (int i = 0; i < 5; i++)
        world_step(&w);
    ck_assert(w.router->link[0].waiting); /* the last turn did nothing, and no commit followed */
    ck_assert_uint_eq(box(), WORK_NONE);
    b->paused = false;
    die_at(box());
    ck_assert_uint_eq(b->sub[slot].delivered, 120);
    ck_assert_uint_eq(poisoned(), 0);
    world_free(&w);
}
END_TEST

static uint32_t hints, strange_boxes;

void __real_sublist_hint(const struct sublist *s, struct view subject, bool deep);
void __wrap_sublist_hint(const struct sublist *s, struct view subject, bool deep);
void __wrap_sublist_hint(const struct sublist *s, struct view subject, bool deep) {
    const struct link *l = &w.router->link[0];
    hints++;
    strange_boxes += box() != commit_box(l->number, l->ingress.tail_pos);
    __real_sublist_hint(s, subject, deep);
}

/* A death while later records are looked at ahead is that of the record that is handled, not of the one before it. */
START_TEST(test_look_ahead) {
    setup(256 * 1024);
    w.router->spread = true;
    for (int i = 0; i < 10; i++)
        edge_pub(a, conn, "f", NULL, "1", 1, 0);
    edge_publish(a);
    world_settle(&w);
    ck_assert_uint_eq(hints, 9 + 8);
    ck_assert_uint_eq(strange_boxes, 0);
    world_free(&w);
}
END_TEST

START_TEST(test_other_work_blames_nobody) {
    setup(256 * 1024);
    uint32_t slot = edge_subscribe(b, b_conn, "f", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    edge_pub(a, conn, "f", NULL, "1", 1, 0);
    edge_publish(a);
    die_at((uint64_t)_i);
    ck_assert_uint_eq(b->sub[slot].delivered, 1);
    ck_assert_uint_eq(poisoned(), 0);
    world_free(&w);
}
END_TEST

/* A router that the supervisor killed because it hangs has died of its record as by any other fault. */
START_TEST(test_hang) {
    setup(256 * 1024);
    uint32_t slot = edge_subscribe(b, b_conn, "f", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    uint64_t pos = w.router->link[0].ingress.tail_pos;
    for (int i = 0; i < 3; i++)
        edge_pub(a, conn, "f", NULL, "1", 1, 0);
    edge_publish(a);
    world_die(&w);
    atomic_store(&w.page->box, commit_box(0, pos));
    w.died_signal = SIGKILL;
    world_begin(&w);
    world_settle(&w);
    ck_assert_uint_eq(b->sub[slot].delivered, 2);
    ck_assert_uint_eq(poisoned(), 1);
    world_free(&w);
}
END_TEST

/* ---- what a skipped record is owed ---- */

/* The router dies of the next record of a. */
static void die_of_next(void) {
    uint64_t pos = w.router->link[0].ingress.tail_pos;
    edge_publish(a);
    die_at(commit_box(0, pos));
    ck_assert_uint_eq(poisoned(), 1);
    ck_assert(!a->bad);
}

static uint32_t member, gone;
static void queue_of_two(void) {
    setup(256 * 1024);
    gone = edge_subscribe(a, conn, "q", "g", RECORD_NO_SLOT, 0);
    member = edge_subscribe(b, b_conn, "q", "g", RECORD_NO_SLOT, 0);
    world_settle(&w);
}

static void all_go_to_the_member(void) {
    uint32_t before = b->sub[member].delivered;
    for (int i = 0; i < 100; i++)
        edge_pub(b, b_conn, "q", NULL, "1", 1, 0);
    world_settle(&w);
    ck_assert_uint_eq(b->sub[member].delivered - before, 100);
}

START_TEST(test_close) {
    queue_of_two();
    edge_close(a, conn);
    die_of_next();
    ck_assert(!a->conn[conn].used && !a->sub[gone].used);
    ck_assert_uint_eq(a->conn_free_total, 1);
    ck_assert_uint_eq(w.router->account[1]->conn_count, 1);
    ck_assert_uint_eq(counter_get(w.counters, COUNTER_CONNS), 1);
    all_go_to_the_member();
    uint32_t again = edge_connect(a, 1, RECORD_ECHO); /* the number is good for another connection */
    world_settle(&w);
    ck_assert_uint_eq(again, conn);
    ck_assert_uint_eq(a->conn[again].kick_count, 0);
    world_free(&w);
}
END_TEST

/* Many subscriptions go step by step; a router that dies of that is not given them again. */
START_TEST(test_close_of_many) {
    setup(256 * 1024);
    for (int i = 0; i < 3000; i++)
        edge_subscribe(a, conn, "many", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    uint64_t pos = w.router->link[0].ingress.tail_pos;
    edge_close(a, conn);
    edge_publish(a);
    world_die(&w);
    atomic_store(&w.page->box, commit_box(0, pos));
    w.died_signal = SIGSEGV;
    world_begin(&w);
    while (w.router->link[0].ingress.tail_pos == pos) {
        w.router->now = w.now;
        turn_run(w.router);
    }
    world_die(&w); /* in the middle of it */
    atomic_store(&w.page->box, WORK_REMOVAL);
    world_begin(&w);
    world_settle(&w);
    ck_assert_uint_eq(poisoned(), 1);
    ck_assert(!a->conn[conn].used && !a->bad);
    ck_assert_uint_eq(counter_get(w.counters, COUNTER_SUBS), 0);
    world_free(&w);
}
END_TEST

START_TEST(test_unsub) {
    queue_of_two();
    edge_unsub(a, conn, gone, 0, _i ? RECORD_ANSWER : 0);
    die_of_next();
    ck_assert_uint_eq(a->conn[conn].kick_count, 1);
    ck_assert_uint_eq(a->conn[conn].kick, RECORD_KICK_POISON);
    all_go_to_the_member();
    edge_close(a, conn);
    world_settle(&w);
    ck_assert(!a->conn[conn].used && !a->sub[gone].used);
    world_free(&w);
}
END_TEST

START_TEST(test_verbose) {
    queue_of_two();
    edge_pub(a, conn, "q", NULL, "1", 1, RECORD_ANSWER);
    edge_pub(a, conn, "none", NULL, "1", 1, RECORD_ANSWER);
    die_of_next();
    ck_assert_uint_eq(a->conn[conn].ok_count, 2);
    ck_assert_uint_eq(a->conn[conn].kick_count, 0);
    world_free(&w);
}
END_TEST

START_TEST(test_sub) {
    queue_of_two();
    uint32_t bad = edge_subscribe(a, conn, "x", "y", RECORD_NO_SLOT, _i ? RECORD_ANSWER : 0);
    die_of_next();
    ck_assert(!a->sub[bad].used && a->sub[gone].used);
    ck_assert_uint_eq(a->conn[conn].deny_count, 1); /* its client knows */
    ck_assert_uint_eq(edge_seen(a, RECORD_DENY)->aux, RECORD_DENY_SUB);
    ck_assert_str_eq(edge_seen(a, RECORD_DENY)->subject, "x");
    world_free(&w);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("router box");
    TCase *c = tcase_create("box");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, test_waiting_blames_nobody);
    tcase_add_test(c, test_look_ahead);
    tcase_add_loop_test(c, test_other_work_blames_nobody, WORK_NONE, WORK_END);
    tcase_add_test(c, test_hang);
    tcase_add_test(c, test_close);
    tcase_add_test(c, test_close_of_many);
    tcase_add_loop_test(c, test_unsub, 0, 2);
    tcase_add_test(c, test_verbose);
    tcase_add_loop_test(c, test_sub, 0, 2);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
