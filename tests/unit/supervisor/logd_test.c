/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of supervisor/logd.c: nothing in a log pipe can forge a line or move a terminal's cursor. */
#include "supervisor/logd.h"

#include <check.h>
#include <string.h>

#include "tests/unit/unit.h"

#define TIME "2021/03/04 05:06:07.000008"
static const struct logd_style plain;
static const struct logd_origin self = {.pid = 42};

static const struct {
    const char *name;
    const char *line;
    size_t len;
    const char *out;
} rows[] = {
#define ROW(name, line, out)                                                                                           \
    { name, line, sizeof(line) - 1, "[42] " TIME " " out "\n" }
    ROW("info", "Ihello", "[INF] hello"),
    ROW("debug", "Dhello", "[DBG] hello"),
    ROW("warning", "Whello", "[WRN] hello"),
    ROW("error", "Ehello", "[ERR] hello"),
    ROW("fatal", "Fhello", "[FTL] hello"),
    ROW("trace", "Thello", "[TRC] hello"),
    ROW("no level", "==1==ERROR: AddressSanitizer", "[ERR] ==1==ERROR: AddressSanitizer"),
    ROW("empty", "", "[ERR] "),
    ROW("only a level", "I", "[INF] "),
    ROW("indented", "I  Version:  1", "[INF]   Version:  1"),
    ROW("carriage return", "Ia\rb", "[INF] a\\x0db"),
    ROW("escape", "I\x1b[31m", "[INF] \\x1b[31m"),
    ROW("NUL and DEL", "Ia\0b\x7f", "[INF] a\\x00b\\x7f"),
    ROW("tab", "Ia\tb", "[INF] a\\x09b"),
    ROW("UTF-8", "Igr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80",
        "[INF] gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x98\x80"),
    ROW("lone bytes", "I\x80 \xff \xc3", "[INF] \\x80 \\xff \\xc3"),
    ROW("overlong", "I\xc0\xaf \xe0\x80\xaf \xf0\x80\x80\xaf", "[INF] \\xc0\\xaf \\xe0\\x80\\xaf \\xf0\\x80\\x80\\xaf"),
    ROW("surrogate", "I\xed\xa0\x80", "[INF] \\xed\\xa0\\x80"),
    ROW("too large", "I\xf4\x90\x80\x80", "[INF] \\xf4\\x90\\x80\\x80"),
    ROW("C1 control",
        "I\xc2\x9b"
        "31m",
        "[INF] \\xc2\\x9b31m"),
    ROW("cut at the end", "I\xe2\x82", "[INF] \\xe2\\x82"),
};

static struct timespec moment(void) {
    struct tm tm = {.tm_year = 121, .tm_mon = 2, .tm_mday = 4, .tm_hour = 5, .tm_min = 6, .tm_sec = 7, .tm_isdst = -1};
    return (struct timespec){mktime(&tm), 8999};
}

START_TEST(test_format) {
    char out[LOGD_OUT_MAX];
    struct timespec time = moment();
    size_t n = logd_format(out, &plain, &self, &time, rows[_i].line, rows[_i].len);
    ck_assert_msg(n == strlen(rows[_i].out) && memcmp(out, rows[_i].out, n) == 0, "%s: %.*s", rows[_i].name, (int)n,
                  out);
}
END_TEST

/* A process writes under its own number and name; a frontend's lines about clients go without the name. */
START_TEST(test_origin) {
    static const struct {
        const char *name, *line, *out;
        bool clients;
    } from[] = {
        {"router 1", "Ihello", "router 1: hello", false},
        {"frontend 3", "IReloaded server configuration", "frontend 3: Reloaded server configuration", true},
        {"frontend 3", "E127.0.0.1:4711 - cid:12 - no", "127.0.0.1:4711 - cid:12 - no", true},
        {"frontend 3", "E[fe80::1]:4711 - cid:12 - no", "[fe80::1]:4711 - cid:12 - no", true},
        {"frontend 3", "E127.0.0.1:4711 - cid: - no", "frontend 3: 127.0.0.1:4711 - cid: - no", true},
        {"frontend 3", "E127.0.0.1 4711 - cid:12", "frontend 3: 127.0.0.1 4711 - cid:12", true},
        {"frontend 3", "E - cid:1", "frontend 3:  - cid:1", true},
        {"frontend 3", "Ex - cid:", "frontend 3: x - cid:", true},
        {"authd", "E127.0.0.1:4711 - cid:12 - no", "authd: 127.0.0.1:4711 - cid:12 - no", false},
    };
    char out[LOGD_OUT_MAX];
    struct timespec time = moment();
    struct logd_style timeless = {.timeless = true};
    for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
        struct logd_origin origin = {.pid = 7, .clients = from[i].clients};
        strcpy(origin.name, from[i].name);
        size_t n = logd_format(out, &timeless, &origin, &time, from[i].line, strlen(from[i].line));
        const char *text = memchr(out, ']', n);
        ck_assert_mem_eq(out, "[7]", 3);
        text = memchr(text + 1, ']', n);
        ck_assert_msg(memcmp(text + 2, from[i].out, strlen(from[i].out)) == 0, "%s: %.*s", from[i].line, (int)n, out);
    }
}
END_TEST

/* ---- how much ---- */

START_TEST(test_rate) {
    struct logd_rate rate = {0};
    uint64_t now = 1000000, bytes = 0;
    for (; logd_rate_admit(&rate, now, 100); bytes += 100 + LOGD_LINE_COST)
        ;
    ck_assert_uint_le(bytes, LOGD_BURST);
    ck_assert_uint_gt(bytes + 2 * (100 + LOGD_LINE_COST), LOGD_BURST);
    for (int i = 0; i < 9; i++)
        ck_assert(!logd_rate_admit(&rate, now, 100));
    ck_assert_uint_eq(logd_rate_lost(&rate, now), 10);
    ck_assert(!logd_rate_admit(&rate, now, 100));
    ck_assert_uint_eq(logd_rate_lost(&rate, now + LOGD_TELL_MS - 1), 0);
    ck_assert_uint_eq(logd_rate_lost(&rate, now + LOGD_TELL_MS), 1);
    ck_assert_uint_eq(logd_rate_lost(&rate, now + 5 * LOGD_TELL_MS), 0);
    bytes = 0;
    for (now++; now <= 1010000; now++) { /* ten seconds */
        while (logd_rate_admit(&rate, now, 100))
            bytes += 100 + LOGD_LINE_COST;
    }
    ck_assert_uint_le(bytes, 10 * LOGD_A_SECOND + 200);
    ck_assert_uint_gt(bytes, 9 * LOGD_A_SECOND);
    ck_assert(logd_rate_admit(&rate, now + 1000 * (LOGD_BURST / LOGD_A_SECOND), LOGD_BURST - LOGD_LINE_COST));
    ck_assert(!logd_rate_admit(&rate, now + 1000 * (LOGD_BURST / LOGD_A_SECOND), 0));
}
END_TEST

START_TEST(test_colour) {
    char out[LOGD_OUT_MAX];
    struct timespec time = moment();
    struct logd_style style = {.colour = true};
    size_t n = logd_format(out, &style, &self, &time, "Wx", 2);
    const char *expected = "[42] " TIME " [\x1b[0;93mWRN\x1b[0m] x\n";
    ck_assert_uint_eq(n, strlen(expected));
    ck_assert_mem_eq(out, expected, n);
}
END_TEST

START_TEST(test_without_time) {
    char out[LOGD_OUT_MAX];
    struct timespec time = moment();
    struct logd_style style = {.timeless = true};
    size_t n = logd_format(out, &style, &self, &time, "Ix", 2);
    ck_assert_mem_eq(out, "[42] [INF] x\n", n);
}
END_TEST

START_TEST(test_utc) {
    char out[LOGD_OUT_MAX];
    struct timespec time = {.tv_sec = 0, .tv_nsec = 1000};
    struct logd_style style = {.utc = true};
    size_t n = logd_format(out, &style, &self, &time, "Ix", 2);
    ck_assert_mem_eq(out, "[42] 1970/01/01 00:00:00.000001 [INF] x\n", n);
}
END_TEST

START_TEST(test_syslog) {
    static const struct {
        const char *line, *expected;
    } severities[] = {{"Ix", "<29>"}, {"Wx", "<28>"}, {"Ex", "<27>"}, {"Fx", "<26>"}, {"Dx", "<31>"}, {"Tx", "<29>"}};
    char out[LOGD_OUT_MAX + 1];
    struct timespec time = moment();
    struct logd_style style = {.tag = "tag", .host = "host"};
    for (size_t i = 0; i < sizeof severities / sizeof *severities; i++) {
        logd_format_syslog(out, &style, &self, &time, LOGD_SYSLOG_LOCAL, severities[i].line, 2);
        ck_assert_mem_eq(out, severities[i].expected, 4);
    }
    size_t n = logd_format_syslog(out, &style, &self, &time, LOGD_SYSLOG_LOCAL, "Ix\r", 3);
    ck_assert_mem_eq(out, "<29>Mar  4 05:06:07 tag[42]: x\\x0d\n", n);
    n = logd_format_syslog(out, &style, &self, &time, LOGD_SYSLOG_REMOTE, "Ix", 2);
    out[n] = '\0';
    ck_assert_ptr_eq(strstr(out, "<29>2021-03-04T05:06:07"), out);
    ck_assert_ptr_nonnull(strstr(out, " host tag[42]: x\n"));
}
END_TEST

START_TEST(test_longest) {
    static char line[LOGD_LINE_MAX + 100], out[LOGD_OUT_MAX];
    memset(line, 0x01, sizeof line);
    line[0] = 'I';
    struct timespec time = moment();
    struct logd_style style = {.colour = true};
    struct logd_origin long_name = {.pid = INT32_MAX, .name = "a name of thirty-one characters"};
    size_t n = logd_format(out, &style, &long_name, &time, line, sizeof line);
    ck_assert_uint_le(n, LOGD_OUT_MAX);
    ck_assert_int_eq(out[n - 1], '\n');
}
END_TEST

/* ---- lines ---- */

static char collected[1 << 16];
static size_t collected_len;

static void collect(void *owner, const char *line, size_t len) {
    (void)owner;
    memcpy(collected + collected_len, line, len);
    collected_len += len;
    collected[collected_len++] = '|';
}

START_TEST(test_split) {
    static const char bytes[] = "Ione\nItwo\n\nIthree";
    for (size_t step = 1; step < sizeof bytes; step++) {
        struct logd_source source = {0};
        collected_len = 0;
        for (size_t at = 0; at < sizeof bytes - 1; at += step) {
            size_t left = sizeof bytes - 1 - at;
            logd_take(&source, bytes + at, left < step ? left : step, collect, NULL);
        }
        ck_assert_uint_eq(collected_len, strlen("Ione|Itwo||"));
        logd_end(&source, collect, NULL);
        ck_assert_mem_eq(collected, "Ione|Itwo||Ithree|", collected_len);
        logd_end(&source, collect, NULL);
        ck_assert_uint_eq(collected_len, strlen("Ione|Itwo||Ithree|"));
    }
}
END_TEST

START_TEST(test_long_line) {
    static char bytes[3 * LOGD_LINE_MAX];
    memset(bytes, 'x', sizeof bytes);
    struct logd_source source = {0};
    collected_len = 0;
    logd_take(&source, bytes, sizeof bytes, collect, NULL);
    logd_take(&source, "more\nInext\n", 11, collect, NULL);
    ck_assert_uint_eq(collected_len, LOGD_LINE_MAX + 1 + 6);
    ck_assert_mem_eq(collected + LOGD_LINE_MAX, "|Inext|", 7);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("logd");
    TCase *tcase = tcase_create("all");
    tcase_add_loop_test(tcase, test_format, 0, sizeof rows / sizeof *rows);
    tcase_add_test(tcase, test_origin);
    tcase_add_test(tcase, test_rate);
    tcase_add_test(tcase, test_colour);
    tcase_add_test(tcase, test_without_time);
    tcase_add_test(tcase, test_utc);
    tcase_add_test(tcase, test_syslog);
    tcase_add_test(tcase, test_longest);
    tcase_add_test(tcase, test_split);
    tcase_add_test(tcase, test_long_line);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
