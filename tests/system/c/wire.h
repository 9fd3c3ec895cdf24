/* SPDX-License-Identifier: Apache-2.0 */
/* tests/system/c/wire.h: raw client connections for the C programs of the system tests.
 *
 * A connection never blocks once it is open; what cannot be sent waits in `out`. Every failed expectation ends the program
 * with a line on stderr. Included once by each program.
 */
#ifndef TESTS_WIRE_H
#define TESTS_WIRE_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define QUIET "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true}\r\n"

enum wire_type { WIRE_PING, WIRE_PONG, WIRE_INFO, WIRE_OK, WIRE_ERR, WIRE_MSG };

struct wire_part {
    const char *at;
    uint32_t len;
};

/* One line, or one message; it lives until the next wire_read. */
struct wire_msg {
    enum wire_type type;
    uint32_t sid;
    struct wire_part subject, reply, header, payload, line;
};

struct wire {
    int fd;
    int epoll; /* -1: not watched */
    bool wants_write, ended;
    char *in, *out;
    size_t in_at, in_len, in_cap, out_at, out_len, out_cap;
    void *owner;
};

__attribute__((unused, noreturn, format(printf, 1, 2))) static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    exit(1);
}

__attribute__((unused)) static uint64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/* The time that a test may wait for one step. */
__attribute__((unused)) static uint64_t deadline_us(void) {
    const char *slowness = getenv("TEST_SLOWNESS");
    return (uint64_t)(20e6 * (slowness ? atof(slowness) : 1));
}

__attribute__((unused)) static void raise_files_limit(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void *wire_grow(void *at, size_t *cap, size_t needed) {
    if (needed <= *cap)
        return at;
    size_t larger = *cap ? *cap : 4096;
    while (larger < needed)
        larger *= 2;
    at = realloc(at, larger);
    if (!at)
        fail("no memory");
    *cap = larger;
    return at;
}

static void wire_watch(struct wire *w) {
    bool wants = w->out_at < w->out_len;
    if (w->epoll < 0 || wants == w->wants_write)
        return;
    w->wants_write = wants;
    struct epoll_event event = {.events = EPOLLIN | (wants ? EPOLLOUT : 0u), .data.ptr = w};
    if (epoll_ctl(w->epoll, EPOLL_CTL_MOD, w->fd, &event) != 0)
        fail("epoll_ctl: %s", strerror(errno));
}

/* Sends what the socket takes. */
__attribute__((unused)) static void wire_flush(struct wire *w) {
    while (w->out_at < w->out_len && !w->ended) {
        ssize_t sent = send(w->fd, w->out + w->out_at, w->out_len - w->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        if (sent < 0) { /* what was received decides */
            w->out_at = w->out_len;
            break;
        }
        w->out_at += (size_t)sent;
    }
    if (w->out_at == w->out_len)
        w->out_at = w->out_len = 0;
    wire_watch(w);
}

__attribute__((unused)) static void wire_put(struct wire *w, const void *data, size_t len) {
    w->out = wire_grow(w->out, &w->out_cap, w->out_len + len);
    memcpy(w->out + w->out_len, data, len);
    w->out_len += len;
}

__attribute__((unused, format(printf, 2, 3))) static void wire_print(struct wire *w, const char *format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    int len = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (len < 0 || (size_t)len >= sizeof text)
        fail("a text is too long");
    wire_put(w, text, (size_t)len);
}

/* Begins a connection; epoll is -1 for one that is not watched. */
__attribute__((unused)) static void wire_open(struct wire *w, int port, int epoll, void *owner) {
    *w = (struct wire){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .epoll = epoll, .owner = owner};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (w->fd < 0 || connect(w->fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("connect: %s", strerror(errno));
    setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    fcntl(w->fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = w};
    if (epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, w->fd, &event) != 0)
        fail("epoll_ctl: %s", strerror(errno));
}

__attribute__((unused)) static void wire_close(struct wire *w) {
    close(w->fd);
    free(w->in);
    free(w->out);
    *w = (struct wire){.fd = -1, .epoll = -1, .ended = true};
}

/* Reads once. False: nothing was there, or the end, which sets `ended`. */
__attribute__((unused)) static bool wire_read(struct wire *w) {
    if (w->in_at == w->in_len)
        w->in_at = w->in_len = 0;
    if (w->in_at > 0 && w->in_cap - w->in_len < 65536) {
        memmove(w->in, w->in + w->in_at, w->in_len - w->in_at);
        w->in_len -= w->in_at;
        w->in_at = 0;
    }
    w->in = wire_grow(w->in, &w->in_cap, w->in_len + 65536);
    ssize_t got = recv(w->fd, w->in + w->in_len, w->in_cap - w->in_len, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return false;
    if (got <= 0) {
        w->ended = true;
        return false;
    }
    w->in_len += (size_t)got;
    return true;
}

static bool wire_word(const char **at, const char *end, struct wire_part *word) {
    while (*at < end && **at == ' ')
        ++*at;
    const char *start = *at;
    while (*at < end && **at != ' ')
        ++*at;
    *word = (struct wire_part){start, (uint32_t)(*at - start)};
    return word->len > 0;
}

static uint32_t wire_number(struct wire_part word) {
    uint32_t number = 0;
    for (uint32_t i = 0; i < word.len; i++) {
        if (word.at[i] < '0' || word.at[i] > '9')
            fail("not a number: %.*s", (int)word.len, word.at);
        number = number * 10 + (uint32_t)(word.at[i] - '0');
    }
    return number;
}

/* Takes the next line or message of what was read; false if it is not there as a whole. */
__attribute__((unused)) static bool wire_next(struct wire *w, struct wire_msg *m) {
    const char *start = w->in + w->in_at;
    size_t have = w->in_len - w->in_at;
    const char *newline = have ? memchr(start, '\n', have) : NULL;
    if (!newline)
        return false;
    const char *at = start, *end = newline - 1;
    *m = (struct wire_msg){.line = {start, (uint32_t)(end - start)}};
    bool with_header = m->line.len > 5 && memcmp(start, "HMSG ", 5) == 0;
    size_t used = (size_t)(newline - start) + 1;
    if (with_header || (m->line.len > 4 && memcmp(start, "MSG ", 4) == 0)) {
        struct wire_part word[6];
        int count = 0;
        while (count < 6 && wire_word(&at, end, &word[count]))
            count++;
        int sizes = with_header ? 2 : 1;
        if (count != 3 + sizes && count != 4 + sizes)
            fail("a bad line: %.*s", (int)m->line.len, m->line.at);
        m->type = WIRE_MSG;
        m->subject = word[1];
        m->sid = wire_number(word[2]);
        if (count == 4 + sizes)
            m->reply = word[3];
        uint32_t size = wire_number(word[count - 1]), header = with_header ? wire_number(word[count - 2]) : 0;
        if (have < used + size + 2)
            return false;
        m->header = (struct wire_part){start + used, header};
        m->payload = (struct wire_part){start + used + header, size - header};
        used += size + 2;
        if (memcmp(start + used - 2, "\r\n", 2) != 0)
            fail("a message without its end: %.*s", (int)m->line.len, m->line.at);
    } else if (m->line.len == 4 && memcmp(start, "PING", 4) == 0) {
        m->type = WIRE_PING;
    } else if (m->line.len == 4 && memcmp(start, "PONG", 4) == 0) {
        m->type = WIRE_PONG;
    } else if (m->line.len == 3 && memcmp(start, "+OK", 3) == 0) {
        m->type = WIRE_OK;
    } else if (m->line.len > 5 && memcmp(start, "INFO ", 5) == 0) {
        m->type = WIRE_INFO;
    } else if (m->line.len > 5 && memcmp(start, "-ERR ", 5) == 0) {
        m->type = WIRE_ERR;
    } else {
        fail("a line that is none: %.*s", (int)(m->line.len < 200 ? m->line.len : 200), m->line.at);
    }
    w->in_at += used;
    return true;
}

__attribute__((unused)) static bool part_is(struct wire_part part, const char *text) {
    return part.len == strlen(text) && memcmp(part.at, text, part.len) == 0;
}

#endif
