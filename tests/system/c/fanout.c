/* SPDX-License-Identifier: Apache-2.0 */
/* tests/system/c/fanout.c: one large message to very many subscriptions of connections that read, but no faster than this
 * program does.
 *
 * Arguments: port, connections, subscriptions of each, size of the message, messages. Prints `ready`, waits for a line on
 * stdin, publishes, reads until every subscription has every message, and prints `copies N in N ms, longest ping N us` and
 * `ok`. A connection of its own sends PING after PING meanwhile, another a message to itself.
 *
 * Payloads of every 16th connection are compared; those of the others are counted, and dropped in the kernel.
 */
#include "wire.h"

struct reader {
    int fd;
    bool compares, done;
    uint32_t line_len, got;
    uint64_t payload_at; /* of the message that is read now; below 0: in its line */
    bool in_payload;
    char line[64];
};

static uint32_t size, subs, messages;
static char *payload;

static void on_line(struct reader *r) {
    char expected[64];
    unsigned sid;
    r->line[r->line_len] = '\0';
    if (strcmp(r->line, "PING\r\n") == 0) {
        if (send(r->fd, "PONG\r\n", 6, MSG_NOSIGNAL | MSG_DONTWAIT) != 6)
            fail("no PONG could be sent");
    } else if (sscanf(r->line, "MSG big.fan %u ", &sid) == 1 && sid >= 1 && sid <= subs) {
        snprintf(expected, sizeof expected, "MSG big.fan %u %u\r\n", sid, size);
        if (strcmp(r->line, expected) != 0)
            fail("a bad line: %s", r->line);
        r->in_payload = true;
        r->payload_at = 0;
    } else {
        fail("a line that is not expected: %s", r->line);
    }
    r->line_len = 0;
}

static void ended(ssize_t got) {
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    fail("a connection that reads was closed: %s", got == 0 ? "end" : strerror(errno));
}

/* Reads at most so many bytes of this connection. True if there may be more. */
static bool read_some(struct reader *r, size_t most) {
    static char buffer[1 << 18];
    while (most > 0) {
        if (!r->in_payload) {
            ssize_t got = recv(r->fd, r->line + r->line_len, 1, MSG_DONTWAIT);
            if (got <= 0) {
                ended(got);
                return false;
            }
            if (r->line[r->line_len++] == '\n')
                on_line(r);
            if (r->line_len == sizeof r->line - 1)
                fail("a long line");
            continue;
        }
        size_t left = size + 2 - r->payload_at, wanted = left < sizeof buffer ? left : sizeof buffer;
        ssize_t got = recv(r->fd, buffer, wanted, MSG_DONTWAIT | (r->compares ? 0 : MSG_TRUNC));
        if (got <= 0) {
            ended(got);
            return false;
        }
        if (r->compares && memcmp(buffer, payload + r->payload_at, (size_t)got) != 0)
            fail("the payload differs");
        r->payload_at += (uint64_t)got;
        most -= (size_t)got < most ? (size_t)got : most;
        if (r->payload_at == size + 2) {
            r->in_payload = false;
            r->got++;
        }
    }
    return true;
}

static void greet(struct wire *w, int port, const char *more) {
    struct wire_msg m;
    wire_open(w, port, -1, NULL);
    wire_print(w, QUIET "%sPING\r\n", more);
    uint64_t until = now_us() + deadline_us();
    for (bool pong = false; !pong;) {
        wire_flush(w);
        wire_read(w);
        if (w->ended || now_us() > until)
            fail("no PONG after connecting");
        while (wire_next(w, &m)) {
            if (m.type == WIRE_ERR)
                fail("%.*s", (int)m.line.len, m.line.at);
            pong |= m.type == WIRE_PONG;
        }
    }
}

/* A connection that measures how long an answer takes while the others are busy. */
struct pinger {
    struct wire w;
    const char *request;
    enum wire_type answer;
    uint64_t began, longest;
    uint32_t count;
};

static void ping(struct pinger *p) {
    struct wire_msg m;
    if (p->began == 0) {
        p->began = now_us();
        wire_print(&p->w, "%s", p->request);
    }
    wire_flush(&p->w);
    wire_read(&p->w);
    if (p->w.ended)
        fail("a connection that pings was closed");
    uint64_t took = now_us() - p->began;
    p->longest = took > p->longest ? took : p->longest;
    while (wire_next(&p->w, &m)) {
        if (m.type == p->answer) {
            p->began = 0;
            p->count++;
        }
    }
}

int main(int argc, char **argv) {
    if (argc != 6)
        fail("arguments: port, connections, subscriptions of each, size, messages");
    int port = atoi(argv[1]);
    uint32_t connections = (uint32_t)atoi(argv[2]);
    subs = (uint32_t)atoi(argv[3]);
    size = (uint32_t)atoi(argv[4]);
    messages = (uint32_t)atoi(argv[5]);
    raise_files_limit();
    payload = malloc(size + 2);
    for (uint32_t i = 0; i < size; i++)
        payload[i] = (char)(i * 2654435761u >> 24);
    memcpy(payload + size, "\r\n", 2);
    char *text = malloc((size_t)subs * 40 + 1);
    *text = '\0';
    for (uint32_t i = 0, at = 0; i < subs; i++)
        at += (uint32_t)sprintf(text + at, "SUB big.%s %u\r\n", i % 3 == 2 ? "*" : "fan", i + 1);
    int epoll = epoll_create1(0);
    struct reader *reader = calloc(connections, sizeof *reader);
    for (uint32_t i = 0; i < connections; i++) {
        struct wire w;
        greet(&w, port, text);
        reader[i] = (struct reader){.fd = w.fd, .compares = i % 16 == 0};
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &reader[i]};
        if (w.in_at != w.in_len || epoll_ctl(epoll, EPOLL_CTL_ADD, w.fd, &event) != 0)
            fail("a connection is not as it should be");
        free(w.in);
        free(w.out);
    }
    struct pinger pinger[2] = {{.request = "PING\r\n", .answer = WIRE_PONG},
                               {.request = "PUB self 1\r\nx\r\n", .answer = WIRE_MSG}};
    greet(&pinger[0].w, port, "");
    greet(&pinger[1].w, port, "SUB self 1\r\n");
    struct wire publisher;
    greet(&publisher, port, "");
    puts("ready");
    fflush(stdout);
    char go;
    if (read(0, &go, 1) != 1)
        return 1;

    uint64_t began = now_us(), moved = began, deliveries = (uint64_t)connections * subs * messages;
    for (uint32_t i = 0; i < messages; i++) {
        wire_print(&publisher, "PUB big.fan %u\r\n", size);
        wire_put(&publisher, payload, size + 2);
    }
    uint32_t waiting = connections;
    while (waiting > 0) {
        struct epoll_event events[64];
        wire_flush(&publisher);
        int count = epoll_wait(epoll, events, 64, 1);
        if (count > 0)
            moved = now_us();
        else if (now_us() - moved > deadline_us())
            fail("%u connections miss messages and nothing comes", waiting);
        for (int i = 0; i < count; i++) {
            struct reader *r = events[i].data.ptr;
            read_some(r, 1 << 20);
            if (r->got > subs * messages)
                fail("a message came twice");
            if (r->got == subs * messages && !r->done) {
                r->done = true; /* it stays watched: nothing more may come */
                waiting--;
            }
            if (i % 8 == 0) {
                ping(&pinger[0]);
                ping(&pinger[1]);
            }
        }
        ping(&pinger[0]);
        ping(&pinger[1]);
    }
    uint64_t took_ms = (now_us() - began) / 1000;
    printf("copies %llu in %llu ms, longest ping %llu us of %u, longest message to itself %llu us of %u\nok\n",
           (unsigned long long)deliveries, (unsigned long long)took_ms, (unsigned long long)pinger[0].longest,
           pinger[0].count, (unsigned long long)pinger[1].longest, pinger[1].count);
    return 0;
}
