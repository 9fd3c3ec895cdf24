/* SPDX-License-Identifier: Apache-2.0 */
/* tests/system/c/fence.c: fences between two connections, many times.
 *
 * Arguments: port, pairs, rounds, how many pairs at a time. In a round A publishes and flushes; when its PONG is there, B,
 * which has subscribed before, flushes, and must have the message before its own PONG. Prints `ready` before the first
 * round, then `rounds N longest N us` and `ok`.
 */
#include "wire.h"

struct pair {
    struct wire a, b;
    uint32_t number, pongs, got;
    uint64_t began;
    bool waits_for_b;
};

static uint32_t rounds_left, rounds_done, running;
static uint64_t longest_us;

static void begin(struct pair *p) {
    rounds_left--;
    running++;
    p->number++;
    p->began = now_us();
    char text[32];
    int len = snprintf(text, sizeof text, "%p %u", (void *)p, p->number);
    wire_print(&p->a, "PUB fence.%p %d\r\n%s\r\nPING\r\n", (void *)p, len, text);
    wire_flush(&p->a);
}

static void on_b_pong(struct pair *p) {
    if (p->got != p->number)
        fail("round %u: B has its PONG, but the last message it has is %u", p->number, p->got);
    uint64_t took = now_us() - p->began;
    longest_us = took > longest_us ? took : longest_us;
    rounds_done++;
    running--;
    p->waits_for_b = false;
}

static void on_b_message(struct pair *p, const struct wire_msg *m) {
    char text[32];
    snprintf(text, sizeof text, "%p %u", (void *)p, p->got + 1);
    if (!part_is(m->payload, text))
        fail("B expected %s and received %.*s", text, (int)m->payload.len, m->payload.at);
    p->got++;
}

/* Handles what there is; true if a round has ended. */
static bool handle(struct pair *p, struct wire *w) {
    uint32_t before = rounds_done;
    struct wire_msg m;
    wire_flush(w);
    wire_read(w);
    if (w->ended)
        fail("connection %s of a pair was closed", w == &p->a ? "A" : "B");
    while (wire_next(w, &m)) {
        if (m.type == WIRE_ERR)
            fail("received %.*s", (int)m.line.len, m.line.at);
        if (m.type == WIRE_PING) {
            wire_print(w, "PONG\r\n");
        } else if (m.type == WIRE_MSG) {
            on_b_message(p, &m);
        } else if (m.type == WIRE_PONG && w == &p->a) {
            p->waits_for_b = true;
            wire_print(&p->b, "PING\r\n");
            wire_flush(&p->b);
        } else if (m.type == WIRE_PONG && p->waits_for_b) {
            on_b_pong(p);
        }
    }
    wire_flush(w);
    return rounds_done != before;
}

/* B subscribes, A greets; both are there when their PONGs are. */
static void greet(struct pair *p, int port, int epoll) {
    struct wire *const both[] = {&p->b, &p->a};
    for (int i = 0; i < 2; i++) {
        wire_open(both[i], port, epoll, p);
        wire_print(both[i], QUIET);
        if (i == 0)
            wire_print(both[i], "SUB fence.%p 1\r\n", (void *)p);
        wire_print(both[i], "PING\r\n");
        wire_flush(both[i]);
        uint64_t until = now_us() + deadline_us();
        for (bool pong = false; !pong;) {
            struct wire_msg m;
            if (now_us() > until)
                fail("no PONG after connecting");
            wire_read(both[i]);
            if (both[i]->ended)
                fail("closed after connecting");
            while (wire_next(both[i], &m))
                pong |= m.type == WIRE_PONG;
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 5)
        fail("arguments: port, pairs, rounds, pairs at a time");
    int port = atoi(argv[1]), pairs = atoi(argv[2]), together = atoi(argv[4]);
    rounds_left = (uint32_t)atoi(argv[3]);
    uint32_t each = rounds_left * (uint32_t)together / (uint32_t)pairs, in_group = 0, first = 0;
    struct pair *pair = calloc((size_t)pairs, sizeof *pair);
    int epoll = epoll_create1(0);
    for (int i = 0; i < pairs; i++)
        greet(&pair[i], port, epoll);
    puts("ready");
    fflush(stdout);
    for (int i = 0; i < together; i++)
        begin(&pair[i]);
    while (running > 0) {
        struct epoll_event events[64];
        int count = epoll_wait(epoll, events, 64, (int)(deadline_us() / 1000));
        if (count == 0)
            fail("nothing received, %u rounds done", rounds_done);
        for (int i = 0; i < count; i++) {
            struct wire *w = events[i].data.ptr;
            struct pair *p = w->owner;
            if (!handle(p, w) || rounds_left == 0)
                continue;
            if (++in_group < each) {
                begin(p);
            } else if (running == 0) { /* the next pairs */
                in_group = 0;
                first = (first + (uint32_t)together) % (uint32_t)pairs;
                for (uint32_t j = 0; j < (uint32_t)together && rounds_left > 0; j++)
                    begin(&pair[(first + j) % (uint32_t)pairs]);
            }
        }
    }
    printf("rounds %u longest %llu us\nok\n", rounds_done, (unsigned long long)longest_us);
    return 0;
}
