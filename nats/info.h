/* SPDX-License-Identifier: Apache-2.0 */
/* nats/info.h: the INFO line to clients. */
#ifndef NATS_INFO_H
#define NATS_INFO_H

#include <stdint.h>

#include "base/view.h"

/* Fields in the order in which they are written. An empty view, false and 0 leave the key out, except where "always" is
 * said. The texts must be valid UTF-8; they are JSON-escaped. */
struct info {
    struct view server_id;   /* always */
    struct view server_name; /* always */
    /* version (PROTO_LEVEL_VERSION), server ("bulkhead x.y.z"), proto, go: always, not settable */
    struct view host; /* always */
    uint16_t port;    /* always */
    bool headers;     /* always */
    bool auth_required;
    bool tls_required;
    bool tls_verify;
    bool tls_available;
    uint32_t max_payload; /* always */
    uint64_t client_id;   /* always for clients */
    struct view client_ip;
    struct view nonce;
    struct view cluster;
    const struct view *connect_urls;
    uint32_t connect_url_count;
    bool ldm;
};

/* Writes `INFO {…} \r\n` (with the blank) to out. Returns the length, 0 if cap is too small. */
size_t info_format(char *out, size_t cap, const struct info *info);

#endif
