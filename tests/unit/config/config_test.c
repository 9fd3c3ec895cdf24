/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of config/config.c, checker.c and start.c: what the checked tree and struct options hold, where credentials
 * are, what a start refuses. Messages of -t are tested by the corpus (tests/system/config_test.py). */
#include "config/config.h"

#include "tests/unit/config/config_testing.h"

static struct config c;

/* A value of the checked tree, printed; "" where there is none. */
static const char *at(const char *path) {
    struct text t = {.arena = &c.arena};
    const struct value *v = config_find(&c, path);
    if (v)
        value_print(&t, v, false);
    text_add_byte(&t, '\0');
    return t.at;
}

START_TEST(checked_tree) {
    static const struct {
        const char *text, *path, *printed;
    } rows[] = {
        {"listen: \"127.0.0.1:4333\"", "host", "\"127.0.0.1\""},
        {"listen: 4333", "port", "4333"},
        {"http: \"127.0.0.1:8222\"", "http_port", "8222"},
        {"http: \"127.0.0.1:8222\"", "http_host", "\"127.0.0.1\""},
        {"PiDfIlE: x", "pid_file", "\"x\""},
        {"max_conn: 5", "max_connections", "5"},
        {"ping_interval: 1m30s", "ping_interval", "90000000000"},
        {"write_deadline: 5", "write_deadline", "5000000000"},
        {"trace_verbose: true", "trace", "true"},
        {"server_tags: x", "server_tags", "[\"x\" ]"},
        {"authorization { username: a, password: b, timeout: 1.5 }", "authorization",
         "{user: \"a\", pass: \"b\", timeout: 1500000000}"},
        {"authorization { users: [ {user: a, password: b, permission { pub: [x, y], sub: { deny: z } }} ] }",
         "authorization.users",
         "[{user: \"a\", pass: \"b\", permissions: {publish: {allow: [\"x\", \"y\" ]}, subscribe: {deny: [\"z\" ]}}} "
         "]"},
        {"authorization { users: [ {user: a, permissions { publish: {}, allow_responses: true }} ] }",
         "authorization.users", "[{user: \"a\", permissions: {allow_responses: {}, publish: {allow: []}}} ]"},
        {"accounts: [A, B]", "accounts", "{A: {}, B: {}}"},
        {"accounts { A { exports: [ {service: a, response: chunk, threshold: 2s}, {service: b, latency: l} ] } }",
         "accounts.A.exports",
         "[{service: \"a\", response_type: \"chunked\", response_threshold: 2000000000}, {service: \"b\", latency: "
         "{subject: "
         "\"l\"}} ]"},
        {"mappings { a: b }", "mappings.a", "[{destination: \"b\", weight: 100} ]"},
        {"resolver: MEM", "resolver", "{type: \"memory\"}"},
        {"resolver: URL(http://x/y/)", "resolver", "{type: \"url\", url: \"http://x/y/\"}"},
        {"jetstream: enabled", "jetstream", "{enabled: true}"},
        {"jetstream { max_mem: \"2K\" }", "jetstream", "{max_memory_store: 2048, enabled: true}"},
        {"ocsp: true", "ocsp", "{mode: \"auto\"}"},
        {"cluster { listen: 6222, routes: [ nats://a:1 ] }", "cluster",
         "{host: \"\", port: 6222, routes: [\"nats://a:1\" ]}"},
        {"leaf { remotes: [ {url: nats://a, local: A, creds: \"$X/c\"} ] }", "leafnodes.remotes",
         "[{urls: [\"nats://a\" ], account: \"A\", credentials: \"/folder/c\"} ]"},
        {"P: {pub: x}\nauthorization { default_permissions: $P }", "authorization.default_permissions",
         "{publish: {allow: [\"x\" ]}}"},
        {"frontends: auto", "frontends", "0"}};
    static const struct pair variables[] = {{"X", "/folder"}, {NULL, NULL}};
    test_variables = variables;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_msg(test_read(&c, rows[i].text) == ERR_OK, "%s: %s", rows[i].text, test_said(&c));
        ck_assert_msg(strcmp(at(rows[i].path), rows[i].printed) == 0, "%s: %s", rows[i].text, at(rows[i].path));
        config_close(&c);
    }
}
END_TEST

START_TEST(scalars) {
    ck_assert_int_eq(
        test_read(&c, "listen: \"h:5\"\nserver_name: n\nmax_payload: 1MB\ndebug: yes\nlogtime: false\n"
                      "lame_duck_duration: 40s\nauthorization { timeout: 3 }\n"
                      "cluster { name: c, listen: \"ch:6\", authorization { user: u, password: p, timeout: 9 } }\n"
                      "sandbox { landlock: off }\nrings { spill: 1mb }\npatience { replay: 2s }\n"),
        ERR_OK);
    const struct options *o = &c.options;
    ck_assert_str_eq(o->host, "h");
    ck_assert_int_eq(o->port, 5);
    ck_assert_str_eq(o->server_name, "n");
    ck_assert_int_eq(o->max_payload, 1048576);
    ck_assert(o->debug && !o->logtime && o->landlock_off && !o->seccomp_off && !o->sandbox_off);
    ck_assert_int_eq(o->lame_duck_duration_ns, INT64_C(40000000000));
    ck_assert_int_eq(o->auth_timeout_ns, INT64_C(3000000000)); /* not the cluster's */
    ck_assert_str_eq(o->cluster_name, "c");
    ck_assert_str_eq(o->cluster_host, "ch");
    ck_assert_int_eq(o->cluster_port, 6);
    ck_assert_int_eq(o->spill_bytes, 1048576);
    ck_assert_int_eq(o->replay_ns, INT64_C(2000000000));
    config_close(&c);
    ck_assert_int_eq(test_read(&c, "sandbox: false"), ERR_OK);
    ck_assert(c.options.sandbox_off);
    config_close(&c);
}
END_TEST

START_TEST(long_texts) {
    char text[400] = "server_name: \"";
    memset(text + strlen(text), 'x', 300);
    strcat(text, "\"\n");
    ck_assert_int_eq(test_read(&c, text), ERR_SYNTAX);
    ck_assert_str_eq(test_said(&c), "t.conf:1:0: server_name is longer than 255 bytes\n");
    config_close(&c);
}
END_TEST

/* Whoever may not see credentials gets none, in whatever option they stand. */
START_TEST(credentials_are_marked) {
    static const char text[] =
        "authorization { user: a, password: SECRET1 }\n"
        "leafnodes { authorization { users: [ {user: b, password: SECRET2} ] }\n"
        "  remotes: [ {url: \"nats-leaf://u:SECRET3@h\"}, {urls: [\"nats-leaf://u:SECRET4@h\"]} ] }\n"
        "cluster { routes: [ \"nats://u:SECRET5@h:1\" ], authorization { user: x, password: SECRET6 } }\n"
        "gateway { name: g, gateways: [ {name: b, url: \"nats://u:SECRET7@h\"}, {name: c, urls: "
        "[\"nats://u:SECRET8@h\"]} ] }\n"
        "websocket { authorization { token: SECRET9 } }\n"
        "jetstream { key: SECRETA }\n"
        "mqtt { authentication { user: m, password: SECRETB } }\n";
    struct text open = {.arena = &c.arena}, closed = {.arena = &c.arena};
    ck_assert_msg(test_read(&c, text) == ERR_OK, "%s", test_said(&c));
    config_print(&c, PART_AUTH, &open);
    config_print(&c, PART_PUBLIC, &closed);
    text_add_byte(&open, '\0');
    text_add_byte(&closed, '\0');
    for (const char *digit = "123456789AB"; *digit; digit++) {
        char word[] = "SECRETx";
        word[6] = *digit;
        ck_assert_msg(strstr(open.at, word) != NULL, "%s", word);
        ck_assert_msg(strstr(closed.at, word) == NULL, "%s: %s", word, closed.at);
        ck_assert_ptr_null(memmem(&c.options, sizeof c.options, word, strlen(word)));
    }
    ck_assert_ptr_nonnull(strstr(closed.at, "[REDACTED]"));
    config_close(&c);
}
END_TEST

/* A component reads its part with the same parser. */
START_TEST(parts_read_back_equal) {
    static const char text[] =
        "port: 4333\naccounts { A { users: [ {user: a, password: \"x\\\"y\\n\"} ] } }\nping_interval: 3s\n";
    struct text t = {.arena = &c.arena}, why = {.arena = &c.arena};
    struct value *again;
    ck_assert_int_eq(test_read(&c, text), ERR_OK);
    config_print(&c, PART_AUTH, &t);
    ck_assert_int_eq(parser_read_text(&again, &c.arena, &test_source, "part", text_view(&t), &why), ERR_OK);
    ck_assert(value_equal(again, c.tree));
    config_close(&c);
}
END_TEST

START_TEST(order_of_messages) {
    ck_assert_int_eq(test_read(&c, "bogus: 1\nping_interval: 5\nport: x\n"), ERR_SYNTAX);
    ck_assert_str_eq(test_said(&c),
                     "t.conf:2:1: invalid use of field \"ping_interval\": ping_interval should be converted to a "
                     "duration\nt.conf:1:0: unknown field \"bogus\"\nt.conf:3:1: interface conversion: "
                     "interface {} is string, not int64\n");
    config_close(&c);
    ck_assert_int_eq(test_read(&c, "ping_interval: 5"), ERR_OK); /* a warning alone */
    ck_assert(config_has_warnings(&c) && !config_has_errors(&c));
    config_close(&c);
    ck_assert_int_eq(test_read(&c, "a: ["), ERR_SYNTAX);
    ck_assert(config_has_errors(&c));
    ck_assert_ptr_null(strchr(test_said(&c), '\n'));
    config_close(&c);
}
END_TEST

START_TEST(what_a_start_refuses) {
    static const struct {
        const char *text, *said; /* the first line; "" for none */
    } rows[] = {
        {"", ""},
        {"max_payload: 1mb\nrings { spill: 1mb }",
         "t.conf:2:9: rings.spill (1048576) must hold a message of max_payload (1048576): 1155104 bytes at least"},
        {"max_payload: 8mb\nmax_pending: 1mb",
         "t.conf:1:0: max_payload (8388608) cannot be higher than max_pending (1048576)"},
        {"lame_duck_duration: 30s\nlame_duck_grace_period: 30s",
         "t.conf:2:1: lame duck grace period (30s) should be strictly lower than lame duck duration (30s)"},
        {"gateway { port: 7222 }", "t.conf:1:0: gateway has no name"},
        {"gateway { name: A }", "t.conf:1:0: gateway \"A\" has no port specified (select -1 for random port)"},
        {"gateway { name: A, port: 1, gateways: [ {url: nats://x} ] }",
         "t.conf:1:55: gateway in the list 0 has no name"},
        {"gateway { name: A, port: 1, gateways: [ {name: B} ] }", "t.conf:1:49: gateway \"B\" has no URL"},
        {"gateway { name: A, port: 1 }\ncluster { name: B }",
         "t.conf:1:0: cluster name conflicts between cluster and gateway definitions"},
        {"leafnodes { remotes: [ {url: nats://x, account: NOPE} ] }",
         "t.conf:1:39: cannot find local account \"NOPE\" specified in leafnode remote"},
        {"leafnodes { port: 1, authorization { user: a, account: NOPE } }",
         "t.conf:1:46: cannot find local account \"NOPE\" specified in leafnode authorization"},
        {"leafnodes { port: 1 }\ngateway { name: A, port: 2 }",
         "t.conf:2:1: leaf nodes and gateways (both being defined) require a system account to also be configured"},
        {"no_auth_user: foo", "t.conf:1:0: no_auth_user: \"foo\" present, but users are not defined"},
        {"no_auth_user: foo\nauthorization { users: [ {user: a, password: b} ] }",
         "t.conf:1:0: no_auth_user: \"foo\" not present as user in authorization block or account configuration"},
        {"no_auth_user: a\n"
         "authorization { users: [ {nkey: UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4} ] }",
         "t.conf:1:0: no_auth_user: \"a\" present, but users are not defined"},
        {"system_account: X", "t.conf:1:0: error resolving system account: account missing"},
        {"websocket { port: 80 }", "t.conf:1:0: websocket requires TLS configuration"},
        {"cluster { port: 6222 }", "t.conf:1:0: option \"cluster\" is not available in this server yet"},
        {"\njetstream: true", "t.conf:2:1: option \"jetstream\" is not available in this server yet"},
        {"mqtt { port: 1883 }", "t.conf:1:0: option \"mqtt\" is not available in this server yet"},
        {"accounts { A { exports: [ {stream: a} ] } }",
         "t.conf:1:15: option \"accounts.A.exports\" is not available in this server yet"},
        {"accounts { A { exports: [] , jetstream: disabled, mappings {} } }", ""},
        {"accounts { A { jetstream: enabled } }",
         "t.conf:1:15: option \"accounts.A.jetstream\" is not available in this server yet"},
        {"accounts { A { maps { a: b } } }",
         "t.conf:1:15: option \"accounts.A.mappings\" is not available in this server yet"},
        {"authorization { users: [ {user: a, password: b} ] }\nno_auth_user: a", ""},
        {"tls { timeout: 3 }", "t.conf:1:0: TLS Server certificate must be present and valid"},
        {"auth_host { url: x }", "t.conf:1:0: option \"auth_host\" is not available in this server yet"},
        {"processes { authd { user: a23456789b23456789c23456789d23456789e23456789f23456789g23456789h } }",
         "t.conf:1:20: user is longer than 63 bytes"},
        {"sandbox { user_ids: off, seccomp: off }", ""},
        {"cluster { name: x }", ""},
        {"jetstream: false", ""},
        {"prof_port: 6060", "t.conf:1:0: invalid use of field \"prof_port\": it has no effect in this server"},
        {"max_payload: 100mb\nmax_pending: 200mb",
         "t.conf:1:0: max_payload (104857600) must lie between 1 and 67108864 in this server"},
        {"ping_interval: \"1us\"",
         "t.conf:1:0: ping_interval (1µs) must lie between 1ms and 2562047h47m16.854775807s in this server"},
        {"port: 70000", "t.conf:1:0: port (70000) must lie between -1 and 65535 in this server"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ck_assert_msg(test_read(&c, rows[i].text) == ERR_OK, "%s: %s", rows[i].text, test_said(&c));
        options_fill(&c.options);
        config_check_start(&c);
        const char *said = test_said(&c);
        size_t len = strcspn(said, "\n");
        ck_assert_msg(len == strlen(rows[i].said) && strncmp(said, rows[i].said, len) == 0, "%s: %s", rows[i].text,
                      said);
        config_close(&c);
    }
}
END_TEST

START_TEST(process_ids) {
    ck_assert_int_eq(
        test_read(&c, "processes { logd { user: a }, frontend { user: 70000, group: \"g\" }, httpd {group: 7} }"),
        ERR_OK);
    options_fill(&c.options);
    ck_assert_int_eq(config_check_start(&c), ERR_OK);
    const struct options *o = &c.options;
    ck_assert_str_eq(options_process(o, "logd")->user, "a");
    ck_assert_str_eq(options_process(o, "logd")->group, "");
    ck_assert_str_eq(options_process(o, "frontend")->user, "70000");
    ck_assert_str_eq(options_process(o, "frontend")->group, "g");
    ck_assert_str_eq(options_process(o, "httpd")->group, "7");
    ck_assert_str_eq(options_process(o, "router")->user, "");
    ck_assert_ptr_null(options_process(o, "user"));
    config_close(&c);
}
END_TEST

static void add(TCase *tc) {
    tcase_add_test(tc, checked_tree);
    tcase_add_test(tc, scalars);
    tcase_add_test(tc, long_texts);
    tcase_add_test(tc, credentials_are_marked);
    tcase_add_test(tc, parts_read_back_equal);
    tcase_add_test(tc, order_of_messages);
    tcase_add_test(tc, what_a_start_refuses);
    tcase_add_test(tc, process_ids);
}

int main(void) {
    return test_run("config/config", add);
}
