/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of supervisor/listeners.c, on loopback. */
#include "supervisor/listeners.h"

#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static char why[256];

static void close_all(const int *fds, int count) {
    for (int i = 0; i < count; i++)
        close(fds[i]);
}

START_TEST(test_share) {
    int fds[4];
    uint16_t port;
    ck_assert_int_eq(listeners_bind(fds, 4, "127.0.0.1", -1, &port, why, sizeof why), ERR_OK);
    ck_assert_uint_ne(port, 0);
    int accepted = 0;
    for (int i = 0; i < 64; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        struct sockaddr_in to = {
            .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        ck_assert_int_eq(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
        struct pollfd polled[4];
        for (int k = 0; k < 4; k++)
            polled[k] = (struct pollfd){fds[k], POLLIN, 0};
        ck_assert_int_gt(poll(polled, 4, 5000), 0);
        for (int k = 0; k < 4; k++) {
            if (polled[k].revents) {
                int got = accept(fds[k], NULL, NULL), on = 0;
                ck_assert_int_ge(got, 0);
                ck_assert_int_eq(getsockopt(got, IPPROTO_TCP, TCP_NODELAY, &on, &(socklen_t){sizeof on}), 0);
                ck_assert_int_ne(on, 0);
                accepted |= 1 << k;
                close(got);
            }
        }
        close(fd);
    }
    ck_assert_int_eq(accepted, 15); /* each had some */
    close_all(fds, 4);
}
END_TEST

/* One that was closed for a while comes back on the same address, also of a port that the kernel chose. */
START_TEST(test_join) {
    int fds[2], again;
    uint16_t port;
    ck_assert_int_eq(listeners_bind(fds, 2, "127.0.0.1", -1, &port, why, sizeof why), ERR_OK);
    close(fds[1]);
    ck_assert_int_eq(listeners_join(&again, fds[0]), ERR_OK);
    struct sockaddr_in at;
    ck_assert_int_eq(getsockname(again, (struct sockaddr *)&at, &(socklen_t){sizeof at}), 0);
    ck_assert_uint_eq(ntohs(at.sin_port), port);
    close(again);
    close(fds[0]);
    ck_assert_int_eq(listeners_join(&again, -1), ERR_SYSTEM);
    ck_assert_int_eq(again, -1);
}
END_TEST

/* Nobody joins in from outside, not even another server of ours. */
START_TEST(test_in_use) {
    int fds[2], others[2];
    uint16_t port, other;
    char expected[128];
    ck_assert_int_eq(listeners_bind(fds, 2, "127.0.0.1", -1, &port, why, sizeof why), ERR_OK);
    ck_assert_int_eq(listeners_bind(others, 2, "127.0.0.1", port, &other, why, sizeof why), ERR_SYSTEM);
    snprintf(expected, sizeof expected, "listen tcp 127.0.0.1:%u: bind: address already in use", port);
    ck_assert_str_eq(why, expected);
    close_all(fds, 2);
    ck_assert_int_eq(listeners_bind(others, 2, "127.0.0.1", port, &other, why, sizeof why), ERR_OK);
    ck_assert_uint_eq(other, port);
    close_all(others, 2);
}
END_TEST

START_TEST(test_ipv6) {
    int fds[2];
    uint16_t port;
    if (listeners_bind(fds, 2, "::1", -1, &port, why, sizeof why) != ERR_OK) {
        ck_assert_msg(strstr(why, "address") != NULL, "%s", why); /* no IPv6 here */
        return;
    }
    close_all(fds, 2);
    ck_assert_int_eq(listeners_bind(fds, 2, "[::1]", port, &port, why, sizeof why), ERR_OK);
    close_all(fds, 2);
}
END_TEST

START_TEST(test_bad_host) {
    int fds[1];
    uint16_t port;
    ck_assert_int_eq(listeners_bind(fds, 1, "300.1.1.1", 4222, &port, why, sizeof why), ERR_SYSTEM);
    ck_assert_ptr_nonnull(strstr(why, "listen tcp 300.1.1.1:4222: "));
}
END_TEST

START_TEST(test_address) {
    char out[64];
    listeners_address(out, sizeof out, "0.0.0.0", 4222);
    ck_assert_str_eq(out, "0.0.0.0:4222");
    listeners_address(out, sizeof out, "::1", 1);
    ck_assert_str_eq(out, "[::1]:1");
    listeners_address(out, sizeof out, "[::1]", 1);
    ck_assert_str_eq(out, "[::1]:1");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("listeners");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, test_share);
    tcase_add_test(tcase, test_join);
    tcase_add_test(tcase, test_in_use);
    tcase_add_test(tcase, test_ipv6);
    tcase_add_test(tcase, test_bad_host);
    tcase_add_test(tcase, test_address);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
