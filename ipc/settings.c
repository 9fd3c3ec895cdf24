/* The supervisor has checked the options; a child checks again what would hurt it. */
#include "ipc/settings.h"

#include <string.h>

#include "ipc/control.pb-c.h"
#include "shm/record.h"

/* Copies a text of at most cap - 1 bytes, none of which may be a control byte. */
static bool take_text(char *out, size_t cap, const ProtobufCBinaryData *text) {
    if (text->len >= cap)
        return false;
    for (size_t i = 0; i < text->len; i++) {
        if (text->data[i] < 0x20 || text->data[i] == 0x7f)
            return false;
    }
    if (text->len)
        memcpy(out, text->data, text->len);
    out[text->len] = '\0';
    return true;
}

enum err settings_take(struct settings *s, const struct Bulkhead__Settings *m) {
    if (m->port > UINT16_MAX || m->max_payload < 1 || m->max_payload > SETTINGS_PAYLOAD_MAX ||
        m->max_control_line < 1 || m->max_control_line > RECORD_TEXT_MAX || m->max_pending < 1)
        return ERR_RANGE;
    *s = (struct settings){
        .port = (uint16_t)m->port,
        .debug = m->debug,
        .trace = m->trace,
        .max_payload = m->max_payload,
        .max_control_line = m->max_control_line,
        .max_pending = m->max_pending,
        .max_subscriptions = m->max_subscriptions,
        .max_sub_tokens = m->max_sub_tokens,
        .ping_interval_ms = m->ping_interval_ms,
        .ping_max = m->ping_max,
        .write_deadline_ms = m->write_deadline_ms,
        .auth_timeout_ms = m->auth_timeout_ms,
        .source_wait_ms = m->source_wait_ms,
        .source_share_ms = m->source_share_ms,
        .edge_dead_ms = m->edge_dead_ms,
        .replay_ms = m->replay_ms,
        .spill_bytes = m->spill_bytes,
    };
    bool fits = take_text(s->server_id, sizeof s->server_id, &m->server_id) &&
                take_text(s->server_name, sizeof s->server_name, &m->server_name) &&
                take_text(s->host, sizeof s->host, &m->host) && take_text(s->cluster, sizeof s->cluster, &m->cluster);
    return fits ? ERR_OK : ERR_RANGE;
}

void settings_fill(struct Bulkhead__Settings *m, const struct settings *s) {
#define TEXT(t) ((ProtobufCBinaryData){strlen(t), (uint8_t *)(uintptr_t)(t)})
    bulkhead__settings__init(m);
    m->server_id = TEXT(s->server_id);
    m->server_name = TEXT(s->server_name);
    m->host = TEXT(s->host);
    m->cluster = TEXT(s->cluster);
    m->port = s->port;
    m->debug = s->debug;
    m->trace = s->trace;
    m->max_payload = s->max_payload;
    m->max_control_line = s->max_control_line;
    m->max_pending = s->max_pending;
    m->max_subscriptions = s->max_subscriptions;
    m->max_sub_tokens = s->max_sub_tokens;
    m->ping_interval_ms = s->ping_interval_ms;
    m->ping_max = s->ping_max;
    m->write_deadline_ms = s->write_deadline_ms;
    m->auth_timeout_ms = s->auth_timeout_ms;
    m->source_wait_ms = s->source_wait_ms;
    m->source_share_ms = s->source_share_ms;
    m->edge_dead_ms = s->edge_dead_ms;
    m->replay_ms = s->replay_ms;
    m->spill_bytes = s->spill_bytes;
#undef TEXT
}
