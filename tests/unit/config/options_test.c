/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of config/options.c: the table holds together. */
#include "config/options.h"

#include "tests/unit/config/config_testing.h"

START_TEST(names_are_unique) {
    for (size_t i = 0; i < option_count; i++) {
        const char *rest = option_table[i].names;
        for (struct view name; option_next_name(&name, &rest);)
            ck_assert_msg(option_find(option_table[i].section, name) == &option_table[i], "%.*s", (int)name.len,
                          name.at);
        rest = option_table[i].flags;
        for (struct view name; option_next_name(&name, &rest);)
            ck_assert_msg(option_find_flag(name) == &option_table[i], "-%.*s", (int)name.len, name.at);
    }
}
END_TEST

START_TEST(rows_are_whole) {
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        const char *name = o->names ? o->names : o->flags;
        ck_assert_msg(o->doc && o->doc[strlen(o->doc) - 1] == '.', "%s", name);
        ck_assert_msg(!(o->secret && o->size), "%s: a credential in struct options", name);
        ck_assert_msg(o->shape != SHAPE_BLOCK || o->inner != SECTION_TOP, "%s", name);
        ck_assert_msg(!o->size || o->size == sizeof(bool) || o->size == sizeof(int64_t) || o->size > 64, "%s", name);
        ck_assert_msg(o->low <= o->high, "%s", name);
        bool reads = o->section != SECTION_TOP || o->reload != RELOAD_NO || o->field || o->shape == SHAPE_LISTEN;
        ck_assert_msg(reads, "%s has no name in messages about reload", name);
    }
}
END_TEST

START_TEST(defaults) {
    struct options o;
    options_clear(&o);
    o.port = 5000;
    o.gateway_port = -1;
    options_fill(&o);
    ck_assert_int_eq(o.port, 5000);
    ck_assert_str_eq(o.host, "0.0.0.0");
    ck_assert_str_eq(o.gateway_host, "0.0.0.0");
    ck_assert_str_eq(o.cluster_host, "");
    ck_assert_int_eq(o.max_payload, 1048576);
    ck_assert_int_eq(o.max_pending, 67108864);
    ck_assert_int_eq(o.max_connections, 65536);
    ck_assert_int_eq(o.max_control_line, 4096);
    ck_assert_int_eq(o.ping_interval_ns, INT64_C(120000000000));
    ck_assert_int_eq(o.lame_duck_duration_ns, INT64_C(120000000000));
    ck_assert_int_eq(o.connect_error_reports, 3600);
    ck_assert_int_eq(o.frontends, 0);
    ck_assert_int_eq(o.uid_base, 64100);
    ck_assert(o.logtime && !o.debug && !o.seccomp_off);
}
END_TEST

static void add(TCase *tc) {
    tcase_add_test(tc, names_are_unique);
    tcase_add_test(tc, rows_are_whole);
    tcase_add_test(tc, defaults);
}

int main(void) {
    return test_run("config/options", add);
}
