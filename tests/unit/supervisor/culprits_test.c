/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of supervisor/culprits.c, in simulated time. */
#include "supervisor/culprits.h"

#include <arpa/inet.h>
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct culprits table;

static struct in6_addr address(const char *text) {
    struct in6_addr a = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    if (inet_pton(AF_INET, text, &a.s6_addr[12]) != 1)
        ck_assert_int_eq(inet_pton(AF_INET6, text, &a), 1);
    return a;
}

static const struct culprit *note(const char *from, uint64_t now_ms) {
    struct in6_addr a = address(from);
    return culprits_note(&table, &a, now_ms);
}

static void setup(void) {
    table = (struct culprits){0};
}

START_TEST(test_grows) {
    static const uint32_t waits[] = {0, 0, 1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
        const struct culprit *c = note("10.0.0.1", 1000 + 60000 * i);
        ck_assert_msg(c->wait_ms == waits[i], "death %zu: %u", i + 1, c->wait_ms);
        ck_assert_uint_eq(culprits_lasts_ms(c, 1000 + 60000 * i), waits[i] ? CULPRITS_MEMORY_MS : 0);
    }
}
END_TEST

START_TEST(test_forgets) {
    for (uint64_t i = 0; i < 100; i++) /* never three within ten minutes */
        ck_assert_uint_eq(note("10.0.0.1", 1000 + i * CULPRITS_MEMORY_MS / 2)->wait_ms, 0);
    for (uint64_t i = 0; i < 3; i++)
        note("10.0.0.2", 1000 + i);
    const struct culprit *c = note("10.0.0.2", 1003);
    ck_assert_uint_eq(c->wait_ms, 2000);
    ck_assert_uint_eq(culprits_lasts_ms(c, 1003 + CULPRITS_MEMORY_MS), 0);
    ck_assert_uint_eq(note("10.0.0.2", 1003 + CULPRITS_MEMORY_MS)->wait_ms, 0);
}
END_TEST

/* One alone; of IPv6 its network. */
START_TEST(test_sources) {
    char text[CULPRITS_TEXT];
    note("10.0.0.1", 1000);
    note("10.0.0.1", 1000);
    ck_assert_uint_eq(note("10.0.0.2", 1000)->wait_ms, 0);
    const struct culprit *c = note("10.0.0.1", 1000);
    ck_assert_uint_eq(c->wait_ms, 1000);
    ck_assert_str_eq(culprits_text(c, text), "10.0.0.1");
    note("2001:db8:1:2::1", 1000);
    note("2001:db8:1:2:ffff::2", 1000);
    ck_assert_uint_eq(note("2001:db8:1:3::1", 1000)->wait_ms, 0);
    c = note("2001:db8:1:2::3", 1000);
    ck_assert_uint_eq(c->wait_ms, 1000);
    ck_assert_str_eq(culprits_text(c, text), "2001:db8:1:2::/64");
    c = note("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1000);
    ck_assert_str_eq(culprits_text(c, text), "ffff:ffff:ffff:ffff::/64");
}
END_TEST

/* However many addresses a lost frontend names, the table stays as it is, and the newest are in it. */
START_TEST(test_bounded) {
    char text[INET_ADDRSTRLEN];
    for (uint32_t i = 1; i <= 5 * CULPRITS_MAX; i++) {
        snprintf(text, sizeof text, "10.0.%u.%u", i / 256, i % 256);
        note(text, i);
        ck_assert_uint_le(table.count, CULPRITS_MAX);
    }
    note(text, 5 * CULPRITS_MAX + 1);
    ck_assert_uint_eq(note(text, 5 * CULPRITS_MAX + 2)->wait_ms, 1000);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("culprits");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, test_grows);
    tcase_add_test(tcase, test_forgets);
    tcase_add_test(tcase, test_sources);
    tcase_add_test(tcase, test_bounded);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
