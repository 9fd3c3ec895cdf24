/* SPDX-License-Identifier: Apache-2.0 */
/* A state machine: each state reads on from pos and either makes a token (true) or goes on to another state (false).
 *
 *   AT_TOP ─ key ─ AT_KEY_END ─ AT_VALUE ─ AT_TOP_END ─┐
 *     ↑────────────────────────────────────────────────┘
 *   { ─ AT_MAP_KEY ─ AT_MAP_KEY_END ─ AT_MAP_VALUE ─ AT_VALUE ─ AT_MAP_END ─ AT_MAP_KEY ... }
 *   [ ─ AT_ARRAY_VALUE ─ AT_VALUE ─ AT_ARRAY_END ─ AT_ARRAY_VALUE ... ]
 *
 * Which closing is expected after a value follows from the innermost open bracket. Positions in messages are those of
 * nats-server: a line is counted when its newline has been read, and a column from the newline before the token.
 */
#include "config/lexer.h"

#include <string.h>
#include <strings.h>

enum state {
    AT_TOP,
    AT_TOP_END,
    AT_KEY,
    AT_KEY_END,
    AT_VALUE,
    AT_MAP_KEY,
    AT_MAP_KEY_END,
    AT_MAP_VALUE,
    AT_MAP_END,
    AT_ARRAY_VALUE,
    AT_ARRAY_END,
    AT_INCLUDE,
    FINISHED
};

enum { END = 0 }; /* the rune behind the last */

/* ---- code points ---- */

static uint32_t rune_width(unsigned char first) {
    return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

static int32_t take(struct lexer *lx) {
    if (lx->pos >= lx->input.len) {
        lx->width = 0;
        return END;
    }
    const char *at = lx->input.at + lx->pos;
    unsigned char first = (unsigned char)*at;
    if (first == '\n') {
        lx->line++;
        lx->line_pos = lx->pos;
    }
    lx->width = rune_width(first);
    lx->pos += lx->width;
    int32_t rune = lx->width == 1 ? first : first & (0xff >> (lx->width + 1));
    for (uint32_t i = 1; i < lx->width; i++)
        rune = rune << 6 | (at[i] & 0x3f);
    return rune;
}

/* Gives the rune taken last back; only once. */
static void back(struct lexer *lx) {
    lx->pos -= lx->width;
    if (lx->width && lx->input.at[lx->pos] == '\n')
        lx->line--;
    lx->width = 0;
}

static int32_t peek(struct lexer *lx) {
    int32_t rune = take(lx);
    back(lx);
    return rune;
}

/* The token begins here. */
static void drop(struct lexer *lx) {
    lx->start = lx->pos;
    lx->token_line_pos = lx->line_pos;
}

static bool is_blank(int32_t r) {
    return r == ' ' || r == '\t';
}

static bool is_newline(int32_t r) {
    return r == '\n' || r == '\r';
}

/* Every kind of space that Unicode has; around keys they all count. */
static bool is_space(int32_t r) {
    return is_blank(r) || is_newline(r) || r == '\v' || r == '\f' || r == 0x85 || r == 0xa0 || r == 0x1680 ||
           (r >= 0x2000 && r <= 0x200a) || r == 0x2028 || r == 0x2029 || r == 0x202f || r == 0x205f || r == 0x3000;
}

static bool is_separator(int32_t r) {
    return r == ':' || r == '=';
}

static bool is_digit(int32_t r) {
    return r >= '0' && r <= '9';
}

/* What may follow a number. nats-server knows no ']' here and so cannot read [1]. */
static bool ends_number(int32_t r) {
    return is_newline(r) || is_blank(r) || r == END || r == '}' || r == ']' || r == ';' || r == ',';
}

/* ---- making tokens ---- */

static bool go(struct lexer *lx, enum state state) {
    lx->state = state;
    return false;
}

/* Skips what has been read. */
static bool skip_to(struct lexer *lx, enum state state) {
    drop(lx);
    return go(lx, state);
}

static bool make(struct lexer *lx, struct token *t, enum token_type type, struct view text) {
    *t = (struct token){type, text, lx->line, (uint32_t)(lx->pos - lx->token_line_pos - text.len)};
    drop(lx);
    return true;
}

static bool make_read(struct lexer *lx, struct token *t, enum token_type type) {
    return make(lx, t, type, view_of(lx->input.at + lx->start, lx->pos - lx->start));
}

static bool finish(struct lexer *lx, struct token *t) {
    lx->state = FINISHED;
    *t = (struct token){TOKEN_END, view_of(NULL, 0), lx->line, (uint32_t)(lx->pos - lx->line_pos)};
    return true;
}

/* A newline is shown as \n, everything else as it is. */
static void show_rune(struct text *text, int32_t rune) {
    if (rune == '\n')
        text_add(text, VIEW("\\n"));
    else
        text_add_rune(text, rune);
}

/* Ends with a message; a '@' in it stands for the rune. */
static bool fail_at(struct lexer *lx, struct token *t, const char *message, int32_t rune) {
    struct text text = {.arena = lx->arena};
    for (; *message; message++) {
        if (*message == '@' && lx->discreet && rune != END)
            text_add(&text, VIEW("..."));
        else if (*message == '@')
            show_rune(&text, rune);
        else
            text_add_byte(&text, *message);
    }
    lx->state = FINISHED;
    *t = (struct token){TOKEN_ERROR, text_view(&text), lx->line, (uint32_t)(lx->pos - lx->line_pos)};
    return true;
}

static bool fail(struct lexer *lx, struct token *t, const char *message) {
    return fail_at(lx, t, message, 0);
}

/* After a value it depends on what is open. */
static enum state after_value(const struct lexer *lx) {
    if (lx->depth == 0)
        return AT_TOP_END;
    return lx->open[lx->depth - 1] == '[' ? AT_ARRAY_END : AT_MAP_END;
}

static bool value_read(struct lexer *lx, struct token *t, enum token_type type) {
    lx->state = after_value(lx);
    return make_read(lx, t, type);
}

static bool open_bracket(struct lexer *lx, struct token *t, char bracket) {
    if (lx->depth == LEXER_DEPTH_MAX)
        return fail(lx, t, "Values are nested too deeply: 128 levels are allowed.");
    lx->open[lx->depth++] = bracket;
    drop(lx);
    lx->state = bracket == '[' ? AT_ARRAY_VALUE : AT_MAP_KEY;
    return make_read(lx, t, bracket == '[' ? TOKEN_ARRAY_START : TOKEN_MAP_START);
}

static bool close_bracket(struct lexer *lx, struct token *t) {
    bool array = lx->open[--lx->depth] == '[';
    drop(lx);
    lx->state = after_value(lx);
    return make_read(lx, t, array ? TOKEN_ARRAY_END : TOKEN_MAP_END);
}

static bool skip_comment(struct lexer *lx, enum state state) {
    while (!is_newline(peek(lx)) && peek(lx) != END)
        take(lx);
    return skip_to(lx, state);
}

/* A slash has been taken: true if another follows, which is then taken too. */
static bool takes_slash(struct lexer *lx) {
    if (peek(lx) != '/')
        return false;
    take(lx);
    return true;
}

/* ---- keys ---- */

static bool at_top(struct lexer *lx, struct token *t) {
    int32_t r = take(lx);
    if (is_space(r) || r == '{') /* a whole file may stand in braces */
        return skip_to(lx, AT_TOP);
    if (r == '#' || (r == '/' && takes_slash(lx)))
        return skip_comment(lx, AT_TOP);
    if (r == '/')
        return fail(lx, t, "Unexpected EOF.");
    if (r == END)
        return finish(lx, t);
    back(lx);
    return go(lx, AT_KEY);
}

static bool at_top_end(struct lexer *lx, struct token *t) {
    int32_t r = take(lx);
    if (r == '#' || (r == '/' && takes_slash(lx)))
        return skip_comment(lx, AT_TOP);
    if (is_blank(r) || r == '/')
        return go(lx, AT_TOP_END);
    if (is_newline(r) || r == END || r == ';' || r == ',' || r == '}')
        return skip_to(lx, AT_TOP);
    return fail_at(lx, t, "Expected a top-level value to end with a new line, comment or EOF, but got '@' instead.", r);
}

/* The quote has been taken. */
static bool quoted_key(struct lexer *lx, struct token *t, int32_t quote) {
    bool in_map = lx->depth > 0;
    drop(lx);
    for (int32_t r; (r = peek(lx)) != quote; take(lx)) {
        if (r != END)
            continue;
        if (in_map)
            return fail(lx, t,
                        quote == '"' ? "Unexpected EOF processing double quoted map key."
                                     : "Unexpected EOF processing quoted map key.");
        return lx->pos > lx->start ? fail(lx, t, "Unexpected EOF.") : finish(lx, t);
    }
    make_read(lx, t, TOKEN_KEY);
    take(lx);
    drop(lx);
    lx->state = in_map ? AT_MAP_KEY_END : AT_KEY_END;
    return true;
}

/* A key without quotes ends at a blank or separator. `include` before a blank is no key. */
static bool plain_key(struct lexer *lx, struct token *t) {
    bool in_map = lx->depth > 0;
    drop(lx);
    take(lx);
    int32_t r;
    while (!is_space(r = peek(lx)) && !is_separator(r) && r != END)
        take(lx);
    if (r == END && in_map)
        return fail(lx, t, "Unexpected EOF processing map key.");
    if (is_space(r) && lx->pos - lx->start == 7 && strncasecmp(lx->input.at + lx->start, "include", 7) == 0)
        return skip_to(lx, AT_INCLUDE);
    lx->state = in_map ? AT_MAP_KEY_END : AT_KEY_END;
    return make_read(lx, t, TOKEN_KEY);
}

static bool at_key(struct lexer *lx, struct token *t) {
    int32_t r = peek(lx);
    if (is_separator(r))
        return fail_at(lx, t, "Unexpected key separator '@'", r);
    if (r == '"' || r == '\'') {
        take(lx);
        return quoted_key(lx, t, r);
    }
    return plain_key(lx, t);
}

static bool at_key_end(struct lexer *lx, struct token *t) {
    int32_t r = take(lx);
    if (is_space(r))
        return skip_to(lx, AT_KEY_END);
    if (is_separator(r))
        return skip_to(lx, AT_VALUE);
    if (r == END)
        return finish(lx, t); /* the parser has a key left over */
    back(lx);
    return go(lx, AT_VALUE);
}

static bool at_map_key(struct lexer *lx, struct token *t) {
    int32_t r = peek(lx);
    if (is_separator(r))
        return fail_at(lx, t, "Unexpected key separator '@'.", r);
    if (r == ']')
        return fail_at(lx, t, "Unexpected array end '@' processing map.", r);
    if (r == END)
        return fail(lx, t, "Unexpected EOF processing map.");
    if (is_space(r) || r == '}' || r == '#' || r == '/' || r == '"' || r == '\'')
        take(lx);
    if (is_space(r))
        return skip_to(lx, AT_MAP_KEY);
    if (r == '}')
        return close_bracket(lx, t);
    if (r == '#' || (r == '/' && takes_slash(lx)))
        return skip_comment(lx, AT_MAP_KEY);
    if (r == '/')
        return skip_to(lx, AT_MAP_KEY);
    if (r == '"' || r == '\'')
        return quoted_key(lx, t, r);
    return plain_key(lx, t);
}

static bool at_map_key_end(struct lexer *lx) {
    int32_t r = take(lx);
    if (is_space(r))
        return skip_to(lx, AT_MAP_KEY_END);
    if (is_separator(r))
        return skip_to(lx, AT_MAP_VALUE);
    back(lx);
    return go(lx, AT_MAP_VALUE);
}

static bool at_map_value(struct lexer *lx, struct token *t) {
    int32_t r = take(lx);
    if (is_space(r))
        return skip_to(lx, AT_MAP_VALUE);
    if (r == ',')
        return fail(lx, t, "Unexpected map value terminator \",\".");
    if (r == '}')
        return close_bracket(lx, t);
    back(lx);
    return go(lx, AT_VALUE);
}

static bool at_map_end(struct lexer *lx, struct token *t) {
    int32_t r = take(lx);
    if (is_blank(r))
        return skip_to(lx, AT_MAP_END);
    if (r == '#' || (r == '/' && takes_slash(lx)))
        return skip_comment(lx, AT_MAP_END);
    if (r == ';' || r == ',' || r == '/' || is_newline(r))
        return skip_to(lx, AT_MAP_KEY);
    if (r == '}')
        return close_bracket(lx, t);
    return fail_at(lx, t, "Expected a map value terminator \",\" or a map terminator \"}\", but got '@' instead.", r);
}

static bool at_array_value(struct lexer *lx, struct token *t) {
    int32_t r = take(lx);
    if (is_space(r))
        return skip_to(lx, AT_ARRAY_VALUE);
    if (r == '#' || (r == '/' && takes_slash(lx)))
        return skip_comment(lx, AT_ARRAY_VALUE);
    if (r == '/' || r == ',')
        return fail(lx, t, "Unexpected array value terminator ','.");
    if (r == ']')
        return close_bracket(lx, t);
    back(lx);
    return go(lx, AT_VALUE);
}

static bool at_array_end(struct lexer *lx, struct token *t) {
    int32_t r = take(lx);
    if (is_blank(r))
        return skip_to(lx, AT_ARRAY_END);
    if (r == '#' || (r == '/' && takes_slash(lx)))
        return skip_comment(lx, AT_ARRAY_END);
    if (r == ',' || r == '/' || is_newline(r))
        return skip_to(lx, AT_ARRAY_VALUE);
    if (r == ']')
        return close_bracket(lx, t);
    return fail_at(lx, t, "Expected an array value terminator \",\" or an array terminator \"]\", but got '@' instead.",
                   r);
}

/* ---- strings ---- */

/* What stands between the last escape and the rune taken last goes to the cooked string. */
static void cook(struct lexer *lx) {
    text_add(&lx->cooked, view_of(lx->input.at + lx->start, lx->pos - lx->start - lx->width));
    lx->start = lx->pos;
    lx->has_escapes = true;
}

/* Two digits behind \x. */
static bool hex_escape(struct lexer *lx, struct token *t) {
    for (int i = 0; i < 2; i++) {
        if (is_newline(take(lx)))
            return fail(lx, t, "Expected two hexadecimal digits after '\\x', but hit end of line");
    }
    int byte = 0;
    for (size_t i = lx->pos - 2; i < lx->pos; i++) {
        const char *digit = memchr("0123456789abcdefABCDEF", lx->input.at[i], 22);
        if (!digit) {
            struct text message = {.arena = lx->arena};
            text_add_format(&message, "Expected two hexadecimal digits after '\\x', but got '%v'",
                            lx->discreet ? VIEW("...") : view_of(lx->input.at + lx->pos - 2, 2));
            fail(lx, t, "");
            t->text = text_view(&message);
            return true;
        }
        int nibble = lx->input.at[i] & 15;
        byte = byte * 16 + (lx->input.at[i] > '9' ? nibble + 9 : nibble);
    }
    text_add_byte(&lx->cooked, (char)byte);
    lx->start = lx->pos;
    return false;
}

/* A backslash has been taken; true: a token has been made, of an error. */
static bool escape(struct lexer *lx, struct token *t) {
    cook(lx);
    int32_t r = take(lx);
    switch (r) {
    case 'x':
        return hex_escape(lx, t);
    case 't':
    case 'n':
    case 'r':
        text_add_byte(&lx->cooked, r == 't' ? '\t' : r == 'n' ? '\n' : '\r');
        break;
    case '"':
    case '\\':
        text_add_byte(&lx->cooked, (char)r);
        break;
    default:
        return fail_at(
            lx, t,
            "Invalid escape character '@'. Only the following escape characters are allowed: \\xXX, \\t, \\n, "
            "\\r, \\\", \\\\.",
            r);
    }
    lx->start = lx->pos;
    return false;
}

/* The string ends at pos. */
static bool make_string(struct lexer *lx, struct token *t) {
    lx->state = after_value(lx);
    if (!lx->has_escapes)
        return make_read(lx, t, TOKEN_TEXT);
    text_add(&lx->cooked, view_of(lx->input.at + lx->start, lx->pos - lx->start));
    return make(lx, t, TOKEN_TEXT, text_view(&lx->cooked));
}

static void begin_string(struct lexer *lx) {
    lx->cooked = (struct text){.arena = lx->arena};
    lx->has_escapes = false;
}

/* A string between quotes, of which the first has been taken. At the very end of a file a lone quote is ignored. */
static bool quoted_string(struct lexer *lx, struct token *t, int32_t quote) {
    drop(lx);
    begin_string(lx);
    for (int32_t r; (r = take(lx)) != quote;) {
        if (r == END)
            return lx->pos > lx->start || lx->has_escapes ? fail(lx, t, "Unexpected EOF.") : finish(lx, t);
        if (r == '\\' && quote == '"' && escape(lx, t))
            return true;
    }
    back(lx);
    make_string(lx, t);
    take(lx);
    drop(lx);
    return true;
}

static bool is_bool(struct view s) {
    static const char *const words[] = {"true", "false", "on", "off", "yes", "no"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (s.len == strlen(words[i]) && strncasecmp(s.at, words[i], s.len) == 0)
            return true;
    }
    return false;
}

/* The end of a string without quotes: it may be a word or a variable's name. */
static bool make_plain(struct lexer *lx, struct token *t) {
    struct view s = view_of(lx->input.at + lx->start, lx->pos - lx->start);
    if (lx->has_escapes)
        return make_string(lx, t);
    if (is_bool(s))
        return value_read(lx, t, TOKEN_BOOL);
    if (s.len && s.at[0] == '$') {
        lx->start++;
        return value_read(lx, t, TOKEN_VARIABLE);
    }
    return make_string(lx, t);
}

/* Reads on from pos to the end of a string without quotes. */
static bool plain_string(struct lexer *lx, struct token *t) {
    begin_string(lx);
    while (true) {
        int32_t r = take(lx);
        if (is_newline(r) || is_blank(r) || r == END || r == ';' || r == ',' || r == ']' || r == '}') {
            back(lx);
            return make_plain(lx, t);
        }
        if (r == '\'') {
            back(lx);
            make_string(lx, t);
            take(lx);
            drop(lx);
            return true;
        }
        if (r == '\\' && escape(lx, t))
            return true;
    }
}

/* A block ends at a ')' alone on its line. The ( has been taken. */
static bool block_string(struct lexer *lx, struct token *t) {
    drop(lx);
    while (true) {
        int32_t r = take(lx);
        if (r == END)
            return fail(lx, t, "Unexpected EOF processing block.");
        int32_t next = r == ')' && lx->input.at[lx->pos - 2] == '\n' ? peek(lx) : ')';
        if (!is_newline(next) && next != END)
            continue;
        lx->pos--;
        value_read(lx, t, TOKEN_TEXT);
        take(lx);
        drop(lx);
        return true;
    }
}

/* ---- numbers, dates, addresses: whatever begins with a digit ---- */

static bool date(struct lexer *lx, struct token *t) {
    for (const char *form = "00-00T00:00:00Z"; *form; form++) {
        int32_t r = take(lx);
        if (*form == '0' && !is_digit(r))
            return fail_at(lx, t, "Expected digit in ISO8601 datetime, but found '@' instead.", r);
        if (*form != '0' && *form != r) {
            char message[80] = "Expected 'T' in ISO8601 datetime, but found '@' instead.";
            message[10] = *form;
            return fail_at(lx, t, message, r);
        }
    }
    return value_read(lx, t, TOKEN_DATE);
}

/* Digits and a point have been taken. A second point makes it an address. */
static bool fraction(struct lexer *lx, struct token *t) {
    int32_t r = take(lx);
    if (!is_digit(r))
        return fail_at(lx, t, "Floats must have a digit after the '.', but got '@' instead.", r);
    while (is_digit(r))
        r = take(lx);
    if (r != '.') {
        back(lx);
        return value_read(lx, t, TOKEN_FLOAT);
    }
    while (is_digit(r) || r == '.' || r == ':' || r == '-')
        r = take(lx);
    back(lx);
    return value_read(lx, t, TOKEN_TEXT);
}

/* A letter of a size has been taken; b and i may follow. What goes on differently is a text: nats-server reads 1h30m,
 * but stumbles over 1m30s. */
static bool size(struct lexer *lx, struct token *t) {
    int32_t r = take(lx);
    while (r == 'b' || r == 'B' || r == 'i' || r == 'I')
        r = take(lx);
    back(lx);
    return ends_number(r) ? value_read(lx, t, TOKEN_INTEGER) : plain_string(lx, t);
}

static bool is_size_letter(int32_t r) {
    return r && r < 0x80 && strchr("kKmMgGtTpPeE", (int)r);
}

static bool number(struct lexer *lx, struct token *t) {
    int32_t r = take(lx);
    while (is_digit(r))
        r = take(lx);
    if (r == '-')
        return lx->pos - lx->start == 5 ? date(lx, t) : fail(lx, t, "All ISO8601 dates must be in full Zulu form.");
    if (r == '.')
        return fraction(lx, t);
    if (is_size_letter(r))
        return size(lx, t);
    back(lx);
    return ends_number(r) ? value_read(lx, t, TOKEN_INTEGER) : plain_string(lx, t);
}

/* A minus has been taken. */
static bool negative_number(struct lexer *lx, struct token *t) {
    int32_t r = take(lx);
    if (r == '.')
        return fail(lx, t, "Floats must start with a digit, not '.'.");
    if (!is_digit(r))
        return fail_at(lx, t, "Expected a digit but got '@'.", r);
    while (is_digit(r))
        r = take(lx);
    if (r == '.')
        return fraction(lx, t);
    if (is_size_letter(r))
        return size(lx, t);
    back(lx);
    return value_read(lx, t, TOKEN_INTEGER);
}

static bool at_value(struct lexer *lx, struct token *t) {
    int32_t r = take(lx);
    if (is_blank(r))
        return skip_to(lx, AT_VALUE);
    switch (r) {
    case '[':
    case '{':
        return open_bracket(lx, t, (char)r);
    case '\'':
    case '"':
        return quoted_string(lx, t, r);
    case '(':
        return block_string(lx, t);
    case '-':
        return negative_number(lx, t);
    case '.':
        return fail(lx, t, "Floats must start with a digit");
    case '\n':
    case '\r':
        return fail(lx, t, "Expected value but found new line");
    }
    back(lx);
    return is_digit(r) ? number(lx, t) : plain_string(lx, t);
}

/* ---- includes ---- */

static bool make_include(struct lexer *lx, struct token *t, bool quoted) {
    back(lx);
    lx->state = after_value(lx);
    make_read(lx, t, TOKEN_INCLUDE);
    if (quoted) {
        take(lx);
        drop(lx);
    }
    return true;
}

static bool quoted_include(struct lexer *lx, struct token *t, int32_t quote) {
    drop(lx);
    for (int32_t r; (r = take(lx)) != quote;) {
        if (r == END)
            return fail(lx, t,
                        quote == '"' ? "Unexpected EOF in double quoted include" : "Unexpected EOF in quoted include");
    }
    return make_include(lx, t, true);
}

static bool at_include(struct lexer *lx, struct token *t) {
    static const struct {
        const char *runes, *message;
    } rows[] = {{"[", "Expected include value but found start of an array"},
                {"{", "Expected include value but found start of a map"},
                {"(", "Expected include value but found start of a block"},
                {"0123456789-", "Expected include value but found start of a number"},
                {"\\", "Expected include value but found escape sequence"},
                {"\r\n", "Expected include value but found new line"}};
    int32_t r = take(lx);
    if (is_blank(r))
        return skip_to(lx, AT_INCLUDE);
    if (r == '"' || r == '\'')
        return quoted_include(lx, t, r);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (r && r < 0x80 && strchr(rows[i].runes, (int)r))
            return fail(lx, t, rows[i].message);
    }
    while (!is_newline(r) && !is_blank(r) && r != END && r != ';' && r != '}' && r != '\'')
        r = take(lx);
    return make_include(lx, t, r == '\'');
}

/* ---- */

static bool step(struct lexer *lx, struct token *t) {
    switch ((enum state)lx->state) {
    case AT_TOP:
        return at_top(lx, t);
    case AT_TOP_END:
        return at_top_end(lx, t);
    case AT_KEY:
        return at_key(lx, t);
    case AT_KEY_END:
        return at_key_end(lx, t);
    case AT_VALUE:
        return at_value(lx, t);
    case AT_MAP_KEY:
        return at_map_key(lx, t);
    case AT_MAP_KEY_END:
        return at_map_key_end(lx);
    case AT_MAP_VALUE:
        return at_map_value(lx, t);
    case AT_MAP_END:
        return at_map_end(lx, t);
    case AT_ARRAY_VALUE:
        return at_array_value(lx, t);
    case AT_ARRAY_END:
        return at_array_end(lx, t);
    case AT_INCLUDE:
        return at_include(lx, t);
    case FINISHED:
        break;
    }
    return finish(lx, t);
}

void lexer_open(struct lexer *lx, struct arena *arena, struct view input, bool discreet) {
    *lx = (struct lexer){.arena = arena, .input = input, .discreet = discreet, .line = 1, .state = AT_TOP};
}

void lexer_next(struct lexer *lx, struct token *t) {
    while (!step(lx, t))
        ;
}

static bool follows(const char *at, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return false;
    }
    return true;
}

size_t text_find_fault(struct view text) {
    size_t i = 0;
    while (i < text.len) {
        unsigned char first = (unsigned char)text.at[i];
        if (first < 0x80) {
            if (first == 0)
                return i;
            i++;
            continue;
        }
        uint32_t width = rune_width(first);
        unsigned char second = text.len - i > 1 ? (unsigned char)text.at[i + 1] : 0;
        bool odd = first < 0xc2 || first > 0xf4 || text.len - i < width || (first == 0xe0 && second < 0xa0) ||
                   (first == 0xed && second > 0x9f) || (first == 0xf0 && second < 0x90) ||
                   (first == 0xf4 && second > 0x8f);
        if (odd || !follows(text.at + i + 1, width - 1))
            return i;
        i += width;
    }
    return text.len;
}
