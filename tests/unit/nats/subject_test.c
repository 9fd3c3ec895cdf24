/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of nats/subject.c: tables, oracles that split into tokens, and portable lanes against SSE2. */
#include "nats/subject.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* The same source with portable lanes. */
bool portable_subject_is_clean(struct view s);
bool portable_subject_is_pattern(struct view s);
bool portable_subject_has_tokens(struct view s);
bool portable_subject_is_literal(struct view s);
bool portable_subject_has_wildcard(struct view s);
size_t portable_subject_token_count(struct view s);
bool portable_subject_matches(struct view pattern, struct view subject);
bool portable_subject_covers(struct view a, struct view b);
bool portable_subject_overlaps(struct view a, struct view b);
#define SCAN_PORTABLE
#define subject_is_clean     portable_subject_is_clean
#define subject_is_pattern   portable_subject_is_pattern
#define subject_has_tokens   portable_subject_has_tokens
#define subject_is_literal   portable_subject_is_literal
#define subject_has_wildcard portable_subject_has_wildcard
#define subject_token_count  portable_subject_token_count
#define subject_matches      portable_subject_matches
#define subject_covers       portable_subject_covers
#define subject_overlaps     portable_subject_overlaps
#include "nats/subject.c"
#include "tests/unit/unit.h"
#undef subject_is_clean
#undef subject_is_pattern
#undef subject_has_tokens
#undef subject_is_literal
#undef subject_has_wildcard
#undef subject_token_count
#undef subject_matches
#undef subject_covers
#undef subject_overlaps

START_TEST(validity) {
    static const struct {
        const char *name;
        const char *text;
        bool pattern, tokens, literal, wildcard;
        size_t count;
    } cases[] = {
        {"empty", "", false, false, false, false, 1},
        {"one token", "a", true, true, true, false, 1},
        {"two tokens", "a.b", true, true, true, false, 2},
        {"empty inside", "a..b", false, false, false, false, 3},
        {"empty first", ".a", false, false, false, false, 2},
        {"empty last", "a.", false, false, false, false, 2},
        {"dot", ".", false, false, false, false, 2},
        {"full wildcard", ">", true, true, false, true, 1},
        {"last full wildcard", "a.>", true, true, false, true, 2},
        {"star", "*", true, true, false, true, 1},
        {"star inside", "a.*.b", true, true, false, true, 3},
        {"star last", "a.*", true, true, false, true, 2},
        {"full wildcard inside", "a.>.b", false, true, false, true, 3},
        {"full wildcard first", ">.a", false, true, false, true, 2},
        {"two full wildcards", ">.>", false, true, false, true, 2},
        {"star in text", "a*", true, true, true, false, 1},
        {"two stars", "**", true, true, true, false, 1},
        {"full in text", "a>", true, true, true, false, 1},
        {"two fulls", ">>", true, true, true, false, 1},
        {"full before text", "a.>x", true, true, true, false, 2},
        {"text before star", "a.x*.b", true, true, true, false, 3},
        {"full before text, later full", "a.>x.>", true, true, false, true, 3},
        {"system", "$SYS.x", true, true, true, false, 2},
        {"utf-8", "\xc3\xa9.\xff", true, true, true, false, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct view s = view_text(cases[i].text);
        ck_assert_msg(subject_is_pattern(s) == cases[i].pattern, "%s: is_pattern", cases[i].name);
        ck_assert_msg(subject_has_tokens(s) == cases[i].tokens, "%s: has_tokens", cases[i].name);
        ck_assert_msg(subject_is_literal(s) == cases[i].literal, "%s: is_literal", cases[i].name);
        ck_assert_msg(subject_has_wildcard(s) == cases[i].wildcard, "%s: has_wildcard", cases[i].name);
        ck_assert_msg(subject_token_count(s) == cases[i].count, "%s: token_count", cases[i].name);
    }
}
END_TEST

START_TEST(empty_views_may_be_null) {
    struct view none = {NULL, 0};
    ck_assert(subject_is_clean(none));
    ck_assert(!subject_has_tokens(none));
    ck_assert(!subject_is_pattern(none));
    ck_assert(!subject_has_wildcard(none));
    ck_assert_uint_eq(subject_token_count(none), 1);
}
END_TEST

START_TEST(clean_at_every_place) {
    char text[200];
    for (size_t len = 1; len <= sizeof text; len += len < 70 ? 1 : 13) {
        for (size_t pos = 0; pos < len; pos++) {
            for (unsigned c = 0; c < 256; c++) {
                memset(text, 'a', len);
                text[pos] = (char)c;
                bool want = c != ' ' && c != '\t' && c != '\r' && c != '\n';
                if (subject_is_clean(view_of(text, len)) != want ||
                    portable_subject_is_clean(view_of(text, len)) != want)
                    ck_abort_msg("byte %u at %zu of %zu", c, pos, len);
            }
        }
    }
}
END_TEST

START_TEST(matching) {
    static const struct {
        const char *pattern, *subject;
        bool want;
    } cases[] = {
        {"a", "a", true},       {"a", "A", false},     {"a", "b", false},       {"a", "ab", false},
        {"a.b", "a", false},    {"a", "a.b", false},   {"*", "a", true},        {"*", "a.b", false},
        {"a.*", "a.b", true},   {"a.*", "a", false},   {"a.*", "a.b.c", false}, {"*.b", "a.b", true},
        {">", "a", true},       {">", "a.b.c", true},  {"a.>", "a", false},     {"a.>", "a.b", true},
        {"a.>", "a.b.c", true}, {"a.>", "b.c", false}, {"*.>", "a", false},     {"*.>", "a.b", true},
        {"a*", "a*", true},     {"a*", "ab", false},   {">x", ">x", true},      {">x", "ax", false},
        {"a.*", "a.*", true},   {"a.b", "a.*", false}, {"a.>", "a.>", true},    {">", "*", true},
        {"a.>", "a.>.b", true}, {"*.*", "a.>", true},  {"a.b", "a.>", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        ck_assert_msg(subject_matches(view_text(cases[i].pattern), view_text(cases[i].subject)) == cases[i].want,
                      "%s on %s", cases[i].pattern, cases[i].subject);
}
END_TEST

START_TEST(covering) {
    static const struct {
        const char *a, *b;
        bool want;
    } cases[] = {
        {"a", "a", true},       {"a", "b", false},       {"*", "a", true},      {"a", "*", false},
        {"*", "*", true},       {"*", ">", false},       {">", "*", true},      {">", ">", true},
        {"a.>", "a", false},    {"a.>", "a.*", true},    {"a.>", "a.>", true},  {"a.*", "a.>", false},
        {"a.>", "a.b.>", true}, {"a.b.>", "a.>", false}, {"*.>", ">", false},   {"*.>", "a.>", true},
        {"*.>", "*.*", true},   {"*.*", "*.*", true},    {"*.b", "a.*", false}, {"s.*", "s.>", false},
        {"a", "a.b", false},    {"a.b", "a", false},     {"a*", "a*", true},    {"a*", "ab", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        ck_assert_msg(subject_covers(view_text(cases[i].a), view_text(cases[i].b)) == cases[i].want, "%s over %s",
                      cases[i].a, cases[i].b);
}
END_TEST

/* The oracles: split first, then look. */
enum { TOKENS_MAX = 300 };

struct tokens {
    char text[TOKENS_MAX][8];
    size_t count;
};

static void split(struct tokens *out, const char *text) {
    out->count = 1;
    size_t len = 0;
    for (; *text != '\0'; text++) {
        if (*text == '.') {
            out->text[out->count++ - 1][len] = '\0';
            len = 0;
        } else {
            out->text[out->count - 1][len++] = *text;
        }
    }
    out->text[out->count - 1][len] = '\0';
}

static bool oracle_has_tokens(const struct tokens *t) {
    for (size_t i = 0; i < t->count; i++) {
        if (t->text[i][0] == '\0')
            return false;
    }
    return true;
}

static bool oracle_has_wildcard(const struct tokens *t) {
    for (size_t i = 0; i < t->count; i++) {
        if (strcmp(t->text[i], "*") == 0 || strcmp(t->text[i], ">") == 0)
            return true;
    }
    return false;
}

static bool oracle_is_pattern(const struct tokens *t) {
    for (size_t i = 0; i + 1 < t->count; i++) {
        if (strcmp(t->text[i], ">") == 0)
            return false;
    }
    return oracle_has_tokens(t);
}

static bool oracle_matches(const struct tokens *pattern, const struct tokens *subject) {
    size_t last = pattern->count - 1;
    bool full = strcmp(pattern->text[last], ">") == 0;
    if (full ? subject->count < pattern->count : subject->count != pattern->count)
        return false;
    for (size_t i = 0; i < pattern->count - (full ? 1 : 0); i++) {
        if (strcmp(pattern->text[i], "*") != 0 && strcmp(pattern->text[i], subject->text[i]) != 0)
            return false;
    }
    return true;
}

/* a covers b if it matches what b matches: with tokens that a cannot know where b has a wildcard, and with one token or
 * many where b ends in '>'. */
static bool oracle_covers(const struct tokens *a, const struct tokens *b) {
    bool full = strcmp(b->text[b->count - 1], ">") == 0;
    for (size_t extra = 0; extra <= (full ? 12 : 0); extra++) {
        static struct tokens witness;
        witness = *b;
        witness.count += extra;
        for (size_t i = 0; i < witness.count; i++) {
            if (i >= b->count || strcmp(b->text[i], "*") == 0 || strcmp(b->text[i], ">") == 0)
                strcpy(witness.text[i], "fresh");
        }
        if (!oracle_matches(a, &witness))
            return false;
    }
    return true;
}

/* The token that a subject must have there to be matched; null: any. */
static const char *needed(const struct tokens *t, size_t i) {
    bool free_one =
        i >= t->count || strcmp(t->text[i], "*") == 0 || (i + 1 == t->count && strcmp(t->text[i], ">") == 0);
    return free_one ? NULL : t->text[i];
}

/* Of each length there is one subject to try. */
static bool oracle_overlaps(const struct tokens *a, const struct tokens *b) {
    size_t longest = a->count > b->count ? a->count : b->count;
    for (size_t count = 1; count <= longest; count++) {
        static struct tokens witness;
        witness.count = count;
        for (size_t i = 0; i < count; i++) {
            const char *token = needed(a, i) ? needed(a, i) : needed(b, i);
            strcpy(witness.text[i], token ? token : "fresh");
        }
        if (oracle_matches(a, &witness) && oracle_matches(b, &witness))
            return true;
    }
    return false;
}

/* A few tokens of few kinds, or many, so that blocks of 64 bytes have their borders everywhere. */
static void random_subject(unsigned *seed, char *out, bool long_one) {
    static const char *const kinds[] = {"a", "b", "*", "*", ">", "ab", "a*", ">>", "", "abcdefg"};
    size_t count = 1 + (size_t)rand_r(seed) % (long_one ? 80 : 5);
    size_t choice = 4 + (size_t)rand_r(seed) % 7;
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        size_t kind = (size_t)rand_r(seed) % choice;
        if (kind == 8 && rand_r(seed) % 8 != 0)
            kind = 9;
        len += (size_t)sprintf(out + len, "%s%s", i > 0 ? "." : "", kinds[kind]);
    }
}

START_TEST(oracles_agree) {
    unsigned seed = (unsigned)time(NULL), first = seed;
    printf("subject_test seed %u\n", first);
    static struct tokens at, bt;
    size_t covered = 0, matched = 0, overlapped = 0;
    for (int round = 0; round < 100000; round++) {
        char a_text[1024], b_text[1024];
        random_subject(&seed, a_text, round % 8 == 0);
        random_subject(&seed, b_text, round % 8 == 0);
        struct view a = view_text(a_text), b = view_text(b_text);
        split(&at, a_text);
        split(&bt, b_text);
        bool has_tokens = oracle_has_tokens(&at), wildcard = oracle_has_wildcard(&at), pattern = oracle_is_pattern(&at);
#define AGREE(want, call)                                                                                              \
    do {                                                                                                               \
        if (call != (want) || portable_##call != (want))                                                               \
            ck_abort_msg("seed %u: %s with '%s' and '%s'", first, #call, a_text, b_text);                              \
    } while (0)
        AGREE(has_tokens, subject_has_tokens(a));
        AGREE(wildcard, subject_has_wildcard(a));
        AGREE(pattern, subject_is_pattern(a));
        AGREE(has_tokens && !wildcard, subject_is_literal(a));
        AGREE(at.count, subject_token_count(a));
        if (pattern && oracle_has_tokens(&bt)) {
            bool matches = oracle_matches(&at, &bt);
            AGREE(matches, subject_matches(a, b));
            matched += matches;
        }
        if (pattern && oracle_is_pattern(&bt)) {
            bool covers = oracle_covers(&at, &bt);
            AGREE(covers, subject_covers(a, b));
            covered += covers;
            bool overlaps = oracle_overlaps(&at, &bt);
            AGREE(overlaps, subject_overlaps(a, b));
            overlapped += overlaps;
        }
    }
    ck_assert_uint_gt(matched, 1000);
    ck_assert_uint_gt(covered, 1000);
    ck_assert_uint_gt(overlapped, 1000);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("nats/subject");
    TCase *tc = tcase_create("subject");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, validity);
    tcase_add_test(tc, empty_views_may_be_null);
    tcase_add_test(tc, clean_at_every_place);
    tcase_add_test(tc, matching);
    tcase_add_test(tc, covering);
    tcase_add_test(tc, oracles_agree);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
