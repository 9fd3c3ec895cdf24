/* ipc/settings.h: the settings that the supervisor hands to every child, as plain values (see ipc/control.proto). */
#ifndef IPC_SETTINGS_H
#define IPC_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { CONTROL_FD = 3, SETTINGS_TEXT_MAX = 255, SETTINGS_PAYLOAD_MAX = 64 << 20 };

struct settings {
    char server_id[64];
    char server_name[SETTINGS_TEXT_MAX + 1];
    char host[SETTINGS_TEXT_MAX + 1];
    char cluster[SETTINGS_TEXT_MAX + 1];
    uint16_t port;
    bool debug, trace;
    uint32_t max_payload, max_control_line;
    uint64_t max_pending;
    uint32_t max_subscriptions, max_sub_tokens; /* 0: no limit */
    uint32_t ping_interval_ms, ping_max, write_deadline_ms, auth_timeout_ms;
    uint32_t source_wait_ms, source_share_ms, edge_dead_ms, replay_ms;
    uint64_t spill_bytes;
};

struct Bulkhead__Settings; /* the protobuf message */

/* Copies and checks a message. ERR_RANGE: a text too long or a number out of bounds. */
enum err settings_take(struct settings *s, const struct Bulkhead__Settings *message);

/* Fills a message; its texts point into s. */
void settings_fill(struct Bulkhead__Settings *message, const struct settings *s);

#endif
