/* SPDX-License-Identifier: Apache-2.0 */
/* Scalars in struct options are compared as what they mean, defaults filled in; everything else by its mark. A block
 * whose options are rows of their own (cluster, gateway, leafnodes, ...) is judged row by row. */
#include "config/reload.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "config/checker.h"

/* ---- marks ---- */

/* Blocks of which only the certificates may change: there every `tls` inside is left out of a mark. */
static bool is_frozen(enum section section) {
    return section == SECTION_GATEWAY || section == SECTION_LEAFNODES || section == SECTION_WEBSOCKET ||
           section == SECTION_MQTT;
}

static struct value *without_tls(struct arena *arena, struct value *v) {
    if (v->type == VALUE_ARRAY) {
        struct value *copy = value_make(arena, VALUE_ARRAY);
        for (size_t i = 0; i < v->array->count; i++)
            value_append(arena, copy, without_tls(arena, v->array->at[i]));
        return copy;
    }
    if (v->type != VALUE_MAP)
        return v;
    struct value *copy = value_make(arena, VALUE_MAP);
    for (size_t i = 0; i < v->map->count; i++) {
        if (!view_equal(v->map->at[i].key, VIEW("tls")))
            value_put(arena, copy, v->map->at[i].key, without_tls(arena, v->map->at[i].value));
    }
    return copy;
}

static bool is_row(const struct option *row, enum section section, const char *name) {
    return row->section == section && row->names && view_equal(option_name(row), view_text(name));
}

/* The value of a row in the one block that it can stand in. */
static struct value *value_of(const struct config *c, const struct option *row) {
    const char *block = row->names ? sections[row->section].key : NULL;
    struct value *map = !block ? NULL : *block ? value_find(c->tree, view_text(block)) : c->tree;
    return map && map->type == VALUE_MAP ? value_find(map, option_name(row)) : NULL;
}

void reload_keep(struct reload_state *state, const struct config *c, struct view certificates,
                 const uint8_t key[static RELOAD_KEY_BYTES]) {
    check(option_count <= RELOAD_MARKS);
    memset(state, 0, sizeof *state);
    state->options = c->options;
    for (size_t i = 0; i < option_count; i++) {
        const struct option *row = &option_table[i];
        struct value *v = value_of(c, row);
        if (!v)
            continue;
        struct arena scratch = {0};
        struct text t = {.arena = &scratch};
        bool whole = !is_frozen(row->section) || view_equal(option_name(row), VIEW("tls"));
        value_print(&t, whole ? v : without_tls(&scratch, v), false);
        if (is_row(row, SECTION_TOP, "tls"))
            text_add(&t, certificates);
        crypto_generichash(state->marks.at[i], RELOAD_MARK_BYTES, (const unsigned char *)t.at, t.len, key,
                           RELOAD_KEY_BYTES);
        arena_free(&scratch);
    }
}

/* ---- differences ---- */

struct comparing {
    const struct reload_state *old, *new;
    struct arena *arena;
    struct reload_changes *changes;
    struct text *why;
};

static bool has_changed(const struct comparing *d, size_t i) {
    const struct option *row = &option_table[i];
    if (!row->size)
        return memcmp(d->old->marks.at[i], d->new->marks.at[i], RELOAD_MARK_BYTES) != 0;
    const char *a = option_place_const(row, &d->old->options), *b = option_place_const(row, &d->new->options);
    bool text = row->size > sizeof(int64_t);
    return text ? strcmp(a, b) != 0 : memcmp(a, b, row->size) != 0;
}

/* struct options has what the administrator switches off. */
static bool is_inverted(const struct option *row) {
    return row->section == SECTION_SANDBOX || is_row(row, SECTION_TOP, "sandbox");
}

/* A scalar as it would be logged. */
static void show(struct text *t, const struct option *row, const struct options *o) {
    const char *place = option_place_const(row, o);
    int64_t number;
    if (row->size == sizeof(bool)) {
        text_add_format(t, "%s", *(const bool *)place != is_inverted(row) ? "true" : "false");
    } else if (row->size == sizeof(int64_t)) {
        memcpy(&number, place, sizeof number);
        text_add_format(t, shape_is_time(row->shape) ? "%D" : "%d", number);
    } else {
        text_add_format(t, "%s", place);
    }
}

static bool is_given(const struct reload_state *s, size_t i) {
    static const uint8_t none[RELOAD_MARK_BYTES];
    return memcmp(s->marks.at[i], none, RELOAD_MARK_BYTES) != 0;
}

static void refuse(struct comparing *d, const struct option *row, const char *field) {
    if (d->why->len)
        return; /* one is enough */
    text_add_format(d->why, "config reload not supported for %s: old=", field);
    if (row->size)
        show(d->why, row, &d->old->options);
    else
        text_add(d->why, VIEW("{...}"));
    text_add(d->why, VIEW(", new="));
    if (row->size)
        show(d->why, row, &d->new->options);
    else
        text_add(d->why, VIEW("{...}"));
}

/* As Go prints a float. */
static const char *seconds_text(struct arena *arena, int64_t ns) {
    char digits[40];
    snprintf(digits, sizeof digits, "%g", (double)ns / 1e9);
    return arena_copy(arena, view_text(digits)).at;
}

/* Adds a line unless the one before says the same. */
static void accept(struct comparing *d, const struct option *row, struct text *line) {
    struct reload_changes *l = d->changes;
    for (size_t i = 0; i < l->count; i++) {
        if (view_equal(l->at[i].line, text_view(line)))
            return;
    }
    l->at = arena_grow(d->arena, l->at, l->count, &l->cap, sizeof *l->at);
    l->at[l->count++] = (struct reload_change){row, text_view(line)};
}

static void accept_row(struct comparing *d, size_t i) {
    const struct option *row = &option_table[i];
    struct text line = {.arena = d->arena};
    /* nats-server's spelling of the one */
    text_add(&line, is_row(row, SECTION_TOP, "client_advertise") ? VIEW("Reload: ") : VIEW("Reloaded: "));
    if (row->said)
        text_add_format(&line, "%s", row->said);
    else
        text_add(&line, option_name(row));
    if (is_row(row, SECTION_TOP, "tls")) {
        text_add_format(&line, " = %s", is_given(d->new, i) ? "enabled" : "disabled");
    } else if (row->size && row->section != SECTION_AUTHORIZATION) {
        text_add(&line, VIEW(" = "));
        show(&line, row, &d->new->options);
    } else if (row->offset == offsetof(struct options, auth_timeout_ns) && row->size) {
        text_add_format(&line, " = %d", d->new->options.auth_timeout_ns / 1000000000);
    }
    accept(d, row, &line);
}

/* ---- rows with rules of their own ---- */

/* A port that becomes "any free one" stays; a user for nobody may only go; $SYS may go as it came. */
static bool is_tolerated(const struct comparing *d, const struct option *row) {
    if (is_row(row, SECTION_TOP, "port"))
        return d->new->options.port == -1;
    if (is_row(row, SECTION_TOP, "no_auth_user"))
        return !d->new->options.no_auth_user[0];
    if (is_row(row, SECTION_TOP, "system_account"))
        return !d->new->options.system_account[0] && strcmp(d->old->options.system_account, "$SYS") == 0;
    return false;
}

static const struct option *block_row(enum section section) {
    return option_find(SECTION_TOP, view_text(sections[section].key));
}

static void judge_cluster(struct comparing *d, size_t i) {
    const struct option *row = &option_table[i];
    struct text line = {.arena = d->arena};
    if (row->reload == RELOAD_NO) {
        refuse(d, row, row->field ? row->field : "Cluster");
        return;
    }
    text_add(&line,
             is_row(row, SECTION_CLUSTER, "routes") ? VIEW("Reloaded: cluster routes") : VIEW("Reloaded: cluster"));
    accept(d, row, &line);
}

static void judge_top(struct comparing *d, size_t i) {
    const struct option *row = &option_table[i];
    bool resolver = is_row(row, SECTION_TOP, "resolver");
    if (resolver && is_given(d->old, i) != is_given(d->new, i)) {
        if (!d->why->len)
            text_add(d->why, VIEW("config reload does not support moving to or from an account resolver"));
    } else if (row->reload == RELOAD_LIVE || is_tolerated(d, row)) {
        accept_row(d, i);
    } else {
        refuse(d, row, row->field ? row->field : arena_copy(d->arena, option_name(row)).at);
    }
}

static void judge(struct comparing *d, size_t i) {
    const struct option *row = &option_table[i];
    switch (row->section) {
    case SECTION_TOP:
        judge_top(d, i);
        break;
    case SECTION_AUTHORIZATION:
        accept_row(d, i);
        break;
    case SECTION_CLUSTER:
        judge_cluster(d, i);
        break;
    default:
        if (block_row(row->section)->reload == RELOAD_LIVE ||
            (is_frozen(row->section) && view_equal(option_name(row), VIEW("tls"))))
            accept_row(d, i);
        else
            refuse(d, row, block_row(row->section)->field);
    }
}

/* Rows that are judged where their block is: in blocks without rows of their own that count. */
static bool is_judged(const struct option *row) {
    if (!row->names || !sections[row->section].key)
        return false;
    if (row->section == SECTION_OCSP || row->section == SECTION_RESOLVER)
        return false;
    bool block = row->section == SECTION_TOP && row->shape == SHAPE_BLOCK && row->inner != SECTION_OCSP &&
                 sections[row->inner].key;
    return !block || row->size;
}

enum err reload_compare(const struct reload_state *old, const struct reload_state *new, struct arena *arena,
                        struct reload_changes *changes, struct text *why) {
    struct comparing d = {old, new, arena, changes, why};
    for (size_t i = 0; i < option_count; i++) {
        if (is_judged(&option_table[i]) && has_changed(&d, i))
            judge(&d, i);
    }
    if (strcmp(old->options.http_host, new->options.http_host) != 0 && !why->len)
        text_add_format(why, "config reload not supported for HTTPHost: old=%s, new=%s", old->options.http_host,
                        new->options.http_host);
    if (old->options.tls_timeout_ns != new->options.tls_timeout_ns) {
        struct text line = {.arena = arena};
        text_add_format(&line, "Reloaded: tls timeout = %s", seconds_text(arena, new->options.tls_timeout_ns));
        accept(&d, option_find(SECTION_TOP, VIEW("tls")), &line);
    }
    return why->len ? ERR_STATE : ERR_OK;
}
