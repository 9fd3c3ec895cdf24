/* SPDX-License-Identifier: Apache-2.0 */
/* An edge that is lost: it writes what it likes, when it likes, while the router looks.
 *
 * A thread changes bytes of records in the ingress ring between names that may be published and names that may not, clean
 * ones and such that would end a protocol line; nothing must ever be delivered on a name that was not checked. And random
 * bytes go wherever an edge may write. The honest neighbour's link lives through all of it.
 */
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "nats/proto.h"
#include "nats/subject.h"
#include "tests/support/edge.h"
#include "tests/unit/unit.h"

static struct world w;
static struct edge *a, *b; /* a is lost */
static uint32_t conn, b_conn;
static uint64_t delivered_good, checked_replies;

static void setup(void) {
    world_make(&w, 2, 256 * 1024, 1 << 20);
    world_account(&w, 2, 0, 0);
    world_begin(&w);
    a = &w.edge[0], b = &w.edge[1];
    conn = edge_connect(a, 1, RECORD_ECHO);
    b_conn = edge_connect(b, 1, RECORD_ECHO);
    edge_subscribe(b, b_conn, ">", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    delivered_good = 0;
}

static void teardown(void) {
    ck_assert(!b->bad);
    world_free(&w);
}

/* ---- flipping ---- */

/* Both have ten bytes; every mixture of the two lies in the ring at some moment. */
static const char *const pairs[]
                              [2] = {
                                  {"_GX_.abcde", "_GR_.abcde"}, /* reserved */
                                  {"fo.bar.baz", "fo bar.baz"},  {"fo.bar.baz", "fo\rbar.baz"},
                                  {"fo.bar.baz", "fo\nbar.baz"}, {"fo.bar.baz", "fo\tbar.baz"},
                                  {"aaaaaaaaaa", "bbbbbbbbbb"}, /* both allowed: one of them or a mixture, and matched as that */
};
enum { PAIRS = sizeof pairs / sizeof *pairs };

static _Atomic bool flipping;
static char *flipped;
static const char *const *flip_pair;

static void *flip(void *unused) {
    (void)unused;
    for (int i = 0; atomic_load(&flipping); i ^= 1)
        for (int k = 0; k < 10; k++)
            ((volatile char *)flipped)[k] = flip_pair[i][k];
    return NULL;
}

static void verify(struct edge *e, uint32_t slot, const struct record *rec, struct view subject, struct view reply,
                   const uint8_t *payload) {
    (void)payload, (void)rec;
    delivered_good++;
    ck_assert(!(view_starts(subject, VIEW(PROTO_GATEWAY_REPLY)) && subject.len > 5));
    ck_assert(!(view_starts(reply, VIEW(PROTO_GATEWAY_REPLY)) && reply.len > 5));
    ck_assert(subject_is_clean(subject) && subject_is_clean(reply));
    /* Only who asked for it gets it. */
    const struct edge_sub *s = &e->sub[slot];
    ck_assert(subject_matches(view_of(s->text, s->subject_len), subject));
    checked_replies += reply.len != 0;
}

/* The name at that place of the record flips while the router takes it, many times over. */
static void flip_rounds(const char *const *pair, bool reply, uint64_t ms) {
    flip_pair = pair;
    b->delivered = verify;
    pthread_t thread;
    uint64_t until = clock_mono_ms() + ms;
    for (uint32_t round = 0; clock_mono_ms() < until; round++) {
        if (a->bad) {
            world_edge_down(&w, a);
            world_edge_new(&w, 0, LINK_FRONTEND);
            conn = edge_connect(a, 1, RECORD_ECHO);
            world_settle(&w);
        }
        /* 200 records share no bytes; the thread works on one in the middle. */
        struct record rec = {.type = RECORD_PUB, .conn = conn, .payload_len = 8};
        uint64_t at = 0;
        for (int i = 0; i < 40; i++) {
            if (i == 20)
                at = a->ingress.head_off;
            edge_put(a, &rec, NULL, 0, reply ? VIEW("x") : view_of(pair[0], 10),
                     reply ? view_of(pair[0], 10) : (struct view){0}, "payload");
        }
        flipped = (char *)a->ingress.area + at + RECORD_HEADER + reply;
        atomic_store(&flipping, true);
        pthread_create(&thread, NULL, flip, NULL);
        for (volatile int spin = (int)(round * 37 % 20000); spin > 0; spin--)
            ;
        edge_publish(a);
        for (int i = 0; i < 6; i++)
            world_step(&w);
        atomic_store(&flipping, false);
        pthread_join(thread, NULL);
    }
}

START_TEST(test_names_flip) {
    setup();
    edge_subscribe(b, b_conn, "aaaaaaaaaa", NULL, RECORD_NO_SLOT, 0);
    edge_subscribe(b, b_conn, "bbbbbbbbbb", NULL, RECORD_NO_SLOT, 0);
    flip_rounds(pairs[_i / 2], _i % 2, 250);
    ck_assert_uint_gt(delivered_good, 0);
    teardown();
}
END_TEST

/* A fan-out that takes several turns goes on with what was checked in the first, whatever the record has become. */
static struct record fanout_before;

/* clang-format off */
static void become_dirty(uint8_t *at) { memcpy(at + RECORD_HEADER, "w\r\ne", 4); }
static void become_reserved(uint8_t *at) { memcpy(at + RECORD_HEADER, "_GR_.x.x.x", 10); }
static void become_other_subject(uint8_t *at) { memcpy(at + RECORD_HEADER, "other.name", 10); }
/* clang-format on */
static void become_other_connection(uint8_t *at) {
    struct record rec = fanout_before;
    rec.conn = conn + 1;
    memcpy(at, &rec, sizeof rec);
}
static void become_longer(uint8_t *at) {
    struct record rec = fanout_before;
    rec.payload_len += 4096, rec.len += 4096;
    memcpy(at, &rec, sizeof rec);
}
static void become_close(uint8_t *at) {
    struct record rec = {.type = RECORD_CLOSE, .conn = conn, .len = RECORD_HEADER};
    memcpy(at, &rec, sizeof rec);
}
/* clang-format off */
static void become_garbage(uint8_t *at) { memset(at, 0xff, RECORD_HEADER); }
/* clang-format on */
static void become_headed(uint8_t *at) {
    struct record rec = fanout_before;
    rec.aux = 4000;
    memcpy(at, &rec, sizeof rec);
}

static const struct {
    const char *name;
    void (*change)(uint8_t *at);
} changes[] = {{"dirty", become_dirty},
               {"reserved", become_reserved},
               {"another subject", become_other_subject},
               {"another connection", become_other_connection},
               {"longer", become_longer},
               {"CLOSE", become_close},
               {"garbage", become_garbage},
               {"with a header", become_headed}};

static void verify_wide(struct edge *e, uint32_t slot, const struct record *rec, struct view subject, struct view reply,
                        const uint8_t *payload) {
    (void)e, (void)slot, (void)payload;
    if (view_equal(subject, VIEW("next")))
        return;
    ck_assert_msg(view_equal(subject, VIEW("wide.wide.")) || view_equal(subject, VIEW("wide.wide1")),
                  "delivered as %.*s", (int)subject.len, subject.at);
    ck_assert_uint_eq(reply.len, 0);
    ck_assert_uint_eq(rec->payload_len, 20000);
    ck_assert_uint_eq(rec->aux, 0);
}

START_TEST(test_fanout_changes) {
    setup();
    static uint8_t payload[20000];
    enum { SLOTS = 20000 };
    uint32_t foreign = edge_connect(a, 2, RECORD_ECHO); /* what comes after conn, in another account */
    ck_assert_uint_eq(foreign, conn + 1);
    for (uint32_t i = 0; i < SLOTS; i++)
        edge_subscribe(b, b_conn, "wide.wide1", NULL, RECORD_NO_SLOT, 0);
    uint32_t theirs = edge_subscribe(a, foreign, ">", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    b->delivered = verify_wide;
    b->paused = true;
    uint8_t *at = ring_head(&a->ingress);
    edge_pub(a, conn, "wide.wide1", NULL, payload, sizeof payload, 0);
    edge_pub(a, conn, "next", NULL, "1", 1, 0);
    memcpy(&fanout_before, at, sizeof fanout_before);
    edge_publish(a);
    for (int i = 0; i < 30; i++)
        world_step(&w);
    ck_assert(w.router->link[0].fanout.phase);
    changes[_i].change(at);
    b->paused = false;
    for (int i = 0; i < 3000; i++)
        world_step(&w);
    ck_assert_uint_eq(a->sub[theirs].delivered, 0);
    uint64_t all = 0;
    for (uint32_t i = 0; i < b->sub_high; i++)
        if (b->sub[i].subject_len == 10)
            all += b->sub[i].delivered;
    ck_assert_msg(all == SLOTS, "%s: %llu targets", changes[_i].name, (unsigned long long)all);
    ck_assert(!w.router->link[0].fanout.phase);
    teardown();
}
END_TEST

/* ---- garbage ---- */

static void scribble(struct rnd *r, void *to, size_t bytes) {
    uint8_t *at = to;
    for (uint32_t n = 1 + rnd_below(r, 64); n > 0; n--)
        at[rnd_below(r, (uint32_t)bytes)] = (uint8_t)(rnd_below(r, 3) ? rnd_next(r) : rnd_below(r, 4) * 85);
}

/* Records that are nearly good, then scribbled upon; positions that jump. */
START_TEST(test_garbage) {
    setup();
    b->delivered = verify;
    struct rnd r = {env_number("ROUTER_HOSTILE_SEED", 1)};
    uint64_t until = clock_mono_ms() + 1000 * env_number("ROUTER_HOSTILE_SECONDS", 2), ended = 0, rounds = 0;
    a->hostile = true;
    for (; clock_mono_ms() < until; rounds++) {
        if (a->bad) {
            ended++;
            world_edge_down(&w, a);
            world_edge_new(&w, 0, LINK_FRONTEND);
            a->hostile = true;
            conn = edge_connect(a, 1, RECORD_ECHO);
            edge_publish(a);
        }
        uint64_t from = a->ingress.head_off;
        for (uint32_t n = rnd_below(&r, 12); n > 0; n--) {
            uint32_t number = rnd_below(&r, 4);
            switch (rnd_below(&r, 7)) {
            case 0: {
                struct binding bound = edge_binding(a, number, 1 + rnd_below(&r, 2));
                bound.generation = 1 + rnd_below(&r, 1000);
                binding_seal(&bound, &w.key);
                struct record rec = {.type = RECORD_BIND, .conn = number, .payload_len = sizeof bound};
                edge_put(a, &rec, NULL, 0, (struct view){0}, (struct view){0}, &bound);
                break;
            }
            case 1: {
                struct record_sub fixed = {rnd_below(&r, 20), rnd_below(&r, 20), 0, 0};
                struct record rec = {.type = RECORD_SUB, .conn = number};
                edge_put(a, &rec, &fixed, sizeof fixed, VIEW("a.*"), rnd_below(&r, 2) ? VIEW("q") : (struct view){0},
                         NULL);
                break;
            }
            case 2: {
                struct record_unsub fixed = {rnd_below(&r, 20), rnd_below(&r, 3)};
                struct record rec = {.type = RECORD_UNSUB, .conn = number};
                edge_put(a, &rec, &fixed, sizeof fixed, (struct view){0}, (struct view){0}, NULL);
                break;
            }
            case 3: {
                struct record rec = {.type = RECORD_CLOSE, .conn = number};
                edge_put(a, &rec, NULL, 0, (struct view){0}, (struct view){0}, NULL);
                break;
            }
            default: {
                struct record rec = {.type = RECORD_PUB, .conn = conn, .payload_len = 8};
                edge_put(a, &rec, NULL, 0, VIEW("a.b"), VIEW("r.s"), "payload");
            }
            }
        }
        uint64_t bytes = a->ingress.head_pos - a->ingress.produced_pos;
        if (bytes > 0 && rnd_below(&r, 3) == 0)
            scribble(&r, a->ingress.area + from, bytes); /* the area is mapped twice: no end to mind */
        edge_publish(a);
        if (rnd_below(&r, 50) == 0) {
            atomic_store(&a->ingress.data->produced_pos, a->ingress.produced_pos + (rnd_next(&r) >> rnd_below(&r, 64)));
            a->paused = true;
        }
        if (rnd_below(&r, 50) == 0) {
            atomic_store(&((struct ring_credit *)a->egress_map.credit)->consumed_pos,
                         rnd_next(&r) >> rnd_below(&r, 64));
            a->paused = true;
        }
        if (rnd_below(&r, 20) == 0)
            scribble(&r, (uint8_t *)a->ingress.data + 64, 64); /* sleep numbers */
        for (uint32_t n = rnd_below(&r, 4); n > 0; n--) {
            world_step(&w);
            if (rnd_below(&r, 8) == 0)
                a->paused = true;
        }
        edge_pub(b, b_conn, "a.honest", NULL, "1", 1, 0);
        edge_publish(b);
        ck_assert(!b->bad);
        if (a->paused && !a->bad && rnd_below(&r, 4) == 0)
            world_pass(&w, 1200);
    }
    ck_assert_uint_gt(ended, 3);
    ck_assert_uint_gt(delivered_good, rounds / 2);
    printf("%llu rounds, %llu links ended\n", (unsigned long long)rounds, (unsigned long long)ended);
    teardown();
}
END_TEST

/* The same in a replay. */
START_TEST(test_garbage_replay) {
    struct rnd r = {env_number("ROUTER_HOSTILE_SEED", 1)};
    uint32_t ended = 0;
    for (int round = 0; round < 80; round++) {
        setup();
        for (int i = 0; i < 5; i++)
            edge_subscribe(a, conn, "a.>", i % 2 ? "q" : NULL, RECORD_NO_SLOT, 0);
        world_settle(&w);
        world_die(&w);
        w.settings.replay_ms = 5;
        world_start(&w);
        while (!w.recovered) { /* the edges replay when they hear it */
            free(a->snapshot);
            a->snapshot = NULL;
            world_edges_step(&w);
        }
        scribble(&r, a->replay.area, 1024);
        if (rnd_below(&r, 4) == 0)
            atomic_store(&a->replay.data->produced_pos, rnd_next(&r) >> rnd_below(&r, 64));
        a->paused = a->hostile = true;
        uint64_t until = clock_mono_ms() + 5000;
        while (!w.ready && clock_mono_ms() < until) {
            w.now = clock_mono_ns();
            world_step(&w);
        }
        ck_assert(w.ready && !b->bad);
        ended += a->bad;
        edge_pub(b, b_conn, "a.honest", NULL, "1", 1, 0);
        for (int i = 0; i < 3; i++) {
            edge_publish(b);
            world_step(&w);
        }
        ck_assert(!b->bad);
        ck_assert_uint_ge(b->delivered_count, 1);
        teardown();
    }
    ck_assert_uint_gt(ended, 10);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("router and a hostile edge");
    TCase *c = tcase_create("hostile");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, test_names_flip, 0, 2 * PAIRS);
    tcase_add_loop_test(c, test_fanout_changes, 0, (int)(sizeof changes / sizeof *changes));
    tcase_add_test(c, test_garbage);
    tcase_add_test(c, test_garbage_replay);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
