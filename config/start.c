/* What only a start asks, in the order of nats-server's own checks: do the options fit together? Then Bulkhead's: are
 * the numbers within what this server can do, and has it built what is asked for? */
#include <string.h>

#include "config/checker.h"
#include "config/tls.h"

typedef void start_check(struct checker *c);

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
        problem_at(c, NULL, "lame duck grace period (%D) should be strictly lower than lame duck duration (%D)",
                   o->lame_duck_grace_period_ns, o->lame_duck_duration_ns);
}

static void check_payload(struct checker *c) {
    const struct options *o = &c->config->options;
    if (o->max_payload > o->max_pending)
        problem_at(c, NULL, "max_payload (%d) cannot be higher than max_pending (%d)", o->max_payload, o->max_pending);
}

/* ---- operators ---- */

static bool has_users(const struct config *c) {
    const struct value *users = config_find(c, "authorization.users");
    return users && users->array->count > 0;
}

static void check_operators(struct checker *c) {
    const struct config *g = c->config;
    if (!has_operator(g))
        return;
    if (!is_used(g, "resolver"))
        problem_at(c, NULL, "operators require an account resolver to be configured");
    if (is_used(g, "accounts"))
        problem_at(c, NULL, "operators do not allow Accounts to be configured directly");
    if (has_users(g))
        problem_at(c, NULL, "operators do not allow users to be configured directly");
    if (is_used(g, "trusted"))
        problem_at(c, NULL, "conflicting options for 'TrustedKeys' and 'TrustedOperators'");
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
        problem_at(c, NULL, "cannot find local account %q specified in leafnode %s", name->text, where);
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
        problem_at(c, NULL,
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
    const struct value *own = config_find(c->config, "authorization.users");
    if (!name.len)
        return;
    if (has_operator(c->config)) {
        problem_at(c, NULL, "no_auth_user not compatible with Trusted Operator");
        return;
    }
    bool any = false, found = false;
    look_for_user(own, name, &any, &found);
    for (size_t i = 0; accounts && i < accounts->map->count; i++)
        look_for_user(value_find(accounts->map->at[i].value, VIEW("users")), name, &any, &found);
    if (!any)
        problem_at(c, NULL, "no_auth_user: %q present, but users are not defined", name);
    else if (!found)
        problem_at(c, NULL, "no_auth_user: %q not present as user in authorization block or account configuration",
                   name);
}

static void check_system_account(struct checker *c) {
    struct view name = view_text(c->config->options.system_account);
    if (!has_operator(c->config) && !is_account(c->config, name))
        problem_at(c, NULL, "error resolving system account: account missing");
}

/* ---- gateways and clusters ---- */

static void check_gateway(struct checker *c) {
    const struct options *o = &c->config->options;
    const struct value *remotes = config_find(c->config, "gateway.gateways");
    if (o->gateway_port && !o->gateway_name[0])
        problem_at(c, NULL, "gateway has no name");
    if (o->gateway_name[0] && !o->gateway_port)
        problem_at(c, NULL, "gateway %q has no port specified (select -1 for random port)", view_text(o->gateway_name));
    for (size_t i = 0; has_gateway(c->config) && remotes && i < remotes->array->count; i++) {
        const struct value *remote = remotes->array->at[i], *name = value_find(remote, VIEW("name"));
        if (!text_given(name))
            problem_at(c, NULL, "gateway in the list %d has no name", (int64_t)i);
        else if (!value_find(remote, VIEW("url")) && !value_find(remote, VIEW("urls")))
            problem_at(c, NULL, "gateway %q has no URL", name->text);
    }
    if (o->gateway_name[0] && o->cluster_name[0] && strcmp(o->gateway_name, o->cluster_name) != 0)
        problem_at(c, NULL, "cluster name conflicts between cluster and gateway definitions");
}

static void check_websocket(struct checker *c) {
    const struct options *o = &c->config->options;
    if (o->websocket_port && !o->websocket_no_tls && !is_used(c->config, "websocket.tls"))
        problem_at(c, NULL, "websocket requires TLS configuration");
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

static void say_bounds(struct checker *c, const struct option *row, int64_t number) {
    struct text low = {.arena = c->arena}, high = {.arena = c->arena}, is = {.arena = c->arena};
    const char *format = shape_is_time(row->shape) ? "%D" : "%d";
    text_add_format(&low, format, row->low);
    text_add_format(&high, format, row->high);
    text_add_format(&is, format, number);
    problem_at(c, NULL, "%v (%v) must lie between %v and %v in this server", option_name(row), text_view(&is),
               text_view(&low), text_view(&high));
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

/* True if the option says more than its absence would. */
static bool is_asked_for(const struct config *c, const struct option *row, const char *name) {
    if (row->size == sizeof(bool))
        return *(const bool *)option_place_const(row, &c->options);
    if (row->size == sizeof(int64_t))
        return number_of(row, &c->options) != 0;
    if (row->size)
        return *(const char *)option_place_const(row, &c->options) != '\0';
    const struct value *v = config_find(c, name);
    return v && !(v->type == VALUE_BOOL && !v->truth) && block_asks(c, name);
}

static void check_built(struct checker *c) {
    for (size_t i = 0; i < option_count; i++) {
        const struct option *row = &option_table[i];
        if (row->section != SECTION_TOP || row->built == BUILT)
            continue;
        struct view name = option_name(row);
        const char *path = arena_copy(c->arena, name).at;
        if (!is_asked_for(c->config, row, path))
            continue;
        const struct value *at = config_find(c->config, path);
        if (row->built == BUILT_NOT)
            problem_at(c, at, "option %q is not available in this server yet", name);
        else
            warning_at(c, at, name, "it has no effect in this server");
    }
}

/* The same inside of accounts. */
static void check_account_built(struct checker *c, struct view name, const struct value *account) {
    for (size_t i = 0; i < account->map->count; i++) {
        const struct option *row = option_find(SECTION_ACCOUNT, account->map->at[i].key);
        const struct value *v = account->map->at[i].value;
        bool empty = (v->type == VALUE_ARRAY && !v->array->count) || (v->type == VALUE_MAP && !v->map->count) ||
                     (v->type == VALUE_BOOL && !v->truth);
        if (!row || row->built == BUILT || empty)
            continue;
        struct text path = {.arena = c->arena};
        text_add_format(&path, "accounts.%v.%v", name, option_name(row));
        problem_at(c, v, "option %q is not available in this server yet", text_view(&path));
    }
}

static void check_accounts_built(struct checker *c) {
    const struct value *accounts = config_find(c->config, "accounts");
    for (size_t i = 0; accounts && i < accounts->map->count; i++)
        check_account_built(c, accounts->map->at[i].key, accounts->map->at[i].value);
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
            warning_at(c, name, name->text, "this cipher suite is not offered");
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
    static start_check *const checks[] = {check_lame_duck,    check_payload, check_operators,      check_leafnodes,
                                          check_no_auth_user, check_gateway, check_websocket,      check_system_account,
                                          check_bounds,       check_built,   check_accounts_built, check_tls,
                                          keep_process_ids};
    struct checker checker = {.config = c, .arena = &c->arena};
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        checks[i](&checker);
    return config_has_errors(c) ? ERR_SYNTAX : ERR_OK;
}
