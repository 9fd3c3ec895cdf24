/* SPDX-License-Identifier: Apache-2.0 */
/* config/parser.h: from files to a tree of values.
 *
 * The parser opens nothing and looks at no environment: it asks its source, because it runs in a process without
 * rights. What a file can cost is bounded (the enum below); beyond a bound, and for every other fault, there is one
 * message with the place. A message about an included file names its path and line, never its text.
 *
 * Included files are parsed on their own (they do not see the variables of the file around them), then their keys are
 * put into the map that includes them. Paths are relative to the including file's folder.
 */
#ifndef CONFIG_PARSER_H
#define CONFIG_PARSER_H

#include "base/err.h"
#include "config/value.h"

enum {
    PARSER_FILE_MAX = 16 << 20,     /* bytes of one file */
    PARSER_TOTAL_MAX = 64 << 20,    /* bytes of all files of one configuration */
    PARSER_FILES_MAX = 1000,        /* files of one configuration, each include counted */
    PARSER_INCLUDE_DEPTH_MAX = 16,  /* files within files */
    PARSER_VALUES_MAX = 1 << 20,    /* values of one configuration, every variable written out */
    PARSER_REFERENCE_DEPTH_MAX = 8, /* environment variables that name environment variables */
    PARSER_PATH_MAX = 4096
};

struct source {
    void *owner;
    /* A descriptor of a regular file, or a negative errno. The parser closes it. */
    int (*open)(void *owner, const char *path);
    /* 0 if the path can be opened, else an errno. For files whose bytes are none of the parser's business. */
    int (*probe)(void *owner, const char *path);
    /* 0 if the path is a folder that may be written, or nothing yet; else an errno. */
    int (*folder)(void *owner, const char *path);
    /* Text of an environment variable or NULL. */
    const char *(*environment)(void *owner, const char *name);
    /* Whether a certificate chain and a private key go together, whether CA certificates can be used (config/tls.h); NULL:
     * nobody looks into them. On ERR_SYNTAX why says it. */
    enum err (*check_pair)(struct view cert, struct view key, struct text *why);
    enum err (*check_ca)(struct view ca, struct text *why);
    bool shows_included; /* messages may show the text of included files: their reader may read the files too */
};

/* Parses a file into a map in the arena. On an error the message is appended to why: ERR_SYSTEM when the file itself
 * cannot be read, else ERR_SYNTAX or, beyond a bound, ERR_LONG. */
enum err parser_read(struct value **top, struct arena *arena, const struct source *source, const char *path,
                     struct text *why);

/* The same for a text that is called path in messages. */
enum err parser_read_text(struct value **top, struct arena *arena, const struct source *source, const char *path,
                          struct view content, struct text *why);

/* A whole file's bytes for those who check what an option names. ERR_SYSTEM, ERR_LONG: why says it in Go's words. */
enum err source_read(const struct source *source, const char *path, struct arena *arena, struct view *content,
                     struct text *why);

/* Appends the words of Go for an errno. */
void text_add_errno(struct text *t, int number);

#endif
