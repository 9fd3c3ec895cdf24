/* SPDX-License-Identifier: Apache-2.0 */
/* Operators, resolvers, and the JWTs that stand in the configuration itself. */
#include <string.h>

#include "config/checker.h"
#include "config/jwt.h"
#include "config/rules.h"
#include "config/url.h"
#include "nats/nkey.h"

RULE(rule_trusted) {
    v = check_shape(c, o, key, v, out);
    uint8_t bytes[NKEY_BYTES];
    for (size_t i = 0; v && i < v->array->count; i++) {
        const struct value *trusted = v->array->at[i];
        if (nkey_parse(bytes, NKEY_OPERATOR, trusted->text) != ERR_OK)
            problem_at(c, trusted, "trust key %q required to be a valid public operator nkey", trusted->text);
    }
    return v;
}

/* ---- operator ---- */

static struct view trim(struct view s) {
    while (s.len && strchr(" \t\r\n", s.at[s.len - 1]))
        s.len--;
    while (s.len && strchr(" \t\r\n", s.at[0]))
        s = view_of(s.at + 1, s.len - 1);
    return s;
}

/* The next line that is not blank, without the blanks around it; empty: there is none. */
static struct view next_line(struct view *rest) {
    struct view line = {"", 0};
    while (rest->len && !line.len) {
        const char *end = memchr(rest->at, '\n', rest->len);
        size_t len = end ? (size_t)(end - rest->at) : rest->len;
        line = trim(view_of(rest->at, len));
        *rest = view_of(rest->at + len + (end != NULL), rest->len - len - (end != NULL));
    }
    return line;
}

/* Three dashes or more, a text, three dashes or more: whatever it says. */
static bool is_mark(struct view line) {
    return view_starts(line, VIEW("---")) && line.len > 6 && memcmp(line.at + line.len - 3, "---", 3) == 0;
}

/* The line between two marks, of which the second may be missing; without marks the whole text. */
static struct view undecorate(struct view s) {
    struct view rest = s, line;
    while ((line = next_line(&rest)).len) {
        if (is_mark(line))
            return next_line(&rest);
    }
    return trim(s);
}

/* A text is a file's path, or the JWT itself. */
static struct value *read_operator(struct checker *c, const struct value *v) {
    struct text why = {.arena = c->arena};
    struct view content = v->text, path = arena_copy(c->arena, v->text);
    bool inline_jwt = view_starts(v->text, VIEW("eyJ"));
    if (inline_jwt || source_read(c->config->source, path.at, c->arena, &content, &why) == ERR_OK) {
        if (jwt_check(undecorate(content), "operator", &why) == ERR_OK)
            return derive_text(c, v, arena_copy(c->arena, undecorate(content)));
    }
    problem_at(c, v, "error parsing operator JWT: %v", text_view(&why));
    return NULL;
}

RULE(rule_operator) {
    struct option row = *o;
    row.wrong = "operators";
    v = check_shape(c, &row, key, v, out);
    if (!v)
        return NULL;
    struct value *jwts = derive(c, v, VALUE_ARRAY);
    for (size_t i = 0; i < v->array->count; i++) {
        struct value *jwt = read_operator(c, v->array->at[i]);
        if (jwt)
            value_append(c->arena, jwts, jwt);
    }
    value_measure(jwts);
    return jwts;
}

/* ---- resolver ---- */

static const char *find_fold(struct view s, const char *word) {
    for (size_t i = 0; i + strlen(word) <= s.len; i++) {
        if (strncasecmp(s.at + i, word, strlen(word)) == 0)
            return s.at + i;
    }
    return NULL;
}

/* What stands between URL( and ), in quotes or not; empty where there is nothing of that form. */
static struct view take_url(struct view s) {
    const char *at = find_fold(s, "URL(");
    struct view rest = at ? view_of(at + 4, s.len - (size_t)(at + 4 - s.at)) : view_of("", 0);
    while (rest.len && strchr(" \t\r\n\"", rest.at[0]))
        rest = view_of(rest.at + 1, rest.len - 1);
    size_t len = 0;
    while (len < rest.len && !strchr(" \t\r\n\")", rest.at[len]))
        len++;
    return view_of(rest.at, len);
}

static struct value *resolver_block(struct checker *c, const struct value *at, const char *type) {
    struct value *block = derive(c, at, VALUE_MAP);
    value_put(c->arena, block, VIEW("type"), derive_text(c, at, view_text(type)));
    value_measure(block);
    return block;
}

static struct value *no_resolver(struct checker *c, const struct value *at) {
    problem_at(c, at,
               "error parsing account resolver, should be MEM or  URL(\"url\") or a map containing dir and type "
               "state=[FULL|CACHE])");
    return NULL;
}

static struct value *resolver_word(struct checker *c, const struct value *v) {
    struct url u;
    if (find_fold(v->text, "MEM"))
        return resolver_block(c, v, "memory");
    if (!find_fold(v->text, "URL"))
        return no_resolver(c, v);
    struct view url = take_url(v->text);
    if (!url_parse(&u, url)) {
        problem_at(c, v, "error parsing account resolver url [%q]", url);
        return NULL;
    }
    struct value *block = resolver_block(c, v, "url");
    value_put(c->arena, block, VIEW("url"), derive_text(c, v, url));
    value_measure(block);
    return block;
}

static bool given_number(const struct value *block, const char *name) {
    const struct value *v = value_find(block, view_text(name));
    return v && (v->type == VALUE_BOOL ? v->truth : v->number != 0);
}

static bool is_odd_folder(struct checker *c, const struct value *dir) {
    return c->config->source->folder(c->config->source->owner, arena_copy(c->arena, dir->text).at) != 0;
}

static struct value *resolver_folder(struct checker *c, struct value *v, struct value *block) {
    const struct value *dir = value_find(block, VIEW("dir")), *type = value_find(block, VIEW("type"));
    bool full = type && view_equal_fold(type->text, "full"), cache = type && view_equal_fold(type->text, "cache");
    size_t before = c->config->problem_count;
    if (!text_given(dir))
        problem_at(c, v, "dir has no value and needs to point to a directory");
    else if (is_odd_folder(c, dir))
        problem_at(c, v, "dir needs to point to an accessible directory");
    else if (!full && !cache)
        return no_resolver(c, v);
    else if (full && given_number(block, "ttl"))
        problem_at(c, v, "FULL does not accept ttl");
    if (cache && c->config->problem_count == before) {
        if (given_number(block, "interval"))
            problem_at(c, v, "CACHE does not accept sync");
        if (given_number(block, "allow_delete"))
            problem_at(c, v, "CACHE does not accept allow_delete");
    }
    if (c->config->problem_count != before)
        return NULL;
    value_put(c->arena, block, VIEW("type"), derive_text(c, type, full ? VIEW("full") : VIEW("cache")));
    return block;
}

RULE(rule_resolver) {
    (void)out;
    if (text_is(v))
        return resolver_word(c, v);
    if (v->type != VALUE_MAP) {
        wrong_type(c, o, key, v, "");
        return NULL;
    }
    size_t before = c->config->problem_count;
    struct value *block = check_block(c, o->inner, v);
    return c->config->problem_count == before ? resolver_folder(c, v, block) : NULL;
}

RULE(rule_preload) {
    (void)out;
    if (v->type != VALUE_MAP) {
        wrong_type(c, o, key, v, "");
        return NULL;
    }
    for (size_t i = 0; i < v->map->count; i++) {
        const struct value *jwt = v->map->at[i].value;
        struct text why = {.arena = c->arena};
        if (!text_is(jwt))
            problem_at(c, jwt, "preload map value should be a string JWT");
        else if (jwt_check(jwt->text, "account", &why) != ERR_OK)
            problem_at(c, jwt, "invalid account JWT");
    }
    return v;
}
