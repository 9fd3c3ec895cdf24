/* SPDX-License-Identifier: Apache-2.0 */
/* config/checker.h: what the rules have in common while one configuration is checked. Only for config/. */
#ifndef CONFIG_CHECKER_H
#define CONFIG_CHECKER_H

#include "config/config.h"

struct checker {
    struct config *config;
    struct arena *arena;
    struct value *names; /* a map of the users and nkeys so far: they are unique over all accounts */
    bool single_user, token;
    bool stores; /* scalars go to struct options: not while a block is read that has the same options for another end */
    bool peer;   /* TLS between servers */
};

/* Checks a map by the table; returns the checked map. */
struct value *check_block(struct checker *c, enum section section, const struct value *map);

/* The shape's own rule; a row's rule may begin with it. */
option_rule check_shape;

/* Puts a scalar where struct options has it. */
void store_option(struct checker *c, const struct option *o, const struct value *v);

/* Adds an error at a value's position; at NULL: without a position. The format is that of text_add_format. What it inserts
 * is hidden where the value's file may not be shown; %s, a text of the program, is not. */
void problem_at(struct checker *c, const struct value *at, const char *format, ...);

/* Adds `invalid use of field`. The field's name is shown: it is an option's, or the caller has hidden it. */
void warning_at(struct checker *c, const struct value *at, struct view field, const char *reason);

/* As problem_at, for what is no fault. */
void notice_at(struct checker *c, const struct value *at, const char *format, ...);

/* Adds the error for a value of the wrong type: the row's, or Go's, which wanted type. */
void wrong_type(struct checker *c, const struct option *o, struct view key, const struct value *v, const char *type);

/* A new scalar at the position of another value. */
struct value *derive_int(struct checker *c, const struct value *at, int64_t number);
struct value *derive_text(struct checker *c, const struct value *at, struct view text);
struct value *derive(struct checker *c, const struct value *at, enum value_type type);

static inline bool text_is(const struct value *v) {
    return v && v->type == VALUE_TEXT;
}

/* True for a text value that is not empty. */
static inline bool text_given(const struct value *v) {
    return text_is(v) && v->text.len > 0;
}

/* Equal but for the case of ASCII letters. */
bool view_equal_fold(struct view a, const char *b);

/* Enters users into the names; one that is taken is an error at the given position. With first_only the first such ends
 * it. */
void take_names(struct checker *c, const struct value *at, const struct value *users, bool first_only);

/* Whether the files of a tls block are there and look like what they should be; if not, why says it. */
enum err tls_check_files(const struct source *source, struct arena *arena, const struct value *block, struct text *why);

/* Imports and exports, once all accounts are known and nothing else was wrong. */
void link_accounts(struct checker *c, const struct value *accounts);

#endif
