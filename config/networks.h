/* SPDX-License-Identifier: Apache-2.0 */
/* config/networks.h: a list of networks as an option has it: "127.0.0.0/8, fd00::/8, 2001:db8::1", or the word none. */
#ifndef CONFIG_NETWORKS_H
#define CONFIG_NETWORKS_H

#include <netinet/in.h>
#include <stdbool.h>

#include "base/view.h"

/* True if the list is well formed; else *bad is the first part of it that is not. */
bool networks_are_sound(struct view list, struct view *bad);

/* True if one of the networks holds the address (IPv4: mapped into IPv6). A part that is not well formed holds nothing. */
bool networks_hold(struct view list, const struct in6_addr *address);

#endif
