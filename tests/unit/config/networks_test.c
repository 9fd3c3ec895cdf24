/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of config/networks.c. */
#include "config/networks.h"

#include <arpa/inet.h>
#include <check.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct in6_addr address(const char *text) {
    struct in6_addr a = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    if (inet_pton(AF_INET, text, &a.s6_addr[12]) != 1)
        ck_assert_int_eq(inet_pton(AF_INET6, text, &a), 1);
    return a;
}

START_TEST(test_hold) {
    static const struct {
        const char *list, *address;
        bool holds;
    } cases[] = {
        {"127.0.0.0/8, ::1", "127.0.0.1", true},
        {"127.0.0.0/8, ::1", "127.255.0.9", true},
        {"127.0.0.0/8, ::1", "128.0.0.1", false},
        {"127.0.0.0/8, ::1", "::1", true},
        {"127.0.0.0/8, ::1", "::2", false},
        {"10.1.2.3", "10.1.2.3", true},
        {"10.1.2.3", "10.1.2.4", false},
        {"10.1.2.0/23", "10.1.3.255", true},
        {"10.1.2.0/23", "10.1.4.0", false},
        {"fd00::/8,10.0.0.0/8", "fdff::1", true},
        {"fd00::/8,10.0.0.0/8", "fe00::1", false},
        {"::/0", "1.2.3.4", true},
        {"0.0.0.0/0", "1.2.3.4", true},
        {"0.0.0.0/0", "2001:db8::1", false},
        {"none", "127.0.0.1", false},
        {"", "127.0.0.1", false},
        {"nonsense 10.0.0.1", "10.0.0.1", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct in6_addr a = address(cases[i].address);
        ck_assert_msg(networks_hold(view_text(cases[i].list), &a) == cases[i].holds, "%s in %s", cases[i].address,
                      cases[i].list);
    }
}
END_TEST

START_TEST(test_sound) {
    static const struct {
        const char *list, *bad; /* NULL: sound */
    } cases[] = {
        {"127.0.0.0/8, ::1", NULL},
        {"none", NULL},
        {"", NULL},
        {"10.0.0.0/33", "10.0.0.0/33"},
        {"::/129", "::/129"},
        {"::1, ten", "ten"},
        {"10.0.0.0/", "10.0.0.0/"},
        {"10.0.0.0/-1", "10.0.0.0/-1"},
        {"10.0.0.0/8x", "10.0.0.0/8x"},
        {"10.0.0/8", "10.0.0/8"},
        {"::1 none", "none"},
        {"1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc/1",
         "1111:2222:3333:4444:5555:6666:7777:8888:9999:aaaa:bbbb:cccc/1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct view bad = VIEW("");
        ck_assert_msg(networks_are_sound(view_text(cases[i].list), &bad) == !cases[i].bad, "%s", cases[i].list);
        if (cases[i].bad)
            ck_assert_msg(view_equal(bad, view_text(cases[i].bad)), "%s: %.*s", cases[i].list, (int)bad.len, bad.at);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("networks");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, test_hold);
    tcase_add_test(tcase, test_sound);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
