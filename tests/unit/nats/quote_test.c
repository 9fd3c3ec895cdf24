/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of nats/quote.c. */
#include "nats/quote.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/unit/unit.h"

START_TEST(quoting) {
    static const struct {
        const char *name;
        struct view text;
        const char *want;
    } cases[] = {
        {"plain", VIEW("foo.bar >*"), "foo.bar >*"},
        {"empty", {NULL, 0}, ""},
        {"quote and backslash", VIEW("a\"b\\c"), "a\\\"b\\\\c"},
        {"single quote", VIEW("a'b"), "a'b"},
        {"letters", VIEW("\a\b\f\n\r\t\v"), "\\a\\b\\f\\n\\r\\t\\v"},
        {"controls", VIEW("\0\x01\x1f\x7f"), "\\x00\\x01\\x1f\\x7f"},
        {"invalid bytes",
         VIEW("\xff\x80"
              "a\xc3"),
         "\\xff\\x80a\\xc3"},
        {"invalid bytes that look like escapes", VIEW("\xc0\x8a"), "\\xc0\\x8a"},
        {"overlong", VIEW("\xe0\x80\xaf"), "\\xe0\\x80\\xaf"},
        {"surrogate", VIEW("\xed\xa0\x80"), "\\xed\\xa0\\x80"},
        {"too large", VIEW("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80"},
        {"cut rune", VIEW("\xf0\x9f\x91"), "\\xf0\\x9f\\x91"},
        {"printable", VIEW("\xc3\xa9\xe4\xb8\xad\xf0\x9f\x91\x8d"), "\xc3\xa9\xe4\xb8\xad\xf0\x9f\x91\x8d"},
        {"combining mark", VIEW("e\xcc\x81"), "e\xcc\x81"},
        {"replacement character", VIEW("\xef\xbf\xbd"), "\xef\xbf\xbd"},
        {"line separator", VIEW("\xe2\x80\xa8"), "\\u2028"},
        {"next line", VIEW("\xc2\x85"), "\\u0085"},
        {"no-break space", VIEW("\xc2\xa0"), "\\u00a0"},
        {"soft hyphen", VIEW("\xc2\xad"), "\\u00ad"},
        {"zero width", VIEW("\xe2\x80\x8b\xef\xbb\xbf"), "\\u200b\\ufeff"},
        {"right to left override", VIEW("\xe2\x80\xae"), "\\u202e"},
        {"private use", VIEW("\xee\x80\x80"), "\\ue000"},
        {"unassigned", VIEW("\xcd\xb8"), "\\u0378"},
        {"tag", VIEW("\xf3\xa0\x80\x81"), "\\U000e0001"},
        {"last rune", VIEW("\xf4\x8f\xbf\xbf"), "\\U0010ffff"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[256];
        size_t len = quote_text(out, sizeof out, cases[i].text);
        ck_assert_msg(view_equal(view_of(out, len), view_text(cases[i].want)), "%s: %.*s", cases[i].name, (int)len,
                      out);
    }
}
END_TEST

START_TEST(never_half_an_escape) {
    static const struct {
        const char *name;
        struct view text;
        size_t cap, want;
    } cases[] = {
        {"nothing fits", VIEW("a"), 0, 0},
        {"letter escape", VIEW("a\n"), 2, 1},
        {"letter escape fits", VIEW("a\n"), 3, 3},
        {"byte escape", VIEW("\x01\x01"), 7, 4},
        {"rune", VIEW("a\xc3\xa9"), 2, 1},
        {"rune fits", VIEW("a\xc3\xa9"), 3, 3},
        {"long escape", VIEW("a\xf3\xa0\x80\x81"), 10, 1},
        {"long escape fits", VIEW("a\xf3\xa0\x80\x81"), 11, 11},
        {"nothing after the cut",
         VIEW("a\n"
              "b"),
         2, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[16];
        size_t len = quote_text(out, cases[i].cap, cases[i].text);
        ck_assert_msg(len == cases[i].want, "%s: %zu", cases[i].name, len);
    }
}
END_TEST

START_TEST(random_bytes_stay_harmless) {
    unsigned seed = (unsigned)time(NULL), first = seed;
    printf("quote_test seed %u\n", first);
    for (int round = 0; round < 2000; round++) {
        char in[32], out[320];
        size_t len = (size_t)rand_r(&seed) % sizeof in;
        for (size_t i = 0; i < len; i++)
            in[i] = (char)(rand_r(&seed) >> 7);
        size_t full = quote_text(out, 10 * len, view_of(in, len));
        for (size_t i = 0; i < full; i++)
            ck_assert_msg((unsigned char)out[i] >= ' ' && out[i] != 0x7f, "seed %u round %d", first, round);
        char *tight = malloc(full + (full == 0));
        ck_assert_ptr_nonnull(tight);
        ck_assert_msg(quote_text(tight, full, view_of(in, len)) == full, "seed %u round %d", first, round);
        for (size_t cap = 0; cap < full; cap++) {
            size_t part = quote_text(tight, cap, view_of(in, len));
            ck_assert_msg(part <= cap && memcmp(tight, out, part) == 0, "seed %u round %d", first, round);
        }
        free(tight);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("nats/quote");
    TCase *tc = tcase_create("quote");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, quoting);
    tcase_add_test(tc, never_half_an_escape);
    tcase_add_test(tc, random_bytes_stay_harmless);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
