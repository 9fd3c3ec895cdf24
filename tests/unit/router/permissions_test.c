/* SPDX-License-Identifier: Apache-2.0 */
/* Compiled permission sets against the naive oracle of tests/support/oracle.h, and the cases of the client protocol one by one.
 * PERMISSIONS_SEED sets the first seed. */
#include "router/permissions.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "nats/subject.h"
#include "router/cost.h"
#include "tests/support/oracle.h"
#include "tests/unit/unit.h"

static struct world w;
static struct hash_key hash;
static struct slab slab;
static struct permissions_tools tools;
static uint64_t work;
static struct book book;

static void setup(void) {
    world_make(&w, 0, 128 * 1024, 0);
    hash_key_make(&hash);
    tools = (struct permissions_tools){.hash = &hash, .slab = &slab, .work = &work};
    ck_assert_int_eq(book_open(&book, w.book_fd, false), ERR_OK);
}

static void teardown(void) {
    match_free(&tools.match);
    slab_free(&slab);
    book_close(&book);
    world_free(&w);
}

/* The set that was appended last. */
static struct permissions *newest(void) {
    struct book_entry entry, last = {0};
    while (book_next(&book, &entry) == ERR_OK)
        last = entry;
    ck_assert_int_eq(last.type, BOOK_RULES);
    struct permissions *p = permissions_new(&tools, &last.rules, last.pos);
    ck_assert_ptr_nonnull(p);
    ck_assert(!permissions_compiled(p));
    return p;
}

static struct permissions *compiled(const struct oracle_set *o) {
    static uint32_t number;
    world_rules(&w, ++number, o->lines, o->count, o->responses_max, o->responses_ms);
    struct permissions *p = newest();
    ck_assert(permissions_compile(p, &book) || permissions_compile(p, &book));
    return p;
}

/* ---- the table ---- */

struct line {
    const char *set; /* lines, separated by ';' */
    char what;       /* p: publish, s: subscribe, d: deliver to a subscription that may be wider */
    const char *subject, *queue;
    bool allowed;
};

static const struct line table[] = {
    {"-pub x", 'p', "y", NULL, true},
    {"-pub x", 'p', "x", NULL, false},
    {"+pub p.>", 'p', "p.a", NULL, true},
    {"+pub p.>", 'p', "p", NULL, false},
    {"+pub p.>", 'p', "p..a", NULL, false},
    {"-pub p.x", 'p', "p..a", NULL, true},
    {"+pub p.>", 'p', "p.*", NULL, true},
    {"-pub p.x", 'p', "p.*", NULL, true},
    {"-pub p.*", 'p', "p.>", NULL, false},
    {"+pub p.>;-pub p.x", 'p', "p.x", NULL, false},
    {"+pub", 'p', "p", NULL, false},
    {"+pub;-sub q", 'p', "a..b", NULL, false},
    {"+sub s.>", 's', "s.*", NULL, true},
    {"+sub s.*", 's', ">", NULL, false},
    {"+sub s.*", 's', "*.*", NULL, false},
    {"+sub s.*", 's', "s.>", NULL, false}, /* the safe answer */
    {"+sub s.*", 's', "s.*", NULL, true},
    {"+sub s.>", 's', "s.>", NULL, true},
    {"+sub >", 's', ">", NULL, true},
    {"+sub *", 's', ">", NULL, false},
    {"+sub s.a", 's', "s..a", NULL, false},
    {"-sub s.a", 's', "s..a", NULL, true},
    {"+sub", 's', "x", NULL, false},
    {"-sub d.*", 's', "d.x", NULL, false},
    {"-sub d.*", 's', "d.*", NULL, false},
    {"-sub d.*", 's', "d.>", NULL, false},
    {"-sub d.*", 's', ">", NULL, true},
    {"-sub d.*", 's', "*", NULL, true},
    {"-sub d.*", 'd', "d.x", NULL, false},
    {"-sub d.*", 'd', "d.x", "q", false},
    {"-sub d.*", 'd', "d.x.y", NULL, true},
    {"+sub foo", 's', "foo", "any", true},
    {"+sub foo q1", 's', "foo", "q1", true},
    {"+sub foo q1", 's', "foo", "q2", false},
    {"+sub foo q1", 's', "foo", NULL, false},
    {"+sub foo;+sub foo q1", 's', "foo", NULL, true},
    {"+sub foo;+sub foo q1", 's', "foo", "q1", true},
    {"+sub foo;+sub foo q1", 's', "foo", "q2", false},
    {"+sub foo v1.*", 's', "foo", "v1.x", true},
    {"+sub foo v1.*", 's', "foo", "v2.x", false},
    {"+sub foo v1.*", 's', "foo", "v1.*", true},
    {"-sub foo q1", 's', "foo", "q1", false},
    {"-sub foo q1", 's', "foo", "q2", true},
    {"-sub foo q1", 's', "foo", NULL, true},
    {"-sub foo q1;-sub foo", 's', "foo", "q2", false}, /* the plain one holds for all */
    {"-sub foo v1.>", 's', "foo", "v1.a.b", false},
    {"-sub foo q1", 'd', "foo", "q1", false},
    {"-sub foo q1", 'd', "foo", "q2", true},
    {"-sub foo q1", 'd', "foo", NULL, true},
};

static void lines_of(struct oracle_set *o, const char *text) {
    char copy[200];
    snprintf(copy, sizeof copy, "%s", text);
    for (char *save = NULL, *line = strtok_r(copy, ";", &save); line; line = strtok_r(NULL, ";", &save)) {
        snprintf(o->line[o->count], ORACLE_LINE_MAX, "%s", line);
        o->lines[o->count] = o->line[o->count];
        o->count++;
    }
}

static bool answer(struct permissions *p, char what, struct view subject, struct view queue) {
    if (what == 'p')
        return permissions_publish(p, subject);
    return what == 's' ? permissions_subscribe(p, subject, queue) : permissions_deliver(p, subject, queue, 0);
}

START_TEST(test_table) {
    const struct line *l = &table[_i];
    struct oracle_set o = {0};
    lines_of(&o, l->set);
    struct permissions *p = compiled(&o);
    for (int again = 0; again < 2; again++) /* the second time it is remembered */
        ck_assert_msg(answer(p, l->what, view_text(l->subject), l->queue ? view_text(l->queue) : (struct view){0}) ==
                          l->allowed,
                      "%s: %c %s %s", l->set, l->what, l->subject, l->queue ? l->queue : "");
    permissions_free(p);
}
END_TEST

/* ---- random sets ---- */

static void ask(struct rnd *r, struct permissions *p, const struct oracle_set *o, uint64_t seed) {
    char subject[ORACLE_LINE_MAX], pattern[ORACLE_LINE_MAX];
    const char *queue = oracle_random_queue(r);
    struct view q = queue ? view_text(queue) : (struct view){0};
    oracle_random_subject(r, subject, true);
    oracle_random_pattern(r, pattern, rnd_below(r, 2));
    bool publish = permissions_publish(p, view_text(subject));
    bool subscribe = permissions_subscribe(p, view_text(pattern), q);
    uint64_t no = rnd_next(r) | 1;
    char delivered[ORACLE_LINE_MAX]; /* nothing with an empty token ever is */
    do
        oracle_random_subject(r, delivered, true);
    while (!subject_has_tokens(view_text(delivered)));
    bool deliver = permissions_deliver(p, view_text(delivered), q, no);
    bool again = permissions_deliver(p, view_text(delivered), q, no);
    bool plain = permissions_deliver(p, view_text(delivered), (struct view){0}, no);
    bool good = publish == oracle_publish(o, subject) && subscribe == oracle_subscribe(o, pattern, queue) &&
                deliver == !oracle_withheld(o, delivered, queue) && again == deliver &&
                plain == !oracle_withheld(o, delivered, NULL);
    /* What is not filtered needs no look. */
    if (subscribe && oracle_matches(pattern, delivered) && !permissions_filters(p, view_text(pattern), q))
        good &= !oracle_withheld(o, delivered, queue);
    if (!good) {
        oracle_print(o);
        printf("seed %llu: subject %s %s, pattern %s, queue %s: publish %d, subscribe %d, deliver %d %d, plain %d\n",
               (unsigned long long)seed, subject, delivered, pattern, queue ? queue : "-", publish, subscribe, deliver,
               again, plain);
    }
    ck_assert(good);
}

START_TEST(test_random) {
    uint64_t first = env_number("PERMISSIONS_SEED", 1), allowed = 0, denied = 0;
    for (uint64_t seed = first; seed < first + 400; seed++) {
        struct rnd r = {seed};
        struct oracle_set o;
        oracle_random_set(&r, &o);
        struct permissions *p = compiled(&o);
        for (int i = 0; i < 200; i++)
            ask(&r, p, &o, seed);
        for (int i = 0; i < 20; i++) {
            char subject[ORACLE_LINE_MAX];
            oracle_random_subject(&r, subject, false);
            (oracle_publish(&o, subject) ? &allowed : &denied)[0]++;
        }
        permissions_free(p);
    }
    ck_assert_msg(allowed > 100 && denied > 100, "the sets say nothing: %llu, %llu", (unsigned long long)allowed,
                  (unsigned long long)denied);
}
END_TEST

/* ---- large and bad ones ---- */

static void append(uint32_t number, uint32_t count, enum book_rule_kind kind, const char *format) {
    struct book_rules *rules = calloc(1, sizeof *rules + BOOK_RULES_BYTES_MAX);
    ck_assert_ptr_nonnull(rules);
    rules->number = number;
    for (uint32_t i = 0; i < count; i++) {
        char subject[64];
        snprintf(subject, sizeof subject, format, i);
        ck_assert_int_eq(book_rules_add(rules, BOOK_RULES_BYTES_MAX, kind, view_text(subject), (struct view){0}),
                         ERR_OK);
    }
    ck_assert_int_eq(book_append(&w.book, BOOK_RULES, rules, (uint32_t)sizeof *rules + rules->bytes), ERR_OK);
    free(rules);
}

START_TEST(test_large_in_steps) {
    append(1000, 40000, BOOK_PUB_ALLOW, "tenant.%u.>");
    struct permissions *p = newest();
    uint32_t steps = 1;
    for (; !permissions_compile(p, &book); steps++) {
        ck_assert_uint_le(work, (COST_RULE + 32) * PERMISSIONS_COMPILED_AT_ONCE);
        ck_assert_uint_gt(work, PERMISSIONS_COMPILED_AT_ONCE);
        work = 0;
    }
    ck_assert_uint_eq(steps, 40000 / PERMISSIONS_COMPILED_AT_ONCE + 1);
    ck_assert(permissions_publish(p, VIEW("tenant.39999.x")));
    ck_assert(!permissions_publish(p, VIEW("tenant.40000.x")));
    permissions_free(p);
}
END_TEST

/* With many deny rules a subscription is filtered without a look at each. */
START_TEST(test_many_denies) {
    append(1001, PERMISSIONS_OVERLAPS + 1, BOOK_SUB_DENY, "d.%u");
    struct permissions *p = newest();
    while (!permissions_compile(p, &book)) {
    }
    ck_assert(permissions_filters(p, VIEW("e.*"), (struct view){0}));
    ck_assert(!permissions_filters(p, VIEW("e.x"), (struct view){0}));
    ck_assert(!permissions_deliver(p, VIEW("d.64"), (struct view){0}, 0));
    ck_assert(permissions_deliver(p, VIEW("d.65"), (struct view){0}, 0));
    permissions_free(p);
}
END_TEST

/* Whatever cannot be compiled allows nothing. */
START_TEST(test_bad_pattern) {
    append(1002, 3, BOOK_PUB_DENY, "x..%u");
    struct permissions *p = newest();
    ck_assert(permissions_compile(p, &book));
    ck_assert(!permissions_publish(p, VIEW("y")));
    ck_assert(!permissions_subscribe(p, VIEW("y"), (struct view){0}));
    ck_assert(!permissions_deliver(p, VIEW("y"), (struct view){0}, 0));
    permissions_free(p);
}
END_TEST

START_TEST(test_damaged) {
    append(1003, 3, BOOK_PUB_ALLOW, "x.%u");
    struct permissions *p = newest();
    w.book.at[w.book.pos - 8] ^= 1;
    ck_assert(permissions_compile(p, &book));
    ck_assert(!permissions_publish(p, VIEW("x.0")));
    permissions_free(p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("permissions");
    TCase *c = tcase_create("permissions");
    tcase_set_timeout(c, 600);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, test_table, 0, sizeof table / sizeof *table);
    tcase_add_test(c, test_random);
    tcase_add_test(c, test_large_in_steps);
    tcase_add_test(c, test_many_denies);
    tcase_add_test(c, test_bad_pattern);
    tcase_add_test(c, test_damaged);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
