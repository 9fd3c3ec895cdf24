/* SPDX-License-Identifier: Apache-2.0 */
/* What a hostile peer may send on a channel. The first byte chooses the state, the rest is packets: a 16-bit length,
 * then a frame. Every message type of every conversation is in the table, and shapes that only tests have. What must
 * hold: no crash, no leak, and what reaches a handler passes the check again. */
#include "ipc/channel.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "ipc/auth.pb-c.h"
#include "ipc/book.pb-c.h"
#include "ipc/control.pb-c.h"
#include "ipc/settings.h"
#include "tests/unit/ipc/hostile.pb-c.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum err on_message(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)owner, (void)fds;
    const ProtobufCMessage *m = message;
    check(channel_check(m) == ERR_OK);
    if (m->descriptor == &bulkhead__settings__descriptor) {
        struct settings settings;
        if (settings_take(&settings, message) == ERR_OK)
            check(strlen(settings.host) <= SETTINGS_TEXT_MAX && settings.max_payload >= 1);
    }
    return ERR_OK;
}

#define RULE(type, shape)                                                                                              \
    { type, 0, UINT32_MAX >> 1, CHANNEL_FRAME_MAX, &shape##__descriptor, on_message }
static const struct channel_rule rules[] = {
    RULE(MESSAGE_KEY, bulkhead__key),
    RULE(MESSAGE_SETTINGS, bulkhead__settings),
    RULE(MESSAGE_LINK, bulkhead__link),
    RULE(MESSAGE_KERNEL, bulkhead__kernel),
    RULE(MESSAGE_BEGIN, bulkhead__begin),
    RULE(MESSAGE_REPLAY, bulkhead__replay),
    RULE(MESSAGE_LINK_DOWN, bulkhead__link_down),
    RULE(MESSAGE_CIDS, bulkhead__cids),
    RULE(MESSAGE_PLACES, bulkhead__places),
    RULE(MESSAGE_PEER, bulkhead__peer),
    RULE(MESSAGE_LOG_PIPE, bulkhead__log_pipe),
    RULE(MESSAGE_POLICY, bulkhead__policy),
    RULE(MESSAGE_LOGIN, bulkhead__login),
    RULE(MESSAGE_BOUND, bulkhead__bound),
    RULE(MESSAGE_REFUSAL, bulkhead__refusal),
    RULE(MESSAGE_CANCEL, bulkhead__cancel),
    RULE(MESSAGE_BOOK_GROWN, bulkhead__book_grown),
    RULE(MESSAGE_BOOK_READ, bulkhead__book_read),
    RULE(100, hostile__many_empty),
    RULE(101, hostile__numbers),
    RULE(102, hostile__plain),
    RULE(103, hostile__colored),
    RULE(104, hostile__holder),
    RULE(105, hostile__level1),
};

/* Sends and receives one packet; false at the end of the conversation. */
static int exchange(struct channel *c, int peer, const uint8_t *packet, size_t len) {
    if (len == 0 || send(peer, packet, len, MSG_DONTWAIT) != (ssize_t)len)
        return 0;
    return channel_receive(c, 1) == ERR_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int ends[2];
    struct channel c;
    if (size < 1)
        return 0;
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, ends) == 0);
    check(channel_open(&c, ends[0], "the fuzzer", rules, sizeof rules / sizeof *rules, NULL, 0) == ERR_OK);
    c.state = data[0] % 32;
    data++;
    size--;
    while (size >= 2) {
        size_t len = (size_t)data[0] | (size_t)data[1] << 8;
        data += 2;
        size -= 2;
        if (len > size)
            len = size;
        if (!exchange(&c, ends[1], data, len))
            break;
        data += len;
        size -= len;
    }
    channel_close(&c);
    close(ends[1]);
    return 0;
}
