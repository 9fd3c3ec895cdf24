/* SPDX-License-Identifier: Apache-2.0 */
/* What a start asks, in the order of nats-server's own checks: do the options fit together? Then Bulkhead's: can every
 * process take the texts and the numbers, and has this server built what is asked for? Where a value of the file is at
 * fault the message has its place; nats-server gives none here. */
#include <string.h>

#include "config/checker.h"
#include "config/lexer.h"
#include "config/room.h"
#include "config/tls.h"
#include "shm/record.h"

typedef void start_check(struct checker *c);

/* Where the file gives an option of the one block that it can stand in; NULL: nowhere. */
static const struct value *place_of(const struct config *c, const struct option *row) {
    const char *key = row->names ? sections[row->section].key : NULL;
    const struct value *block = !key ? NULL : *key ? value_find(c->tree, view_text(key)) : c->tree;
    return block && block->type == VALUE_MAP ? value_find(block, option_name(row)) : NULL;
}

static bool is_used(const struct config *c, const char *path) {
    return config_find(c, path) != NULL;
}

static bool has_operator(const struct config *c) {
    const struct value *operators = config_find(c, "operator");
    return operators && operators->array->count > 0;
}

static bool has_leafnodes(const struct config *c) {
    const struct value *remotes = config_find(c, "leafnodes.remotes");
    return c->options.leafnodes_port || (remotes && remotes->array->count);
}

static bool has_gateway(const struct config *c) {
    return c->options.gateway_port || c->options.gateway_name[0];
}

/* ---- limits and times ---- */

static void check_lame_duck(struct checker *c) {
    const struct options *o = &c->config->options;
    if (o->lame_duck_grace_period_ns >= o->lame_duck_duration_ns)
        problem_at(c, config_find(c->config, "lame_duck_grace_period"),
                   "lame duck grace period (%D) should be strictly lower than lame duck duration (%D)",
                   o->lame_duck_grace_period_ns, o->lame_duck_duration_ns);
}

/* What one link must be able to keep: a message of the largest size, and the records that the router leaves room for beside it. */
static void check_spill(struct checker *c) {
    const struct options *o = &c->config->options;
    const struct value *spill = config_find(c->config, "rings.spill");
    int64_t least = (int64_t)record_spill_least((uint64_t)o->max_payload, (uint64_t)o->max_control_line);
    if (spill && o->max_payload > 0 && o->spill_bytes < least)
        problem_at(c, spill, "rings.spill (%d) must hold a message of max_payload (%d): %d bytes at least",
                   o->spill_bytes, o->max_payload, least);
}

static void check_payload(struct checker *c) {
    const struct options *o = &c->config->options;
    const struct value *payload = config_find(c->config, "max_payload");
    if (o->max_payload > o->max_pending)
        problem_at(c, payload ? payload : config_find(c->config, "max_pending"),
                   "max_payload (%d) cannot be higher than max_pending (%d)", o->max_payload, o->max_pending);
}

/* ---- operators ---- */

static bool has_users(const struct config *c) {
    const struct value *users = config_find(c, "authorization.users");
    return users && users->array->count > 0;
}

static void check_operators(struct checker *c) {
    const struct config *g = c->config;
    const struct value *at = config_find(g, "operator");
    if (!has_operator(g))
        return;
    if (!is_used(g, "resolver"))
        problem_at(c, at, "operators require an account resolver to be configured");
    if (is_used(g, "accounts"))
        problem_at(c, at, "operators do not allow Accounts to be configured directly");
    if (has_users(g))
        problem_at(c, at, "operators do not allow users to be configured directly");
    if (is_used(g, "trusted"))
        problem_at(c, at, "conflicting options for 'TrustedKeys' and 'TrustedOperators'");
}

/* ---- leaf nodes ---- */

static bool is_account(const struct config *c, struct view name) {
    const struct value *accounts = config_find(c, "accounts");
    return !name.len || view_equal(name, VIEW("$G")) || view_equal(name, VIEW("$SYS")) ||
           (accounts && value_find(accounts, name));
}

static void check_leaf_account(struct checker *c, const struct value *entry, const char *where) {
    const struct value *name = value_find(entry, VIEW("account"));
    if (name && !has_operator(c->config) && !is_account(c->config, name->text))
        problem_at(c, name, "cannot find local account %q specified in leafnode %s", name->text, where);
}

static void check_leafnodes(struct checker *c) {
    const struct value *authorization = config_find(c->config, "leafnodes.authorization");
    const struct value *users = config_find(c->config, "leafnodes.authorization.users");
    const struct value *remotes = config_find(c->config, "leafnodes.remotes");
    if (authorization)
        check_leaf_account(c, authorization, "authorization");
    for (size_t i = 0; users && i < users->array->count; i++)
        check_leaf_account(c, users->array->at[i], "authorization");
    for (size_t i = 0; remotes && i < remotes->array->count; i++)
        check_leaf_account(c, remotes->array->at[i], "remote");
    if (has_leafnodes(c->config) && has_gateway(c->config) && !c->config->options.system_account[0])
        problem_at(c, config_find(c->config, "gateway"),
                   "leaf nodes and gateways (both being defined) require a system account to also be configured");
}

/* ---- users and accounts ---- */

/* Whether there is any user with a name, nkeys left out, and one with this name. */
static void look_for_user(const struct value *users, struct view name, bool *any, bool *found) {
    for (size_t i = 0; users && i < users->array->count; i++) {
        const struct value *user = value_find(users->array->at[i], VIEW("user"));
        *any = *any || text_given(user);
        *found = *found || (text_given(user) && view_equal(user->text, name));
    }
}

static void check_no_auth_user(struct checker *c) {
    struct view name = view_text(c->config->options.no_auth_user);
    const struct value *accounts = config_find(c->config, "accounts");
    const struct value *own = config_find(c->config, "authorization.users"),
                       *at = config_find(c->config, "no_auth_user");
    if (!name.len)
        return;
    if (has_operator(c->config)) {
        problem_at(c, at, "no_auth_user not compatible with Trusted Operator");
        return;
    }
    bool any = false, found = false;
    look_for_user(own, name, &any, &found);
    for (size_t i = 0; accounts && i < accounts->map->count; i++)
        look_for_user(value_find(accounts->map->at[i].value, VIEW("users")), name, &any, &found);
    if (!any)
        problem_at(c, at, "no_auth_user: %q present, but users are not defined", name);
    else if (!found)
        problem_at(c, at, "no_auth_user: %q not present as user in authorization block or account configuration", name);
}

static void check_system_account(struct checker *c) {
    struct view name = view_text(c->config->options.system_account);
    if (!has_operator(c->config) && !is_account(c->config, name))
        problem_at(c, config_find(c->config, "system_account"), "error resolving system account: account missing");
}

/* ---- gateways and clusters ---- */

static void check_gateway(struct checker *c) {
    const struct options *o = &c->config->options;
    const struct value *remotes = config_find(c->config, "gateway.gateways"), *at = config_find(c->config, "gateway");
    if (o->gateway_port && !o->gateway_name[0])
        problem_at(c, at, "gateway has no name");
    if (o->gateway_name[0] && !o->gateway_port)
        problem_at(c, at, "gateway %q has no port specified (select -1 for random port)", view_text(o->gateway_name));
    for (size_t i = 0; has_gateway(c->config) && remotes && i < remotes->array->count; i++) {
        const struct value *remote = remotes->array->at[i], *name = value_find(remote, VIEW("name"));
        if (!text_given(name))
            problem_at(c, remote, "gateway in the list %d has no name", (int64_t)i);
        else if (!value_find(remote, VIEW("url")) && !value_find(remote, VIEW("urls")))
            problem_at(c, remote, "gateway %q has no URL", name->text);
    }
    if (o->gateway_name[0] && o->cluster_name[0] && strcmp(o->gateway_name, o->cluster_name) != 0)
        problem_at(c, at, "cluster name conflicts between cluster and gateway definitions");
}

static void check_websocket(struct checker *c) {
    const struct options *o = &c->config->options;
    if (o->websocket_port && !o->websocket_no_tls && !is_used(c->config, "websocket.tls"))
        problem_at(c, config_find(c->config, "websocket"), "websocket requires TLS configuration");
}

/* ---- users of processes ---- */

static void keep_id(struct checker *c, const struct value *entry, const char *key, char out[static OPTION_ID_MAX + 1]) {
    const struct value *v = entry ? value_find(entry, view_text(key)) : NULL;
    struct text t = {.arena = c->arena};
    if (!v)
        return;
    if (v->type == VALUE_INT)
        text_add_format(&t, "%d", v->number);
    else
        text_add(&t, v->text);
    if (t.len > OPTION_ID_MAX) {
        problem_at(c, v, "%s is longer than %d bytes", key, (int64_t)OPTION_ID_MAX);
        return;
    }
    memcpy(out, t.at, t.len);
    out[t.len] = '\0';
}

/* The tree stays with the reader; who starts the processes has struct options. */
static void keep_process_ids(struct checker *c) {
    const struct value *processes = config_find(c->config, "processes");
    struct process_ids *ids = c->config->options.process;
    for (size_t i = 0; i < option_count; i++) {
        if (option_table[i].section != SECTION_PROCESSES)
            continue;
        const struct value *entry = processes ? value_find(processes, option_name(&option_table[i])) : NULL;
        keep_id(c, entry, "user", ids->user);
        keep_id(c, entry, "group", ids->group);
        ids++;
    }
}

/* ---- what this server can do ---- */

static int64_t number_of(const struct option *row, const struct options *o) {
    int64_t number;
    memcpy(&number, option_place_const(row, o), sizeof number);
    return number;
}

static struct view decimal(struct checker *c, int64_t number) {
    struct text t = {.arena = c->arena};
    text_add_format(&t, "%d", number);
    return text_view(&t);
}

static void say_bounds(struct checker *c, const struct option *row, int64_t number) {
    struct text low = {.arena = c->arena}, high = {.arena = c->arena};
    const char *format = shape_is_time(row->shape) ? "%D" : "%d";
    const struct value *at = place_of(c->config, row);
    text_add_format(&low, format, row->low);
    text_add_format(&high, format, row->high);
    problem_at(c, at,
               shape_is_time(row->shape) ? "%k (%D) must lie between %k and %k in this server"
                                         : "%k (%d) must lie between %k and %k in this server",
               option_name(row), number, text_view(&low), text_view(&high));
}

/* What nats-server calls no limit is here the most that this server can do. */
static void lift_limits(struct checker *c) {
    struct options *o = &c->config->options;
    const struct option *payload = option_find(SECTION_TOP, VIEW("max_payload"));
    const struct option *line = option_find(SECTION_TOP, VIEW("max_control_line"));
    if (o->max_connections < 0)
        o->max_connections = option_find(SECTION_TOP, VIEW("max_connections"))->high;
    if (o->max_payload == -1) {
        o->max_payload = o->max_pending < payload->high ? o->max_pending : payload->high;
        notice_at(c, place_of(c->config, payload), "max_payload: without a limit of its own this server takes %k bytes",
                  decimal(c, o->max_payload));
    }
    if (o->max_control_line > line->high) {
        o->max_control_line = line->high;
        notice_at(c, place_of(c->config, line), "max_control_line: this server takes lines of %k bytes at most",
                  decimal(c, line->high));
    }
}

static void check_bounds(struct checker *c) {
    for (size_t i = 0; i < option_count; i++) {
        const struct option *row = &option_table[i];
        if (row->size != sizeof(int64_t) || (!row->low && !row->high))
            continue;
        int64_t number = number_of(row, &c->config->options);
        if (number < row->low || number > row->high)
            say_bounds(c, row, number);
    }
}

/* These go to every process, and to clients in INFO. */
static void check_names(struct checker *c) {
    static const char *const names[] = {"server_name", "host", "client_advertise"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const struct option *row = option_find(SECTION_TOP, view_text(names[i]));
        struct view s = view_text(option_place_const(row, &c->config->options));
        bool sound = text_find_fault(s) == s.len;
        for (size_t k = 0; k < s.len; k++)
            sound = sound && (unsigned char)s.at[k] >= 0x20 && s.at[k] != 0x7f;
        if (!sound)
            problem_at(c, place_of(c->config, row), "%s holds a control character, or what is not UTF-8", names[i]);
    }
}

static void check_unsupported(struct checker *c) {
    const char *word = c->config->options.unsupported;
    if (strcmp(word, "refuse") != 0 && strcmp(word, "warn") != 0)
        problem_at(c, config_find(c->config, "unsupported"), "unsupported must be refuse or warn");
}

/* ---- what is built ---- */

/* A block that opens no port and reaches out to nobody asks for nothing. */
static bool block_asks(const struct config *c, const char *name) {
    const struct options *o = &c->options;
    const struct value *routes = config_find(c, "cluster.routes");
    if (strcmp(name, "cluster") == 0)
        return o->cluster_port || (routes && routes->array->count);
    if (strcmp(name, "gateway") == 0)
        return has_gateway(c);
    if (strcmp(name, "leafnodes") == 0)
        return has_leafnodes(c);
    if (strcmp(name, "websocket") == 0)
        return o->websocket_port != 0;
    if (strcmp(name, "mqtt") == 0)
        return o->mqtt_port != 0;
    return true;
}

/* Options that nats-server takes to heart only together with another one. */
static bool has_effect(const struct config *c, const char *name) {
    const struct options *o = &c->options;
    const struct value *mode = config_find(c, "ocsp.mode");
    if (view_starts(view_text(name), VIEW("resolver")))
        return has_operator(c) || is_used(c, "trusted");
    if (strcmp(name, "http_base_path") == 0)
        return o->http_port || o->https_port;
    if (strcmp(name, "store_dir") == 0)
        return o->jetstream;
    if (strcmp(name, "ocsp") == 0)
        return !mode || !view_equal(mode->text, VIEW("never"));
    return block_asks(c, name);
}

static bool is_empty(const struct value *v) {
    return (v->type == VALUE_ARRAY && !v->array->count) || (v->type == VALUE_MAP && !v->map->count) ||
           (v->type == VALUE_BOOL && !v->truth);
}

/* True if the option says more than its absence would. */
static bool is_asked_for(const struct config *c, const struct option *row, const char *name) {
    if (row->size == sizeof(bool))
        return *(const bool *)option_place_const(row, &c->options);
    if (row->size == sizeof(int64_t))
        return number_of(row, &c->options) != 0;
    if (row->size)
        return *(const char *)option_place_const(row, &c->options) != '\0' && has_effect(c, name);
    const struct value *v = config_find(c, name);
    return v && !is_empty(v) && has_effect(c, name);
}

/* The account, where it is one's option; empty: none. */
static void say_not_built(struct checker *c, const struct option *row, struct view account, const struct value *at) {
    bool warn = strcmp(c->config->options.unsupported, "warn") == 0;
    struct view name = option_name(row);
    if (row->built == BUILT_IDLE)
        notice_at(c, at, "invalid use of field \"%k\": it has no effect in this server", name);
    else if (row->built == BUILT_GUARD && warn)
        problem_at(c, at, "option \"%k\" is not available in this server yet, nor left out: it says who may log in",
                   name);
    else if (account.len && warn)
        notice_at(c, at, "option \"accounts.%v.%k\" is not available in this server yet: it is left out", account,
                  name);
    else if (account.len)
        problem_at(c, at, "option \"accounts.%v.%k\" is not available in this server yet", account, name);
    else if (warn)
        notice_at(c, at, "option \"%k\" is not available in this server yet: it is left out", name);
    else
        problem_at(c, at, "option \"%k\" is not available in this server yet", name);
}

static void check_built(struct checker *c) {
    for (size_t i = 0; i < option_count; i++) {
        const struct option *row = &option_table[i];
        if (row->section != SECTION_TOP || row->built == BUILT)
            continue;
        const char *path = arena_copy(c->arena, option_name(row)).at;
        if (is_asked_for(c->config, row, path))
            say_not_built(c, row, VIEW(""), config_find(c->config, path));
    }
}

static void check_accounts_built(struct checker *c) {
    const struct value *accounts = config_find(c->config, "accounts");
    for (size_t i = 0; accounts && i < accounts->map->count; i++) {
        const struct value *account = accounts->map->at[i].value;
        for (size_t k = 0; k < account->map->count; k++) {
            const struct option *row = option_find(SECTION_ACCOUNT, account->map->at[k].key);
            if (row && row->built != BUILT && !is_empty(account->map->at[k].value))
                say_not_built(c, row, accounts->map->at[i].key, account->map->at[k].value);
        }
    }
}

/* ---- TLS ---- */

/* Suites without forward secrecy are accepted and not offered: private keys are not for decrypting
 * (docs/architecture.md). */
static void check_ciphers(struct checker *c, const struct value *suites) {
    bool offered = false;
    for (size_t i = 0; i < suites->array->count; i++) {
        struct value *name = suites->array->at[i];
        bool new = text_is(name) && (view_equal(name->text, VIEW("TLS_AES_128_GCM_SHA256")) ||
                                     view_equal(name->text, VIEW("TLS_AES_256_GCM_SHA384")) ||
                                     view_equal(name->text, VIEW("TLS_CHACHA20_POLY1305_SHA256")));
        if (text_is(name) && tls_cipher_offered(name->text))
            offered = true;
        else if (text_is(name) && !new)
            notice_at(c, name, "invalid use of field %q: this cipher suite is not offered", name->text);
    }
    if (!offered)
        problem_at(c, suites, "'cipher_suites' names none of TLS 1.2 that this server offers");
}

static void check_tls(struct checker *c) {
    const struct value *block = config_find(c->config, "tls");
    if (!block)
        return;
    const struct value *suites = value_find(block, VIEW("cipher_suites"));
    const struct value *pins = value_find(block, VIEW("pinned_certs"));
    if (!text_given(value_find(block, VIEW("cert_file"))))
        problem_at(c, block, "TLS Server certificate must be present and valid");
    if (suites)
        check_ciphers(c, suites);
    if (pins && pins->array->count > TLS_PINS_MAX)
        problem_at(c, pins, "'pinned_certs' may hold at most %d certificates in this server", (int64_t)TLS_PINS_MAX);
}

enum err config_check_start(struct config *c) {
    static start_check *const checks[] = {
        lift_limits,          check_lame_duck,    check_payload,   check_spill,       check_operators,
        check_leafnodes,      check_no_auth_user, check_gateway,   check_websocket,   check_system_account,
        check_bounds,         check_names,        check_room,      check_unsupported, check_built,
        check_accounts_built, check_tls,          keep_process_ids};
    struct checker checker = {.config = c, .arena = &c->arena};
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        checks[i](&checker);
    return config_has_errors(c) ? ERR_SYNTAX : ERR_OK;
}
