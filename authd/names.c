/* SPDX-License-Identifier: Apache-2.0 */
#include "authd/names.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const type_texts[NAME_TYPES] = {"CN", "SERIALNUMBER", "C",          "L", "ST", "STREET",
                                                   "O",  "OU",           "POSTALCODE", "DC"};

const char *name_type_text(enum name_type type) {
    return type_texts[type];
}

enum err name_add(struct name *name, uint32_t rdn, enum name_type type, struct view value) {
    if (name->count == NAMES_PARTS_MAX || value.len > NAMES_VALUE_MAX)
        return ERR_LONG;
    name->part[name->count++] = (struct name_part){rdn, type, value};
    return ERR_OK;
}

/* ---- reading ---- */

struct cursor {
    const char *at, *end;
};

static void skip_blanks(struct cursor *c) {
    while (c->at < c->end && *c->at == ' ')
        c->at++;
}

static enum err read_type(struct cursor *c, enum name_type *type) {
    skip_blanks(c);
    const char *from = c->at;
    while (c->at < c->end && *c->at != '=' && *c->at != ' ')
        c->at++;
    size_t len = (size_t)(c->at - from);
    skip_blanks(c);
    if (c->at == c->end || *c->at++ != '=')
        return ERR_SYNTAX;
    for (int i = 0; i < NAME_TYPES; i++) {
        if (strlen(type_texts[i]) == len && strncasecmp(type_texts[i], from, len) == 0) {
            *type = (enum name_type)i;
            return ERR_OK;
        }
    }
    return ERR_SYNTAX;
}

static int hex_of(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* What a backslash stands before: a byte in hex, or a character that counts as itself. */
static enum err read_escaped(struct cursor *c, char *out) {
    if (c->end - c->at >= 2 && hex_of(c->at[0]) >= 0 && hex_of(c->at[1]) >= 0) {
        *out = (char)(hex_of(c->at[0]) << 4 | hex_of(c->at[1]));
        c->at += 2;
        return ERR_OK;
    }
    if (c->at == c->end || !*c->at || !strchr(" \"#+,;<=>\\", *c->at))
        return ERR_SYNTAX;
    *out = *c->at++;
    return ERR_OK;
}

/* Up to the next separator; blanks at its end count only where they are escaped. */
static enum err read_value(struct cursor *c, struct arena *arena, struct view *value) {
    skip_blanks(c);
    if (c->at < c->end && *c->at == '#')
        return ERR_SYNTAX;
    char *out = arena_take(arena, (size_t)(c->end - c->at) + 1);
    size_t len = 0, solid = 0;
    while (c->at < c->end && *c->at != ',' && *c->at != '+' && *c->at != ';') {
        char b = *c->at++;
        bool escaped = b == '\\';
        if (escaped && read_escaped(c, &b) != ERR_OK)
            return ERR_SYNTAX;
        out[len++] = b;
        if (escaped || b != ' ')
            solid = len;
    }
    *value = view_of(out, solid);
    return ERR_OK;
}

enum err name_parse(struct name *name, struct view text, struct arena *arena) {
    struct cursor c = {text.at, text.at + text.len};
    uint32_t rdn = 0;
    name->count = 0;
    while (true) {
        enum name_type type;
        struct view value;
        enum err e = read_type(&c, &type);
        if (e == ERR_OK)
            e = read_value(&c, arena, &value);
        if (e == ERR_OK)
            e = name_add(name, rdn, type, value);
        if (e != ERR_OK || c.at == c.end)
            return e;
        if (*c.at++ != '+')
            rdn++;
    }
}

/* ---- canonical order ---- */

static int compare_bytes(struct view a, struct view b) {
    size_t least = a.len < b.len ? a.len : b.len;
    int order = least ? memcmp(a.at, b.at, least) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_parts(const void *left, const void *right) {
    const struct name_part *a = left, *b = right;
    if (a->rdn != b->rdn)
        return a->rdn < b->rdn ? -1 : 1;
    if (a->type != b->type)
        return a->type < b->type ? -1 : 1;
    return compare_bytes(a->value, b->value);
}

static int compare_rdns(const void *left, const void *right) {
    const struct view *a = left, *b = right;
    return compare_bytes(*a, *b);
}

static size_t write_part(char *at, const struct name_part *part) {
    uint16_t len = (uint16_t)part->value.len;
    at[0] = (char)(part->type + 1);
    memcpy(at + 1, &len, sizeof len);
    if (len)
        memcpy(at + 3, part->value.at, len);
    return 3u + len;
}

struct view name_canonical(struct name *name, struct arena *arena) {
    struct view rdns[NAMES_PARTS_MAX];
    size_t total = 0, rdn_count = 0;
    qsort(name->part, name->count, sizeof *name->part, compare_parts);
    for (uint32_t i = 0; i < name->count; i++)
        total += 4 + name->part[i].value.len;
    char *bytes = arena_take(arena, total + 1), *at = bytes;
    for (uint32_t i = 0; i < name->count;) {
        char *from = at;
        for (uint32_t rdn = name->part[i].rdn; i < name->count && name->part[i].rdn == rdn; i++)
            at += write_part(at, &name->part[i]);
        *at++ = 0; /* no type: the end of an RDN */
        rdns[rdn_count++] = view_of(from, (size_t)(at - from));
    }
    qsort(rdns, rdn_count, sizeof *rdns, compare_rdns);
    char *sorted = arena_take(arena, total + 1), *to = sorted;
    for (size_t i = 0; i < rdn_count; i++, to += rdns[i - 1].len)
        memcpy(to, rdns[i].at, rdns[i].len);
    return view_of(sorted, (size_t)(to - sorted));
}
