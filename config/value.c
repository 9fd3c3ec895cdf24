/* SPDX-License-Identifier: Apache-2.0 */
#include "config/value.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "config/lexer.h"

enum { INDEX_FROM = 8 }; /* smaller maps are searched from end to end */

struct value *value_make(struct arena *a, enum value_type type) {
    struct value *v = arena_take(a, sizeof *v);
    v->type = type;
    v->weight = 1;
    if (type == VALUE_ARRAY)
        v->array = arena_take(a, sizeof *v->array);
    if (type == VALUE_MAP)
        v->map = arena_take(a, sizeof *v->map);
    v->depth = type == VALUE_ARRAY || type == VALUE_MAP;
    return v;
}

struct value *value_make_text(struct arena *a, struct view text) {
    struct value *v = value_make(a, VALUE_TEXT);
    v->text = arena_copy(a, text);
    return v;
}

void value_append(struct arena *a, struct value *array, struct value *element) {
    struct value_array *l = array->array;
    l->at = arena_grow(a, l->at, l->count, &l->cap, sizeof *l->at);
    l->at[l->count++] = element;
}

/* ---- maps ---- */

static uint64_t key_hash(struct view key) {
    static struct hash_key secret;
    if (!secret.k[3]) {
        hash_key_make(&secret);
        secret.k[3] |= 1;
    }
    return hash_bytes(&secret, key.at, key.len);
}

/* The place in the index that holds the key, or the empty one where it belongs. */
static uint32_t *index_place(const struct value_map *m, struct view key) {
    size_t i = key_hash(key) & (m->index_cap - 1);
    while (m->index[i] && !view_equal(m->at[m->index[i] - 1].key, key))
        i = (i + 1) & (m->index_cap - 1);
    return &m->index[i];
}

static void index_build(struct arena *a, struct value_map *m) {
    m->index_cap = m->index_cap ? m->index_cap * 2 : 4 * INDEX_FROM;
    m->index = arena_take(a, m->index_cap * sizeof *m->index);
    for (size_t i = 0; i < m->count; i++)
        *index_place(m, m->at[i].key) = (uint32_t)i + 1;
}

static struct value_entry *map_entry(const struct value_map *m, struct view key) {
    if (m->index) {
        uint32_t place = *index_place(m, key);
        return place ? &m->at[place - 1] : NULL;
    }
    for (size_t i = 0; i < m->count; i++) {
        if (view_equal(m->at[i].key, key))
            return &m->at[i];
    }
    return NULL;
}

void value_put(struct arena *a, struct value *map, struct view key, struct value *v) {
    struct value_map *m = map->map;
    struct value_entry *entry = map_entry(m, key);
    if (entry) {
        entry->value = v;
        return;
    }
    m->at = arena_grow(a, m->at, m->count, &m->cap, sizeof *m->at);
    m->at[m->count++] = (struct value_entry){key, v};
    if (m->index && m->count * 2 <= m->index_cap)
        *index_place(m, key) = (uint32_t)m->count;
    else if (m->count >= INDEX_FROM)
        index_build(a, m);
}

struct value *value_find(const struct value *map, struct view key) {
    struct value_entry *entry = map_entry(map->map, key);
    return entry ? entry->value : NULL;
}

void value_measure(struct value *v) {
    size_t count = v->type == VALUE_ARRAY ? v->array->count : v->map->count;
    v->depth = v->weight = 1;
    for (size_t i = 0; i < count; i++) {
        const struct value *inner = v->type == VALUE_ARRAY ? v->array->at[i] : v->map->at[i].value;
        v->weight += inner->weight; /* far from an overflow: the parser bounds each */
        if (inner->depth >= v->depth)
            v->depth = inner->depth + 1;
    }
}

static bool arrays_equal(const struct value_array *a, const struct value_array *b) {
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (!value_equal(a->at[i], b->at[i]))
            return false;
    }
    return true;
}

static bool maps_equal(const struct value_map *a, const struct value_map *b) {
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        struct value_entry *other = map_entry(b, a->at[i].key);
        if (!other || !value_equal(a->at[i].value, other->value))
            return false;
    }
    return true;
}

bool value_equal(const struct value *a, const struct value *b) {
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case VALUE_TEXT:
    case VALUE_DATE:
        return view_equal(a->text, b->text);
    case VALUE_INT:
        return a->number == b->number;
    case VALUE_FLOAT:
        return a->real == b->real;
    case VALUE_BOOL:
        return a->truth == b->truth;
    case VALUE_ARRAY:
        return a->array == b->array || arrays_equal(a->array, b->array);
    case VALUE_MAP:
        return a->map == b->map || maps_equal(a->map, b->map);
    }
    return false;
}

/* ---- words ---- */

const char *value_type_name(enum value_type type) {
    static const char *const names[] = {
        "string", "int64", "float64", "bool", "time.Time", "[]interface {}", "map[string]interface {}"};
    check((size_t)type < sizeof names / sizeof *names);
    return names[type];
}

void value_show(struct text *t, const struct value *v) {
    char number[40];
    switch (v->type) {
    case VALUE_TEXT:
    case VALUE_DATE:
        text_add(t, v->secret ? VIEW("[REDACTED]") : v->text);
        break;
    case VALUE_INT:
        text_add_format(t, "%d", v->number);
        break;
    case VALUE_FLOAT:
        snprintf(number, sizeof number, "%.15g", v->real);
        text_add(t, view_text(number));
        break;
    case VALUE_BOOL:
        text_add(t, v->truth ? VIEW("true") : VIEW("false"));
        break;
    case VALUE_ARRAY:
        text_add(t, VIEW("[...]"));
        break;
    case VALUE_MAP:
        text_add(t, VIEW("map[...]"));
        break;
    }
}

/* ---- the language ---- */

/* In double quotes any text can be written: a few letters are escaped, all other bytes are \xHH where they must be. */
static void print_text(struct text *t, struct view s) {
    text_add_byte(t, '"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char b = (unsigned char)s.at[i];
        if (b == '"' || b == '\\')
            text_add(t, view_of((char[]){'\\', (char)b}, 2));
        else if (b < 0x20 || b >= 0x7f)
            text_add(t, view_of((char[]){'\\', 'x', "0123456789abcdef"[b >> 4], "0123456789abcdef"[b & 15]}, 4));
        else
            text_add_byte(t, (char)b);
    }
    text_add_byte(t, '"');
}

static bool holds(struct view s, char byte) {
    return s.len && memchr(s.at, byte, s.len);
}

bool value_is_key(struct view key) {
    return text_find_fault(key) == key.len && !(holds(key, '"') && holds(key, '\''));
}

/* Keys know no escapes: without quotes where that is unmistakable, else in the quotes that do not occur. A key with
 * both kinds can only have been written without. */
static void print_key(struct text *t, struct view key) {
    bool plain = key.len > 0;
    for (size_t i = 0; i < key.len && plain; i++)
        plain = (key.at[i] >= 'a' && key.at[i] <= 'z') || (key.at[i] >= 'A' && key.at[i] <= 'Z') || key.at[i] == '_';
    plain = plain || (holds(key, '"') && holds(key, '\''));
    char quote = holds(key, '"') ? '\'' : '"';
    if (!plain)
        text_add_byte(t, quote);
    text_add(t, key);
    if (!plain)
        text_add_byte(t, quote);
    text_add(t, VIEW(": "));
}

/* The language has no exponents; every float is written out, exactly. */
static void print_float(struct text *t, double real) {
    char digits[1500];
    snprintf(digits, sizeof digits, "%.1074f", real);
    size_t len = strlen(digits);
    while (digits[len - 1] == '0' && digits[len - 2] != '.')
        len--;
    text_add(t, view_of(digits, len));
}

static void print_array(struct text *t, const struct value_array *l, bool hide_secrets) {
    text_add_byte(t, '[');
    for (size_t i = 0; i < l->count; i++) {
        value_print(t, l->at[i], hide_secrets);
        text_add(t, i + 1 < l->count ? VIEW(", ")
                                     : VIEW(" ")); /* the blank ends a number for nats-server: it cannot read [1] */
    }
    text_add_byte(t, ']');
}

static void print_map(struct text *t, const struct value_map *m, bool hide_secrets) {
    text_add_byte(t, '{');
    for (size_t i = 0; i < m->count; i++) {
        text_add(t, i ? VIEW(", ") : VIEW(""));
        print_key(t, m->at[i].key);
        value_print(t, m->at[i].value, hide_secrets);
    }
    text_add_byte(t, '}');
}

void value_print(struct text *t, const struct value *v, bool hide_secrets) {
    if (hide_secrets && v->secret) {
        text_add(t, VIEW("\"[REDACTED]\""));
        return;
    }
    switch (v->type) {
    case VALUE_TEXT:
        print_text(t, v->text);
        break;
    case VALUE_FLOAT:
        print_float(t, v->real);
        break;
    case VALUE_ARRAY:
        print_array(t, v->array, hide_secrets);
        break;
    case VALUE_MAP:
        print_map(t, v->map, hide_secrets);
        break;
    default:
        value_show(t, v);
    }
}

void value_print_entries(struct text *t, const struct value *map, bool hide_secrets) {
    for (size_t i = 0; i < map->map->count; i++) {
        print_key(t, map->map->at[i].key);
        value_print(t, map->map->at[i].value, hide_secrets);
        text_add_byte(t, '\n');
    }
}
