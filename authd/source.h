/* SPDX-License-Identifier: Apache-2.0 */
/* authd/source.h: where a login comes from, as far as fairness and penalties go: an IPv4 address, or an IPv6 network of
 * 64 bits, because a host there has all addresses of its network. It is the edge's word. */
#ifndef AUTHD_SOURCE_H
#define AUTHD_SOURCE_H

#include <stdint.h>
#include <string.h>

#include "base/view.h"

enum { SOURCE_BYTES = 16 };

struct source_address {
    uint8_t at[SOURCE_BYTES];
};

/* Of an address of 16 bytes with IPv4 mapped; anything else is the one unknown source. */
static inline struct source_address source_of(struct view address) {
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct source_address s = {{0}};
    if (address.len != SOURCE_BYTES)
        return s;
    memcpy(s.at, address.at, SOURCE_BYTES);
    if (memcmp(s.at, mapped, sizeof mapped) != 0)
        memset(s.at + 8, 0, 8);
    return s;
}

static inline bool source_equal(struct source_address a, struct source_address b) {
    return memcmp(a.at, b.at, SOURCE_BYTES) == 0;
}

#endif
