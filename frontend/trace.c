/* SPDX-License-Identifier: Apache-2.0 */
/* Log and trace lines about a connection. No line shows a credential. */
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "frontend/frontend.h"
#include "nats/quote.h"

void client_log(const struct client *c, int level, const char *format, ...) {
    if ((level == LOG_DEBUG && !log_debugs()) || (level == LOG_TRACE && !log_traces()))
        return;
    char peer[INET6_ADDRSTRLEN], text[LOG_LINE_MAX + 16];
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

/* ---- what the client sent ---- */

/* The bytes before anything that might be a part of JSON: a CONNECT without its line end before it, or misspelt, is such. */
static struct view before_json(struct view line) {
    for (size_t i = 0; i < line.len; i++) {
        if (line.at[i] == '{' || line.at[i] == '"')
            return view_of(line.at, i);
    }
    return line;
}

static struct view without_end(struct view line) {
    while (line.len > 0 && (line.at[line.len - 1] == '\n' || line.at[line.len - 1] == '\r'))
        line.len--;
    return line;
}

static void trace_text(const struct client *c, const char *arrow, struct view text, const char *end) {
    client_log(c, LOG_TRACE, "%s [%.*s%s]", arrow, (int)text.len, text.at, end);
}

void client_trace(const struct client *c, struct view line) {
    trace_text(c, "<<-", without_end(line), "");
}

void client_trace_other(const struct client *c, struct view line) {
    struct view whole = without_end(line), shown = before_json(whole);
    trace_text(c, "<<-", shown, shown.len < whole.len ? "..." : "");
}

size_t client_snippet(char *out, size_t cap, struct view bytes) {
    struct view shown = before_json(view_of(bytes.at, bytes.len < SNIPPET_BYTES ? bytes.len : SNIPPET_BYTES));
    size_t n = quote_text(out, cap - sizeof "\"...", shown);
    return n + (size_t)snprintf(out + n, cap - n, "\"%s", shown.len < bytes.len ? "..." : "");
}

void client_trace_payload(const struct client *c, struct view payload, uint32_t len_max) {
    static char text[LOG_LINE_MAX + 16]; /* more than a line holds, so that a line that is cut shows it */
    bool cut = len_max && payload.len > len_max;
    size_t n = quote_text(text, sizeof text, cut ? view_of(payload.at, len_max) : payload);
    client_log(c, LOG_TRACE, "<<- MSG_PAYLOAD: [\"%.*s%s\"]", (int)n, text, cut ? "..." : "");
}

/* ---- CONNECT without its credentials ----
 *
 * What is shown is named here, and everything else is masked: so a credential stays hidden whatever its key is spelt like. Bytes are
 * taken as they came; where they stop being an object of keys and values, nothing more is shown. */

static const char *const shown_keys[] = {"verbose",       "pedantic", "tls_required", "echo",       "headers",
                                         "no_responders", "protocol", "name",         "lang",       "version",
                                         "user",          "nkey",     "account",      "new_account"};

struct scan {
    struct view in;
    size_t at;
    char *out;
    size_t len, cap;
};

static void put(struct scan *s, const char *text, size_t len) {
    size_t room = s->cap - s->len, n = len < room ? len : room;
    if (n > 0)
        memcpy(s->out + s->len, text, n);
    s->len += n;
}

/* Copies blanks; the byte behind them, 0 at the end. */
static char next(struct scan *s) {
    size_t from = s->at;
    while (s->at < s->in.len && memchr(" \t\r\n", s->in.at[s->at], 4))
        s->at++;
    put(s, s->in.at + from, s->at - from);
    return s->at < s->in.len ? s->in.at[s->at] : '\0';
}

/* The text in quotes that begins here, with them; empty: it has no end. */
static struct view take_string(struct scan *s) {
    size_t from = s->at;
    for (size_t i = from + 1; i < s->in.len; i++) {
        if (s->in.at[i] == '\\') {
            i++;
        } else if (s->in.at[i] == '"') {
            s->at = i + 1;
            return view_of(s->in.at + from, s->at - from);
        }
    }
    return view_of(NULL, 0);
}

/* The value that begins here; empty: it has no end. */
static struct view take_value(struct scan *s) {
    size_t from = s->at, depth = 0;
    if (s->in.at[from] == '"')
        return take_string(s);
    while (s->at < s->in.len) {
        char b = s->in.at[s->at];
        if (b == '"') {
            if (take_string(s).len == 0)
                break;
            continue;
        }
        if (depth == 0 && (b == ',' || b == '}' || b == ']'))
            return view_of(s->in.at + from, s->at - from);
        depth += (size_t)((b == '{' || b == '[') - (b == '}' || b == ']'));
        s->at++;
    }
    return view_of(NULL, 0);
}

/* A text, a number, or one of true, false and null. */
static bool is_plain(struct view value) {
    static const char *const words[] = {"true", "false", "null"};
    while (value.len > 0 && memchr(" \t\r\n", value.at[value.len - 1], 4))
        value.len--;
    for (size_t i = 0; i < 3; i++) {
        if (view_equal(value, view_text(words[i])))
            return true;
    }
    if (value.len > 1 && value.at[0] == '"')
        return value.at[value.len - 1] == '"';
    for (size_t i = 0; i < value.len; i++) {
        if (!memchr("0123456789+-.eE", value.at[i], 15))
            return false;
    }
    return true;
}

static bool is_shown(struct view key) {
    for (size_t i = 0; i < sizeof shown_keys / sizeof *shown_keys; i++) {
        size_t len = strlen(shown_keys[i]);
        if (key.len == len + 2 && strncasecmp(key.at + 1, shown_keys[i], len) == 0)
            return true;
    }
    return false;
}

/* One key and its value; false: it is none. */
static bool mask_member(struct scan *s) {
    struct view key = next(s) == '"' ? take_string(s) : view_of(NULL, 0);
    put(s, key.at, key.len);
    if (key.len == 0 || next(s) != ':')
        return false;
    put(s, ":", 1);
    s->at++;
    if (next(s) == '\0')
        return false;
    struct view value = take_value(s);
    bool shown = is_shown(key) && is_plain(value);
    put(s, shown ? value.at : "\"[REDACTED]\"", shown ? value.len : sizeof "\"[REDACTED]\"" - 1);
    return value.len > 0;
}

void client_trace_connect(const struct client *c, struct view line) {
    static char text[LOG_LINE_MAX + 16];
    struct scan s = {.in = without_end(line), .at = sizeof "CONNECT" - 1, .out = text, .cap = sizeof text};
    bool sound = next(&s) == '{', more = sound;
    if (sound) {
        put(&s, "{", 1);
        s.at++;
    }
    if (more && next(&s) == '}')
        more = false;
    while (more && (sound = mask_member(&s)) && (more = next(&s) == ',')) {
        put(&s, ",", 1);
        s.at++;
    }
    sound = sound && next(&s) == '}' && s.at + 1 == s.in.len;
    client_log(c, LOG_TRACE, "<<- [CONNECT%.*s%s]", (int)s.len, text, sound ? "}" : "...");
}

/* ---- what the client gets ---- */

void client_trace_out(const struct client *c, struct view lines) {
    while (lines.len > 0) {
        const char *end = memchr(lines.at, '\n', lines.len);
        size_t len = end ? (size_t)(end - lines.at) + 1 : lines.len;
        struct view line = without_end(view_of(lines.at, len));
        if (line.len > 7 && memcmp(line.at, "-ERR '", 6) == 0)
            client_log(c, LOG_TRACE, "->> [-ERR %.*s]", (int)line.len - 7, line.at + 6);
        else
            trace_text(c, "->>", line.len == 3 && memcmp(line.at, "+OK", 3) == 0 ? VIEW("OK") : line, "");
        lines = view_of(lines.at + len, lines.len - len);
    }
}

void client_trace_end(const struct client *c, struct view sid) {
    client_log(c, LOG_TRACE, "<-> [DELSUB %.*s]", (int)sid.len, sid.at);
}
