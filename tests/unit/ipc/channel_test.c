/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of ipc/channel.c: what protobuf-c lets through is refused, the table is obeyed, descriptors do not leak. */
#include "ipc/channel.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/unit/ipc/hostile.pb-c.h"
#include "tests/unit/unit.h"

/* The numbers of real types, with shapes of these tests. */
#define TYPE_MANY    MESSAGE_KEY
#define TYPE_NUMBERS MESSAGE_SETTINGS
#define TYPE_PLAIN   MESSAGE_LINK
#define TYPE_COLORED MESSAGE_KERNEL
#define TYPE_HOLDER  MESSAGE_BEGIN
#define TYPE_LEVEL1  MESSAGE_REPLAY
#define TYPE_LATE    MESSAGE_LINK_DOWN
#define TYPE_SHORT   MESSAGE_GO
#define TYPE_FDS     MESSAGE_LISTENER
#define TYPE_NONE    MESSAGE_CIDS
#define TYPE_CLOSE   MESSAGE_PLACES
#define TYPE_FAIL    MESSAGE_RECALL

static uint32_t handled;
static int got_fd = -1;

static enum err count_message(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)owner, (void)message, (void)fds;
    handled++;
    return ERR_OK;
}

static enum err keep_fd(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)owner, (void)message;
    got_fd = fds[0];
    handled++;
    return ERR_OK;
}

static enum err close_channel(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)owner, (void)message, (void)fds;
    channel_close(c);
    return ERR_OK;
}

static enum err refuse(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)owner, (void)message, (void)fds;
    return ERR_RANGE;
}

static const struct channel_rule rules[] = {
    {TYPE_MANY, 0, 1, CHANNEL_FRAME_MAX, &hostile__many_empty__descriptor, count_message},
    {TYPE_NUMBERS, 0, 1, CHANNEL_FRAME_MAX, &hostile__numbers__descriptor, count_message},
    {TYPE_PLAIN, 0, 1, CHANNEL_FRAME_MAX, &hostile__plain__descriptor, count_message},
    {TYPE_COLORED, 0, 1, CHANNEL_FRAME_MAX, &hostile__colored__descriptor, count_message},
    {TYPE_HOLDER, 0, 1, CHANNEL_FRAME_MAX, &hostile__holder__descriptor, count_message},
    {TYPE_LEVEL1, 0, 1, CHANNEL_FRAME_MAX, &hostile__level1__descriptor, count_message},
    {TYPE_LATE, 0, 2, CHANNEL_FRAME_MAX, &hostile__plain__descriptor, count_message},
    {TYPE_SHORT, 0, 1, 4, &hostile__plain__descriptor, count_message},
    {TYPE_FDS, 1, 1, 16, &hostile__plain__descriptor, keep_fd},
    {TYPE_NONE, 0, 1, 0, NULL, count_message},
    {TYPE_CLOSE, 0, 1, 0, NULL, close_channel},
    {TYPE_FAIL, 0, 1, 0, NULL, refuse},
};

static struct channel channel;
static int peer;

static void open_pair(void) {
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    peer = ends[0];
    handled = 0;
    got_fd = -1;
    /* Receiving is tested with the kernel's own refusal of descriptors out of the way. */
    ck_assert_int_eq(channel_open(&channel, ends[1], "a test", rules, sizeof rules / sizeof *rules, NULL, 1), ERR_OK);
}

static void close_pair(void) {
    channel_close(&channel);
    close(peer);
}

static int count_fds(void) {
    int count = 0;
    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* One packet as the peer sends it: type, zero, bytes, and descriptors. */
static void send_raw(const void *packet, size_t len, const int *fds, size_t fd_count) {
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * 64)] = {0};
    struct iovec part = {(void *)(uintptr_t)packet, len};
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1};
    if (fd_count) {
        head.msg_control = control;
        head.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        struct cmsghdr *c = CMSG_FIRSTHDR(&head);
        *c = (struct cmsghdr){CMSG_LEN(sizeof(int) * fd_count), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
    }
    ck_assert_int_eq(sendmsg(peer, &head, 0), (ssize_t)len);
}

static enum err receive(uint16_t type, const void *bytes, size_t len, const int *fds, size_t fd_count) {
    static unsigned char packet[2 * CHANNEL_FRAME_MAX];
    memcpy(packet, (uint16_t[]){type, 0}, 4);
    if (len)
        memcpy(packet + 4, bytes, len);
    send_raw(packet, len + 4, fds, fd_count);
    return channel_receive(&channel, 16);
}

/* ---- what protobuf-c lets through ---- */

static unsigned char bytes[CHANNEL_FRAME_MAX];

static size_t fill(const char *unit, size_t unit_len, size_t limit) {
    size_t len = 0;
    for (; len + unit_len <= limit; len += unit_len)
        memcpy(bytes + len, unit, unit_len);
    return len;
}

struct hostile_case {
    const char *name;
    uint16_t type;
    const char *unit; /* repeated until the frame is full if fill is set */
    size_t unit_len;
    bool fill;
    bool accepted;
};
#define UNIT(s) s, sizeof(s) - 1

static const struct hostile_case cases[] = {
    {"a plain message", TYPE_PLAIN, UNIT("\x08\x05"), false, true},
    {"bytes with NUL have a length", TYPE_PLAIN,
     UNIT("\x08\x05\x12\x03"
          "a\0b"),
     false, true},
    {"an enum's name", TYPE_COLORED, UNIT("\x08\x02"), false, true},
    {"all enums", TYPE_COLORED, UNIT("\x08\x02\x10\x01\x18\x01\x18\x02"), false, true},
    {"four levels", TYPE_LEVEL1, UNIT("\x0a\x02\x0a\x00"), false, true},
    {"no message for a type without one", TYPE_NONE, UNIT(""), false, true},

    {"64 KB of empty sub-messages", TYPE_MANY, UNIT("\x0a\x00"), true, false},
    {"1025 empty sub-messages", TYPE_MANY, UNIT("\x0a\x00"), true, false},
    {"64 KB of numbers", TYPE_NUMBERS, UNIT("\x08\x01"), true, false},
    {"64 KB of unknown fields", TYPE_PLAIN, UNIT("\x98\x06\x01"), true, false},
    {"one unknown field", TYPE_PLAIN, UNIT("\x08\x05\x98\x06\x01"), false, false},
    {"an unknown field in a sub-message", TYPE_HOLDER, UNIT("\x0a\x05\x08\x05\x98\x06\x01"), false, false},
    {"a sub-message with its required field missing", TYPE_HOLDER, UNIT("\x0a\x00"), false, false},
    {"an absent sub-message", TYPE_HOLDER, UNIT(""), false, false},
    {"an absent required number", TYPE_PLAIN, UNIT("\x12\x01x"), false, false},
    {"enum 999", TYPE_COLORED, UNIT("\x08\xe7\x07"), false, false},
    {"enum 0", TYPE_COLORED, UNIT("\x08\x00"), false, false},
    {"optional enum 999", TYPE_COLORED, UNIT("\x08\x01\x10\xe7\x07"), false, false},
    {"repeated enum 999", TYPE_COLORED, UNIT("\x08\x01\x18\x01\x18\xe7\x07"), false, false},
    {"a number cut short", TYPE_PLAIN, UNIT("\x08\x80"), false, false},
    {"bytes longer than the packet", TYPE_PLAIN,
     UNIT("\x08\x05\x12\x7f"
          "ab"),
     false, false},
    {"a group", TYPE_PLAIN, UNIT("\x08\x05\x0b\x0c"), false, false},
    {"bytes for a type without a message", TYPE_NONE, UNIT("\x08"), false, false},

    {"a type that is not in the table", 999, UNIT("\x08\x05"), false, false},
    {"a type that is not allowed in this state", TYPE_LATE, UNIT("\x08\x05"), false, false},
    {"longer than its rule allows", TYPE_SHORT,
     UNIT("\x08\x05\x12\x02"
          "ab"),
     false, false},
    {"a descriptor is missing", TYPE_FDS, UNIT("\x08\x05"), false, false},
    {"its handler refuses", TYPE_FAIL, UNIT(""), false, false},
};

START_TEST(test_hostile) {
    const struct hostile_case *t = &cases[_i];
    open_pair();
    const char *unit = t->unit;
    size_t len = t->unit_len;
    if (t->fill) {
        len = fill(t->unit, t->unit_len, strstr(t->name, "1025") ? 2 * 1025 : CHANNEL_FRAME_MAX - 4);
        unit = (const char *)bytes;
    }
    enum err e = receive(t->type, unit, len, NULL, 0);
    ck_assert_msg((e == ERR_OK) == t->accepted && handled == t->accepted, "%s: %s, handled %u", t->name, err_text(e),
                  handled);
    close_pair();
}
END_TEST

START_TEST(test_repeated_limit) {
    open_pair();
    size_t len = fill("\x0a\x00", 2, 2 * CHANNEL_REPEATED_MAX);
    ck_assert_int_eq(receive(TYPE_MANY, bytes, len, NULL, 0), ERR_OK);
    ck_assert_uint_eq(handled, 1);
    close_pair();
}
END_TEST

/* Text and recursion are refused as shapes, before anything is received: the process that asks for them stops. */
static void open_with(const ProtobufCMessageDescriptor *shape) {
    struct channel c;
    struct channel_rule rule = {1, 0, 1, 100, shape, count_message};
    int null = open("/dev/null", O_WRONLY);
    dup2(null, 2);
    channel_open(&c, 0, "a test", &rule, 1, NULL, 0);
    exit(0);
}

START_TEST(test_shape) {
    static const struct {
        const char *name;
        const ProtobufCMessageDescriptor *shape;
        bool allowed;
    } shapes[] = {
        {"plain", &hostile__plain__descriptor, true},         {"four levels", &hostile__level1__descriptor, true},
        {"five levels", &hostile__level0__descriptor, false}, {"recursive", &hostile__recursive__descriptor, false},
        {"text", &hostile__text__descriptor, false},
    };
    pid_t pid = fork();
    if (pid == 0)
        open_with(shapes[_i].shape);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg((WIFEXITED(status) && WEXITSTATUS(status) == 0) == shapes[_i].allowed, "%s", shapes[_i].name);
}
END_TEST

/* The same on messages that were unpacked elsewhere: NUL in text, and recursion as deep as the frame allows. */
START_TEST(test_check_text) {
    Hostile__Text *text = hostile__text__unpack(NULL, 11,
                                                (const uint8_t *)"\x0a\x09"
                                                                 "bob\0admin");
    ck_assert_ptr_nonnull(text);
    ck_assert_uint_eq(strlen(text->text), 3);
    ck_assert_int_ne(channel_check(&text->base), ERR_OK);
    hostile__text__free_unpacked(text, NULL);
}
END_TEST

START_TEST(test_check_depth) {
    static Hostile__Recursive levels[10000];
    for (size_t i = 0; i < 10000; i++) {
        hostile__recursive__init(&levels[i]);
        levels[i].next = i + 1 < 10000 ? &levels[i + 1] : NULL;
    }
    ck_assert_int_eq(channel_check(&levels[0].base), ERR_LONG);
    ck_assert_int_eq(channel_check(&levels[10000 - CHANNEL_DEPTH_MAX].base), ERR_OK);
    ck_assert_int_eq(channel_check(&levels[10000 - CHANNEL_DEPTH_MAX - 1].base), ERR_LONG);
}
END_TEST

/* ---- frames ---- */

START_TEST(test_frames) {
    static const char zeros[CHANNEL_FRAME_MAX + 1];
    static const struct {
        const char *name;
        const char *packet;
        size_t len;
    } packets[] = {
        {"no full head", "\x03\x00\x00", 3},
        {"the zero is not zero", "\x03\x00\x01\x00\x08\x05", 6},
        {"longer than a frame", zeros, sizeof zeros},
    };
    open_pair();
    send_raw(packets[_i].packet, packets[_i].len, NULL, 0);
    enum err e = channel_receive(&channel, 16);
    ck_assert_msg(e != ERR_OK && e != ERR_END && handled == 0, "%s: %s", packets[_i].name, err_text(e));
    close_pair();
}
END_TEST

START_TEST(test_end) {
    open_pair();
    ck_assert_int_eq(channel_receive(&channel, 16), ERR_OK);
    close(peer);
    ck_assert_int_eq(channel_receive(&channel, 16), ERR_END);
    ck_assert_int_eq(channel_send(&channel, TYPE_NONE, NULL, NULL, 0), ERR_END);
    channel_close(&channel);
    ck_assert_int_eq(channel_send(&channel, TYPE_NONE, NULL, NULL, 0), ERR_END);
}
END_TEST

/* A peer that dies before it has read all that was sent to it is a reset for the kernel; its own last words count still. */
START_TEST(test_last_words) {
    open_pair();
    ck_assert_int_eq(channel_send(&channel, TYPE_NONE, NULL, NULL, 0), ERR_OK);
    for (int i = 0; i < 3; i++)
        send_raw((uint16_t[]){TYPE_NONE, 0}, 4, NULL, 0);
    close(peer);
    ck_assert_int_eq(channel_receive(&channel, 16), ERR_END);
    ck_assert_uint_eq(handled, 3);
    channel_close(&channel);
}
END_TEST

START_TEST(test_handler_closes) {
    open_pair();
    ck_assert_int_eq(receive(TYPE_CLOSE, NULL, 0, NULL, 0), ERR_END);
    ck_assert_int_eq(channel.fd, -1);
    close(peer);
}
END_TEST

START_TEST(test_at_most) {
    open_pair();
    for (int i = 0; i < 5; i++)
        send_raw((uint16_t[]){TYPE_NONE, 0}, 4, NULL, 0);
    ck_assert_int_eq(channel_receive(&channel, 3), ERR_OK);
    ck_assert_uint_eq(handled, 3);
    ck_assert_int_eq(channel_receive(&channel, 3), ERR_OK);
    ck_assert_uint_eq(handled, 5);
    close_pair();
}
END_TEST

/* ---- descriptors ---- */

START_TEST(test_unexpected_fds) {
    static const struct {
        const char *name;
        uint16_t type;
        size_t fd_count;
        bool accepted;
    } rows[] = {
        {"the one that belongs to it", TYPE_FDS, 1, true},
        {"one too many", TYPE_FDS, 2, false},
        {"one where none belongs", TYPE_PLAIN, 1, false},
        {"one with a type that is not in the table", 999, 1, false},
        {"as many as fit", TYPE_PLAIN, CHANNEL_FDS_MAX, false},
        {"more than fit", TYPE_PLAIN, CHANNEL_FDS_MAX + 9, false},
    };
    open_pair();
    int before = count_fds(), many[64];
    for (size_t i = 0; i < 64; i++)
        many[i] = peer;
    enum err e = receive(rows[_i].type, "\x08\x05", 2, many, rows[_i].fd_count);
    ck_assert_msg((e == ERR_OK) == rows[_i].accepted, "%s: %s", rows[_i].name, err_text(e));
    ck_assert_int_eq(count_fds(), before + rows[_i].accepted);
    if (rows[_i].accepted)
        ck_assert_int_eq(fcntl(got_fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    close(got_fd);
    close_pair();
}
END_TEST

/* Where the kernel has SO_PASSRIGHTS, an end that accepts no descriptors cannot even be sent one. */
START_TEST(test_kernel_refuses_fds) {
    int ends[2], one = 1;
    socklen_t len = sizeof one;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    if (getsockopt(ends[1], SOL_SOCKET, 83, &one, &len) != 0)
        return; /* an older kernel */
    ck_assert_int_eq(channel_open(&channel, ends[1], "a test", rules, 1, NULL, 0), ERR_OK);
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec part = {(char[4]){0}, 4};
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&head);
    *c = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(c), &ends[0], sizeof(int));
    ck_assert_int_lt(sendmsg(ends[0], &head, 0), 0);
    ck_assert_int_eq(errno, EPERM);
    channel_close(&channel);
    close(ends[0]);
}
END_TEST

/* ---- the backlog ---- */

START_TEST(test_backlog) {
    open_pair();
    struct channel sender;
    ck_assert_int_eq(channel_open(&sender, peer, "a test", NULL, 0, NULL, 0), ERR_OK);
    Hostile__Plain plain = HOSTILE__PLAIN__INIT;
    static uint8_t payload[2000];
    plain.has_bytes = true;
    plain.bytes = (ProtobufCBinaryData){sizeof payload, payload};
    uint32_t sent = 0;
    enum err e;
    while ((e = channel_send(&sender, TYPE_PLAIN, &plain.base, NULL, 0)) == ERR_OK)
        sent++;
    ck_assert_int_eq(e, ERR_LONG);
    ck_assert_uint_gt(sent, CHANNEL_BACKLOG_MAX / 2100);
    ck_assert_uint_le(sender.backlog_bytes, CHANNEL_BACKLOG_MAX);
    while (channel_flush(&sender))
        ck_assert_int_eq(channel_receive(&channel, 1000), ERR_OK);
    ck_assert_int_eq(channel_receive(&channel, 1 << 30), ERR_OK);
    ck_assert_uint_eq(handled, sent);
    ck_assert_uint_eq(sender.backlog_bytes, 0);
    channel_close(&sender);
    channel_close(&channel);
}
END_TEST

START_TEST(test_backlog_fds) {
    open_pair();
    struct channel sender;
    ck_assert_int_eq(channel_open(&sender, peer, "a test", NULL, 0, NULL, 0), ERR_OK);
    while (!sender.backlog)
        ck_assert_int_eq(channel_send(&sender, TYPE_NONE, NULL, NULL, 0), ERR_OK);
    int before = count_fds(), null = open("/dev/null", O_RDONLY);
    Hostile__Plain plain = HOSTILE__PLAIN__INIT;
    ck_assert_int_eq(channel_send(&sender, TYPE_FDS, &plain.base, &null, 1), ERR_OK);
    close(null); /* the backlog has a copy */
    while (channel_flush(&sender))
        ck_assert_int_eq(channel_receive(&channel, 1000), ERR_OK);
    ck_assert_int_eq(channel_receive(&channel, 1 << 30), ERR_OK);
    ck_assert_int_ge(got_fd, 0);
    ck_assert_int_eq(count_fds(), before + 1);
    close(got_fd);
    /* What is never sent is closed with the channel. */
    while (!sender.backlog)
        ck_assert_int_eq(channel_send(&sender, TYPE_NONE, NULL, NULL, 0), ERR_OK);
    ck_assert_int_eq(channel_send(&sender, TYPE_FDS, &plain.base, (int[]){0}, 1), ERR_OK);
    ck_assert_int_eq(count_fds(), before + 1);
    channel_close(&sender);
    ck_assert_int_eq(count_fds(), before - 1);
    channel_close(&channel);
}
END_TEST

START_TEST(test_long_message) {
    open_pair();
    Hostile__Plain plain = HOSTILE__PLAIN__INIT;
    static uint8_t payload[CHANNEL_FRAME_MAX];
    plain.has_bytes = true;
    plain.bytes = (ProtobufCBinaryData){sizeof payload, payload};
    ck_assert_int_eq(channel_send(&channel, TYPE_PLAIN, &plain.base, NULL, 0), ERR_LONG);
    close_pair();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("channel");
    TCase *tcase = tcase_create("all");
    tcase_add_loop_test(tcase, test_hostile, 0, sizeof cases / sizeof *cases);
    tcase_add_test(tcase, test_repeated_limit);
    tcase_add_loop_test(tcase, test_shape, 0, 5);
    tcase_add_test(tcase, test_check_text);
    tcase_add_test(tcase, test_check_depth);
    tcase_add_loop_test(tcase, test_frames, 0, 3);
    tcase_add_test(tcase, test_end);
    tcase_add_test(tcase, test_last_words);
    tcase_add_test(tcase, test_handler_closes);
    tcase_add_test(tcase, test_at_most);
    tcase_add_loop_test(tcase, test_unexpected_fds, 0, 6);
    tcase_add_test(tcase, test_kernel_refuses_fds);
    tcase_add_test(tcase, test_backlog);
    tcase_add_test(tcase, test_backlog_fds);
    tcase_add_test(tcase, test_long_message);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
