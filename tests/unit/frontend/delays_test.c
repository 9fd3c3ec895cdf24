/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of frontend/delays.c: who waits, for how long, and how many. */
#include <arpa/inet.h>
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/front.h"
#include "tests/unit/unit.h"

enum { WAIT_MS = 1000, LASTS_MS = 60000, MANY = 300, ASIDE_MAX = 256, SOURCES_MAX = 128 };

static struct front w;

static struct in6_addr mapped(const char *text) {
    struct in6_addr a = {.s6_addr = {[10] = 0xff, [11] = 0xff}};
    ck_assert_int_eq(inet_pton(AF_INET, text, &a.s6_addr[12]), 1);
    return a;
}

static struct in6_addr six(const char *text) {
    struct in6_addr a;
    ck_assert_int_eq(inet_pton(AF_INET6, text, &a), 1);
    return a;
}

static void delay(struct in6_addr source) {
    ck_assert_int_eq(delays_add(&w.f, &source, WAIT_MS, LASTS_MS), ERR_OK);
}

/* A new connection from there. True: it was taken over, and *client is its other end. */
static bool arrives(const char *from, int *client) {
    struct sockaddr_storage at = {0};
    struct sockaddr_in *v4 = (void *)&at;
    struct sockaddr_in6 *v6 = (void *)&at;
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    if (inet_pton(AF_INET, from, &v4->sin_addr) == 1)
        at.ss_family = AF_INET;
    else if (inet_pton(AF_INET6, from, &v6->sin6_addr) == 1)
        at.ss_family = AF_INET6;
    *client = ends[1];
    if (delays_hold(&w.f, ends[0], &at))
        return true;
    close(ends[0]);
    close(ends[1]);
    return false;
}

/* 'I': it has INFO, 'E': it was closed, 0: nothing yet. */
static char hears(int client) {
    char byte;
    ssize_t n = recv(client, &byte, 1, MSG_PEEK);
    return n == 0 ? 'E' : n > 0 ? byte : 0;
}

static void setup(void) {
    front_open(&w);
    front_authd_new(&w, false, false, false);
    front_settle(&w);
}

START_TEST(test_waits) {
    int client;
    delay(mapped("10.0.0.1"));
    ck_assert(!arrives("10.0.0.2", &client));
    ck_assert(arrives("10.0.0.1", &client));
    front_pass(&w, WAIT_MS - 1);
    front_settle(&w);
    ck_assert_int_eq(hears(client), 0);
    ck_assert_uint_eq(w.f.client_count, 0);
    ck_assert_uint_le((uint64_t)timers_wait_ms(&w.f), 1);
    front_pass(&w, 1);
    front_settle(&w);
    ck_assert_int_eq(hears(client), 'I');
    ck_assert_uint_eq(w.f.client_count, 1);
    ck_assert_uint_eq(delays_due_ms(&w.f), 0);
    front_pass(&w, LASTS_MS);
    ck_assert(!arrives("10.0.0.1", &client));
}
END_TEST

START_TEST(test_networks) {
    int client;
    delay(six("2001:db8:1:2::"));
    ck_assert(arrives("2001:db8:1:2::7", &client));
    ck_assert(arrives("2001:db8:1:2:ffff::1", &client));
    ck_assert(!arrives("2001:db8:1:3::7", &client));
}
END_TEST

/* Both tables have an end: the newest connection goes, and the source that would be forgotten first. */
START_TEST(test_bounds) {
    int client[MANY], other;
    char text[INET_ADDRSTRLEN];
    delay(mapped("10.0.0.1"));
    for (int i = 0; i < MANY; i++)
        ck_assert(arrives("10.0.0.1", &client[i]));
    for (int i = 0; i < MANY; i++)
        ck_assert_int_eq(hears(client[i]), i < ASIDE_MAX ? 0 : 'E');
    for (int i = 1; i <= SOURCES_MAX; i++) {
        front_pass(&w, 1);
        snprintf(text, sizeof text, "10.1.0.%d", i);
        delay(mapped(text));
    }
    ck_assert(!arrives("10.0.0.1", &other));
    ck_assert(arrives(text, &other));
    front_pass(&w, WAIT_MS);
    front_settle(&w);
    ck_assert_uint_eq(w.f.client_count, ASIDE_MAX);
}
END_TEST

/* A lame duck keeps nobody waiting whom it will not take. */
START_TEST(test_lame) {
    int client;
    delay(mapped("10.0.0.1"));
    ck_assert(arrives("10.0.0.1", &client));
    w.f.lame = true;
    front_turn(&w);
    ck_assert_int_eq(hears(client), 'E');
}
END_TEST

int main(void) {
    /* The supervisor's descriptor, before Check takes it. */
    int taken = open("/dev/null", O_RDONLY);
    while (taken >= 0 && taken < CONTROL_FD)
        taken = dup(taken);
    Suite *suite = suite_create("delays");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_test(tcase, test_waits);
    tcase_add_test(tcase, test_networks);
    tcase_add_test(tcase, test_bounds);
    tcase_add_test(tcase, test_lame);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
