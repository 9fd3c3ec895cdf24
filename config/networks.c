/* SPDX-License-Identifier: Apache-2.0 */
/* IPv4 networks are kept as IPv6 networks of mapped addresses, so there is one comparison. */
#include "config/networks.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

enum { MAPPED_BITS = 96, ADDRESS_BITS = 128 };

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == ',';
}

/* The next part of the list. False at its end. */
static bool take_part(struct view *list, struct view *part) {
    while (list->len && is_blank(*list->at))
        *list = view_of(list->at + 1, list->len - 1);
    size_t len = 0;
    while (len < list->len && !is_blank(list->at[len]))
        len++;
    *part = view_of(list->at, len);
    *list = view_of(list->at + len, list->len - len);
    return len != 0;
}

/* ADDRESS or ADDRESS/BITS. */
static bool parse(struct view part, struct in6_addr *network, unsigned *bits) {
    char text[INET6_ADDRSTRLEN + 8];
    if (part.len >= sizeof text)
        return false;
    memcpy(text, part.at, part.len);
    text[part.len] = '\0';
    char *slash = strchr(text, '/'), *end = NULL;
    unsigned long given = 0;
    if (slash) {
        *slash++ = '\0';
        given = strtoul(slash, &end, 10);
        if (*slash < '0' || *slash > '9' || *end)
            return false;
    }
    struct in_addr v4;
    unsigned base = 0;
    if (inet_pton(AF_INET, text, &v4) == 1) {
        *network = (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff}};
        memcpy(&network->s6_addr[12], &v4, sizeof v4);
        base = MAPPED_BITS;
    } else if (inet_pton(AF_INET6, text, network) != 1) {
        return false;
    }
    if (given > ADDRESS_BITS - base)
        return false;
    *bits = slash ? base + (unsigned)given : ADDRESS_BITS;
    return true;
}

static bool covers(const struct in6_addr *network, unsigned bits, const struct in6_addr *address) {
    unsigned bytes = bits / 8, rest = bits % 8;
    if (memcmp(network, address, bytes) != 0)
        return false;
    return rest == 0 || (network->s6_addr[bytes] ^ address->s6_addr[bytes]) >> (8 - rest) == 0;
}

static bool is_none(struct view list) {
    return view_equal(list, VIEW("none"));
}

bool networks_are_sound(struct view list, struct view *bad) {
    struct in6_addr network;
    unsigned bits;
    while (!is_none(list) && take_part(&list, bad)) {
        if (!parse(*bad, &network, &bits))
            return false;
    }
    return true;
}

bool networks_hold(struct view list, const struct in6_addr *address) {
    struct in6_addr network;
    struct view part;
    unsigned bits;
    while (take_part(&list, &part)) {
        if (parse(part, &network, &bits) && covers(&network, bits, address))
            return true;
    }
    return false;
}
