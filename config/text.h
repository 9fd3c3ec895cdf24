/* SPDX-License-Identifier: Apache-2.0 */
/* config/text.h: a text that grows, written the way Go writes.
 *
 * nats-server's messages come out of Go's fmt: %q quotes and escapes, %T names a type, %v shows a value, durations read
 * 1h2m3.5s. Administrators grep for them, so they are made the same here. A text may hold any byte, NUL too:
 * nats-server shows the end of a file as one.
 */
#ifndef CONFIG_TEXT_H
#define CONFIG_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "config/arena.h"

struct value;

struct text {
    struct arena *arena; /* set by the owner, the rest is zero at first */
    char *at;
    size_t len, cap;
    bool discreet; /* a format inserts "..." for what comes from a file: all but %s, %k and %T */
};

void text_add(struct text *t, struct view bytes);
void text_add_byte(struct text *t, char byte);

/* Appends a Unicode code point as UTF-8. */
void text_add_rune(struct text *t, int32_t rune);

/* Appends Go's %q of the bytes. */
void text_add_quoted(struct text *t, struct view bytes);

/* Appends a duration as Go prints it. */
void text_add_duration(struct text *t, int64_t ns);

/* Appends a format. Its verbs: %s const char *, %v struct view, %q struct view in Go's quotes, %k struct view that is the
 * name of an option, %d int64_t, %D a duration in ns (int64_t), %c int32_t code point, %T and %V const struct value *:
 * its type and its value in Go's words. */
void text_add_format(struct text *t, const char *format, ...);
void text_add_format_list(struct text *t, const char *format, va_list list);

/* What has been written; as long as the arena. */
struct view text_view(const struct text *t);

/* Reads Go's duration syntax: an optional sign, then decimals with units out of ns us µs ms s m h. On ERR_SYNTAX what
 * is wrong is appended to why, in Go's words. */
enum err duration_parse(int64_t *ns, struct view s, struct text *why);

#endif
