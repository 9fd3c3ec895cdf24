/* SPDX-License-Identifier: Apache-2.0 */
#include "config/flags.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "base/wipe.h"
#include "config/checker.h"
#include "config/rules.h"
#include "config/url.h"

/* ---- what is printed ---- */

enum group { GROUP_COMMON, GROUP_SERVER, GROUP_TLS, GROUP_AUTHORIZATION, GROUP_CLUSTER, GROUP_TUNING, GROUP_END };
static const char *const group_titles[GROUP_END] = {
    [GROUP_COMMON] = "Common Options",   [GROUP_SERVER] = "Server Options",
    [GROUP_TLS] = "TLS Options",         [GROUP_AUTHORIZATION] = "Authorization Options",
    [GROUP_CLUSTER] = "Cluster Options", [GROUP_TUNING] = "Internal Tuning"};

static enum group group_of(const struct option *o) {
    if (o->action == FLAG_TLS || o->action == FLAG_TLS_FILE || o->action == FLAG_HELP_TLS)
        return GROUP_TLS;
    if (o->action == FLAG_CLUSTER || o->action == FLAG_ROUTES || o->section == SECTION_CLUSTER)
        return GROUP_CLUSTER;
    switch (o->section) {
    case SECTION_FLAGS:
        return GROUP_COMMON;
    case SECTION_AUTHORIZATION:
        return GROUP_AUTHORIZATION;
    case SECTION_RINGS:
    case SECTION_PATIENCE:
    case SECTION_MEMORY:
        return GROUP_TUNING;
    default:
        return GROUP_SERVER;
    }
}

static void print_flag(const struct option *o) {
    char left[96];
    int len = 0;
    const char *rest = o->flags;
    for (struct view name; option_next_name(&name, &rest);)
        len += snprintf(left + len, sizeof left - (size_t)len, "%s%s%.*s", len ? ", " : "", option_dashes(name),
                        (int)name.len, name.at);
    if (o->arg)
        snprintf(left + len, sizeof left - (size_t)len, " %s", o->arg);
    printf("    %-38s %s", left, o->doc);
    if (o->built == BUILT_NOT)
        printf(" (not built yet)");
    if (o->fallback && o->shape != SHAPE_BOOL && strcmp(o->fallback, "0") != 0)
        printf(" (default: %s)", o->fallback);
    putchar('\n');
}

static void print_usage(void) {
    printf("\nUsage: bulkhead [options]\n");
    for (enum group g = 0; g < GROUP_END; g++) {
        printf("\n%s:\n", group_titles[g]);
        for (size_t i = 0; i < option_count; i++)
            if (option_table[i].flags && group_of(&option_table[i]) == g)
                print_flag(&option_table[i]);
    }
    putchar('\n');
}

static void print_tls_help(void) {
    printf("\nTLS is configured in a block of the configuration file:\n\n"
           "    tls {\n"
           "        cert_file: \"./certs/server-cert.pem\"\n"
           "        key_file:  \"./certs/server-key.pem\"\n"
           "        ca_file:   \"./certs/ca.pem\"\n"
           "        verify:    true\n"
           "    }\n\n"
           "Available cipher suites include:\n");
    for (const char *const *name = tls_cipher_names(); *name; name++)
        printf("    %s\n", *name);
    printf("\nAvailable curve preferences include:\n");
    for (const char *const *name = tls_curve_names(); *name; name++)
        printf("    %s\n", *name);
}

/* Short, so that what was wrong stays in sight. */
static enum flags_verdict bad_usage(void) {
    printf("\nUsage: bulkhead [options]\n`bulkhead -h` lists the options.\n");
    return FLAGS_EXIT_0; /* as nats-server does it */
}

static enum flags_verdict help(void) {
    print_usage();
    return FLAGS_EXIT_0;
}

static enum flags_verdict refuse(const char *words) {
    fprintf(stderr, "bulkhead: %s\n", words);
    return FLAGS_EXIT_1;
}

/* ---- values as Go reads them ---- */

/* strconv.ParseInt with base 0: prefixes 0x, 0o, 0b, 0; '_' between digits. errno is ERANGE when it is too large. */
static bool read_int(const char *text, int64_t *out) {
    char digits[72];
    size_t len = 0;
    const char *at = text + (*text == '-' || *text == '+');
    int base = 10;
    bool after_digit = false;
    errno = 0;
    if (at[0] == '0' && at[1]) {
        char letter = at[1] | 0x20;
        base = letter == 'x' ? 16 : letter == 'b' ? 2 : 8;
        at += letter == 'x' || letter == 'b' || letter == 'o' ? 2 : 1;
        after_digit = true;
    }
    if (*text == '-')
        digits[len++] = '-';
    size_t first = len;
    for (; *at; at++) {
        bool under = *at == '_';
        if ((under && !after_digit) || len + 1 >= sizeof digits)
            return false;
        after_digit = !under;
        if (!under)
            digits[len++] = *at;
    }
    digits[len] = '\0';
    if (len == first || !after_digit || digits[first] == '-' || digits[first] == '+' || digits[first] == ' ')
        return false;
    char *end;
    *out = strtoll(digits, &end, base);
    return !*end && !errno;
}

static bool read_bool(const char *text, bool *out) {
    static const char *const words[] = {"1", "t", "T", "true",  "TRUE",  "True",
                                        "0", "f", "F", "false", "FALSE", "False"};
    for (size_t i = 0; i < 12; i++) {
        if (strcmp(text, words[i]) == 0) {
            *out = i < 6;
            return true;
        }
    }
    return false;
}

/* A plain number of the flag's unit, or a duration. */
static bool read_time(const struct option *o, const char *text, int64_t *ns) {
    char *end;
    double unit = o->flag_unit ? (double)o->flag_unit : 1e9, number = strtod(text, &end);
    if (end != text && !*end && isfinite(number) && number >= 0 && number * unit < 9e18) {
        *ns = (int64_t)(number * unit + 0.5);
        return true;
    }
    struct arena scratch = {0};
    bool good = duration_parse(ns, view_text(text), &(struct text){.arena = &scratch}) == ERR_OK && *text;
    arena_free(&scratch);
    return good;
}

static bool read_number(const struct option *o, const char *text, int64_t *out) {
    if (shape_is_time(o->shape))
        return read_time(o, text, out);
    if (o->shape == SHAPE_COUNT && strcasecmp(text, "auto") == 0) {
        *out = 0;
        return true;
    }
    return read_int(text, out);
}

static bool takes_word(const struct option *o) {
    return o->shape != SHAPE_BOOL && o->size != sizeof(bool);
}

/* Says what is wrong with a value, in Go's words. */
static bool check_value(const struct flag *f) {
    const struct option *o = f->option;
    int64_t number;
    bool truth = false;
    if (!takes_word(o)) {
        if (read_bool(f->text, &truth))
            return true;
        fprintf(stderr, "invalid boolean value \"%s\" for -%.*s: parse error\n", f->text, (int)f->name.len, f->name.at);
        return false;
    }
    if (o->size != sizeof(int64_t) || read_number(o, f->text, &number))
        return true;
    fprintf(stderr, "invalid value \"%s\" for flag -%.*s: %s\n", f->text, (int)f->name.len, f->name.at,
            errno == ERANGE ? "value out of range" : "parse error");
    return false;
}

/* ---- reading ---- */

/* One flag and perhaps its value; *i moves on. False: the usage has to follow what was printed. */
static bool take_flag(struct flags *f, int argc, char **argv, int *i) {
    const char *word = argv[*i];
    const char *name = word + (word[1] == '-' ? 2 : 1);
    size_t len = strcspn(name, "=");
    if (*name == '-' || *name == '=' || f->count == FLAGS_MAX) {
        fprintf(stderr, "bad flag syntax: %s\n", word);
        return false;
    }
    struct flag flag = {option_find_flag(view_of(name, len)), view_of(name, len), NULL};
    if (!flag.option) {
        fprintf(stderr, "flag provided but not defined: -%.*s\n", (int)len, name);
        return false;
    }
    if (name[len] == '=') {
        flag.text = name + len + 1;
    } else if (!takes_word(flag.option)) {
        flag.text = "true";
    } else if (*i + 1 < argc) {
        flag.text = argv[++*i];
    } else {
        fprintf(stderr, "flag needs an argument: -%.*s\n", (int)len, name);
        return false;
    }
    if (!check_value(&flag))
        return false;
    f->at[f->count++] = flag;
    return true;
}

/* The last flag with an action; NULL: none. A boolean that is false counts as none. */
static const char *find_action(const struct flags *f, enum flag_action action) {
    const char *found = NULL;
    for (size_t i = 0; i < f->count; i++) {
        bool truth = true;
        if (f->at[i].option->action != action)
            continue;
        if (!takes_word(f->at[i].option))
            read_bool(f->at[i].text, &truth);
        found = truth ? f->at[i].text : NULL;
    }
    return found;
}

static enum flags_verdict judge_word(const char *word) {
    if (strcasecmp(word, "version") == 0) {
        printf("bulkhead: v%s\n", BULKHEAD_VERSION);
        return FLAGS_EXIT_0;
    }
    if (strcasecmp(word, "help") == 0)
        return help();
    struct arena scratch = {0};
    struct text words = {.arena = &scratch};
    text_add_format(&words, "unrecognized command: %q", view_text(word));
    text_add_byte(&words, '\0');
    enum flags_verdict verdict = refuse(words.at);
    arena_free(&scratch);
    return verdict;
}

static enum flags_verdict judge_signal(struct flags *f) {
    const char *first = strchr(f->signal, '='), *second = first ? strchr(first + 1, '=') : NULL;
    if (!second)
        return FLAGS_SIGNAL;
    fprintf(stderr, "bulkhead: invalid signal parameters: [");
    for (const char *at = second + 1; at; at = strchr(at, '=') ? strchr(at, '=') + 1 : NULL)
        fprintf(stderr, "%s%.*s", at == second + 1 ? "" : " ", (int)strcspn(at, "="), at);
    fprintf(stderr, "]\n");
    return FLAGS_EXIT_1;
}

enum flags_verdict flags_read(struct flags *f, int argc, char **argv) {
    int i = 1;
    *f = (struct flags){0};
    for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        if (!take_flag(f, argc, argv, &i))
            return bad_usage();
    }
    if (find_action(f, FLAG_VERSION))
        return judge_word("version");
    if (find_action(f, FLAG_HELP))
        return help();
    if (find_action(f, FLAG_HELP_TLS)) {
        print_tls_help();
        return FLAGS_EXIT_0;
    }
    if (i < argc)
        return judge_word(argv[i]);
    f->config_path = find_action(f, FLAG_CONFIG);
    f->signal = find_action(f, FLAG_SIGNAL);
    f->config_path = f->config_path && *f->config_path ? f->config_path : NULL;
    if (f->signal && *f->signal)
        return judge_signal(f);
    if (!find_action(f, FLAG_TEST))
        return FLAGS_RUN;
    return f->config_path ? FLAGS_TEST
                          : refuse("must specify [-c, --config] option to check configuration file syntax");
}

void flags_wipe(const struct flags *f) {
    for (size_t i = 0; i < f->count; i++) {
        enum flag_action action = f->at[i].option->action;
        char *text = (char *)(uintptr_t)f->at[i].text;
        if (action != FLAG_CREDENTIAL && action != FLAG_ROUTES && action != FLAG_CLUSTER)
            continue;
        size_t len = strlen(text);
        wipe(text, len);
        if (len)
            text[0] = 'x';
    }
}

/* ---- over the file ---- */

struct applying {
    struct config *config;
    struct text *why;
    bool tls, tls_off, clustered;
    struct value *tls_block;
    struct view routes;
};

static struct value *make_text(struct applying *a, const char *text) {
    return value_make_text(&a->config->arena, view_text(text));
}

/* What flags call by another name than the file does. */
static void put_bool(struct applying *a, const char *name, bool truth) {
    const struct option *o = option_find(SECTION_TOP, view_text(name));
    struct value *v = value_make(&a->config->arena, VALUE_BOOL);
    v->truth = truth;
    *(bool *)option_place(o, &a->config->options) = truth;
    config_put(a->config, SECTION_TOP, view_text(name), v);
}

static enum err apply_text(struct applying *a, const struct flag *f, struct value **v) {
    const struct option *o = f->option;
    *v = make_text(a, f->text);
    if (!o->size)
        return ERR_OK;
    if (strlen(f->text) >= o->size) {
        text_add_format(a->why, "value of flag -%v is longer than %d bytes", f->name, (int64_t)o->size - 1);
        return ERR_LONG;
    }
    strcpy(option_place(o, &a->config->options), f->text);
    return ERR_OK;
}

/* A block that only says how long a login may take asks for no logins. */
static bool may_put(const struct applying *a, const struct option *o) {
    return o->section != SECTION_AUTHORIZATION || o->action == FLAG_CREDENTIAL ||
           config_find(a->config, "authorization");
}

static enum err apply_value(struct applying *a, const struct flag *f) {
    const struct option *o = f->option;
    struct value *v;
    if (o->size == sizeof(bool)) {
        v = value_make(&a->config->arena, VALUE_BOOL);
        read_bool(f->text, &v->truth);
        *(bool *)option_place(o, &a->config->options) = v->truth;
    } else if (o->size == sizeof(int64_t)) {
        v = value_make(&a->config->arena, VALUE_INT);
        read_number(o, f->text, &v->number);
        memcpy(option_place(o, &a->config->options), &v->number, sizeof v->number);
    } else {
        enum err e = apply_text(a, f, &v);
        if (e != ERR_OK)
            return e;
    }
    v->secret = o->secret;
    if (may_put(a, o))
        config_put(a->config, o->section, option_name(o), v);
    return ERR_OK;
}

static void apply_debugs(struct applying *a, const struct flag *f) {
    bool truth = false;
    read_bool(f->text, &truth);
    if (f->name.at[0] == 'D')
        put_bool(a, "debug", truth);
    put_bool(a, "trace", truth);
    if (!view_equal(f->name, VIEW("DV")))
        put_bool(a, "trace_verbose", truth);
}

static void apply_tls(struct applying *a, const struct flag *f) {
    bool truth = false;
    a->tls = true;
    if (f->option->action == FLAG_TLS) {
        read_bool(f->text, &truth);
        a->tls_off = !truth;
        return;
    }
    if (!a->tls_block)
        a->tls_block = value_make(&a->config->arena, VALUE_MAP);
    if (view_equal(f->name, VIEW("tlsverify"))) {
        struct value *v = value_make(&a->config->arena, VALUE_BOOL);
        read_bool(f->text, &v->truth);
        value_put(&a->config->arena, a->tls_block, VIEW("verify"), v);
        return;
    }
    struct view key = view_equal(f->name, VIEW("tlscert"))  ? VIEW("cert_file")
                      : view_equal(f->name, VIEW("tlskey")) ? VIEW("key_file")
                                                            : VIEW("ca_file");
    value_put(&a->config->arena, a->tls_block, key, make_text(a, f->text));
}

static struct value *make_int(struct applying *a, int64_t number) {
    struct value *v = value_make(&a->config->arena, VALUE_INT);
    v->number = number;
    return v;
}

static void put_cluster_port(struct applying *a, int64_t port) {
    a->config->options.cluster_port = port;
    config_put(a->config, SECTION_CLUSTER, VIEW("port"), make_int(a, port));
}

/* The user of a cluster URL; without one, none. */
static enum err put_cluster_user(struct applying *a, const struct url *u) {
    struct arena *arena = &a->config->arena;
    if (u->has_user && !u->has_password) {
        text_add(a->why, VIEW("expected cluster password to be set"));
        return ERR_SYNTAX;
    }
    struct value *block = value_make(arena, VALUE_MAP), *old = config_find(a->config, "cluster.authorization");
    struct value *timeout = old ? value_find(old, VIEW("timeout")) : NULL;
    if (u->has_user) {
        struct value *pass = value_make_text(arena, u->password);
        pass->secret = true;
        value_put(arena, block, VIEW("user"), value_make_text(arena, u->user));
        value_put(arena, block, VIEW("pass"), pass);
    }
    if (timeout)
        value_put(arena, block, VIEW("timeout"), timeout);
    value_measure(block);
    config_put(a->config, SECTION_CLUSTER, VIEW("authorization"), block);
    return ERR_OK;
}

static enum err bad_address(struct applying *a, struct view address, const char *words) {
    text_add_format(a->why, address.len ? "address %v: %s" : "%v%s", address, words);
    return ERR_SYNTAX;
}

static enum err apply_cluster(struct applying *a, const struct flag *f) {
    struct view s = arena_copy(&a->config->arena, view_text(f->text)), host, port;
    struct url u;
    int64_t number = -1;
    if (!s.len) {
        if (config_find(a->config, "cluster"))
            put_cluster_port(a, 0);
        return ERR_OK;
    }
    a->clustered = true;
    bool any = s.len > 3 && view_equal(view_of(s.at + s.len - 3, 3), VIEW(":-1"));
    if (any) /* a URL has no such port */
        s = view_of(s.at, s.len - 3);
    if (!url_parse(&u, s)) {
        struct text shown = {.arena = &a->config->arena};
        text_add_url(&shown, view_text(f->text));
        text_add_format(a->why, "parse %q: no address of a cluster", text_view(&shown));
        return ERR_SYNTAX;
    }
    if (any)
        host = u.host;
    else if (!address_split(u.host, &host, &port))
        return bad_address(a, u.host, "missing port in address");
    else if (!parse_int(port, &number))
        return bad_address(a, u.host, "invalid port");
    if (host.len > OPTION_TEXT_MAX)
        return bad_address(a, u.host, "name too long");
    memcpy(a->config->options.cluster_host, host.at, host.len);
    a->config->options.cluster_host[host.len] = '\0';
    config_put(a->config, SECTION_CLUSTER, VIEW("host"), value_make_text(&a->config->arena, host));
    put_cluster_port(a, number);
    return put_cluster_user(a, &u);
}

static enum err apply_routes(struct applying *a, const struct flag *f) {
    struct value *list = value_make(&a->config->arena, VALUE_ARRAY);
    const char *at = f->text;
    while (*f->text && at) {
        size_t len = strcspn(at, ",");
        struct view one = view_of(at, len);
        while (one.len && *one.at == ' ')
            one = view_of(one.at + 1, one.len - 1);
        while (one.len && one.at[one.len - 1] == ' ')
            one.len--;
        struct url u;
        if (!url_parse(&u, one)) {
            struct text shown = {.arena = &a->config->arena};
            text_add_url(&shown, one);
            text_add_format(a->why, "error parsing route url [%q]", text_view(&shown));
            return ERR_SYNTAX;
        }
        struct value *route = value_make_text(&a->config->arena, one);
        route->secret = true;
        value_append(&a->config->arena, list, route);
        at = at[len] ? at + len + 1 : NULL;
    }
    a->routes = view_text(f->text);
    value_measure(list);
    list->secret = true;
    config_put(a->config, SECTION_CLUSTER, VIEW("routes"), list);
    return ERR_OK;
}

static enum err apply_one(struct applying *a, const struct flag *f) {
    switch (f->option->action) {
    case FLAG_VALUE:
    case FLAG_CREDENTIAL:
        return apply_value(a, f);
    case FLAG_DEBUGS:
        apply_debugs(a, f);
        return ERR_OK;
    case FLAG_TLS:
    case FLAG_TLS_FILE:
        apply_tls(a, f);
        return ERR_OK;
    case FLAG_CLUSTER:
        return apply_cluster(a, f);
    case FLAG_ROUTES:
        return apply_routes(a, f);
    case FLAG_CONFIG:
    case FLAG_TEST:
    case FLAG_SIGNAL:
    case FLAG_VERSION:
    case FLAG_HELP:
    case FLAG_HELP_TLS:
        break;
    }
    return ERR_OK;
}

/* Any flag of TLS replaces the whole block of the file. */
static enum err finish_tls(struct applying *a) {
    if (!a->tls)
        return ERR_OK;
    config_remove(a->config, VIEW("tls"));
    if (a->tls_off)
        return ERR_OK;
    if (!a->tls_block || !text_given(value_find(a->tls_block, VIEW("cert_file")))) {
        text_add(a->why, VIEW("TLS Server certificate must be present and valid"));
        return ERR_SYNTAX;
    }
    if (!text_given(value_find(a->tls_block, VIEW("key_file")))) {
        text_add(a->why, VIEW("TLS Server private key must be present and valid"));
        return ERR_SYNTAX;
    }
    enum err e = tls_check_files(a->config->source, &a->config->arena, a->tls_block, a->why);
    value_measure(a->tls_block);
    if (e == ERR_OK)
        config_put(a->config, SECTION_TOP, VIEW("tls"), a->tls_block);
    return e;
}

/* jetstream is a block in the tree, whatever the flag says. */
static void finish_jetstream(struct applying *a) {
    struct value *v = config_find(a->config, "jetstream");
    if (!v || v->type == VALUE_MAP)
        return;
    struct value *block = value_make(&a->config->arena, VALUE_MAP);
    value_put(&a->config->arena, block, VIEW("enabled"), v);
    value_measure(block);
    config_put(a->config, SECTION_TOP, VIEW("jetstream"), block);
}

/* With TLS a login may take as long as the handshake and a second. */
static void fill_times(struct config *c) {
    const int64_t second = 1000000000;
    if (!c->options.tls_timeout_ns)
        c->options.tls_timeout_ns = 2 * second;
    if (!c->options.auth_timeout_ns && config_find(c, "tls"))
        c->options.auth_timeout_ns = c->options.tls_timeout_ns + second;
}

enum err flags_apply(const struct flags *f, struct config *c, struct text *why) {
    struct applying a = {.config = c, .why = why};
    enum err e = ERR_OK;
    for (size_t i = 0; i < f->count && e == ERR_OK; i++)
        e = apply_one(&a, &f->at[i]);
    finish_jetstream(&a);
    if (e == ERR_OK)
        e = finish_tls(&a);
    if (e != ERR_OK)
        return e;
    if (a.routes.len && !a.clustered && !c->options.cluster_host[0] && !c->options.cluster_port) {
        text_add(why, VIEW("solicited routes require cluster capabilities, e.g. --cluster"));
        return ERR_SYNTAX;
    }
    fill_times(c);
    options_fill(&c->options);
    return ERR_OK;
}

bool flags_check(const struct flags *f, struct config *c, struct text *said) {
    bool valid = config_read(c, f->config_path) == ERR_OK && !config_has_warnings(c);
    if (valid && flags_apply(f, c, said) != ERR_OK)
        return false;
    valid = valid && config_check_start(c) == ERR_OK;
    if (valid)
        text_add_format(said, "configuration file %s is valid\n", f->config_path);
    config_say(c, said); /* notices, where it is valid */
    if (valid)
        said->len--; /* the caller ends the line */
    return valid;
}

enum err flags_load(const struct flags *f, struct config *c, struct text *message) {
    enum err e = f->config_path ? config_read(c, f->config_path) : ERR_OK;
    if (e == ERR_OK) {
        e = flags_apply(f, c, message);
        if (e != ERR_OK)
            return e;
        e = config_check_start(c);
    }
    config_say(c, message);
    return e;
}
