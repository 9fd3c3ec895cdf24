/* SPDX-License-Identifier: Apache-2.0 */
/* config/value.h: what a configuration file says, as a tree.
 *
 * A value lies in the arena of its configuration and knows where it was written. Maps keep the order of the file; a key
 * that comes again replaces the value and keeps its place. A variable's value is shared by all that name it, so a tree
 * is really a graph without cycles: `weight` says how many values it would be if it were written out, and is bounded.
 */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/text.h"

enum value_type { VALUE_TEXT, VALUE_INT, VALUE_FLOAT, VALUE_BOOL, VALUE_DATE, VALUE_ARRAY, VALUE_MAP };

struct value {
    enum value_type type;
    bool used;   /* a variable named it: an unknown key is then no error */
    bool secret; /* a credential: for authd alone, never printed for people */
    bool cut;    /* the text of an environment variable went on behind what it, or an element of it, was taken from */
    uint32_t line;
    uint32_t column;  /* in bytes: from 0 on the first line, from 1 on all others, as nats-server counts */
    uint32_t depth;   /* levels of arrays and maps in it, itself included */
    uint64_t weight;  /* values in it, itself included, every variable written out */
    const char *file; /* as it was given, or as the include named it; NULL: made by the program */
    union {
        struct view text; /* VALUE_TEXT, VALUE_DATE */
        int64_t number;
        double real;
        bool truth;
        struct value_array *array;
        struct value_map *map;
    };
};

struct value_array {
    struct value **at;
    size_t count, cap;
};

struct value_entry {
    struct view key; /* as written */
    struct value *value;
};

struct value_map {
    struct value_entry *at;
    size_t count, cap;
    uint32_t *index; /* open addressing, entry number + 1; NULL while the map is small */
    size_t index_cap;
};

struct value *value_make(struct arena *a, enum value_type type);
struct value *value_make_text(struct arena *a, struct view text);

void value_append(struct arena *a, struct value *array, struct value *element);
void value_put(struct arena *a, struct value *map, struct view key, struct value *v);

/* The value of a key, exactly as written; NULL: none. */
struct value *value_find(const struct value *map, struct view key);

/* Sets depth and weight of an array or map from its elements. */
void value_measure(struct value *v);

/* Equal in type and content; positions do not count, nor does the order of a map's keys. */
bool value_equal(const struct value *a, const struct value *b);

/* Go's name of the type. */
const char *value_type_name(enum value_type type);

/* Appends the value as Go's %v prints it; what lies in arrays and maps is left out. */
void value_show(struct text *t, const struct value *v);

/* True if the language can write a key: it has no escapes there. Every key that was read can be written. */
bool value_is_key(struct view key);

/* Appends the value in the configuration language, on one line; reading it back gives an equal value. With hide_secrets
 * a credential becomes "[REDACTED]". */
void value_print(struct text *t, const struct value *v, bool hide_secrets);

/* The same for the entries of a map, without its braces, an entry a line. */
void value_print_entries(struct text *t, const struct value *map, bool hide_secrets);

#endif
