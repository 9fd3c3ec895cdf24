/* SPDX-License-Identifier: Apache-2.0 */
/* Work that one connection causes: it is charged to the record that causes it, and none of it makes a turn long.
 *
 * The bound is in work units (router/cost.h), so it holds on any machine. With WORK_TIMES set the longest turn of each case is
 * printed in milliseconds.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "router/cost.h"
#include "tests/support/edge.h"
#include "tests/unit/unit.h"

#ifdef BULKHEAD_SANITIZED
enum { MEMBERS_DEPTH = 13, MANY_CONNS = 200, WIDE = 60000 };
#else
enum { MEMBERS_DEPTH = 17, MANY_CONNS = 2000, WIDE = 500000 };
#endif
enum { PATTERNS_DEPTH = MEMBERS_DEPTH - 1, SUBS_EACH = 250 };

/* The dearest step of one record, and a turn's worth of removals and rechecks beside it. */
enum {
    STEP_MOST = FANOUT_UNITS + 2 * MATCH_VISIT_MAX * COST_NODE + MATCH_QUEUES_MAX * (COST_QUEUE + 2 * COST_TARGET),
    TURN_MOST = STEP_MOST + 4 * TURN_UNITS
};

static struct world w;
static struct edge *a, *b, *c; /* an attacker's, an honest one, and one that looks on */
static uint32_t a_conn, b_conn, c_conn;
static double longest_ms;

static void setup(uint8_t options) {
    world_make(&w, 3, 8 << 20, 64 << 20);
    world_begin(&w);
    a = &w.edge[0], b = &w.edge[1], c = &w.edge[2];
    a_conn = edge_connect(a, 1, options);
    b_conn = edge_connect(b, 1, RECORD_ECHO | RECORD_HEADERS | RECORD_NO_RESPONDERS);
    c_conn = edge_connect(c, 1, RECORD_ECHO);
    world_settle(&w);
}

static void teardown(const char *name) {
    if (env_number("WORK_TIMES", 0))
        printf("%s: longest turn %.2f ms\n", name, longest_ms);
    world_free(&w);
}

static uint64_t counted(enum counter which) {
    return counter_get(w.counters, which);
}

/* One turn, which is not too dear. */
static void turn(void) {
    uint64_t begun = w.router->work, at = clock_mono_ns();
    world_step(&w);
    double ms = (double)(clock_mono_ns() - at) / 1e6;
    longest_ms = ms > longest_ms ? ms : longest_ms;
    ck_assert_uint_le(w.router->work - begun, TURN_MOST);
}

static void measure(void) {
    longest_ms = 0;
    edge_publish(a);
    edge_publish(b);
}

/* Patterns of all mixes of `a` and `*` over that many tokens, then `last`. */
static void subscribe_all_mixes(struct edge *e, uint32_t conn, uint32_t depth, const char *last, const char *queue) {
    char text[128];
    for (uint32_t mix = 0; mix < 1u << depth; mix++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < depth; i++)
            n += (uint32_t)snprintf(text + n, sizeof text - n, "%s%c", i ? "." : "", mix >> i & 1 ? '*' : 'a');
        snprintf(text + n, sizeof text - n, "%s", last);
        edge_subscribe(e, conn, text, queue, RECORD_NO_SLOT, 0);
    }
    world_settle(&w);
}

static const char *all_a(uint32_t tokens) {
    static char text[128];
    for (uint32_t i = 0; i < tokens; i++) {
        text[2 * i] = 'a';
        text[2 * i + 1] = '.';
    }
    text[2 * tokens - 1] = 0;
    return text;
}

/* Messages of the third edge that go round in so many turns, while those of the others are worked off. */
static uint32_t honest_rounds(uint32_t turns) {
    uint32_t slot = edge_subscribe(c, c_conn, "honest", NULL, RECORD_NO_SLOT, 0);
    for (uint32_t i = 0; i < turns; i++) {
        edge_pub(c, c_conn, "honest", NULL, "x", 1, 0);
        edge_publish(c);
        turn();
    }
    return c->sub[slot].delivered;
}

/* A queue group whose members are all the publisher's own, without echo: nobody can take the message. */
START_TEST(test_choice_among_unwilling) {
    setup(0);
    edge_options(a, a_conn, RECORD_HEADERS | RECORD_NO_RESPONDERS);
    subscribe_all_mixes(a, a_conn, MATCH_TOKENS_WHOLE, "", "q");
    for (uint32_t i = 0; i < 1u << MEMBERS_DEPTH; i++)
        edge_subscribe(a, a_conn, all_a(MATCH_TOKENS_WHOLE), "q", RECORD_NO_SLOT, 0);
    world_settle(&w);
    for (uint32_t i = 0; i < 3; i++)
        edge_pub(a, a_conn, all_a(MATCH_TOKENS_WHOLE), NULL, "x", 1, 0);
    measure();
    ck_assert_uint_eq(honest_rounds(60), 60);
    ck_assert_uint_eq(w.router->link[0].ingress.tail_pos, a->ingress.head_pos);
    ck_assert(!w.router->link[0].choice.active);
    ck_assert_uint_eq(a->delivered_count, 0);
    teardown("choice");
}
END_TEST

/* One member among them can take it, and gets every message, once. */
START_TEST(test_choice_finds_the_willing) {
    setup(0);
    for (uint32_t i = 0; i < 1u << MEMBERS_DEPTH; i++)
        edge_subscribe(a, a_conn, "work", "q", RECORD_NO_SLOT, 0);
    uint32_t slot = edge_subscribe(b, b_conn, "work", "q", RECORD_NO_SLOT, 0);
    uint32_t other = edge_subscribe(b, b_conn, "*", "p", RECORD_NO_SLOT, 0);
    world_settle(&w);
    for (uint32_t i = 0; i < 5; i++)
        edge_pub(a, a_conn, "work", NULL, "x", 1, 0);
    edge_pub(a, a_conn, "then", NULL, "x", 1, 0);
    measure();
    for (uint32_t i = 0; i < 100; i++)
        turn();
    world_settle(&w);
    ck_assert_uint_eq(b->sub[slot].delivered, 5);
    ck_assert_uint_eq(b->sub[other].delivered, 6);
    teardown("willing");
}
END_TEST

/* Messages whose subject meets more patterns than a match looks at: a literal subscriber gets them all the same, and nobody is told
 * that there is nobody. */
START_TEST(test_match_is_cut) {
    setup(RECORD_ECHO);
    uint32_t slot = edge_subscribe(b, b_conn, all_a(PATTERNS_DEPTH + 1), NULL, RECORD_NO_SLOT, 0);
    edge_subscribe(b, b_conn, "r", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    subscribe_all_mixes(a, a_conn, PATTERNS_DEPTH, ".b", NULL);
    for (uint32_t i = 0; i < 20; i++)
        edge_pub(a, a_conn, all_a(PATTERNS_DEPTH + 1), NULL, "x", 1, 0);
    edge_pub(b, b_conn, all_a(PATTERNS_DEPTH + 1), "r", "x", 1, 0);
    uint64_t cut = counted(COUNTER_MATCHES_CUT), none = b->uncounted_total;
    measure();
    ck_assert_uint_eq(honest_rounds(60), 60);
    world_settle(&w);
    ck_assert_uint_eq(b->sub[slot].delivered, 21);
    ck_assert_uint_eq(b->uncounted_total, none);
    if (PATTERNS_DEPTH > (int)MATCH_TOKENS_WHOLE)
        ck_assert_uint_eq(counted(COUNTER_MATCHES_CUT) - cut, 21);
    edge_pub(b, b_conn, all_a(PATTERNS_DEPTH), "r", "x", 1, 0); /* no pattern of that length */
    world_settle(&w);
    ck_assert_uint_eq(b->uncounted_total, none + (PATTERNS_DEPTH <= (int)MATCH_TOKENS_WHOLE));
    teardown("match");
}
END_TEST

/* A subject of MATCH_TOKENS_WHOLE tokens is matched in full, whatever was subscribed to. */
START_TEST(test_match_is_whole) {
    setup(RECORD_ECHO);
    subscribe_all_mixes(a, a_conn, MATCH_TOKENS_WHOLE, "", NULL);
    edge_pub(b, b_conn, all_a(MATCH_TOKENS_WHOLE), NULL, "x", 1, 0);
    measure();
    turn();
    world_settle(&w);
    ck_assert_uint_eq(a->delivered_count, 1u << MATCH_TOKENS_WHOLE);
    ck_assert_uint_eq(counted(COUNTER_MATCHES_CUT), 0);
    teardown("whole");
}
END_TEST

/* A subject with more queue groups than a match takes: the oldest ones get the message. */
START_TEST(test_too_many_groups) {
    setup(RECORD_ECHO);
    uint32_t slot = edge_subscribe(b, b_conn, "s", "honest", RECORD_NO_SLOT, 0);
    world_settle(&w);
    char name[16];
    for (uint32_t i = 0; i < MATCH_QUEUES_MAX + 1000; i++) {
        snprintf(name, sizeof name, "q%u", i);
        edge_subscribe(a, a_conn, "s", name, RECORD_NO_SLOT, 0);
    }
    world_settle(&w);
    edge_pub(b, b_conn, "s", NULL, "x", 1, 0);
    measure();
    for (uint32_t i = 0; i < 10; i++)
        turn();
    world_settle(&w);
    ck_assert_uint_eq(b->sub[slot].delivered, 1);
    ck_assert_uint_eq(a->delivered_count, MATCH_QUEUES_MAX - 1);
    ck_assert_uint_eq(counted(COUNTER_MATCHES_CUT), 1);
    teardown("groups");
}
END_TEST

/* 0: an account is revoked; 1: its connections close; 2: their edge goes. */
START_TEST(test_removals) {
    setup(RECORD_ECHO);
    char text[32];
    world_account(&w, 2, 0, 0);
    world_settle(&w);
    uint32_t conns[MANY_CONNS];
    for (uint32_t i = 0; i < MANY_CONNS; i++) {
        conns[i] = edge_connect(a, 2, RECORD_ECHO);
        for (uint32_t k = 0; k < SUBS_EACH; k++) {
            snprintf(text, sizeof text, k % 2 ? "s.%u.%u" : "s.%u.%u.*.x", i, k);
            edge_subscribe(a, conns[i], text, NULL, RECORD_NO_SLOT, 0);
        }
    }
    world_settle(&w);
    for (uint32_t i = 0; i < MANY_CONNS && _i == 1; i++)
        edge_close(a, conns[i]);
    measure();
    if (_i == 0)
        world_floor(&w, 2, 0, w.serial + 1);
    else if (_i == 2)
        link_end(w.router, &w.router->link[0], "a test ends it");
    ck_assert_uint_eq(honest_rounds(200), 200);
    world_settle(&w);
    while (removal_waits(w.router))
        turn();
    ck_assert_uint_eq(counted(COUNTER_SUBS), 1);
    ck_assert_uint_eq(a->kick_total, _i == 0 ? MANY_CONNS : 0);
    ck_assert_uint_eq(a->conn_free_total, _i == 1 ? MANY_CONNS : 0);
    ck_assert_uint_eq(account_find(w.router, 2)->conn_count, 0);
    teardown("removals");
}
END_TEST

/* A message for very many: every subscription that was there when it came, and is there still, gets it once. */
START_TEST(test_wide_fanout) {
    setup(RECORD_ECHO);
    for (uint32_t i = 0; i < WIDE; i++)
        edge_subscribe(a, a_conn, i % 2 ? "wide.x" : "wide.*", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    edge_pub(b, b_conn, "wide.x", NULL, "x", 1, 0);
    measure();
    for (uint32_t i = 0; i < 3; i++)
        turn();
    for (uint32_t i = 0; i < 1000; i++)
        edge_unsub(a, a_conn, 7 * i, 0, 0);
    edge_publish(a);
    for (uint32_t i = 0; i < 3; i++)
        turn();
    for (uint32_t i = 0; i < 500; i++) /* in the places of those */
        edge_subscribe(a, a_conn, "wide.x", NULL, RECORD_NO_SLOT, 0);
    edge_publish(a);
    ck_assert_uint_gt(honest_rounds(100), 90);
    while (w.router->link[1].fanout.phase)
        turn();
    world_settle(&w);
    uint32_t twice = 0, never = 0;
    for (uint32_t i = 0; i < a->sub_high; i++) {
        twice += a->sub[i].used && a->sub[i].delivered > 1;
        never += a->sub[i].used && a->sub[i].delivered == 0;
    }
    ck_assert_uint_eq(twice, 0);
    ck_assert_uint_eq(never, 500);
    teardown("fan-out");
}
END_TEST

/* All subscriptions of a fan-out end with it. */
START_TEST(test_fanout_of_ending) {
    enum { COUNT = FANOUT_AT_ONCE };
    setup(RECORD_ECHO);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t slot = edge_subscribe(a, a_conn, "once", NULL, RECORD_NO_SLOT, 0);
        edge_unsub(a, a_conn, slot, 1, 0);
    }
    world_settle(&w);
    edge_pub(b, b_conn, "once", NULL, "x", 1, 0);
    edge_pub(b, b_conn, "once", NULL, "x", 1, 0);
    measure();
    for (uint32_t i = 0; i < 60; i++)
        turn();
    world_settle(&w);
    ck_assert_uint_eq(a->delivered_count, COUNT);
    ck_assert_uint_eq(a->slot_free_total, COUNT);
    teardown("ending");
}
END_TEST

/* Thousands who listen to a requestor's replies do not keep it from hearing that nobody is there. */
START_TEST(test_no_responders_among_listeners) {
    setup(RECORD_ECHO);
    for (uint32_t i = 0; i < 1u << MEMBERS_DEPTH; i++)
        edge_subscribe(a, a_conn, i % 2 ? "inbox.1" : "inbox.>", NULL, RECORD_NO_SLOT, 0);
    edge_subscribe(b, b_conn, "inbox.*", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    for (uint32_t i = 0; i < 20; i++)
        edge_pub(b, b_conn, "nobody", "inbox.1", "x", 1, 0);
    measure();
    turn();
    world_settle(&w);
    ck_assert_uint_eq(b->uncounted_total, 20);
    teardown("no responders");
}
END_TEST

/* A fan-out of one link does not raise the price of another link's records. */
START_TEST(test_price_is_the_records_own) {
    enum { REFUSED = 300 };
    uint64_t price[2];
    for (uint32_t wide = 0; wide < 2; wide++) {
        setup(RECORD_ECHO);
        for (uint32_t i = 0; i < 1500; i++)
            edge_subscribe(a, a_conn, "big", NULL, RECORD_NO_SLOT, 0);
        world_settle(&w);
        if (wide)
            edge_pub(a, a_conn, "big", NULL, "x", 1, 0);
        edge_publish(a);
        w.router->turn_first = 0;
        for (uint32_t i = 0; i < REFUSED; i++)
            edge_pub(b, b_conn, "x", "_R_.no", "x", 1, 0);
        edge_publish(b);
        uint64_t begun = w.router->link[1].ingress.tail_pos;
        turn_run(w.router);
        price[wide] = w.router->link[1].ingress.tail_pos - begun;
        teardown("price");
    }
    ck_assert_uint_eq(price[0], price[1]);
}
END_TEST

/* A limit that falls below what an account has: the newest end, and no turn is long for it. */
START_TEST(test_crowded) {
    setup(RECORD_ECHO);
    world_account(&w, 2, 0, 0);
    static uint32_t conns[MANY_CONNS];
    for (uint32_t i = 0; i < MANY_CONNS; i++)
        conns[i] = edge_connect(i % 2 ? a : b, 2, RECORD_ECHO);
    world_settle(&w);
    measure();
    world_account(&w, 2, MANY_CONNS / 4, 0);
    for (uint32_t i = 0; i < 1000 && w.router->changes.active; i++)
        turn();
    ck_assert(!w.router->changes.active);
    world_settle(&w);
    for (uint32_t i = 0; i < MANY_CONNS; i++)
        ck_assert_uint_eq((i % 2 ? a : b)->conn[conns[i]].kick_count, i >= MANY_CONNS / 4);
    teardown("crowded");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("router work");
    TCase *cases = tcase_create("work");
    tcase_set_timeout(cases, 240);
    tcase_add_test(cases, test_choice_among_unwilling);
    tcase_add_test(cases, test_choice_finds_the_willing);
    tcase_add_test(cases, test_match_is_cut);
    tcase_add_test(cases, test_match_is_whole);
    tcase_add_test(cases, test_too_many_groups);
    tcase_add_loop_test(cases, test_removals, 0, 3);
    tcase_add_test(cases, test_crowded);
    tcase_add_test(cases, test_wide_fanout);
    tcase_add_test(cases, test_fanout_of_ending);
    tcase_add_test(cases, test_no_responders_among_listeners);
    tcase_add_test(cases, test_price_is_the_records_own);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
