/* SPDX-License-Identifier: Apache-2.0 */
/* INFO is small and its keys have a fixed order, so it is written straight into the caller's bytes. Once something does
 * not fit, nothing more is written and the result is 0. */
#include "nats/info.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "nats/proto.h"

struct writer {
    char *at;
    size_t len, cap;
    bool full;
};

static void put(struct writer *w, struct view v) {
    if (w->full || v.len > w->cap - w->len) {
        w->full = true;
        return;
    }
    if (v.len > 0)
        memcpy(w->at + w->len, v.at, v.len);
    w->len += v.len;
}

__attribute__((format(printf, 2, 3))) static void put_format(struct writer *w, const char *format, ...) {
    char text[64]; /* keys are ours and short, numbers have at most 20 digits */
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put(w, view_of(text, (size_t)len));
}

static void put_string(struct writer *w, struct view v) {
    put(w, VIEW("\""));
    for (size_t i = 0; i < v.len; i++) {
        unsigned char c = (unsigned char)v.at[i];
        if (c < 0x20)
            put_format(w, "\\u%04x", c);
        else if (c == '"' || c == '\\')
            put_format(w, "\\%c", c);
        else
            put(w, view_of(v.at + i, 1));
    }
    put(w, VIEW("\""));
}

static void put_text(struct writer *w, const char *key, struct view value) {
    put_format(w, ",\"%s\":", key);
    put_string(w, value);
}

static void put_text_if(struct writer *w, const char *key, struct view value) {
    if (value.len > 0)
        put_text(w, key, value);
}

static void put_true_if(struct writer *w, const char *key, bool value) {
    if (value)
        put_format(w, ",\"%s\":true", key);
}

size_t info_format(char *out, size_t cap, const struct info *info) {
    struct writer w = {.at = out, .cap = cap};
    put(&w, VIEW("INFO {\"server_id\":"));
    put_string(&w, info->server_id);
    put_text(&w, "server_name", info->server_name);
    put_text(&w, "version", VIEW(PROTO_LEVEL_VERSION));
    put_text(&w, "server", VIEW("bulkhead " BULKHEAD_VERSION));
    put_format(&w, ",\"proto\":%d", PROTO_VERSION);
    put_text(&w, "go", VIEW("none")); /* some clients want the key, none its value */
    put_text(&w, "host", info->host);
    put_format(&w, ",\"port\":%u", (unsigned)info->port);
    put_format(&w, ",\"headers\":%s", info->headers ? "true" : "false");
    put_true_if(&w, "auth_required", info->auth_required);
    put_true_if(&w, "tls_required", info->tls_required);
    put_true_if(&w, "tls_verify", info->tls_verify);
    put_true_if(&w, "tls_available", info->tls_available);
    put_format(&w, ",\"max_payload\":%" PRIu32, info->max_payload);
    if (info->client_id != 0)
        put_format(&w, ",\"client_id\":%" PRIu64, info->client_id);
    put_text_if(&w, "client_ip", info->client_ip);
    put_text_if(&w, "nonce", info->nonce);
    put_text_if(&w, "cluster", info->cluster);
    for (uint32_t i = 0; i < info->connect_url_count; i++) {
        put(&w, i == 0 ? VIEW(",\"connect_urls\":[") : VIEW(","));
        put_string(&w, info->connect_urls[i]);
    }
    if (info->connect_url_count > 0)
        put(&w, VIEW("]"));
    put_true_if(&w, "ldm", info->ldm);
    put(&w, VIEW("} \r\n"));
    return w.full ? 0 : w.len;
}
