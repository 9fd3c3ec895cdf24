/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of subscriptions: who is refused, who is closed, and that the books balance whatever comes and goes. SEED and OPS
 * can be given in the environment. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/edge.h"
#include "tests/unit/unit.h"

static struct world w;
static struct edge *a, *b;

static void begin(uint64_t conn_bytes, uint64_t account_bytes, uint64_t router_bytes) {
    world_make(&w, 2, 256 * 1024, 1 << 20);
    world_account(&w, 2, 0, 0);
    w.settings.conn_bytes = conn_bytes;
    w.settings.account_bytes = account_bytes;
    w.settings.router_bytes = router_bytes;
    world_begin(&w);
    a = &w.edge[0], b = &w.edge[1];
}

static uint64_t counted(enum counter which) {
    return counter_get(w.counters, which);
}

static struct conn *conn_of(const struct edge *e, uint32_t number) {
    return link_conn(&w.router->link[e->number], number);
}

static uint64_t taken(void) {
    return w.router->used_bytes;
}

/* So many different subjects, of which the first have that number. */
static void fill(struct edge *e, uint32_t conn, const char *prefix, uint32_t count) {
    char subject[2 * EDGE_TEXT_MAX];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(subject, sizeof subject, "%u.%s", i, prefix);
        edge_subscribe(e, conn, subject, NULL, RECORD_NO_SLOT, 0);
        if (i % 500 == 499)
            world_settle(&w);
    }
    world_settle(&w);
}

/* A message from e's connection reaches that slot. */
static void must_reach(struct edge *e, uint32_t conn, const char *subject, const struct edge *to, uint32_t slot) {
    uint32_t before = to->sub[slot].delivered;
    edge_pub(e, conn, subject, NULL, "x", 1, 0);
    world_settle(&w);
    ck_assert_msg(to->sub[slot].delivered == before + 1, "%s", subject);
}

/* ---- refused ---- */

START_TEST(test_connection) {
    uint64_t price = sublist_price(VIEW("attack.00"), (struct view){0});
    begin(10 * price, 0, 0);
    uint32_t conn = edge_connect(a, 1, 0), other = edge_connect(a, 1, RECORD_ECHO);
    char subject[32];
    uint32_t slot = 0;
    for (int i = 0; i < 15; i++) {
        snprintf(subject, sizeof subject, "attack.%02d", i);
        uint32_t this = edge_subscribe(a, conn, subject, NULL, RECORD_NO_SLOT, 0);
        slot = i == 0 ? this : slot;
    }
    uint32_t others = edge_subscribe(a, other, "other", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    ck_assert_uint_eq(a->conn[conn].deny_count, 5);
    ck_assert_uint_eq(edge_seen(a, RECORD_DENY)->aux, RECORD_DENY_MEMORY);
    ck_assert_uint_eq(counted(COUNTER_MEMORY_REFUSED), 5);
    ck_assert_uint_eq(counted(COUNTER_SUBS), 11);
    ck_assert_uint_eq(conn_of(a, conn)->sub_bytes, 10 * price);
    must_reach(a, other, "other", a, others);
    edge_unsub(a, conn, slot, 0, 0);
    edge_subscribe(a, conn, "attack.99", NULL, RECORD_NO_SLOT, 0);
    edge_subscribe(a, conn, "attack.98", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    ck_assert_uint_eq(a->conn[conn].deny_count, 6);
    ck_assert_uint_eq(conn_of(a, conn)->sub_bytes, 10 * price);
    ck_assert_uint_eq(a->conn[conn].kick_count + a->conn[other].kick_count, 0);
    world_free(&w);
}
END_TEST

/* An account is held to what it takes, over all its connections; another one is not. */
START_TEST(test_account) {
    begin(0, 150 * 1024, 0);
    uint32_t conn = edge_connect(a, 1, 0), second = edge_connect(b, 1, 0), other = edge_connect(b, 2, 0);
    fill(a, conn, "a.*.one", 500);
    fill(b, second, "a.*.two", 500);
    uint64_t full = taken();
    ck_assert_uint_gt(full, 140 * 1024);
    ck_assert_uint_le(full, 160 * 1024); /* a table may just have grown */
    ck_assert_uint_gt(counted(COUNTER_MEMORY_REFUSED), 0);
    fill(b, other, "a.*.three", 400);
    ck_assert_uint_eq(b->conn[other].deny_count, 0);
    ck_assert_uint_eq(a->kick_total + b->kick_total, 0);
    uint64_t subs = counted(COUNTER_SUBS);
    world_die(&w);
    world_begin(&w);
    world_settle(&w);
    ck_assert_uint_eq(counted(COUNTER_SUBS), subs); /* all that was there is there again */
    uint32_t denied = b->conn[second].deny_count;
    edge_close(a, conn);
    edge_publish(a);
    edge_subscribe(b, second, "at.once", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    ck_assert_uint_eq(b->conn[second].deny_count, denied);
    world_free(&w);
}
END_TEST

/* ---- closed ---- */

START_TEST(test_largest_is_closed) {
    begin(0, 0, 400 * 1024);
    uint32_t attacker = edge_connect(a, 1, 0), second = edge_connect(b, 1, 0), victim = edge_connect(b, 1, RECORD_ECHO);
    uint32_t slot = edge_subscribe(b, victim, "victim", NULL, RECORD_NO_SLOT, 0);
    fill(b, victim, "v", 200);
    fill(b, second, "s.*.x", 300);
    ck_assert_uint_eq(a->kick_total + b->kick_total, 0);
    fill(a, attacker, "x.*.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a", 1000);
    ck_assert_uint_eq(a->conn[attacker].kick, RECORD_KICK_MEMORY);
    ck_assert_uint_eq(counted(COUNTER_MEMORY_KICKED), 1);
    ck_assert_uint_eq(b->kick_total, 0);
    ck_assert_uint_eq(conn_of(a, attacker)->sub_bytes, 0);
    ck_assert_uint_lt(taken(), 400 * 1024);
    must_reach(b, victim, "victim", b, slot);
    must_reach(b, victim, "199.v", b, slot + 200);
    ck_assert(!a->bad && !b->bad);
    world_free(&w);
}
END_TEST

/* Many connections of one account do not make another account's largest one pay. */
START_TEST(test_largest_account_pays) {
    begin(0, 0, 1000 * 1024);
    uint32_t victim = edge_connect(b, 2, 0);
    fill(b, victim, "v.*", 1000);
    for (int i = 0; i < 100; i++)
        fill(a, edge_connect(a, 1, 0), "x.*", 100); /* the names are the same, but the account is another */
    ck_assert_uint_eq(b->kick_total, 0);
    char prefix[32];
    for (int i = 0; i < 100; i++) {
        snprintf(prefix, sizeof prefix, "y%d.*", i);
        fill(a, edge_connect(a, 1, 0), prefix, 100);
    }
    ck_assert_uint_gt(a->kick_total, 0);
    ck_assert_uint_eq(b->kick_total, 0);
    ck_assert_uint_lt(taken(), 1000 * 1024);
    world_free(&w);
}
END_TEST

/* One piece left in each chunk of the pool holds them all: who did that is closed, not who has more subscriptions now. */
START_TEST(test_holes) {
    begin(0, 0, 2 << 20);
    uint32_t victim = edge_connect(b, 1, 0), attacker = edge_connect(a, 1, 0);
    fill(b, victim, "v", 1500);
    for (uint32_t size = 0; size < 12 && a->kick_total + b->kick_total == 0; size++) {
        char prefix[EDGE_TEXT_MAX];
        snprintf(prefix, sizeof prefix, "%0*d", 20 + 8 * (int)size, 0);
        uint32_t first = a->sub_high;
        fill(a, attacker, prefix, 2000);
        for (uint32_t i = 0; i < 2000 && a->kick_total == 0; i++)
            if (i % 100 != 0)
                edge_unsub(a, attacker, first + i, 0, 0);
        world_settle(&w);
        a->slot_free_count = 0; /* so that slots stay in the order of subjects */
    }
    ck_assert_uint_eq(a->kick_total, 1);
    ck_assert_uint_eq(b->kick_total, 0);
    ck_assert_uint_lt(w.router->held_bytes, 2 << 20);
    world_free(&w);
}
END_TEST

/* What a router took, the next one takes; with a lower bound it closes who has most before traffic runs. */
START_TEST(test_next_router) {
    begin(0, 0, 2 << 20);
    uint32_t attacker = edge_connect(a, 1, 0), victim = edge_connect(b, 1, RECORD_ECHO);
    uint32_t slot = edge_subscribe(b, victim, "victim", NULL, RECORD_NO_SLOT, 0);
    fill(a, attacker, "x.*.a.a.a.a.a", 2000);
    ck_assert_uint_eq(a->kick_total, 0);
    uint64_t before = conn_of(a, attacker)->sub_bytes;
    world_die(&w);
    world_begin(&w);
    world_settle(&w);
    ck_assert_uint_eq(conn_of(a, attacker)->sub_bytes, before);
    ck_assert_uint_eq(a->kick_total, 0);
    world_die(&w);
    w.settings.router_bytes = 300 * 1024;
    world_begin(&w);
    world_settle(&w);
    ck_assert_uint_eq(a->conn[attacker].kick, RECORD_KICK_MEMORY);
    ck_assert_uint_eq(b->kick_total, 0);
    ck_assert_uint_lt(taken(), 300 * 1024);
    must_reach(b, victim, "victim", b, slot);
    world_free(&w);
}
END_TEST

/* ---- the books ---- */

/* Recounts everything from the subscriptions that are there. */
static void balance(uint32_t op) {
    struct router *r = w.router;
    uint64_t held = 0, used = 0, leaving = 0, subs = 0;
    for (uint32_t i = 0; i < r->account_high; i++) {
        const struct account *acc = r->account[i];
        if (!acc)
            continue;
        uint64_t bytes = sublist_bytes(acc->sublist) + (uint64_t)acc->sub_count * SUBLIST_SUB_BYTES;
        if (acc->held_bytes != bytes || acc->used_bytes > bytes)
            ck_abort_msg("operation %u, account %u: %lu bytes in the books, %lu are there", op, i, acc->held_bytes,
                         bytes);
        held += bytes;
        used += acc->used_bytes;
        leaving += acc->leaving_bytes;
    }
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        for (uint32_t n = 0; n < l->conn_high; n++) {
            const struct conn *c = link_conn(l, n);
            uint64_t price = 0;
            for (uint32_t s = c ? c->first_sub : 0; s; s = router_sub(r, s)->conn_next, subs++)
                price += sublist_price_of(account_find(r, c->account)->sublist, router_sub(r, s));
            if (c && (c->sub_bytes != price || c->sub_bytes_most < price))
                ck_abort_msg("operation %u, connection %u: %lu in the books, its price is %lu", op, n, c->sub_bytes,
                             price);
        }
    }
    if (r->held_bytes != held || r->used_bytes != used || r->leaving_bytes != leaving || leaving != 0 ||
        subs != r->sub_count)
        ck_abort_msg("operation %u: %lu of %lu bytes in the books, %lu of %lu used, %lu of %lu are leaving", op,
                     r->held_bytes, held, r->used_bytes, used, r->leaving_bytes, leaving);
}

enum { CONNS = 12, SLOTS = 4096 };
struct client {
    struct edge *edge;
    uint32_t conn;
    uint32_t slots[SLOTS], slot_count;
};
static struct client clients[CONNS];

static void reopen(struct client *c, struct rnd *rnd) {
    if (c->edge && c->edge->conn[c->conn].used && !c->edge->conn[c->conn].closed)
        edge_close(c->edge, c->conn);
    world_settle(&w);
    *c = (struct client){.edge = rnd_below(rnd, 2) ? a : b};
    c->conn = edge_connect(c->edge, 1 + rnd_below(rnd, 2), RECORD_ECHO);
}

static void subscribe(struct client *c, struct rnd *rnd) {
    static const char *const forms[] = {"a.%u", "a.*.%u", "%u.>", "*.*.x%u.*.>",
                                        "aa.bb.cc.dd.ee.ff.gg.hh.ii.jj.kk.ll.mm.nn.oo.pp.*.%u"};
    char subject[EDGE_TEXT_MAX], queue[80] = "";
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    snprintf(subject, 100, forms[rnd_below(rnd, 5)], rnd_below(rnd, 300));
#pragma GCC diagnostic pop
    if (rnd_below(rnd, 3) == 0)
        snprintf(queue, sizeof queue, "%0*u", 1 + (int)rnd_below(rnd, 60), rnd_below(rnd, 5));
    if (c->slot_count < SLOTS)
        c->slots[c->slot_count++] = edge_subscribe(c->edge, c->conn, subject, queue, RECORD_NO_SLOT, 0);
}

static void unsubscribe(struct client *c, struct rnd *rnd) {
    if (c->slot_count == 0)
        return;
    uint32_t i = rnd_below(rnd, c->slot_count), slot = c->slots[i];
    c->slots[i] = c->slots[--c->slot_count];
    if (c->edge->sub[slot].used && c->edge->sub[slot].conn == c->conn && !c->edge->sub[slot].ended)
        edge_unsub(c->edge, c->conn, slot, rnd_below(rnd, 3), 0);
}

START_TEST(test_books) {
    struct rnd rnd = {env_number("SEED", 1)};
    uint32_t operations = (uint32_t)env_number("OPS", 20000);
    printf("SEED=%lu\n", rnd.state);
    begin(20 * 1024, 60 * 1024, 70 * 1024);
    for (int i = 0; i < CONNS; i++)
        reopen(&clients[i], &rnd);
    for (uint32_t op = 0; op < operations; op++) {
        struct client *c = &clients[rnd_below(&rnd, CONNS)];
        uint32_t what = rnd_below(&rnd, 1000);
        if (c->edge->conn[c->conn].kick_count > 0 || what == 0)
            reopen(c, &rnd);
        else if (what < 650)
            subscribe(c, &rnd);
        else
            unsubscribe(c, &rnd);
        if (what == 1) {
            world_die(&w);
            world_begin(&w);
        }
        if (what < 20) {
            world_settle(&w);
            balance(op);
        }
    }
    ck_assert_uint_gt(counted(COUNTER_MEMORY_REFUSED), 0);
    ck_assert_uint_gt(counted(COUNTER_MEMORY_KICKED), 0);
    for (int i = 0; i < CONNS; i++)
        if (!clients[i].edge->conn[clients[i].conn].closed)
            edge_close(clients[i].edge, clients[i].conn);
    world_settle(&w);
    balance(operations);
    ck_assert_uint_eq(taken(), 0);
    world_free(&w);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("router memory");
    TCase *c = tcase_create("memory");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, test_connection);
    tcase_add_test(c, test_account);
    tcase_add_test(c, test_largest_is_closed);
    tcase_add_test(c, test_largest_account_pays);
    tcase_add_test(c, test_holes);
    tcase_add_test(c, test_next_router);
    tcase_add_test(c, test_books);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
