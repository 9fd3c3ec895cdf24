/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of nats/parser.c: the grammar's tables, every prefix of random streams, and lanes of SSE2 against lanes of
 * words. The portable parser is the same source, compiled here once more under another name. */
#include "nats/parser.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "nats/proto.h"

enum parse_result portable_parser_next(const char *at, size_t len, const struct parse_limits *limits,
                                       struct parse_line *line);
#define SCAN_PORTABLE
#define parser_next portable_parser_next
#include "nats/parser.c"
#include "tests/unit/unit.h"
#undef parser_next

static const struct parse_limits limits = {PROTO_CONTROL_LINE_DEFAULT, PROTO_PAYLOAD_DEFAULT};

/* The bytes in memory of exactly their size, so that a sanitizer sees each read beyond them. */
static enum parse_result
parse_tight(enum parse_result (*next)(const char *, size_t, const struct parse_limits *, struct parse_line *),
            struct view bytes, const struct parse_limits *l, struct parse_line *line, char **copy) {
    *copy = malloc(bytes.len + (bytes.len == 0));
    ck_assert_ptr_nonnull(*copy);
    if (bytes.len > 0)
        memcpy(*copy, bytes.at, bytes.len);
    return next(*copy, bytes.len, l, line);
}

/* What a result says, as text: equal texts are equal results. */
static void describe(char *out, size_t cap, enum parse_result result, const struct parse_line *line) {
    static const char *const results[] = {"done", "more", "unknown", "close", "line long", "payload long"};
    int n = snprintf(out, cap, "%s", results[result]);
    if (result != PARSE_DONE && result != PARSE_PAYLOAD_LONG)
        return;
#define PUT(...)     n += snprintf(out + n, cap - (size_t)n, __VA_ARGS__)
#define VIEW_ARGS(v) (int)(v).len, (v).len > 0 ? (v).at : ""
    PUT(" used=%u ", line->used);
    switch (line->op) {
    case PARSE_PUB:
        PUT("PUB [%.*s] [%.*s] %u", VIEW_ARGS(line->subject), VIEW_ARGS(line->reply), line->payload_len);
        break;
    case PARSE_HPUB:
        PUT("HPUB [%.*s] [%.*s] %u %u", VIEW_ARGS(line->subject), VIEW_ARGS(line->reply), line->header_len,
            line->payload_len);
        break;
    case PARSE_SUB:
        PUT("SUB [%.*s] [%.*s] [%.*s]", VIEW_ARGS(line->subject), VIEW_ARGS(line->queue), VIEW_ARGS(line->sid));
        break;
    case PARSE_UNSUB:
        PUT("UNSUB [%.*s] %d %u", VIEW_ARGS(line->sid), line->has_max, line->max);
        break;
    case PARSE_CONNECT:
        PUT("CONNECT [%.*s]", VIEW_ARGS(line->json));
        break;
    case PARSE_INFO:
        PUT("INFO [%.*s]", VIEW_ARGS(line->json));
        break;
    case PARSE_MINUS_ERR:
        PUT("-ERR [%.*s]", VIEW_ARGS(line->json));
        break;
    case PARSE_PING:
        PUT("PING");
        break;
    case PARSE_PONG:
        PUT("PONG");
        break;
    case PARSE_PLUS_OK:
        PUT("+OK");
        break;
    }
}

/* Parses with both parsers and describes the result that they must share. */
static void parse_both(struct view bytes, const struct parse_limits *l, char *text, size_t cap) {
    char other[8192];
    struct parse_line line = {0};
    char *copy;
    enum parse_result result = parse_tight(parser_next, bytes, l, &line, &copy);
    describe(text, cap, result, &line);
    free(copy);
    line = (struct parse_line){0};
    result = parse_tight(portable_parser_next, bytes, l, &line, &copy);
    describe(other, sizeof other, result, &line);
    free(copy);
    ck_assert_msg(strcmp(text, other) == 0, "'%.*s': %s, portable: %s", (int)bytes.len, bytes.at, text, other);
}

struct line_case {
    const char *name;
    struct view bytes;
    const char *want; /* without "used", which is the whole line */
};

static void check_lines(const struct line_case *cases, size_t count) {
    for (size_t i = 0; i < count; i++) {
        char got[8192], want[8192];
        const char *rest = strchr(cases[i].want, ' ');
        if (strncmp(cases[i].want, "done ", 5) == 0)
            snprintf(want, sizeof want, "done used=%zu%s", cases[i].bytes.len, rest);
        else if (strncmp(cases[i].want, "payload long ", 13) == 0)
            snprintf(want, sizeof want, "payload long used=%zu%s", cases[i].bytes.len, strchr(rest + 1, ' '));
        else
            snprintf(want, sizeof want, "%s", cases[i].want);
        parse_both(cases[i].bytes, &limits, got, sizeof got);
        ck_assert_msg(strcmp(got, want) == 0, "%s: got '%s', want '%s'", cases[i].name, got, want);
    }
}

#define CHECK_LINES(cases) check_lines(cases, sizeof cases / sizeof cases[0])

START_TEST(lines_that_are_right) {
    static const struct line_case cases[] = {
        {"pub", VIEW("PUB a 1\r\n"), "done PUB [a] [] 1"},
        {"pub with reply", VIEW("PUB foo.bar _INBOX.x 128\r\n"), "done PUB [foo.bar] [_INBOX.x] 128"},
        {"pub empty payload", VIEW("PUB a 0\r\n"), "done PUB [a] [] 0"},
        {"pub lower case", VIEW("pub a 1\r\n"), "done PUB [a] [] 1"},
        {"pub mixed case", VIEW("pUb a 1\r\n"), "done PUB [a] [] 1"},
        {"pub lone lf", VIEW("PUB a 1\n"), "done PUB [a] [] 1"},
        {"pub tabs", VIEW("PUB\ta\t1\r\n"), "done PUB [a] [] 1"},
        {"pub runs of blanks", VIEW("PUB  \t a \t r  \t1 \t \r\n"), "done PUB [a] [r] 1"},
        {"pub trailing blank", VIEW("PUB a 1 \r\n"), "done PUB [a] [] 1"},
        {"pub leading zero", VIEW("PUB a 01\r\n"), "done PUB [a] [] 1"},
        {"pub nine digits", VIEW("PUB a 000000012\r\n"), "done PUB [a] [] 12"},
        {"pub largest", VIEW("PUB a 1048576\r\n"), "done PUB [a] [] 1048576"},
        {"pub wildcards", VIEW("PUB a.*.> 1\r\n"), "done PUB [a.*.>] [] 1"},
        {"pub odd tokens", VIEW("PUB .a..b. 1\r\n"), "done PUB [.a..b.] [] 1"},
        {"pub control bytes", VIEW("PUB \x01\x0b\x7f 1\r\n"), "done PUB [\x01\x0b\x7f] [] 1"},
        {"pub utf-8", VIEW("PUB \xc3\xa9\xf0\x9f\x91\x8d\xff 1\r\n"), "done PUB [\xc3\xa9\xf0\x9f\x91\x8d\xff] [] 1"},
        {"pub 64 bytes", VIEW("PUB aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0\r\n"),
         "done PUB [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa] [] 0"},
        {"pub 65 bytes", VIEW("PUB aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 0\r\n"),
         "done PUB [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa] [] 0"},
        {"pub beyond a block",
         VIEW("PUB aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa _INBOX.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 16\r\n"),
         "done PUB [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa] [_INBOX.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbb] 16"},
        {"hpub", VIEW("HPUB a 12 14\r\n"), "done HPUB [a] [] 12 14"},
        {"hpub with reply", VIEW("HPUB a r 12 14\r\n"), "done HPUB [a] [r] 12 14"},
        {"hpub lower case", VIEW("hpub a 12 14\r\n"), "done HPUB [a] [] 12 14"},
        {"hpub no header", VIEW("HPUB a 0 5\r\n"), "done HPUB [a] [] 0 5"},
        {"hpub no body", VIEW("HPUB a 5 5\r\n"), "done HPUB [a] [] 5 5"},
        {"hpub leading zeros", VIEW("HPUB a 0018 00020\r\n"), "done HPUB [a] [] 18 20"},
        {"hpub blanks", VIEW("HPUB\t a  r \t12  14 \n"), "done HPUB [a] [r] 12 14"},
        {"sub", VIEW("SUB a 1\r\n"), "done SUB [a] [] [1]"},
        {"sub queue", VIEW("SUB a.> q 1\r\n"), "done SUB [a.>] [q] [1]"},
        {"sub lower case", VIEW("sub a 1\r\n"), "done SUB [a] [] [1]"},
        {"sub any sid", VIEW("SUB a x\x01y\r\n"), "done SUB [a] [] [x\x01y]"},
        {"sub lf", VIEW("SUB a 1\n"), "done SUB [a] [] [1]"},
        {"sub two crs", VIEW("SUB a 1\r\r\n"), "done SUB [a] [] [1]"},
        {"sub cr inside", VIEW("SUB a\rq\r1\r\n"), "done SUB [a] [q] [1]"},
        {"sub blanks", VIEW("SUB \t a\t q  1 \t\r\n"), "done SUB [a] [q] [1]"},
        {"unsub", VIEW("UNSUB 1\r\n"), "done UNSUB [1] 0 0"},
        {"unsub max", VIEW("UNSUB 1 5\r\n"), "done UNSUB [1] 1 5"},
        {"unsub max 0", VIEW("UNSUB 1 0\r\n"), "done UNSUB [1] 1 0"},
        {"unsub max no number", VIEW("UNSUB 1 x\r\n"), "done UNSUB [1] 1 0"},
        {"unsub max negative", VIEW("UNSUB 1 -1\r\n"), "done UNSUB [1] 1 0"},
        {"unsub max half a number", VIEW("UNSUB 1 1x\r\n"), "done UNSUB [1] 1 0"},
        {"unsub max too large", VIEW("UNSUB 1 1234567890\r\n"), "done UNSUB [1] 1 0"},
        {"unsub max largest", VIEW("UNSUB 1 999999999\r\n"), "done UNSUB [1] 1 999999999"},
        {"unsub two crs", VIEW("UNSUB 1\r\r\n"), "done UNSUB [1] 0 0"},
        {"unsub lower case", VIEW("unsub\t1\n"), "done UNSUB [1] 0 0"},
        {"ping", VIEW("PING\r\n"), "done PING"},
        {"ping lf", VIEW("ping\n"), "done PING"},
        {"ping junk", VIEW("PINGxyz foo\r\n"), "done PING"},
        {"ping cr inside", VIEW("PING\rx\n"), "done PING"},
        {"pong", VIEW("PONG\r\n"), "done PONG"},
        {"pong junk", VIEW("pong \t x\r\n"), "done PONG"},
        {"ok", VIEW("+OK\r\n"), "done +OK"},
        {"ok junk", VIEW("+okay then\r\n"), "done +OK"},
        {"err", VIEW("-ERR 'x y'\r\n"), "done -ERR ['x y']"},
        {"err lower case", VIEW("-err\tx\n"), "done -ERR [x]"},
        {"err empty", VIEW("-ERR \r\n"), "done -ERR []"},
        {"connect", VIEW("CONNECT {}\r\n"), "done CONNECT [{}]"},
        {"connect no blank", VIEW("CONNECT{}\r\n"), "done CONNECT [{}]"},
        {"connect blanks", VIEW("connect \t {\"a\": 1} \r\n"), "done CONNECT [{\"a\": 1} ]"},
        {"connect two crs", VIEW("CONNECT {}\r\r\n"), "done CONNECT [{}\r]"},
        {"connect empty", VIEW("CONNECT\r\n"), "done CONNECT []"},
        {"connect empty with blank", VIEW("CONNECT \n"), "done CONNECT []"},
        {"connect is not checked", VIEW("CONNECTX\r\n"), "done CONNECT [X]"},
        {"info", VIEW("INFO {}\r\n"), "done INFO [{}]"},
        {"info no blank", VIEW("info{}\n"), "done INFO [{}]"},
    };
    CHECK_LINES(cases);
}
END_TEST

START_TEST(lines_that_are_wrong) {
    static const struct line_case cases[] = {
        {"pub no arguments", VIEW("PUB \r\n"), "close"},
        {"pub one argument", VIEW("PUB a\r\n"), "close"},
        {"pub four arguments", VIEW("PUB a b c 1\r\n"), "close"},
        {"pub many arguments", VIEW("PUB a b c d e f g h 1\r\n"), "close"},
        {"pub ten digits", VIEW("PUB a 0000000001\r\n"), "close"},
        {"pub sign", VIEW("PUB a +1\r\n"), "close"},
        {"pub negative", VIEW("PUB a -1\r\n"), "close"},
        {"pub dot", VIEW("PUB a 1.0\r\n"), "close"},
        {"pub hex", VIEW("PUB a 0x1\r\n"), "close"},
        {"pub below digits", VIEW("PUB a /\r\n"), "close"},
        {"pub above digits", VIEW("PUB a :\r\n"), "close"},
        {"pub two crs", VIEW("PUB a 1\r\r\n"), "close"},
        {"pub cr in subject", VIEW("PUB a\rb 1\r\n"), "close"},
        {"pub cr in subject, lf", VIEW("PUB a\rb 1\n"), "close"},
        {"pub nul in size", VIEW("PUB a 1\0\r\n"), "close"},
        {"pub too large", VIEW("PUB a 1048577\r\n"), "payload long PUB [a] [] 1048577"},
        {"pub largest number", VIEW("PUB a 999999999\r\n"), "payload long PUB [a] [] 999999999"},
        {"hpub no arguments", VIEW("HPUB \r\n"), "close"},
        {"hpub two arguments", VIEW("HPUB a 1\r\n"), "close"},
        {"hpub five arguments", VIEW("HPUB a r 1 1 1\r\n"), "close"},
        {"hpub header larger", VIEW("HPUB a 3 2\r\n"), "close"},
        {"hpub header larger, both too large", VIEW("HPUB a 3000000 2000000\r\n"), "close"},
        {"hpub header no number", VIEW("HPUB a x 2\r\n"), "close"},
        {"hpub total no number", VIEW("HPUB a 1 x\r\n"), "close"},
        {"hpub two crs", VIEW("HPUB a 1 2\r\r\n"), "close"},
        {"hpub too large", VIEW("HPUB a 1 1048577\r\n"), "payload long HPUB [a] [] 1 1048577"},
        {"sub no arguments", VIEW("SUB \r\n"), "close"},
        {"sub no arguments, lf", VIEW("SUB \n"), "close"},
        {"sub one argument", VIEW("SUB a\r\n"), "close"},
        {"sub four arguments", VIEW("SUB a b c d\r\n"), "close"},
        {"unsub no arguments", VIEW("UNSUB \r\n"), "close"},
        {"unsub three arguments", VIEW("UNSUB 1 1 1\r\n"), "close"},
        {"pub no blank", VIEW("PUB\r\n"), "unknown"},
        {"hpub no blank", VIEW("HPUB\n"), "unknown"},
        {"sub no blank", VIEW("SUB\r\n"), "unknown"},
        {"unsub no blank", VIEW("UNSUB\n"), "unknown"},
        {"err no blank", VIEW("-ERR\r\n"), "unknown"},
        {"empty line", VIEW("\r\n"), "unknown"},
        {"empty line, lf", VIEW("\n"), "unknown"},
        {"leading blank", VIEW(" PING\r\n"), "unknown"},
        {"msg", VIEW("MSG a 1 1\r\n"), "unknown"},
        {"rs+", VIEW("RS+ a b\r\n"), "unknown"},
        {"a-", VIEW("A- x\r\n"), "unknown"},
        {"http", VIEW("GET / HTTP/1.1\r\n"), "unknown"},
        {"post", VIEW("POST / HTTP/1.1\r\n"), "unknown"},
        {"head", VIEW("HEAD / HTTP/1.1\r\n"), "unknown"},
        {"tls", VIEW("\x16\x03\x01"), "unknown"},
        {"pub nul for blank", VIEW("PUB\0a 1\r\n"), "unknown"},
        {"+ok with a low byte for +", VIEW("\x0bOK\r\n"), "unknown"},
        {"-err with cr for -", VIEW("\rERR x\r\n"), "unknown"},
    };
    CHECK_LINES(cases);
}
END_TEST

START_TEST(lines_that_are_not_complete) {
    static const struct line_case cases[] = {
        {"nothing", {"", 0}, "more"},
        {"one byte", VIEW("P"), "more"},
        {"name", VIEW("PUB"), "more"},
        {"name and blank", VIEW("PUB "), "more"},
        {"no end", VIEW("PUB a 1"), "more"},
        {"no lf", VIEW("PUB a 1\r"), "more"},
        {"too many arguments are wrong at the end only", VIEW("PUB a b c d e f"), "more"},
        {"ping", VIEW("PING"), "more"},
        {"ping junk", VIEW("PING x\r"), "more"},
        {"plus", VIEW("+"), "more"},
        {"minus", VIEW("-ER"), "more"},
        {"x", VIEW("X"), "unknown"},
        {"pubx", VIEW("PUBX"), "unknown"},
        {"pu cr", VIEW("PU\r"), "unknown"},
        {"hm", VIEW("HM"), "unknown"},
        {"pa", VIEW("PA"), "unknown"},
        {"cr", VIEW("\r"), "unknown"},
        {"su digit", VIEW("SU1"), "unknown"},
    };
    CHECK_LINES(cases);
}
END_TEST

START_TEST(control_line_bounds_the_argument_part) {
    static const struct parse_limits small = {64, 1 << 20};
    static const struct {
        const char *name;
        const char *before;
        size_t fill;
        const char *after;
        const char *want;
    } cases[] = {
        {"pub 64", "PUB ", 62, " 0\r\n", "done"},
        {"pub 65", "PUB ", 63, " 0\r\n", "line long"},
        {"pub 64 lf", "PUB ", 62, " 0\n", "done"},
        {"trailing blanks count", "PUB ", 61, " 0  \r\n", "line long"},
        {"leading blanks do not", "PUB       ", 62, " 0\r\n", "done"},
        {"wrong count and 65", "PUB ", 65, "\r\n", "line long"},
        {"wrong count and 64", "PUB ", 64, "\r\n", "close"},
        {"no end, 64", "PUB ", 64, "", "more"},
        {"no end, 64 and cr", "PUB ", 64, "\r", "more"},
        {"no end, 65", "PUB ", 65, "", "line long"},
        {"no end, 64 and two crs", "PUB ", 64, "\r\r", "line long"},
        {"no end, 1000", "PUB ", 1000, "", "line long"},
        {"sub 64", "SUB ", 62, " 1\r\n", "done"},
        {"sub 65", "SUB ", 63, " 1\r\n", "line long"},
        {"sub 64 cut by crs", "SUB ", 61, "\r1\r\r\n", "done"},
        {"sub 65 cut by crs", "SUB ", 62, "\r1\r\r\n", "line long"},
        {"hpub 64", "HPUB ", 60, " 0 0\r\n", "done"},
        {"hpub 65", "HPUB ", 61, " 0 0\r\n", "line long"},
        {"connect 64", "CONNECT", 64, "\r\n", "done"},
        {"connect 65", "CONNECT", 65, "\r\n", "line long"},
        {"ping 64", "PING", 64, "\r\n", "done"},
        {"ping 65", "PING", 65, "\r\n", "line long"},
        {"ping without end", "PING", 65, "", "line long"},
        {"ok 65", "+OK", 65, "\n", "line long"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char bytes[2048], got[8192];
        size_t len = strlen(cases[i].before);
        memcpy(bytes, cases[i].before, len);
        memset(bytes + len, 'a', cases[i].fill);
        len += cases[i].fill;
        memcpy(bytes + len, cases[i].after, strlen(cases[i].after));
        len += strlen(cases[i].after);
        parse_both(view_of(bytes, len), &small, got, sizeof got);
        ck_assert_msg(strncmp(got, cases[i].want, strlen(cases[i].want)) == 0, "%s: got '%s'", cases[i].name, got);
    }
}
END_TEST

START_TEST(blanks_before_the_arguments_are_bounded) {
    static const struct parse_limits small = {8, 1 << 20};
    char got[8192];
    parse_both(VIEW("PUB        a 1\r\n"), &small, got, sizeof got);
    ck_assert_str_eq(got, "done used=16 PUB [a] [] 1");
    enum { BOUND = 4096 };
    char blanks[8 + BOUND];
    for (int beyond = 0; beyond <= 1; beyond++) {
        const char *want = beyond ? "line long" : "more";
        memset(blanks, ' ', sizeof blanks);
        memcpy(blanks, "PUB", 3);
        parse_both(view_of(blanks, 3 + BOUND + (size_t)beyond), &small, got, sizeof got);
        ck_assert_str_eq(got, want);
        memcpy(blanks, "PING", 4);
        parse_both(view_of(blanks, 4 + BOUND + (size_t)beyond), &small, got, sizeof got);
        ck_assert_str_eq(got, want);
    }
}
END_TEST

START_TEST(payload_limit_is_inclusive) {
    static const struct parse_limits small = {64, 10};
    char got[8192];
    parse_both(VIEW("PUB a 10\r\n"), &small, got, sizeof got);
    ck_assert_str_eq(got, "done used=10 PUB [a] [] 10");
    parse_both(VIEW("PUB a 11\r\n"), &small, got, sizeof got);
    ck_assert_str_eq(got, "payload long used=10 PUB [a] [] 11");
    parse_both(VIEW("HPUB a 0 11\r\n"), &small, got, sizeof got);
    ck_assert_str_eq(got, "payload long used=13 HPUB [a] [] 0 11");
}
END_TEST

/* Random lines: mostly in the usual form, then some bytes changed, so that both ways and their border are met. */
static size_t random_line(unsigned *seed, char *out) {
    static const char *const names[] = {"PUB",  "PUB",     "PUB",  "HPUB", "HPUB", "SUB",  "SUB", "UNSUB",
                                        "PING", "CONNECT", "INFO", "+OK",  "-ERR", "PONG", "pub", "hPuB"};
    static const char *const blanks[] = {" ", " ", " ", " ", " ", " ", "\t", "  ", " \t "};
    static const char *const ends[] = {"\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r\r\n", " \r\n"};
    static const char odd[] = " \t\r\n\0\x01.*>0\x80P";
#define RANDOM(n) ((size_t)rand_r(seed) % (n))
    size_t len = (size_t)sprintf(out, "%s", names[RANDOM(16)]);
    size_t count = RANDOM(5);
    for (size_t i = 0; i < count; i++) {
        len += (size_t)sprintf(out + len, "%s", blanks[RANDOM(9)]);
        size_t size = RANDOM(8) == 0 ? RANDOM(70) : 1 + RANDOM(9);
        bool number = RANDOM(2) == 0;
        for (size_t j = 0; j < size; j++)
            out[len++] = (char)((number ? '0' : 'a') + (int)RANDOM(10));
    }
    len += (size_t)sprintf(out + len, "%s", ends[RANDOM(7)]);
    for (size_t i = RANDOM(4); i-- > 1;)
        out[RANDOM(len)] = odd[RANDOM(sizeof odd - 1)];
    return len;
}

START_TEST(any_split_gives_the_same) {
    unsigned seed = (unsigned)time(NULL), first = seed;
    printf("parser_test seed %u\n", first);
    static const struct parse_limits tight = {40, 99999};
    for (int round = 0; round < 1500; round++) {
        char stream[1024], whole[8192], part[8192];
        size_t len = 0;
        while (len < 150)
            len += random_line(&seed, stream + len);
        const struct parse_limits *l = round % 2 == 0 ? &limits : &tight;
        parse_both(view_of(stream, len), l, whole, sizeof whole);
        bool settled = false;
        for (size_t n = 0; n <= len; n++) {
            parse_both(view_of(stream, n), l, part, sizeof part);
            if (!settled && strcmp(part, "more") == 0)
                continue;
            settled = true;
            ck_assert_msg(strcmp(part, whole) == 0, "seed %u round %d, %zu of '%.*s': %s, whole: %s", first, round, n,
                          (int)len, stream, part, whole);
        }
    }
}
END_TEST

/* The short way must say what the general way says. */
START_TEST(short_way_agrees_with_the_general_way) {
    unsigned seed = (unsigned)time(NULL) ^ 0x5eed, first = seed;
    printf("parser_test seed %u\n", first);
    for (int round = 0; round < 30000; round++) {
        char bytes[1024], got[8192], want[8192];
        size_t len = random_line(&seed, bytes);
        struct parse_line line = {0};
        describe(want, sizeof want, parse_any(bytes, len, &limits, &line), &line);
        parse_both(view_of(bytes, len), &limits, got, sizeof got);
        ck_assert_msg(strcmp(got, want) == 0, "seed %u round %d '%.*s': %s, general: %s", first, round, (int)len, bytes,
                      got, want);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("nats/parser");
    TCase *tc = tcase_create("parser");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, lines_that_are_right);
    tcase_add_test(tc, lines_that_are_wrong);
    tcase_add_test(tc, lines_that_are_not_complete);
    tcase_add_test(tc, control_line_bounds_the_argument_part);
    tcase_add_test(tc, blanks_before_the_arguments_are_bounded);
    tcase_add_test(tc, payload_limit_is_inclusive);
    tcase_add_test(tc, any_split_gives_the_same);
    tcase_add_test(tc, short_way_agrees_with_the_general_way);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
