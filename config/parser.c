/* SPDX-License-Identifier: Apache-2.0 */
/* Tokens come in order; a stack holds the open arrays and maps, another the keys that wait for their value.
 *
 * The stack of keys is nats-server's: in `a { b }` the key b has no value, so the map, once closed, belongs to b and a
 * is forgotten. Both servers must call the same files wrong.
 */
#include "config/parser.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "config/lexer.h"

/* What all files of one configuration have in common. */
struct reading {
    struct arena *arena;
    const struct source *source;
    struct text *why;
    size_t total_bytes, file_count, value_count;
    uint32_t reference_depth;
};

struct key {
    struct view name;
    uint32_t line, column;
};

struct parser {
    struct reading *all;
    const struct parser *outer; /* the file that includes this one */
    const char *path;           /* in messages; NULL: a text from the environment */
    struct lexer lexer;
    struct value *open[LEXER_DEPTH_MAX + 1]; /* the first is the file's own map */
    uint32_t open_count;
    struct key *keys;
    size_t key_count, key_cap;
};

static enum err parse(struct parser *p, struct view content);

/* ---- what messages show ---- */

/* Of an included file they show nothing: whoever may name a file to include could else read one that he must not. */
static struct view shown(const struct parser *p, const struct token *t) {
    return p->outer && !p->all->source->shows_included ? VIEW("...") : t->text;
}

/* Where nats-server gives no position, an included file gets at least the line. */
static void say_line(struct parser *p, const struct token *t) {
    if (p->outer)
        text_add_format(p->all->why, " on line %d", (int64_t)t->line);
}

/* ---- values ---- */

static struct value *make_value(struct parser *p, enum value_type type, const struct token *t) {
    struct value *v = value_make(p->all->arena, type);
    v->file = p->path ? p->path : "environment";
    v->line = t->line;
    v->column = t->column;
    return v;
}

static void push_key(struct parser *p, struct key key) {
    p->keys = arena_grow(p->all->arena, p->keys, p->key_count, &p->key_cap, sizeof *p->keys);
    p->keys[p->key_count++] = key;
}

/* Puts a value where it belongs. In a map it gets the position of its key. */
static enum err place_value(struct parser *p, struct value *v) {
    struct value *into = p->open[p->open_count - 1];
    p->all->value_count += v->weight;
    if (p->all->value_count > PARSER_VALUES_MAX) {
        text_add_format(p->all->why, "Parse error on line %d: 'There are more than %d values, variables written out.'",
                        (int64_t)v->line, (int64_t)PARSER_VALUES_MAX);
        return ERR_LONG;
    }
    if (into->type == VALUE_ARRAY) {
        value_append(p->all->arena, into, v);
        into->cut = into->cut || v->cut;
        return ERR_OK;
    }
    check(p->key_count > 0);
    struct key key = p->keys[--p->key_count];
    v->line = key.line;
    v->column = key.column;
    value_put(p->all->arena, into, key.name, v);
    return ERR_OK;
}

static enum err close_value(struct parser *p, const struct token *t) {
    struct value *v = p->open[--p->open_count];
    check(p->open_count > 0);
    v->line = t->line;
    v->column = t->column;
    value_measure(v);
    p->all->value_count -= v->weight - 1; /* its elements have been counted */
    return place_value(p, v);
}

/* ---- numbers, words, dates ---- */

static bool multiply(int64_t *number, struct view suffix) {
    static const char letters[] = "kmgtpe";
    const char *letter = suffix.len && *suffix.at ? strchr(letters, *suffix.at | 0x20) : NULL;
    struct view rest = letter ? view_of(suffix.at + 1, suffix.len - 1) : suffix;
    bool binary = rest.len == 1 || (rest.len == 2 && (rest.at[0] | 0x20) == 'i' && (rest.at[1] | 0x20) == 'b');
    if (!letter || (rest.len && !binary))
        return suffix.len == 0;
    for (const char *step = letters; step <= letter; step++) {
        if (__builtin_mul_overflow(*number, binary ? 1024 : 1000, number))
            errno = ERANGE;
    }
    return true;
}

/* nats-server lets a suffix overflow and drops a number with a strange one: both are faults here. */
static enum err read_integer(struct parser *p, const struct token *t, int64_t *out) {
    char digits[24];
    size_t len = 0;
    while (len < t->text.len && (t->text.at[len] == '-' || (t->text.at[len] >= '0' && t->text.at[len] <= '9')))
        len++;
    errno = len >= sizeof digits ? ERANGE : 0;
    if (!errno) {
        memcpy(digits, t->text.at, len);
        digits[len] = '\0';
        *out = strtoll(digits, NULL, 10);
        if (!errno && !multiply(out, view_of(t->text.at + len, t->text.len - len))) {
            text_add_format(p->all->why, "expected integer, but got '%v'", shown(p, t));
            say_line(p, t);
            return ERR_SYNTAX;
        }
    }
    if (errno) {
        text_add_format(p->all->why, "integer '%v' is out of the range", shown(p, t));
        say_line(p, t);
        return ERR_RANGE;
    }
    return ERR_OK;
}

static int two_digits(const char *at) {
    return (at[0] - '0') * 10 + at[1] - '0';
}

/* The lexer has checked the form YYYY-MM-DDThh:mm:ssZ. */
static bool date_exists(struct view s) {
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = two_digits(s.at) * 100 + two_digits(s.at + 2), month = two_digits(s.at + 5), day = two_digits(s.at + 8);
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month >= 1 && month <= 12 && day >= 1 && day <= days[month - 1] + (month == 2 && leap) &&
           two_digits(s.at + 11) < 24 && two_digits(s.at + 14) < 60 && two_digits(s.at + 17) < 60;
}

static enum err read_scalar(struct parser *p, const struct token *t, struct value *v) {
    switch (t->type) {
    case TOKEN_INTEGER:
        return read_integer(p, t, &v->number);
    case TOKEN_FLOAT: {
        struct view copy = arena_copy(p->all->arena, t->text);
        v->real = strtod(copy.at, NULL);
        return ERR_OK;
    }
    case TOKEN_BOOL: {
        char first = t->text.at[0] | 0x20, second = t->text.at[1] | 0x20;
        v->truth = first == 't' || first == 'y' || (first == 'o' && second == 'n');
        return ERR_OK;
    }
    case TOKEN_DATE:
        v->text = t->text;
        if (date_exists(t->text))
            return ERR_OK;
        text_add_format(p->all->why, "expected Zulu formatted DateTime, but got '%v'", shown(p, t));
        say_line(p, t);
        return ERR_SYNTAX;
    default:
        v->text = t->text;
        return ERR_OK;
    }
}

/* ---- variables ---- */

/* A hash of bcrypt may stand without quotes although it begins like a variable. nats-server knows only $2a$ here. */
static bool is_bcrypt(struct view name) {
    return name.len > 5 && name.at[0] == '2' && memchr("abxy", name.at[1], 4) && name.at[2] == '$' &&
           name.at[3] >= '0' && name.at[3] <= '9' && name.at[4] >= '0' && name.at[4] <= '9' && name.at[5] == '$';
}

/* Variables are the keys of the map being read and of those around it, as far as they have been read. */
static struct value *find_key(struct parser *p, struct view name) {
    for (uint32_t i = p->open_count; i-- > 0;) {
        struct value *v = p->open[i]->type == VALUE_MAP ? value_find(p->open[i], name) : NULL;
        if (v)
            return v;
    }
    return NULL;
}

/* Whether a text behind a key held more than the one value: nats-server takes that and drops the rest without a word. */
static bool has_rest(const struct parser *q, const struct value *v, struct view all) {
    if (q->key_count || q->open[0]->map->count > 1)
        return true;
    const char *end = v && v->type == VALUE_TEXT && v->text.len ? v->text.at + v->text.len : NULL;
    if (!end || v->text.at < all.at || end > all.at + all.len || strchr("\"'(", v->text.at[-1]))
        return false; /* in quotes, or with escapes */
    size_t rest = (size_t)(all.at + all.len - end);
    return rest > strspn(end, " \t\r\n");
}

/* The text of an environment variable is read as if it stood behind a key. */
static enum err read_environment(struct parser *p, const struct token *t, struct value **found) {
    *found = NULL;
    struct view name = arena_copy(p->all->arena, t->text);
    const char *content =
        memchr(name.at, '\0', name.len) ? NULL : p->all->source->environment(p->all->source->owner, name.at);
    if (!content)
        return ERR_OK;
    struct text why = {.arena = p->all->arena}, all = {.arena = p->all->arena};
    if (p->all->reference_depth == PARSER_REFERENCE_DEPTH_MAX) {
        text_add_format(p->all->why, "variable reference cycle for '%v'", shown(p, t));
        return ERR_SYNTAX;
    }
    text_add_format(&all, "pk=%s", content);
    text_add_byte(&all, '\0'); /* behind the text */
    all.len--;
    struct reading inner = *p->all;
    struct parser q = {.all = &inner};
    inner.why = &why;
    inner.reference_depth++;
    enum err e = parse(&q, text_view(&all));
    p->all->value_count = inner.value_count;
    if (e != ERR_OK)
        text_add_format(p->all->why, "variable reference for '%v' on line %d could not be parsed: %v", shown(p, t),
                        (int64_t)t->line, text_view(&why));
    else
        *found = value_find(q.open[0], VIEW("pk"));
    if (*found)
        (*found)->cut = has_rest(&q, *found, text_view(&all));
    return e;
}

static enum err refer(struct parser *p, const struct token *t) {
    struct value *v = make_value(p, VALUE_TEXT, t), *found = find_key(p, t->text);
    if (!found && is_bcrypt(t->text)) {
        v->text = view_of(t->text.at - 1, t->text.len + 1);
        return place_value(p, v);
    }
    if (!found) {
        enum err e = read_environment(p, t, &found);
        if (e != ERR_OK)
            return e;
    }
    if (!found) {
        text_add_format(p->all->why, "variable reference for '%v' on line %d can not be found", shown(p, t),
                        (int64_t)t->line);
        return ERR_SYNTAX;
    }
    if (p->open_count + found->depth > LEXER_DEPTH_MAX) {
        text_add_format(p->all->why, "Parse error on line %d: 'Values are nested too deeply: 128 levels are allowed.'",
                        (int64_t)t->line);
        return ERR_LONG;
    }
    found->used = true;
    struct value place = *v;
    *v = *found;
    v->used = false;
    v->file = place.file;
    v->line = place.line;
    v->column = place.column;
    return place_value(p, v);
}

/* ---- includes ---- */

/* Cleans a path by its letters alone: no empty, '.' or '..' part that can be resolved. */
static void path_clean(char *path) {
    bool rooted = *path == '/';
    char *parts[PARSER_PATH_MAX / 2], *rest = NULL;
    size_t count = 0;
    char copy[PARSER_PATH_MAX];
    strcpy(copy, path); /* not longer than path, which fits */
    for (char *part = strtok_r(copy, "/", &rest); part; part = strtok_r(NULL, "/", &rest)) {
        bool up = strcmp(part, "..") == 0;
        if (strcmp(part, ".") == 0 || (up && count == 0 && rooted))
            continue;
        if (up && count > 0 && strcmp(parts[count - 1], "..") != 0)
            count--;
        else
            parts[count++] = part;
    }
    char *out = path;
    if (rooted)
        *out++ = '/';
    for (size_t i = 0; i < count; i++) {
        if (i)
            *out++ = '/';
        out = stpcpy(out, parts[i]);
    }
    if (out == path)
        *out++ = '.';
    *out = '\0';
}

/* The path of an include beside its file. False: too long, or it holds a NUL. */
static bool join_path(char out[PARSER_PATH_MAX], const char *file, struct view name) {
    const char *slash = strrchr(file, '/');
    size_t dir_len = slash ? (size_t)(slash - file) + 1 : 2;
    if (dir_len + name.len + 1 > PARSER_PATH_MAX || memchr(name.at, '\0', name.len))
        return false;
    memcpy(out, slash ? file : "./", dir_len);
    memcpy(out + dir_len, name.at, name.len);
    out[dir_len + name.len] = '\0';
    path_clean(out);
    return true;
}

static enum err read_file(struct parser *p) {
    struct reading *all = p->all;
    struct view content;
    enum err e = source_read(all->source, p->path, all->arena, &content, all->why);
    if (e != ERR_OK)
        return e;
    all->total_bytes += content.len;
    if (++all->file_count > PARSER_FILES_MAX || all->total_bytes > PARSER_TOTAL_MAX) {
        text_add_format(all->why, "%s is one file too many: %d files and %d bytes are allowed", p->path,
                        (int64_t)PARSER_FILES_MAX, (int64_t)PARSER_TOTAL_MAX);
        return ERR_LONG;
    }
    return parse(p, content);
}

/* nats-server takes an absolute path for a relative one; here it is tried as such when there is no other. */
static void choose_path(const struct parser *p, char path[PARSER_PATH_MAX], struct view name) {
    const struct source *s = p->all->source;
    if (name.len && *name.at == '/' && s->probe(s->owner, path) == ENOENT) {
        struct view absolute = arena_copy(p->all->arena, name);
        if (s->probe(s->owner, absolute.at) == 0)
            memcpy(path, absolute.at, absolute.len + 1);
    }
}

/* True if the file is being read already. */
static bool is_open(const struct parser *p, const char *path) {
    while (p && (!p->path || strcmp(p->path, path) != 0))
        p = p->outer;
    return p != NULL;
}

static enum err include(struct parser *p, const struct token *t) {
    char path[PARSER_PATH_MAX];
    uint32_t depth = 0;
    for (const struct parser *q = p; q; q = q->outer)
        depth++;
    struct text why = {.arena = p->all->arena}, *outer_why = p->all->why;
    struct parser *inner = arena_take(p->all->arena, sizeof *inner);
    inner->all = p->all;
    inner->outer = p;
    enum err e = ERR_LONG;
    p->all->why = &why;
    if (!p->path) {
        e = ERR_SYNTAX;
        text_add_format(&why, "an environment variable includes no file");
    } else if (depth > PARSER_INCLUDE_DEPTH_MAX || !join_path(path, p->path, t->text)) {
        text_add_format(&why, "files are nested more than %d deep, or the path is too long",
                        (int64_t)PARSER_INCLUDE_DEPTH_MAX);
    } else {
        choose_path(p, path, t->text);
        inner->path = arena_copy(p->all->arena, view_text(path)).at;
        e = is_open(p, path) ? ERR_SYNTAX : read_file(inner);
        if (e != ERR_OK && !why.len)
            text_add_format(&why, "%s includes itself on line %d", path, (int64_t)t->line);
    }
    p->all->why = outer_why;
    if (e != ERR_OK) {
        text_add_format(outer_why, "error parsing include file '%v', %v", t->text, text_view(&why));
        return ERR_SYNTAX;
    }
    const struct value_map *m = inner->open[0]->map;
    for (size_t i = 0; i < m->count; i++) {
        struct value *v = m->at[i].value;
        if (p->open_count + v->depth > LEXER_DEPTH_MAX) {
            text_add_format(outer_why, "error parsing include file '%v', values are nested too deeply", t->text);
            return ERR_LONG;
        }
        p->all->value_count -= v->weight;
        push_key(p, (struct key){m->at[i].key, v->line, v->column});
        e = place_value(p, v);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

/* ---- */

static enum err parse_token(struct parser *p, const struct token *t) {
    switch (t->type) {
    case TOKEN_ERROR:
        text_add_format(p->all->why, "Parse error on line %d: '%v'", (int64_t)t->line, t->text);
        return ERR_SYNTAX;
    case TOKEN_KEY:
        push_key(p, (struct key){t->text, t->line, t->column});
        return ERR_OK;
    case TOKEN_ARRAY_START:
        p->open[p->open_count++] = make_value(p, VALUE_ARRAY, t);
        return ERR_OK;
    case TOKEN_MAP_START:
        p->open[p->open_count++] = make_value(p, VALUE_MAP, t);
        return ERR_OK;
    case TOKEN_ARRAY_END:
    case TOKEN_MAP_END:
        return close_value(p, t);
    case TOKEN_VARIABLE:
        return refer(p, t);
    case TOKEN_INCLUDE:
        return include(p, t);
    case TOKEN_END:
        return ERR_OK;
    case TOKEN_TEXT:
    case TOKEN_BOOL:
    case TOKEN_INTEGER:
    case TOKEN_FLOAT:
    case TOKEN_DATE:
        break;
    }
    static const enum value_type types[] = {[TOKEN_TEXT] = VALUE_TEXT,
                                            [TOKEN_BOOL] = VALUE_BOOL,
                                            [TOKEN_INTEGER] = VALUE_INT,
                                            [TOKEN_FLOAT] = VALUE_FLOAT,
                                            [TOKEN_DATE] = VALUE_DATE};
    struct value *v = make_value(p, types[t->type], t);
    enum err e = read_scalar(p, t, v);
    return e == ERR_OK ? place_value(p, v) : e;
}

static enum err check_text(struct parser *p, struct view content) {
    size_t fault = text_find_fault(content);
    if (fault == content.len)
        return ERR_OK;
    int64_t line = 1, byte = 1;
    for (size_t i = 0; i < fault; i++) {
        byte = content.at[i] == '\n' ? 1 : byte + 1;
        line += content.at[i] == '\n';
    }
    text_add_format(p->all->why, "Parse error on line %d: '%s at byte %d of the line.'", line,
                    content.at[fault] ? "Invalid UTF-8" : "NUL", byte);
    return ERR_SYNTAX;
}

/* The end of a file that stands in braces reads as a key. */
static bool is_braces(struct view key) {
    for (size_t i = 0; i < key.len; i++) {
        if (key.at[i] != '}')
            return false;
    }
    return true;
}

/* A last key without a value is no entry: nats-server says so since 2.9.21. */
static enum err parse(struct parser *p, struct view content) {
    struct token t = {.line = 1}, before = t;
    p->open[p->open_count++] = make_value(p, VALUE_MAP, &t);
    enum err e = check_text(p, content);
    lexer_open(&p->lexer, p->all->arena, content, p->outer && !p->all->source->shows_included);
    do {
        if (e == ERR_OK) {
            before = t;
            lexer_next(&p->lexer, &t);
            e = parse_token(p, &t);
        }
    } while (e == ERR_OK && t.type != TOKEN_END);
    if (e == ERR_OK && p->path && before.type == TOKEN_KEY && !is_braces(before.text)) {
        text_add_format(p->all->why, "config is invalid (%s:%d:%d)", p->path, (int64_t)t.line, (int64_t)t.column);
        e = ERR_SYNTAX;
    }
    value_measure(p->open[0]);
    return e;
}

enum err parser_read(struct value **top, struct arena *arena, const struct source *source, const char *path,
                     struct text *why) {
    struct reading all = {.arena = arena, .source = source, .why = why};
    struct parser *p = arena_take(arena, sizeof *p);
    p->all = &all;
    p->path = arena_copy(arena, view_text(path)).at;
    enum err e = read_file(p);
    *top = p->open[0];
    return e;
}

enum err parser_read_text(struct value **top, struct arena *arena, const struct source *source, const char *path,
                          struct view content, struct text *why) {
    struct reading all = {.arena = arena, .source = source, .why = why};
    struct parser *p = arena_take(arena, sizeof *p);
    p->all = &all;
    p->path = arena_copy(arena, view_text(path)).at;
    enum err e = parse(p, content);
    *top = p->open[0];
    return e;
}
