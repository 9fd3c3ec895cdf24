/* SPDX-License-Identifier: Apache-2.0 */
/* The sublist: named cases, a property test against a matcher that knows no trie, growth and return of memory, an
 * adversary's trie. SEED and OPS (operations of the property test) can be given in the environment. */
#include "router/sublist.h"

#include <check.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/unit/unit.h"

static struct hash_key key;
static struct slab slab;
static const struct view NO_QUEUE = {NULL, 0};

static unsigned long env_number(const char *name, unsigned long otherwise) {
    const char *given = getenv(name);
    return given ? strtoul(given, NULL, 0) : otherwise;
}

static struct sublist *new_list(void) {
    hash_key_make(&key);
    struct sublist *s = sublist_new(&key, &slab);
    ck_assert_ptr_nonnull(s);
    return s;
}

static void free_list(struct sublist *s) {
    sublist_free(s);
    slab_free(&slab);
}

static void assert_empty(const struct sublist *s) {
    struct sublist_stats stats;
    sublist_stats(s, &stats);
    ck_assert_uint_eq(stats.sub_count, 0);
    ck_assert_uint_eq(stats.literal_count, 0);
    ck_assert_uint_eq(stats.trie_count, 0);
    ck_assert_uint_eq(stats.bytes, 0);
}

/* For loops: Check's own assertions write to a pipe each time. */
#define MUST_SAY(cond, ...)                                                                                            \
    do {                                                                                                               \
        if (!(cond))                                                                                                   \
            ck_abort_msg(__VA_ARGS__);                                                                                 \
    } while (0)
#define MUST(cond) MUST_SAY(cond, "%s", #cond)

static uint32_t count_of(struct sublist *s, struct view subject) {
    struct match m = {0};
    ck_assert_int_eq(sublist_match(s, subject, &m, NULL), ERR_OK);
    uint32_t count = m.plain_total;
    for (uint32_t i = 0; i < m.queue_count; i++)
        count += m.queue[i].run.count;
    match_free(&m);
    return count;
}

/* --- named cases: one pattern, one subject --- */

static const struct {
    const char *name, *pattern, *subject;
    bool matches;
} cases[] = {
    {"same literal", "a.b", "a.b", true},
    {"one token", "a", "a", true},
    {"case matters", "a.b", "a.B", false},
    {"prefix is not enough", "a.b", "a.b.c", false},
    {"shorter subject", "a.b", "a", false},
    {"star is one token", "a.*", "a.b", true},
    {"star is not two tokens", "a.*", "a.b.c", false},
    {"star is not none", "a.*", "a", false},
    {"star first", "*.b", "a.b", true},
    {"star alone", "*", "a", true},
    {"star alone, two tokens", "*", "a.b", false},
    {"star in the middle", "a.*.c", "a.b.c", true},
    {"star in the middle, wrong end", "a.*.c", "a.b.d", false},
    {"rest is one", "a.>", "a.b", true},
    {"rest is many", "a.>", "a.b.c.d", true},
    {"rest is not none", "a.>", "a", false},
    {"rest alone", ">", "a.b.c", true},
    {"star then rest", "*.>", "a.b", true},
    {"star then rest, one token", "*.>", "a", false},
    {"published star meets star", "a.*", "a.*", true},
    {"published star meets rest", "a.>", "a.*", true},
    {"published star meets all", ">", "a.*", true},
    {"published star is no wildcard", "a.b", "a.*", false},
    {"published rest meets rest", "a.>", "a.>", true},
    {"published rest meets star", "a.*", "a.>", true},
    {"published rest is no wildcard", "a.b", "a.>", false},
    {"published rest alone", ">", ">", true},
    {"published rest in the middle", "a.*.b", "a.>.b", true},
    {"published star, literal part differs", "b.*", "a.*", false},
    {"star in a token is text", "a*", "a*", true},
    {"star in a token is text, other", "a*", "ab", false},
    {"two stars are text", "**", "**", true},
    {"two rests are text", "a.>>", "a.>>", true},
    {"text with star under a wildcard", "a*.*", "a*.b", true},
    {"text with star is not an edge for more", "a*.*", "ab.b", false},
    {"bytes beyond ASCII", "\xc3\xa9.*", "\xc3\xa9.\xff", true},
};

START_TEST(test_cases) {
    for (int queued = 0; queued < 2; queued++) {
        struct sublist *s = new_list();
        struct sub sub = {0};
        struct view queue = queued ? VIEW("q") : NO_QUEUE;
        ck_assert_int_eq(sublist_insert(s, &sub, view_text(cases[_i].pattern), queue), ERR_OK);
        ck_assert_msg(count_of(s, view_text(cases[_i].subject)) == cases[_i].matches, "%s", cases[_i].name);
        char out[64];
        size_t len = sublist_pattern(s, &sub, out, sizeof out);
        ck_assert_msg(view_equal(view_of(out, len), view_text(cases[_i].pattern)), "%s", cases[_i].name);
        sublist_remove(s, &sub);
        ck_assert_msg(count_of(s, view_text(cases[_i].subject)) == 0, "%s", cases[_i].name);
        assert_empty(s);
        free_list(s);
    }
}
END_TEST

START_TEST(test_plain_and_queue_results) {
    static const struct {
        const char *pattern, *queue;
    } subs_of[] = {{"q", ""}, {"q", "g"}, {">", "g"}, {"q", "h"}, {"*", "h"},
                   {"*", ""}, {"q", "g"}, {"x", "g"}, {"q", ""}};
    enum { COUNT = sizeof subs_of / sizeof subs_of[0] };
    struct sublist *s = new_list();
    struct sub subs[COUNT] = {0};
    for (int i = 0; i < COUNT; i++)
        ck_assert_int_eq(sublist_insert(s, &subs[i], view_text(subs_of[i].pattern), view_text(subs_of[i].queue)),
                         ERR_OK);
    struct match m = {0};
    uint32_t visited;
    ck_assert_int_eq(sublist_match(s, VIEW("q"), &m, &visited), ERR_OK);
    ck_assert_uint_eq(m.plain_total, 3);
    ck_assert_uint_eq(m.queue_count, 4);
    ck_assert_uint_gt(visited, 0);
    ck_assert_uint_eq(m.queue[0].queue, m.queue[1].queue);
    ck_assert_uint_eq(m.queue[2].queue, m.queue[3].queue);
    ck_assert_uint_ne(m.queue[1].queue, m.queue[2].queue);
    ck_assert_uint_eq(subs[1].queue, subs[7].queue);
    ck_assert(view_equal(sublist_queue_name(s, subs[7].queue), VIEW("g")));
    match_free(&m);
    for (int i = 0; i < COUNT; i++)
        sublist_remove(s, &subs[i]);
    assert_empty(s);
    free_list(s);
}
END_TEST

START_TEST(test_pattern_is_cut_to_cap) {
    static const char *const patterns[] = {"abc.defg.h", "abc.*.>", "*.xyz"};
    struct sublist *s = new_list();
    for (size_t i = 0; i < sizeof patterns / sizeof patterns[0]; i++) {
        struct sub sub = {0};
        ck_assert_int_eq(sublist_insert(s, &sub, view_text(patterns[i]), NO_QUEUE), ERR_OK);
        for (size_t cap = 0; cap < 16; cap++) {
            char out[16];
            memset(out, '#', sizeof out);
            size_t len = sublist_pattern(s, &sub, out, cap);
            ck_assert_uint_eq(len, strlen(patterns[i]));
            size_t kept = len < cap ? len : cap;
            ck_assert_msg(memcmp(out, patterns[i], kept) == 0 && (kept == 16 || out[kept] == '#'),
                          "%s cut to %zu: %.16s", patterns[i], cap, out);
        }
        sublist_remove(s, &sub);
    }
    free_list(s);
}
END_TEST

START_TEST(test_too_long) {
    struct sublist *s = new_list();
    char *text = malloc(SUBLIST_TEXT_MAX + 1);
    memset(text, 'a', SUBLIST_TEXT_MAX + 1);
    struct sub sub = {0};
    ck_assert_int_eq(sublist_insert(s, &sub, view_of(text, SUBLIST_TEXT_MAX + 1), NO_QUEUE), ERR_LONG);
    ck_assert_int_eq(sublist_insert(s, &sub, VIEW("a"), view_of(text, SUBLIST_TEXT_MAX + 1)), ERR_LONG);
    ck_assert_int_eq(sublist_insert(s, &sub, view_of(text, SUBLIST_TEXT_MAX), view_of(text, SUBLIST_TEXT_MAX)), ERR_OK);
    ck_assert_uint_eq(count_of(s, view_of(text, SUBLIST_TEXT_MAX)), 1);
    ck_assert_uint_eq(sublist_queue_name(s, sub.queue).len, SUBLIST_TEXT_MAX);
    sublist_remove(s, &sub);
    assert_empty(s);
    free(text);
    free_list(s);
}
END_TEST

/* 30,000 tokens, as literal, with a star at every place, with a rest at the end. */
START_TEST(test_deep) {
    enum { TOKENS = 30000 };
    struct sublist *s = new_list();
    char *literal = malloc(2 * TOKENS), *stars = malloc(2 * TOKENS), *rest = malloc(2 * TOKENS),
         *out = malloc(2 * TOKENS);
    for (size_t i = 0; i < TOKENS; i++) {
        literal[2 * i] = rest[2 * i] = 'a';
        stars[2 * i] = i % 2 ? 'a' : '*';
        literal[2 * i + 1] = stars[2 * i + 1] = rest[2 * i + 1] = '.';
    }
    size_t len = 2 * TOKENS - 1;
    rest[len - 1] = '>';
    struct sub subs[3] = {0};
    ck_assert_int_eq(sublist_insert(s, &subs[0], view_of(literal, len), NO_QUEUE), ERR_OK);
    ck_assert_int_eq(sublist_insert(s, &subs[1], view_of(stars, len), NO_QUEUE), ERR_OK);
    ck_assert_int_eq(sublist_insert(s, &subs[2], view_of(rest, len), VIEW("q")), ERR_OK);
    ck_assert_uint_eq(count_of(s, view_of(literal, len)), 3);
    ck_assert_uint_eq(count_of(s, view_of(literal, len - 2)), 0);
    ck_assert_uint_eq(sublist_pattern(s, &subs[1], out, len), len);
    ck_assert(memcmp(out, stars, len) == 0);
    struct sublist_stats stats;
    sublist_stats(s, &stats);
    ck_assert_uint_lt(stats.bytes, 2 * len * 50);
    for (int i = 0; i < 3; i++)
        sublist_remove(s, &subs[i]);
    assert_empty(s);
    free(literal);
    free(stars);
    free(rest);
    free(out);
    free_list(s);
}
END_TEST

/* One subject with many subscriptions, plain and as one group; removed in an order of its own. */
START_TEST(test_big_group) {
    enum { COUNT = 100000, STRIDE = 7919 };
    struct sublist *s = new_list();
    struct sub *subs = calloc(COUNT, sizeof *subs);
    for (uint32_t i = 0; i < COUNT; i++)
        MUST(sublist_insert(s, &subs[i], VIEW("s"), i % 2 ? VIEW("g") : NO_QUEUE) == ERR_OK);
    struct match m = {0};
    MUST(sublist_match(s, VIEW("s"), &m, NULL) == ERR_OK);
    MUST(m.plain_count == 1);
    MUST(m.plain_total == COUNT / 2);
    MUST(m.queue_count == 1);
    MUST(m.queue[0].run.count == COUNT / 2);
    match_free(&m);
    for (uint32_t i = 0; i < COUNT; i++) {
        sublist_remove(s, &subs[(uint64_t)i * STRIDE % COUNT]);
        if (i % 10000 == 0)
            MUST(count_of(s, VIEW("s")) == COUNT - 1 - i);
    }
    assert_empty(s);
    free(subs);
    free_list(s);
}
END_TEST

/* Many groups at one subject and once more under a pattern: still one pair of runs per name. */
START_TEST(test_many_groups) {
    enum { COUNT = MATCH_QUEUES_MAX / 2 };
    struct sublist *s = new_list();
    struct sub *subs = calloc(COUNT * 2, sizeof *subs);
    char name[16];
    for (int i = 0; i < COUNT; i++) {
        struct view queue = view_of(name, (size_t)snprintf(name, sizeof name, "g%d", i));
        MUST(sublist_insert(s, &subs[2 * i], VIEW("s"), queue) == ERR_OK);
        MUST(sublist_insert(s, &subs[2 * i + 1], VIEW("*"), queue) == ERR_OK);
    }
    struct match m = {0};
    MUST(sublist_match(s, VIEW("s"), &m, NULL) == ERR_OK);
    MUST(m.queue_count == 2 * COUNT);
    for (uint32_t i = 0; i < m.queue_count; i += 2) {
        MUST(m.queue[i].queue == m.queue[i + 1].queue);
        MUST(i == 0 || m.queue[i].queue != m.queue[i - 1].queue);
    }
    match_free(&m);
    for (int i = 0; i < COUNT * 2; i++)
        sublist_remove(s, &subs[i]);
    assert_empty(s);
    free(subs);
    free_list(s);
}
END_TEST

/* --- growth --- */

static struct view number_subject(char *out, size_t cap, uint32_t i) {
    return view_of(out, (size_t)snprintf(out, cap, "grow.%03u.number.%06u", i % 1000, i));
}

START_TEST(test_growth) {
    const uint32_t count = (uint32_t)env_number("GROWTH", 500000);
    struct sublist *s = new_list();
    struct sub *subs = calloc(count, sizeof *subs);
    struct match m = {0};
    struct sublist_stats stats;
    char text[40];
    for (uint32_t i = 0; i < count; i++) {
        MUST(sublist_insert(s, &subs[i], number_subject(text, sizeof text, i), NO_QUEUE) == ERR_OK);
        uint32_t known = (uint32_t)((uint64_t)i * 2654435761u % (i + 1));
        MUST(sublist_match(s, number_subject(text, sizeof text, known), &m, NULL) == ERR_OK);
        MUST_SAY(m.plain_total == 1 && m.plain[0].subs[0] == &subs[known], "subject %u after %u", known, i);
        MUST(sublist_match(s, number_subject(text, sizeof text, i + 1), &m, NULL) == ERR_OK);
        MUST(m.plain_total == 0);
        if (i % 5000 == 4999) {
            sublist_stats(s, &stats);
            MUST(stats.literal_count == i + 1);
            MUST_SAY(stats.bytes <= (i + 1) * UINT64_C(90), "%.1f bytes each at %u", (double)stats.bytes / (i + 1),
                     i + 1);
        }
    }
    sublist_stats(s, &stats);
    uint64_t bytes_full = stats.bytes;
    MUST(stats.sub_count == count);
    for (uint32_t i = 0; i < count; i++) {
        sublist_remove(s, &subs[i]);
        MUST(sublist_match(s, number_subject(text, sizeof text, i), &m, NULL) == ERR_OK);
        MUST(m.plain_total == 0);
        if (i + 1 < count) {
            uint32_t left = i + 1 + (uint32_t)((uint64_t)i * 2654435761u % (count - i - 1));
            MUST(sublist_match(s, number_subject(text, sizeof text, left), &m, NULL) == ERR_OK);
            MUST_SAY(m.plain_total == 1 && m.plain[0].subs[0] == &subs[left], "subject %u without %u", left, i);
        }
        if (i == count / 100 * 95) {
            sublist_stats(s, &stats);
            MUST(stats.bytes < bytes_full / 5);
        }
    }
    assert_empty(s);
    match_free(&m);
    free(subs);
    free_list(s);
}
END_TEST

/* A constant number of subscriptions to ever new subjects must not need more and more memory. */
START_TEST(test_churn_does_not_grow) {
    enum { LIVE = 2000, TURNS = 200000 };
    struct sublist *s = new_list();
    struct sub *subs = calloc(LIVE, sizeof *subs);
    struct sublist_stats stats;
    uint64_t bytes_early = 0;
    char text[40];
    for (uint32_t i = 0; i < TURNS; i++) {
        struct sub *sub = &subs[i % LIVE];
        if (i >= LIVE)
            sublist_remove(s, sub);
        MUST(sublist_insert(s, sub, number_subject(text, sizeof text, i), NO_QUEUE) == ERR_OK);
        if (i == 2 * LIVE) {
            sublist_stats(s, &stats);
            bytes_early = stats.bytes;
        }
    }
    sublist_stats(s, &stats);
    MUST(stats.sub_count == LIVE);
    MUST(stats.bytes <= bytes_early + bytes_early / 4);
    sublist_free(s); /* with all of them in it */
    slab_free(&slab);
    free(subs);
}
END_TEST

/* --- the adversary --- */

/* All patterns of so many tokens, each 'a' or '*'. */
static struct sub *insert_all_patterns(struct sublist *s, uint32_t depth) {
    struct sub *subs = calloc((size_t)1 << depth, sizeof *subs);
    char pattern[64];
    for (uint32_t i = 0; i < UINT32_C(1) << depth; i++) {
        for (uint32_t j = 0; j < depth; j++) {
            pattern[2 * j] = i >> j & 1 ? '*' : 'a';
            pattern[2 * j + 1] = '.';
        }
        MUST(sublist_insert(s, &subs[i], view_of(pattern, 2 * depth - 1), NO_QUEUE) == ERR_OK);
    }
    return subs;
}

START_TEST(test_adversary_within_bound) {
    enum { DEPTH = MATCH_TOKENS_WHOLE };
    struct sublist *s = new_list();
    struct sub *subs = insert_all_patterns(s, DEPTH);
    struct match m = {0};
    uint32_t visited;
    MUST(sublist_match(s, VIEW("a.a.a.a.a.a.a.a.a.a.a"), &m, &visited) == ERR_OK);
    MUST(m.plain_total == 1 << DEPTH);
    MUST(visited == (1 << (DEPTH + 1)) - 2); /* all but the leaf without a star, which is a literal */
    match_free(&m);
    free(subs);
    free_list(s);
}
END_TEST

START_TEST(test_adversary_beyond_bound) {
    enum { DEPTH = 20 };
    struct sublist *s = new_list();
    struct sub *subs = insert_all_patterns(s, DEPTH);
    struct match m = {0};
    uint32_t visited = 0;
    const char *subject = "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a";
    MUST(sublist_match(s, view_text(subject), &m, &visited) == ERR_RANGE);
    MUST(visited == MATCH_VISIT_MAX + strlen(subject) + 1);
    MUST(m.plain_count > 0 && m.plain_count < MATCH_VISIT_MAX);
    /* Another subject of the same account is not hurt. */
    MUST(sublist_match(s, view_text(subject + 20), &m, &visited) == ERR_OK);
    for (uint32_t i = 0; i < UINT32_C(1) << DEPTH; i++)
        sublist_remove(s, &subs[i]);
    assert_empty(s);
    match_free(&m);
    free(subs);
    free_list(s);
}
END_TEST

/* --- the property test --- */

enum { LIVE_MAX = 256, TEXT_MAX = 60000, TOKEN_MAX = 30000 };

struct live {
    struct sub sub; /* stamp: marks of the last match that saw it */
    char *pattern;
    size_t pattern_len;
    char queue[260];
    size_t queue_len;
};

static uint64_t random_state;

static uint32_t random_below(uint32_t n) {
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((random_state >> 33) % n);
}

/* The naive matcher: token against token, from left to right. */
static bool naive_matches(const char *pattern, size_t pattern_len, const char *subject, size_t subject_len) {
    size_t p = 0, t = 0;
    for (;;) {
        size_t p_end = p, t_end = t;
        while (p_end < pattern_len && pattern[p_end] != '.')
            p_end++;
        if (p_end - p == 1 && pattern[p] == '>')
            return true;
        while (t_end < subject_len && subject[t_end] != '.')
            t_end++;
        bool star = p_end - p == 1 && pattern[p] == '*';
        if (!star && (p_end - p != t_end - t || memcmp(pattern + p, subject + t, p_end - p) != 0))
            return false;
        bool p_last = p_end == pattern_len, t_last = t_end == subject_len;
        if (p_last || t_last)
            return p_last && t_last;
        p = p_end + 1;
        t = t_end + 1;
    }
}

static size_t add_token(char *out, size_t len, bool wild, bool last) {
    static const char *const plain[] = {"a", "b", "c", "aa", "foo", "a*", ">>", "bar-baz", "0123456789abcdef"};
    uint32_t pick = random_below(100);
    if (wild && pick < 30)
        out[len++] = '*';
    else if (wild && last && pick < 45)
        out[len++] = '>';
    else if (pick == 99 && random_below(20) == 0) {
        size_t long_len = 190 + random_below(100);
        memset(out + len, 'L', long_len);
        len += long_len;
    } else {
        const char *token = plain[random_below(pick < 80 ? 3 : sizeof plain / sizeof plain[0])];
        memcpy(out + len, token, strlen(token));
        len += strlen(token);
    }
    return len;
}

/* wild: tokens that are '*' or a last '>' are allowed, as they are in patterns and in what is published. */
static size_t make_subject(char *out, bool wild) {
    uint32_t kind = random_below(20000);
    uint32_t tokens = 1 + random_below(kind < 1000 ? 60 : 5);
    if (kind == 19999) { /* very deep: only tokens of one byte */
        tokens = TOKEN_MAX - random_below(3);
        for (uint32_t i = 0; i < tokens; i++) {
            out[2 * i] = wild && random_below(5000) == 0 ? '*' : 'a';
            out[2 * i + 1] = '.';
        }
        return 2 * (size_t)tokens - 1;
    }
    size_t len = 0;
    for (uint32_t i = 0; i < tokens; i++) {
        if (i > 0)
            out[len++] = '.';
        len = add_token(out, len, wild, i + 1 == tokens);
    }
    return len;
}

static void live_insert(struct sublist *s, struct live *l, char *text) {
    l->pattern_len = make_subject(text, random_below(2) == 0);
    l->pattern = malloc(l->pattern_len);
    memcpy(l->pattern, text, l->pattern_len);
    l->queue_len = 0;
    if (random_below(3) == 0)
        l->queue_len = (size_t)snprintf(l->queue, sizeof l->queue, "q%u", random_below(4));
    if (random_below(500) == 0) {
        memset(l->queue, 'q', 250);
        l->queue_len = 250;
    }
    l->sub = (struct sub){0};
    MUST(sublist_insert(s, &l->sub, view_of(l->pattern, l->pattern_len), view_of(l->queue, l->queue_len)) == ERR_OK);
}

static void live_remove(struct sublist *s, struct live *l) {
    sublist_remove(s, &l->sub);
    free(l->pattern);
    l->pattern = NULL;
}

static const struct live *live_of(const struct sub *sub) {
    return (const struct live *)(const void *)((const char *)sub - offsetof(struct live, sub));
}

/* Every sub of the result is stamped with op; a second stamp would be a double delivery. */
static uint32_t stamp_result(const struct sublist *s, const struct match *m, uint32_t op) {
    uint32_t count = 0, total = 0;
    for (uint32_t i = 0; i < m->plain_count; i++) {
        total += m->plain[i].count;
        for (uint32_t j = 0; j < m->plain[i].count; j++, count++) {
            struct sub *sub = m->plain[i].subs[j];
            MUST(sub->stamp != op && live_of(sub)->queue_len == 0 && sub->queue == 0);
            sub->stamp = op;
        }
    }
    MUST(total == m->plain_total);
    for (uint32_t i = 0; i < m->queue_count; i++) {
        struct view name = sublist_queue_name(s, m->queue[i].queue);
        MUST(m->queue[i].queue > 0);
        for (uint32_t j = 0; i > 0 && m->queue[i].queue != m->queue[i - 1].queue && j < i; j++)
            MUST(m->queue[j].queue != m->queue[i].queue);
        for (uint32_t j = 0; j < m->queue[i].run.count; j++, count++) {
            struct sub *sub = m->queue[i].run.subs[j];
            MUST(sub->stamp != op && sub->queue == m->queue[i].queue);
            MUST(view_equal(name, view_of(live_of(sub)->queue, live_of(sub)->queue_len)));
            sub->stamp = op;
        }
    }
    return count;
}

static void check_match(struct sublist *s, struct live *live, const char *subject, size_t len, struct match *m,
                        uint32_t op) {
    uint32_t visited, expected = 0;
    MUST(sublist_match(s, view_of(subject, len), m, &visited) == ERR_OK);
    uint32_t count = stamp_result(s, m, op);
    for (int i = 0; i < LIVE_MAX; i++) {
        if (live[i].pattern == NULL)
            continue;
        bool wanted = naive_matches(live[i].pattern, live[i].pattern_len, subject, len);
        expected += wanted;
        MUST_SAY(wanted == (live[i].sub.stamp == op), "operation %u: pattern %.*s, subject %.*s: %s", op,
                 (int)(live[i].pattern_len < 200 ? live[i].pattern_len : 200), live[i].pattern,
                 (int)(len < 200 ? len : 200), subject, wanted ? "missed" : "too much");
    }
    MUST(count == expected);
}

static void check_pattern(const struct sublist *s, const struct live *l, char *text) {
    size_t len = sublist_pattern(s, &l->sub, text, TEXT_MAX);
    MUST(view_equal(view_of(text, len), view_of(l->pattern, l->pattern_len)));
}

START_TEST(test_property) {
    const uint64_t seed = env_number("SEED", (unsigned long)time(NULL));
    const uint32_t ops = (uint32_t)env_number("OPS", 1000000);
    printf("sublist_test: SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    random_state = seed;
    struct sublist *s = new_list();
    struct live *live = calloc(LIVE_MAX, sizeof *live);
    char *text = malloc(TEXT_MAX);
    struct match m = {0};
    uint32_t live_count = 0, fill = 50; /* fill: of 100 changes, how many are inserts */
    for (uint32_t op = 1; op <= ops; op++) {
        if (op % 4096 == 0)
            fill = random_below(4) * 30 + 5;
        struct live *l = &live[random_below(LIVE_MAX)];
        bool insert = random_below(100) < fill;
        if (random_below(2) == 0) {
            check_match(s, live, text, make_subject(text, random_below(4) == 0), &m, op);
        } else if (l->pattern == NULL && insert) {
            live_insert(s, l, text);
            live_count++;
        } else if (l->pattern != NULL && !insert) {
            live_remove(s, l);
            live_count--;
        } else if (l->pattern != NULL) {
            check_pattern(s, l, text);
        }
        struct sublist_stats stats;
        sublist_stats(s, &stats);
        MUST(stats.sub_count == live_count);
        MUST((stats.bytes == 0) == (live_count == 0));
    }
    for (int i = 0; i < LIVE_MAX; i++) {
        if (live[i].pattern != NULL)
            live_remove(s, &live[i]);
    }
    assert_empty(s);
    match_free(&m);
    free(live);
    free(text);
    free_list(s);
}
END_TEST

/* A sublist may be freed with anything in it. */
START_TEST(test_free_with_everything_in_it) {
    random_state = env_number("SEED", (unsigned long)time(NULL));
    struct sublist *s = new_list();
    struct live *live = calloc(2000, sizeof *live);
    char *text = malloc(TEXT_MAX);
    for (int i = 0; i < 2000; i++)
        live_insert(s, &live[i], text);
    MUST(count_of(s, VIEW("a.b.c")) > 0);
    free_list(s);
    for (int i = 0; i < 2000; i++)
        free(live[i].pattern);
    free(live);
    free(text);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("sublist");
    TCase *c = tcase_create("cases");
    tcase_set_timeout(c, 300);
    tcase_add_loop_test(c, test_cases, 0, (int)(sizeof cases / sizeof cases[0]));
    tcase_add_test(c, test_plain_and_queue_results);
    tcase_add_test(c, test_pattern_is_cut_to_cap);
    tcase_add_test(c, test_too_long);
    tcase_add_test(c, test_deep);
    tcase_add_test(c, test_big_group);
    tcase_add_test(c, test_many_groups);
    tcase_add_test(c, test_churn_does_not_grow);
    tcase_add_test(c, test_free_with_everything_in_it);
    tcase_add_test(c, test_adversary_within_bound);
    suite_add_tcase(suite, c);
    TCase *large = tcase_create("large");
    tcase_set_timeout(large, 600);
    tcase_add_test(large, test_growth);
    tcase_add_test(large, test_adversary_beyond_bound);
    suite_add_tcase(suite, large);
    TCase *property = tcase_create("property");
    tcase_set_timeout(property, 600);
    tcase_add_test(property, test_property);
    suite_add_tcase(suite, property);
    return unit_run(suite);
}
