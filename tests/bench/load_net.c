/* Connections. On loopback each 20,000 get a source address of their own, so that ports never run out. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/load.h"

enum { PORTS_PER_ADDRESS = 20000 };

static const char hello[] = "CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"headers\":true,"
                            "\"no_responders\":true,\"protocol\":1,\"lang\":\"c\",\"version\":\"1\"}\r\nPING\r\n";

static void bind_source(int fd, struct in_addr to) {
    static atomic_uint opened;
    uint32_t address = ntohl(to.s_addr), extra = atomic_fetch_add(&opened, 1) / PORTS_PER_ADDRESS;
    if (address >> 24 != 127 || extra == 0)
        return;
    int on = 1;
    struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(address + extra % 200)};
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&from, sizeof from) != 0)
        die("bind: %s", strerror(errno));
}

/* Reads until text has come; the bytes before it must fit. */
static void await(int fd, const char *text) {
    char in[8192];
    size_t have = 0;
    for (;;) {
        ssize_t n = read(fd, in + have, sizeof in - 1 - have);
        if (n <= 0)
            die("the server closed before %.4s came", text);
        have += (size_t)n;
        in[have] = 0;
        if (strstr(in, "-ERR"))
            die("the server says %s", strstr(in, "-ERR"));
        if (strstr(in, text))
            return;
    }
}

int net_open(const struct options *o) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(o->port)};
    if (inet_pton(AF_INET, o->host, &to.sin_addr) != 1)
        die("%s is not an IPv4 address", o->host);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        die("socket: %s", strerror(errno));
    bind_source(fd, to.sin_addr);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0)
        die("connect: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    await(fd, "\r\n");
    net_write(fd, hello, sizeof hello - 1);
    await(fd, "PONG\r\n");
    return fd;
}

bool net_try_write(int fd, const void *bytes, size_t n) {
    const char *at = bytes;
    while (n > 0) {
        ssize_t k = send(fd, at, n, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR)
            continue;
        if (k < 0)
            return false;
        at += k;
        n -= (size_t)k;
    }
    return true;
}

void net_write(int fd, const void *bytes, size_t n) {
    if (!net_try_write(fd, bytes, n))
        die("write: %s", strerror(errno));
}

void net_printf(int fd, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    net_write(fd, text, (size_t)n);
}

void net_flush(int fd) {
    static const char pong[] = "PONG\r\n";
    static _Thread_local char in[65536];
    size_t matched = 0;
    net_write(fd, "PING\r\n", 6);
    for (;;) {
        ssize_t n = read(fd, in, sizeof in);
        if (n <= 0)
            die("the server closed before PONG came");
        for (ssize_t i = 0; i < n; i++) {
            matched = in[i] == pong[matched] ? matched + 1 : in[i] == 'P';
            if (matched == sizeof pong - 1)
                return;
        }
    }
}
