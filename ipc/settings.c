/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor has checked the options; a child checks again what would hurt it. */
#include "ipc/settings.h"

#include <string.h>

#include "ipc/control.pb-c.h"
#include "ipc/note.h"
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
        m->max_control_line < 1 || m->max_control_line > SETTINGS_CONTROL_LINE_MAX || m->max_pending < 1)
        return ERR_RANGE;
    *s = (struct settings){
        .port = (uint16_t)m->port,
        .debug = m->debug,
        .trace = m->trace,
        .no_headers = m->no_headers,
        .max_traced_msg_len = m->max_traced_msg_len,
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
        .conn_bytes = m->conn_bytes,
        .account_bytes = m->account_bytes,
        .router_bytes = m->router_bytes,
        .frontend_bytes = m->frontend_bytes,
        .generation = m->generation,
    };
    bool fits = take_text(s->server_id, sizeof s->server_id, &m->server_id) &&
                take_text(s->server_name, sizeof s->server_name, &m->server_name) &&
                take_text(s->host, sizeof s->host, &m->host) && take_text(s->cluster, sizeof s->cluster, &m->cluster);
    return fits ? ERR_OK : ERR_RANGE;
}

enum err settings_prepare(struct settings_change *change, struct channel *control, const struct Bulkhead__Settings *m,
                          uint64_t ring_cap) {
    enum settings_refusal why = SETTINGS_FINE;
    if (settings_take(&change->next, m) != ERR_OK)
        why = SETTINGS_BAD;
    else if (2 * record_bytes_max(m->max_payload, m->max_control_line) > ring_cap)
        why = SETTINGS_RINGS_TOO_SMALL;
    change->prepared = why == SETTINGS_FINE;
    return note_send(control, NOTE_PREPARED, m->generation, why);
}

enum err settings_commit(struct settings *s, struct settings_change *change, const struct Bulkhead__Commit *m) {
    if (!change->prepared || change->next.generation != m->generation)
        return ERR_STATE;
    *s = change->next;
    change->prepared = false;
    return ERR_OK;
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
    m->no_headers = s->no_headers;
    m->max_traced_msg_len = s->max_traced_msg_len;
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
    m->conn_bytes = s->conn_bytes;
    m->account_bytes = s->account_bytes;
    m->router_bytes = s->router_bytes;
    m->frontend_bytes = s->frontend_bytes;
    m->generation = s->generation;
#undef TEXT
}
