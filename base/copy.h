/* SPDX-License-Identifier: Apache-2.0 */
/* base/copy.h: copies of a few bytes, inline.
 *
 * Most names and many payloads on the message path are shorter than a call to memcpy is worth. Lengths up to 64 are done with
 * overlapping loads and stores of one size, without a loop over bytes.
 */
#ifndef BASE_COPY_H
#define BASE_COPY_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"

struct copy_16 {
    uint64_t a, b;
};

static inline void copy_ends_16(unsigned char *to, const unsigned char *from, size_t len) {
    struct copy_16 first, last;
    memcpy(&first, from, 16);
    memcpy(&last, from + len - 16, 16);
    memcpy(to, &first, 16);
    memcpy(to + len - 16, &last, 16);
}

/* Copies len bytes; the two stretches must not overlap. Returns to + len. */
static inline void *copy_small(void *to_any, const void *from_any, size_t len) {
    unsigned char *to = to_any;
    const unsigned char *from = from_any;
    if (likely(len <= 16)) {
        if (len >= 8) {
            uint64_t first, last;
            memcpy(&first, from, 8);
            memcpy(&last, from + len - 8, 8);
            memcpy(to, &first, 8);
            memcpy(to + len - 8, &last, 8);
        } else if (len >= 4) {
            uint32_t first, last;
            memcpy(&first, from, 4);
            memcpy(&last, from + len - 4, 4);
            memcpy(to, &first, 4);
            memcpy(to + len - 4, &last, 4);
        } else if (len > 0) {
            unsigned char a = from[0], b = from[len / 2], c = from[len - 1];
            to[0] = a;
            to[len / 2] = b;
            to[len - 1] = c;
        }
    } else if (len <= 32) {
        copy_ends_16(to, from, len);
    } else if (len <= 64) {
        struct copy_16 second, third;
        memcpy(&second, from + 16, 16);
        memcpy(&third, from + len - 32, 16);
        copy_ends_16(to, from, len);
        memcpy(to + 16, &second, 16);
        memcpy(to + len - 32, &third, 16);
    } else {
        memcpy(to, from, len);
    }
    return to + len;
}

#endif
