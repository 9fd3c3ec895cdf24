/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of authd/verdict.c over tables that authd/users.c has read: the order of the methods, and every refusal. */
#include "authd/verdict.h"

#include <check.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/auth.pb-c.h"
#include "tests/unit/unit.h"

/* bcrypt of "secret" with cost 4. */
#define HASH    "$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
#define NKEY_U  "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK" /* seed 00 01 .. 1f */
#define NONCE   "AAAAAAAAAAAAAAA"
#define SIG     "ljSuXAM6Z7NCRNVQUG3B800nylDT2kIPIegiRv5HybFEJTY8-hASedZNYhshbVPoEtTR5uGmDg2x1MMKvuXxDg"
#define SIG_STD "ljSuXAM6Z7NCRNVQUG3B800nylDT2kIPIegiRv5HybFEJTY8+hASedZNYhshbVPoEtTR5uGmDg2x1MMKvuXxDg=="

static const uint8_t key[USERS_KEY_BYTES] = {1, 2, 3};

static struct users *read_users(const char *text) {
    struct arena arena = {0};
    struct text why = {.arena = &arena};
    struct users *users = NULL;
    enum err e = users_read(&users, view_text(text), key, &why);
    ck_assert_msg(e == ERR_OK, "%s: %.*s", text, (int)why.len, why.at ? why.at : "");
    arena_free(&arena);
    return users;
}

static const char users_text[] = "authorization {users: [{user: \"a\", pass: \"p\"}, {user: \"b\", pass: \"\"}, {user: "
                                 "\"w\", pass: \"p\", allowed_connection_types: [\"WEBSOCKET\"]}]}";
static const char hashed_text[] = "authorization {users: [{user: \"a\", pass: \"p\"}, {user: \"h\", pass: \"" HASH
                                  "\"}, {user: \"bad\", pass: \"$2a$04$short\"}, {user: \"c\", pass: \"$2c$04$x\"}]}";
static const char unnamed_text[] = "no_auth_user: \"a\"\nauthorization {users: [{user: \"a\", pass: \"p\"}]}";
static const char nkey_text[] = "authorization {users: [{user: \"a\", pass: \"p\"}, {nkey: \"" NKEY_U "\"}]}";
static const char nkey_only[] = "accounts {A: {users: [{nkey: \"" NKEY_U "\"}]}}";
static const char nkey_ws[] =
    "authorization {users: [{nkey: \"" NKEY_U "\", allowed_connection_types: [\"MQTT\", \"WEBSOCKET\"]}]}";
static const char token_text[] = "authorization {token: \"t\"}";
static const char token_hash[] = "authorization {token: \"" HASH "\"}";
static const char single_text[] = "authorization {user: \"a\", pass: \"p\"}";
static const char single_hash[] = "authorization {user: \"a\", pass: \"" HASH "\"}";
static const char accounts_text[] =
    "accounts {A: {users: [{user: \"a\", pass: \"p\"}]}, B: {users: [{user: \"b\", pass: \"p\"}]}}";
static const char mapped_text[] =
    "tls {verify_and_map: true}\nauthorization {users: [{user: \"a\", pass: \"p\"}, {nkey: \"" NKEY_U "\"}]}";

/* What is expected: a name; R: refused; a name after '#': granted if the hash matches; '#' alone: a hash for nobody. */
static const struct {
    const char *name, *config, *user, *pass, *token, *nkey, *sig, *nonce, *expected;
    bool used; /* the nonce */
} rows[] = {
    {"no auth", "", "x", "y", "z", NULL, NULL, NULL, "(anyone)", 0},
    {"no users in an array", "authorization {users: []}", NULL, NULL, NULL, NULL, NULL, NULL, "(anyone)", 0},
    {"accounts without users", "accounts {A: {}}", "a", NULL, NULL, NULL, NULL, NULL, "(anyone)", 0},
    {"users: good", users_text, "a", "p", NULL, NULL, NULL, NULL, "a", 0},
    {"users: wrong password", users_text, "a", "q", NULL, NULL, NULL, NULL, "R", 0},
    {"users: a longer password", users_text, "a", "pp", NULL, NULL, NULL, NULL, "R", 0},
    {"users: no password", users_text, "a", NULL, NULL, NULL, NULL, NULL, "R", 0},
    {"users: empty password", users_text, "b", NULL, NULL, NULL, NULL, NULL, "b", 0},
    {"users: empty password, one sent", users_text, "b", "p", NULL, NULL, NULL, NULL, "R", 0},
    {"users: unknown", users_text, "zz", "p", NULL, NULL, NULL, NULL, "R", 0},
    {"users: case counts", users_text, "A", "p", NULL, NULL, NULL, NULL, "R", 0},
    {"users: nothing sent", users_text, NULL, NULL, NULL, NULL, NULL, NULL, "R", 0},
    {"users: bare password", users_text, NULL, "p", NULL, NULL, NULL, NULL, "R", 0},
    {"users: token instead", users_text, NULL, NULL, "p", NULL, NULL, NULL, "R", 0},
    {"users: token beside", users_text, "a", "p", "x", NULL, NULL, NULL, "a", 0},
    {"users: nkey ignored without nkeys", users_text, "a", "p", NULL, NKEY_U, SIG, NONCE, "a", 0},
    {"users: connection type", users_text, "w", "p", NULL, NULL, NULL, NULL, "R", 0},
    {"hashed: good", hashed_text, "h", "secret", NULL, NULL, NULL, NULL, "#h", 0},
    {"hashed: plain user beside", hashed_text, "a", "p", NULL, NULL, NULL, NULL, "a", 0},
    {"hashed: wrong plain password costs a hash", hashed_text, "a", "x", NULL, NULL, NULL, NULL, "#", 0},
    {"hashed: unknown name costs a hash", hashed_text, "zz", "x", NULL, NULL, NULL, NULL, "#", 0},
    {"hashed: bad hash, its own text", hashed_text, "bad", "$2a$04$short", NULL, NULL, NULL, NULL, "#", 0},
    {"hashed: $2c$ is plain", hashed_text, "c", "$2c$04$x", NULL, NULL, NULL, NULL, "c", 0},
    {"no_auth_user: nothing sent", unnamed_text, NULL, NULL, NULL, NULL, NULL, NULL, "(unnamed)", 0},
    {"no_auth_user: nkey alone, no nkeys", unnamed_text, NULL, NULL, NULL, NKEY_U, SIG, NONCE, "(unnamed)", 0},
    {"no_auth_user: good user", unnamed_text, "a", "p", NULL, NULL, NULL, NULL, "a", 0},
    {"no_auth_user: wrong password", unnamed_text, "a", "x", NULL, NULL, NULL, NULL, "R", 0},
    {"no_auth_user: bare token", unnamed_text, NULL, NULL, "x", NULL, NULL, NULL, "R", 0},
    {"no_auth_user: bare password", unnamed_text, NULL, "p", NULL, NULL, NULL, NULL, "R", 0},
    {"nkey: good", nkey_text, NULL, NULL, NULL, NKEY_U, SIG, NONCE, NKEY_U, 0},
    {"nkey: standard base64", nkey_text, NULL, NULL, NULL, NKEY_U, SIG_STD, NONCE, NKEY_U, 0},
    {"nkey: line end in sig", nkey_text, NULL, NULL, NULL, NKEY_U, SIG "\r\n", NONCE, NKEY_U, 0},
    {"nkey: no sig", nkey_text, NULL, NULL, NULL, NKEY_U, NULL, NONCE, "R", 0},
    {"nkey: sig of another nonce", nkey_text, NULL, NULL, NULL, NKEY_U, SIG, "AAAAAAAAAAAAAAB", "R", 0},
    {"nkey: no nonce", nkey_text, NULL, NULL, NULL, NKEY_U, SIG, NULL, "R", 0},
    {"nkey: nonce used", nkey_text, NULL, NULL, NULL, NKEY_U, SIG, NONCE, "R", 1},
    {"nkey: no fallback to a password", nkey_text, "a", "p", NULL, "UX", SIG, NONCE, "R", 0},
    {"nkey: password instead", nkey_text, "a", "p", NULL, NULL, NULL, NULL, "a", 0},
    {"nkey: lower case", nkey_text, NULL, NULL, NULL, "uab2cb576phbbpq5odorrz2lycmwpzgwgcn2kdk7dxoimzaskuy3rlkk", SIG,
     NONCE, "R", 0},
    {"nkey: none sent", nkey_only, NULL, NULL, NULL, NULL, NULL, NULL, "R", 0},
    {"nkey: in an account", nkey_only, NULL, NULL, NULL, NKEY_U, SIG, NONCE, NKEY_U, 0},
    {"nkey: a user instead", nkey_only, "a", "p", NULL, NULL, NULL, NULL, "R", 0},
    {"nkey: connection type", nkey_ws, NULL, NULL, NULL, NKEY_U, SIG, NONCE, "R", 0},
    {"token: good", token_text, NULL, NULL, "t", NULL, NULL, NULL, "(token)", 0},
    {"token: wrong", token_text, NULL, NULL, "u", NULL, NULL, NULL, "R", 0},
    {"token: as password", token_text, NULL, "t", NULL, NULL, NULL, NULL, "R", 0},
    {"token: user beside", token_text, "x", "y", "t", NULL, NULL, NULL, "(token)", 0},
    {"token: hash", token_hash, NULL, NULL, "secret", NULL, NULL, NULL, "#(token)", 0},
    {"single: good", single_text, "a", "p", NULL, NULL, NULL, NULL, "a", 0},
    {"single: wrong name", single_text, "b", "p", NULL, NULL, NULL, NULL, "R", 0},
    {"single: nothing", single_text, NULL, NULL, NULL, NULL, NULL, NULL, "R", 0},
    {"single: hash", single_hash, "a", "secret", NULL, NULL, NULL, NULL, "#a", 0},
    {"single: hash, wrong name", single_hash, "b", "secret", NULL, NULL, NULL, NULL, "#", 0},
    {"accounts: first", accounts_text, "a", "p", NULL, NULL, NULL, NULL, "a", 0},
    {"accounts: second", accounts_text, "b", "p", NULL, NULL, NULL, NULL, "b", 0},
    {"mapped: no certificate", mapped_text, "a", "p", NULL, NULL, NULL, NULL, "R", 0},
    {"mapped: nkey goes first", mapped_text, NULL, NULL, NULL, NKEY_U, SIG, NONCE, NKEY_U, 0},
};

static struct view field(const char *text) {
    return view_text(text ? text : "");
}

static const char *name_of(const struct user *user) {
    static const char *const nameless[] = {
        [USER_ANYONE] = "(anyone)", [USER_TOKEN] = "(token)", [USER_UNNAMED] = "(unnamed)"};
    return user->kind == USER_NAME || user->kind == USER_NKEY ? user->name.at : nameless[user->kind];
}

START_TEST(test_matrix) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct users *users = read_users(rows[i].config);
        struct credentials c = {.user = field(rows[i].user),
                                .pass = field(rows[i].pass),
                                .token = field(rows[i].token),
                                .nkey = field(rows[i].nkey),
                                .sig = field(rows[i].sig),
                                .nonce = field(rows[i].nonce),
                                .type = BULKHEAD__CONNECTION_TYPE__TYPE_STANDARD,
                                .nonce_good = rows[i].nonce && !rows[i].used};
        struct verdict v;
        char got[256];
        verdict_make(&v, users, &c);
        snprintf(got, sizeof got, "%s%s", v.kind == VERDICT_HASH ? "#" : "",
                 v.kind == VERDICT_REFUSED ? "R"
                 : v.user                  ? name_of(v.user)
                                           : "");
        ck_assert_msg(strcmp(got, rows[i].expected) == 0, "%s: %s", rows[i].name, got);
        if (v.kind == VERDICT_HASH)
            ck_assert_msg(bcrypt_matches(view_of(v.hash, sizeof v.hash), v.password) == (v.user != NULL), "%s",
                          rows[i].name);
        users_free(users);
    }
}
END_TEST

/* The reasons that a debug line gives for an nkey. */
START_TEST(test_reasons) {
    static const struct {
        const char *nkey, *sig, *why;
    } reasons[] = {{NKEY_U, "", "Signature missing"},
                   {NKEY_U, "!!", "Signature not valid base64"},
                   {NKEY_U, "AAAA", "Signature not valid base64"},
                   {"UX", SIG, "User nkey not valid: invalid public key"},
                   {NKEY_U, "AAAAXAM6Z7NCRNVQUG3B800nylDT2kIPIegiRv5HybFEJTY8-hASedZNYhshbVPoEtTR5uGmDg2x1MMKvuXxDg",
                    "Signature not verified"}};
    struct users *users = read_users(nkey_text);
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        struct credentials c = {
            .nkey = field(reasons[i].nkey), .sig = field(reasons[i].sig), .nonce = VIEW(NONCE), .nonce_good = true};
        struct verdict v;
        verdict_make(&v, users, &c);
        ck_assert_int_eq(v.kind, VERDICT_REFUSED);
        ck_assert_str_eq(v.why, reasons[i].why);
    }
    users_free(users);
}
END_TEST

START_TEST(test_types) {
    struct users *users = read_users(users_text);
    struct credentials c = {.user = VIEW("w"), .pass = VIEW("p")};
    for (int type = 0; type <= BULKHEAD__CONNECTION_TYPE__TYPE_MQTT_WS; type++) {
        struct verdict v;
        c.type = (uint8_t)type;
        verdict_make(&v, users, &c);
        ck_assert_int_eq(v.kind == VERDICT_GRANTED, type == BULKHEAD__CONNECTION_TYPE__TYPE_WEBSOCKET);
    }
    users_free(users);
}
END_TEST

int main(void) {
    if (sodium_init() < 0)
        return 1;
    Suite *suite = suite_create("verdict");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, test_matrix);
    tcase_add_test(tcase, test_reasons);
    tcase_add_test(tcase, test_types);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
