/* SPDX-License-Identifier: Apache-2.0 */
/* Permissions in a router in this process, against edges that check nothing themselves: what is refused, filtered, answered by
 * right and taken away, one by one; then random worlds against the naive oracle, with routers that die.
 *
 * ROUTER_RIGHTS_SEED sets the first seed, ROUTER_RIGHTS_SEEDS how many there are.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "nats/subject.h"
#include "tests/support/oracle.h"
#include "tests/unit/unit.h"

static struct world w;
static struct edge *a, *b;

static void setup(void) {
    world_make(&w, 2, 128 * 1024, 1 << 20);
    world_begin(&w);
    a = &w.edge[0], b = &w.edge[1];
}

static void teardown(void) {
    ck_assert(!a->bad && !b->bad);
    world_free(&w);
}

static void new_router(void) {
    world_die(&w);
    world_begin(&w);
    world_settle(&w);
}

#define RULES(number, max, ms, ...)                                                                                    \
    do {                                                                                                               \
        const char *const lines[] = {__VA_ARGS__};                                                                     \
        world_rules(&w, number, lines, sizeof lines / sizeof *lines, max, ms);                                         \
    } while (0)

static uint32_t join(struct edge *e, uint32_t principal, uint32_t permissions, uint32_t payload_max, uint8_t options) {
    uint32_t n = edge_number(e);
    struct binding x = edge_binding(e, n, 1);
    x.principal = principal;
    x.permissions = permissions;
    x.payload_max = payload_max;
    binding_seal(&x, &w.key);
    edge_bind(e, n, &x);
    edge_options(e, n, options);
    return n;
}

static uint32_t sub(struct edge *e, uint32_t conn, const char *subject, const char *queue) {
    return edge_subscribe(e, conn, subject, queue, RECORD_NO_SLOT, 0);
}

static void pub(struct edge *e, uint32_t conn, const char *subject, const char *reply) {
    edge_pub(e, conn, subject, reply, "x", 1, 0);
    world_settle(&w);
}

/* ---- publish ---- */

START_TEST(test_publish) {
    setup();
    RULES(1, 0, 0, "+pub ok.>", "-pub ok.no");
    uint32_t c = join(a, 1, 1, 0, RECORD_ECHO), watcher = join(b, 2, 0, 0, RECORD_ECHO);
    uint32_t all = sub(b, watcher, ">", NULL);
    world_settle(&w);
    pub(a, c, "ok.yes", NULL);
    ck_assert_uint_eq(b->sub[all].delivered, 1);
    edge_pub(a, c, "ok.no", NULL, "x", 1, RECORD_ANSWER);
    edge_pub(a, c, "other", NULL, "x", 1, RECORD_ANSWER);
    edge_pub(a, c, "ok..x", NULL, "x", 1, RECORD_ANSWER);
    world_settle(&w);
    ck_assert_uint_eq(b->sub[all].delivered, 1);
    ck_assert_uint_eq(a->conn[c].deny_count, 3);
    ck_assert_uint_eq(a->conn[c].ok_count, 0);
    const struct seen *s = edge_seen(a, RECORD_DENY);
    ck_assert_uint_eq(s->aux, RECORD_DENY_PUBLISH);
    ck_assert_str_eq(s->subject, "ok..x");
    ck_assert_uint_eq(counter_get(w.counters, COUNTER_DENIED), 3);
    /* A permission error comes before that of a reserved reply, and a set does not open what is reserved. */
    pub(a, c, "other", "_R_.x");
    ck_assert_uint_eq(edge_seen(a, RECORD_DENY)->aux, RECORD_DENY_PUBLISH);
    pub(a, c, "ok.yes", "_R_.x");
    ck_assert_uint_eq(edge_seen(a, RECORD_DENY)->aux, RECORD_DENY_REPLY);
    pub(a, c, "ok.yes", "any.reply");
    ck_assert_uint_eq(b->sub[all].delivered, 2);
    new_router();
    pub(a, c, "other", NULL);
    ck_assert_uint_eq(a->conn[c].deny_count, 6);
    teardown();
}
END_TEST

/* Beyond its own limit a connection ends, as it would at an edge that knows of the limit. */
START_TEST(test_payload) {
    setup();
    uint32_t c = join(a, 1, 0, 8, RECORD_ECHO), all = sub(a, c, ">", NULL);
    edge_pub(a, c, "x", NULL, "12345678", 8, 0);
    world_settle(&w);
    world_permit(&w, 1, 1, 0, 0);
    edge_pub(a, c, "x", NULL, "123456789", 9, 0);
    world_settle(&w);
    ck_assert_uint_eq(a->sub[all].delivered, 2);
    world_permit(&w, 1, 1, 0, 4);
    edge_pub(a, c, "x", NULL, "1234", 4, 0);
    edge_pub(a, c, "x", NULL, "12345", 5, 0);
    edge_pub(a, c, "x", NULL, "1234", 4, 0);
    world_settle(&w);
    ck_assert_uint_eq(a->sub[all].delivered, 3);
    ck_assert_uint_eq(a->conn[c].kick_count, 1);
    ck_assert_uint_eq(a->conn[c].kick, RECORD_KICK_PAYLOAD);
    ck_assert_int_eq(w.router->link[0].state, LINK_LIVE);
    teardown();
}
END_TEST

/* A limit that falls ends the newest connections, of any edge, and no more than it must. */
START_TEST(test_fewer_connections) {
    setup();
    uint32_t conns[6];
    world_account(&w, 1, 6, 0);
    for (uint32_t i = 0; i < 6; i++)
        conns[i] = join(i % 2 ? b : a, i + 1, 0, 0, 0);
    world_settle(&w);
    world_account(&w, 1, 4, 0);
    world_account(&w, 1, 3, 0);
    world_settle(&w);
    for (uint32_t i = 0; i < 6; i++) {
        const struct edge *e = i % 2 ? b : a;
        ck_assert_uint_eq(e->conn[conns[i]].kick_count, i >= 3);
        if (i >= 3)
            ck_assert_uint_eq(e->conn[conns[i]].kick, RECORD_KICK_ACCOUNT_CONNS);
    }
    new_router();
    for (uint32_t i = 0; i < 3; i++)
        ck_assert_uint_eq((i % 2 ? b : a)->conn[conns[i]].kick_count, 0);
    teardown();
}
END_TEST

/* ---- subscribe and deliver ---- */

START_TEST(test_subscribe) {
    setup();
    RULES(1, 0, 0, "+sub s.*", "+sub t q1", "-sub s.no");
    uint32_t c = join(a, 1, 1, 0, RECORD_ECHO);
    w.settings.max_sub_tokens = 0;
    static const struct {
        const char *subject, *queue;
        uint32_t why; /* 0: none */
    } cases[] = {{"s.yes", NULL, 0},
                 {"s.*", NULL, 0},
                 {"s.no", NULL, RECORD_DENY_SUB},
                 {"s.>", NULL, RECORD_DENY_SUB},
                 {"t", NULL, RECORD_DENY_SUB},
                 {"t", "q1", 0},
                 {"t", "q2", RECORD_DENY_SUB},
                 {"s..a", NULL, RECORD_DENY_SUB}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        edge_forget_seen(a);
        uint32_t slot = sub(a, c, cases[i].subject, cases[i].queue);
        world_settle(&w);
        const struct seen *s = edge_seen(a, RECORD_DENY);
        ck_assert_msg((s ? s->aux : 0) == cases[i].why && a->sub[slot].used == (cases[i].why == 0), "%s",
                      cases[i].subject);
        ck_assert(!s || strcmp(s->reply, cases[i].queue ? cases[i].queue : "") == 0);
    }
    teardown();
}
END_TEST

START_TEST(test_deliver) {
    setup();
    RULES(1, 0, 0, "-sub d.>");
    uint32_t c = join(a, 1, 1, 0, RECORD_ECHO), p = join(b, 2, 0, 0, RECORD_HEADERS | RECORD_NO_RESPONDERS);
    uint32_t all = sub(a, c, ">", NULL), two = sub(a, c, "*.x", NULL), far = sub(a, c, "e.*", NULL);
    uint32_t inbox = sub(b, p, "inbox", NULL);
    world_settle(&w);
    ck_assert_uint_eq(w.router->filtered_count, 2); /* "e.*" cannot get what is denied */
    pub(b, p, "d.x", "inbox");
    ck_assert_uint_eq(a->sub[all].delivered + a->sub[two].delivered, 0);
    ck_assert_uint_eq(b->uncounted_total, 1); /* a 503: nobody was there */
    pub(b, p, "e.x", "inbox");
    ck_assert_uint_eq(a->sub[all].delivered, 1);
    ck_assert_uint_eq(a->sub[two].delivered, 1);
    ck_assert_uint_eq(a->sub[far].delivered, 1);
    ck_assert_uint_eq(b->uncounted_total, 1);
    pub(a, c, "d.x", NULL); /* its own as well */
    ck_assert_uint_eq(a->sub[all].delivered, 1);
    edge_unsub(a, c, all, 0, 0);
    edge_unsub(a, c, two, 0, 0);
    world_settle(&w);
    ck_assert_uint_eq(w.router->filtered_count, 0);
    ck_assert_uint_eq(w.router->wary, 0);
    (void)inbox;
    teardown();
}
END_TEST

/* Another member is taken, always. */
START_TEST(test_queue_members) {
    setup();
    RULES(1, 0, 0, "-sub d.*");
    RULES(2, 0, 0, "-sub d.* q");
    uint32_t c1 = join(a, 1, 1, 0, 0), c2 = join(a, 2, 2, 0, 0), c3 = join(b, 3, 0, 0, 0), p = join(b, 4, 0, 0, 0);
    uint32_t s1 = sub(a, c1, ">", "q"), s2 = sub(a, c2, ">", "q"), s3 = sub(b, c3, "d.x", "q");
    uint32_t plain = sub(a, c2, ">", NULL), other = sub(a, c2, ">", "q2");
    for (int i = 0; i < 50; i++)
        edge_pub(b, p, "d.x", NULL, "x", 1, 0);
    world_settle(&w);
    ck_assert_uint_eq(b->sub[s3].delivered, 50);
    ck_assert_uint_eq(a->sub[s1].delivered + a->sub[s2].delivered, 0);
    ck_assert_uint_eq(a->sub[plain].delivered, 50);
    ck_assert_uint_eq(a->sub[other].delivered, 50);
    teardown();
}
END_TEST

/* A message too large for one step goes out by the cursor, and a set that changes under way holds for the rest. */
START_TEST(test_fanout) {
    setup();
    static uint8_t large[70000];
    RULES(1, 0, 0, "-sub d.*");
    uint32_t c = join(a, 1, 1, 0, 0), free_one = join(a, 2, 0, 0, 0), p = join(b, 3, 0, 0, 0);
    uint32_t denied = sub(a, c, ">", NULL), good = sub(a, free_one, ">", NULL);
    world_settle(&w);
    edge_pub(b, p, "d.x", NULL, large, sizeof large, 0);
    edge_pub(b, p, "e.x", NULL, large, sizeof large, 0);
    world_settle(&w);
    ck_assert_uint_eq(a->sub[denied].delivered, 1);
    ck_assert_uint_eq(a->sub[good].delivered, 2);
    teardown();
}
END_TEST

/* ---- changed permissions ---- */

START_TEST(test_permit) {
    setup();
    RULES(1, 0, 0, "+sub keep.>", "-sub keep.no", "+pub keep.>");
    uint32_t c = join(a, 7, 0, 0, RECORD_ECHO), other = join(a, 8, 0, 0, RECORD_ECHO);
    uint32_t kept = sub(a, c, "keep.*", NULL), lost = sub(a, c, "lost", "q"), theirs = sub(a, other, "lost", NULL);
    world_settle(&w);
    edge_forget_seen(a);
    world_permit(&w, 1, 7, 1, 0);
    world_settle(&w);
    ck_assert(a->sub[kept].used && !a->sub[lost].used && a->sub[theirs].used);
    ck_assert_uint_eq(a->seen_count, 2);
    ck_assert_uint_eq(a->seen[0].type, RECORD_DENY);
    ck_assert_uint_eq(a->seen[0].aux, RECORD_DENY_REMOVED);
    ck_assert_uint_eq(a->seen[0].slot, lost);
    ck_assert_str_eq(a->seen[0].subject, "lost");
    ck_assert_str_eq(a->seen[0].reply, "q");
    ck_assert_uint_eq(a->seen[1].type, RECORD_SLOT_FREE);
    pub(a, other, "keep.no", NULL); /* filtered from now on */
    ck_assert_uint_eq(a->sub[kept].delivered, 0);
    pub(a, c, "elsewhere", NULL);
    ck_assert_uint_eq(edge_seen(a, RECORD_DENY)->aux, RECORD_DENY_PUBLISH);
    /* A login from before, which comes only now. */
    uint64_t serial = w.serial;
    uint32_t late = edge_number(a);
    struct binding x = edge_binding(a, late, 1);
    x.principal = 7;
    x.serial = serial;
    binding_seal(&x, &w.key);
    edge_bind(a, late, &x);
    pub(a, late, "elsewhere", NULL);
    ck_assert_uint_eq(a->conn[late].deny_count, 1);
    /* One from after it has its own. */
    uint32_t newer = join(a, 7, 0, 0, RECORD_ECHO);
    pub(a, newer, "elsewhere", NULL);
    ck_assert_uint_eq(a->conn[newer].deny_count, 0);
    /* All of it again for a new router. */
    new_router();
    pub(a, c, "elsewhere", NULL);
    pub(a, late, "elsewhere", NULL);
    pub(a, newer, "elsewhere", NULL);
    ck_assert_uint_eq(a->conn[late].deny_count, 2);
    ck_assert_uint_eq(a->conn[newer].deny_count, 0);
    pub(a, newer, "keep.no", NULL);
    ck_assert_uint_eq(a->sub[kept].delivered, 0);
    /* And back: everything is allowed. */
    world_permit(&w, 1, 7, 0, 0);
    pub(a, c, "keep.no", NULL);
    ck_assert_uint_eq(a->sub[kept].delivered, 1);
    ck_assert_uint_eq(w.router->filtered_count, 0);
    teardown();
}
END_TEST

enum { MANY = 6000 };

static uint32_t subscribe_many(uint32_t c) {
    for (uint32_t i = 0; i < MANY; i++) {
        char subject[32];
        snprintf(subject, sizeof subject, "%s.%u", i % 2 ? "lost" : "keep", i);
        sub(a, c, subject, NULL);
        if (i % 512 == 0)
            world_settle(&w);
    }
    world_settle(&w);
    return MANY / 2;
}

/* More removals than the ring has room for, and an edge that reads nothing for a while: it is not ended, and nobody waits. */
START_TEST(test_many_removals) {
    setup();
    RULES(1, 0, 0, "+sub keep.>");
    uint32_t c = join(a, 7, 0, 0, 0), p = join(b, 2, 0, 0, RECORD_ECHO), own = sub(b, p, "own", NULL);
    uint32_t lost = subscribe_many(c);
    a->paused = true;
    world_permit(&w, 1, 7, 1, 0);
    for (int i = 0; i < 3000; i++)
        world_step(&w);
    ck_assert_uint_eq(w.router->recheck_count, 1); /* there was no room */
    ck_assert(!turn_has_work(w.router));
    uint64_t before = a->slot_free_total;
    pub(b, p, "lost.1", NULL); /* is not delivered any more, whether it was reached or not */
    pub(b, p, "lost.5999", NULL);
    pub(b, p, "own", NULL);
    ck_assert_uint_eq(b->sub[own].delivered, 1);
    world_pass(&w, 5000);
    a->paused = false;
    world_settle(&w);
    ck_assert(!a->bad);
    ck_assert_uint_eq(a->slot_free_total - before, lost);
    ck_assert_uint_eq(a->conn[c].deny_count, lost);
    ck_assert_uint_eq(a->delivered_count, 0);
    ck_assert_uint_eq(w.router->sub_count, MANY / 2 + 1);
    ck_assert_uint_eq(w.router->wary, 0);
    teardown();
}
END_TEST

/* Killed in the middle of it, again and again. */
START_TEST(test_death_in_removals) {
    setup();
    RULES(1, 0, 0, "+sub keep.>");
    uint32_t c = join(a, 7, 0, 0, 0);
    uint32_t lost = subscribe_many(c), deaths = 0;
    world_permit(&w, 1, 7, 1, 0);
    a->paused = true; /* it reads when it has to replay */
    while (a->slot_free_total < lost) {
        for (uint32_t i = 0; i < 1 + deaths; i++) /* each begins at the first subscription again */
            world_step(&w);
        world_die(&w);
        deaths++;
        world_begin(&w);
        ck_assert_msg(deaths < 100, "%llu of %u, %u listed", (unsigned long long)a->slot_free_total, lost,
                      w.router->recheck_count);
    }
    a->paused = false;
    world_settle(&w);
    ck_assert_uint_gt(deaths, 5);
    ck_assert_uint_eq(a->conn[c].deny_count, lost);
    ck_assert_uint_eq(w.router->sub_count, MANY / 2);
    teardown();
}
END_TEST

/* The permissions change while no router lives. */
START_TEST(test_permit_without_router) {
    setup();
    RULES(1, 0, 0, "+sub keep");
    uint32_t c = join(a, 7, 0, 0, RECORD_ECHO), p = join(b, 2, 0, 0, 0);
    uint32_t keep = sub(a, c, "keep", NULL), lost = sub(a, c, "lost", NULL);
    world_settle(&w);
    edge_pub(b, p, "lost", NULL, "x", 1, 0); /* lies in the ring when the next router begins */
    edge_publish(b);
    world_die(&w);
    world_permit(&w, 1, 7, 1, 0);
    world_begin(&w);
    world_settle(&w);
    ck_assert(a->sub[keep].used && !a->sub[lost].used);
    ck_assert_uint_eq(a->delivered_count, 0);
    teardown();
}
END_TEST

/* An edge that replays what it never was allowed. */
START_TEST(test_smuggled) {
    setup();
    RULES(1, 0, 0, "+sub keep", "+pub keep");
    uint32_t c = join(a, 7, 1, 0, RECORD_ECHO), p = join(b, 2, 0, 0, 0);
    uint32_t slot = sub(a, c, "keep", NULL);
    world_settle(&w);
    memcpy(a->sub[slot].text, "evil", 4);
    world_die(&w);
    edge_pub(b, p, "evil", NULL, "x", 1, 0);
    edge_publish(b);
    world_begin(&w);
    world_settle(&w);
    ck_assert_uint_eq(a->delivered_count, 0);
    ck_assert(!a->sub[slot].used);
    ck_assert_uint_eq(edge_seen(a, RECORD_DENY)->aux, RECORD_DENY_REMOVED);
    teardown();
}
END_TEST

/* A set and a principal that are nobody's, a set that is not in the book. */
START_TEST(test_unknown_set) {
    setup();
    uint32_t c = join(a, 1, 9, 0, 0), d = join(a, 2, 0, 0, 0);
    world_settle(&w);
    ck_assert_uint_eq(a->conn[c].kick, RECORD_KICK_BINDING);
    world_permit(&w, 1, 2, 9, 0);
    world_permit(&w, 1, 3, 9, 0);
    world_settle(&w);
    ck_assert_uint_eq(a->conn[d].kick_count, 1);
    edge_close(a, c);
    edge_close(a, d);
    world_settle(&w);
    teardown();
}
END_TEST

START_TEST(test_kicks) {
    setup();
    static const enum record_kick kinds[] = {RECORD_KICK_REFUSED, RECORD_KICK_REVOKED, RECORD_KICK_MOVED, 0,
                                             RECORD_KICK_END};
    for (uint32_t i = 0; i < 5; i++) {
        uint32_t c = join(a, 10 + i, 0, 0, 0);
        world_settle(&w);
        world_kick_floor(&w, 1, i == 4 ? 0 : 10 + i, w.serial + 1, kinds[i]);
        world_settle(&w);
        ck_assert_uint_eq(a->conn[c].kick_count, 1);
        ck_assert_uint_eq(a->conn[c].kick, i < 3 ? kinds[i] : RECORD_KICK_REVOKED);
    }
    teardown();
}
END_TEST

/* A large set is compiled step by step: who has it waits, others do not. */
START_TEST(test_large_set) {
    setup();
    struct book_rules *rules = calloc(1, sizeof *rules + BOOK_RULES_BYTES_MAX);
    ck_assert_ptr_nonnull(rules);
    rules->number = 1;
    for (uint32_t i = 0; i < 40000; i++) {
        char subject[32];
        snprintf(subject, sizeof subject, "tenant.%u.>", i);
        ck_assert_int_eq(
            book_rules_add(rules, BOOK_RULES_BYTES_MAX, BOOK_SUB_DENY, view_text(subject), (struct view){0}), ERR_OK);
    }
    ck_assert_int_eq(book_append(&w.book, BOOK_RULES, rules, (uint32_t)sizeof *rules + rules->bytes), ERR_OK);
    free(rules);
    uint32_t c = join(a, 1, 1, 0, RECORD_ECHO), p = join(b, 2, 0, 0, RECORD_ECHO), own = sub(b, p, "own", NULL);
    uint32_t slot = sub(a, c, "tenant.5.x", NULL), all = sub(a, c, ">", NULL);
    edge_pub(b, p, "own", NULL, "x", 1, 0);
    edge_publish(a);
    edge_publish(b);
    world_step(&w);
    ck_assert_uint_eq(b->sub[own].delivered, 1);
    ck_assert(turn_has_work(w.router));
    ck_assert(a->sub[slot].used);
    uint32_t turns = 1;
    for (; a->sub[slot].used; turns++)
        world_step(&w);
    ck_assert_uint_gt(turns, 20);
    world_settle(&w);
    pub(b, p, "tenant.39999.y", NULL);
    ck_assert_uint_eq(a->sub[all].delivered, 0);
    pub(b, p, "tenant", NULL);
    ck_assert_uint_eq(a->sub[all].delivered, 1);
    /* Given to a connection with subscriptions: those who publish to it wait a few turns, and get by. */
    uint32_t d = join(a, 3, 0, 0, 0), wide = sub(a, d, "tenant.*.y", NULL);
    new_router();
    world_permit(&w, 1, 3, 1, 0);
    uint32_t before = a->sub[wide].delivered;
    edge_pub(b, p, "tenant.7.y", NULL, "x", 1, 0);
    edge_pub(b, p, "tenant.x.y", NULL, "x", 1, 0);
    edge_publish(b);
    world_settle(&w);
    ck_assert_uint_eq(a->sub[wide].delivered, before + 1);
    teardown();
}
END_TEST

/* ---- answers ---- */

START_TEST(test_answers) {
    setup();
    RULES(1, 2, 1000, "+pub", "-pub no.>");
    uint32_t service = join(a, 1, 1, 0, RECORD_ECHO), same = join(a, 1, 1, 0, RECORD_ECHO);
    uint32_t client = join(b, 2, 0, 0, RECORD_ECHO), inbox = sub(b, client, "no.>", NULL);
    uint32_t in = sub(a, service, "ask", NULL);
    world_settle(&w);
    pub(a, service, "no.1", NULL);
    ck_assert_uint_eq(a->conn[service].deny_count, 1); /* not asked yet */
    pub(b, client, "ask", "no.1");
    ck_assert_uint_eq(a->sub[in].delivered, 1);
    pub(a, same, "no.1", NULL); /* another connection of the same user */
    pub(a, service, "no.2", NULL);
    ck_assert_uint_eq(b->sub[inbox].delivered, 0);
    pub(a, service, "no.1", NULL);
    new_router();
    pub(a, service, "no.1", NULL);
    ck_assert_uint_eq(b->sub[inbox].delivered, 2);
    pub(a, service, "no.1", NULL); /* the third */
    new_router();
    pub(a, service, "no.1", NULL);
    ck_assert_uint_eq(b->sub[inbox].delivered, 2);
    pub(b, client, "ask", "no.1"); /* asked again */
    world_pass(&w, 999);
    pub(a, service, "no.1", NULL);
    ck_assert_uint_eq(b->sub[inbox].delivered, 3);
    world_pass(&w, 10);
    pub(a, service, "no.1", NULL); /* too late */
    ck_assert_uint_eq(b->sub[inbox].delivered, 3);
    /* A wildcard in the reply is text. */
    pub(b, client, "ask", "no.*");
    pub(a, service, "no.x", NULL);
    ck_assert_uint_eq(b->sub[inbox].delivered, 3);
    teardown();
}
END_TEST

/* Nothing of a connection is left for the next one with its number. */
START_TEST(test_answers_end_with_connection) {
    setup();
    RULES(1, BOOK_UNLIMITED, 0, "+pub");
    uint32_t service = join(a, 1, 1, 0, 0), client = join(b, 2, 0, 0, 0), inbox = sub(b, client, "reply", NULL);
    sub(a, service, "ask", NULL);
    pub(b, client, "ask", "reply");
    for (int i = 0; i < 10; i++)
        pub(a, service, "reply", NULL);
    ck_assert_uint_eq(b->sub[inbox].delivered, 10);
    edge_close(a, service);
    world_settle(&w);
    ck_assert_uint_eq(join(a, 1, 1, 0, 0), service);
    pub(a, service, "reply", NULL);
    ck_assert_uint_eq(b->sub[inbox].delivered, 10);
    /* Changed permissions begin without any. */
    sub(a, service, "ask", NULL);
    pub(b, client, "ask", "reply");
    RULES(2, BOOK_UNLIMITED, 0, "+pub");
    world_permit(&w, 1, 1, 2, 0);
    pub(a, service, "reply", NULL);
    ck_assert_uint_eq(b->sub[inbox].delivered, 10);
    teardown();
}
END_TEST

/* An answer that waits for room is taken from the right once. */
START_TEST(test_answer_waits) {
    setup();
    static uint8_t large[40000];
    RULES(1, 3, 0, "+pub");
    uint32_t service = join(a, 1, 1, 0, 0), client = join(b, 2, 0, 0, 0), inbox = sub(b, client, "reply", NULL);
    sub(a, service, "ask", NULL);
    pub(b, client, "ask", "reply");
    b->paused = true;
    for (int i = 0; i < 4; i++)
        edge_pub(a, service, "reply", NULL, large, sizeof large, 0);
    edge_publish(a);
    for (int i = 0; i < 10; i++)
        world_step(&w);
    ck_assert_uint_gt(w.router->waiting_count, 0);
    world_die(&w);
    b->paused = false;
    world_begin(&w);
    world_settle(&w);
    ck_assert_uint_eq(b->sub[inbox].delivered, 3);
    ck_assert_uint_eq(a->conn[service].deny_count, 1);
    teardown();
}
END_TEST

/* ---- random worlds ---- */

enum { SETS = 6, CONNS = 6, SUBS = 48, RIGHTS = 64 };

static struct oracle_set sets[SETS + 1]; /* number 0: none */

static struct member {
    struct edge *e;
    uint32_t number, principal, set, denies, removed;
    bool echo;
    struct owed {
        char reply[8];
        uint32_t set; /* a right belongs to the set under which it was given, and sleeps while another one holds */
        uint32_t used;
        uint64_t at; /* ns */
    } right[RIGHTS];
    uint32_t right_count;
} members[CONNS];

static struct wish {
    bool live;
    uint32_t member, slot;
    char pattern[ORACLE_LINE_MAX];
    const char *queue;
    uint32_t hits; /* by the message that is on its way */
} wishes[SUBS];

static uint64_t seed;

static bool granted(uint32_t set, const char *pattern, const char *queue) {
    return set == 0 || oracle_subscribe(&sets[set], pattern, queue);
}

static bool withheld(uint32_t set, const char *subject, const char *queue) {
    return set != 0 && oracle_withheld(&sets[set], subject, queue);
}

static void hit(struct edge *e, uint32_t slot, const struct record *rec, struct view subject, struct view reply,
                const uint8_t *payload) {
    (void)rec, (void)subject, (void)reply, (void)payload;
    for (uint32_t i = 0; i < SUBS; i++)
        if (wishes[i].live && wishes[i].slot == slot && members[wishes[i].member].e == e)
            wishes[i].hits++;
}

static void connect_member(struct rnd *r, uint32_t i) {
    struct member *m = &members[i];
    m->e = &w.edge[rnd_below(r, 2)];
    m->principal = i + 1;
    m->set = rnd_below(r, SETS + 1);
    m->echo = rnd_below(r, 4) != 0;
    m->denies = m->right_count = 0;
    m->number = join(m->e, m->principal, m->set, 0, m->echo ? RECORD_ECHO : 0);
}

static void give_right(struct member *m, const char *reply) {
    for (uint32_t i = 0; i < m->right_count; i++)
        if (m->right[i].set == m->set && strcmp(m->right[i].reply, reply) == 0) {
            m->right[i].used = 0;
            m->right[i].at = w.now;
            return;
        }
    ck_assert_uint_lt(m->right_count, RIGHTS);
    struct owed *x = &m->right[m->right_count++];
    *x = (struct owed){.at = w.now, .set = m->set};
    snprintf(x->reply, sizeof x->reply, "%s", reply);
}

static bool use_right(struct member *m, const char *subject) {
    const struct oracle_set *o = &sets[m->set];
    for (uint32_t i = 0; i < m->right_count; i++) {
        struct owed *x = &m->right[i];
        if (o->responses_max == 0 || x->set != m->set || strcmp(x->reply, subject) != 0)
            continue;
        bool young = o->responses_ms == 0 || w.now - x->at < o->responses_ms * 1000000;
        if (!young || (o->responses_max != BOOK_UNLIMITED && x->used >= o->responses_max))
            return false;
        x->used++;
        return true;
    }
    return false;
}

/* Routers die in between, if they like. */
static void rest(struct rnd *r) {
    edge_publish(a);
    edge_publish(b);
    while (rnd_below(r, 3) == 0) {
        for (uint32_t n = rnd_below(r, 4); n > 0; n--)
            world_step(&w);
        world_die(&w);
        world_begin(&w);
    }
    world_settle(&w);
}

static void judge_message(const struct member *from, const char *subject, const char *reply, bool allowed) {
    static const char *const queues[] = {"q1", "q2", "v1.x", "v1.y"};
    uint32_t could[4] = {0}, got[4] = {0};
    for (uint32_t i = 0; i < SUBS; i++) {
        struct wish *x = &wishes[i];
        if (!x->live)
            continue;
        const struct member *m = &members[x->member];
        bool may = allowed && oracle_matches(x->pattern, subject) && !withheld(m->set, subject, x->queue) &&
                   (m != from || m->echo);
        for (uint32_t q = 0; x->queue && q < 4; q++)
            if (strcmp(queues[q], x->queue) == 0) {
                could[q] += may;
                got[q] += x->hits;
            }
        ck_assert_msg(x->queue ? x->hits <= may : x->hits == may, "seed %llu: %s to %s %s: %u",
                      (unsigned long long)seed, subject, x->pattern, x->queue ? x->queue : "-", x->hits);
    }
    for (uint32_t q = 0; q < 4; q++)
        ck_assert_uint_eq(got[q], could[q] != 0);
    for (uint32_t i = 0; i < SUBS && reply; i++)
        if (wishes[i].live && wishes[i].hits)
            give_right(&members[wishes[i].member], reply);
}

static void random_publish(struct rnd *r) {
    static uint8_t payload[70000];
    char subject[ORACLE_LINE_MAX], reply[8];
    struct member *m = &members[rnd_below(r, CONNS)];
    oracle_random_subject(r, subject, true);
    if (rnd_below(r, 3) == 0)
        snprintf(subject, sizeof subject, "r.%u", rnd_below(r, 6));
    snprintf(reply, sizeof reply, "r.%u", rnd_below(r, 6));
    bool asks = rnd_below(r, 2),
         empty = strstr(subject, "..") || subject[0] == '.' || subject[strlen(subject) - 1] == '.';
    bool allowed = m->set == 0 || oracle_publish(&sets[m->set], subject) || use_right(m, subject);
    for (uint32_t i = 0; i < SUBS; i++)
        wishes[i].hits = 0;
    edge_pub(m->e, m->number, subject, asks ? reply : NULL, payload, rnd_below(r, 12) ? 1 : sizeof payload, 0);
    rest(r);
    m->denies += !allowed;
    judge_message(m, subject, asks ? reply : NULL, allowed && !empty);
}

static void random_subscribe(struct rnd *r) {
    uint32_t i = rnd_below(r, SUBS);
    struct wish *x = &wishes[i];
    if (x->live)
        return;
    x->member = rnd_below(r, CONNS);
    struct member *m = &members[x->member];
    oracle_random_pattern(r, x->pattern, rnd_below(r, 4));
    x->queue = oracle_random_queue(r);
    x->slot = sub(m->e, m->number, x->pattern, x->queue);
    rest(r);
    bool may = granted(m->set, x->pattern, x->queue);
    x->live = m->e->sub[x->slot].used && m->e->sub[x->slot].conn == m->number;
    ck_assert_msg(x->live == (may && subject_is_pattern(view_text(x->pattern))), "SUB %s %s", x->pattern,
                  x->queue ? x->queue : "");
    m->denies += !x->live;
}

static void random_unsub(struct rnd *r) {
    struct wish *x = &wishes[rnd_below(r, SUBS)];
    if (!x->live)
        return;
    edge_unsub(members[x->member].e, members[x->member].number, x->slot, 0, 0);
    x->live = false;
}

static void random_permit(struct rnd *r) {
    uint32_t i = rnd_below(r, CONNS);
    struct member *m = &members[i];
    uint32_t set = rnd_below(r, SETS + 1);
    bool absent = rnd_below(r, 3) == 0;
    if (absent)
        world_die(&w);
    world_permit(&w, 1, m->principal, set, 0);
    if (absent)
        world_begin(&w);
    m->set = set;
    for (uint32_t k = 0; k < SUBS; k++) {
        if (!wishes[k].live || wishes[k].member != i || granted(set, wishes[k].pattern, wishes[k].queue))
            continue;
        m->denies++;
        wishes[k].live = false;
    }
    if (rnd_below(r, 2))
        random_publish(r); /* before the router has looked at all of them */
}

static void random_reconnect(struct rnd *r) {
    uint32_t i = rnd_below(r, CONNS);
    edge_close(members[i].e, members[i].number);
    for (uint32_t k = 0; k < SUBS; k++)
        wishes[k].live &= wishes[k].member != i;
    if (rnd_below(r, 2))
        rest(r);
    connect_member(r, i);
}

static void judge_state(void) {
    uint32_t live = 0;
    for (uint32_t i = 0; i < SUBS; i++) {
        const struct wish *x = &wishes[i];
        live += x->live;
        if (x->live)
            ck_assert_msg(members[x->member].e->sub[x->slot].used, "seed %llu: %s is gone", (unsigned long long)seed,
                          x->pattern);
    }
    ck_assert_uint_eq(w.router->sub_count, live);
    for (uint32_t i = 0; i < CONNS; i++)
        ck_assert_msg(members[i].e->conn[members[i].number].deny_count == members[i].denies,
                      "seed %llu: %u denials, not %u", (unsigned long long)seed,
                      members[i].e->conn[members[i].number].deny_count, members[i].denies);
}

START_TEST(test_random) {
    uint64_t first = env_number("ROUTER_RIGHTS_SEED", 1), count = env_number("ROUTER_RIGHTS_SEEDS", 25);
    for (seed = first; seed < first + count; seed++) {
        struct rnd r = {seed};
        setup();
        memset(wishes, 0, sizeof wishes);
        a->delivered = b->delivered = hit;
        for (uint32_t i = 1; i <= SETS; i++) {
            oracle_random_set(&r, &sets[i]);
            world_rules(&w, i, sets[i].lines, sets[i].count, sets[i].responses_max, sets[i].responses_ms);
        }
        for (uint32_t i = 0; i < CONNS; i++)
            connect_member(&r, i);
        for (int i = 0; i < 120; i++) {
            uint32_t dice = rnd_below(&r, 100);
            if (dice < 45)
                random_publish(&r);
            else if (dice < 80)
                random_subscribe(&r);
            else if (dice < 86)
                random_unsub(&r);
            else if (dice < 93)
                random_permit(&r);
            else if (dice < 96)
                random_reconnect(&r);
            else
                world_pass(&w, 4000);
            rest(&r);
            judge_state();
        }
        teardown();
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("router rights");
    TCase *c = tcase_create("rights");
    tcase_set_timeout(c, 1200);
    tcase_add_test(c, test_publish);
    tcase_add_test(c, test_payload);
    tcase_add_test(c, test_fewer_connections);
    tcase_add_test(c, test_subscribe);
    tcase_add_test(c, test_deliver);
    tcase_add_test(c, test_queue_members);
    tcase_add_test(c, test_fanout);
    tcase_add_test(c, test_permit);
    tcase_add_test(c, test_many_removals);
    tcase_add_test(c, test_death_in_removals);
    tcase_add_test(c, test_permit_without_router);
    tcase_add_test(c, test_smuggled);
    tcase_add_test(c, test_unknown_set);
    tcase_add_test(c, test_kicks);
    tcase_add_test(c, test_large_set);
    tcase_add_test(c, test_answers);
    tcase_add_test(c, test_answers_end_with_connection);
    tcase_add_test(c, test_answer_waits);
    tcase_add_test(c, test_random);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
