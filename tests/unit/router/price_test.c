/* SPDX-License-Identifier: Apache-2.0 */
/* The price of a subscription against what it really takes: never less, at most so many times more, and the same when it is
 * given back. SEED can be given in the environment. */
#include "router/sublist.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/edge.h"
#include "tests/unit/unit.h"

enum {
    SLACK = 33 * 64 * 1024 /* a chunk of the pool may be nearly empty, one for each size of a piece */
};

static struct hash_key key;
static struct slab slab;
static char pattern_text[SUBLIST_TEXT_MAX], queue_text[SUBLIST_TEXT_MAX];

static struct view tokens(uint32_t number, uint32_t count, const char *first, const char *rest) {
    size_t len = (size_t)snprintf(pattern_text, sizeof pattern_text, "%s%u", first, number);
    for (uint32_t i = 1; i < count; i++)
        len += (size_t)snprintf(pattern_text + len, sizeof pattern_text - len, ".%s", i == 1 ? "*" : rest);
    return view_of(pattern_text, len);
}

static struct view padded(uint32_t number, size_t len) {
    memset(pattern_text, 'x', len);
    int n = snprintf(pattern_text, sizeof pattern_text, "%u", number);
    pattern_text[n] = 'y';
    return view_of(pattern_text, len);
}

static struct view literal_short(uint32_t n) {
    return tokens(n, 1, "foo.bar.", "");
}
static struct view literal_200(uint32_t n) {
    return padded(n, 200);
}
static struct view literal_201(uint32_t n) {
    return padded(n, 201);
}
static struct view literal_4000(uint32_t n) {
    return padded(n, 4000);
}
static struct view same(uint32_t n) {
    (void)n;
    return VIEW("a.b.c");
}
static struct view inbox(uint32_t n) {
    return tokens(n, 2, "_INBOX.abcdefghijklmnop", "");
}
static struct view three(uint32_t n) {
    return tokens(n, 3, "orders.", "x");
}
static struct view sixteen(uint32_t n) {
    return tokens(n, 16, "x", "a");
}
static struct view attack(uint32_t n) {
    return tokens(n, 2000, "x", "a");
}
static struct view long_tokens(uint32_t n) {
    static char token[301];
    memset(token, 't', 300);
    return tokens(n, 10, "x", token);
}
static struct view none(uint32_t n) {
    (void)n;
    return view_of(NULL, 0);
}
static struct view one_queue(uint32_t n) {
    (void)n;
    return VIEW("workers");
}
static struct view own_queue(uint32_t n) {
    return view_of(queue_text, (size_t)snprintf(queue_text, sizeof queue_text, "q%u", n));
}
static struct view long_queue(uint32_t n) {
    int len = snprintf(queue_text, sizeof queue_text, "q%u", n);
    memset(queue_text + len, 'q', 1000);
    return view_of(queue_text, (size_t)len + 1000);
}

/* Subscriptions of one shape; most: the price is at most so many percent of what they take. */
static const struct {
    const char *name;
    struct view (*pattern)(uint32_t n), (*queue)(uint32_t n);
    uint32_t count, most;
} shapes[] = {
    {"short literals", literal_short, none, 400000, 200},
    {"literals of 200 bytes", literal_200, none, 100000, 200},
    {"literals of 201 bytes", literal_201, none, 100000, 200},
    {"literals of 4,000 bytes", literal_4000, none, 20000, 200},
    {"one subject for all", same, none, 400000, 350},
    {"inboxes", inbox, none, 200000, 200},
    {"three tokens", three, none, 200000, 200},
    {"sixteen tokens", sixteen, none, 40000, 200},
    {"2,000 tokens", attack, none, 500, 800},
    {"long tokens", long_tokens, none, 10000, 200},
    {"one queue, one subject", same, one_queue, 400000, 600},
    {"one queue, many subjects", literal_short, one_queue, 200000, 250},
    {"a queue for each", same, own_queue, 200000, 250},
    {"long names of queues", same, long_queue, 20000, 200},
    {"patterns with a queue for each", inbox, own_queue, 100000, 200},
};

START_TEST(test_shapes) {
    struct sublist *s = sublist_new(&key, &slab);
    uint32_t count = shapes[_i].count;
    struct sub *subs = calloc(count, sizeof *subs);
    uint64_t charged = 0;
    for (uint32_t n = 0; n < count; n++) {
        struct view pattern = shapes[_i].pattern(n), queue = shapes[_i].queue(n);
        if (sublist_insert(s, &subs[n], pattern, queue) != ERR_OK)
            ck_abort_msg("%s: no memory", shapes[_i].name);
        charged += sublist_price(pattern, queue);
        uint64_t taken = sublist_bytes(s) + (uint64_t)(n + 1) * SUBLIST_SUB_BYTES;
        if (taken > charged + SLACK)
            ck_abort_msg("%s: %u take %lu bytes and are charged %lu", shapes[_i].name, n + 1, taken, charged);
    }
    uint64_t taken = sublist_bytes(s) + (uint64_t)count * SUBLIST_SUB_BYTES;
    ck_assert_msg(charged * 100 <= taken * shapes[_i].most, "%s: charged %lu for %lu bytes", shapes[_i].name, charged,
                  taken);
    if (getenv("PRICES"))
        printf("%-32s taken %5.1f charged %5.1f each, %.0f %%\n", shapes[_i].name, (double)taken / count,
               (double)charged / count, 100.0 * (double)charged / (double)taken);
    for (uint32_t n = 0; n < count; n++) {
        charged -= sublist_price_of(s, &subs[n]);
        sublist_remove(s, &subs[n]);
    }
    ck_assert_uint_eq(charged, 0);
    ck_assert_uint_eq(sublist_bytes(s), 0);
    free(subs);
    sublist_free(s);
    slab_free(&slab);
}
END_TEST

/* The same price at the end as at the beginning, whatever comes and goes between. */
START_TEST(test_symmetry) {
    enum { LIVE = 3000, OPERATIONS = 200000 };
    struct rnd rnd = {env_number("SEED", 1)};
    printf("SEED=%lu\n", rnd.state);
    struct sublist *s = sublist_new(&key, &slab);
    static struct sub subs[LIVE];
    static uint64_t charged[LIVE];
    for (uint32_t i = 0; i < OPERATIONS; i++) {
        uint32_t n = rnd_below(&rnd, LIVE);
        if (charged[n] != 0) {
            if (sublist_price_of(s, &subs[n]) != charged[n])
                ck_abort_msg("operation %u: charged %lu, given back %lu", i, charged[n], sublist_price_of(s, &subs[n]));
            sublist_remove(s, &subs[n]);
            charged[n] = 0;
            continue;
        }
        uint32_t shape = rnd_below(&rnd, sizeof shapes / sizeof *shapes), number = rnd_below(&rnd, 64);
        struct view pattern = shapes[shape].pattern(number), queue = shapes[shape].queue(rnd_below(&rnd, 4));
        subs[n] = (struct sub){0};
        if (sublist_insert(s, &subs[n], pattern, queue) != ERR_OK)
            ck_abort_msg("no memory");
        charged[n] = sublist_price(pattern, queue);
    }
    sublist_free(s);
    slab_free(&slab);
}
END_TEST

int main(void) {
    hash_key_make(&key);
    Suite *suite = suite_create("price");
    TCase *c = tcase_create("price");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, test_shapes, 0, sizeof shapes / sizeof *shapes);
    tcase_add_test(c, test_symmetry);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
