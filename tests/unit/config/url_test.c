/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of config/url.c and config/mapping.c. */
#include "config/url.h"

#include "config/mapping.h"
#include "tests/unit/config/config_testing.h"

static struct arena arena;

static bool is(struct view v, const char *text) {
    return view_equal(v, view_text(text));
}

/* Verdicts of Go's url.Parse. */
START_TEST(urls) {
    static const struct {
        const char *text;
        bool good;
    } rows[] = {{"nats://h:4222", true},
                {"nats://u:p@h:4222", true},
                {"nats://[::1]:4222", true},
                {"nats://h:", true},
                {"nats://h", true},
                {"", true},
                {"localhost:4222", true},
                {"h", true},
                {"/path", true},
                {"nats-route://h:1/x?y#z", true},
                {"nats://ü:1", true},
                {"nats://h/a%20b", true},
                {"127.0.0.1:4222", false},
                {"nats://h:abc", false},
                {"nats://h:-1", false},
                {"://h", false},
                {":foo", false},
                {"nats://[::1", false},
                {"nats://a b", false},
                {"nats://h/%zz", false},
                {"nats://u p@h", false},
                {"nats://h\x01", false},
                {"my_host:1", false},
                {"nats://[::1]x", false},
                {"nats://h%41", false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct url u;
        ck_assert_msg(url_parse(&u, view_text(rows[i].text)) == rows[i].good, "%s", rows[i].text);
    }
    struct url u;
    ck_assert(url_parse(&u, VIEW("nats://us:pa:ss@h:1/x")));
    ck_assert(is(u.scheme, "nats") && is(u.user, "us") && is(u.password, "pa:ss") && is(u.host, "h:1"));
    ck_assert(url_parse(&u, VIEW("nats://us@h")) && u.has_user && !u.has_password);
}
END_TEST

START_TEST(redaction) {
    static const struct pair rows[] = {{"nats://u:p@h:1", "nats://u:xxxxx@h:1"},
                                       {"nats://u@h:1", "nats://u@h:1"},
                                       {"nats://h:1", "nats://h:1"},
                                       {"nats://u:p@h:abc", "nats://u:xxxxx@h:abc"},
                                       {"nats://u:p w@h", "nats://u:xxxxx@h"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text t = {.arena = &arena};
        text_add_url(&t, view_text(rows[i].name));
        ck_assert_msg(view_equal(text_view(&t), view_text(rows[i].text)), "%.*s", (int)t.len, t.at);
    }
}
END_TEST

START_TEST(addresses) {
    static const struct {
        const char *text, *host, *port; /* no host: refused */
    } rows[] = {{"h:1", "h", "1"},    {":1", "", "1"},       {"[::1]:2", "::1", "2"}, {"h:", "h", ""},
                {"h", NULL, NULL},    {"::1:2", NULL, NULL}, {"[::1]", NULL, NULL},   {"[::1]x:1", NULL, NULL},
                {"a]:1", NULL, NULL}, {"", NULL, NULL}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct view host, port;
        bool good = address_split(view_text(rows[i].text), &host, &port);
        ck_assert_msg(good == !!rows[i].host, "%s", rows[i].text);
        ck_assert_msg(!good || (is(host, rows[i].host) && is(port, rows[i].port)), "%s", rows[i].text);
    }
}
END_TEST

START_TEST(mappings) {
    static const struct {
        const char *from, *to, *fault; /* NULL: none */
    } rows[] = {{"a", "b", NULL},
                {"a.*", "b.$1", NULL},
                {"a.*.*", "b.{{wildcard(2)}}.{{ Wildcard( 1 ) }}", NULL},
                {"a.*", "b.{{partition(10,1)}}", NULL},
                {"a.*", "b.{{split(1,-)}}", NULL},
                {"a.>", "b.>", NULL},
                {"a", "b.$name", NULL},
                {"a.*", "b", "invalid mapping destination: not using all of the token wildcard(s) in b"},
                {"a.*", "b.$2", "invalid mapping destination: wildcard index out of range in $2: [2]"},
                {"a.*", "b.{{bogus(1)}}", "invalid mapping destination: unknown function in {{bogus(1)}}"},
                {"a.*", "b.{{wildcard()}}",
                 "invalid mapping destination: not enough arguments passed to the function in {{wildcard()}}"},
                {"a.*", "b.{{wildcard(x)}}",
                 "invalid mapping destination: function argument is invalid or in the wrong format in {{wildcard(x)}}"},
                {"a.*", "b.{{wildcard(1,2)}}",
                 "invalid mapping destination: too many arguments passed to the function in {{wildcard(1,2)}}"},
                {"a", "b.*", "invalid subject"},
                {"a.>", "b", "invalid subject"},
                {"a", "b..c", "invalid mapping destination: invalid subject in "}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text why = {.arena = &arena};
        enum err e = mapping_check(view_text(rows[i].from), view_text(rows[i].to), &why);
        text_add_byte(&why, '\0');
        ck_assert_msg(e == (rows[i].fault ? ERR_SYNTAX : ERR_OK), "%s -> %s: %s", rows[i].from, rows[i].to, why.at);
        ck_assert_str_eq(why.at, rows[i].fault ? rows[i].fault : "");
    }
}
END_TEST

static void add(TCase *tc) {
    tcase_add_test(tc, urls);
    tcase_add_test(tc, redaction);
    tcase_add_test(tc, addresses);
    tcase_add_test(tc, mappings);
}

int main(void) {
    int failed = test_run("config/url", add);
    arena_free(&arena);
    return failed;
}
