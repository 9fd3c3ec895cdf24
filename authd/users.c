/* SPDX-License-Identifier: Apache-2.0 */
/* The text is parsed into a tree that is dropped again when the table stands: the tree is the only place with a
 * password in it. The reader has checked the tree; here only such faults are checked again as would harm this
 * process. */
#include "authd/users.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "authd/names.h"
#include "base/wipe.h"
#include "config/parser.h"
#include "ipc/auth.pb-c.h"
#include "shm/book.h"
#include "shm/limit.h"

enum { PENALTY_AFTER = 5, PENALTY_MS = 100, PENALTY_MAX_MS = 1000, INDEX_DN = 255 };

/* ---- the tree ---- */

static int refuse_open(void *owner, const char *path) {
    (void)owner, (void)path;
    return -EACCES;
}

static int refuse_path(void *owner, const char *path) {
    (void)owner, (void)path;
    return EACCES;
}

static const char *refuse_variable(void *owner, const char *name) {
    (void)owner, (void)name;
    return NULL;
}

static const struct source source_nothing = {
    .open = refuse_open, .probe = refuse_path, .folder = refuse_path, .environment = refuse_variable};

/* A member of a map of that type; NULL: none, or of another type. */
static const struct value *member(const struct value *map, const char *key, enum value_type type) {
    const struct value *v = map && map->type == VALUE_MAP ? value_find(map, view_text(key)) : NULL;
    return v && v->type == type ? v : NULL;
}

static struct view text_member(const struct value *map, const char *key) {
    const struct value *v = member(map, key, VALUE_TEXT);
    return v ? v->text : view_of("", 0);
}

/* A limit of an account as nats-server takes it: -1 is none, 0 and all that is less allows nothing. */
static uint32_t limit_member(const struct value *map, const char *key) {
    const struct value *v = member(map, key, VALUE_INT);
    if (!v || v->number == -1)
        return 0;
    return v->number < 1 ? LIMIT_NOTHING : v->number >= LIMIT_NOTHING ? LIMIT_NOTHING - 1 : (uint32_t)v->number;
}

/* ---- marks and hashes ---- */

void users_mark(const struct users *users, struct view text, uint8_t mark[static USERS_MARK_BYTES]) {
    crypto_generichash(mark, USERS_MARK_BYTES, (const unsigned char *)text.at, text.len, users->key, USERS_KEY_BYTES);
}

static struct user_secret *secret_make(struct users *u, struct user_secret *s, struct view text) {
    users_mark(u, text, s->mark);
    s->is_hash = bcrypt_is_hash(text);
    s->cost = bcrypt_cost(text);
    if (s->cost)
        memcpy(s->hash, text.at, BCRYPT_CHARS);
    return s;
}

/* A hash that takes as long as the dearest of the configuration and that no password has. */
static void make_dummy(struct users *u) {
    char head[8];
    snprintf(head, sizeof head, "$2b$%02u$", u->cost_max % 100);
    memset(u->dummy, '.', sizeof u->dummy);
    memcpy(u->dummy, head, 7);
}

/* ---- the index ---- */

static uint64_t index_hash(const struct users *u, unsigned kind, struct view name) {
    return hash_bytes(&u->index_key, name.at, name.len) ^ kind * UINT64_C(0x9e3779b97f4a7c15);
}

static struct view index_name(const struct user *user, unsigned kind) {
    return kind == INDEX_DN ? user->dn : user->name;
}

static const struct user *index_find(const struct users *u, unsigned kind, struct view name) {
    if (!u->index_cap)
        return NULL;
    for (uint64_t i = index_hash(u, kind, name);; i++) {
        uint32_t slot = u->index[i & (u->index_cap - 1)];
        if (!slot)
            return NULL;
        const struct user *user = &u->at[slot - 1];
        if ((kind == INDEX_DN ? user->dn.len > 0 : user->kind == (enum user_kind)kind) &&
            view_equal(index_name(user, kind), name))
            return user;
    }
}

static void index_put(struct users *u, unsigned kind, uint32_t number) {
    uint64_t i = index_hash(u, kind, index_name(&u->at[number], kind));
    while (u->index[i & (u->index_cap - 1)])
        i++;
    u->index[i & (u->index_cap - 1)] = number + 1;
}

static void index_build(struct users *u) {
    u->index_cap = 16;
    while (u->index_cap < 4 * u->count)
        u->index_cap *= 2;
    u->index = arena_take(&u->arena, u->index_cap * sizeof *u->index);
    hash_key_make(&u->index_key);
    for (uint32_t i = 0; i < u->count; i++) {
        index_put(u, u->at[i].kind, i);
        if (u->at[i].dn.len)
            index_put(u, INDEX_DN, i);
    }
}

const struct user *users_find(const struct users *u, enum user_kind kind, struct view name) {
    return index_find(u, kind, name);
}

const struct user *users_find_dn(const struct users *u, struct view dn) {
    return dn.len ? index_find(u, INDEX_DN, dn) : NULL;
}

/* ---- entries ---- */

static enum err read_rules(struct users *u, const struct value *permissions, uint32_t *index, struct text *why) {
    *index = USERS_ALL;
    if (!permissions)
        return ERR_OK;
    struct rules *rules = &u->rules[u->rules_count];
    enum err e = rules_read(rules, permissions, &u->arena);
    if (e != ERR_OK)
        text_add_format(why, "permissions cannot be taken: %s", err_text(e));
    else if (!rules_are_empty(rules))
        *index = u->rules_count++;
    return e;
}

static uint8_t read_types(const struct value *entry) {
    static const char *const names[] = {"STANDARD", "WEBSOCKET", "LEAFNODE", "LEAFNODE_WS", "MQTT", "MQTT_WS"};
    const struct value *types = member(entry, "allowed_connection_types", VALUE_ARRAY);
    uint8_t mask = 0;
    for (size_t i = 0; types && i < types->array->count; i++) {
        const struct value *type = types->array->at[i];
        for (unsigned k = 0; k < sizeof names / sizeof *names; k++) {
            if (type->type == VALUE_TEXT && view_equal(type->text, view_text(names[k])))
                mask |= (uint8_t)(1u << k);
        }
    }
    return mask;
}

static void read_name(struct users *u, struct user *user, struct view name) {
    struct name *dn = memchr(name.at, '=', name.len) ? malloc(sizeof *dn) : NULL;
    user->kind = USER_NAME;
    user->name = arena_copy(&u->arena, name);
    if (dn && name_parse(dn, name, &u->arena) == ERR_OK)
        user->dn = name_canonical(dn, &u->arena);
    free(dn);
}

static void read_password(struct users *u, struct user *user, struct view pass) {
    user->secret = secret_make(u, &u->secrets[u->count - 1], pass);
    if (user->kind == USER_NAME && user->secret->cost > u->cost_max)
        u->cost_max = user->secret->cost;
    if (user->kind == USER_NAME && pass.len && !user->secret->is_hash)
        u->has_plain = true;
}

static struct user *new_user(struct users *u, enum user_kind kind, uint32_t account) {
    struct user *user = &u->at[u->count++];
    *user = (struct user){.kind = kind, .account = account, .rules = USERS_ALL};
    return user;
}

static enum err read_user(struct users *u, const struct value *entry, uint32_t account, uint32_t fallback,
                          struct text *why) {
    struct view nkey = text_member(entry, "nkey"), name = text_member(entry, "user");
    struct user *user = new_user(u, USER_NAME, account);
    if (nkey.len) {
        user->kind = USER_NKEY;
        user->name = arena_copy(&u->arena, nkey);
        u->has_nkeys = true;
        if (nkey_parse(user->nkey, NKEY_USER, nkey) != ERR_OK) {
            text_add(why, VIEW("not a public nkey of a user"));
            return ERR_SYNTAX;
        }
    } else {
        read_name(u, user, name);
        read_password(u, user, text_member(entry, "pass"));
        u->has_array = true;
    }
    user->types = read_types(entry);
    enum err e = read_rules(u, member(entry, "permissions", VALUE_MAP), &user->rules, why);
    if (e == ERR_OK && !member(entry, "permissions", VALUE_MAP))
        user->rules = fallback;
    return e;
}

static enum err read_users(struct users *u, const struct value *block, uint32_t account, uint32_t fallback,
                           struct text *why) {
    const struct value *list = member(block, "users", VALUE_ARRAY);
    for (size_t i = 0; list && i < list->array->count; i++) {
        enum err e = read_user(u, list->array->at[i], account, fallback, why);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

/* ---- accounts ---- */

static enum err read_account(struct users *u, struct view name, const struct value *block, struct text *why) {
    const struct value *limits = member(block, "limits", VALUE_MAP);
    struct user_account *account = &u->accounts[u->account_count++];
    *account = (struct user_account){.name = arena_copy(&u->arena, name),
                                     .conns_max = limit_member(limits, "max_connections"),
                                     .subs_max = limit_member(limits, "max_subscriptions"),
                                     .payload_max = limit_member(limits, "max_payload")};
    if (name.len == 0 || name.len > BOOK_NAME_MAX) {
        text_add_format(why, "the name of an account has 1 to %d bytes", (int64_t)BOOK_NAME_MAX);
        return ERR_LONG;
    }
    uint32_t own = USERS_ALL;
    const struct value *permissions = member(block, "default_permissions", VALUE_MAP);
    enum err e = read_rules(u, permissions, &own, why);
    return e == ERR_OK ? read_users(u, block, u->account_count - 1, own, why) : e;
}

/* ---- one user, a token, nobody ---- */

static void read_single(struct users *u, const struct value *authorization) {
    struct view name = text_member(authorization, "user"), token = text_member(authorization, "token");
    if (name.len) {
        struct user *user = new_user(u, USER_NAME, USERS_GLOBAL);
        user->name = arena_copy(&u->arena, name);
        read_password(u, user, text_member(authorization, "pass"));
        u->single = user;
    } else if (token.len) {
        struct user *user = new_user(u, USER_TOKEN, USERS_GLOBAL);
        read_password(u, user, token);
        u->token = user;
    }
}

static enum err read_unnamed(struct users *u, struct view name, struct text *why) {
    if (!name.len)
        return ERR_OK;
    for (uint32_t i = 0; i < u->count; i++) {
        if (u->at[i].kind != USER_NAME || !view_equal(u->at[i].name, name))
            continue;
        struct user *user = new_user(u, USER_UNNAMED, u->at[i].account);
        user->name = u->at[i].name;
        user->types = u->at[i].types;
        user->rules = u->at[i].rules;
        u->unnamed = user;
        return ERR_OK;
    }
    text_add_format(why, "no_auth_user %q is not a user", name);
    return ERR_SYNTAX;
}

static uint32_t ms_member(const struct value *map, const char *key, uint32_t fallback) {
    const struct value *v = member(map, key, VALUE_INT);
    int64_t ms = v ? v->number / 1000000 : fallback;
    return ms < 0 ? 0 : ms > 3600000 ? 3600000 : (uint32_t)ms;
}

static void read_penalties(struct users *u, const struct value *tree) {
    const struct value *logins = member(tree, "logins", VALUE_MAP), *after = member(logins, "penalty_after", VALUE_INT);
    int64_t count = after ? after->number : PENALTY_AFTER;
    u->penalties = (struct user_penalties){
        .after = count < 0            ? 0
                 : count > UINT32_MAX ? UINT32_MAX
                                      : (uint32_t)count,
        .step_ms = ms_member(logins, "penalty", PENALTY_MS),
        .max_ms = ms_member(logins, "penalty_max", PENALTY_MAX_MS),
    };
}

/* ---- the whole ---- */

static size_t count_users(const struct value *block) {
    const struct value *list = member(block, "users", VALUE_ARRAY);
    return list ? list->array->count : 0;
}

/* Room for all entries, whatever the tree says of them. */
static enum err make_room(struct users *u, const struct value *authorization, const struct value *accounts,
                          struct text *why) {
    size_t users = 2 + count_users(authorization), count = 1 + (accounts ? accounts->map->count : 0);
    for (size_t i = 0; i + 1 < count; i++)
        users += count_users(accounts->map->at[i].value);
    if (users > USERS_MAX || count > USERS_ACCOUNTS_MAX) {
        text_add_format(why, "more than %d users or %d accounts", (int64_t)USERS_MAX, (int64_t)USERS_ACCOUNTS_MAX);
        return ERR_LONG;
    }
    u->at = arena_take(&u->arena, users * sizeof *u->at);
    u->accounts = arena_take(&u->arena, count * sizeof *u->accounts);
    u->rules = arena_take(&u->arena, (users + count + 1) * sizeof *u->rules);
    u->secrets = sodium_malloc(users * sizeof *u->secrets);
    if (!u->secrets) {
        text_add(why, VIEW("no memory for the credentials"));
        return ERR_NOMEM;
    }
    memset(u->secrets, 0, users * sizeof *u->secrets);
    return ERR_OK;
}

static enum err read_tree(struct users *u, const struct value *tree, struct text *why) {
    const struct value *authorization = member(tree, "authorization", VALUE_MAP);
    const struct value *accounts = member(tree, "accounts", VALUE_MAP);
    const struct value *maps = member(member(tree, "tls", VALUE_MAP), "verify_and_map", VALUE_BOOL);
    uint32_t fallback = USERS_ALL;
    enum err e = make_room(u, authorization, accounts, why);
    if (e != ERR_OK)
        return e;
    u->accounts[u->account_count++] = (struct user_account){.name = VIEW("$G")};
    e = read_rules(u, member(authorization, "default_permissions", VALUE_MAP), &fallback, why);
    if (e == ERR_OK)
        e = read_users(u, authorization, USERS_GLOBAL, fallback, why);
    for (size_t i = 0; accounts && i < accounts->map->count && e == ERR_OK; i++)
        e = read_account(u, accounts->map->at[i].key, accounts->map->at[i].value, why);
    if (e != ERR_OK)
        return e;
    if (u->count == 0)
        read_single(u, authorization);
    u->required = u->count > 0;
    u->maps_certificates = maps && maps->truth;
    read_penalties(u, tree);
    if (!u->required)
        new_user(u, USER_ANYONE, USERS_GLOBAL);
    else if (u->has_array)
        e = read_unnamed(u, text_member(tree, "no_auth_user"), why);
    make_dummy(u);
    index_build(u);
    return e;
}

enum err users_read(struct users **users, struct view text, const uint8_t key[static USERS_KEY_BYTES],
                    struct text *why) {
    struct arena arena = {0};
    struct value *tree = value_make(&arena, VALUE_MAP);
    struct users *u = calloc(1, sizeof *u);
    if (!u)
        return ERR_NOMEM;
    memcpy(u->key, key, USERS_KEY_BYTES);
    struct text fault = {.arena = &arena}; /* may hold a piece of the text, so nobody sees it */
    enum err e = text.len ? parser_read_text(&tree, &arena, &source_nothing, "configuration", text, &fault) : ERR_OK;
    if (e != ERR_OK)
        text_add(why, VIEW("it cannot be parsed"));
    else
        e = read_tree(u, tree, why);
    arena_free(&arena);
    if (e == ERR_OK)
        *users = u;
    else
        users_free(u);
    return e;
}

void users_free(struct users *u) {
    if (!u)
        return;
    if (u->secrets)
        sodium_free(u->secrets);
    arena_free(&u->arena);
    wipe(u, sizeof *u);
    free(u);
}
