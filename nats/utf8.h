/* SPDX-License-Identifier: Apache-2.0 */
/* nats/utf8.h: one rune of UTF-8 at a time. */
#ifndef NATS_UTF8_H
#define NATS_UTF8_H

#include <stdint.h>

#include "base/view.h"

/* Reads the rune that v, which is not empty, starts with. Returns its length in bytes, 0 if the first byte starts none:
 * overlong forms, surrogates and what is above U+10FFFF are none. */
static inline size_t utf8_read(struct view v, uint32_t *rune) {
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *at = (const unsigned char *)v.at;
    *rune = at[0];
    if (at[0] < 0x80)
        return 1;
    size_t len = at[0] < 0xc0 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : at[0] < 0xf8 ? 4 : 0;
    if (len == 0 || len > v.len)
        return 0;
    *rune = at[0] & 0x7fu >> len;
    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xc0) != 0x80)
            return 0;
        *rune = *rune << 6 | (at[i] & 0x3fu);
    }
    bool surrogate = *rune >= 0xd800 && *rune <= 0xdfff;
    return surrogate || *rune < smallest[len] || *rune > 0x10ffff ? 0 : len;
}

#endif
