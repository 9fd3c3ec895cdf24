/* SPDX-License-Identifier: Apache-2.0 */
/* Connections. On loopback each 20,000 get a source address of their own, so that ports never run out.
 *
 * TLS takes what both servers would choose anyway: TLS 1.3, X25519, AES-128-GCM. The server's certificate is not
 * verified, and a session is never resumed: each connection is a full handshake.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/load.h"

enum { PORTS_PER_ADDRESS = 20000, READ_AHEAD_BYTES = 128 * 1024 };

static SSL_CTX *context;

/* ---- TLS ---- */

static int accept_any(X509_STORE_CTX *store, void *unused) {
    (void)store, (void)unused;
    return 1;
}

static void context_make(void) {
    context = SSL_CTX_new(TLS_client_method());
    if (!context || SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256") != 1 ||
        SSL_CTX_set1_groups_list(context, "X25519") != 1)
        die("TLS: these parameters are not there");
    SSL_CTX_set_cert_verify_callback(context, accept_any, NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

void net_prepare(const struct options *o) {
    if (o->tls)
        context_make();
}

struct ssl_st *net_tls(void) {
    SSL *tls = SSL_new(context);
    if (!tls)
        die("no memory");
    return tls;
}

/* ---- reading and writing ---- */

/* What n, the result of SSL_read or SSL_write, means as the result of read(2) or write(2). */
static ssize_t tls_result(struct conn c, int n) {
    if (n > 0)
        return n;
    int error = SSL_get_error(c.tls, n);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? -1 : 0;
}

static bool is_passing(int error) {
    return error == EAGAIN || error == EINTR;
}

ssize_t net_read(struct conn c, void *to, size_t cap) {
    if (c.tls)
        return tls_result(c, SSL_read(c.tls, to, (int)cap));
    ssize_t n = read(c.fd, to, cap);
    return n >= 0 ? n : is_passing(errno) ? -1 : 0;
}

/* All that TLS has read from the socket already is taken: epoll does not tell of it. */
static ssize_t discard_tls(struct conn c, size_t at_most) {
    static _Thread_local char thrown[65536];
    size_t sum = 0;
    do {
        ssize_t n = net_read(c, thrown, sizeof thrown);
        if (n <= 0)
            return sum > 0 ? (ssize_t)sum : n;
        sum += (size_t)n;
    } while (sum < at_most && SSL_has_pending(c.tls));
    return (ssize_t)sum;
}

ssize_t net_discard(struct conn c, size_t at_most, bool wait) {
    if (c.tls)
        return discard_tls(c, at_most);
    ssize_t n = recv(c.fd, NULL, at_most, MSG_TRUNC | (wait ? 0 : MSG_DONTWAIT));
    return n >= 0 ? n : is_passing(errno) ? -1 : 0;
}

void net_read_ahead(struct conn c) {
    if (!c.tls)
        return;
    SSL_set_mode(c.tls, SSL_MODE_RELEASE_BUFFERS); /* the next one has the new size */
    SSL_set_read_ahead(c.tls, 1);
    SSL_set_default_read_buffer_len(c.tls, READ_AHEAD_BYTES);
}

static ssize_t write_once(struct conn c, const void *bytes, size_t n) {
    if (c.tls)
        return tls_result(c, SSL_write(c.tls, bytes, (int)n));
    ssize_t k = send(c.fd, bytes, n, MSG_NOSIGNAL);
    return k >= 0 ? k : is_passing(errno) ? -1 : 0;
}

bool net_try_write(struct conn c, const void *bytes, size_t n) {
    const char *at = bytes;
    while (n > 0) {
        ssize_t k = write_once(c, at, n);
        if (k == 0)
            return false;
        at += k > 0 ? k : 0;
        n -= k > 0 ? (size_t)k : 0;
    }
    return true;
}

void net_write(struct conn c, const void *bytes, size_t n) {
    if (!net_try_write(c, bytes, n))
        die("the server closed before all was written");
}

size_t net_write_some(struct conn c, const void *bytes, size_t n) {
    ssize_t k = write_once(c, bytes, n);
    if (k == 0)
        die("the server closed before all was written");
    return k > 0 ? (size_t)k : 0;
}

void net_printf(struct conn c, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    net_write(c, text, (size_t)n);
}

void net_flush(struct conn c) {
    static const char pong[] = "PONG\r\n";
    static _Thread_local char in[65536];
    size_t matched = 0;
    net_write(c, "PING\r\n", 6);
    for (;;) {
        ssize_t n = net_read(c, in, sizeof in);
        if (n == 0)
            die("the server closed before PONG came");
        for (ssize_t i = 0; i < n; i++) {
            matched = in[i] == pong[matched] ? matched + 1 : in[i] == 'P';
            if (matched == sizeof pong - 1)
                return;
        }
    }
}

/* ---- opening ---- */

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

static int dial(const struct options *o, int flags) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(o->port)};
    if (inet_pton(AF_INET, o->host, &to.sin_addr) != 1)
        die("%s is not an IPv4 address", o->host);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0), on = 1;
    if (fd < 0)
        die("socket: %s", strerror(errno));
    bind_source(fd, to.sin_addr);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
        die("connect: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

int net_dial(const struct options *o) {
    return dial(o, SOCK_NONBLOCK);
}

/* Reads a string that ends in text; the bytes before it must fit. */
static void await(struct conn c, const char *text, char *in, size_t cap) {
    size_t have = 0;
    for (;;) {
        ssize_t n = net_read(c, in + have, cap - 1 - have);
        if (n == 0)
            die("the server closed before %.4s came", text);
        have += n > 0 ? (size_t)n : 0;
        in[have] = 0;
        if (strstr(in, "-ERR"))
            die("the server says %s", strstr(in, "-ERR"));
        if (strstr(in, text))
            return;
    }
}

struct conn net_open(const struct options *o) {
    char in[8192], hello[CONNECT_MAX];
    struct conn c = {.fd = dial(o, 0)};
    await(c, "\r\n", in, sizeof in);
    size_t len = identity_connect(o, in, hello);
    if (o->tls) {
        c.tls = net_tls();
        if (SSL_set_fd(c.tls, c.fd) != 1 || SSL_connect(c.tls) != 1)
            die("TLS handshake failed");
    }
    net_write(c, hello, len);
    await(c, "PONG\r\n", in, sizeof in);
    return c;
}

void net_close(struct conn c) {
    SSL_free(c.tls);
    close(c.fd);
}

void net_set_blocking(struct conn c, bool blocking) {
    int flags = fcntl(c.fd, F_GETFL);
    fcntl(c.fd, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}
