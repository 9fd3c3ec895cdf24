/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead-try: a first message, without any client library.
 *
 *   bulkhead-try sub SUBJECT              prints what comes, one line a message, until it is stopped
 *   bulkhead-try pub SUBJECT TEXT         publishes TEXT
 *   bulkhead-try request SUBJECT TEXT     publishes TEXT and prints the first answer
 *   bulkhead-try reply SUBJECT TEXT       answers every request with TEXT
 *
 *   -s HOST:PORT      server (127.0.0.1:4222)       -u USER:PASSWORD or -u TOKEN    credentials
 *   -q QUEUE          queue group of sub and reply   -n COUNT                        end after so many messages
 *
 * One blocking socket and one buffer. It works with any server that speaks the NATS client protocol, without TLS. A program that
 * does more wants a client library.
 */
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <jansson.h>

enum { BUFFER = 1 << 16, REQUEST_S = 5 };

struct options {
    char *server, *user, *queue;
    long count; /* 0: without end */
};

struct conn {
    int fd;
    char in[BUFFER];
    size_t len, at; /* what was received, and how much of it is used */
};

_Noreturn static void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("bulkhead-try: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

_Noreturn static void usage(void) {
    fputs("Usage: bulkhead-try [-s HOST:PORT] [-u USER:PASSWORD|TOKEN] [-q QUEUE] [-n COUNT] sub SUBJECT\n"
          "       bulkhead-try [options] pub|request|reply SUBJECT TEXT\n",
          stderr);
    exit(2);
}

/* ---- the connection ---- */

static void put(struct conn *c, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = send(c->fd, bytes, len, MSG_NOSIGNAL);
        if (n <= 0)
            fail("the server has closed the connection");
        bytes += n;
        len -= (size_t)n;
    }
}

__attribute__((format(printf, 2, 3))) static void say(struct conn *c, const char *format, ...) {
    char line[4096];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof line)
        fail("too long");
    put(c, line, (size_t)n);
}

static void more(struct conn *c) {
    memmove(c->in, c->in + c->at, c->len - c->at);
    c->len -= c->at;
    c->at = 0;
    if (c->len == sizeof c->in)
        fail("a line or message of more than %d bytes", BUFFER);
    ssize_t n = recv(c->fd, c->in + c->len, sizeof c->in - c->len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        fail("no answer within %d seconds", REQUEST_S);
    if (n <= 0)
        fail("the server has closed the connection");
    c->len += (size_t)n;
}

/* The next line without its end; it stays good until the next call. */
static char *line_of(struct conn *c) {
    for (size_t from = 0;;) {
        char *end = memchr(c->in + c->at + from, '\n', c->len - c->at - from);
        if (end) {
            char *line = c->in + c->at;
            c->at = (size_t)(end - c->in) + 1;
            *end = 0;
            if (end > line && end[-1] == '\r')
                end[-1] = 0;
            return line;
        }
        from = c->len - c->at;
        more(c);
    }
}

/* ---- messages ---- */

struct message {
    char subject[1024], reply[1024];
    size_t header_len, len; /* of the bytes at c->in + c->at; len with the header */
};

/* Waits for a message; answers PINGs meanwhile. False: a PONG came. */
static bool receive(struct conn *c, struct message *m) {
    for (;;) {
        char *line = line_of(c), *word[6] = {0};
        int words = 0;
        bool header = strncmp(line, "HMSG ", 5) == 0;
        if (strcmp(line, "PING") == 0)
            say(c, "PONG\r\n");
        else if (strcmp(line, "PONG") == 0)
            return false;
        else if (strncmp(line, "-ERR", 4) == 0)
            fail("the server says: %s", line + 4 + strspn(line + 4, " "));
        if (!header && strncmp(line, "MSG ", 4) != 0)
            continue;
        for (char *w = strtok(line, " "); w && words < 6; w = strtok(NULL, " "))
            word[words++] = w;
        int least = header ? 5 : 4;
        if (words < least)
            fail("a line that no server sends");
        *m = (struct message){.len = strtoul(word[words - 1], NULL, 10),
                              .header_len = header ? strtoul(word[words - 2], NULL, 10) : 0};
        snprintf(m->subject, sizeof m->subject, "%s", word[1]);
        snprintf(m->reply, sizeof m->reply, "%s", words > least ? word[3] : "");
        if (m->header_len > m->len || m->len > BUFFER - 8192)
            fail("a message of %zu bytes is more than this program takes", m->len);
        while (c->len - c->at < m->len + 2)
            more(c);
        return true;
    }
}

static void print(struct conn *c, const struct message *m) {
    const char *at = c->in + c->at;
    if (m->header_len > 12 && strncmp(at, "NATS/1.0 503", 12) == 0)
        fail("nobody answers on that subject");
    printf("%s: %.*s\n", m->subject, (int)(m->len - m->header_len), at + m->header_len);
    fflush(stdout);
}

static void skip(struct conn *c, const struct message *m) {
    c->at += m->len + 2;
}

static void flush(struct conn *c) {
    struct message m;
    say(c, "PING\r\n");
    while (receive(c, &m))
        skip(c, &m);
}

/* ---- opening ---- */

static int dial(char *server) {
    char *colon = strrchr(server, ':');
    const char *port = colon ? colon + 1 : "4222";
    if (colon)
        *colon = 0;
    if (*server == '[' && server[strlen(server) - 1] == ']') { /* [::1]:4222 */
        server[strlen(server) - 1] = 0;
        server++;
    }
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *all;
    int e = getaddrinfo(server, port, &hints, &all), fd = -1;
    if (e != 0)
        fail("%s: %s", server, gai_strerror(e));
    for (struct addrinfo *a = all; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(all);
    if (fd < 0)
        fail("cannot connect to %s, port %s: %s", server, port, strerror(errno));
    return fd;
}

static void login(struct conn *c, char *user) {
    char *info = line_of(c);
    if (strstr(info, "\"tls_required\":true"))
        fail("the server wants TLS, which this program does not speak");
    json_t *fields = json_pack("{s:b, s:b, s:b, s:b, s:s, s:s, s:i}", "verbose", 0, "pedantic", 0, "headers", 1,
                               "no_responders", 1, "lang", "c", "name", "bulkhead-try", "protocol", 1);
    char *colon = user ? strchr(user, ':') : NULL;
    if (colon) {
        *colon = 0;
        json_object_set_new(fields, "user", json_string(user));
        json_object_set_new(fields, "pass", json_string(colon + 1));
    } else if (user) {
        json_object_set_new(fields, "auth_token", json_string(user));
    }
    char *text = json_dumps(fields, JSON_COMPACT);
    if (!text)
        fail("the credentials are not UTF-8");
    say(c, "CONNECT %s\r\n", text);
    free(text);
    json_decref(fields);
    flush(c);
}

/* ---- what it does ---- */

static void publish(struct conn *c, const char *subject, const char *reply, const char *text) {
    say(c, "PUB %s %s %zu\r\n", subject, reply, strlen(text));
    put(c, text, strlen(text));
    put(c, "\r\n", 2);
}

static void subscribe(struct conn *c, const struct options *o, const char *subject, const char *answer) {
    say(c, "SUB %s %s 1\r\n", subject, o->queue ? o->queue : "");
    flush(c);
    fprintf(stderr, "Listening on %s\n", subject);
    for (long n = 0; o->count == 0 || n < o->count;) {
        struct message m;
        if (!receive(c, &m))
            continue;
        print(c, &m);
        skip(c, &m);
        if (answer && *m.reply)
            publish(c, m.reply, "", answer);
        n++;
    }
    flush(c);
}

static void request(struct conn *c, const char *subject, const char *text) {
    struct message m;
    char inbox[64];
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = REQUEST_S}, sizeof(struct timeval));
    snprintf(inbox, sizeof inbox, "_INBOX.try.%ld", (long)getpid());
    say(c, "SUB %s 1\r\n", inbox);
    publish(c, subject, inbox, text);
    while (!receive(c, &m)) {
    }
    print(c, &m);
}

static bool is_subject(const char *s) {
    return *s && !strpbrk(s, " \t\r\n");
}

int main(int argc, char **argv) {
    static struct conn c;
    char standard[] = "127.0.0.1:4222";
    struct options o = {.server = standard};
    for (int flag; (flag = getopt(argc, argv, "s:u:q:n:")) != -1;) {
        if (flag == 's')
            o.server = optarg;
        else if (flag == 'u')
            o.user = optarg;
        else if (flag == 'q')
            o.queue = optarg;
        else if (flag == 'n')
            o.count = strtol(optarg, NULL, 10);
        else
            usage();
    }
    const char *word = argv[optind];
    bool sub = word && strcmp(word, "sub") == 0;
    if (argc - optind != (sub ? 2 : 3) || !is_subject(argv[optind + 1]) || (o.queue && !is_subject(o.queue)))
        usage();
    const char *subject = argv[optind + 1], *text = argv[optind + 2];
    bool pub = strcmp(word, "pub") == 0, ask = strcmp(word, "request") == 0;
    if (!sub && !pub && !ask && strcmp(word, "reply") != 0)
        usage();
    c.fd = dial(o.server);
    login(&c, o.user);
    if (pub)
        publish(&c, subject, "", text), flush(&c);
    else if (ask)
        request(&c, subject, text);
    else
        subscribe(&c, &o, subject, sub ? NULL : text);
    return 0;
}
