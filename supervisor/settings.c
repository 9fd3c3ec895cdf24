/* SPDX-License-Identifier: Apache-2.0 */
/* From the options of an administrator to the settings of the family. */
#include "supervisor/supervisor.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "supervisor/descriptors.h"
#include "supervisor/machine.h"

static uint32_t to_ms(int64_t ns) {
    int64_t ms = (ns + 999999) / 1000000;
    return ms < 1 ? 1 : ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
}

static uint32_t to_limit(int64_t number) {
    return number <= 0 ? 0 : number > UINT32_MAX ? UINT32_MAX : (uint32_t)number;
}

/* host, host:port, [v6]:port: what INFO tells instead of the own address. */
static void take_advertise(struct settings *t, const char *text) {
    const char *colon = strrchr(text, ':'), *bracket = strrchr(text, ']');
    bool bare_v6 = colon && strchr(text, ':') != colon && !bracket;
    size_t len = strlen(text);
    long port = 0;
    if (colon && !bare_v6 && (!bracket || colon > bracket)) {
        for (const char *c = colon + 1; *c >= '0' && *c <= '9' && port < 100000; c++)
            port = 10 * port + *c - '0';
        len = (size_t)(colon - text);
    }
    if (bracket && text[0] == '[') {
        text++;
        len = (size_t)(bracket - text);
    }
    snprintf(t->host, sizeof t->host, "%.*s", (int)len, text);
    if (port > 0 && port < 65536)
        t->port = (uint16_t)port;
}

/* The router and the frontends together may take 40 % each; the rest is for rings, overflows and the kernel's buffers. */
static void fill_memory(struct settings *t, const struct options *o) {
    uint64_t share = machine_memory() / 5 * 2;
    uint64_t each = share / settings_frontends(o);
    t->router_bytes = o->router_memory ? (uint64_t)o->router_memory : share;
    t->frontend_bytes = o->frontend_memory ? (uint64_t)o->frontend_memory : each;
    t->conn_bytes = (uint64_t)o->conn_memory;
    t->account_bytes = o->account_memory ? (uint64_t)o->account_memory : t->router_bytes / 4 * 3;
}

const char *supervisor_name(const struct supervisor *s) {
    const char *slash = strrchr(s->argv[0], '/'), *name = slash ? slash + 1 : s->argv[0];
    return *name && strlen(name) < 200 ? name : "bulkhead";
}

uint32_t settings_frontends(const struct options *o) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t wanted = o->frontends ? (uint32_t)o->frontends : cores < 1 ? 1 : (uint32_t)cores;
    return wanted < FRONTENDS_MAX ? wanted : FRONTENDS_MAX;
}

void settings_fill_from(struct settings *t, const struct options *o) {
    struct settings own = *t;
    *t = (struct settings){.bound_port = own.bound_port, .port = own.bound_port, .generation = own.generation};
    memcpy(t->server_id, own.server_id, sizeof t->server_id);
    snprintf(t->server_name, sizeof t->server_name, "%s", o->server_name[0] ? o->server_name : t->server_id);
    snprintf(t->host, sizeof t->host, "%s", o->host);
    if (o->client_advertise[0])
        take_advertise(t, o->client_advertise);
    t->debug = o->debug;
    t->trace = o->trace;
    t->no_headers = o->no_header_support;
    t->max_traced_msg_len = to_limit(o->max_traced_msg_len);
    t->max_payload = (uint32_t)o->max_payload;
    t->max_control_line = (uint32_t)o->max_control_line;
    t->max_pending = (uint64_t)o->max_pending;
    t->max_subscriptions = to_limit(o->max_subscriptions);
    t->max_sub_tokens = to_limit(o->max_sub_tokens);
    t->ping_interval_ms = to_ms(o->ping_interval_ns);
    t->ping_max = to_limit(o->ping_max);
    t->write_deadline_ms = to_ms(o->write_deadline_ns);
    t->auth_timeout_ms = to_ms(o->auth_timeout_ns);
    t->source_wait_ms = to_ms(o->source_wait_ns);
    t->source_share_ms = to_ms(o->source_share_ns);
    t->edge_dead_ms = to_ms(o->edge_dead_ns);
    t->replay_ms = to_ms(o->replay_ns);
    t->spill_bytes = (uint64_t)o->spill_bytes;
    fill_memory(t, o);
}

void settings_hold(struct supervisor *s) {
    const struct settings *t = &s->settings;
    s->payload_most = t->max_payload > s->payload_most ? t->max_payload : s->payload_most;
    s->control_line_most = t->max_control_line > s->control_line_most ? t->max_control_line : s->control_line_most;
}

uint32_t settings_connections(const struct supervisor *s) {
    uint32_t wanted = (uint32_t)s->config.options.max_connections, each = descriptors_connections(s->spawner.files_max);
    uint64_t all = (uint64_t)each * s->frontend_count;
    if (wanted <= all)
        return wanted;
    log_warn(
        "max_connections is %u, but %u open files are enough for %u connections of each frontend, %llu in all: that is the "
        "limit now. Raise the limit of open files (ulimit -n, LimitNOFILE) or lower max_connections",
        wanted, s->spawner.files_max, each, (unsigned long long)all);
    return (uint32_t)all;
}
