/* SPDX-License-Identifier: Apache-2.0 */
/* Goes through a map by the option table: each key finds its row, each row's rule or shape checks the value and says
 * what goes into the checked map. Faults are collected, never the end of the work; where nats-server would give a block
 * up at its first wrong type, this goes on. */
#include "config/checker.h"

#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "config/url.h"

static const int64_t SECOND = 1000000000;

/* ---- faults ---- */

static void add_position(struct text *t, const struct value *at) {
    if (at && at->file)
        text_add_format(t, "%s:%d:%d: ", at->file, (int64_t)at->line, (int64_t)at->column);
}

/* The reader of a message may have no right to read an included file: the file's path and the position are told, never its
 * content; names of options are the program's own. */
static bool is_foreign(const struct checker *c, const struct value *at) {
    return at && at->file && c->config->path && strcmp(at->file, c->config->path) != 0 &&
           !c->config->source->shows_included;
}

static void add_problem(struct checker *c, enum problem_kind kind, struct view text) {
    struct config *g = c->config;
    if (g->problem_count == CONFIG_PROBLEMS_MAX) {
        g->problems_left_out++;
        return;
    }
    g->problems = arena_grow(c->arena, g->problems, g->problem_count, &g->problem_cap, sizeof *g->problems);
    g->problems[g->problem_count++] = (struct problem){kind, text};
}

static void add_formatted(struct checker *c, enum problem_kind kind, const struct value *at, const char *format,
                          va_list list) {
    struct text t = {.arena = c->arena};
    add_position(&t, at);
    t.discreet = is_foreign(c, at);
    text_add_format_list(&t, format, list);
    add_problem(c, kind, text_view(&t));
}

void problem_at(struct checker *c, const struct value *at, const char *format, ...) {
    va_list list;
    va_start(list, format);
    add_formatted(c, PROBLEM_ERROR, at, format, list);
    va_end(list);
}

void notice_at(struct checker *c, const struct value *at, const char *format, ...) {
    va_list list;
    va_start(list, format);
    add_formatted(c, PROBLEM_NOTICE, at, format, list);
    va_end(list);
}

void warning_at(struct checker *c, const struct value *at, struct view field, const char *reason) {
    struct text t = {.arena = c->arena};
    add_position(&t, at);
    text_add(&t, VIEW("invalid use of field "));
    text_add_quoted(&t, field);
    text_add_format(&t, ": %s", reason);
    add_problem(c, PROBLEM_WARNING, text_view(&t));
}

void wrong_type(struct checker *c, const struct option *o, struct view key, const struct value *v, const char *type) {
    if (!o->wrong) {
        problem_at(c, v, "interface conversion: interface {} is %T, not %s", v, type);
        return;
    }
    struct text t = {.arena = c->arena, .discreet = is_foreign(c, v)};
    for (const char *at = o->wrong; *at; at++) {
        if (*at != '%')
            text_add_byte(&t, *at);
        else if (*++at == 'K')
            text_add_format(&t, "\"%k\"", key);
        else
            text_add_format(&t, *at == 'T' ? "%T" : "%V", v);
    }
    text_add_byte(&t, '\0');
    problem_at(c, v, "%s", t.at);
}

/* ---- values ---- */

struct value *derive(struct checker *c, const struct value *at, enum value_type type) {
    struct value *v = value_make(c->arena, type);
    v->file = at->file;
    v->line = at->line;
    v->column = at->column;
    v->secret = at->secret;
    return v;
}

struct value *derive_int(struct checker *c, const struct value *at, int64_t number) {
    struct value *v = derive(c, at, VALUE_INT);
    v->number = number;
    return v;
}

struct value *derive_text(struct checker *c, const struct value *at, struct view text) {
    struct value *v = derive(c, at, VALUE_TEXT);
    v->text = text;
    return v;
}

bool view_equal_fold(struct view a, const char *b) {
    return a.len == strlen(b) && strncasecmp(a.at, b, a.len) == 0;
}

void store_option(struct checker *c, const struct option *o, const struct value *v) {
    if (!o->size || !c->stores)
        return;
    char *place = option_place(o, &c->config->options);
    if (o->size == sizeof(bool)) {
        /* what stands in the sandbox block is switched off, what struct options has is switched off too */
        bool truth = v->type == VALUE_BOOL && (o->section == SECTION_SANDBOX ? !v->truth : v->truth);
        memcpy(place, &truth, sizeof truth);
    } else if (o->size == sizeof(int64_t)) {
        check(v->type == VALUE_INT);
        memcpy(place, &v->number, sizeof v->number);
    } else if (v->text.len >= o->size) {
        problem_at(c, v, "%k is longer than %d bytes", option_name(o), (int64_t)o->size - 1);
    } else if (memchr(v->text.at, '\0', v->text.len)) {
        problem_at(c, v, "%k holds a NUL", option_name(o));
    } else {
        memcpy(place, v->text.at, v->text.len);
        place[v->text.len] = '\0';
    }
}

/* ---- shapes ---- */

static struct value *expect(struct checker *c, const struct option *o, struct view key, struct value *v,
                            enum value_type type) {
    if (v->type == type)
        return v;
    wrong_type(c, o, key, v, value_type_name(type));
    return NULL;
}

static struct value *check_count(struct checker *c, const struct option *o, struct view key, struct value *v) {
    if (text_is(v) && view_equal_fold(v->text, "auto"))
        return derive_int(c, v, 0);
    return expect(c, o, key, v, VALUE_INT);
}

/* Puts one half of an address where its own option would be. */
static void put_half(struct checker *c, enum section section, const char *name, struct value *v, struct value *out) {
    const struct option *row = option_find(section, view_text(name));
    if (row)
        store_option(c, row, v);
    value_put(c->arena, out, view_text(name), v);
}

static void put_address(struct checker *c, const struct option *o, struct value *host, struct value *port,
                        struct value *out) {
    struct view name = option_name(o);
    if (o->section != SECTION_TOP || view_equal(name, VIEW("listen"))) {
        put_half(c, o->section, "host", host, out);
        put_half(c, o->section, "port", port, out);
        return;
    }
    struct option place = {
        .names = "http_host", .offset = offsetof(struct options, http_host), .size = OPTION_TEXT_MAX + 1};
    store_option(c, &place, host);
    value_put(c->arena, out, VIEW("http_host"), host);
    put_half(c, SECTION_TOP, view_equal(name, VIEW("http")) ? "http_port" : "https_port", port, out);
}

static struct value *check_listen(struct checker *c, const struct option *o, struct value *v, struct value *out) {
    struct view host = {"", 0}, port;
    int64_t number;
    if (v->type == VALUE_INT) {
        number = v->number;
    } else if (v->type != VALUE_TEXT) {
        problem_at(c, v, "expected port or host:port, got %T", v);
        return NULL;
    } else if (!address_split(v->text, &host, &port)) {
        problem_at(c, v, "could not parse address string %q", v->text);
        return NULL;
    } else if (!parse_int(port, &number)) {
        problem_at(c, v, "could not parse port %q", port);
        return NULL;
    }
    put_address(c, o, derive_text(c, v, host), derive_int(c, v, number), out);
    return NULL;
}

/* A duration as text; format is the message for a bad one, with one %v. */
static struct value *check_period(struct checker *c, const struct value *v, const char *format) {
    struct text why = {.arena = c->arena};
    int64_t ns;
    if (duration_parse(&ns, v->text, &why) == ERR_OK)
        return derive_int(c, v, ns);
    problem_at(c, v, format, text_view(&why));
    return NULL;
}

static struct value *whole_seconds(struct checker *c, const struct value *v) {
    int64_t ns;
    if (!__builtin_mul_overflow(v->number, SECOND, &ns))
        return derive_int(c, v, ns);
    problem_at(c, v, "%d seconds are more than a duration can hold", v->number);
    return NULL;
}

static const char *period_message(struct checker *c, const struct option *o) {
    struct text t = {.arena = c->arena};
    if (o->section == SECTION_TLS)
        return "error parsing tls config, 'timeout' %v";
    if (o->section == SECTION_WEBSOCKET || o->section == SECTION_JETSTREAM_LIMITS || o->section == SECTION_RESOLVER)
        return "%v";
    text_add_format(&t, "error parsing %v: ", option_name(o));
    text_add(&t, VIEW("%v\0"));
    return t.at;
}

static struct value *check_time(struct checker *c, const struct option *o, struct view key, struct value *v) {
    if (text_is(v))
        return check_period(c, v, period_message(c, o));
    if (o->shape == SHAPE_PERIOD)
        return expect(c, o, key, v, VALUE_TEXT);
    if (v->type == VALUE_INT) {
        if (o->shape == SHAPE_DURATION) {
            struct text reason = {.arena = c->arena};
            text_add_format(&reason, "%v should be converted to a duration", option_name(o));
            text_add_byte(&reason, '\0');
            warning_at(c, v, option_name(o), reason.at);
        }
        return whole_seconds(c, v);
    }
    if (o->shape != SHAPE_DURATION && v->type == VALUE_FLOAT && v->real > -9e9 && v->real < 9e9)
        return derive_int(c, v, (int64_t)(v->real * 1e9));
    return expect(c, o, key, v, VALUE_INT);
}

static struct value *check_storage(struct checker *c, const struct option *o, struct value *v) {
    static const char suffixes[] = "KMGT";
    int64_t number;
    if (v->type == VALUE_INT)
        return v;
    if (!text_is(v)) {
        problem_at(c, v, "%s must be int64 or string", o->wrong);
        return NULL;
    }
    if (!v->text.len)
        return derive_int(c, v, 0);
    struct view prefix = view_of(v->text.at, v->text.len - 1);
    if (!parse_int(prefix, &number)) {
        problem_at(c, v, "%s strconv.ParseInt: parsing %q: invalid syntax", o->wrong, prefix);
        return NULL;
    }
    const char *suffix = memchr(suffixes, v->text.at[prefix.len], 4);
    if (!suffix) {
        problem_at(c, v, "%s sizes defined as strings must end in K, M, G, T", o->wrong);
        return NULL;
    }
    if (__builtin_mul_overflow(number, INT64_C(1) << (10 * (suffix - suffixes + 1)), &number)) {
        problem_at(c, v, "%s is too big", o->wrong);
        return NULL;
    }
    return derive_int(c, v, number);
}

static struct value *check_texts(struct checker *c, const struct option *o, struct value *v) {
    struct value *list = derive(c, v, VALUE_ARRAY);
    const char *what = o->wrong ? o->wrong : o->names;
    if (text_is(v)) {
        value_append(c->arena, list, v);
    } else if (v->type != VALUE_ARRAY) {
        problem_at(c, v, "error parsing %s: unsupported type %T", what, v);
        return NULL;
    }
    for (size_t i = 0; v->type == VALUE_ARRAY && i < v->array->count; i++) {
        struct value *element = v->array->at[i];
        if (text_is(element))
            value_append(c->arena, list, element);
        else
            problem_at(c, element, "error parsing %s: unsupported type in array %T", what, element);
    }
    value_measure(list);
    return list;
}

static struct value *check_list(struct checker *c, const struct option *o, struct view key, struct value *v) {
    struct option plain = *o;
    plain.wrong = NULL;
    if (!expect(c, o, key, v, VALUE_ARRAY))
        return NULL;
    for (size_t i = 0; i < v->array->count; i++)
        expect(c, &plain, key, v->array->at[i], VALUE_TEXT);
    return v;
}

static bool check_url(struct checker *c, const char *what, struct value *v) {
    struct url u;
    struct view s = v->text;
    while (s.len && strchr(" \t\r\n", s.at[s.len - 1]))
        s.len--;
    while (s.len && strchr(" \t\r\n", s.at[0]))
        s = view_of(s.at + 1, s.len - 1);
    if (url_parse(&u, s))
        return true;
    struct text shown = {.arena = c->arena};
    text_add_url(&shown, s);
    problem_at(c, v, "error parsing %s url [%q]", what, text_view(&shown));
    return false;
}

static void check_element_url(struct checker *c, const char *what, struct value *v, struct value *seen,
                              struct value *list) {
    struct text field = {.arena = c->arena}, reason = {.arena = c->arena};
    if (!text_is(v)) {
        problem_at(c, v, "interface conversion: interface {} is %T, not string", v);
        return;
    }
    v->secret = true;
    if (value_find(seen, v->text)) {
        text_add_url(&field, v->text);
        text_add_format(&reason, "Duplicate %s entry detected", what);
        text_add_byte(&reason, '\0');
        warning_at(c, v, is_foreign(c, v) ? VIEW("...") : text_view(&field), reason.at);
        return;
    }
    value_put(c->arena, seen, v->text, v);
    if (check_url(c, what, v))
        value_append(c->arena, list, v);
}

/* One URL or an array of them: which of the two is allowed says the row. */
static struct value *check_urls(struct checker *c, const struct option *o, struct value *v) {
    struct value *list = derive(c, v, VALUE_ARRAY), *seen = value_make(c->arena, VALUE_MAP);
    bool one = strcmp(o->names, "url") == 0;
    if (v->type != (one ? VALUE_TEXT : VALUE_ARRAY)) {
        problem_at(c, v, "interface conversion: interface {} is %T, not %s", v, one ? "string" : "[]interface {}");
        return NULL;
    }
    if (one)
        check_element_url(c, o->wrong, v, seen, list);
    for (size_t i = 0; !one && i < v->array->count; i++)
        check_element_url(c, o->wrong, v->array->at[i], seen, list);
    value_measure(list);
    return list;
}

static struct value *check_blocks(struct checker *c, const struct option *o, struct view key, struct value *v) {
    struct option inner = *o;
    inner.wrong = o->wrong_inner;
    if (!expect(c, o, key, v, VALUE_ARRAY))
        return NULL;
    struct value *list = derive(c, v, VALUE_ARRAY);
    for (size_t i = 0; i < v->array->count; i++) {
        if (expect(c, &inner, key, v->array->at[i], VALUE_MAP))
            value_append(c->arena, list, check_block(c, o->inner, v->array->at[i]));
    }
    value_measure(list);
    return list;
}

struct value *check_shape(struct checker *c, const struct option *o, struct view key, struct value *v,
                          struct value *out) {
    switch (o->shape) {
    case SHAPE_TEXT:
    case SHAPE_PATH:
        return expect(c, o, key, v, VALUE_TEXT);
    case SHAPE_BOOL:
        return expect(c, o, key, v, VALUE_BOOL);
    case SHAPE_INT:
        return expect(c, o, key, v, VALUE_INT);
    case SHAPE_COUNT:
        return check_count(c, o, key, v);
    case SHAPE_LISTEN:
        return check_listen(c, o, v, out);
    case SHAPE_DURATION:
    case SHAPE_PERIOD:
    case SHAPE_SECONDS:
    case SHAPE_TIMEOUT:
        return check_time(c, o, key, v);
    case SHAPE_STORAGE:
        return check_storage(c, o, v);
    case SHAPE_TEXTS:
        return check_texts(c, o, v);
    case SHAPE_LIST:
        return check_list(c, o, key, v);
    case SHAPE_URLS:
        return check_urls(c, o, v);
    case SHAPE_BLOCK:
        return expect(c, o, key, v, VALUE_MAP) ? check_block(c, o->inner, v) : NULL;
    case SHAPE_BLOCKS:
        return check_blocks(c, o, key, v);
    case SHAPE_OWN:
        break;
    }
    return v;
}

/* ---- blocks ---- */

static void check_key(struct checker *c, enum section section, struct view key, struct value *v, struct value *out) {
    const struct option *o = option_find(section, key);
    if (!o) {
        if (sections[section].unknown && !v->used)
            problem_at(c, v, sections[section].unknown, key);
        return;
    }
    v->secret = o->secret;
    if (v->cut)
        notice_at(
            c, v,
            "the environment variable for \"%k\" ends at the first ',', ';', '}' or end of a line: quote its text",
            key);
    struct value *checked = o->rule ? o->rule(c, o, key, v, out) : check_shape(c, o, key, v, out);
    if (!checked)
        return;
    checked->secret = checked->secret || o->secret;
    value_put(c->arena, out, option_name(o), checked);
    store_option(c, o, checked);
}

struct value *check_block(struct checker *c, enum section section, const struct value *map) {
    struct value *out = derive(c, map, VALUE_MAP);
    for (size_t i = 0; i < map->map->count; i++)
        check_key(c, section, map->map->at[i].key, map->map->at[i].value, out);
    value_measure(out);
    return out;
}
