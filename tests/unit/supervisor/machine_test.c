/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of supervisor/machine.c: limits of control groups, in folders that look like the kernel's. */
#include "supervisor/machine.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static char root[64], path[256];

static const char *below(const char *name) {
    snprintf(path, sizeof path, "%s/%s", root, name);
    return path;
}

static void put(const char *name, const char *text) {
    FILE *file = fopen(below(name), "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

static void setup(void) {
    static const char *const folders[] = {"a", "a/b", "memory", "memory/a", "memory/a/b"};
    strcpy(root, "/tmp/machine_test.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(root));
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        ck_assert_int_eq(mkdir(below(folders[i]), 0700), 0);
}

static void teardown(void) {
    static const char *const names[] = {"a/b/memory.max",
                                        "a/memory.max",
                                        "memory.max",
                                        "memory/a/b/memory.limit_in_bytes",
                                        "memory/a/memory.limit_in_bytes",
                                        "memory/memory.limit_in_bytes"};
    static const char *const folders[] = {"memory/a/b", "memory/a", "memory", "a/b", "a", ""};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(below(names[i]));
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        rmdir(below(folders[i]));
}

static const struct {
    const char *name, *cgroup;
    struct {
        const char *name, *text;
    } files[3];
    uint64_t limit;
} cases[] = {
    {"nothing is mounted", "0::/a/b\n", {{0}}, UINT64_MAX},
    {"no limit", "0::/a/b\n", {{"a/b/memory.max", "max\n"}}, UINT64_MAX},
    {"own limit", "0::/a/b\n", {{"a/b/memory.max", "1048576\n"}}, 1048576},
    {"a parent's is lower", "0::/a/b\n", {{"a/b/memory.max", "1048576\n"}, {"a/memory.max", "4096\n"}}, 4096},
    {"the root of a container", "0::/\n", {{"memory.max", "8192\n"}}, 8192},
    {"a path that is not mounted", "0::/docker/x\n", {{"memory.max", "8192\n"}}, 8192},
    {"version 1", "5:cpu:/x\n4:memory:/a/b\n0::/\n", {{"memory/a/b/memory.limit_in_bytes", "77\n"}}, 77},
    {"version 1, no limit beside a limit",
     "4:memory:/a/b\n",
     {{"memory/a/b/memory.limit_in_bytes", "9223372036854771712\n"}, {"memory/memory.limit_in_bytes", "99\n"}},
     99},
    {"no end of line", "0::/a", {{"a/memory.max", "5"}}, 5},
    {"no line at all", "nonsense\n:\n\n", {{"memory.max", "5"}}, UINT64_MAX},
};

START_TEST(test_limits) {
    for (size_t i = 0; i < 3 && cases[_i].files[i].name; i++)
        put(cases[_i].files[i].name, cases[_i].files[i].text);
    uint64_t limit = machine_group_limit(view_text(cases[_i].cgroup), root);
    ck_assert_msg(limit == cases[_i].limit, "%s: %lu", cases[_i].name, limit);
}
END_TEST

START_TEST(test_this_machine) {
    uint64_t memory = machine_memory();
    ck_assert_uint_gt(memory, 16 << 20);
    ck_assert_uint_le(memory, (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("supervisor/machine");
    TCase *c = tcase_create("limits");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_loop_test(c, test_limits, 0, sizeof cases / sizeof *cases);
    tcase_add_test(c, test_this_machine);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
