/* SPDX-License-Identifier: Apache-2.0 */
/* Reading files through whoever may open them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/parser.h"

/* Go spells them as the C library does, without a capital. */
void text_add_errno(struct text *t, int number) {
    char words[128];
    const char *known = strerror_r(number, words, sizeof words);
    char first = *known >= 'A' && *known <= 'Z' && known[1] >= 'a' ? (char)(*known + 'a' - 'A') : *known;
    text_add_byte(t, first);
    text_add(t, view_text(known + 1));
}

static enum err too_large(struct text *why, const char *path) {
    text_add_format(why, "read %s: file is larger than %d bytes", path, (int64_t)PARSER_FILE_MAX);
    return ERR_LONG;
}

/* Reads to the end; the room doubles, one byte more than allowed shows what is too large. */
static enum err read_all(int fd, const char *path, struct arena *arena, struct view *content, struct text *why) {
    size_t cap = 4096, len = 0;
    struct stat status;
    if (fstat(fd, &status) == 0 && status.st_size > PARSER_FILE_MAX)
        return too_large(why, path);
    if (status.st_size > 0)
        cap = (size_t)status.st_size + 1;
    char *bytes = arena_take(arena, cap);
    while (true) {
        ssize_t count = read(fd, bytes + len, cap - len);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            text_add_format(why, "read %s: ", path);
            text_add_errno(why, errno);
            return ERR_SYSTEM;
        }
        len += (size_t)count;
        if (count == 0)
            break;
        if (len > PARSER_FILE_MAX)
            return too_large(why, path);
        if (len == cap) {
            char *larger = arena_take(arena, cap *= 2);
            memcpy(larger, bytes, len);
            bytes = larger;
        }
    }
    *content = view_of(bytes, len);
    return ERR_OK;
}

enum err source_read(const struct source *source, const char *path, struct arena *arena, struct view *content,
                     struct text *why) {
    int fd = source->open(source->owner, path);
    if (fd < 0) {
        text_add_format(why, fd == -EISDIR ? "read %s: " : "open %s: ", path);
        text_add_errno(why, -fd);
        return ERR_SYSTEM;
    }
    enum err e = read_all(fd, path, arena, content, why);
    close(fd);
    return e;
}
