/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of config/text.c: Go's quotes, durations and formats. */
#include "tests/unit/config/config_testing.h"

static struct arena arena;

static const char *done(struct text *t) {
    text_add_byte(t, '\0');
    return t->at;
}

START_TEST(quotes) {
    static const struct {
        const char *name, *text, *quoted;
    } rows[] = {{"plain", "abc", "\"abc\""},
                {"empty", "", "\"\""},
                {"marks", "a\"b\\c", "\"a\\\"b\\\\c\""},
                {"controls", "\a\b\f\n\r\t\v\x01\x7f", "\"\\a\\b\\f\\n\\r\\t\\v\\x01\\x7f\""},
                {"letters", "Zürich ✓", "\"Zürich ✓\""},
                {"byte order mark", "\xef\xbb\xbfport", "\"\\ufeffport\""},
                {"not UTF-8", "a\xff\xc0\x80", "\"a\\xff\\xc0\\x80\""},
                {"surrogate", "\xed\xa0\x80", "\"\\xed\\xa0\\x80\""},
                {"private use", "\xf3\xb0\x80\x80", "\"\\U000f0000\""}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text t = {.arena = &arena};
        text_add_quoted(&t, view_text(rows[i].text));
        ck_assert_msg(strcmp(done(&t), rows[i].quoted) == 0, "%s: %s", rows[i].name, t.at);
    }
}
END_TEST

START_TEST(durations) {
    static const struct {
        const char *text;
        int64_t ns;
        const char *printed; /* NULL: as text */
    } rows[] = {{"0s", 0, NULL},
                {"0", 0, "0s"},
                {"1ns", 1, NULL},
                {"1.5us", 1500, "1.5µs"},
                {"2ms", 2000000, NULL},
                {"30s", 30000000000, NULL},
                {"1.5s", 1500000000, NULL},
                {"2m", 120000000000, "2m0s"},
                {"1h30m", 5400000000000, "1h30m0s"},
                {"1h1m1.000000001s", 3661000000001, NULL},
                {"-1s", -1000000000, NULL},
                {"+.5s", 500000000, "500ms"},
                {"100h", 360000000000000, "100h0m0s"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text t = {.arena = &arena}, why = {.arena = &arena};
        int64_t ns;
        ck_assert_msg(duration_parse(&ns, view_text(rows[i].text), &why) == ERR_OK, "%s", rows[i].text);
        ck_assert_msg(ns == rows[i].ns, "%s", rows[i].text);
        text_add_duration(&t, ns);
        ck_assert_str_eq(done(&t), rows[i].printed ? rows[i].printed : rows[i].text);
    }
}
END_TEST

START_TEST(bad_durations) {
    static const struct pair rows[] = {{"", "time: invalid duration \"\""},
                                       {"5", "time: missing unit in duration \"5\""},
                                       {"5x", "time: unknown unit \"x\" in duration \"5x\""},
                                       {"1d", "time: unknown unit \"d\" in duration \"1d\""},
                                       {".s", "time: invalid duration \".s\""},
                                       {"-", "time: invalid duration \"-\""},
                                       {"9999999999h", "time: invalid duration \"9999999999h\""},
                                       {"99999999999999999999s", "time: invalid duration \"99999999999999999999s\""},
                                       {"2562047h3000m", "time: invalid duration \"2562047h3000m\""}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text why = {.arena = &arena};
        int64_t ns;
        ck_assert_msg(duration_parse(&ns, view_text(rows[i].name), &why) == ERR_SYNTAX, "%s", rows[i].name);
        ck_assert_str_eq(done(&why), rows[i].text);
    }
}
END_TEST

START_TEST(formats) {
    struct value number = {.type = VALUE_INT, .number = -5}, secret = {.type = VALUE_TEXT, .secret = true};
    struct text t = {.arena = &arena};
    secret.text = VIEW("pw");
    text_add_format(&t, "%s|%v|%q|%d|%D|%T|%V|%V|100%%", "s", VIEW("v"), VIEW("q"), INT64_MIN, INT64_C(1500000),
                    &number, &number, &secret);
    ck_assert_str_eq(done(&t), "s|v|\"q\"|-9223372036854775808|1.5ms|int64|-5|[REDACTED]|100%");
}
END_TEST

static void add(TCase *tc) {
    tcase_add_test(tc, quotes);
    tcase_add_test(tc, durations);
    tcase_add_test(tc, bad_durations);
    tcase_add_test(tc, formats);
}

int main(void) {
    int failed = test_run("config/text", add);
    arena_free(&arena);
    return failed;
}
