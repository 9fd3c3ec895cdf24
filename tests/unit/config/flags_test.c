/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of config/flags.c: Go's rules, what beats what, and what is printed. */
#include "config/flags.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/config/config_testing.h"

static struct flags flags;
static struct config c;
static char printed[65536];
static char line_copy[512];

/* Reads a line of words; '~' stands for a blank within one, a lone '~' for an empty word. */
static enum flags_verdict read_line(const char *line) {
    static char *argv[64];
    int argc = 1;
    argv[0] = (char[]){"bulkhead"};
    snprintf(line_copy, sizeof line_copy, "%s", line);
    for (char *word = strtok(line_copy, " "); word; word = strtok(NULL, " ")) {
        for (char *p = word; *p; p++)
            *p = *p == '~' ? ' ' : *p;
        argv[argc++] = strcmp(word, " ") == 0 ? word + 1 : word;
    }
    int kept[2] = {dup(1), dup(2)};
    FILE *file = tmpfile();
    fflush(stdout);
    dup2(fileno(file), 1);
    dup2(fileno(file), 2);
    enum flags_verdict verdict = flags_read(&flags, argc, argv);
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

START_TEST(verdicts) {
    static const struct {
        const char *line;
        enum flags_verdict verdict;
        const char *says; /* in what is printed; NULL: nothing is */
    } rows[] = {
        {"", FLAGS_RUN, NULL},
        {"-p 4333", FLAGS_RUN, NULL},
        {"--p=4333 -D --trace=false", FLAGS_RUN, NULL},
        {"-p abc", FLAGS_EXIT_0, "invalid value \"abc\" for flag -p: parse error\n"},
        {"-p 99999999999999999999", FLAGS_EXIT_0,
         "invalid value \"99999999999999999999\" for flag -p: value out of range\n"},
        {"-D=x", FLAGS_EXIT_0, "invalid boolean value \"x\" for -D: parse error\n"},
        {"-bogus", FLAGS_EXIT_0, "flag provided but not defined: -bogus\n"},
        {"-bogus", FLAGS_EXIT_0, "\nUsage: bulkhead [options]\n"},
        {"---p 1", FLAGS_EXIT_0, "bad flag syntax: ---p\n"},
        {"-=p 1", FLAGS_EXIT_0, "bad flag syntax: -=p\n"},
        {"-p", FLAGS_EXIT_0, "flag needs an argument: -p\n"},
        {"-v", FLAGS_EXIT_0, "bulkhead: v"},
        {"VERSION", FLAGS_EXIT_0, "bulkhead: v"},
        {"-h", FLAGS_EXIT_0, "--port"},
        {"help", FLAGS_EXIT_0, "Usage"},
        {"--help_tls", FLAGS_EXIT_0, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"},
        {"-D foo -p x", FLAGS_EXIT_1, "bulkhead: unrecognized command: \"foo\"\n"},
        {"-D true", FLAGS_EXIT_1, "unrecognized command: \"true\""},
        {"-- -p", FLAGS_EXIT_1, "unrecognized command: \"-p\""},
        {"-t", FLAGS_EXIT_1, "bulkhead: must specify [-c, --config] option to check configuration file syntax\n"},
        {"-t -c x", FLAGS_TEST, NULL},
        {"-t=false -c x", FLAGS_RUN, NULL},
        {"--signal reload=1", FLAGS_SIGNAL, NULL},
        {"-sl reload=1=2", FLAGS_EXIT_1, "bulkhead: invalid signal parameters: [2]\n"},
        {"-profile 6060", FLAGS_RUN, NULL},
        {"-p 0x10", FLAGS_RUN, NULL},
        {"-p 1_000", FLAGS_RUN, NULL},
        {"-p 1__0", FLAGS_EXIT_0, "parse error"},
        {"-p +5", FLAGS_RUN, NULL},
        {"-p ~5", FLAGS_EXIT_0, "parse error"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum flags_verdict verdict = read_line(rows[i].line);
        ck_assert_msg(verdict == rows[i].verdict, "%s: %d\n%s", rows[i].line, verdict, printed);
        ck_assert_msg(rows[i].says ? strstr(printed, rows[i].says) != NULL : !*printed, "%s: %s", rows[i].line,
                      printed);
    }
}
END_TEST

/* Applies a line over a file; what is wrong, or "". */
static const char *load(const char *line, const char *file) {
    struct text why = {.arena = &c.arena};
    ck_assert_msg(read_line(line) == FLAGS_RUN, "%s: %s", line, printed);
    ck_assert_msg(test_read(&c, file) == ERR_OK, "%s: %s", file, test_said(&c));
    flags_apply(&flags, &c, &why);
    text_add_byte(&why, '\0');
    return why.at;
}

static const char *tree(const char *path) {
    struct text t = {.arena = &c.arena};
    const struct value *v = config_find(&c, path);
    if (v)
        value_print(&t, v, false);
    text_add_byte(&t, '\0');
    return t.at;
}

START_TEST(numbers_and_texts) {
    ck_assert_str_eq(
        load("-p 0x10 -a h -n name --ping_interval 1.5 -max_payload 4096 --source_wait_ms 30 -frontends auto "
             "--write_deadline 3s -auth_timeout 4 -T=false -log_size_limit 100 -m -1",
             ""),
        "");
    const struct options *o = &c.options;
    ck_assert_int_eq(o->port, 16);
    ck_assert_str_eq(o->host, "h");
    ck_assert_str_eq(o->server_name, "name");
    ck_assert_int_eq(o->ping_interval_ns, 1500000000);
    ck_assert_int_eq(o->write_deadline_ns, INT64_C(3000000000));
    ck_assert_int_eq(o->auth_timeout_ns, INT64_C(4000000000));
    ck_assert_int_eq(o->source_wait_ns, 30000000);
    ck_assert_int_eq(o->max_payload, 4096);
    ck_assert_int_eq(o->max_pending, 67108864); /* a default */
    ck_assert_int_eq(o->http_port, -1);
    ck_assert(!o->logtime);
    ck_assert_str_eq(tree("authorization"), "");
    config_close(&c);
}
END_TEST

START_TEST(flags_beat_the_file) {
    ck_assert_str_eq(load("-D=false -p 5 --user u --pass p", "debug: true\ntrace: true\nport: 4\nhost: x\n"
                                                             "authorization { user: a, password: b }"),
                     "");
    ck_assert(!c.options.debug && c.options.trace);
    ck_assert_int_eq(c.options.port, 5);
    ck_assert_str_eq(c.options.host, "x");
    ck_assert_str_eq(tree("authorization"), "{user: \"u\", pass: \"p\"}");
    ck_assert(config_find(&c, "authorization.pass")->secret && !config_find(&c, "authorization.user")->secret);
    config_close(&c);
    ck_assert_str_eq(load("-DVV", ""), "");
    ck_assert(c.options.debug && c.options.trace && c.options.trace_verbose);
    config_close(&c);
    ck_assert_str_eq(load("-DV=false", "debug: true\ntrace: true"), "");
    ck_assert(!c.options.debug && !c.options.trace);
    config_close(&c);
}
END_TEST

/* A flag beats whatever the file says, also when it is read anew. */
START_TEST(flags_stay) {
    ck_assert_str_eq(load("", "tls { timeout: 3 }"), "");
    ck_assert_int_eq(c.options.auth_timeout_ns, INT64_C(4000000000));
    config_close(&c);
    ck_assert_str_eq(load("-n x", "server_name: a"), "");
    ck_assert_str_eq(c.options.server_name, "x");
    config_close(&c);
    ck_assert_str_eq(load("-n x", "server_name: b"), "");
    ck_assert_str_eq(c.options.server_name, "x");
    config_close(&c);
}
END_TEST

START_TEST(clusters) {
    static const struct {
        const char *line, *file, *path, *printed;
    } rows[] = {{"--cluster nats://u:p@h:6222", "", "cluster",
                 "{host: \"h\", port: 6222, authorization: {user: \"u\", pass: \"p\"}}"},
                {"--cluster nats://h:-1", "cluster { name: x, authorization { user: a, password: b, timeout: 3 } }",
                 "cluster", "{name: \"x\", authorization: {timeout: 3000000000}, host: \"h\", port: -1}"},
                {"-cluster ~", "cluster { port: 5 }", "cluster.port", "0"},
                {"--cluster nats://h:1 --routes nats://a:1,~nats://b:2", "", "cluster.routes",
                 "[\"nats://a:1\", \"nats://b:2\" ]"},
                {"--routes ~", "cluster { port: 5, routes: [ nats://a:1 ] }", "cluster.routes", "[]"},
                {"--tls=false", "tls { timeout: 5 }", "tls", ""},
                {"--tlscert a --tlskey a --tlsverify", "tls { timeout: 5 }", "tls",
                 "{cert_file: \"a\", key_file: \"a\", verify: true}"},
                {"-js", "", "jetstream", "{enabled: true}"}};
    static struct pair files[] = {
        {"t.conf", ""}, {"a", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"}, {NULL, NULL}};
    test_files = files;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        files[0].text = rows[i].file;
        const char *why = load(rows[i].line, rows[i].file);
        ck_assert_msg(!*why, "%s: %s", rows[i].line, why);
        ck_assert_msg(strcmp(tree(rows[i].path), rows[i].printed) == 0, "%s: %s", rows[i].line, tree(rows[i].path));
        config_close(&c);
    }
    test_files = NULL;
}
END_TEST

START_TEST(what_goes_wrong) {
    static const struct pair rows[] = {
        {"--cluster nats://u@h:6222", "expected cluster password to be set"},
        {"--routes nats://a:1", "solicited routes require cluster capabilities, e.g. --cluster"},
        {"--tls", "TLS Server certificate must be present and valid"},
        {"--tlscert x", "TLS Server private key must be present and valid"},
        {"--tlscert x --tlskey y", "error parsing X509 certificate/key pair: open x: no such file or directory"},
        {"--cluster nats://h", "address h: missing port in address"},
        {"--cluster h:1", "missing port in address"},
        {"--cluster nats://u:p@h:x", "parse \"nats://u:xxxxx@h:x\": no address of a cluster"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *why = load(rows[i].name, "");
        ck_assert_msg(strcmp(why, rows[i].text) == 0, "%s: %s", rows[i].name, why);
        config_close(&c);
    }
}
END_TEST

/* Where they lie: /proc shows that memory. */
START_TEST(credentials_are_wiped) {
    char words[][40] = {"bulkhead", "--user", "alice",    "--pass=secret", "-p", "5", "--auth", "token", "--auth=",
                        "-c",       "x",      "--routes", "nats://u:p@h:1"};
    static const char *const left[] = {"bulkhead", "--user",  "x",  "--pass=x", "-p",       "5", "--auth",
                                       "x",        "--auth=", "-c", "x",        "--routes", "x"};
    enum { COUNT = sizeof words / sizeof *words };
    char *argv[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        argv[i] = words[i];
    ck_assert_int_eq(flags_read(&flags, COUNT, argv), FLAGS_RUN);
    flags_wipe(&flags);
    for (size_t i = 0; i < COUNT; i++)
        ck_assert_str_eq(words[i], left[i]);
    for (const char *secret = "alice\0secret\0token\0nats\0"; *secret; secret += strlen(secret) + 1)
        ck_assert_ptr_null(memmem(words, sizeof words, secret + 1, strlen(secret) - 1));
}
END_TEST

START_TEST(loading) {
    static const struct pair files[] = {
        {"good", "port: 5\nping_interval: 3"}, {"bad", "bogus: 1"}, {"later", "mqtt { port: 1 }"}, {NULL, NULL}};
    static const struct {
        const char *line;
        enum err e;
        const char *message;
    } rows[] = {{"-c good", ERR_OK,
                 "good:2:1: invalid use of field \"ping_interval\": ping_interval should be converted to a duration\n"},
                {"-c bad", ERR_SYNTAX, "bad:1:0: unknown field \"bogus\"\n"},
                {"-c none", ERR_SYSTEM, "open none: no such file or directory"},
                {"-c later", ERR_SYNTAX, "later:1:0: option \"mqtt\" is not available in this server yet\n"},
                {"--user a --pass b", ERR_OK, ""},
                {"-p 5", ERR_OK, ""}};
    test_files = files;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        config_open(&c, &test_source);
        struct text message = {.arena = &c.arena};
        ck_assert_int_eq(read_line(rows[i].line), FLAGS_RUN);
        enum err e = flags_load(&flags, &c, &message);
        text_add_byte(&message, '\0');
        ck_assert_msg(e == rows[i].e && strcmp(message.at, rows[i].message) == 0, "%s: %s", rows[i].line, message.at);
        config_close(&c);
    }
    test_files = NULL;
}
END_TEST

static void add(TCase *tc) {
    tcase_add_test(tc, credentials_are_wiped);
    tcase_add_test(tc, verdicts);
    tcase_add_test(tc, numbers_and_texts);
    tcase_add_test(tc, flags_beat_the_file);
    tcase_add_test(tc, flags_stay);
    tcase_add_test(tc, clusters);
    tcase_add_test(tc, what_goes_wrong);
    tcase_add_test(tc, loading);
}

int main(void) {
    return test_run("config/flags", add);
}
