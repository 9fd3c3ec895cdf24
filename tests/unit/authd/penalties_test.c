/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of authd/penalties.c and of authd/held.c, which keeps what they hold back. */
#include "authd/penalties.h"

#include <check.h>
#include <stdlib.h>

#include "authd/held.h"
#include "tests/unit/unit.h"

static struct penalties penalties;
static const struct user_penalties rules = {.after = 3, .step_ms = 100, .max_ms = 250};

static struct source_address source(uint32_t number) {
    struct source_address s = {{0}};
    memcpy(s.at, &number, sizeof number);
    return s;
}

/* Of a bad verdict on link 1. */
static uint32_t delay(uint32_t number, uint64_t now_ms) {
    return penalties_delay(&penalties, &rules, 1, source(number), now_ms, false);
}

static void open_penalties(void) {
    penalties_open(&penalties);
}

START_TEST(test_growth) {
    static const uint32_t expected[] = {0, 0, 0, 100, 200, 250, 250};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        ck_assert_uint_eq(delay(1, 1000), expected[i]);
        penalties_count(&penalties, 1, source(1), 1000);
    }
    ck_assert_uint_eq(delay(2, 1000), 0);
    ck_assert_uint_eq(delay(1, 1000 + PENALTIES_WINDOW_MS), 250);
    ck_assert_uint_eq(delay(1, 1001 + PENALTIES_WINDOW_MS), 0);
    penalties_count(&penalties, 1, source(1), 1001 + PENALTIES_WINDOW_MS);
    ck_assert_uint_eq(delay(1, 1001 + PENALTIES_WINDOW_MS), 0);
}
END_TEST

START_TEST(test_off) {
    static const struct user_penalties off[] = {{0, 100, 1000}, {1, 0, 1000}, {1, 100, 0}};
    for (int i = 0; i < 100; i++)
        penalties_count(&penalties, 1, source(1), 1000);
    for (size_t i = 0; i < 3; i++)
        ck_assert_uint_eq(penalties_delay(&penalties, &off[i], 1, source(1), 1000, true), 0);
}
END_TEST

START_TEST(test_held) {
    for (int i = 0; i < 3; i++)
        penalties_count(&penalties, 1, source(1), 1000);
    for (int i = 0; i < PENALTIES_HELD_MAX; i++) {
        ck_assert_uint_eq(delay(1, 1000), 100);
        penalties_hold(&penalties, 1, source(1));
    }
    ck_assert_uint_eq(delay(1, 1000), 0);
    ck_assert_uint_eq(penalties_delay(&penalties, &rules, 1, source(1), 1000, true), rules.max_ms);
    penalties_release(&penalties, 1, source(1));
    ck_assert_uint_eq(delay(1, 1000), 100);
}
END_TEST

/* Who has waited for an answer that became void does not wait again: so many good ones, no bad one, and that source alone. */
START_TEST(test_served) {
    penalties_serve(&penalties, 1, source(1)); /* a source that never failed has nothing to wait for */
    for (int i = 0; i < 3; i++)
        penalties_count(&penalties, 1, source(1), 1000);
    penalties_serve(&penalties, 1, source(1));
    penalties_serve(&penalties, 1, source(1));
    ck_assert_uint_eq(delay(1, 1000), 100);
    for (int i = 0; i < 2; i++)
        ck_assert_uint_eq(penalties_delay(&penalties, &rules, 1, source(1), 1000, true), 0);
    ck_assert_uint_eq(penalties_delay(&penalties, &rules, 1, source(1), 1000, true), 100);
    penalties_serve(&penalties, 1, source(1));
    for (int i = 0; i < 3; i++)
        penalties_count(&penalties, 1, source(1), 1001 + PENALTIES_WINDOW_MS);
    ck_assert_uint_eq(penalties_delay(&penalties, &rules, 1, source(1), 1001 + PENALTIES_WINDOW_MS, true), 100);
}
END_TEST

/* Many sources push out the one that failed longest ago, and that one alone. */
START_TEST(test_bounded) {
    for (uint32_t i = 0; i < PENALTIES_SOURCES; i++) {
        for (int k = 0; k < 3; k++)
            penalties_count(&penalties, 1, source(i), 1000 + i);
    }
    penalties_count(&penalties, 1, source(PENALTIES_SOURCES), 9000);
    ck_assert_uint_eq(delay(0, 9000), 0);
    for (uint32_t i = 1; i < PENALTIES_SOURCES; i++)
        ck_assert_uint_eq(delay(i, 9000), 100);
}
END_TEST

/* What one edge says of a source does not count for another edge's, and cannot push it out. */
START_TEST(test_links) {
    for (int k = 0; k < 3; k++)
        penalties_count(&penalties, 2, source(1), 1000);
    ck_assert_uint_eq(delay(1, 1000), 0);
    for (int i = 0; i < PENALTIES_HELD_MAX; i++)
        penalties_hold(&penalties, 1, source(1));
    ck_assert_uint_eq(penalties_delay(&penalties, &rules, 2, source(1), 1000, false), 100);
    for (uint32_t i = 0; i < 2 * PENALTIES_SOURCES; i++)
        penalties_count(&penalties, 1, source(i), 2000 + i);
    ck_assert_uint_eq(penalties_delay(&penalties, &rules, 2, source(1), 9000, false), 100);
}
END_TEST

START_TEST(test_order_of_held) {
    static const uint64_t due[] = {50, 10, 30, 10, 20, 40, 10};
    static const uint32_t order[] = {1, 3, 6, 4, 2, 5, 0};
    struct held held = {0};
    struct answer answer = {0};
    ck_assert_ptr_null(held_first(&held));
    for (uint32_t i = 0; i < 7; i++) {
        answer.id = i;
        ck_assert_ptr_nonnull(held_put(&held, &answer, due[i]));
    }
    for (uint32_t i = 0; i < 7; i++) {
        ck_assert_uint_eq(held_first(&held)->due_ms, due[order[i]]);
        held_take(&held, held_first(&held), &answer);
        ck_assert_uint_eq(answer.id, order[i]);
    }
    ck_assert_ptr_null(held_first(&held));
    held_free(&held);
}
END_TEST

/* Any one can be taken out; the others keep their order. */
START_TEST(test_take_from_the_middle) {
    enum { COUNT = 500 };
    struct held held = {0};
    struct answer answer = {0};
    struct held_answer *one[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        answer.id = i;
        one[i] = held_put(&held, &answer, i * 7919 % 1009);
        ck_assert_ptr_nonnull(one[i]);
    }
    for (uint32_t i = 0; i < COUNT; i += 3) {
        held_take(&held, one[i], &answer);
        ck_assert_uint_eq(answer.id, i);
    }
    uint64_t last = 0;
    uint32_t left = 0;
    for (; held_first(&held); left++) {
        ck_assert_uint_ge(held_first(&held)->due_ms, last);
        last = held_first(&held)->due_ms;
        held_take(&held, held_first(&held), &answer);
        ck_assert_uint_ne(answer.id % 3, 0);
        ck_assert_uint_eq(answer.id * 7919 % 1009, last);
    }
    ck_assert_uint_eq(left, COUNT - (COUNT + 2) / 3);
    held_free(&held);
}
END_TEST

START_TEST(test_held_bounded) {
    struct held held = {0};
    struct answer one = {.link = 1}, two = {.link = 2};
    for (uint32_t i = 0; i < HELD_LINK_MAX; i++)
        ck_assert_ptr_nonnull(held_put(&held, &one, i));
    ck_assert_ptr_null(held_put(&held, &one, 0));
    ck_assert_ptr_nonnull(held_put(&held, &two, 0));
    held_free(&held);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("penalties");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, open_penalties, NULL);
    tcase_add_test(tcase, test_growth);
    tcase_add_test(tcase, test_off);
    tcase_add_test(tcase, test_held);
    tcase_add_test(tcase, test_served);
    tcase_add_test(tcase, test_bounded);
    tcase_add_test(tcase, test_links);
    tcase_add_test(tcase, test_order_of_held);
    tcase_add_test(tcase, test_take_from_the_middle);
    tcase_add_test(tcase, test_held_bounded);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
