/* SPDX-License-Identifier: Apache-2.0 */
/* A destination may hold functions in double braces, `$1` for short, each naming wildcards of the source by number. All
 * wildcards of the source must be used. */
#include "config/mapping.h"

#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "config/url.h"
#include "nats/subject.h"

static const struct function {
    const char *name;
    int least, most; /* arguments */
    bool texts;      /* the second one is a text */
    bool lists;      /* all after the first name wildcards */
} functions[] = {{"wildcard", 1, 1, false, false},      {"partition", 2, 64, false, true},
                 {"splitfromleft", 2, 2, false, false}, {"splitfromright", 2, 2, false, false},
                 {"slicefromleft", 2, 2, false, false}, {"slicefromright", 2, 2, false, false},
                 {"split", 2, 2, true, false}};

bool subject_next_token(struct view *token, struct view *rest, bool *more) {
    if (!*more)
        return false;
    const char *dot = rest->len ? memchr(rest->at, '.', rest->len) : NULL;
    size_t len = dot ? (size_t)(dot - rest->at) : rest->len;
    *token = view_of(rest->at, len);
    *more = dot != NULL;
    *rest = dot ? view_of(dot + 1, rest->len - len - 1) : view_of(rest->at + len, 0);
    return true;
}

static bool is_text(struct view v, const char *text) {
    return view_equal(v, view_text(text));
}

static struct view trim(struct view s) {
    while (s.len && *s.at == ' ')
        s = view_of(s.at + 1, s.len - 1);
    while (s.len && s.at[s.len - 1] == ' ')
        s.len--;
    return s;
}

static enum err fail(struct text *why, const char *what, struct view token) {
    text_add_format(why, "invalid mapping destination: %s in %v", what, token);
    return ERR_SYNTAX;
}

/* The function between {{ and }} and what stands in its parentheses; NULL: no function has that name. */
static const struct function *find_function(struct view token, struct view *arguments) {
    struct view s = trim(view_of(token.at + 2, token.len - 4));
    const char *open = s.len ? memchr(s.at, '(', s.len) : NULL;
    if (!open || s.at[s.len - 1] != ')')
        return NULL;
    struct view name = trim(view_of(s.at, (size_t)(open - s.at)));
    *arguments = view_of(open + 1, s.len - (size_t)(open - s.at) - 2);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        if (name.len == strlen(functions[i].name) && strncasecmp(name.at, functions[i].name, name.len) == 0)
            return &functions[i];
    }
    return NULL;
}

static bool names_wildcard(const struct function *f, int i) {
    return f->lists ? i > 0 : i == 0;
}

/* Checks the arguments of one function against the number of wildcards of the source. */
static enum err check_function(const struct function *f, struct view token, struct view arguments, int64_t wildcards,
                               struct text *why) {
    int count = 0;
    for (bool more = trim(arguments).len > 0; more; count++) {
        const char *comma = arguments.len ? memchr(arguments.at, ',', arguments.len) : NULL;
        size_t len = comma ? (size_t)(comma - arguments.at) : arguments.len;
        struct view one = trim(view_of(arguments.at, len));
        int64_t number = 0;
        more = comma != NULL;
        arguments = more ? view_of(comma + 1, arguments.len - len - 1) : arguments;
        bool number_wanted = !(f->texts && count == 1);
        if (count < f->most && (number_wanted ? !parse_int(one, &number) : memchr(one.at, ' ', one.len) != NULL))
            return fail(why, "function argument is invalid or in the wrong format", token);
        if (number_wanted && names_wildcard(f, count) && number > wildcards) {
            text_add_format(why, "invalid mapping destination: wildcard index out of range in %v: [%d]", token, number);
            return ERR_SYNTAX;
        }
    }
    if (count < f->least)
        return fail(why, "not enough arguments passed to the function", token);
    return count > f->most ? fail(why, "too many arguments passed to the function", token) : ERR_OK;
}

static bool is_function(struct view token) {
    return token.len > 4 && view_starts(token, VIEW("{{")) && token.at[token.len - 1] == '}' &&
           token.at[token.len - 2] == '}';
}

/* Counts what names a wildcard of the source. */
static enum err check_destination(struct view destination, int64_t wildcards, int64_t *used, struct text *why) {
    struct view token, rest = destination, arguments;
    int64_t number;
    for (bool more = true; subject_next_token(&token, &rest, &more);) {
        if (is_function(token)) {
            const struct function *f = find_function(token, &arguments);
            if (!f)
                return fail(why, "unknown function", token);
            if (wildcards && check_function(f, token, arguments, wildcards, why) != ERR_OK)
                return ERR_SYNTAX;
            ++*used;
        } else if (token.len > 1 && *token.at == '$' && parse_int(view_of(token.at + 1, token.len - 1), &number)) {
            if (number > wildcards && wildcards) {
                text_add_format(why, "invalid mapping destination: wildcard index out of range in %v: [%d]", token,
                                number);
                return ERR_SYNTAX;
            }
            ++*used;
        } else if (memchr(token.at, ' ', token.len) || memchr(token.at, '\t', token.len)) {
            text_add(why, VIEW("invalid mapping destination: invalid subject"));
            return ERR_SYNTAX;
        }
    }
    return ERR_OK;
}

static bool ends_full(struct view subject) {
    return is_text(subject, ">") ||
           (subject.len > 1 && view_equal(view_of(subject.at + subject.len - 2, 2), VIEW(".>")));
}

static int64_t count_wildcards(struct view subject) {
    struct view token;
    int64_t count = 0;
    for (bool more = true; subject_next_token(&token, &subject, &more);)
        count += is_text(token, "*");
    return count;
}

enum err mapping_check(struct view source, struct view destination, struct text *why) {
    int64_t wildcards = count_wildcards(source), used = 0;
    if (!subject_is_pattern(destination)) {
        text_add(why, VIEW("invalid mapping destination: invalid subject in "));
        return ERR_SYNTAX;
    }
    if (check_destination(destination, wildcards, &used, why) != ERR_OK)
        return ERR_SYNTAX;
    if (!subject_is_pattern(source) || count_wildcards(destination) || ends_full(source) != ends_full(destination)) {
        text_add(why, VIEW("invalid subject"));
        return ERR_SYNTAX;
    }
    return used < wildcards ? fail(why, "not using all of the token wildcard(s)", destination) : ERR_OK;
}

void mapping_number_wildcards(struct text *t, struct view subject) {
    struct view token, rest = subject;
    int64_t number = 0;
    for (bool more = true; subject_next_token(&token, &rest, &more);) {
        if (is_text(token, "*"))
            text_add_format(t, "$%d", ++number);
        else
            text_add(t, token);
        if (more)
            text_add_byte(t, '.');
    }
}
