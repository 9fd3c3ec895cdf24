/* SPDX-License-Identifier: Apache-2.0 */
/* base/view.h: a view of bytes that somebody else owns.
 *
 * A view is a pointer and a length, never NUL-terminated. The maker of a view says how long the bytes stay. An empty view may
 * hold a null pointer.
 */
#ifndef BASE_VIEW_H
#define BASE_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct view {
    const char *at;
    size_t len;
};

/* A view of a string literal, without its NUL. */
#define VIEW(literal) ((struct view){(literal), sizeof(literal) - 1})

static inline struct view view_of(const void *at, size_t len) {
    return (struct view){at, len};
}

static inline struct view view_text(const char *text) {
    return (struct view){text, strlen(text)};
}

static inline bool view_equal(struct view a, struct view b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline bool view_starts(struct view v, struct view prefix) {
    return v.len >= prefix.len && memcmp(v.at, prefix.at, prefix.len) == 0;
}

#endif
