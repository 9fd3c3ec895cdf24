/* SPDX-License-Identifier: Apache-2.0 */
/* authd/names.h: distinguished names, to be compared whatever the order of their parts.
 *
 * A name is a set of RDNs, an RDN a set of attributes. Written out in canonical order, two names are the same exactly
 * if their bytes are. Only the attributes below are known. Types are compared without case, values with it.
 */
#ifndef AUTHD_NAMES_H
#define AUTHD_NAMES_H

#include <stdint.h>

#include "base/err.h"
#include "config/arena.h"

enum { NAMES_PARTS_MAX = 64, NAMES_VALUE_MAX = 4096 };

enum name_type {
    NAME_CN,
    NAME_SERIALNUMBER,
    NAME_C,
    NAME_L,
    NAME_ST,
    NAME_STREET,
    NAME_O,
    NAME_OU,
    NAME_POSTALCODE,
    NAME_DC,
    NAME_TYPES
};

/* "CN", "SERIALNUMBER", ... */
const char *name_type_text(enum name_type type);

struct name_part {
    uint32_t rdn; /* parts with the same number belong together */
    enum name_type type;
    struct view value;
};

struct name {
    uint32_t count;
    struct name_part part[NAMES_PARTS_MAX];
};

/* ERR_LONG: too many parts, or a value too long. The value must stay. */
enum err name_add(struct name *name, uint32_t rdn, enum name_type type, struct view value);

/* Reads a text like `CN=ed+OU=7, O=Acme`: backslashes escape, blanks around parts do not count. Values lie in the
 * arena. ERR_SYNTAX: not such a text, or an attribute that is not known. ERR_LONG. */
enum err name_parse(struct name *name, struct view text, struct arena *arena);

/* The canonical bytes, in the arena. Sorts the parts. */
struct view name_canonical(struct name *name, struct arena *arena);

#endif
