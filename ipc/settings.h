/* SPDX-License-Identifier: Apache-2.0 */
/* ipc/settings.h: the settings that the supervisor hands to every child, as plain values (see ipc/control.proto). */
#ifndef IPC_SETTINGS_H
#define IPC_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { CONTROL_FD = 3, SETTINGS_TEXT_MAX = 255, SETTINGS_PAYLOAD_MAX = 64 << 20, SETTINGS_CONTROL_LINE_MAX = 1 << 20 };
enum { EDGE_DESCRIPTORS = 24 }; /* descriptors that an edge needs beside those of its connections */

struct settings {
    char server_id[64];
    char server_name[SETTINGS_TEXT_MAX + 1];
    char host[SETTINGS_TEXT_MAX + 1];
    char cluster[SETTINGS_TEXT_MAX + 1];
    uint16_t port;       /* as INFO shows it */
    uint16_t bound_port; /* the port that was bound; known to the supervisor alone */
    bool debug, trace, no_headers;
    uint32_t max_traced_msg_len;                /* bytes; 0: no limit */
    uint32_t max_payload, max_control_line;     /* bytes */
    uint64_t max_pending;                       /* bytes */
    uint32_t max_subscriptions, max_sub_tokens; /* 0: no limit */
    uint32_t ping_interval_ms, ping_max, write_deadline_ms, auth_timeout_ms;
    uint32_t source_wait_ms, source_share_ms, edge_dead_ms, replay_ms;
    uint64_t spill_bytes;                                             /* of each link's overflow */
    uint64_t conn_bytes, account_bytes, router_bytes, frontend_bytes; /* 0: no limit */
    /* Counts the reloads. */
    uint32_t generation;
};

struct channel;
struct Bulkhead__Settings; /* ipc/control.proto */
struct Bulkhead__Commit;

/* Why a child cannot take new settings. */
enum settings_refusal { SETTINGS_FINE, SETTINGS_BAD, SETTINGS_RINGS_TOO_SMALL };

/* Settings that a child has checked at Prepare and will take at Commit. */
struct settings_change {
    bool prepared;
    struct settings next;
};

/* Copies and checks a message. ERR_RANGE: a text too long or a number out of bounds. */
enum err settings_take(struct settings *s, const struct Bulkhead__Settings *message);

/* A child's answer to Prepare: keeps the settings and sends NOTE_PREPARED. ring_cap: bytes of its smallest ring for
 * messages, which must hold two of the largest records. */
enum err settings_prepare(struct settings_change *change, struct channel *control,
                          const struct Bulkhead__Settings *message, uint64_t ring_cap);

/* Commit: the prepared settings become *s. ERR_STATE: none of that generation were prepared. */
enum err settings_commit(struct settings *s, struct settings_change *change, const struct Bulkhead__Commit *message);

/* Fills a message; its texts point into s. */
void settings_fill(struct Bulkhead__Settings *message, const struct settings *s);

#endif
