/* SPDX-License-Identifier: Apache-2.0 */
#include "config/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/wipe.h"
#include "config/checker.h"

void config_open(struct config *c, const struct source *source) {
    *c = (struct config){.source = source};
    c->tree = value_make(&c->arena, VALUE_MAP);
    c->fault.arena = &c->arena;
    options_clear(&c->options);
}

void config_close(struct config *c) {
    arena_free(&c->arena);
    wipe(c, sizeof *c);
}

/* ---- reading ---- */

/* The key's entry under any of the option's names; NULL: none. The last one counts, as for every option. */
static struct value_entry *find_entry(const struct value *top, const char *name) {
    const struct option *o = option_find(SECTION_TOP, view_text(name));
    for (size_t i = top->map->count; i-- > 0;) {
        if (option_find(SECTION_TOP, top->map->at[i].key) == o)
            return &top->map->at[i];
    }
    return NULL;
}

/* Accounts are checked last: whether their users go with a single user is said at their position. */
static void check_top(struct checker *c, struct value *top) {
    struct value_entry *accounts = find_entry(top, "accounts");
    struct value *rest = derive(c, top, VALUE_MAP);
    for (size_t i = 0; i < top->map->count; i++) {
        if (&top->map->at[i] != accounts)
            value_put(c->arena, rest, top->map->at[i].key, top->map->at[i].value);
    }
    if (accounts)
        value_put(c->arena, rest, accounts->key, accounts->value);
    c->config->tree = check_block(c, SECTION_TOP, rest);
    const struct value *checked = value_find(c->config->tree, VIEW("accounts"));
    if (checked && !config_has_errors(c->config))
        link_accounts(c, checked);
}

enum err config_read(struct config *c, const char *path) {
    struct value *top;
    c->path = arena_copy(&c->arena, view_text(path)).at;
    enum err e = parser_read(&top, &c->arena, c->source, path, &c->fault);
    if (e != ERR_OK)
        return e;
    struct checker checker = {
        .config = c, .arena = &c->arena, .names = value_make(&c->arena, VALUE_MAP), .stores = true};
    check_top(&checker, top);
    return config_has_errors(c) ? ERR_SYNTAX : ERR_OK;
}

/* ---- problems ---- */

static bool has_problems(const struct config *c, enum problem_kind kind) {
    for (size_t i = 0; i < c->problem_count; i++) {
        if (c->problems[i].kind == kind)
            return true;
    }
    return false;
}

bool config_has_errors(const struct config *c) {
    return c->fault.len || c->problems_left_out || has_problems(c, PROBLEM_ERROR);
}

bool config_has_warnings(const struct config *c) {
    return has_problems(c, PROBLEM_WARNING);
}

void config_say(const struct config *c, struct text *t) {
    if (c->fault.len)
        text_add(t, text_view(&c->fault));
    for (enum problem_kind kind = PROBLEM_WARNING; kind <= PROBLEM_NOTICE; kind++) {
        for (size_t i = 0; i < c->problem_count; i++) {
            if (c->problems[i].kind == kind)
                text_add_format(t, "%v\n", c->problems[i].text);
        }
    }
    if (c->problems_left_out)
        text_add_format(t, "and %d more\n", (int64_t)c->problems_left_out);
}

/* ---- the tree ---- */

struct value *config_find(const struct config *c, const char *path) {
    struct value *v = c->tree;
    while (*path) {
        size_t len = strcspn(path, ".");
        if (v->type != VALUE_MAP || !(v = value_find(v, view_of(path, len))))
            return NULL;
        path += len + (path[len] == '.');
    }
    return v;
}

void config_put(struct config *c, enum section section, struct view name, struct value *v) {
    const char *key = sections[section].key;
    struct value *map = c->tree;
    check(key);
    if (*key) {
        map = value_find(c->tree, view_text(key));
        if (!map || map->type != VALUE_MAP) {
            map = value_make(&c->arena, VALUE_MAP);
            value_put(&c->arena, c->tree, view_text(key), map);
        }
    }
    value_put(&c->arena, map, name, v);
    value_measure(map);
    value_measure(c->tree);
}

void config_remove(struct config *c, struct view name) {
    struct value *rest = value_make(&c->arena, VALUE_MAP);
    for (size_t i = 0; i < c->tree->map->count; i++) {
        if (!view_equal(c->tree->map->at[i].key, name))
            value_put(&c->arena, rest, c->tree->map->at[i].key, c->tree->map->at[i].value);
    }
    value_measure(rest);
    c->tree = rest;
}

void config_print(const struct config *c, enum config_part part, struct text *t) {
    value_print_entries(t, c->tree, part != PART_AUTH);
}
