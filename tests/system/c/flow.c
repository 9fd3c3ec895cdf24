/* SPDX-License-Identifier: Apache-2.0 */
/* tests/system/c/flow.c: one publisher and one subscriber at full speed.
 *
 * Arguments: port, messages, size. The publisher sends as fast as it can; the subscriber reads all the time and must get
 * every message, in order, and never be closed. Prints `took N ms` and `ok`.
 */
#include "wire.h"

int main(int argc, char **argv) {
    if (argc != 4)
        fail("arguments: port, messages, size");
    uint32_t messages = (uint32_t)atoi(argv[2]), size = (uint32_t)atoi(argv[3]), sent = 0, got = 0;
    int epoll = epoll_create1(0);
    struct wire publisher, subscriber, *const both[] = {&subscriber, &publisher};
    static char filler[65536];
    struct wire_msg m;
    memset(filler, 'f', sizeof filler);
    if (size < 10 || size > sizeof filler)
        fail("sizes are from 10 to %zu", sizeof filler);
    for (int i = 0; i < 2; i++) {
        wire_open(both[i], atoi(argv[1]), epoll, NULL);
        wire_print(both[i], QUIET "%sPING\r\n", i == 0 ? "SUB flow 1\r\n" : "");
        wire_flush(both[i]);
        for (bool pong = false; !pong;) {
            wire_read(both[i]);
            while (wire_next(both[i], &m))
                pong |= m.type == WIRE_PONG;
        }
    }
    uint64_t began = now_us(), moved = began;
    while (got < messages) {
        while (sent < messages && publisher.out_len - publisher.out_at < 1 << 18) {
            wire_print(&publisher, "PUB flow %u\r\n%010u", size, sent++);
            wire_put(&publisher, filler, size - 10);
            wire_put(&publisher, "\r\n", 2);
            if (publisher.out_at > 1 << 20) {
                memmove(publisher.out, publisher.out + publisher.out_at, publisher.out_len - publisher.out_at);
                publisher.out_len -= publisher.out_at;
                publisher.out_at = 0;
            }
            if (sent % 64 == 0)
                wire_flush(&publisher);
        }
        wire_flush(&publisher);
        struct epoll_event events[2];
        if (epoll_wait(epoll, events, 2, 100) > 0)
            moved = now_us();
        else if (now_us() - moved > deadline_us())
            fail("nothing comes, %u sent, %u received", sent, got);
        wire_read(&publisher);
        if (publisher.ended)
            fail("the publisher was closed, %u sent, %u received", sent, got);
        while (wire_next(&publisher, &m)) {
            if (m.type == WIRE_ERR)
                fail("the publisher received %.*s", (int)m.line.len, m.line.at);
            if (m.type == WIRE_PING)
                wire_print(&publisher, "PONG\r\n");
        }
        for (int i = 0; i < 64 && wire_read(&subscriber); i++) {
            while (wire_next(&subscriber, &m)) {
                if (m.type == WIRE_PING)
                    wire_print(&subscriber, "PONG\r\n");
                if (m.type == WIRE_ERR)
                    fail("the subscriber received %.*s", (int)m.line.len, m.line.at);
                if (m.type != WIRE_MSG)
                    continue;
                char text[16];
                snprintf(text, sizeof text, "%010u", got);
                if (m.payload.len != size || memcmp(m.payload.at, text, 10) != 0)
                    fail("message %u expected, received %.10s", got, m.payload.at);
                got++;
            }
        }
        wire_flush(&subscriber);
        if (subscriber.ended)
            fail("the subscriber was closed, %u sent, %u received", sent, got);
    }
    printf("took %llu ms\nok\n", (unsigned long long)(now_us() - began) / 1000);
    return 0;
}
