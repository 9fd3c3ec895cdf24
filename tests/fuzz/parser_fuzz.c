/* SPDX-License-Identifier: Apache-2.0 */
/* The parser on arbitrary bytes. The first two bytes choose the limits, the rest is a stream that is parsed operation
 * by operation, payloads skipped. What must hold: views lie within the line and hold no delimiter, used ends at a LF,
 * every prefix says "more" until one says what all longer ones say, and portable lanes say what SSE2 says. */
#include "nats/parser.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"

enum parse_result portable_parser_next(const char *at, size_t len, const struct parse_limits *limits,
                                       struct parse_line *line);
#define SCAN_PORTABLE
#define parser_next portable_parser_next
#include "nats/parser.c"
#undef parser_next

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_filled(enum parse_result result) {
    return result == PARSE_DONE || result == PARSE_PAYLOAD_LONG;
}

static void check_view(const char *at, const struct parse_line *line, struct view v, bool may_be_empty, bool is_json) {
    check(may_be_empty || v.len > 0);
    if (v.len == 0)
        return;
    check(v.at >= at && v.len <= line->used && (size_t)(v.at - at) <= line->used - v.len);
    for (size_t i = 0; i < v.len; i++)
        check(v.at[i] != '\n' && (is_json || (v.at[i] != ' ' && v.at[i] != '\t' && v.at[i] != '\r')));
}

static void check_line(const char *at, size_t len, const struct parse_limits *limits, enum parse_result result,
                       const struct parse_line *line) {
    check(line->used > 0 && line->used <= len && at[line->used - 1] == '\n');
    check(memchr(at, '\n', line->used) == at + line->used - 1);
    switch (line->op) {
    case PARSE_HPUB:
        check(line->header_len <= line->payload_len);
        /* fall through */
    case PARSE_PUB:
        check_view(at, line, line->subject, false, false);
        check_view(at, line, line->reply, true, false);
        check((line->payload_len > limits->payload) == (result == PARSE_PAYLOAD_LONG));
        break;
    case PARSE_SUB:
        check_view(at, line, line->subject, false, false);
        check_view(at, line, line->queue, true, false);
        check_view(at, line, line->sid, false, false);
        break;
    case PARSE_UNSUB:
        check_view(at, line, line->sid, false, false);
        check(line->has_max || line->max == 0);
        break;
    case PARSE_CONNECT:
    case PARSE_INFO:
    case PARSE_MINUS_ERR:
        check_view(at, line, line->json, true, true);
        check(line->json.len <= limits->control_line);
        break;
    case PARSE_PING:
    case PARSE_PONG:
    case PARSE_PLUS_OK:
        break;
    }
}

/* Both were zeroed before, so equal results are equal bytes; the views of both point into the same stream. */
static void check_same(enum parse_result a, const struct parse_line *a_line, enum parse_result b,
                       const struct parse_line *b_line) {
    check(a == b);
    if (!is_filled(a))
        return;
    check(a_line->op == b_line->op && a_line->used == b_line->used);
    check(view_equal(a_line->subject, b_line->subject) && view_equal(a_line->reply, b_line->reply));
    check(view_equal(a_line->queue, b_line->queue) && view_equal(a_line->sid, b_line->sid));
    check(view_equal(a_line->json, b_line->json));
    check(a_line->header_len == b_line->header_len && a_line->payload_len == b_line->payload_len);
    check(a_line->has_max == b_line->has_max && a_line->max == b_line->max);
}

static void check_prefixes(const char *at, size_t len, const struct parse_limits *limits, enum parse_result result,
                           const struct parse_line *line) {
    bool settled = false;
    for (size_t n = 0; n <= len; n++) {
        struct parse_line part = {0};
        enum parse_result part_result = parser_next(at, n, limits, &part);
        if (!settled && part_result == PARSE_MORE)
            continue;
        settled = true;
        check_same(part_result, &part, result, line);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    struct parse_limits limits = {.control_line = data[0] == 0xff ? 4096 : data[0], .payload = 1u << (data[1] & 31)};
    size_t len = size - 2;
    char *stream = malloc(len + (len == 0)); /* of exactly its size, for the sanitizer */
    check(stream != NULL);
    memcpy(stream, data + 2, len);
    for (size_t pos = 0; pos <= len;) {
        struct parse_line line = {0}, portable = {0};
        enum parse_result result = parser_next(stream + pos, len - pos, &limits, &line);
        check_same(result, &line, portable_parser_next(stream + pos, len - pos, &limits, &portable), &portable);
        size_t prefix_len = len - pos < 300 ? len - pos : 300;
        if (prefix_len == len - pos || (is_filled(result) && line.used <= prefix_len))
            check_prefixes(stream + pos, prefix_len, &limits, result, &line);
        if (is_filled(result))
            check_line(stream + pos, len - pos, &limits, result, &line);
        if (result != PARSE_DONE)
            break;
        pos += line.used;
        if (line.op == PARSE_PUB || line.op == PARSE_HPUB)
            pos += (size_t)line.payload_len + 2;
    }
    free(stream);
    return 0;
}
