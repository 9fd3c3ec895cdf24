/* Log and trace lines about a connection. No line shows a credential. */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "frontend/frontend.h"

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
