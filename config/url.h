/* SPDX-License-Identifier: Apache-2.0 */
/* config/url.h: URLs and addresses, as far as nats-server's (Go's) parser would accept them. */
#ifndef CONFIG_URL_H
#define CONFIG_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "config/text.h"

/* Parts of a URL with "//"; views into it, still with their escapes. */
struct url {
    struct view scheme, user, password, host; /* host with its port */
    bool has_user, has_password;
};

/* False where Go's url.Parse fails. */
bool url_parse(struct url *u, struct view s);

/* Appends the URL with its password, if any, replaced by xxxxx. */
void text_add_url(struct text *t, struct view s);

/* Splits host:port, [host]:port as Go's net.SplitHostPort. */
bool address_split(struct view s, struct view *host, struct view *port);

/* A decimal number with an optional sign that fits. */
bool parse_int(struct view s, int64_t *out);

#endif
