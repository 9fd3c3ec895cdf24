/* SPDX-License-Identifier: Apache-2.0 */
/* The plan of a message, made by hand: what each link gets, whether it fits, and that asking changes nothing. */
#include <check.h>
#include <stdio.h>

#include "router/message.h"
#include "tests/support/edge.h"
#include "tests/unit/unit.h"

enum { RING = 160 * 1024 };

static struct world w;
static struct edge *a, *b;
static uint32_t a_conn, b_conn;

/* A message of a's connection. */
static struct record rec;
static struct plan plan;
static struct leg own;
static uint8_t payload[RING];
static struct weight weight;

static void setup(void) {
    world_make(&w, 2, RING, 1 << 20);
    world_begin(&w);
    a = &w.edge[0], b = &w.edge[1];
    a_conn = edge_connect(a, 1, RECORD_ECHO);
    b_conn = edge_connect(b, 1, RECORD_ECHO);
}

static void teardown(void) {
    world_free(&w);
}

static void plan_of(const char *subject, uint32_t payload_len, uint8_t flags) {
    struct router *r = w.router;
    rec = (struct record){.type = RECORD_PUB, .flags = flags, .conn = a_conn};
    plan = (struct plan){
        .source = &r->link[0], .conn = link_conn(&r->link[0], a_conn), .rec = &rec, .leg_count = 1, .leg = &own};
    leg_begin(&own, &plan, LEG_OWN, account_find(r, 1), &r->match);
    own.subject = view_of(subject, strlen(subject));
    own.reply = (struct view){0};
    own.body = payload;
    own.payload_len = payload_len;
    own.header_len = 0;
    ck_assert(plan_match(r, &own));
    ck_assert_int_eq(plan_targets(r, &plan, true).step, STEP_DONE);
    plan_weigh(r, &plan, &weight);
}

static uint64_t deliver_len(uint32_t targets, uint64_t texts) {
    return ring_round(record_len(0, targets, texts, 0, 0));
}

START_TEST(test_weight) {
    setup();
    edge_subscribe(a, a_conn, "s", NULL, RECORD_NO_SLOT, 0);
    edge_subscribe(b, b_conn, "s", NULL, RECORD_NO_SLOT, 0);
    edge_subscribe(b, b_conn, "*", NULL, RECORD_NO_SLOT, 0);
    uint32_t last = edge_subscribe(b, b_conn, "s", NULL, RECORD_NO_SLOT, 0);
    edge_subscribe(b, b_conn, "s", "q", RECORD_NO_SLOT, 0);
    edge_subscribe(a, a_conn, "none", "q", RECORD_NO_SLOT, 0);
    edge_unsub(b, b_conn, last, 1, 0);
    world_settle(&w);
    plan_of("s", 10, RECORD_ANSWER);
    ck_assert_uint_eq(plan_count(&plan), 5);
    ck_assert_uint_eq(weight.ending, 1);
    ck_assert_uint_eq(weight.link[0].leg[0].count, 1);
    ck_assert_uint_eq(weight.link[1].leg[0].count, 4);
    ck_assert_uint_eq(weight.link[0].bytes, deliver_len(1, 11) + SMALL); /* the publisher's OK */
    ck_assert_uint_eq(weight.link[1].bytes, deliver_len(4, 11) + SMALL); /* SLOT_FREE */
    plan_of("no.body", 10, 0);
    ck_assert_uint_eq(plan_count(&plan), 0);
    ck_assert_uint_eq(weight.link[0].bytes + weight.link[1].bytes, 0);
    teardown();
}
END_TEST

/* The bytes that were weighed are those that are written. */
START_TEST(test_write) {
    setup();
    for (uint32_t i = 0; i < 5; i++)
        edge_subscribe(i % 2 ? a : b, i % 2 ? a_conn : b_conn, "s", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    plan_of("s", 1000, RECORD_ANSWER);
    uint64_t before[2] = {w.router->link[0].egress.head_pos, w.router->link[1].egress.head_pos};
    ck_assert_int_eq(plan_fits(w.router, &weight, true).step, STEP_DONE);
    plan_write(w.router, &plan, &weight);
    for (uint32_t i = 0; i < 2; i++)
        ck_assert_uint_eq(w.router->link[i].egress.head_pos - before[i], weight.link[i].bytes);
    teardown();
}
END_TEST

START_TEST(test_large) {
    setup();
    edge_subscribe(b, b_conn, "s", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    plan_of("s", RING / 2, 0);
    ck_assert_int_eq(plan_fits(w.router, &weight, true).step, STEP_LARGE);
    teardown();
}
END_TEST

/* A link that has no room is named, again and again, and nothing has changed by the question. */
START_TEST(test_no_room) {
    setup();
    edge_subscribe(b, b_conn, "s", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    b->paused = true;
    for (uint32_t i = 0; i < 8; i++)
        edge_pub(a, a_conn, "s", NULL, payload, 20000, 0);
    edge_publish(a);
    for (uint32_t i = 0; i < 5; i++)
        world_step(&w);
    struct link *l = &w.router->link[1];
    uint64_t head = l->egress.head_pos;
    plan_of("s", 20000, 0);
    for (uint32_t i = 0; i < 2; i++) {
        struct outcome o = plan_fits(w.router, &weight, true);
        ck_assert_int_eq(o.step, STEP_WAIT);
        ck_assert_ptr_eq(o.waits_for, l);
    }
    ck_assert_uint_eq(l->egress.head_pos, head);
    ck_assert_int_eq(l->state, LINK_LIVE);
    ck_assert(!l->failed);
    teardown();
}
END_TEST

/* An edge that writes an impossible position: the question marks its link, the turn ends it. */
START_TEST(test_broken) {
    setup();
    edge_subscribe(b, b_conn, "s", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    b->paused = true;
    struct link *l = &w.router->link[1];
    atomic_store(&((struct ring_credit *)b->egress_map.credit)->consumed_pos, l->egress.head_pos + (1 << 30));
    while (ring_room(&l->egress) >= 40000) /* until it has to look at the position */
        ring_advance(&l->egress, 8192);
    plan_of("s", 40000, 0);
    ck_assert_ptr_eq(plan_fits(w.router, &weight, false).waits_for, l);
    ck_assert_int_eq(l->state, LINK_LIVE);
    ck_assert_ptr_nonnull(l->failed);
    ck_assert(turn_has_work(w.router));
    turn_run(w.router);
    ck_assert_int_eq(l->state, LINK_ENDING);
    ck_assert_ptr_null(l->failed);
    ck_assert(w.page->turn[w.router->commit_no & 1].link[1].ended);
    b->bad = true;
    teardown();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("plan");
    TCase *cases = tcase_create("plan");
    tcase_add_test(cases, test_weight);
    tcase_add_test(cases, test_write);
    tcase_add_test(cases, test_large);
    tcase_add_test(cases, test_no_room);
    tcase_add_test(cases, test_broken);
    suite_add_tcase(suite, cases);
    return unit_run(suite);
}
