/* SPDX-License-Identifier: Apache-2.0 */
/* A source of files and an environment that exist only in a test. */
#ifndef TESTS_UNIT_CONFIG_TESTING_H
#define TESTS_UNIT_CONFIG_TESTING_H

#include <check.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/config.h"

struct pair {
    const char *name, *text;
};

/* Files and variables, each list ended by a null name; set by the test. */
static const struct pair *test_files, *test_variables;

static const char *pair_find(const struct pair *list, const char *name) {
    for (; list && list->name; list++) {
        if (strcmp(list->name, name) == 0)
            return list->text;
    }
    return NULL;
}

static int test_open(void *owner, const char *path) {
    (void)owner;
    const char *text = pair_find(test_files, path);
    if (!text)
        return -ENOENT;
    int fd = memfd_create("file", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    lseek(fd, 0, SEEK_SET);
    return fd;
}

static int test_probe(void *owner, const char *path) {
    (void)owner;
    return pair_find(test_files, path) ? 0 : ENOENT;
}

static int test_folder(void *owner, const char *path) {
    (void)owner, (void)path;
    return 0;
}

static const char *test_environment(void *owner, const char *name) {
    (void)owner;
    return pair_find(test_variables, name);
}

static const struct source test_source = {NULL, test_open, test_probe, test_folder, test_environment,
                                          NULL, NULL,      false};

/* A configuration from one text, called t.conf. */
static inline enum err test_read(struct config *c, const char *text) {
    static struct pair files[2] = {{"t.conf", NULL}, {NULL, NULL}};
    files[0].text = text;
    if (!test_files || test_files == files)
        test_files = files;
    config_open(c, &test_source);
    return config_read(c, "t.conf");
}

/* What it says about it; as long as the configuration. */
static inline const char *test_said(struct config *c) {
    struct text t = {.arena = &c->arena};
    config_say(c, &t);
    text_add_byte(&t, '\0');
    return t.at;
}

static inline int test_run(const char *name, void (*add)(TCase *)) {
    Suite *suite = suite_create(name);
    TCase *tc = tcase_create(name);
    tcase_set_timeout(tc, 120);
    add(tc);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

#endif
