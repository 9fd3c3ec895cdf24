/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a configuration file: a message or a checked tree, and a tree that is printed for a component reads back
 * equal. Includes and variables come from fixed texts. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "config/reload.h"

static struct view file;

static int fuzz_open(void *owner, const char *path) {
    (void)owner;
    struct view content = strcmp(path, "f") == 0   ? file
                          : strcmp(path, "i") == 0 ? VIEW("a: 1\nb { c: $N }\n")
                                                   : VIEW("");
    if (strcmp(path, "none") == 0)
        return -ENOENT;
    int fd = memfd_create("file", MFD_CLOEXEC);
    check(fd >= 0 && write(fd, content.at, content.len) == (ssize_t)content.len && lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

static int fuzz_probe(void *owner, const char *path) {
    (void)owner;
    return strcmp(path, "none") == 0 ? ENOENT : 0;
}

static int fuzz_folder(void *owner, const char *path) {
    (void)owner, (void)path;
    return 0;
}

static const char *fuzz_environment(void *owner, const char *name) {
    (void)owner;
    return strcmp(name, "N") == 0   ? "5"
           : strcmp(name, "M") == 0 ? "{ a: [$N, \"x\"] }"
           : strcmp(name, "L") == 0 ? "$L"
                                    : NULL;
}

static const struct source source = {NULL, fuzz_open, fuzz_probe, fuzz_folder, fuzz_environment, NULL, NULL, false};

static void check_parts(struct config *c) {
    struct text all = {.arena = &c->arena}, some = {.arena = &c->arena}, why = {.arena = &c->arena};
    struct value *again;
    config_print(c, PART_AUTH, &all);
    check(parser_read_text(&again, &c->arena, &source, "part", text_view(&all), &why) == ERR_OK);
    check(value_equal(again, c->tree));
    config_print(c, PART_PUBLIC, &some);
    check(parser_read_text(&again, &c->arena, &source, "part", text_view(&some), &why) == ERR_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t key[RELOAD_KEY_BYTES];
    static struct reload_state state;
    struct config c;
    file = view_of(data, size);
    config_open(&c, &source);
    enum err e = config_read(&c, "f");
    struct text said = {.arena = &c.arena};
    config_say(&c, &said);
    check((e != ERR_OK) == config_has_errors(&c));
    check(e == ERR_OK || said.len > 0);
    if (e == ERR_OK) {
        check_parts(&c);
        options_fill(&c.options);
        reload_keep(&state, &c, view_of("", 0), key);
        config_check_start(&c);
    }
    config_close(&c);
    return 0;
}
