/* SPDX-License-Identifier: Apache-2.0 */
/* config/lexer.h: cuts a configuration text into tokens.
 *
 * The language is nats-server's (docs: configuration.md of the server's documentation): entries of key and value, maps,
 * arrays, strings in three kinds of quotes, comments. The lexer knows nothing of what keys mean. It allocates only for
 * strings with escapes. The text must be valid UTF-8 without NUL (text_find_fault says); the end of the text reads as
 * NUL, and so it stands in messages, as in nats-server's.
 */
#ifndef CONFIG_LEXER_H
#define CONFIG_LEXER_H

#include <stdbool.h>
#include <stdint.h>

#include "config/text.h"

enum { LEXER_DEPTH_MAX = 128 }; /* open arrays and maps */

enum token_type {
    TOKEN_ERROR, /* text is the message; nothing follows */
    TOKEN_END,
    TOKEN_KEY,
    TOKEN_TEXT,
    TOKEN_BOOL,
    TOKEN_INTEGER, /* with its suffix */
    TOKEN_FLOAT,
    TOKEN_DATE,
    TOKEN_ARRAY_START,
    TOKEN_ARRAY_END,
    TOKEN_MAP_START,
    TOKEN_MAP_END,
    TOKEN_VARIABLE, /* text is the name without '$' */
    TOKEN_INCLUDE   /* text is the path as written */
};

struct token {
    enum token_type type;
    struct view text; /* in the input or in the arena */
    uint32_t line, column;
};

struct lexer {
    struct arena *arena;
    struct view input;
    bool discreet; /* messages show nothing of the text */
    int state;
    size_t pos;
    size_t start;          /* of the token being read */
    uint32_t width;        /* bytes of the code point read last; 0 at the end */
    uint32_t line;         /* from 1 */
    size_t line_pos;       /* of the last newline read; 0 on the first line */
    size_t token_line_pos; /* the same when the token began */
    struct text cooked;    /* a string with escapes, as far as it is read */
    bool has_escapes;
    uint32_t depth;
    char open[LEXER_DEPTH_MAX]; /* '[' or '{' */
};

void lexer_open(struct lexer *lx, struct arena *arena, struct view input, bool discreet);
void lexer_next(struct lexer *lx, struct token *t);

/* Position of the first byte that is NUL or not UTF-8; the length when there is none. */
size_t text_find_fault(struct view text);

#endif
