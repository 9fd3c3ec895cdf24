/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of supervisor/restarts.c and of the family table. */
#include "supervisor/restarts.h"

#include <check.h>
#include <string.h>

#include "supervisor/family.h"
#include "tests/unit/unit.h"

START_TEST(test_delays) {
    static const uint32_t delays[] = {0,    100,   200,   400,   800,   1600,  3200,
                                      6400, 12800, 25600, 51200, 60000, 60000, 60000};
    struct restarts r = {0};
    uint64_t now = 1000;
    for (size_t i = 0; i < sizeof delays / sizeof *delays; i++) {
        uint32_t delay = restarts_note(&r, now, true, 60000);
        ck_assert_msg(delay == delays[i], "fault %zu: %u", i, delay);
        ck_assert_int_eq(r.faults >= RESTARTS_LOOP, i >= RESTARTS_LOOP - 1);
        now += delay + 50; /* dies 50 ms after each start */
    }
    ck_assert_uint_eq(restarts_note(&r, now, true, 5000), 5000);
}
END_TEST

/* However long the loop was, two good minutes and it is forgotten; one that dies every now and then never rests long. */
START_TEST(test_healing) {
    struct restarts r = {0};
    uint64_t now = 1000;
    for (int i = 0; i < 1000; i++)
        now += restarts_note(&r, now, true, 60000) + 10;
    ck_assert_uint_eq(restarts_note(&r, now, true, 60000), 60000);
    now += 60000 + 120000;
    ck_assert_uint_eq(restarts_note(&r, now, true, 60000), 0);
    r = (struct restarts){0};
    for (int i = 0; i < 1000; i++)
        ck_assert_uint_le(restarts_note(&r, now += 7000, true, 60000), 100);
}
END_TEST

START_TEST(test_outside) {
    struct restarts r = {0};
    uint64_t now = 1000;
    for (int i = 0; i < 1000; i++)
        ck_assert_uint_eq(restarts_note(&r, now += RESTARTS_ROW_MS, false, 60000), 0);
    ck_assert_uint_eq(r.faults, 0);
    for (int i = 1; i <= 100; i++)
        ck_assert_uint_eq(restarts_note(&r, now += i > 1 ? 1 : RESTARTS_ROW_MS, false, 60000),
                          i > RESTARTS_KILLS_FREE ? 100 : 0);
    ck_assert_uint_eq(restarts_note(&r, now, true, 60000), 0);
}
END_TEST

/* The policy, pair by pair: nobody talks to logd, and to the signer frontends alone. */
START_TEST(test_pairs) {
    static const Bulkhead__Role pairs[][2] = {{BULKHEAD__ROLE__ROLE_ROUTER, BULKHEAD__ROLE__ROLE_AUTHD},
                                              {BULKHEAD__ROLE__ROLE_FRONTEND, BULKHEAD__ROLE__ROLE_AUTHD},
                                              {BULKHEAD__ROLE__ROLE_FRONTEND, BULKHEAD__ROLE__ROLE_SIGNER}};
    for (int a = 0; a < FAMILY_ROLE_END; a++) {
        for (int b = 0; b < FAMILY_ROLE_END; b++) {
            bool listed = false;
            for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
                int first = (int)pairs[i][0], second = (int)pairs[i][1];
                listed = listed || (a == first && b == second) || (a == second && b == first);
            }
            ck_assert_msg(family_may_talk((Bulkhead__Role)a, (Bulkhead__Role)b) == listed, "%d and %d", a, b);
        }
    }
    ck_assert_ptr_null(family_role(BULKHEAD__ROLE__ROLE_SUPERVISOR));
}
END_TEST

START_TEST(test_uids) {
    bool taken[FAMILY_UIDS] = {0};
    for (int role = 0; role < FAMILY_ROLE_END; role++) {
        const struct family_role *row = family_role((Bulkhead__Role)role);
        for (uint32_t i = 0; row && i < row->most; i++) {
            ck_assert_uint_lt(row->uid_offset + i, FAMILY_UIDS);
            ck_assert_msg(!taken[row->uid_offset + i], "%s %u", row->name, i);
            taken[row->uid_offset + i] = true;
        }
    }
}
END_TEST

/* The key is for two, a socket to the outside for one. */
START_TEST(test_gifts) {
    for (int role = 0; role < FAMILY_ROLE_END; role++) {
        const struct family_role *row = family_role((Bulkhead__Role)role);
        if (!row)
            continue;
        bool keyed = role == BULKHEAD__ROLE__ROLE_ROUTER || role == BULKHEAD__ROLE__ROLE_AUTHD;
        ck_assert(!!(row->gifts & GIFT_KEY) == keyed);
        ck_assert(!!(row->gifts & GIFT_LISTENER) == (role == BULKHEAD__ROLE__ROLE_FRONTEND));
        ck_assert(!!(row->gifts & GIFT_KEYS) == (role == BULKHEAD__ROLE__ROLE_SIGNER));
        ck_assert(!!(row->gifts & GIFT_BOOK_W) == (role == BULKHEAD__ROLE__ROLE_AUTHD));
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("restarts");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, test_delays);
    tcase_add_test(tcase, test_outside);
    tcase_add_test(tcase, test_healing);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("family");
    tcase_add_test(tcase, test_pairs);
    tcase_add_test(tcase, test_uids);
    tcase_add_test(tcase, test_gifts);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
