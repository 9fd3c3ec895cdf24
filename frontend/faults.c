/* SPDX-License-Identifier: Apache-2.0 */
/* What a client sent and no operation can be: lines for the log, and the end of the connection.
 *
 * The log's words begin as nats-server's do, and what they quote of the client's bytes is short and never JSON, which may hold a
 * credential.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "frontend/frontend.h"
#include "nats/errors.h"
#include "nats/quote.h"

enum { ARGUMENTS_BYTES = 64 };

static void end(struct frontend *f, struct client *c, const char *text, const char *reason) {
    counter_add(f->counters, COUNTER_PROTOCOL_ERRORS, 1);
    client_error(f, c, text, reason);
}

static bool begins_with(struct view at, const char *text) {
    size_t len = strlen(text);
    return at.len >= len && memcmp(at.at, text, len) == 0;
}

/* What speaks another protocol to this port, in words for its administrator; "": nothing known. */
static const char *stranger(const struct client *c, struct view at) {
    static const char *const methods[] = {"GET ", "POST ", "HEAD ", "PUT ", "OPTIONS ", "DELETE ", "PRI * HTTP/2"};
    if (!c->tls && at.len >= 3 && at.at[0] == 0x16 && at.at[1] == 0x03)
        return " (this is TLS, and the connection is plain: the client wants TLS, the server has none on this port)";
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (begins_with(at, methods[i]))
            return " (this is HTTP: the port speaks the NATS protocol)";
    }
    return "";
}

static void unknown(struct frontend *f, struct client *c, struct view at) {
    char text[SNIPPET_TEXT];
    client_snippet(text, sizeof text, at);
    client_log(c, LOG_ERROR, "Client parser ERROR, unknown operation: proto='\"%s'%s", text, stranger(c, at));
    end(f, c, NATS_ERR_UNKNOWN_OP, "Protocol Violation");
}

/* The arguments of the operation at the beginning of `at`, quoted. */
static void quote_arguments(char *out, size_t cap, struct view at) {
    const char *end = memchr(at.at, '\n', at.len);
    size_t len = end ? (size_t)(end - at.at) : at.len, from = 0;
    while (from < len && !memchr(" \t", at.at[from], 2))
        from++;
    while (from < len && memchr(" \t", at.at[from], 2))
        from++;
    while (len > from && memchr(" \t\r", at.at[len - 1], 3))
        len--;
    bool cut = len - from > ARGUMENTS_BYTES;
    size_t n = quote_text(out, cap - sizeof "\"...", view_of(at.at + from, cut ? ARGUMENTS_BYTES : len - from));
    snprintf(out + n, cap - n, "\"%s", cut ? "..." : "");
}

static void arguments(struct frontend *f, struct client *c, enum parse_op op, struct view at) {
    static const char *const names[] = {[PARSE_PUB] = "processPub",
                                        [PARSE_HPUB] = "processHeaderPub",
                                        [PARSE_SUB] = "processSub",
                                        [PARSE_UNSUB] = "processUnsub"};
    char text[10 * ARGUMENTS_BYTES + 8], line[sizeof text + 64];
    quote_arguments(text, sizeof text, at);
    snprintf(line, sizeof line, "%s Parse Error: \"%s", names[op], text);
    fault_operation(f, c, line);
}

void fault_parse(struct frontend *f, struct client *c, enum parse_result why, const struct parse_line *line,
                 struct view at) {
    static const char *const names[] = {
        [PARSE_PUB] = "PUB",         [PARSE_HPUB] = "HPUB",     [PARSE_SUB] = "SUB",   [PARSE_UNSUB] = "UNSUB",
        [PARSE_CONNECT] = "CONNECT", [PARSE_INFO] = "INFO",     [PARSE_PING] = "PING", [PARSE_PONG] = "PONG",
        [PARSE_PLUS_OK] = "+OK",     [PARSE_MINUS_ERR] = "-ERR"};
    char text[SNIPPET_TEXT];
    switch (why) {
    case PARSE_UNKNOWN:
        unknown(f, c, at);
        break;
    case PARSE_LINE_LONG:
        client_snippet(text, sizeof text, at);
        client_log(c, LOG_ERROR, NATS_ERR_CONTROL_LINE ": %s, max_control_line %u (snip: \"%s)", names[line->op],
                   f->limits.control_line, text);
        end(f, c, NATS_ERR_CONTROL_LINE, "Maximum Control Line Exceeded");
        break;
    case PARSE_PAYLOAD_LONG:
        client_log(c, LOG_ERROR, "maximum payload exceeded: %u vs %u", line->payload_len, f->limits.payload);
        end(f, c, NATS_ERR_PAYLOAD, "Maximum Message Payload Exceeded");
        break;
    case PARSE_CLOSE:
    case PARSE_DONE:
    case PARSE_MORE:
        arguments(f, c, line->op, at);
        break;
    }
}

void fault_payload_end(struct frontend *f, struct client *c, struct view at) {
    char text[SNIPPET_TEXT];
    client_snippet(text, sizeof text, at);
    client_log(c, LOG_ERROR, "Client parser ERROR, no line end behind the payload: proto='\"%s'", text);
    end(f, c, NATS_ERR_UNKNOWN_OP, "Protocol Violation");
}

void fault_operation(struct frontend *f, struct client *c, const char *what) {
    client_log(c, LOG_ERROR, "%s", what);
    end(f, c, NULL, "Protocol Violation");
}
