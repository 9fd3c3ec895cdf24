/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of ipc/note.c. */
#include "ipc/note.h"

#include <check.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static int ends[2];
static struct channel first, second; /* of the two ends */

static void open_pair(void) {
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    ck_assert_int_eq(channel_open(&first, ends[0], "the child", NULL, 0, NULL, 1), ERR_OK);
    ck_assert_int_eq(channel_open(&second, ends[1], "the other", NULL, 0, NULL, 1), ERR_OK);
}

static void close_pair(void) {
    channel_close(&first);
    channel_close(&second);
}

START_TEST(test_travel) {
    struct note note;
    ck_assert_int_eq(note_receive(ends[1], &note), ERR_AGAIN);
    for (uint32_t type = NOTE_READY; type < NOTE_TYPE_END; type++)
        ck_assert_int_eq(note_send(&first, (enum note_type)type, type + 7, UINT64_MAX - type), ERR_OK);
    for (uint32_t type = NOTE_READY; type < NOTE_TYPE_END; type++) {
        ck_assert_int_eq(note_receive(ends[1], &note), ERR_OK);
        ck_assert_uint_eq(note.type, type);
        ck_assert_uint_eq(note.number, type + 7);
        ck_assert_uint_eq(note.value, UINT64_MAX - type);
    }
    ck_assert_int_eq(note_receive(ends[1], &note), ERR_AGAIN);
    ck_assert_int_eq(note_send(&first, NOTE_READY, 1, 2), ERR_OK);
    ck_assert_int_eq(note_send(&second, NOTE_READY, 3, 4), ERR_OK); /* it dies before it has read this: a reset */
    channel_close(&first);
    ck_assert_int_eq(note_receive(ends[1], &note), ERR_OK);
    ck_assert_uint_eq(note.number, 1);
    ck_assert_int_eq(note_receive(ends[1], &note), ERR_END);
    ck_assert_int_eq(note_send(&second, NOTE_READY, 0, 0), ERR_END);
}
END_TEST

/* What finds the socket full is kept, in order, and goes out when there is room: epoll says when. */
START_TEST(test_full) {
    int epoll = epoll_create1(0);
    ck_assert_int_ge(epoll, 0);
    ck_assert_int_eq(channel_watch(&first, epoll, (union epoll_data){.u64 = 7}), ERR_OK);
    enum { NOTES = 5000 };
    for (uint32_t i = 0; i < NOTES; i++)
        ck_assert_int_eq(note_send(&first, NOTE_LINK_GONE, i, 0), ERR_OK);
    ck_assert(first.backlog != NULL);
    struct note note;
    struct epoll_event event;
    for (uint32_t i = 0; i < NOTES;) {
        enum err e = note_receive(ends[1], &note);
        if (e == ERR_OK) {
            ck_assert_uint_eq(note.number, i++);
            continue;
        }
        ck_assert_int_eq(e, ERR_AGAIN);
        ck_assert_int_eq(epoll_wait(epoll, &event, 1, 1000), 1);
        ck_assert(event.events == EPOLLOUT && event.data.u64 == 7);
        channel_flush(&first);
    }
    ck_assert(first.backlog == NULL);
    ck_assert_int_eq(epoll_wait(epoll, &event, 1, 0), 0); /* it no longer waits for room */
    close(epoll);
}
END_TEST

START_TEST(test_hostile) {
    static const struct {
        const char *name;
        uint32_t type;
        size_t len;
        enum err expected;
    } rows[] = {
        {"a note", NOTE_READY, 16, ERR_OK},
        {"a byte short", NOTE_READY, 15, ERR_HOSTILE},
        {"a byte long", NOTE_READY, 17, ERR_HOSTILE},
        {"much too long", NOTE_READY, 60000, ERR_HOSTILE},
        {"type 0", 0, 16, ERR_HOSTILE},
        {"a type beyond the last", NOTE_TYPE_END, 16, ERR_HOSTILE},
        {"a type with high bits", 1u << 31 | NOTE_READY, 16, ERR_HOSTILE},
    };
    static char packet[60000];
    memcpy(packet, &rows[_i].type, 4);
    ck_assert_int_eq(send(ends[0], packet, rows[_i].len, 0), (ssize_t)rows[_i].len);
    struct note note;
    enum err e = note_receive(ends[1], &note);
    ck_assert_msg(e == rows[_i].expected, "%s: %s", rows[_i].name, err_text(e));
    ck_assert_int_eq(note_receive(ends[1], &note), ERR_AGAIN);
}
END_TEST

/* A descriptor that rides along goes nowhere. */
START_TEST(test_descriptor) {
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
    struct note note = {.type = NOTE_READY};
    struct iovec part = {&note, sizeof note};
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&head);
    *c = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &ends[0], sizeof(int));
    int next = dup(0);
    close(next);
    ck_assert_int_eq(sendmsg(ends[0], &head, 0), (ssize_t)sizeof note);
    ck_assert_int_eq(note_receive(ends[1], &note), ERR_OK);
    ck_assert_int_eq(dup(0), next);
    close(next);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("note");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, open_pair, close_pair);
    tcase_add_test(tcase, test_travel);
    tcase_add_test(tcase, test_full);
    tcase_add_loop_test(tcase, test_hostile, 0, 7);
    tcase_add_test(tcase, test_descriptor);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
