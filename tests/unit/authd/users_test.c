/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of authd/users.c and authd/rules.c: what a configuration means for its users. */
#include "authd/users.h"

#include <check.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "shm/limit.h"
#include "tests/unit/unit.h"

static struct arena arena;

static struct users *read_users(const char *text, enum err expected) {
    static const uint8_t key[USERS_KEY_BYTES] = {5};
    struct text why = {.arena = &arena};
    struct users *users = NULL;
    enum err e = users_read(&users, view_text(text), key, &why);
    ck_assert_msg(e == expected, "%s: %s, %.*s", text, err_text(e), (int)why.len, why.at ? why.at : "");
    ck_assert((e == ERR_OK) == (users != NULL));
    ck_assert(e == ERR_OK || why.len > 0);
    return users;
}

/* The set of a user as text, like "+pub a -sub b q". */
static const char *show(const struct users *users, const char *name) {
    static const char *const kinds[] = {
        [BOOK_PUB_ALLOW] = "+pub", [BOOK_PUB_DENY] = "-pub", [BOOK_SUB_ALLOW] = "+sub", [BOOK_SUB_DENY] = "-sub"};
    const struct user *user = users_find(users, USER_NAME, view_text(name));
    struct text t = {.arena = &arena};
    ck_assert_ptr_nonnull(user);
    if (user->rules == USERS_ALL)
        return "all";
    const struct rules *r = &users->rules[user->rules];
    const uint8_t *at = r->bytes;
    for (uint32_t i = 0; i < r->head.count; i++) {
        struct book_rule rule;
        memcpy(&rule, at, sizeof rule);
        at += sizeof rule;
        text_add_format(&t, i ? " %s %v" : "%s %v", kinds[rule.kind], view_of(at, rule.subject_len));
        if (rule.queue_len)
            text_add_format(&t, " %v", view_of(at + rule.subject_len, rule.queue_len));
        at += rule.subject_len + rule.queue_len;
    }
    ck_assert_ptr_eq(at, r->bytes + r->head.bytes);
    if (r->head.responses_max)
        text_add_format(&t, " responses %d %d", (int64_t)r->head.responses_max, (int64_t)r->head.responses_ms);
    text_add_byte(&t, 0);
    return t.at;
}

START_TEST(test_permissions) {
    static const struct {
        const char *permissions, *expected;
    } rows[] = {
        {"{}", "all"},
        {"{publish: {allow: [\"a\"]}}", "+pub a"},
        {"{publish: {allow: [\"b\", \"a\", \"b\"], deny: [\"c.>\"]}}", "+pub a +pub b -pub c.>"},
        {"{subscribe: {allow: [\"a\"], deny: [\"a q\", \"b  q.*\"]}}", "+sub a -sub a q -sub b q.*"},
        {"{publish: {allow: []}}", "all"},
        {"{subscribe: {allow: []}}", "all"},
        {"{publish: {allow: [\"a q\"]}}", "+pub "},
        {"{publish: {deny: [\"a q\"]}}", "all"},
        {"{publish: {allow: []}, allow_responses: {}}", "+pub  responses 1 120000"},
        {"{publish: {allow: [\"a\"]}, allow_responses: {max: 5, expires: 1500000000}}", "+pub a responses 5 1500"},
        {"{publish: {allow: []}, allow_responses: {max: -1, expires: -1}}", "+pub  responses 4294967295 0"},
        {"{publish: {allow: []}, allow_responses: {max: 0, expires: 1}}", "+pub  responses 1 1"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text t = {.arena = &arena};
        text_add_format(&t, "authorization {users: [{user: \"u\", permissions: %s}]}", rows[i].permissions);
        text_add_byte(&t, 0);
        struct users *users = read_users(t.at, ERR_OK);
        ck_assert_str_eq(show(users, "u"), rows[i].expected);
        users_free(users);
    }
}
END_TEST

/* A user's own block stands alone; without one the defaults of what holds it. */
START_TEST(test_defaults) {
    struct users *users =
        read_users("authorization {users: [{user: \"a\"}, {user: \"b\", permissions: {subscribe: {deny: [\"s\"]}}}], "
                   "default_permissions: {publish: {allow: [\"d\"]}}}\n"
                   "accounts {A: {users: [{user: \"c\"}, {user: \"e\", permissions: {}}], default_permissions: "
                   "{publish: {allow: [\"x\"]}}}}",
                   ERR_OK);
    ck_assert_str_eq(show(users, "a"), "+pub d");
    ck_assert_str_eq(show(users, "b"), "-sub s");
    ck_assert_str_eq(show(users, "c"), "+pub x");
    ck_assert_str_eq(show(users, "e"), "all");
    users_free(users);
}
END_TEST

START_TEST(test_limits_and_options) {
    struct users *users =
        read_users("accounts {A: {users: [{user: \"a\"}], limits: {max_connections: 3, max_payload: -1, "
                   "max_subscriptions: 9}}, B: {limits: {max_connections: 0, max_subscriptions: -1, "
                   "max_payload: -2}}}\n"
                   "logins {penalty: 50000000, penalty_after: 0, penalty_max: 2000000000}",
                   ERR_OK);
    ck_assert_uint_eq(users->account_count, 3);
    ck_assert(view_equal(users->accounts[0].name, VIEW("$G")));
    ck_assert(users->accounts[1].conns_max == 3 && users->accounts[1].subs_max == 9 &&
              users->accounts[1].payload_max == 0);
    ck_assert(users->accounts[2].conns_max == LIMIT_NOTHING && users->accounts[2].subs_max == 0 &&
              users->accounts[2].payload_max == LIMIT_NOTHING);
    ck_assert(users->penalties.after == 0 && users->penalties.step_ms == 50 && users->penalties.max_ms == 2000);
    users_free(users);
    users = read_users("", ERR_OK);
    ck_assert(users->penalties.after == 5 && users->penalties.step_ms == 100 && users->penalties.max_ms == 1000);
    users_free(users);
}
END_TEST

START_TEST(test_refused) {
    static const char *const texts[] = {
        "authorization {",
        "authorization {users: [{nkey: \"UX\"}]}",
        "no_auth_user: \"z\"\nauthorization {users: [{user: \"a\"}]}",
        "authorization {users: [{user: \"a\", permissions: {publish: 3}}]}",
        "authorization {users: [{user: \"a\", permissions: {publish: {allow: [3]}}}]}",
        "authorization {users: [{user: \"a\", permissions: {subscribe: {allow: [\"a b c\"]}}}]}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        read_users(texts[i], ERR_SYNTAX);
    struct text t = {.arena = &arena};
    text_add(&t, VIEW("authorization {users: ["));
    for (int i = 0; i <= USERS_MAX; i++)
        text_add_format(&t, "{user: \"u%d\"},", (int64_t)i);
    text_add(&t, VIEW("]}"));
    text_add_byte(&t, 0);
    read_users(t.at, ERR_LONG);
}
END_TEST

/* No message shows a piece of the text, and no table a password. */
START_TEST(test_secrets) {
    static const uint8_t key[USERS_KEY_BYTES] = {5};
    struct text why = {.arena = &arena};
    struct users *users;
    ck_assert_int_eq(
        users_read(&users, VIEW("authorization {user: \"a\", pass: \"hunter2\" hunter2 \"hunter2"), key, &why),
        ERR_SYNTAX);
    ck_assert_ptr_null(memmem(why.at, why.len, "hunter2", 7));
    users = read_users("authorization {user: \"a\", pass: \"hunter2\"}", ERR_OK);
    ck_assert_ptr_null(memmem(users->secrets, sizeof *users->secrets, "hunter2", 7));
    ck_assert(users->has_plain);
    users_free(users);
}
END_TEST

static void drop_arena(void) {
    arena_free(&arena);
}

int main(void) {
    if (sodium_init() < 0)
        return 1;
    Suite *suite = suite_create("users");
    TCase *tcase = tcase_create("all");
    tcase_set_timeout(tcase, 60);
    tcase_add_checked_fixture(tcase, NULL, drop_arena);
    tcase_add_test(tcase, test_permissions);
    tcase_add_test(tcase, test_defaults);
    tcase_add_test(tcase, test_limits_and_options);
    tcase_add_test(tcase, test_refused);
    tcase_add_test(tcase, test_secrets);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
