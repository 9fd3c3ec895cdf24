/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of supervisor/logd_out.c: a reader that takes nothing costs lines, never a wait, and no line is torn. */
#include "supervisor/logd_out.h"

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static struct logd_out out;
static int ends[2];

/* Lines of 100 bytes that count up. */
static bool put(uint32_t number) {
    char *room = logd_out_room(&out);
    if (room)
        logd_out_put(&out, (size_t)sprintf(room, "%-98u|\n", number));
    return room != NULL;
}

/* What can be read is whole lines, each higher than the one before. Returns how many. */
static uint32_t read_lines(void) {
    static char bytes[1 << 20];
    static size_t have;
    static unsigned last;
    uint32_t count = 0;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    ssize_t n = read(ends[0], bytes + have, sizeof bytes - have);
    have += n > 0 ? (size_t)n : 0;
    for (; have >= 100; have -= 100, count++) {
        unsigned number = (unsigned)strtoul(bytes, NULL, 10);
        ck_assert(bytes[99] == '\n' && bytes[98] == '|' && number > last);
        last = number;
        memmove(bytes, bytes + 100, have - 100);
    }
    return count;
}

/* A blocking pipe, a non-blocking one, a socket: the test itself would hang in a write that waits. */
START_TEST(test_full) {
    if (_i == 2)
        ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    else
        ck_assert_int_eq(pipe2(ends, 0), 0);
    if (_i == 1)
        fcntl(ends[1], F_SETFL, O_NONBLOCK);
    ck_assert_int_eq(logd_out_open(&out), ERR_OK);
    ck_assert_int_eq(logd_out_set(&out, ends[1]), ERR_OK);
    uint32_t number = 1, kept = 0, lost = 0, read_count = 0;
    for (; number < 20000; number++)
        *(put(number) ? &kept : &lost) += 1;
    ck_assert_uint_gt(lost, 0);
    ck_assert_uint_eq(logd_out_lost(&out), lost);
    ck_assert_uint_eq(logd_out_lost(&out), 0);
    ck_assert(logd_out_waits(&out));
    logd_out_wait(&out, 1);
    while (logd_out_waits(&out)) {
        read_count += read_lines();
        logd_out_flush(&out);
    }
    for (uint32_t got = 1; got;)
        read_count += got = read_lines();
    ck_assert_uint_eq(read_count, kept);
    ck_assert(put(number));
    logd_out_written(&out);
    logd_out_flush(&out);
    ck_assert_uint_eq(logd_out_written(&out), 100);
    ck_assert_uint_eq(read_lines(), 1);
}
END_TEST

/* A reader that has gone takes the lines with it; another place gets those that come then. */
START_TEST(test_gone) {
    ck_assert_int_eq(pipe2(ends, 0), 0);
    ck_assert_int_eq(logd_out_open(&out), ERR_OK);
    ck_assert_int_eq(logd_out_set(&out, ends[1]), ERR_OK);
    close(ends[0]);
    ck_assert(put(1));
    logd_out_flush(&out);
    ck_assert_uint_eq(logd_out_written(&out), 0);
    ck_assert(!logd_out_waits(&out));
    ck_assert_uint_eq(logd_out_lost(&out), 1);
    ck_assert_int_eq(logd_out_set(&out, -1), ERR_OK);
    close(ends[1]);
    FILE *file = tmpfile();
    ck_assert_int_eq(logd_out_set(&out, fileno(file)), ERR_OK);
    ck_assert(out.is_file);
    for (uint32_t i = 0; i < 20000; i++)
        ck_assert(put(i));
    logd_out_flush(&out);
    ck_assert_int_eq(lseek(fileno(file), 0, SEEK_END), 2000000);
    ck_assert_uint_eq(logd_out_lost(&out), 0);
    fclose(file);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("logd_out");
    TCase *tcase = tcase_create("all");
    signal(SIGPIPE, SIG_IGN);
    tcase_add_loop_test(tcase, test_full, 0, 3);
    tcase_add_test(tcase, test_gone);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
