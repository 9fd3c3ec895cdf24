/* SPDX-License-Identifier: Apache-2.0 */
/* Rules for single values: bounds, words, and the few options that set more than one thing. */
#include <stdlib.h>
#include <string.h>

#include "config/checker.h"
#include "config/networks.h"
#include "config/rules.h"
#include "config/url.h"

RULE(rule_max32) {
    v = check_shape(c, o, key, v, out);
    if (!v || v->number <= INT32_MAX)
        return v;
    problem_at(c, v, "%k value is too big", key);
    return NULL;
}

RULE(rule_sub_tokens) {
    v = check_shape(c, o, key, v, out);
    if (!v || (v->number > 0 && v->number <= UINT8_MAX))
        return v;
    problem_at(c, v, v->number > 0 ? "%k value is too big" : "%k value can not be negative", key);
    return NULL;
}

RULE(rule_lame_duck_duration) {
    v = check_shape(c, o, key, v, out);
    if (!v || v->number >= INT64_C(30000000000))
        return v;
    problem_at(c, v, "invalid lame_duck_duration of %D, minimum is 30 seconds", v->number);
    return NULL;
}

RULE(rule_lame_duck_grace) {
    v = check_shape(c, o, key, v, out);
    if (!v || v->number >= 0)
        return v;
    problem_at(c, v, "invalid lame_duck_grace_period, needs to be positive");
    return NULL;
}

/* Says the same of trace. */
RULE(rule_trace_verbose) {
    v = check_shape(c, o, key, v, out);
    if (v) {
        value_put(c->arena, out, VIEW("trace"), v);
        store_option(c, option_find(SECTION_TOP, VIEW("trace")), v);
    }
    return v;
}

/* Digits of one part of a version, up to a dot or a dash. */
static bool take_version_part(struct view *s, int64_t *part) {
    size_t len = 0;
    while (len < s->len && s->at[len] >= '0' && s->at[len] <= '9')
        len++;
    if (!parse_int(view_of(s->at, len), part))
        return false;
    *s = view_of(s->at + len, s->len - len);
    return true;
}

RULE(rule_min_version) {
    v = check_shape(c, o, key, v, out);
    if (!v)
        return NULL;
    struct view s = v->text;
    int64_t part[3];
    if (s.len && *s.at == 'v')
        s = view_of(s.at + 1, s.len - 1);
    for (int i = 0; i < 3; i++) {
        bool dot = i == 0 || (s.len && *s.at == '.');
        if (i && dot)
            s = view_of(s.at + 1, s.len - 1);
        if (!dot || !take_version_part(&s, &part[i])) {
            problem_at(c, v, "invalid leafnode's minimum version: invalid semver");
            return NULL;
        }
    }
    if (part[0] > 2 || (part[0] == 2 && part[1] >= 8))
        return v;
    problem_at(c, v, "the minimum version should be at least 2.8.0");
    return NULL;
}

static bool is_name_byte(char b) {
    return b == '_' || (b >= '0' && b <= '9') || ((b | 0x20) >= 'a' && (b | 0x20) <= 'z');
}

/* $NAME and ${NAME} become their values, unknown ones nothing. */
static void expand(struct checker *c, struct text *t, struct view s) {
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] != '$' || i + 1 == s.len || (s.at[i + 1] != '{' && !is_name_byte(s.at[i + 1]))) {
            text_add_byte(t, s.at[i]);
            continue;
        }
        bool braces = s.at[i + 1] == '{';
        size_t from = i + 1 + braces, to = from;
        while (to < s.len && (braces ? s.at[to] != '}' : is_name_byte(s.at[to])))
            to++;
        struct view name = arena_copy(c->arena, view_of(s.at + from, to - from));
        const char *content = c->config->source->environment(c->config->source->owner, name.at);
        text_add(t, view_text(content ? content : ""));
        i = to - !braces;
    }
}

RULE(rule_credentials_file) {
    v = check_shape(c, o, key, v, out);
    if (!v)
        return NULL;
    struct text path = {.arena = c->arena}, home = {.arena = c->arena};
    expand(c, &path, v->text);
    if (!view_starts(text_view(&path), VIEW("~")))
        return derive_text(c, v, text_view(&path));
    const char *folder = c->config->source->environment(c->config->source->owner, "HOME");
    if (!folder || !*folder) {
        problem_at(c, v, "failed to get home dir, require $HOME");
        return NULL;
    }
    text_add_format(&home, "%s%v", folder, view_of(path.at + 1, path.len - 1));
    return derive_text(c, v, text_view(&home));
}

RULE(rule_max_ack_pending) {
    v = check_shape(c, o, key, v, out);
    if (!v || (v->number >= 0 && v->number <= 0xffff))
        return v;
    problem_at(c, v, "invalid value %d, should in [0..65535] range", v->number);
    return NULL;
}

/* True, false, or a word for them; -1: another word, with a message at that position. */
static int read_enabled(struct checker *c, const struct value *v, const struct value *at) {
    if (v->type == VALUE_BOOL)
        return v->truth;
    if (view_equal_fold(v->text, "enabled") || view_equal_fold(v->text, "enable"))
        return 1;
    if (view_equal_fold(v->text, "disabled") || view_equal_fold(v->text, "disable"))
        return 0;
    problem_at(c, at, "Expected 'enabled' or 'disabled' for string value, got '%v'", v->text);
    return -1;
}

/* A word or a block; in struct options and in the tree `enabled` says it. */
RULE(rule_jetstream) {
    struct value *block, *enabled = derive(c, v, VALUE_BOOL);
    if (v->type == VALUE_BOOL || text_is(v)) {
        int on = read_enabled(c, v, v);
        if (on < 0)
            return NULL;
        block = derive(c, v, VALUE_MAP);
        enabled->truth = on;
    } else {
        block = check_shape(c, o, key, v, out);
        if (!block)
            return NULL;
        struct value *said = value_find(block, VIEW("enabled"));
        enabled->truth = !said || said->truth;
    }
    store_option(c, o, enabled);
    value_put(c->arena, block, VIEW("enabled"), enabled);
    value_measure(block);
    value_put(c->arena, out, VIEW("jetstream"), block);
    return NULL;
}

/* nats-server gives the faults of a word here no position. */
RULE(rule_account_jetstream) {
    if (v->type != VALUE_BOOL && !text_is(v))
        return check_shape(c, o, key, v, out);
    int on = read_enabled(c, v, NULL);
    if (on < 0)
        return NULL;
    struct value *word = derive(c, v, VALUE_BOOL);
    word->truth = on;
    return word;
}

RULE(rule_store_dir) {
    if (c->config->options.store_dir[0]) {
        problem_at(c, v, "Duplicate 'store_dir' configuration");
        return NULL;
    }
    return check_shape(c, o, key, v, out);
}

RULE(rule_cipher) {
    static const char *const words[] = {"chacha", "chachapoly", "aes"};
    v = check_shape(c, o, key, v, out);
    for (size_t i = 0; v && i < 3; i++) {
        if (view_equal_fold(v->text, words[i]))
            return v;
    }
    if (v)
        problem_at(c, v, "Unknown cipher type: %q", v->text);
    return NULL;
}

/* A map with free keys and texts. */
RULE(rule_js_domains) {
    (void)out;
    if (v->type != VALUE_MAP) {
        wrong_type(c, o, key, v, "");
        return NULL;
    }
    for (size_t i = 0; i < v->map->count; i++) {
        const struct value *domain = v->map->at[i].value;
        if (!text_is(domain))
            problem_at(c, domain, "interface conversion: interface {} is %T, not string", domain);
    }
    return v;
}

/* Kept by nats-server in 32 bits: what does not fit there was never meant. */
RULE(rule_limits) {
    v = check_shape(c, o, key, v, out);
    for (size_t i = 0; v && i < v->map->count; i++) {
        const struct value *limit = v->map->at[i].value;
        if (limit->number > INT32_MAX || limit->number < INT32_MIN)
            problem_at(c, limit, "%k value is too big", v->map->at[i].key);
    }
    return v;
}

RULE(rule_leaf_urls) {
    struct option one = *o, many = *o;
    one.names = "url";
    many.names = "urls";
    one.shape = many.shape = SHAPE_URLS;
    one.wrong = many.wrong = "leafnode";
    if (v->type == VALUE_ARRAY)
        return check_shape(c, &many, key, v, out);
    if (text_is(v))
        return check_shape(c, &one, key, v, out);
    wrong_type(c, o, key, v, "");
    return NULL;
}

/* Any value switches it on, as with nats-server, except a plain false. */
RULE(rule_migrate) {
    (void)o, (void)key, (void)out;
    struct value *on = derive(c, v, VALUE_BOOL);
    on->truth = v->type != VALUE_BOOL || v->truth;
    return on;
}

/* A name or a number. */
RULE(rule_process_id) {
    (void)o, (void)key, (void)out;
    if (text_given(v) && !memchr(v->text.at, '\0', v->text.len))
        return v;
    if (v->type == VALUE_INT && v->number > 0 && v->number < UINT32_MAX)
        return v;
    problem_at(c, v, "%k must be a name or a number above 0", key);
    return NULL;
}

RULE(rule_networks) {
    struct view bad;
    v = check_shape(c, o, key, v, out);
    if (!v || networks_are_sound(v->text, &bad))
        return v;
    problem_at(c, v, "%q in %v is no network, as 10.0.0.0/8 or fd00::/8 are", bad, key);
    return NULL;
}

/* `sandbox: false` takes every wall down, a block only those that it names. */
RULE(rule_sandbox) {
    if (v->type != VALUE_BOOL)
        return check_shape(c, o, key, v, out);
    struct value *off = derive(c, v, VALUE_BOOL);
    off->truth = !v->truth;
    store_option(c, o, off);
    value_put(c->arena, out, VIEW("sandbox"), v);
    return NULL;
}
