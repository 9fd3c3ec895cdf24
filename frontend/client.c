/* A connection's life and end.
 *
 * There are three ways to end: with a text after all that came before (client_error), quietly after all that came before
 * (client_finish), or now (client_close). After the socket is closed the struct stays, with its binding and subscriptions,
 * until the router has freed the connection's number: a new router may have to be told of it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "frontend/frontend.h"

bool vector_add(struct vector *v, struct client *c) {
    if (v->count == v->cap) {
        uint32_t cap = v->cap ? 2 * v->cap : 64;
        struct client **grown = realloc(v->at, cap * sizeof(struct client *));
        if (!grown)
            return false;
        v->at = grown;
        v->cap = cap;
    }
    v->at[v->count++] = c;
    return true;
}

void vector_remove(struct vector *v, const struct client *c) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < v->count; i++)
        if (v->at[i] != c)
            v->at[kept++] = v->at[i];
    v->count = kept;
}

void client_log(const struct client *c, int level, const char *format, ...) {
    if ((level == LOG_DEBUG && !log_debugs()) || (level == LOG_TRACE && !log_traces()))
        return;
    char peer[INET6_ADDRSTRLEN], text[1024];
    bool v4 = IN6_IS_ADDR_V4MAPPED(&c->peer);
    inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? (const void *)&c->peer.s6_addr[12] : &c->peer, peer, sizeof peer);
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    log_line((enum log_level)level, v4 ? "%s:%u - cid:%llu%s%s%s - %s" : "[%s]:%u - cid:%llu%s%s%s - %s", peer,
             c->peer_port, (unsigned long long)c->cid, c->who ? " - \"" : "", c->who ? c->who : "", c->who ? "\"" : "",
             text);
}

const char *client_user(const struct client *c) {
    return c->user ? c->user : "User \"N/A\"";
}

void client_trace(const struct client *c, const char *arrow, struct view line) {
    while (line.len > 0 && (line.at[line.len - 1] == '\n' || line.at[line.len - 1] == '\r'))
        line.len--;
    client_log(c, LOG_TRACE, "%s [%.*s]", arrow, line.len < 512 ? (int)line.len : 512, line.at);
}

/* Adds text as Go quotes it, in at most cap bytes; returns the length. */
static size_t quote(char *out, size_t cap, struct view text) {
    size_t n = 0;
    for (size_t i = 0; i < text.len && n + 4 < cap; i++) {
        unsigned char b = (unsigned char)text.at[i];
        if (b == '"' || b == '\\')
            n += (size_t)snprintf(out + n, cap - n, "\\%c", b);
        else if (b == '\r' || b == '\n' || b == '\t')
            n += (size_t)snprintf(out + n, cap - n, "\\%c", b == '\r' ? 'r' : b == '\n' ? 'n' : 't');
        else if (b < 0x20 || b == 0x7f)
            n += (size_t)snprintf(out + n, cap - n, "\\x%02x", b);
        else
            out[n++] = (char)b;
    }
    return n;
}

void client_trace_payload(const struct client *c, struct view payload, uint32_t len_max) {
    char text[900];
    bool cut = len_max && payload.len > len_max;
    size_t n = quote(text, sizeof text, view_of(payload.at, cut ? len_max : payload.len));
    client_log(c, LOG_TRACE, "<<- MSG_PAYLOAD: [\"%.*s%s\"]", (int)n, text, cut ? "..." : "");
}

/* The end of a JSON value that begins at `at`. */
static size_t value_end(struct view line, size_t at) {
    bool text = at < line.len && line.at[at] == '"';
    for (at += text; at < line.len; at++) {
        if (text ? line.at[at] == '"' : line.at[at] == ',' || line.at[at] == '}')
            return at + text;
    }
    return at;
}

/* The length of a key that names a credential and begins at `at`, with its quotes; 0: it is none. */
static size_t secret_key(struct view line, size_t at) {
    static const char *const keys[] = {"\"pass\"", "\"auth_token\"", "\"jwt\"", "\"sig\""};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size_t len = strlen(keys[i]);
        if (line.len - at >= len && strncasecmp(line.at + at, keys[i], len) == 0)
            return len;
    }
    return 0;
}

/* CONNECT without its credentials. A backslash could hide a key, so then nothing is shown. */
void client_trace_connect(const struct client *c, struct view line) {
    char text[700];
    size_t n = 0;
    if (memchr(line.at, '\\', line.len)) {
        client_trace(c, "<<-", VIEW("CONNECT [REDACTED]"));
        return;
    }
    for (size_t at = 0; at < line.len && n + 48 < sizeof text;) {
        size_t len = secret_key(line, at), colon = at + len;
        while (len && colon < line.len && (line.at[colon] == ' ' || line.at[colon] == '\t'))
            colon++;
        if (!len || colon == line.len || line.at[colon] != ':') {
            text[n++] = line.at[at++];
            continue;
        }
        n += (size_t)snprintf(text + n, sizeof text - n, "%.*s: \"[REDACTED]\"", (int)len, line.at + at);
        for (at = colon + 1; at < line.len && (line.at[at] == ' ' || line.at[at] == '\t');)
            at++;
        bool plain = at < line.len && line.at[at] != '[' && line.at[at] != '{';
        at = value_end(line, at);
        while (at < line.len && (line.at[at] == ' ' || line.at[at] == '\t'))
            at++;
        if (!plain || (at < line.len && line.at[at] != ',' && line.at[at] != '}')) { /* where it ends is not known */
            n += (size_t)snprintf(text + n, sizeof text - n, "...");
            break;
        }
    }
    client_trace(c, "<<-", view_of(text, n));
}

struct client *client_new(struct frontend *f, int fd) {
    struct client *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    c->fd = fd;
    c->number = NO_NUMBER;
    c->options = RECORD_ECHO | RECORD_VERBOSE | RECORD_PEDANTIC;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        free(c);
        return NULL;
    }
    f->client_count++;
    return c;
}

void client_sync_events(struct frontend *f, struct client *c) {
    struct epoll_event event = {.data.ptr = c};
    if (!(c->flags & CLIENT_DISARMED))
        event.events |= EPOLLIN;
    if (c->flags & CLIENT_BLOCKED)
        event.events |= EPOLLOUT;
    epoll_ctl(f->epoll, EPOLL_CTL_MOD, c->fd, &event);
}

bool client_paused(const struct client *c) {
    return c->flags & (CLIENT_WANTS_PLACE | CLIENT_STALLED | CLIENT_CHECKED);
}

void client_wake(struct frontend *f, struct client *c) {
    if (!(c->flags & CLIENT_HELD) || c->state >= CLIENT_ENDING || client_paused(c) || (c->flags & CLIENT_READY))
        return;
    c->flags |= CLIENT_READY;
    check(vector_add(&f->ready, c));
}

static void stop_reading(struct frontend *f, struct client *c) {
    if (c->flags & CLIENT_DISARMED)
        return;
    c->flags |= CLIENT_DISARMED;
    client_sync_events(f, c);
}

void client_finish(struct frontend *f, struct client *c, const char *reason) {
    if (c->state >= CLIENT_ENDING)
        return;
    c->state = CLIENT_ENDING;
    c->reason = reason;
    c->ping_due_ms = c->auth_due_ms = 0;
    login_drop(f, c);
    input_release(c);
    stop_reading(f, c);
    fence_add(f, c, NULL, 0);
}

void client_error(struct frontend *f, struct client *c, const char *text, const char *reason) {
    if (c->state >= CLIENT_ENDING)
        return;
    if (text) {
        char line[256];
        int n = snprintf(line, sizeof line, "-ERR '%s'\r\n", text);
        fence_add(f, c, line, (size_t)n);
    }
    client_finish(f, c, reason);
}

/* Input that nobody will read would turn our close into a reset, and a reset could overtake the last text. */
static void drain_input(int fd) {
    char sink[16384];
    for (int i = 0; i < 16; i++)
        if (recv(fd, sink, sizeof sink, MSG_DONTWAIT) <= 0)
            return;
}

void client_close(struct frontend *f, struct client *c, const char *reason) {
    if (c->state == CLIENT_GONE)
        return;
    client_log(c, LOG_DEBUG, "Client connection closed: %s", reason);
    bool polite = c->state == CLIENT_ENDING;
    if (unlikely(c->tls != NULL))
        tls_end(f, c, polite && c->out_bytes == 0);
    c->state = CLIENT_GONE;
    c->ping_due_ms = c->write_due_ms = c->stall_due_ms = c->auth_due_ms = 0;
    login_drop(f, c);
    timer_remove(f, c);
    out_drop(f, c);
    input_release(c);
    if (polite)
        drain_input(c->fd);
    close(c->fd);
    c->fd = -1;
    f->client_count--;
    accept_place_back(f, c);
    if (c->number != NO_NUMBER)
        owes(f, c);
    else
        check(vector_add(&f->grave, c));
}

void client_freed(struct frontend *f, struct client *c) {
    sub_drop_all(f, c);
    f->by_number[c->number] = NULL;
    number_free(f, c->number);
    c->number = NO_NUMBER;
    if (c->state == CLIENT_GONE)
        check(vector_add(&f->grave, c));
}

static void leave_lists(struct frontend *f, struct client *c) {
    if (c->fence_at != 0) {
        struct client *last = f->fenced.at[--f->fenced.count];
        f->fenced.at[c->fence_at - 1] = last;
        last->fence_at = c->fence_at;
        c->fence_at = 0;
    }
    if (c->flags & CLIENT_DIRTY)
        vector_remove(&f->dirty, c);
    if (c->flags & CLIENT_DEFERRED)
        vector_remove(&f->deferred, c);
    if (c->flags & CLIENT_OWES)
        vector_remove(&f->owing, c);
    if (c->flags & CLIENT_READY)
        vector_remove(&f->ready, c);
    if (c->flags & CLIENT_WANTS_PLACE)
        vector_remove(&f->placeless, c);
    if (c->flags & CLIENT_HELD)
        vector_remove(&f->waiting, c);
}

void client_bury(struct frontend *f) {
    for (uint32_t i = 0; i < f->grave.count; i++) {
        struct client *c = f->grave.at[i];
        leave_lists(f, c);
        free(c->fence);
        free(c->who);
        free(c->user);
        free(c);
    }
    f->grave.count = 0;
}
