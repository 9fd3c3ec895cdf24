/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of authd/logins.c. */
#include "authd/logins.h"

#include <check.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct binding_key key = {.number = 1};
static struct counters counters;
static struct logins logins;
static struct logins_edge edge;
static const struct user user = {
    .account_number = 3, .principal = 4, .permissions = 5, .payload_max = 4096, .subs_max = 10};

static enum err decide(uint32_t conn, uint32_t generation, uint64_t wall_s, struct binding *out) {
    enum err e = logins_admit(&logins, &edge, conn, generation);
    if (e == ERR_OK)
        logins_seal(&logins, &edge, conn, generation, &user, wall_s, out);
    return e;
}

static void open_logins(void) {
    ck_assert_int_ge(sodium_init(), 0);
    randombytes_buf(key.key, sizeof key.key);
    memset(&counters, 0, sizeof counters);
    memset(&edge, 0, sizeof edge);
    edge.link = 5;
    edge.incarnation = 123;
    edge.kind = LINK_FRONTEND;
    logins_open(&logins, &key, &counters, 1000000);
}

START_TEST(test_binding) {
    struct binding sealed, b;
    ck_assert_int_eq(decide(7, 3, 555, &sealed), ERR_OK);
    ck_assert_int_eq(binding_open(&b, &key, &sealed, sizeof sealed), ERR_OK);
    ck_assert_uint_eq(b.link, 5);
    ck_assert_uint_eq(b.incarnation, 123);
    ck_assert_uint_eq(b.kind, LINK_FRONTEND);
    ck_assert_uint_eq(b.conn, 7);
    ck_assert_uint_eq(b.generation, 3);
    ck_assert_uint_eq(b.issued_s, 555);
    ck_assert_uint_eq(b.expires_s, 0);
    ck_assert_uint_eq(b.account, 3);
    ck_assert_uint_eq(b.principal, 4);
    ck_assert_uint_eq(b.permissions, 5);
    ck_assert_uint_eq(b.payload_max, 4096);
    ck_assert_uint_eq(b.subs_max, 10);
    ck_assert_uint_eq(counter_get(&counters, COUNTER_BINDINGS), 1);
}
END_TEST

START_TEST(test_generations) {
    static const struct {
        const char *name;
        uint32_t conn, generation;
        enum err expected;
    } rows[] = {
        {"the first", 7, 1, ERR_OK},
        {"the same again", 7, 1, ERR_STALE},
        {"an older one", 7, 0, ERR_STALE},
        {"a newer one", 7, 9, ERR_OK},
        {"between", 7, 5, ERR_STALE},
        {"of another connection", 8, 1, ERR_OK},
        {"generation 0", 9, 0, ERR_STALE},
        {"the last number", SOFT_CONNS_MAX - 1, 1, ERR_OK},
        {"beyond the table", SOFT_CONNS_MAX, 1, ERR_STALE},
        {"far beyond the table", UINT32_MAX, 1, ERR_STALE},
        {"the last generation", 7, UINT32_MAX, ERR_OK},
        {"no wrap", 7, 1, ERR_STALE},
    };
    struct binding b;
    uint32_t refused = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum err e = decide(rows[i].conn, rows[i].generation, 0, &b);
        ck_assert_msg(e == rows[i].expected, "%s: %s", rows[i].name, err_text(e));
        refused += e != ERR_OK;
    }
    ck_assert_uint_eq(counter_get(&counters, COUNTER_BINDINGS_REFUSED), refused);
}
END_TEST

/* Serials only grow: over logins, over a new authd, over a clock that was set back. */
START_TEST(test_serials) {
    struct binding b;
    uint64_t last = 1000000;
    for (uint32_t i = 1; i < 1000; i++) {
        ck_assert_int_eq(decide(1, i, 0, &b), ERR_OK);
        ck_assert_uint_eq(b.serial, last + 1);
        ck_assert_uint_eq(counter_get(&counters, COUNTER_SERIAL_HIGH), b.serial);
        last = b.serial;
    }
    logins_open(&logins, &key, &counters, 5);
    ck_assert_int_eq(decide(2, 1, 0, &b), ERR_OK);
    ck_assert_uint_eq(b.serial, last + 1);
    logins_open(&logins, &key, &counters, 2000000);
    ck_assert_int_eq(decide(3, 1, 0, &b), ERR_OK);
    ck_assert_uint_eq(b.serial, 2000001);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("logins");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, open_logins, NULL);
    tcase_add_test(tcase, test_binding);
    tcase_add_test(tcase, test_generations);
    tcase_add_test(tcase, test_serials);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
