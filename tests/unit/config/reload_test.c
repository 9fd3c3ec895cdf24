/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of config/reload.c: what has changed, what may. */
#include "config/reload.h"

#include "tests/unit/config/config_testing.h"

static const uint8_t key[RELOAD_KEY_BYTES] = {1, 2, 3};

static const char *certificates = "";

static void keep(struct reload_state *state, const char *text) {
    struct config c;
    ck_assert_msg(test_read(&c, text) == ERR_OK, "%s: %s", text, test_said(&c));
    options_fill(&c.options);
    reload_keep(state, &c, view_text(certificates), key);
    config_close(&c);
}

/* Lines joined with '|', or the message. */
static const char *compare(const char *old_text, const char *new_text) {
    static struct reload_state old, new;
    static struct arena arena;
    struct reload_changes changes = {0};
    struct text why = {.arena = &arena}, lines = {.arena = &arena};
    keep(&old, old_text);
    keep(&new, new_text);
    if (reload_compare(&old, &new, &arena, &changes, &why) != ERR_OK) {
        text_add_byte(&why, '\0');
        return why.at;
    }
    for (size_t i = 0; i < changes.count; i++)
        text_add_format(&lines, i ? "|%v" : "%v", changes.at[i].line);
    text_add_byte(&lines, '\0');
    return lines.at;
}

START_TEST(changes) {
    static const struct {
        const char *old, *new, *said;
    } rows[] = {
        {"", "", ""},
        {"port: 4222", "", ""},
        {"", "max_payload: 1mb", ""},
        {"", "debug: true", "Reloaded: debug = true"},
        {"", "max_payload: 2048\nmax_control_line: 2048",
         "Reloaded: max_control_line = 2048|Reloaded: max_payload = 2048"},
        {"", "ping_interval: \"30s\"\nping_max: 3", "Reloaded: ping_interval = 30s|Reloaded: ping_max = 3"},
        {"", "client_advertise: \"x:1\"", "Reload: client_advertise = x:1"},
        {"", "log_file: /x", "Reloaded: log_file = /x"},
        {"server_tags: a", "server_tags: [a]", ""},
        {"server_tags: a", "server_tags: b", "Reloaded: tags"},
        {"authorization { user: a, password: b }", "authorization { user: a, password: c }",
         "Reloaded: authorization password"},
        {"authorization { token: b }", "authorization { users: [ {user: a, password: c} ] }",
         "Reloaded: authorization token|Reloaded: authorization users"},
        {"", "authorization { timeout: 9 }", "Reloaded: authorization timeout = 9"},
        {"accounts { A { users: [ {user: a, password: b} ] } }", "accounts { A { users: [ {password: b, user: a} ] } }",
         "Reloaded: accounts"},
        {"accounts [A]", "accounts { A {} }", ""},
        {"", "tls { timeout: 3 }", "Reloaded: tls = enabled|Reloaded: tls timeout = 3"},
        {"tls { timeout: 3 }", "", "Reloaded: tls = disabled|Reloaded: tls timeout = 0"},
        {"cluster { port: 1, no_advertise: true }", "cluster { port: 1 }", "Reloaded: cluster"},
        {"cluster { port: 1, routes: [nats://a:1] }", "cluster { port: 1, routes: [nats://b:1] }",
         "Reloaded: cluster routes"},
        {"", "memory { connection: 1mb, router: 2gb }",
         "Reloaded: memory connection = 1048576|Reloaded: memory router = 2147483648"},
        {"logins { penalty: \"1s\" }", "logins { penalty: \"2s\" }", "Reloaded: penalty"},
        {"resolver: MEM", "resolver: URL(http://x/)", "Reloaded: accounts"},
        {"no_auth_user: a", "", "Reloaded: no_auth_user = "},
        {"system_account: \"$SYS\"", "", "Reloaded: system_account = "},
        {"gateway { name: a, port: 1, gateways: [ {name: b, url: nats://x, tls { timeout: 1 }} ], tls { timeout: 1 } }",
         "gateway { name: a, port: 1, gateways: [ {name: b, url: nats://x, tls { timeout: 2 }} ], tls { timeout: 1 } }",
         ""},
        {"gateway { name: a, port: 1, tls { timeout: 1 } }", "gateway { name: a, port: 1, tls { timeout: 2 } }",
         "Reloaded: tls"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *said = compare(rows[i].old, rows[i].new);
        ck_assert_msg(strcmp(said, rows[i].said) == 0, "%s -> %s: %s", rows[i].old, rows[i].new, said);
    }
}
END_TEST

START_TEST(refusals) {
    static const struct {
        const char *old, *new, *said;
    } rows[] = {
        {"", "port: 5", "config reload not supported for Port: old=4222, new=5"},
        {"host: a", "host: b", "config reload not supported for Host: old=a, new=b"},
        {"server_name: a", "server_name: b", "config reload not supported for ServerName: old=a, new=b"},
        {"", "max_subs: 5", "config reload not supported for MaxSubs: old=0, new=5"},
        {"", "max_pending: 5", "config reload not supported for MaxPending: old=67108864, new=5"},
        {"", "lame_duck_duration: 40s", "config reload not supported for LameDuckDuration: old=2m0s, new=40s"},
        {"http: 8222", "http: 8223", "config reload not supported for HTTPPort: old=8222, new=8223"},
        {"http: \"a:1\"", "http: \"b:1\"", "config reload not supported for HTTPHost: old=a, new=b"},
        {"", "http_base_path: x", "config reload not supported for HTTPBasePath: old=, new=x"},
        {"", "no_header_support: true", "config reload not supported for NoHeaderSupport: old=false, new=true"},
        {"", "no_auth_user: a", "config reload not supported for NoAuthUser: old=, new=a"},
        {"system_account: A", "", "config reload not supported for SystemAccount: old=A, new="},
        {"resolver: MEM", "", "config reload does not support moving to or from an account resolver"},
        {"cluster { port: 1 }", "cluster { port: 1, host: \"127.0.0.1\" }",
         "config reload not supported for cluster host: old=0.0.0.0, new=127.0.0.1"},
        {"cluster { port: 1 }", "cluster { port: 2 }", "config reload not supported for cluster port: old=1, new=2"},
        {"leafnodes { port: 1 }", "leafnodes { port: 2 }", "config reload not supported for LeafNode: old=1, new=2"},
        {"leafnodes { authorization { user: a, password: SECRETA } }",
         "leafnodes { authorization { user: a, password: SECRETB } }",
         "config reload not supported for LeafNode: old={...}, new={...}"},
        {"gateway { name: a, port: 1 }", "gateway { name: a, port: 1, gateways: [ {name: b, url: nats://x} ] }",
         "config reload not supported for Gateway: old={...}, new={...}"},
        {"", "debug: true\nport: 5", "config reload not supported for Port: old=4222, new=5"},
        {"", "rings { spill: 1mb }", "config reload not supported for Rings: old=67108864, new=1048576"},
        {"", "sandbox: false", "config reload not supported for Sandbox: old=true, new=false"},
        {"", "frontends: 3", "config reload not supported for Frontends: old=0, new=3"},
        {"", "processes { authd { user: nats } }", "config reload not supported for Processes: old={...}, new={...}"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *said = compare(rows[i].old, rows[i].new);
        ck_assert_msg(strcmp(said, rows[i].said) == 0, "%s -> %s: %s", rows[i].old, rows[i].new, said);
    }
}
END_TEST

/* What the supervisor keeps says nothing about a password. */
START_TEST(states_hold_no_credential) {
    static struct reload_state state;
    keep(&state,
         "authorization { user: a, password: SECRET }\ncluster { port: 1, routes: [ \"nats://u:SECRET@h:1\" ] }");
    ck_assert_ptr_null(memmem(&state, sizeof state, "SECRET", 6));
}
END_TEST

static void add(TCase *tc) {
    tcase_add_test(tc, changes);
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, states_hold_no_credential);
}

int main(void) {
    return test_run("config/reload", add);
}
