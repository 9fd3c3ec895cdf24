/* SPDX-License-Identifier: Apache-2.0 */
/* Full rings: who waits, who spills, who is ended, and that no order changes and nothing is lost meanwhile. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "tests/support/edge.h"
#include "tests/unit/unit.h"

enum { RING = 160 * 1024, PAYLOAD = 1000 };

#ifdef BULKHEAD_SANITIZED
enum { LARGE = 8000, FLOOD = 3000, DEATHS = 10 };
#else
enum { LARGE = 30000, FLOOD = 10000, DEATHS = 60 };
#endif

static struct world w;
static struct edge *a, *b, *c;
static uint32_t a_conn, b_conn, c_conn, b_slot, c_slot;
static uint8_t payload[64 * 1024];

/* Sequence numbers of a's connection, as they come to each slot. */
static uint32_t sent, last[EDGES_MAX], holes;

static void in_order(struct edge *e, uint32_t slot, const struct record *rec, struct view subject, struct view reply,
                     const uint8_t *at) {
    (void)slot, (void)subject, (void)reply;
    uint32_t seq;
    ck_assert_uint_ge(rec->payload_len, sizeof seq);
    memcpy(&seq, at, sizeof seq);
    holes += seq != last[e->number] + 1;
    last[e->number] = seq;
}

static void setup_sized(uint64_t spill_bytes) {
    world_make(&w, 3, RING, spill_bytes);
    world_begin(&w);
    a = &w.edge[0], b = &w.edge[1], c = &w.edge[2];
    a_conn = edge_connect(a, 1, RECORD_ECHO);
    b_conn = edge_connect(b, 1, RECORD_ECHO);
    c_conn = edge_connect(c, 1, RECORD_ECHO);
    b_slot = edge_subscribe(b, b_conn, "f", NULL, RECORD_NO_SLOT, 0);
    c_slot = edge_subscribe(c, c_conn, "f", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    b->delivered = c->delivered = in_order;
    sent = holes = 0;
    memset(last, 0, sizeof last);
}

static void teardown(void) {
    ck_assert_uint_eq(holes, 0);
    world_free(&w);
}

static void send_some(uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        sent++;
        memcpy(payload, &sent, sizeof sent);
        edge_pub(a, a_conn, "f", NULL, payload, PAYLOAD, 0);
    }
    edge_publish(a);
}

static uint64_t spilled(void) {
    return counter_get(w.counters, COUNTER_SPILLED);
}

static void steps(uint32_t n) {
    while (n-- > 0)
        world_step(&w);
}

START_TEST(test_waits_then_spills) {
    setup_sized(4 << 20);
    b->paused = true;
    send_some(120); /* more than b's ring takes, less than a's */
    steps(50);
    ck_assert_uint_eq(spilled(), 0);
    ck_assert_uint_lt(last[2], sent); /* c waits with it: the ring of a stands */
    world_pass(&w, 15);
    steps(5);
    ck_assert_uint_eq(spilled(), 0);
    world_pass(&w, 10);
    steps(50);
    ck_assert_uint_gt(spilled(), 0);
    ck_assert_uint_eq(last[2], sent); /* others go on */
    send_some(100);                   /* all of the overflow may have found room meanwhile */
    steps(50);
    world_pass(&w, 25);
    steps(50);
    ck_assert_uint_eq(last[2], sent);
    b->paused = false;
    send_some(10);
    world_settle(&w);
    ck_assert_uint_eq(last[1], sent);
    ck_assert(!b->bad && !w.router->link[1].spilling);
    ck_assert_uint_eq(w.router->spilling_count, 0);
    ck_assert_uint_eq(w.router->waiting_count, 0);
    /* What comes later goes straight through the ring. */
    uint64_t before = spilled();
    send_some(50);
    world_settle(&w);
    ck_assert_uint_eq(spilled(), before);
    teardown();
}
END_TEST

/* A source waits for one destination at most a share of any second. */
START_TEST(test_share_of_a_second) {
    setup_sized(16 << 20);
    b->paused = true;
    uint64_t begun = w.now;
    for (uint32_t i = 0; i < 300; i++) {
        send_some(20);
        steps(3);
        if (i % 4 == 0) { /* it takes a little, again and again: the ring is full most of the time */
            b->paused = false;
            b->read_max = 20;
            steps(1);
            b->paused = true;
        }
        w.now += 1000000;
    }
    ck_assert_uint_lt(w.now - begun, 900000000);
    ck_assert(!b->bad);
    ck_assert_uint_eq(last[2], sent); /* whoever reads has all, although b held a for a while */
    ck_assert_uint_gt(spilled(), 0);
    b->paused = false;
    b->read_max = 0;
    world_settle(&w);
    ck_assert_uint_eq(last[1], sent);
    teardown();
}
END_TEST

static void fill_overflow(void) {
    b->paused = true;
    send_some(120);
    steps(5);
    world_pass(&w, 25);
    send_some(200);
    steps(50);
    ck_assert_uint_gt(spilled(), 0);
}

/* The overflow outlives the router; what it holds comes before what is newer, ends of slots and connections too. */
START_TEST(test_overflow_survives_deaths) {
    setup_sized(4 << 20);
    uint32_t gone = edge_connect(b, 1, RECORD_ECHO), counted = edge_subscribe(b, b_conn, "f", NULL, RECORD_NO_SLOT, 0);
    uint32_t gone_slot = edge_subscribe(b, gone, "x", NULL, RECORD_NO_SLOT, 0);
    uint32_t ended = edge_subscribe(b, b_conn, "y", NULL, RECORD_NO_SLOT, 0);
    b->delivered = NULL; /* two slots get the same */
    world_settle(&w);
    fill_overflow();
    edge_unsub(b, b_conn, counted, 340, 0);
    edge_unsub(b, b_conn, ended, 0, 0);
    edge_close(b, gone);
    edge_publish(b);
    steps(20);
    ck_assert(w.router->link[1].spilling);
    ck_assert(ring_writer_refresh(&b->ingress));
    ck_assert_uint_eq(b->ingress.consumed_pos, b->ingress.head_pos);
    world_die(&w);
    world_start(&w);
    steps(3);
    if (_i) { /* dies again while it drains */
        b->paused = false;
        b->read_max = 10;
        steps(3);
        world_die(&w);
        world_start(&w);
    }
    b->paused = false;
    b->read_max = 0;
    while (!w.ready)
        world_step(&w);
    world_settle(&w);
    ck_assert(!b->bad);
    ck_assert_uint_eq(b->sub[b_slot].delivered, sent);
    ck_assert_uint_eq(b->sub[counted].delivered, sent);
    ck_assert(!b->sub[ended].used && !b->sub[gone_slot].used && !b->conn[gone].used);
    send_some(50);
    world_settle(&w);
    ck_assert(!b->sub[counted].used); /* at 340, not later */
    ck_assert_uint_eq(b->sub[b_slot].delivered, sent);
    ck_assert_uint_eq(b->delivered_count, sent + 340);
    teardown();
}
END_TEST

START_TEST(test_full_overflow_ends_the_edge) {
    setup_sized(256 * 1024);
    b->paused = true;
    send_some(120);
    steps(5);
    world_pass(&w, 25);
    for (int i = 0; i < 20 && !b->bad; i++) {
        send_some(50);
        steps(10);
    }
    ck_assert(b->bad && !a->bad && !c->bad);
    send_some(50);
    world_settle(&w);
    ck_assert_uint_eq(last[2], sent);
    ck_assert_uint_eq(counter_get(w.counters, COUNTER_LINKS_ENDED), 1);
    world_edge_down(&w, b);
    ck_assert_uint_eq(w.router->spilling_count, 0);
    ck_assert_uint_eq(counter_get(w.counters, COUNTER_SUBS), 1);
    teardown();
}
END_TEST

/* Slower than its publishers, but at work: half of its ring in each window. Its publishers are stalled, nobody ends it. */
START_TEST(test_busy_edge) {
    setup_sized(256 * 1024);
    b->read_max = 100;
    uint64_t deepest = 0;
    for (int i = 0; i < 60 * 20; i++) {
        ck_assert(ring_writer_refresh(&a->ingress));
        if (a->conn[a_conn].stalled_until != 0) {
            send_some(edge_stalled(a, a_conn) ? 0 : 1);
        } else {
            while (ring_room(&a->ingress) > 8 * PAYLOAD)
                send_some(1);
        }
        b->paused = i % 20 != 0;
        world_step(&w);
        w.now += 5000000;
        const struct spill *s = &w.router->link[1].spill;
        deepest = s->head_pos - s->tail_pos > deepest ? s->head_pos - s->tail_pos : deepest;
    }
    ck_assert(!b->bad && !a->bad && !c->bad);
    ck_assert_uint_gt(deepest, 32 * 1024);
    b->paused = false;
    b->read_max = 0;
    world_settle(&w);
    ck_assert_uint_eq(last[1], sent);
    ck_assert_uint_eq(last[2], sent);
    teardown();
}
END_TEST

/* How many messages another edge gets in a second and a half from a source that also sends as many as it can to b, or does
 * not. */
static uint32_t beside(uint8_t kind, bool also_b) {
    setup_sized(256 * 1024);
    c->delivered = NULL;
    world_edge_down(&w, a);
    world_edge_new(&w, 0, kind);
    a_conn = edge_connect(a, 1, RECORD_ECHO);
    edge_subscribe(c, c_conn, "by", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    b->read_max = 68; /* each 40 ms: half of its ring in 100 ms, but far less than comes */
    for (uint32_t i = 0; i < 750; i++) {
        ck_assert(ring_writer_refresh(&a->ingress));
        while (ring_room(&a->ingress) > 8 * PAYLOAD) {
            edge_pub(a, a_conn, "by", NULL, payload, PAYLOAD, 0);
            if (also_b)
                edge_pub(a, a_conn, "f", NULL, payload, PAYLOAD, 0);
            edge_publish(a);
        }
        b->paused = i % 20 != 0;
        world_step(&w);
        w.now += 2000000;
    }
    ck_assert(!a->bad && !c->bad);
    ck_assert(b->bad == also_b);
    uint32_t got = (uint32_t)c->delivered_count;
    world_settle(&w);
    world_free(&w);
    return got;
}

/* A source that does not stall when it is told to, or cannot be told, fills the overflow of a busy edge. Those who get other
 * messages from it do not wait for that edge for long. */
START_TEST(test_full_overflow_holds_nobody_for_long) {
    static const struct {
        uint8_t kind;
        uint32_t held_ms; /* with the time in which the ring was full at first, and some more */
    } cases[] = {{LINK_LEAFD, 250}, {LINK_FRONTEND, 700}};
    uint32_t alone = beside(cases[_i].kind, false), with_b = beside(cases[_i].kind, true);
    ck_assert_uint_ge(with_b,
                      (uint64_t)alone * (1500 - cases[_i].held_ms) / 1500 / 2); /* half of what a sends is for b */
    ck_assert_uint_gt(alone, 0);
}
END_TEST

START_TEST(test_edge_that_takes_nothing) {
    setup_sized(16 << 20);
    fill_overflow();
    world_pass(&w, 900);
    steps(10);
    ck_assert(!b->bad);
    world_pass(&w, 200);
    send_some(10);
    steps(10);
    ck_assert(b->bad && !a->bad && !c->bad);
    world_settle(&w);
    ck_assert_uint_eq(last[2], sent);
    teardown();
}
END_TEST

/* One that is merely idle, with a full ring of messages nobody waits behind, is not dead. */
START_TEST(test_edge_that_nobody_waits_for) {
    setup_sized(4 << 20);
    b->paused = true;
    send_some(60);
    steps(10);
    world_pass(&w, 5000);
    steps(10);
    ck_assert(!b->bad);
    b->paused = false;
    world_settle(&w);
    ck_assert_uint_eq(last[1], sent);
    teardown();
}
END_TEST

/* A few records now and then is progress, but nobody waits for it. */
START_TEST(test_trickle) {
    setup_sized(16 << 20);
    b->read_max = 1;
    uint64_t begun = w.now;
    for (int i = 0; i < 100; i++) {
        send_some(100);
        for (int k = 0; k < 40 && last[2] < sent; k++) {
            world_step(&w);
            w.now += 1000000;
            b->paused = k % 20 != 0;
        }
    }
    ck_assert(!b->bad);
    ck_assert_uint_ge(last[2] + 200, sent);
    ck_assert_uint_lt(w.now - begun, UINT64_C(2500000000));
    b->paused = false;
    b->read_max = 0;
    world_settle(&w);
    ck_assert_uint_eq(last[1], sent);
    teardown();
}
END_TEST

/* ---- floods of control records ---- */

START_TEST(test_forbidden_publishes_at_full_speed) {
    setup_sized(4 << 20);
    enum { MANY = 3 * FLOOD };
    a->paused = true; /* it is too busy writing to read */
    for (uint32_t i = 0; i < MANY; i++) {
        edge_pub(a, a_conn, "x", "_R_.forbidden", NULL, 0, 0);
        if (i % 500 == 0) {
            a->paused = false;
            world_step(&w);
            a->paused = i % 1000 == 0;
        }
        if (i % 100 == 0)
            edge_pub(b, b_conn, "g", NULL, NULL, 0, 0), edge_publish(b);
    }
    a->paused = false;
    world_settle(&w);
    ck_assert(!a->bad && !b->bad);
    ck_assert_uint_eq(a->conn[a_conn].deny_count, MANY);
    teardown();
}
END_TEST

START_TEST(test_sub_unsub_at_full_speed) {
    setup_sized(4 << 20);
    enum { MANY = 2 * FLOOD };
    for (uint32_t i = 0; i < MANY; i++) {
        char subject[32];
        snprintf(subject, sizeof subject, "s.%u.*", i);
        uint32_t slot = edge_subscribe(a, a_conn, subject, NULL, RECORD_NO_SLOT, 0);
        edge_unsub(a, a_conn, slot, 0, 0);
        a->paused = i % 700 < 400; /* never long enough to be dead */
        if (i % 700 == 600)
            w.now += 5000000;
    }
    a->paused = false;
    world_settle(&w);
    ck_assert(!a->bad && !b->bad);
    ck_assert_uint_eq(a->slot_free_total, MANY);
    teardown();
}
END_TEST

START_TEST(test_kicks_at_once) {
    setup_sized(4 << 20);
    enum { MANY = FLOOD };
    static uint32_t number[MANY];
    world_account(&w, 3, 0, 0);
    for (uint32_t i = 0; i < MANY; i++) {
        number[i] = edge_connect(a, 3, RECORD_ECHO);
        edge_subscribe(a, number[i], "k", NULL, RECORD_NO_SLOT, 0);
    }
    world_settle(&w);
    a->paused = true;
    world_floor(&w, 3, 0, w.serial + 1);
    send_some(50);
    steps(20);
    ck_assert(!a->bad);
    a->paused = false;
    world_settle(&w);
    ck_assert_uint_eq(a->kick_total, MANY);
    for (uint32_t i = 0; i < MANY; i++)
        edge_close(a, number[i]);
    world_settle(&w);
    ck_assert_uint_eq(a->conn_free_total, MANY);
    ck_assert_uint_eq(counter_get(w.counters, COUNTER_SUBS), 2);
    ck_assert_uint_eq(last[1], sent);
    teardown();
}
END_TEST

/* A connection with many subscriptions goes step by step, and what it had hears nothing more after its end. */
START_TEST(test_large_close) {
    setup_sized(4 << 20);
    enum { MANY = 2 * FLOOD };
    uint32_t n = edge_connect(b, 1, RECORD_ECHO);
    for (uint32_t i = 0; i < MANY; i++)
        edge_subscribe(b, n, i % 2 ? "f" : "f.*", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    b->delivered = NULL;
    edge_close(b, n);
    edge_publish(b);
    for (int i = 0; i < 20; i++) {
        send_some(2);
        steps(1);
    }
    if (_i) {
        world_die(&w);
        world_begin(&w);
    }
    world_settle(&w);
    ck_assert(!b->bad && !b->conn[n].used);
    ck_assert_uint_eq(counter_get(w.counters, COUNTER_SUBS), 2);
    teardown();
}
END_TEST

/* ---- fan-outs larger than a ring ---- */

/* Every slot once, in each of several messages, with routers that die in the middle. */
START_TEST(test_large_fanout) {
    setup_sized(8 << 20);
    enum { SLOTS = LARGE, MESSAGES = 3 };
    b->delivered = c->delivered = NULL;
    for (uint32_t i = 0; i < SLOTS; i++) {
        edge_subscribe(b, b_conn, i % 3 ? "wide" : "wide.>", NULL, RECORD_NO_SLOT, 0);
        edge_subscribe(c, c_conn, i % 2 ? "wide" : "*", "q", RECORD_NO_SLOT, 0);
    }
    for (uint32_t i = 0; i < SLOTS; i++)
        edge_subscribe(c, c_conn, "wide", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    struct rnd r = {env_number("ROUTER_PRESSURE_SEED", 5) + (uint64_t)_i};
    uint32_t deaths = 0;
    b->paused = _i == 1; /* once it also spills */
    for (uint32_t m = 0; m < MESSAGES; m++)
        edge_pub(a, a_conn, "wide", NULL, payload, 20000, _i % 2 ? RECORD_ANSWER : 0);
    edge_pub(a, a_conn, "f", NULL, payload, 4, 0);
    edge_publish(a);
    for (uint32_t i = 0; i < 4000; i++) {
        world_step(&w);
        if (_i == 1 && i == 40)
            world_pass(&w, 25);
        if (_i == 1 && i == 80)
            b->paused = false;
        if (_i == 2 && rnd_below(&r, 3) == 0 && deaths < DEATHS) {
            deaths++;
            c->paused = rnd_below(&r, 2);
            world_die(&w);
            world_begin(&w);
            c->paused = false;
        }
    }
    world_settle(&w);
    ck_assert(!a->bad && !b->bad && !c->bad);
    uint64_t queued = 0;
    for (uint32_t i = 0; i < b->sub_high; i++) {
        struct edge_sub *s = &b->sub[i];
        uint32_t want = s->subject_len == 4 ? MESSAGES : s->subject_len == 1 ? 1 : 0;
        ck_assert_msg(s->delivered == want, "slot %u of b got %u, not %u", i, s->delivered, want);
    }
    for (uint32_t i = 0; i < c->sub_high; i++) {
        struct edge_sub *s = &c->sub[i];
        queued += s->queue_len ? s->delivered : 0;
        uint32_t want = s->subject_len == 4 ? MESSAGES : 1;
        ck_assert_msg(s->queue_len || s->delivered == want, "slot %u of c got %u, not %u", i, s->delivered, want);
    }
    ck_assert_uint_eq(queued, MESSAGES + 1); /* "f" meets "*" */
    ck_assert_uint_eq(a->conn[a_conn].ok_count, _i % 2 ? MESSAGES : 0);
    teardown();
}
END_TEST

/* The fan-out's publisher is kicked, its targets end, while it is under way. */
START_TEST(test_fanout_whose_parts_end) {
    setup_sized(8 << 20);
    enum { SLOTS = LARGE };
    b->delivered = c->delivered = NULL;
    uint32_t n = edge_connect(c, 1, RECORD_ECHO);
    for (uint32_t i = 0; i < SLOTS; i++) {
        edge_subscribe(b, b_conn, "wide", NULL, RECORD_NO_SLOT, 0);
        edge_subscribe(c, n, "wide", NULL, RECORD_NO_SLOT, 0);
    }
    world_settle(&w);
    c->paused = true;
    edge_pub(a, a_conn, "wide", NULL, payload, 20000, 0);
    edge_pub(a, a_conn, "f", NULL, payload, 4, 0);
    edge_publish(a);
    steps(30);
    ck_assert(w.router->link[0].fanout.phase);
    uint64_t before = c->delivered_count;
    if (_i == 0) {
        admit_kick(w.router, &w.router->link[0], a_conn, RECORD_KICK_REVOKED);
    } else {
        edge_close(c, n);
        edge_publish(c);
    }
    c->paused = false;
    world_settle(&w);
    ck_assert(!a->bad && !b->bad && !c->bad);
    ck_assert(!w.router->link[0].fanout.phase);
    if (_i == 0)
        ck_assert_uint_lt(c->delivered_count, before + SLOTS);
    else
        ck_assert(!c->conn[n].used);
    ck_assert_uint_eq(b->sub[b_slot].delivered, _i == 0 ? 0 : 1);
    teardown();
}
END_TEST

/* The one target that is left when a new router goes on has been served already. */
START_TEST(test_fanout_of_which_one_target_is_left) {
    setup_sized(8 << 20);
    enum { SLOTS = LARGE };
    b->delivered = c->delivered = NULL;
    uint32_t first = edge_subscribe(b, b_conn, "wide", NULL, RECORD_NO_SLOT, 0);
    uint32_t slots[2] = {0, 0};
    for (uint32_t i = 0; i < SLOTS; i++) {
        uint32_t slot = edge_subscribe(c, c_conn, "wide", NULL, RECORD_NO_SLOT, 0);
        slots[i != 0] = slot;
    }
    world_settle(&w);
    c->paused = true;
    edge_pub(a, a_conn, "wide", NULL, payload, 20000, 0);
    edge_publish(a);
    steps(30);
    ck_assert(w.router->link[0].fanout.phase);
    c->paused = false;
    for (uint32_t i = slots[0]; i <= slots[1]; i++)
        edge_unsub(c, c_conn, i, 0, 0);
    /* a stands until they are all gone: its ring is not looked at while others are. */
    w.router->link[0].state = LINK_MAPPED;
    edge_publish(c);
    for (int i = 0; i < 3000; i++)
        world_step(&w);
    w.router->link[0].state = LINK_LIVE;
    world_die(&w);
    world_begin(&w);
    world_settle(&w);
    ck_assert_uint_eq(b->sub[first].delivered, 1);
    teardown();
}
END_TEST

/* ---- gates ---- */

START_TEST(test_gate) {
    setup_sized(4 << 20);
    const struct edge_conn *p = &a->conn[a_conn];
    send_some(1);
    world_settle(&w);
    ck_assert_uint_eq(p->stall_count, 0);
    edge_gate(b, b_conn, true);
    world_settle(&w);
    send_some(3);
    world_settle(&w);
    ck_assert_uint_eq(p->stall_count, 1); /* once while it lasts */
    world_pass(&w, 101);
    send_some(1);
    world_settle(&w);
    ck_assert_uint_eq(p->stall_count, 2);
    edge_gate(b, b_conn, false);
    world_settle(&w);
    ck_assert_uint_eq(p->resume_count, 1);
    send_some(5);
    world_settle(&w);
    ck_assert_uint_eq(p->stall_count, 2);
    /* A new router knows the gate, and forgets the stall. */
    edge_gate(b, b_conn, true);
    world_settle(&w);
    send_some(1);
    world_settle(&w);
    ck_assert_uint_eq(p->stall_count, 3);
    world_die(&w);
    world_begin(&w);
    send_some(1);
    world_settle(&w);
    ck_assert_uint_eq(p->stall_count, 4);
    /* The gated connection ends: its publishers are let go. */
    uint32_t before = p->resume_count;
    edge_close(b, b_conn);
    world_settle(&w);
    ck_assert_uint_eq(p->resume_count, before + 1);
    send_some(1);
    world_settle(&w);
    ck_assert(!a->bad && !b->bad);
    w.edge[1].delivered = NULL;
    teardown();
}
END_TEST

/* Time goes on, with a message each 25 ms that its edge reads the publisher. Returns how many were sent. */
static uint32_t send_when_allowed(uint32_t ms, bool drains) {
    uint32_t before = sent;
    for (uint32_t i = 0; i < ms / 25; i++) {
        if (drains && i % 8 == 0)
            edge_drains(b, b_conn);
        if (!edge_stalled(a, a_conn))
            send_some(1);
        world_settle(&w);
        world_pass(&w, 25);
    }
    return sent - before;
}

/* One that takes what it gets sets the pace for as long as it does so, far beyond the write deadline. */
START_TEST(test_gate_of_one_that_drains) {
    setup_sized(4 << 20);
    w.router->settings.write_deadline_ms = 2000;
    edge_gate(b, b_conn, true);
    world_settle(&w);
    uint32_t got = send_when_allowed(4000, true); /* one in 100 ms at first, one in a second at last */
    ck_assert_uint_ge(got, 7);
    ck_assert_uint_le(got, 25);
    got = send_when_allowed(20000, true);
    ck_assert_uint_ge(got, 19);
    ck_assert_uint_le(got, 21);
    teardown();
}
END_TEST

/* One that takes nothing makes its publishers stand longer and longer, for the write deadline and a second. */
START_TEST(test_gate_of_one_that_takes_nothing) {
    setup_sized(4 << 20);
    w.router->settings.write_deadline_ms = 10000;
    edge_gate(b, b_conn, true);
    world_settle(&w);
    ck_assert_uint_le(send_when_allowed(1000, false), 8);
    ck_assert_uint_le(send_when_allowed(10000, false), 11);
    send_when_allowed(1000, false);
    ck_assert_uint_eq(send_when_allowed(5000, false), 200);
    /* It drains: its publishers stand again. */
    edge_drains(b, b_conn);
    world_settle(&w);
    ck_assert_uint_le(send_when_allowed(1000, false), 8);
    ck_assert(!a->bad && !b->bad);
    teardown();
}
END_TEST

/* Each event lets those go on that it concerns, whoever ends first. */
START_TEST(test_who_is_stalled_for_whom) {
    setup_sized(4 << 20);
    enum { MANY = 300 };
    b->delivered = c->delivered = NULL;
    uint32_t publisher[MANY], other = edge_connect(b, 1, RECORD_ECHO), third = edge_connect(c, 1, RECORD_ECHO);
    uint32_t reader[3] = {b_conn, other, third};
    edge_subscribe(b, b_conn, "r0", NULL, RECORD_NO_SLOT, 0);
    edge_subscribe(b, other, "r1", NULL, RECORD_NO_SLOT, 0);
    edge_subscribe(c, third, "r2", NULL, RECORD_NO_SLOT, 0);
    for (uint32_t i = 0; i < 3; i++)
        edge_gate(i < 2 ? b : c, reader[i], true);
    for (uint32_t i = 0; i < MANY; i++)
        publisher[i] = edge_connect(a, 1, RECORD_ECHO);
    world_settle(&w);
    for (uint32_t i = 0; i < MANY; i++)
        edge_pub(a, publisher[i], i % 3 == 0 ? "r0" : i % 3 == 1 ? "r1" : "r2", NULL, payload, 10, 0);
    edge_publish(a);
    world_settle(&w);
    for (uint32_t i = 0; i < MANY; i += 2)
        edge_close(a, publisher[i]);
    edge_gate(b, b_conn, false);
    world_settle(&w);
    for (uint32_t i = 1; i < MANY; i += 2)
        ck_assert_uint_eq(a->conn[publisher[i]].resume_count, i % 3 == 0);
    edge_close(b, other);
    world_settle(&w);
    for (uint32_t i = 1; i < MANY; i += 2)
        ck_assert_uint_eq(a->conn[publisher[i]].resume_count, i % 3 != 2);
    world_edge_down(&w, c);
    world_settle(&w);
    for (uint32_t i = 1; i < MANY; i += 2)
        ck_assert_uint_eq(a->conn[publisher[i]].resume_count, 1);
    world_edge_down(&w, a);
    ck_assert_uint_eq(w.router->link[1].gated_count, 0);
    world_free(&w);
}
END_TEST

/* GATE on above consumed is not in the replay, GATE off above consumed is. */
START_TEST(test_gate_as_of_consumed) {
    setup_sized(4 << 20);
    const struct edge_conn *p = &a->conn[a_conn];
    edge_gate(b, b_conn, true);
    world_settle(&w);
    world_die(&w);
    edge_gate(b, b_conn, false);
    send_some(1);
    edge_publish(b);
    world_begin(&w);
    ck_assert(link_conn(&w.router->link[1], b_conn)->gated);
    world_settle(&w);
    ck_assert(!link_conn(&w.router->link[1], b_conn)->gated);
    ck_assert_uint_eq(w.router->link[1].gated_count, 0);
    ck_assert_uint_eq(p->stall_count, p->resume_count);
    teardown();
}
END_TEST

/* Only client connections are stalled. */
START_TEST(test_gate_against_servers) {
    setup_sized(4 << 20);
    world_edge_down(&w, a);
    world_edge_new(&w, 0, LINK_LEAFD);
    a_conn = edge_connect(a, 1, RECORD_ECHO);
    edge_gate(b, b_conn, true);
    world_settle(&w);
    send_some(3);
    world_settle(&w);
    ck_assert_uint_eq(a->conn[a_conn].stall_count, 0);
    teardown();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("router pressure");
    TCase *t = tcase_create("pressure");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, test_waits_then_spills);
    tcase_add_test(t, test_share_of_a_second);
    tcase_add_loop_test(t, test_overflow_survives_deaths, 0, 2);
    tcase_add_test(t, test_full_overflow_ends_the_edge);
    tcase_add_test(t, test_busy_edge);
    tcase_add_loop_test(t, test_full_overflow_holds_nobody_for_long, 0, 2);
    tcase_add_test(t, test_edge_that_takes_nothing);
    tcase_add_test(t, test_edge_that_nobody_waits_for);
    tcase_add_test(t, test_trickle);
    tcase_add_test(t, test_forbidden_publishes_at_full_speed);
    tcase_add_test(t, test_sub_unsub_at_full_speed);
    tcase_add_test(t, test_kicks_at_once);
    tcase_add_loop_test(t, test_large_close, 0, 2);
    tcase_add_loop_test(t, test_large_fanout, 0, 3);
    tcase_add_loop_test(t, test_fanout_whose_parts_end, 0, 2);
    tcase_add_test(t, test_fanout_of_which_one_target_is_left);
    tcase_add_test(t, test_gate);
    tcase_add_test(t, test_gate_of_one_that_drains);
    tcase_add_test(t, test_gate_of_one_that_takes_nothing);
    tcase_add_test(t, test_who_is_stalled_for_whom);
    tcase_add_test(t, test_gate_as_of_consumed);
    tcase_add_test(t, test_gate_against_servers);
    suite_add_tcase(suite, t);
    return unit_run(suite);
}
