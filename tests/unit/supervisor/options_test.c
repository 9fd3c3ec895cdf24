/* Tests of supervisor/options.c: Go's rules for flags. */
#include "supervisor/options.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct options options;
static char printed[8192]; /* what went to stdout and stderr */

/* Parses a line of words. */
static enum options_verdict parse(const char *line) {
    char copy[512];
    char *argv[64] = {(char[]){"bulkhead"}};
    int argc = 1;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    int kept[2] = {dup(1), dup(2)};
    FILE *file = tmpfile();
    fflush(stdout);
    dup2(fileno(file), 1);
    dup2(fileno(file), 2);
    enum options_verdict verdict = options_parse(&options, argc, argv);
    fflush(stdout);
    dup2(kept[0], 1);
    dup2(kept[1], 2);
    close(kept[0]);
    close(kept[1]);
    rewind(file);
    printed[fread(printed, 1, sizeof printed - 1, file)] = '\0';
    fclose(file);
    return verdict;
}

START_TEST(test_defaults) {
    ck_assert_int_eq(parse(""), OPTIONS_RUN);
    ck_assert_str_eq(options.host, "0.0.0.0");
    ck_assert_int_eq(options.port, 4222);
    ck_assert(!options.debug && !options.trace);
    ck_assert_uint_eq(options.max_payload, 1048576);
    ck_assert_uint_eq(options.max_control_line, 4096);
    ck_assert_uint_eq(options.max_pending, 67108864);
    ck_assert_uint_eq(options.max_connections, 65536);
    ck_assert_uint_eq(options.ping_interval_ms, 120000);
    ck_assert_uint_eq(options.uid_base, 64100);
    ck_assert_uint_eq(options.frontends, 0);
    ck_assert_str_eq(printed, "");
}
END_TEST

START_TEST(test_ports) {
    static const struct {
        const char *line;
        int32_t port;
    } rows[] = {
        {"-p 1", 1},   {"--p 1", 1},  {"-port 1", 1},      {"--port 1", 1}, {"-p=1", 1},      {"--port=1", 1},
        {"-p -1", -1}, {"-p=-1", -1}, {"-p 65535", 65535}, {"-p 0", 4222},  {"-p 1 -p 2", 2}, {"-D -p 7 -V", 7},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_msg(parse(rows[i].line) == OPTIONS_RUN && options.port == rows[i].port, "%s", rows[i].line);
    }
}
END_TEST

START_TEST(test_levels) {
    static const struct {
        const char *line;
        bool debug, trace;
    } rows[] = {
        {"-D", true, false},           {"--debug", true, false}, {"-V", false, true},        {"-trace", false, true},
        {"-DV", true, true},           {"--DV", true, true},     {"-D=false", false, false}, {"-D=1 -V=t", true, true},
        {"-DV -V=false", true, false}, {"-D=TRUE", true, false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_msg(parse(rows[i].line) == OPTIONS_RUN && options.debug == rows[i].debug &&
                          options.trace == rows[i].trace,
                      "%s", rows[i].line);
    }
}
END_TEST

START_TEST(test_values) {
    ck_assert_int_eq(
        parse("-a ::1 --name=n1 -P /tmp/pid --ports_file_dir /tmp --max_payload 100 --max_control_line 512 "
              "--max_pending 5000000000 --max_connections 3 --max_subscriptions 4 --max_sub_tokens 5 "
              "--ping_interval 0.25 --ping_max 6 --write_deadline 2 --frontends 3 --uid_base 70000 "
              "--source_wait_ms 7 --source_share_ms 8 --edge_dead_ms 9 --replay_ms 10 --spill_bytes 11"),
        OPTIONS_RUN);
    ck_assert_str_eq(options.host, "::1");
    ck_assert_str_eq(options.name, "n1");
    ck_assert_str_eq(options.pid_file, "/tmp/pid");
    ck_assert_str_eq(options.ports_file_dir, "/tmp");
    ck_assert_uint_eq(options.max_payload, 100);
    ck_assert_uint_eq(options.max_control_line, 512);
    ck_assert_uint_eq(options.max_pending, 5000000000);
    ck_assert_uint_eq(options.max_connections, 3);
    ck_assert_uint_eq(options.max_subscriptions, 4);
    ck_assert_uint_eq(options.max_sub_tokens, 5);
    ck_assert_uint_eq(options.ping_interval_ms, 250);
    ck_assert_uint_eq(options.ping_max, 6);
    ck_assert_uint_eq(options.write_deadline_ms, 2000);
    ck_assert_uint_eq(options.frontends, 3);
    ck_assert_uint_eq(options.uid_base, 70000);
    ck_assert_uint_eq(options.source_wait_ms, 7);
    ck_assert_uint_eq(options.source_share_ms, 8);
    ck_assert_uint_eq(options.edge_dead_ms, 9);
    ck_assert_uint_eq(options.replay_ms, 10);
    ck_assert_uint_eq(options.spill_bytes, 11);
    ck_assert_int_eq(parse("--net h --server_name s --frontends auto"), OPTIONS_RUN);
    ck_assert_str_eq(options.host, "h");
    ck_assert_str_eq(options.name, "s");
    ck_assert_uint_eq(options.frontends, 0);
}
END_TEST

START_TEST(test_ends) {
    static const struct {
        const char *line;
        enum options_verdict verdict;
        const char *says; /* somewhere in the output */
    } rows[] = {
        {"-v", OPTIONS_EXIT_0, "bulkhead: v" BULKHEAD_VERSION "\n"},
        {"--version", OPTIONS_EXIT_0, "bulkhead: v" BULKHEAD_VERSION "\n"},
        {"version", OPTIONS_EXIT_0, "bulkhead: v" BULKHEAD_VERSION "\n"},
        {"-h", OPTIONS_EXIT_0, "\nUsage: bulkhead [options]"},
        {"--help", OPTIONS_EXIT_0, "\nUsage: bulkhead [options]"},
        {"HELP", OPTIONS_EXIT_0, "\nUsage: bulkhead [options]"},
        {"foo", OPTIONS_EXIT_1, "bulkhead: unrecognized command: \"foo\"\n"},
        {"-D foo -p 1", OPTIONS_EXIT_1, "bulkhead: unrecognized command: \"foo\"\n"},
        {"-bogus", OPTIONS_EXIT_0, "flag provided but not defined: -bogus\n"},
        {"--bogus=1", OPTIONS_EXIT_0, "flag provided but not defined: -bogus\n"},
        {"-VD", OPTIONS_EXIT_0, "flag provided but not defined: -VD\n"},
        {"-p abc", OPTIONS_EXIT_0, "invalid value \"abc\" for flag -p: parse error\n"},
        {"-p=", OPTIONS_EXIT_0, "invalid value \"\" for flag -p: parse error\n"},
        {"-p 65536", OPTIONS_EXIT_0, "invalid value"},
        {"-p -2", OPTIONS_EXIT_0, "invalid value"},
        {"-p", OPTIONS_EXIT_0, "flag needs an argument: -p\n"},
        {"-D=maybe", OPTIONS_EXIT_0, "invalid value"},
        {"--max_payload 0", OPTIONS_EXIT_0, "invalid value"},
        {"--max_payload 67108865", OPTIONS_EXIT_0, "invalid value"},
        {"--ping_interval nan", OPTIONS_EXIT_0, "invalid value"},
        {"--ping_interval -1", OPTIONS_EXIT_0, "invalid value"},
        {"--ping_interval 1e30", OPTIONS_EXIT_0, "invalid value"},
        {"--frontends 65", OPTIONS_EXIT_0, "invalid value"},
        {"-n a\x01", OPTIONS_EXIT_0, "invalid value"},
        {"--", OPTIONS_RUN, ""},
        {"-- -v", OPTIONS_EXIT_1, "unrecognized command: \"-v\""},
        {"-", OPTIONS_EXIT_1, "unrecognized command: \"-\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum options_verdict verdict = parse(rows[i].line);
        ck_assert_msg(verdict == rows[i].verdict && strstr(printed, rows[i].says), "%s: %d, %s", rows[i].line, verdict,
                      printed);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("options");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, test_defaults);
    tcase_add_test(tcase, test_ports);
    tcase_add_test(tcase, test_levels);
    tcase_add_test(tcase, test_values);
    tcase_add_test(tcase, test_ends);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
