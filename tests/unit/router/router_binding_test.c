/* SPDX-License-Identifier: Apache-2.0 */
/* Sealed bindings: what is refused is refused by KICK, the link lives, and nothing more of that connection is accepted. */
#include <check.h>
#include <stdlib.h>

#include "tests/support/edge.h"
#include "tests/unit/unit.h"

static struct world w;
static struct edge *a, *b;
static uint32_t b_conn, watch;

static void setup(void) {
    world_make(&w, 2, 256 * 1024, 1 << 20);
    world_account(&w, 2, 2, 0);
    world_begin(&w);
    a = &w.edge[0], b = &w.edge[1];
    b_conn = edge_number(b);
    struct binding x = edge_binding(b, b_conn, 1);
    x.serial = UINT64_C(1) << 40; /* above every floor of these tests */
    x.principal = 3;
    binding_seal(&x, &w.key);
    edge_bind(b, b_conn, &x);
    edge_options(b, b_conn, RECORD_ECHO);
    watch = edge_subscribe(b, b_conn, ">", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
}

static void teardown(void) {
    world_free(&w);
}

static void new_router(void) {
    world_die(&w);
    world_begin(&w);
    world_settle(&w);
}

/* Sends things on that connection; true if it was let in with them. */
static bool speaks(uint32_t n, uint32_t account) {
    uint32_t before = b->sub[watch].delivered;
    edge_pub(a, n, "said", NULL, "1", 1, 0);
    uint32_t slot = edge_subscribe(a, n, "heard", NULL, RECORD_NO_SLOT, 0);
    edge_pub(b, b_conn, "other", NULL, "1", 1, 0);
    world_settle(&w);
    ck_assert(!a->bad && !b->bad);
    bool said = account == 1 && b->sub[watch].delivered == before + 2;
    bool heard = a->sub[slot].used;
    ck_assert(account != 1 || said == heard);
    if (heard) {
        edge_unsub(a, n, slot, 0, 0);
        world_settle(&w);
    }
    return heard;
}

static void expect_refused(uint32_t n, const char *what) {
    bool in = speaks(n, 1);
    ck_assert_msg(!in && a->conn[n].kick_count >= 1, "%s is let in", what);
    ck_assert_msg(a->conn[n].kick_count == 1, "%s is kicked %u times", what, a->conn[n].kick_count);
    ck_assert_uint_eq(a->conn[n].kick, RECORD_KICK_BINDING);
    new_router(); /* which is shown it again, in a replay */
    ck_assert_msg(!speaks(n, 1), "%s is let in by a new router", what);
    edge_close(a, n);
    world_settle(&w);
    ck_assert(!a->conn[n].used);
    ck_assert_uint_eq(w.router->account[1]->conn_count, 1);
    ck_assert_uint_eq(counter_get(w.counters, COUNTER_CONNS), 1);
}

START_TEST(test_each_byte) {
    setup();
    for (size_t i = 0; i < sizeof(struct binding); i++) {
        uint32_t n = edge_number(a);
        struct binding forged = edge_binding(a, n, 1);
        ((uint8_t *)&forged)[i] ^= (uint8_t)(1u << (i % 8));
        edge_bind(a, n, &forged);
        bool in = speaks(n, 1);
        ck_assert_msg(!in && a->conn[n].kick == RECORD_KICK_BINDING, "byte %zu can be changed", i);
        edge_close(a, n);
        world_settle(&w);
    }
    teardown();
}
END_TEST

START_TEST(test_lengths) {
    setup();
    static const uint32_t lens[] = {0, 1, sizeof(struct binding) - 1, sizeof(struct binding) + 1,
                                    2 * sizeof(struct binding)};
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        uint32_t n = edge_number(a);
        uint8_t bytes[2 * sizeof(struct binding)] = {0};
        struct binding good = edge_binding(a, n, 1);
        memcpy(bytes, &good, sizeof good);
        a->conn[n].binding = good;
        struct record rec = {.type = RECORD_BIND, .conn = n, .payload_len = lens[i]};
        edge_put(a, &rec, NULL, 0, (struct view){0}, (struct view){0}, bytes);
        ck_assert(!speaks(n, 1));
        edge_close(a, n);
        world_settle(&w);
    }
    teardown();
}
END_TEST

/* Honestly sealed, but not for this. */
/* clang-format off */
static void other_link(struct binding *x) { x->link = 1; }
static void other_incarnation(struct binding *x) { x->incarnation++; }
static void other_kind(struct binding *x) { x->kind = LINK_GATEWAYD; }
static void other_conn(struct binding *x) { x->conn++; }
static void expired(struct binding *x) { x->expires_s = w.wall - 1; }
static void expires_now(struct binding *x) { x->expires_s = w.wall; }
static void account_unknown(struct binding *x) { x->account = 9; }
static void account_zero(struct binding *x) { x->account = 0; }
static void account_huge(struct binding *x) { x->account = UINT32_MAX; }
static void generation_zero(struct binding *x) { x->generation = 0; }
/* clang-format on */

static const struct {
    const char *name;
    void (*change)(struct binding *b);
} unfit[] = {{"another link", other_link},
             {"another incarnation", other_incarnation},
             {"another kind", other_kind},
             {"another connection", other_conn},
             {"an expired one", expired},
             {"one that expires now", expires_now},
             {"an unknown account", account_unknown},
             {"account 0", account_zero},
             {"a huge account", account_huge},
             {"generation 0", generation_zero}};

START_TEST(test_unfit) {
    setup();
    uint32_t n = edge_number(a);
    struct binding x = edge_binding(a, n, 1);
    unfit[_i].change(&x);
    binding_seal(&x, &w.key);
    edge_bind(a, n, &x);
    expect_refused(n, unfit[_i].name);
    teardown();
}
END_TEST

START_TEST(test_key) {
    setup();
    uint32_t n = edge_number(a);
    struct binding x = edge_binding(a, n, 1);
    struct binding_key key = w.key;
    key.number++;
    binding_seal(&x, &key);
    edge_bind(a, n, &x);
    expect_refused(n, "another key's number");
    n = edge_number(a);
    x = edge_binding(a, n, 1);
    key = w.key;
    key.key[31] ^= 1;
    binding_seal(&x, &key);
    edge_bind(a, n, &x);
    expect_refused(n, "another key");
    teardown();
}
END_TEST

/* A login that has ended does not come back: not in this router's life, not in the next one's. */
START_TEST(test_after_close) {
    for (int deaths = 0; deaths <= 2; deaths++) {
        setup();
        uint32_t n = edge_connect(a, 1, RECORD_ECHO);
        struct binding stored = a->conn[n].binding;
        ck_assert(speaks(n, 1));
        edge_close(a, n);
        world_settle(&w);
        for (int i = 0; i < deaths; i++)
            new_router();
        /* The same once more, and the same generation under a fresh serial. */
        for (int i = 0; i < 2; i++) {
            ck_assert_uint_eq(edge_number(a), n);
            if (i) {
                stored.serial = ++w.serial;
                binding_seal(&stored, &w.key);
            }
            edge_bind(a, n, &stored);
            expect_refused(n, "a login that was closed");
        }
        /* The next generation is another login. */
        uint32_t next = edge_number(a);
        ck_assert_uint_eq(next, n);
        struct binding fresh = edge_binding(a, n, 1);
        edge_bind(a, n, &fresh);
        ck_assert(speaks(n, 1));
        teardown();
    }
}
END_TEST

/* The CLOSE was handled by a router that died before it committed, once or twice: the login goes on until it is. */
START_TEST(test_close_not_committed) {
    setup();
    uint32_t n = edge_connect(a, 1, RECORD_ECHO);
    world_settle(&w);
    edge_pub(a, n, "before", NULL, "1", 1, 0);
    edge_close(a, n);
    edge_publish(a);
    for (int i = 0; i < 3; i++) {
        struct link *l = &w.router->link[0];
        admit_close(w.router, l, n, link_conn(l, n)); /* a turn that comes to nothing */
        world_die(&w);
        world_begin(&w);
        ck_assert_uint_eq(a->conn[n].kick_count, 0);
        world_die(&w); /* the takeover was committed, the records not */
        world_begin(&w);
        ck_assert_uint_eq(a->conn[n].kick_count, 0);
        if (i < 2) {
            struct conn *c = link_conn(&w.router->link[0], n);
            ck_assert(c && c->state == CONN_BOUND);
        }
    }
    uint32_t before = b->sub[watch].delivered;
    world_settle(&w);
    ck_assert_uint_eq(b->sub[watch].delivered, before + 1);
    ck_assert(!a->conn[n].used);
    teardown();
}
END_TEST

START_TEST(test_serial) {
    setup();
    uint32_t n = edge_number(a);
    struct binding older = edge_binding(a, n, 1);
    edge_close(a, n); /* never bound: nothing of this was sent */
    teardown();
    setup();
    n = edge_connect(a, 1, RECORD_ECHO);
    world_settle(&w);
    edge_close(a, n);
    world_settle(&w);
    ck_assert_uint_eq(edge_number(a), n);
    struct binding x = edge_binding(a, n, 1);
    x.serial = older.serial; /* a higher generation, an older serial */
    binding_seal(&x, &w.key);
    edge_bind(a, n, &x);
    world_settle(&w);
    ck_assert_uint_eq(a->conn[n].kick, RECORD_KICK_BINDING);
    teardown();
}
END_TEST

START_TEST(test_expiry_by_timer) {
    setup();
    uint32_t n = edge_number(a), lasting = edge_connect(a, 1, RECORD_ECHO);
    struct binding x = edge_binding(a, n, 1);
    x.expires_s = w.wall + 5;
    binding_seal(&x, &w.key);
    edge_bind(a, n, &x);
    ck_assert(speaks(n, 1));
    new_router();
    world_pass(&w, 4000);
    ck_assert(speaks(n, 1));
    world_pass(&w, 3000);
    world_settle(&w);
    ck_assert_uint_eq(a->conn[n].kick_count, 1);
    ck_assert_uint_eq(a->conn[n].kick, RECORD_KICK_EXPIRED);
    ck_assert(!speaks(n, 1) && speaks(lasting, 1));
    teardown();
}
END_TEST

/* A floor that is written later, for all of the account or for one of its users. */
START_TEST(test_floor) {
    for (uint32_t principal = 0; principal < 2; principal++) {
        setup();
        uint32_t n[3];
        struct binding x[3];
        for (int i = 0; i < 3; i++) {
            n[i] = edge_number(a);
            x[i] = edge_binding(a, n[i], 1);
            x[i].principal = i == 2 ? 2 : 1;
            binding_seal(&x[i], &w.key);
            edge_bind(a, n[i], &x[i]);
            ck_assert(speaks(n[i], 1));
        }
        world_floor(&w, 1, principal, x[1].serial); /* the first is below, the second just not */
        world_floor(&w, 1, 7, 1000000);             /* somebody else */
        if (principal)
            world_floor(&w, 1, 1, 1); /* never lowered */
        world_settle(&w);
        ck_assert_uint_eq(a->conn[n[0]].kick_count, 1);
        ck_assert_uint_eq(a->conn[n[0]].kick, RECORD_KICK_REVOKED);
        ck_assert(!speaks(n[0], 1) && speaks(n[1], 1) && speaks(n[2], 1));
        /* Sealed before, presented after. */
        uint32_t late = edge_number(a);
        struct binding y = edge_binding(a, late, 1);
        y.serial = x[0].serial;
        binding_seal(&y, &w.key);
        edge_bind(a, late, &y);
        ck_assert_msg(!speaks(late, 1), "below the floor of %u", principal);
        ck_assert_uint_eq(a->conn[late].kick, RECORD_KICK_BINDING);
        new_router();
        ck_assert_msg(!speaks(n[0], 1) && !speaks(late, 1), "a new router forgets the floor of %u", principal);
        ck_assert(speaks(n[1], 1) && speaks(n[2], 1));
        ck_assert_uint_eq(a->conn[n[1]].kick_count, 0);
        teardown();
    }
}
END_TEST

/* The floor is raised while a new router takes over: after that connection was replayed, before traffic runs. */
START_TEST(test_floor_in_takeover) {
    setup();
    w.replay_bytes = 64 * 1024;
    uint32_t n = edge_connect(a, 1, RECORD_ECHO);
    ck_assert(speaks(n, 1));
    world_die(&w);
    world_start(&w);
    b->paused = true;
    struct edge_conn *c = &a->conn[n];
    /* Only the first half of a's replay arrives. */
    while (!w.recovered)
        world_edges_step(&w);
    takeover_step(w.router);
    world_floor(&w, 1, 0, c->binding.serial + 1);
    b->paused = false;
    while (!w.ready)
        world_step(&w);
    world_settle(&w);
    ck_assert(!speaks(n, 1));
    ck_assert_uint_eq(c->kick_count, 1);
    teardown();
}
END_TEST

START_TEST(test_account_connections) {
    setup();
    uint32_t n[3];
    for (int i = 0; i < 3; i++) {
        n[i] = edge_connect(a, 2, RECORD_ECHO);
        world_settle(&w);
    }
    ck_assert(speaks(n[0], 2) && speaks(n[1], 2) && !speaks(n[2], 2));
    ck_assert_uint_eq(a->conn[n[2]].kick, RECORD_KICK_ACCOUNT_CONNS);
    ck_assert_uint_eq(w.router->account[2]->conn_count, 2);
    edge_close(a, n[0]); /* makes room for another, not for the one that was kicked */
    world_settle(&w);
    ck_assert(!speaks(n[2], 2));
    uint32_t next = edge_connect(a, 2, RECORD_ECHO);
    ck_assert(speaks(next, 2));
    /* Kicked with a low number, its place taken since: a new router still knows which. */
    new_router();
    ck_assert(speaks(n[1], 2) && speaks(next, 2) && !speaks(n[2], 2));
    ck_assert_uint_eq(a->conn[n[1]].kick_count + a->conn[next].kick_count, 0);
    teardown();
}
END_TEST

/* What was kicked stays kicked when the router dies before the edge has closed it. */
START_TEST(test_kick_survives_the_router) {
    setup();
    uint32_t n = edge_connect(a, 1, RECORD_ECHO);
    ck_assert(speaks(n, 1));
    admit_kick(w.router, &w.router->link[0], n, RECORD_KICK_POISON);
    world_settle(&w);
    uint32_t before = b->sub[watch].delivered;
    edge_pub(a, n, "still", NULL, "1", 1, 0);
    edge_publish(a);
    new_router();
    ck_assert_uint_eq(b->sub[watch].delivered, before);
    ck_assert(!speaks(n, 1));
    edge_close(a, n);
    world_settle(&w);
    ck_assert(!a->conn[n].used && !a->bad);
    teardown();
}
END_TEST

START_TEST(test_replay_again) {
    setup();
    uint32_t n = edge_connect(a, 1, RECORD_ECHO);
    for (int i = 0; i < 5; i++) {
        ck_assert(speaks(n, 1));
        new_router();
    }
    ck_assert(speaks(n, 1));
    ck_assert_uint_eq(a->conn[n].kick_count, 0);
    ck_assert_uint_eq(w.router->account[1]->conn_count, 2);
    teardown();
}
END_TEST

/* An edge that was replaced: its old bindings are of another incarnation. */
START_TEST(test_edge_replaced) {
    setup();
    uint32_t n = edge_connect(a, 1, RECORD_ECHO);
    world_settle(&w);
    struct binding stored = a->conn[n].binding;
    world_edge_down(&w, a);
    ck_assert_uint_eq(w.router->account[1]->conn_count, 1);
    world_edge_new(&w, 0, LINK_FRONTEND);
    ck_assert_uint_eq(edge_number(a), n);
    edge_bind(a, n, &stored);
    expect_refused(n, "a binding of the edge before");
    teardown();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("router bindings");
    TCase *c = tcase_create("bindings");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, test_each_byte);
    tcase_add_test(c, test_lengths);
    tcase_add_loop_test(c, test_unfit, 0, (int)(sizeof unfit / sizeof *unfit));
    tcase_add_test(c, test_key);
    tcase_add_test(c, test_after_close);
    tcase_add_test(c, test_close_not_committed);
    tcase_add_test(c, test_serial);
    tcase_add_test(c, test_expiry_by_timer);
    tcase_add_test(c, test_floor);
    tcase_add_test(c, test_floor_in_takeover);
    tcase_add_test(c, test_account_connections);
    tcase_add_test(c, test_kick_survives_the_router);
    tcase_add_test(c, test_replay_again);
    tcase_add_test(c, test_edge_replaced);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
