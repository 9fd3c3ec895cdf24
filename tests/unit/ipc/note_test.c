/* Tests of ipc/note.c. */
#include "ipc/note.h"

#include <check.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static int ends[2];

static void open_pair(void) {
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
}

static void close_pair(void) {
    close(ends[0]);
    close(ends[1]);
}

START_TEST(test_travel) {
    struct note note;
    ck_assert_int_eq(note_receive(ends[1], &note), ERR_AGAIN);
    for (uint32_t type = NOTE_READY; type < NOTE_TYPE_END; type++)
        ck_assert_int_eq(note_send(ends[0], (enum note_type)type, type + 7, UINT64_MAX - type), ERR_OK);
    for (uint32_t type = NOTE_READY; type < NOTE_TYPE_END; type++) {
        ck_assert_int_eq(note_receive(ends[1], &note), ERR_OK);
        ck_assert_uint_eq(note.type, type);
        ck_assert_uint_eq(note.number, type + 7);
        ck_assert_uint_eq(note.value, UINT64_MAX - type);
    }
    ck_assert_int_eq(note_receive(ends[1], &note), ERR_AGAIN);
    ck_assert_int_eq(note_send(ends[0], NOTE_READY, 1, 2), ERR_OK);
    ck_assert_int_eq(note_send(ends[1], NOTE_READY, 3, 4), ERR_OK); /* it dies before it has read this: a reset */
    close(ends[0]);
    ck_assert_int_eq(note_receive(ends[1], &note), ERR_OK);
    ck_assert_uint_eq(note.number, 1);
    ck_assert_int_eq(note_receive(ends[1], &note), ERR_END);
    ck_assert_int_eq(note_send(ends[1], NOTE_READY, 0, 0), ERR_SYSTEM);
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
    tcase_add_loop_test(tcase, test_hostile, 0, 7);
    tcase_add_test(tcase, test_descriptor);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
