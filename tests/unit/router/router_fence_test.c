/* SPDX-License-Identifier: Apache-2.0 */
/* A line of an edge's own (PONG, +OK, -ERR, the end) comes after all that the router had for that edge, overflow included. */
#include <check.h>
#include <stdio.h>

#include "tests/support/edge.h"
#include "tests/unit/unit.h"

static struct world w;
static struct edge *a, *b;
static uint32_t a_conn, b_conn, slot;
static uint8_t payload[1000];

/* Where each message of a ends in its ring. */
enum { MESSAGES_MAX = 20000 };
static uint64_t end_pos[MESSAGES_MAX];
static uint32_t sent;

static void setup(void) {
    world_make(&w, 2, 160 * 1024, 8 << 20);
    world_begin(&w);
    a = &w.edge[0], b = &w.edge[1];
    a_conn = edge_connect(a, 1, RECORD_ECHO);
    b_conn = edge_connect(b, 1, RECORD_ECHO);
    slot = edge_subscribe(b, b_conn, "f", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    sent = 0;
}

static void flood(uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        edge_pub(a, a_conn, "f", NULL, payload, sizeof payload, 0);
        ck_assert_uint_lt(sent, MESSAGES_MAX);
        end_pos[sent++] = a->ingress.head_pos;
    }
    edge_publish(a);
}

/* b stands until its link spills. */
static void make_spill(void) {
    b->paused = true;
    flood(120);
    for (int i = 0; i < 5; i++)
        world_step(&w);
    world_pass(&w, 25);
    for (int k = 0; k < 8; k++) {
        flood(100);
        for (int i = 0; i < 20; i++)
            world_step(&w);
    }
    ck_assert(w.router->link[1].spilling);
    check(ring_writer_refresh(&a->ingress));
    ck_assert_uint_eq(a->ingress.consumed_pos, a->ingress.head_pos);
}

/* Its own message, and all that another connection published and flushed before. */
START_TEST(test_overflow) {
    setup();
    make_spill();
    uint32_t own = edge_subscribe(b, b_conn, "own", NULL, RECORD_NO_SLOT, 0);
    edge_pub(b, b_conn, "own", NULL, payload, 100, 0);
    edge_publish(b);
    w.router->now = w.now;
    turn_run(w.router);
    edge_read(b);
    ck_assert_uint_le(b->conn[b_conn].last_pos, b->ingress.consumed_pos);
    ck_assert_uint_eq(b->sub[own].delivered, 0);
    ck_assert(!edge_fence_passes(b, b_conn));
    b->paused = false;
    while (!edge_fence_passes(b, b_conn))
        world_step(&w);
    ck_assert_uint_eq(b->sub[slot].delivered, sent);
    ck_assert_uint_eq(b->sub[own].delivered, 1);
    world_settle(&w);
    ck_assert(!w.router->link[1].spilling && edge_fence_passes(b, b_conn));
    flood(1);
    world_settle(&w);
    ck_assert(edge_fence_passes(b, b_conn)); /* nothing is left of it */
    world_free(&w);
}
END_TEST

/* Whatever the pace: when a line passes, all has been delivered that was consumed when the positions were loaded. */
START_TEST(test_any_pace) {
    setup();
    struct rnd rnd = {env_number("SEED", 1) * 1000 + (uint64_t)_i};
    uint32_t passed = 0, held = 0, done = 0, deaths = 0;
    bool spilled = false;
    for (uint32_t i = 0; i < 3000; i++) {
        check(ring_writer_refresh(&a->ingress));
        if (sent < MESSAGES_MAX - 20 && ring_room(&a->ingress) > 30 * 1100)
            flood(rnd_below(&rnd, 20));
        w.router->now = w.now;
        if (w.router->running)
            turn_run(w.router);
        w.now += rnd_below(&rnd, 3) * 1000000;
        if (rnd_below(&rnd, 3) != 0)
            continue;
        check(ring_writer_refresh(&a->ingress));
        while (done < sent && end_pos[done] <= a->ingress.consumed_pos)
            done++;
        spilled |= w.router->link[1].spilling;
        b->read_max = rnd_below(&rnd, 20) == 0 ? 0 : 1 + rnd_below(&rnd, 60);
        edge_read(b);
        if (edge_fence_passes(b, b_conn)) {
            passed++;
            ck_assert_msg(b->sub[slot].delivered >= done, "seed %d step %u: %u of %u", _i, i, b->sub[slot].delivered,
                          done);
        } else {
            held++;
        }
        if (rnd_below(&rnd, 200) == 0) {
            deaths++;
            b->read_max = 0;
            world_die(&w);
            world_begin(&w);
        }
    }
    ck_assert(spilled && passed > 0 && held > 0 && deaths > 0);
    b->read_max = 0;
    world_settle(&w);
    ck_assert_uint_eq(b->sub[slot].delivered, sent);
    world_free(&w);
}
END_TEST

/* A router that died between the commit number and the positions: the next one stores them all. */
START_TEST(test_unfinished_commit) {
    setup();
    make_spill();
    struct ring_data *egress = w.router->link[1].egress_map.data;
    uint64_t owed = atomic_load(&egress->owed_pos), produced = atomic_load(&egress->produced_pos);
    const struct commit_link *e = &w.page->turn[w.router->commit_no & 1].link[1];
    ck_assert_uint_gt(owed, produced);
    ck_assert_uint_eq(owed, produced + (e->spill_produced - e->spill_consumed));
    atomic_store(&egress->owed_pos, owed - 8000);
    atomic_store(&w.page->done_no, w.router->commit_no - 1);
    world_die(&w);
    world_start(&w);
    egress = w.router->link[1].egress_map.data;
    ck_assert_uint_eq(atomic_load(&egress->owed_pos), owed);
    edge_read(b);
    ck_assert(!edge_fence_passes(b, b_conn));
    b->paused = false;
    while (!w.ready)
        world_step(&w);
    world_settle(&w);
    ck_assert_uint_eq(b->sub[slot].delivered, sent);
    ck_assert(edge_fence_passes(b, b_conn));
    world_free(&w);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("router fence");
    TCase *c = tcase_create("fence");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, test_overflow);
    tcase_add_loop_test(c, test_any_pace, 0, 8);
    tcase_add_test(c, test_unfinished_commit);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
