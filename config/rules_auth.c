/* SPDX-License-Identifier: Apache-2.0 */
/* Who may log in and what they may do then. Whether users and a single user go together is decided where the block
 * ends, because nats-server says it with the block's position. */
#include <string.h>

#include "config/checker.h"
#include "config/rules.h"
#include "nats/nkey.h"
#include "nats/subject.h"

/* ---- users ---- */

static bool is_nkey(const struct value *v, enum nkey_kind kind) {
    uint8_t bytes[NKEY_BYTES];
    return text_is(v) && nkey_parse(bytes, kind, v->text) == ERR_OK;
}

/* A user has a name or an nkey, not both. False: not a user, with a message. */
static bool check_user(struct checker *c, const struct value *at, const struct value *user) {
    const struct value *name = value_find(user, VIEW("user")), *nkey = value_find(user, VIEW("nkey"));
    const struct value *pass = value_find(user, VIEW("pass"));
    if (!text_given(nkey) && !text_given(name))
        problem_at(c, at, "User entry requires a user");
    else if (text_given(nkey) && !is_nkey(nkey, NKEY_USER))
        problem_at(c, at, "Not a valid public nkey for a user");
    else if (text_given(nkey) && (text_given(name) || text_given(pass)))
        problem_at(c, at, "Nkey users do not take usernames or passwords");
    else
        return true;
    return false;
}

/* Stops at the first entry that is no user, as nats-server does. */
RULE(rule_users) {
    (void)out;
    if (v->type != VALUE_ARRAY) {
        wrong_type(c, o, key, v, "");
        return NULL;
    }
    struct value *users = derive(c, v, VALUE_ARRAY);
    for (size_t i = 0; i < v->array->count; i++) {
        struct value *entry = v->array->at[i];
        if (entry->type != VALUE_MAP) {
            problem_at(c, entry, "Expected user entry to be a map/struct, got %V", entry);
            continue;
        }
        const struct value_map *m = entry->map;
        struct value *user = check_block(c, SECTION_USER, entry);
        if (!check_user(c, m->count ? m->at[m->count - 1].value : entry, user))
            return NULL;
        value_append(c->arena, users, user);
    }
    value_measure(users);
    return users;
}

/* Names and nkeys share one space. False: one is taken, with a message at the given position. */
static bool take_name(struct checker *c, const struct value *at, const struct value *user) {
    const struct value *nkey = value_find(user, VIEW("nkey")), *name = value_find(user, VIEW("user"));
    bool by_key = text_given(nkey);
    struct view taken = by_key ? nkey->text : name->text;
    if (value_find(c->names, taken)) {
        problem_at(c, at, by_key ? "Duplicate nkey %q detected" : "Duplicate user %q detected", taken);
        return false;
    }
    value_put(c->arena, c->names, taken, value_make(c->arena, VALUE_BOOL));
    return true;
}

void take_names(struct checker *c, const struct value *at, const struct value *users, bool first_only) {
    for (size_t i = 0; users && i < users->array->count; i++) {
        if (!take_name(c, at, users->array->at[i]) && first_only)
            return;
    }
}

static struct value *read_authorization(struct checker *c, struct value *v, enum section section) {
    if (v->type == VALUE_MAP)
        return check_block(c, section, v);
    problem_at(c, v, "interface conversion: interface {} is %T, not map[string]interface {}", v);
    return NULL;
}

RULE(rule_authorization) {
    (void)key, (void)out;
    struct value *block = read_authorization(c, v, o->inner);
    if (!block)
        return NULL;
    bool user = text_given(value_find(block, VIEW("user")));
    bool pass = text_given(value_find(block, VIEW("pass")));
    const struct value *users = value_find(block, VIEW("users"));
    c->single_user = user;
    c->token = text_given(value_find(block, VIEW("token")));
    if ((user || pass) && c->token)
        problem_at(c, v, "Cannot have a user/pass and token");
    else if (users && user)
        problem_at(c, v, "Can not have a single user/pass and a users array");
    else if (users && c->token)
        problem_at(c, v, "Can not have a token and a users array");
    else
        take_names(c, v, users, true);
    return block;
}

/* Servers log in with one user and password. */
RULE(rule_peer_authorization) {
    (void)out;
    bool cluster = o->section == SECTION_CLUSTER;
    c->stores = false;
    struct value *block = read_authorization(c, v, o->inner);
    c->stores = true;
    if (!block)
        return NULL;
    if (value_find(block, VIEW("users"))) {
        problem_at(c, v, "%s authorization does not allow multiple users", cluster ? "Cluster" : "Gateway");
        return NULL;
    }
    if (text_given(value_find(block, VIEW("token")))) {
        problem_at(c, v, "%s authorization does not support tokens", cluster ? "Cluster" : "Gateway");
        return NULL;
    }
    if (cluster && value_find(block, VIEW("default_permissions")))
        warning_at(c, v, key, "setting \"permissions\" within cluster authorization block is deprecated");
    return block;
}

RULE(rule_leaf_authorization) {
    (void)key, (void)out;
    struct value *block = read_authorization(c, v, o->inner);
    const struct value *users = block ? value_find(block, VIEW("users")) : NULL;
    if (!users || !users->array->count)
        return block;
    if (text_given(value_find(block, VIEW("user")))) {
        problem_at(c, v, "can not have a single user/pass and a users array");
        return NULL;
    }
    struct value *seen = value_make(c->arena, VALUE_MAP);
    for (size_t i = 0; i < users->array->count; i++) {
        struct value *name = value_find(users->array->at[i], VIEW("user"));
        struct view text = name ? name->text : view_of("", 0);
        if (value_find(seen, text)) {
            problem_at(c, v, "duplicate user %q detected in leafnode authorization", text);
            return NULL;
        }
        value_put(c->arena, seen, text, value_make(c->arena, VALUE_BOOL));
    }
    return block;
}

/* ---- permissions ---- */

static bool is_subject_space(char b) {
    return b == ' ' || b == '\t' || b == '\n' || b == '\r' || b == '\f';
}

static bool is_subject(struct view s) {
    for (size_t i = 0; i < s.len; i++) {
        if (is_subject_space(s.at[i]))
            return false;
    }
    return s.len && subject_is_pattern(s);
}

/* The first word of two; the whole text where it is not two words. */
static struct view without_queue(struct view s) {
    size_t from = 0, words = 0;
    struct view first = s;
    while (true) {
        while (from < s.len && is_subject_space(s.at[from]))
            from++;
        size_t to = from;
        while (to < s.len && !is_subject_space(s.at[to]))
            to++;
        if (to == from)
            return words == 2 ? first : s;
        if (words++ == 0)
            first = view_of(s.at + from, to - from);
        from = to;
    }
}

/* Subjects, each perhaps with a queue group behind it. Messages about them stand at `at`, which may be nowhere. */
static struct value *read_subjects(struct checker *c, struct value *v, const struct value *at) {
    struct value *list = derive(c, v, VALUE_ARRAY);
    if (text_is(v)) {
        value_append(c->arena, list, v);
    } else if (v->type != VALUE_ARRAY) {
        problem_at(c, at, "Expected subject permissions to be a subject, or array of subjects, got %T", v);
        return NULL;
    }
    for (size_t i = 0; v->type == VALUE_ARRAY && i < v->array->count; i++) {
        if (!text_is(v->array->at[i])) {
            problem_at(c, v->array->at[i], "Subject in permissions array cannot be cast to string");
            return NULL;
        }
        value_append(c->arena, list, v->array->at[i]);
    }
    for (size_t i = 0; i < list->array->count; i++) {
        struct view subject = without_queue(list->array->at[i]->text);
        if (!is_subject(subject)) {
            problem_at(c, at, "subject %q is not a valid subject", subject);
            return NULL;
        }
    }
    value_measure(list);
    return list;
}

RULE(rule_subjects) {
    (void)o, (void)key, (void)out;
    return read_subjects(c, v, v);
}

/* Publishing or subscribing: a map says what is allowed and what is not; an empty one limits nothing. Without a map it
 * is what is allowed, and nats-server gives its faults no position. */
RULE(rule_side) {
    (void)key, (void)out;
    if (v->type == VALUE_MAP)
        return v->map->count ? check_block(c, o->inner, v) : NULL;
    struct value *allow = read_subjects(c, v, NULL);
    if (!allow)
        return NULL;
    struct value *side = derive(c, v, VALUE_MAP);
    value_put(c->arena, side, VIEW("allow"), allow);
    value_measure(side);
    return side;
}

/* `true` is a block with nothing in it, `false` is nothing. */
RULE(rule_responses) {
    (void)key, (void)out;
    if (v->type == VALUE_BOOL)
        return v->truth ? derive(c, v, VALUE_MAP) : NULL;
    if (v->type == VALUE_MAP)
        return check_block(c, o->inner, v);
    problem_at(c, v, "error parsing response permissions, expected a boolean or a map");
    return NULL;
}

/* Who may answer and is not allowed anything else may publish nothing else. */
static void close_publish(struct checker *c, struct value *permissions) {
    struct value *publish = value_find(permissions, VIEW("publish"));
    if (!publish) {
        publish = derive(c, permissions, VALUE_MAP);
        value_put(c->arena, permissions, VIEW("publish"), publish);
    }
    if (!value_find(publish, VIEW("allow")))
        value_put(c->arena, publish, VIEW("allow"), derive(c, permissions, VALUE_ARRAY));
    value_measure(publish);
    value_measure(permissions);
}

RULE(rule_permissions) {
    (void)key, (void)out;
    if (v->type != VALUE_MAP) {
        problem_at(c, v, "Expected permissions to be a map/struct, got %V", v);
        return NULL;
    }
    struct value *permissions = check_block(c, o->inner, v);
    if (value_find(permissions, VIEW("allow_responses")))
        close_publish(c, permissions);
    return permissions;
}

RULE(rule_cluster_permissions) {
    struct value *permissions = rule_permissions(c, o, key, v, out);
    if (!permissions || !value_find(permissions, VIEW("allow_responses")))
        return permissions;
    problem_at(c, v, "Cluster permissions do not support dynamic responses");
    return NULL;
}

/* ---- kinds of connections ---- */

static struct value *upper(struct checker *c, const struct value *v) {
    struct view text = arena_copy(c->arena, v->text);
    for (size_t i = 0; i < text.len; i++) {
        char b = text.at[i];
        *((char *)(uintptr_t)text.at + i) = b >= 'a' && b <= 'z' ? (char)(b - 'a' + 'A') : b;
    }
    return derive_text(c, v, text);
}

RULE(rule_connection_types) {
    static const char *const kinds[] = {"STANDARD", "WEBSOCKET", "LEAFNODE", "LEAFNODE_WS", "MQTT", "MQTT_WS"};
    const struct value *at = v;
    v = check_shape(c, o, key, v, out);
    if (!v)
        return NULL;
    struct value *types = derive(c, v, VALUE_ARRAY);
    struct text unknown = {.arena = c->arena};
    for (size_t i = 0; i < v->array->count; i++) {
        struct value *type = upper(c, v->array->at[i]);
        bool known = false;
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
            known = known || view_equal(type->text, view_text(kinds[k]));
        if (!known)
            text_add_format(&unknown, unknown.len ? " %q" : "%q", type->text);
        value_append(c->arena, types, type);
    }
    if (unknown.len)
        problem_at(c, at, "invalid connection types [%v]", text_view(&unknown));
    value_measure(types);
    return types;
}
