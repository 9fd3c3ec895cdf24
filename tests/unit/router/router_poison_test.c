/* SPDX-License-Identifier: Apache-2.0 */
/* A record that kills its router is skipped once and counted; the second of a connection within a minute ends that
 * connection; a death from outside skips nothing.
 *
 * This program is linked with --wrap: a subject that begins with "die" kills the router in sublist_match or sublist_insert,
 * a principal of 666 in binding_open, by a fault of its own (SIGABRT).
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "tests/support/edge.h"
#include "tests/unit/unit.h"

static bool armed; /* in children only */

static void die_of(struct view subject) {
    if (armed && subject.len >= 3 && memcmp(subject.at, "die", 3) == 0)
        abort();
}

enum err __real_sublist_match(struct sublist *s, struct view subject, struct match *m, uint32_t *visited);
enum err __wrap_sublist_match(struct sublist *s, struct view subject, struct match *m, uint32_t *visited);
enum err __wrap_sublist_match(struct sublist *s, struct view subject, struct match *m, uint32_t *visited) {
    die_of(subject);
    return __real_sublist_match(s, subject, m, visited);
}

enum err __real_sublist_insert(struct sublist *s, struct sub *sub, struct view pattern, struct view queue);
enum err __wrap_sublist_insert(struct sublist *s, struct sub *sub, struct view pattern, struct view queue);
enum err __wrap_sublist_insert(struct sublist *s, struct sub *sub, struct view pattern, struct view queue) {
    die_of(pattern);
    return __real_sublist_insert(s, sub, pattern, queue);
}

enum err __real_binding_open(struct binding *b, const struct binding_key *key, const void *bytes, uint32_t len);
enum err __wrap_binding_open(struct binding *b, const struct binding_key *key, const void *bytes, uint32_t len);
enum err __wrap_binding_open(struct binding *b, const struct binding_key *key, const void *bytes, uint32_t len) {
    enum err e = __real_binding_open(b, key, bytes, len);
    if (armed && e == ERR_OK && b->principal == 666)
        abort();
    return e;
}

static struct world w;
static struct edge *e;
static uint32_t conn, watcher, slot;
static uint32_t deaths;

static void start_child(void) {
    armed = true;
    world_fork(&w, false);
    armed = false;
}

static void setup(void) {
    world_make(&w, 1, 256 * 1024, 1 << 20);
    e = &w.edge[0];
    deaths = 0;
    start_child();
    conn = edge_connect(e, 1, RECORD_ECHO);
    watcher = edge_connect(e, 1, RECORD_ECHO);
    slot = edge_subscribe(e, watcher, "ok.>", NULL, RECORD_NO_SLOT, 0);
}

/* Until all is consumed; a router that died of itself gets a successor that is told so. */
static void settle(void) {
    uint64_t until = clock_mono_ms() + 10000;
    edge_publish(e);
    for (int quiet = 0; quiet < 20;) {
        ck_assert_msg(clock_mono_ms() < until, "no rest: %u deaths, %s, %llu of %llu consumed", deaths,
                      w.ready ? "ready" : "not ready", (unsigned long long)e->ingress.consumed_pos,
                      (unsigned long long)e->ingress.head_pos);
        int status;
        if (waitpid(w.child, &status, WNOHANG) == w.child) {
            check(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
            deaths++;
            w.child = 0;
            w.died_signal = SIGABRT;
            start_child();
            continue;
        }
        bool moved = world_edges_step(&w);
        check(ring_writer_refresh(&e->ingress));
        bool rest = !moved && w.ready && e->ingress.consumed_pos == e->ingress.head_pos;
        quiet = rest ? quiet + 1 : 0;
        if (!moved)
            usleep(100);
    }
}

static uint64_t poisoned(void) {
    return counter_get(w.counters, COUNTER_POISONED);
}

START_TEST(test_skipped_once) {
    setup();
    for (int i = 0; i < 3; i++)
        edge_pub(e, conn, "ok.before", NULL, "1", 1, 0);
    edge_pub(e, conn, "die.now", NULL, "1", 1, 0);
    for (int i = 0; i < 3; i++)
        edge_pub(e, conn, "ok.after", NULL, "1", 1, 0);
    settle();
    ck_assert_uint_eq(deaths, 1);
    ck_assert_uint_eq(poisoned(), 1);
    ck_assert_uint_eq(atomic_load(&w.page->lost_count), 1);
    ck_assert_uint_eq(e->sub[slot].delivered, 6);
    ck_assert_uint_eq(e->kick_total, 0);
    world_free(&w);
}
END_TEST

START_TEST(test_second_ends_the_connection) {
    setup();
    uint32_t other = edge_connect(e, 1, RECORD_ECHO);
    edge_pub(e, conn, "die.now", NULL, "1", 1, 0);
    edge_pub(e, other, "die.now", NULL, "1", 1, 0); /* the first of another connection */
    edge_pub(e, conn, "ok", NULL, "1", 1, 0);
    settle();
    ck_assert_uint_eq(deaths, 2);
    ck_assert_uint_eq(e->kick_total, 0);
    edge_pub(e, conn, "die.again", NULL, "1", 1, 0);
    edge_pub(e, conn, "ok.unheard", NULL, "1", 1, 0);
    edge_pub(e, conn, "die.a.third.time", NULL, "1", 1, 0);
    edge_pub(e, other, "ok.heard", NULL, "1", 1, 0);
    settle();
    ck_assert_uint_eq(deaths, 3);
    ck_assert_uint_eq(poisoned(), 3);
    ck_assert_uint_eq(e->conn[conn].kick_count, 1);
    ck_assert_uint_eq(e->conn[conn].kick, RECORD_KICK_POISON);
    ck_assert_uint_eq(e->conn[other].kick_count, 0);
    ck_assert_uint_eq(e->sub[slot].delivered, 1);
    edge_close(e, conn);
    settle();
    ck_assert(!e->conn[conn].used);
    world_free(&w);
}
END_TEST

/* A subscription or a binding: the edge gets what it is owed, and its link lives. */
START_TEST(test_poisonous_sub) {
    setup();
    uint32_t bad = edge_subscribe(e, conn, "die", NULL, RECORD_NO_SLOT, 0);
    settle();
    ck_assert_uint_eq(deaths, 1);
    ck_assert(!e->sub[bad].used && !e->bad);
    edge_unsub(e, conn, bad, 0, 0); /* that crossed it */
    edge_pub(e, conn, "ok.go", NULL, "1", 1, 0);
    settle();
    ck_assert_uint_eq(e->sub[slot].delivered, 1);
    world_free(&w);
}
END_TEST

START_TEST(test_poisonous_bind) {
    setup();
    settle();
    uint32_t n = edge_number(e);
    struct binding b = edge_binding(e, n, 1);
    b.principal = 666;
    binding_seal(&b, &w.key);
    edge_bind(e, n, &b);
    edge_options(e, n, RECORD_ECHO);
    edge_pub(e, n, "ok.no", NULL, "1", 1, 0);
    uint32_t sub = edge_subscribe(e, n, "x", NULL, RECORD_NO_SLOT, 0);
    edge_pub(e, conn, "ok.yes", NULL, "1", 1, 0);
    settle();
    ck_assert_uint_eq(deaths, 1);
    ck_assert(!e->bad && !e->sub[sub].used);
    ck_assert_uint_eq(e->conn[n].kick_count, 1);
    ck_assert_uint_eq(e->sub[slot].delivered, 1);
    edge_close(e, n);
    settle();
    ck_assert(!e->conn[n].used);
    world_free(&w);
}
END_TEST

/* What lives already and kills whoever it is replayed to. */
START_TEST(test_poisonous_replay) {
    setup();
    settle();
    world_kill(&w);
    world_fork(&w, false); /* one that can bear it */
    uint32_t second = edge_connect(e, 1, RECORD_ECHO);
    uint32_t bad = edge_subscribe(e, conn, "die.>", NULL, RECORD_NO_SLOT, 0);
    edge_subscribe(e, second, "die", NULL, RECORD_NO_SLOT, 0);
    settle();
    ck_assert(e->sub[bad].used);
    world_kill(&w);
    w.died_signal = 0;
    start_child();
    edge_pub(e, watcher, "ok.go", NULL, "1", 1, 0);
    settle();
    ck_assert_uint_eq(deaths, 2);
    ck_assert(!e->bad);
    ck_assert_uint_eq(e->conn[conn].kick_count, 1);
    ck_assert_uint_eq(e->conn[second].kick_count, 1);
    ck_assert_uint_eq(e->conn[watcher].kick_count, 0);
    ck_assert_uint_eq(e->sub[slot].delivered, 1);
    world_free(&w);
}
END_TEST

START_TEST(test_death_from_outside_skips_nothing) {
    setup();
    settle();
    uint32_t sent = 0;
    for (int i = 0; i < 40; i++) {
        for (int k = 0; k < 500; k++, sent++)
            edge_pub(e, conn, "ok.x", NULL, "1", 1, 0);
        edge_publish(e);
        uint64_t until = clock_mono_ns() + (uint64_t)i * 10000;
        while (clock_mono_ns() < until)
            world_edges_step(&w);
        world_kill(&w);
        w.died_signal = 0; /* as the supervisor says of a SIGKILL */
        start_child();
        settle();
    }
    ck_assert_uint_eq(e->sub[slot].delivered, sent);
    ck_assert_uint_eq(poisoned(), 0);
    world_free(&w);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("router poison");
    TCase *c = tcase_create("poison");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, test_skipped_once);
    tcase_add_test(c, test_second_ends_the_connection);
    tcase_add_test(c, test_poisonous_sub);
    tcase_add_test(c, test_poisonous_bind);
    tcase_add_test(c, test_poisonous_replay);
    tcase_add_test(c, test_death_from_outside_skips_nothing);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
