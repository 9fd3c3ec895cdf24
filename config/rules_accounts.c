/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts, entry by entry. How they fit together is checked in links.c, when all are known. */
#include <string.h>

#include "config/checker.h"
#include "config/mapping.h"
#include "config/rules.h"
#include "config/url.h"
#include "nats/nkey.h"
#include "nats/subject.h"

/* Place of a key in a checked map, in the order of the file; -1: not there. */
static int place_of(const struct value *map, const char *key) {
    for (size_t i = 0; i < map->map->count; i++) {
        if (view_equal(map->map->at[i].key, view_text(key)))
            return (int)i;
    }
    return -1;
}

RULE(rule_account_key) {
    uint8_t bytes[NKEY_BYTES];
    (void)o, (void)key, (void)out;
    if (text_is(v) && nkey_parse(bytes, NKEY_ACCOUNT, v->text) == ERR_OK)
        return v;
    problem_at(c, v, "Not a valid public nkey for an account: %q", text_is(v) ? v->text : view_of("", 0));
    return NULL;
}

/* ---- exports ---- */

RULE(rule_response_type) {
    static const char *const words[][2] = {{"single", "singleton"},
                                           {"singleton", "singleton"},
                                           {"stream", "stream"},
                                           {"chunk", "chunked"},
                                           {"chunked", "chunked"}};
    v = check_shape(c, o, key, v, out);
    for (size_t i = 0; v && i < sizeof words / sizeof *words; i++) {
        if (view_equal_fold(v->text, words[i][0]))
            return derive_text(c, v, view_text(words[i][1]));
    }
    if (v)
        problem_at(c, v, "Unknown response type: %q", v->text);
    return NULL;
}

RULE(rule_threshold) {
    struct text why = {.arena = c->arena};
    int64_t ns;
    (void)out;
    if (!text_is(v)) {
        wrong_type(c, o, key, v, "");
        return NULL;
    }
    if (duration_parse(&ns, v->text, &why) == ERR_OK)
        return derive_int(c, v, ns);
    problem_at(c, v, "Expected response threshold to be a parseable time duration, got %q", v->text);
    return NULL;
}

/* A percentage; 0: where a header asks for it. NULL: none, with a message. */
static struct value *read_sampling(struct checker *c, const struct value *v) {
    int64_t percent = 0;
    if (text_is(v)) {
        struct view s = v->text;
        if (view_equal_fold(s, "headers"))
            return derive_int(c, v, 0);
        if (s.len && s.at[s.len - 1] == '%')
            s.len--;
        if (!parse_int(s, &percent)) {
            problem_at(c, v, "Failed to parse latency sample: strconv.Atoi: parsing %q: invalid syntax", s);
            return NULL;
        }
    } else if (v->type == VALUE_INT) {
        percent = v->number;
    } else {
        problem_at(c, v, "Expected latency sample to be a string or map/struct, got %T", v);
        return NULL;
    }
    if (percent >= 1 && percent <= 100)
        return derive_int(c, v, percent);
    problem_at(c, v, "bad sampling percentage, should be 1-100");
    return NULL;
}

RULE(rule_latency) {
    if (text_is(v)) {
        struct value *block = derive(c, v, VALUE_MAP);
        value_put(c->arena, block, VIEW("subject"), v);
        value_measure(block);
        return block;
    }
    struct value *block = check_shape(c, o, key, v, out);
    if (!block)
        return NULL;
    struct value *sampling = value_find(block, VIEW("sampling"));
    if (sampling) {
        sampling = read_sampling(c, sampling);
        if (!sampling)
            return NULL;
        value_put(c->arena, block, VIEW("sampling"), sampling);
    }
    if (!value_find(block, VIEW("subject")))
        problem_at(c, v, "Latency subject required, but missing");
    return block;
}

static void check_export(struct checker *c, const struct value *export) {
    int stream = place_of(export, "stream"), service = place_of(export, "service");
    const struct value *named[] = {value_find(export, VIEW("stream")), value_find(export, VIEW("service"))};
    static const char *const directives[][2] = {{"response_type", "Detected response directive on non-service"},
                                                {"response_threshold", "Detected response directive on non-service"},
                                                {"latency", "Detected latency directive on non-service"}};
    if (stream >= 0 && service >= 0) {
        if (stream < service)
            problem_at(c, named[1], "Detected service %q but already saw a stream", named[1]->text);
        else
            problem_at(c, named[0], "Detected stream %q but already saw a service", named[0]->text);
        return;
    }
    for (size_t i = 0; stream >= 0 && i < sizeof directives / sizeof *directives; i++) {
        const struct value *directive = value_find(export, view_text(directives[i][0]));
        if (directive)
            problem_at(c, directive, "%s", directives[i][1]);
    }
}

RULE(rule_exports) {
    struct value *list = check_shape(c, o, key, v, out);
    for (size_t i = 0; list && i < list->array->count; i++)
        check_export(c, list->array->at[i]);
    return list;
}

/* ---- imports ---- */

RULE(rule_import_from) {
    struct value *from = check_shape(c, o, key, v, out);
    if (!from)
        return NULL;
    if (text_given(value_find(from, VIEW("account"))) && text_given(value_find(from, VIEW("subject"))))
        return from;
    problem_at(c, v, "Expect an account name and a subject");
    return NULL;
}

static void check_import(struct checker *c, const struct value *import, struct value *services) {
    int stream = place_of(import, "stream"), service = place_of(import, "service");
    struct value *to = value_find(import, VIEW("to"));
    if (stream >= 0 && service >= 0) {
        bool first = stream < service;
        problem_at(c, value_find(import, first ? VIEW("service") : VIEW("stream")),
                   first ? "Detected service but already saw a stream" : "Detected stream but already saw a service");
        return;
    }
    if (stream >= 0 && to && text_given(value_find(import, VIEW("prefix"))))
        problem_at(c, to, "Stream import can not have a 'prefix' and a 'to' property");
    if (service < 0)
        return;
    struct value *from = value_find(import, VIEW("service"));
    struct view local = text_given(to) ? to->text : value_find(from, VIEW("subject"))->text;
    struct value *other = value_find(services, local);
    if (other)
        problem_at(c, import,
                   "Duplicate service import subject %q, previously used in import for account %q, subject %q", local,
                   value_find(other, VIEW("account"))->text, value_find(other, VIEW("subject"))->text);
    else
        value_put(c->arena, services, local, from);
}

RULE(rule_imports) {
    struct value *list = check_shape(c, o, key, v, out), *services = value_make(c->arena, VALUE_MAP);
    for (size_t i = 0; list && i < list->array->count; i++)
        check_import(c, list->array->at[i], services);
    return list;
}

/* ---- mappings ---- */

RULE(rule_weight) {
    (void)o, (void)key, (void)out;
    int64_t weight = v->type == VALUE_INT ? v->number : 0;
    if (text_is(v)) {
        struct view s = v->text;
        if (s.len && s.at[s.len - 1] == '%')
            s.len--;
        if (!parse_int(s, &weight)) {
            problem_at(c, v, "Invalid weight %q for mapping destination", s);
            return NULL;
        }
    } else if (v->type != VALUE_INT) {
        problem_at(c, v, "Unknown entry type for weight of %V\n", v);
        return NULL;
    }
    if (weight >= 0 && weight <= 100)
        return derive_int(c, v, weight);
    problem_at(c, v, "Invalid weight %d for mapping destination", weight);
    return NULL;
}

/* One destination; NULL: none, with a message. */
static struct value *read_destination(struct checker *c, struct value *v) {
    if (v->type != VALUE_MAP) {
        problem_at(c, v, "Expected an entry for the mapping destination");
        return NULL;
    }
    size_t before = c->config->problem_count;
    struct value *entry = check_block(c, SECTION_DESTINATION, v);
    const struct value *subject = value_find(entry, VIEW("destination"));
    if (c->config->problem_count != before)
        return NULL;
    if (value_find(entry, VIEW("weight")))
        return entry;
    problem_at(c, v, "Missing weight for mapping destination %q", subject ? subject->text : view_of("", 0));
    return NULL;
}

/* Destinations of one source go together if each can be reached, none comes twice and the weights are not too many. */
static enum err check_destinations(struct checker *c, struct view source, const struct value *list, struct text *why) {
    struct value *seen = value_make(c->arena, VALUE_MAP);
    int64_t total = 0;
    for (size_t i = 0; i < list->array->count; i++) {
        const struct value *entry = list->array->at[i], *subject = value_find(entry, VIEW("destination"));
        struct view text = subject ? subject->text : view_of("", 0);
        if (value_find(seen, text)) {
            text_add_format(why, "duplicate entry for %q", text);
            return ERR_SYNTAX;
        }
        value_put(c->arena, seen, text, value_make(c->arena, VALUE_BOOL));
        total += value_find(entry, VIEW("weight"))->number;
        if (total > 100) {
            text_add(why, VIEW("total weight needs to be <= 100"));
            return ERR_SYNTAX;
        }
        if (mapping_check(source, text, why) != ERR_OK)
            return ERR_SYNTAX;
    }
    return ERR_OK;
}

/* A single text is a destination with all the weight. */
static struct value *destination_of_text(struct checker *c, const struct value *v) {
    struct value *entry = derive(c, v, VALUE_MAP);
    value_put(c->arena, entry, VIEW("destination"), derive_text(c, v, v->text));
    value_put(c->arena, entry, VIEW("weight"), derive_int(c, v, 100));
    value_measure(entry);
    return entry;
}

static struct value *read_destinations(struct checker *c, struct value *v) {
    struct value *list = derive(c, v, VALUE_ARRAY);
    size_t count = v->type == VALUE_ARRAY ? v->array->count : 1;
    for (size_t i = 0; i < count; i++) {
        struct value *one = v->type == VALUE_ARRAY ? v->array->at[i] : v;
        struct value *entry = text_is(v) ? destination_of_text(c, v) : read_destination(c, one);
        if (entry)
            value_append(c->arena, list, entry);
    }
    value_measure(list);
    return list;
}

static void read_mapping(struct checker *c, struct view source, struct value *v, struct value *out) {
    struct text why = {.arena = c->arena}, shown = {.arena = c->arena};
    struct value *list = read_destinations(c, v);
    if (check_destinations(c, source, list, &why) == ERR_OK) {
        value_put(c->arena, out, source, list);
        return;
    }
    value_show(&shown, v);
    problem_at(c, v, "Error adding mapping for %q to %q : %v", source, text_view(&shown), text_view(&why));
}

/* Subject to destinations: in the checked tree always an array of blocks. */
RULE(rule_mappings) {
    (void)out;
    if (v->type != VALUE_MAP) {
        wrong_type(c, o, key, v, "map[string]interface {}");
        return NULL;
    }
    struct value *mappings = derive(c, v, VALUE_MAP);
    for (size_t i = 0; i < v->map->count; i++) {
        struct view source = v->map->at[i].key;
        if (!subject_is_pattern(source) || !subject_is_clean(source))
            problem_at(c, v, "Subject %q is not a valid subject", source);
        else
            read_mapping(c, source, v->map->at[i].value, mappings);
    }
    value_measure(mappings);
    return mappings;
}

/* ---- accounts ---- */

/* The position of the `users` key of an account as it was written. */
static const struct value *users_key(const struct value *account) {
    for (size_t i = 0; i < account->map->count; i++) {
        if (view_equal_fold(account->map->at[i].key, "users"))
            return account->map->at[i].value;
    }
    return account;
}

static void read_account(struct checker *c, struct view name, struct value *v, struct value *out) {
    if (v->used)
        return; /* a variable among the accounts */
    if (v->type != VALUE_MAP) {
        problem_at(c, v, "Expected map entries for accounts");
        return;
    }
    if (view_equal(name, VIEW("$G"))) {
        problem_at(c, v, "%q is a Reserved Account", name);
        return;
    }
    struct value *account = check_block(c, SECTION_ACCOUNT, v), *users = value_find(account, VIEW("users"));
    value_put(c->arena, out, name, account);
    if (!users || !users->array->count)
        return;
    if (c->single_user)
        problem_at(c, users_key(v), "Can not have a single user/pass and accounts");
    else if (c->token)
        problem_at(c, users_key(v), "Can not have a token and accounts");
    else
        take_names(c, users_key(v), users, false);
}

static void read_account_name(struct checker *c, struct value *v, struct value *out) {
    if (!text_is(v))
        problem_at(c, v, "interface conversion: interface {} is %T, not string", v);
    else if (view_equal(v->text, VIEW("$G")))
        problem_at(c, v, "%q is a Reserved Account", v->text);
    else if (value_find(out, v->text))
        problem_at(c, v, "Duplicate Account Entry: %v", v->text);
    else if (!value_is_key(v->text))
        problem_at(c, v, "%q cannot be the name of an account", v->text);
    else
        value_put(c->arena, out, v->text, derive(c, v, VALUE_MAP));
}

/* In the checked tree always a map. */
RULE(rule_accounts) {
    (void)o, (void)key, (void)out;
    struct value *accounts = derive(c, v, VALUE_MAP);
    if (v->type == VALUE_ARRAY) {
        for (size_t i = 0; i < v->array->count; i++)
            read_account_name(c, v->array->at[i], accounts);
    } else if (v->type == VALUE_MAP) {
        for (size_t i = 0; i < v->map->count; i++)
            read_account(c, v->map->at[i].key, v->map->at[i].value, accounts);
    } else {
        problem_at(c, v, "Expected map entries for accounts");
    }
    value_measure(accounts);
    return accounts;
}
