/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of authd/bcrypt.c: which texts are hashes, and what matches them. */
#include "authd/bcrypt.h"

#include <check.h>

#include "tests/unit/unit.h"

#define TAIL    "abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW" /* of "secret" at cost 4 */
#define SEVENTY "0123456789012345678901234567890123456789012345678901234567890123456789"

static const struct {
    const char *hash;
    bool is_hash;
    uint32_t cost;
    const char *password;
    bool matches;
} rows[] = {
    {"$2a$04$" TAIL, true, 4, "secret", true},
    {"$2b$04$" TAIL, true, 4, "secret", true},
    {"$2x$04$" TAIL, true, 4, "secret", true},
    {"$2y$04$" TAIL, true, 4, "secret", true},
    {"$2a$04$" TAIL, true, 4, "secreT", false},
    {"$2a$04$" TAIL, true, 4, "", false},
    {"$2a$04$" TAIL, true, 4, "$2a$04$" TAIL, false},
    {"$2c$04$" TAIL, false, 0, "secret", false},
    {"$2a$4$" TAIL, false, 0, "secret", false},
    {"$2a$03$" TAIL, true, 0, "secret", false},
    {"$2a$32$" TAIL, true, 0, "secret", false},
    {"$2a$04$" TAIL "x", true, 0, "secret", false},
    {"$2a$04$short", true, 0, "$2a$04$short", false},
    {"$2a$04$", true, 0, "", false},
    {"$2a$04", false, 0, "", false},
    {"", false, 0, "", false},
};

START_TEST(test_hashes) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct view hash = view_text(rows[i].hash);
        ck_assert_msg(bcrypt_is_hash(hash) == rows[i].is_hash, "%s", rows[i].hash);
        ck_assert_msg(bcrypt_cost(hash) == rows[i].cost, "%s", rows[i].hash);
        ck_assert_msg(bcrypt_matches(hash, view_text(rows[i].password)) == rows[i].matches, "%s %s", rows[i].hash,
                      rows[i].password);
    }
}
END_TEST

/* A password with a NUL is not its first half. */
START_TEST(test_nul) {
    ck_assert(!bcrypt_matches(view_text("$2a$04$" TAIL), VIEW("secret\0x")));
    ck_assert(!bcrypt_matches(view_text("$2a$04$" TAIL), VIEW("secret\0")));
}
END_TEST

/* The hash of 72 bytes fits everything that begins with them. */
START_TEST(test_long) {
    struct view hash = view_text("$2b$04$abcdefghijklmnopqrstuuMtJwfagkGaCKZ.IMpPJzYjhgL/xnp2C");
    ck_assert(bcrypt_matches(hash, VIEW(SEVENTY "ab")));
    ck_assert(bcrypt_matches(hash, VIEW(SEVENTY "abc and more")));
    ck_assert(!bcrypt_matches(hash, VIEW(SEVENTY "a")));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("bcrypt");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, test_hashes);
    tcase_add_test(tcase, test_nul);
    tcase_add_test(tcase, test_long);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
