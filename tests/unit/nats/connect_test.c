/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of nats/connect.c. */
#include "nats/connect.h"

#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/unit.h"

START_TEST(defaults) {
    struct connect c;
    connect_init(&c);
    ck_assert(c.verbose && c.pedantic && c.echo);
    ck_assert(!c.headers && !c.no_responders && !c.tls_required && !c.new_account);
    ck_assert_int_eq(c.protocol, 0);
    for (int i = 0; i < CONNECT_TEXT_COUNT; i++)
        ck_assert_ptr_null(c.text[i]);
}
END_TEST

START_TEST(all_keys) {
    struct connect c;
    connect_init(&c);
    ck_assert_int_eq(connect_parse(&c, VIEW("{\"verbose\":false,\"pedantic\":false,\"echo\":false,\"headers\":true,"
                                            "\"no_responders\":true,\"tls_required\":true,\"new_account\":true,"
                                            "\"protocol\":1,\"user\":\"0\",\"pass\":\"1\",\"auth_token\":\"2\","
                                            "\"nkey\":\"3\",\"jwt\":\"4\",\"sig\":\"5\",\"name\":\"6\",\"lang\":\"7\","
                                            "\"version\":\"8\",\"account\":\"9\"}")),
                     ERR_OK);
    ck_assert(!c.verbose && !c.pedantic && !c.echo);
    ck_assert(c.headers && c.no_responders && c.tls_required && c.new_account);
    ck_assert_int_eq(c.protocol, 1);
    for (int i = CONNECT_USER; i <= CONNECT_ACCOUNT; i++) {
        ck_assert_ptr_nonnull(c.text[i]);
        ck_assert_int_eq(c.text[i][0], '0' + i);
    }
    connect_wipe(&c);
    for (int i = CONNECT_USER; i <= CONNECT_ACCOUNT; i++)
        ck_assert_msg((c.text[i] != NULL) == (i > CONNECT_SIG), "text %d", i);
    connect_free(&c);
    for (int i = 0; i < CONNECT_TEXT_COUNT; i++)
        ck_assert_ptr_null(c.text[i]);
}
END_TEST

START_TEST(accepted_and_refused) {
    static const struct {
        const char *name;
        struct view json;
        enum err want;
    } cases[] = {
        {"empty object", VIEW("{}"), ERR_OK},
        {"null", VIEW("null"), ERR_OK},
        {"blanks", VIEW(" \t{ \"user\" : \"a\" , \"echo\" : true } \t\r"), ERR_OK},
        {"unknown keys", VIEW("{\"x\":1,\"y\":[{\"user\":5}],\"z\":{\"verbose\":0},\"\":null}"), ERR_OK},
        {"unknown huge number", VIEW("{\"x\":99999999999999999999999,\"user\":\"a\"}"), ERR_OK},
        {"brackets in texts", VIEW("{\"x\":\"}],{[\\\"}\",\"user\":\"a\"}"), ERR_OK},
        {"nulls", VIEW("{\"verbose\":null,\"protocol\":null,\"user\":null,\"import\":null}"), ERR_OK},
        {"not utf-8", VIEW("{\"name\":\"\xff\xc3\",\"\xed\xa0\x80\":1}"), ERR_OK},
        {"lone surrogate", VIEW("{\"name\":\"\\ud800\"}"), ERR_OK},
        {"import and export", VIEW("{\"import\":{\"allow\":[\"a\",null],\"deny\":null,\"x\":1},\"export\":{}}"),
         ERR_OK},
        {"nothing", {NULL, 0}, ERR_SYNTAX},
        {"blank only", VIEW(" "), ERR_SYNTAX},
        {"array", VIEW("[]"), ERR_SYNTAX},
        {"string", VIEW("\"a\""), ERR_SYNTAX},
        {"number", VIEW("1"), ERR_SYNTAX},
        {"true", VIEW("true"), ERR_SYNTAX},
        {"text after", VIEW("{} x"), ERR_SYNTAX},
        {"two objects", VIEW("{}{}"), ERR_SYNTAX},
        {"not closed", VIEW("{\"user\":\"a\""), ERR_SYNTAX},
        {"trailing comma", VIEW("{\"user\":\"a\",}"), ERR_SYNTAX},
        {"comment", VIEW("{/**/}"), ERR_SYNTAX},
        {"bool as number", VIEW("{\"verbose\":0}"), ERR_SYNTAX},
        {"bool as text", VIEW("{\"echo\":\"true\"}"), ERR_SYNTAX},
        {"number as text", VIEW("{\"protocol\":\"1\"}"), ERR_SYNTAX},
        {"number as real", VIEW("{\"protocol\":1.0}"), ERR_SYNTAX},
        {"number as exponent", VIEW("{\"protocol\":1e0}"), ERR_SYNTAX},
        {"number as bool", VIEW("{\"protocol\":true}"), ERR_SYNTAX},
        {"number too large", VIEW("{\"protocol\":99999999999999999999}"), ERR_SYNTAX},
        {"text as number", VIEW("{\"user\":5}"), ERR_SYNTAX},
        {"text as object", VIEW("{\"pass\":{}}"), ERR_SYNTAX},
        {"account as bool", VIEW("{\"account\":false}"), ERR_SYNTAX},
        {"wrong type, other case", VIEW("{\"USER\":5}"), ERR_SYNTAX},
        {"wrong type, then right", VIEW("{\"verbose\":0,\"verbose\":true}"), ERR_SYNTAX},
        {"escaped key", VIEW("{\"us\\u0065r\":5}"), ERR_SYNTAX},
        {"raw control byte", VIEW("{\"user\":\"a\x01\"}"), ERR_SYNTAX},
        {"raw control byte in an escape", VIEW("{\"user\":\"\\ud80\x10\"}"), ERR_SYNTAX},
        {"raw nul", VIEW("{\"user\":\"a\0\"}"), ERR_SYNTAX},
        {"nul after", VIEW("{}\0"), ERR_SYNTAX},
        {"import as array", VIEW("{\"import\":[]}"), ERR_SYNTAX},
        {"export as text", VIEW("{\"export\":\"a\"}"), ERR_SYNTAX},
        {"allow as text", VIEW("{\"import\":{\"allow\":\"a\"}}"), ERR_SYNTAX},
        {"deny of numbers", VIEW("{\"export\":{\"DENY\":[1]}}"), ERR_SYNTAX},
        {"backslash at the end", VIEW("{\"user\":\"\\"), ERR_SYNTAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct connect c;
        connect_init(&c);
        enum err got = connect_parse(&c, cases[i].json);
        ck_assert_msg(got == cases[i].want, "%s: %s", cases[i].name, err_text(got));
        connect_free(&c);
    }
}
END_TEST

START_TEST(texts) {
    static const struct {
        const char *name;
        struct view json;
        const char *want; /* null: none */
    } cases[] = {
        {"key case", VIEW("{\"UsEr\":\"a\"}"), "a"},
        {"last of two", VIEW("{\"user\":\"a\",\"user\":\"b\"}"), "b"},
        {"last of three spellings", VIEW("{\"user\":\"a\",\"USER\":\"b\",\"user\":\"c\"}"), "c"},
        {"null changes nothing", VIEW("{\"user\":\"a\",\"user\":null}"), "a"},
        {"empty", VIEW("{\"user\":\"\"}"), NULL},
        {"empty after full", VIEW("{\"user\":\"a\",\"user\":\"\"}"), NULL},
        {"escaped key", VIEW("{\"us\\u0065r\":\"a\"}"), "a"},
        {"nul ends it", VIEW("{\"user\":\"a\\u0000b\"}"), "a"},
        {"escapes", VIEW("{\"user\":\"\\\"\\\\\\n\\u00e9\\ud83d\\udc4d\"}"), "\"\\\n\xc3\xa9\xf0\x9f\x91\x8d"},
        {"escaped backslash before u", VIEW("{\"user\":\"\\\\ud800\"}"), "\\ud800"},
        {"lone surrogates", VIEW("{\"user\":\"\\ud83da\\uDC4d\"}"),
         "\xef\xbf\xbd"
         "a\xef\xbf\xbd"},
        {"byte that is not utf-8",
         VIEW("{\"user\":\"a\xff"
              "b\"}"),
         "a\xef\xbf\xbd"
         "b"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct connect c;
        connect_init(&c);
        ck_assert_msg(connect_parse(&c, cases[i].json) == ERR_OK, "%s", cases[i].name);
        const char *got = c.text[CONNECT_USER], *want = cases[i].want;
        ck_assert_msg(want == NULL ? got == NULL : got != NULL && strcmp(got, want) == 0, "%s: got '%s'", cases[i].name,
                      got != NULL ? got : "(none)");
        connect_free(&c);
    }
}
END_TEST

START_TEST(second_connect_merges) {
    struct connect c;
    connect_init(&c);
    ck_assert_int_eq(connect_parse(&c, VIEW("{\"verbose\":false,\"user\":\"a\",\"pass\":\"p\",\"protocol\":1}")),
                     ERR_OK);
    ck_assert_int_eq(connect_parse(&c, VIEW("{\"echo\":false,\"user\":\"b\",\"pass\":null}")), ERR_OK);
    ck_assert(!c.verbose && !c.echo && c.pedantic);
    ck_assert_int_eq(c.protocol, 1);
    ck_assert_str_eq(c.text[CONNECT_USER], "b");
    ck_assert_str_eq(c.text[CONNECT_PASS], "p");
    connect_free(&c);
}
END_TEST

START_TEST(refused_connect_changes_nothing) {
    struct connect c;
    connect_init(&c);
    ck_assert_int_eq(connect_parse(&c, VIEW("{\"user\":\"a\"}")), ERR_OK);
    char *user = c.text[CONNECT_USER];
    ck_assert_int_eq(connect_parse(&c, VIEW("{\"user\":\"b\",\"pass\":\"c\",\"echo\":false,\"protocol\":true}")),
                     ERR_SYNTAX);
    ck_assert(c.echo);
    ck_assert_int_eq(c.protocol, 0);
    ck_assert_ptr_eq(c.text[CONNECT_USER], user);
    ck_assert_str_eq(user, "a");
    ck_assert_ptr_null(c.text[CONNECT_PASS]);
    connect_free(&c);
}
END_TEST

START_TEST(protocol_beyond_int) {
    struct connect c;
    connect_init(&c);
    ck_assert_int_eq(connect_parse(&c, VIEW("{\"protocol\":4294967297}")), ERR_OK);
    ck_assert_int_eq(c.protocol, INT_MAX);
    ck_assert_int_eq(connect_parse(&c, VIEW("{\"protocol\":-4294967295}")), ERR_OK);
    ck_assert_int_eq(c.protocol, INT_MIN);
    connect_free(&c);
}
END_TEST

START_TEST(deep_nesting_is_an_error) {
    enum { DEPTH = 50000 };
    char *json = malloc(2 * DEPTH + 16);
    ck_assert_ptr_nonnull(json);
    size_t len = (size_t)sprintf(json, "{\"x\":");
    memset(json + len, '[', DEPTH);
    memset(json + len + DEPTH, ']', DEPTH);
    len += 2 * DEPTH;
    json[len++] = '}';
    struct connect c;
    connect_init(&c);
    ck_assert_int_eq(connect_parse(&c, view_of(json, len)), ERR_SYNTAX);
    free(json);
}
END_TEST

START_TEST(objects) {
    ck_assert(connect_is_object(VIEW("{}")));
    ck_assert(connect_is_object(VIEW(" {\"port\":\"x\"} ")));
    ck_assert(connect_is_object(VIEW("null")));
    ck_assert(!connect_is_object(VIEW("[]")));
    ck_assert(!connect_is_object(VIEW("{")));
    ck_assert(!connect_is_object(VIEW("")));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("nats/connect");
    TCase *tc = tcase_create("connect");
    tcase_add_test(tc, defaults);
    tcase_add_test(tc, all_keys);
    tcase_add_test(tc, accepted_and_refused);
    tcase_add_test(tc, texts);
    tcase_add_test(tc, second_connect_merges);
    tcase_add_test(tc, refused_connect_changes_nothing);
    tcase_add_test(tc, protocol_beyond_int);
    tcase_add_test(tc, deep_nesting_is_an_error);
    tcase_add_test(tc, objects);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
