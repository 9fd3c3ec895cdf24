/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of supervisor/ids.c, against the accounts that every system has. */
#include "supervisor/ids.h"

#include <check.h>
#include <pwd.h>
#include <string.h>

#include "tests/unit/unit.h"

enum { BASE = 64100, FRONTENDS = 3 };

static struct process_id ids[FAMILY_UIDS];
static char why[512];

static struct process_ids *place(struct options *o, const char *kind) {
    const struct process_ids *p = options_process(o, kind);
    ck_assert_ptr_nonnull(p);
    return o->process + (p - o->process);
}

static enum err resolve(const char *kind, const char *user, const char *group) {
    struct options o = {.uid_base = BASE};
    strcpy(place(&o, kind)->user, user);
    strcpy(place(&o, kind)->group, group);
    why[0] = '\0';
    return ids_resolve(ids, &o, FRONTENDS, why, sizeof why);
}

static struct process_id *of(Bulkhead__Role role) {
    return ids + family_role(role)->uid_offset;
}

START_TEST(test_kinds) {
    struct options o = {0};
    for (int i = 0; i < FAMILY_ROLE_END; i++) {
        const struct family_role *role = family_role((Bulkhead__Role)i);
        if (role && !(role->gifts & GIFT_BRIEF))
            ck_assert_msg(options_process(&o, role->name) != NULL, "%s cannot be given a user", role->name);
    }
    ck_assert_ptr_null(options_process(&o, "config"));
}
END_TEST

START_TEST(test_default) {
    ck_assert_int_eq(resolve("router", "", ""), ERR_OK);
    for (uint32_t i = 0; i < FAMILY_UIDS; i++)
        ck_assert(ids[i].uid == BASE + i && ids[i].gid == BASE + i);
}
END_TEST

START_TEST(test_number_is_a_range) {
    ck_assert_msg(resolve("frontend", "70000", "") == ERR_OK, "%s", why);
    for (uint32_t i = 0; i < FRONTENDS; i++)
        ck_assert(of(BULKHEAD__ROLE__ROLE_FRONTEND)[i].uid == 70000 + i &&
                  of(BULKHEAD__ROLE__ROLE_FRONTEND)[i].gid == 70000 + i);
    ck_assert_uint_eq(of(BULKHEAD__ROLE__ROLE_ROUTER)->uid, BASE + 1);
    ck_assert_int_eq(resolve("router", "70000", "70007"), ERR_OK);
    ck_assert_uint_eq(of(BULKHEAD__ROLE__ROLE_ROUTER)[1].uid, 70001);
    ck_assert_uint_eq(of(BULKHEAD__ROLE__ROLE_ROUTER)[1].gid, 70007);
}
END_TEST

START_TEST(test_name_is_for_all) {
    const struct passwd *nobody = getpwnam("nobody");
    ck_assert_ptr_nonnull(nobody);
    ck_assert_msg(resolve("frontend", "nobody", "") == ERR_OK, "%s", why);
    for (uint32_t i = 0; i < FRONTENDS; i++)
        ck_assert(of(BULKHEAD__ROLE__ROLE_FRONTEND)[i].uid == nobody->pw_uid &&
                  of(BULKHEAD__ROLE__ROLE_FRONTEND)[i].gid == nobody->pw_gid);
    ck_assert_uint_eq(of(BULKHEAD__ROLE__ROLE_FRONTEND)[FRONTENDS].uid, BASE + 16 + FRONTENDS);
}
END_TEST

static const struct {
    const char *kind, *user, *group, *why;
} bad[] = {
    {"authd", "no such user", "", "processes.authd.user: unknown user \"no such user\""},
    {"authd", "", "no such group", "processes.authd.group: unknown group \"no such group\""},
    {"authd", "root", "", "processes.authd: a process may not run as root"},
    {"authd", "0", "", "processes.authd: a process may not run as root"},
    {"authd", "70000", "0", "processes.authd: a process may not run as root"},
    {"authd", "4294967295", "", "processes.authd.user: there is no such user id"},
    {"authd", "99999999999999999999", "", "processes.authd.user: there is no such user id"},
    {"authd", "", "4294967295", "processes.authd: there is no such group id"},
    /* daemon has 1; the further two frontends would be bin and sys */
    {"frontend", "1", "", "processes.frontend.user: id 2 belongs to \"bin\", 3 free ids from 1 on are needed"},
};

START_TEST(test_bad) {
    ck_assert_int_eq(resolve(bad[_i].kind, bad[_i].user, bad[_i].group), ERR_SYSTEM);
    ck_assert_str_eq(why, bad[_i].why);
}
END_TEST

START_TEST(test_base_must_be_free) {
    struct options o = {.uid_base = 1};
    ck_assert_int_eq(ids_resolve(ids, &o, FRONTENDS, why, sizeof why), ERR_SYSTEM);
    ck_assert_ptr_nonnull(strstr(why, "choose 80 free ids with --uid_base"));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("ids");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, test_kinds);
    tcase_add_test(tcase, test_default);
    tcase_add_test(tcase, test_number_is_a_range);
    tcase_add_test(tcase, test_name_is_for_all);
    tcase_add_loop_test(tcase, test_bad, 0, sizeof bad / sizeof *bad);
    tcase_add_test(tcase, test_base_must_be_free);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
