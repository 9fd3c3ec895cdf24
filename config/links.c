/* SPDX-License-Identifier: Apache-2.0 */
/* How accounts fit together: exports name accounts that exist, imports find an export that allows them, and nothing
 * goes round in a circle. Runs over the checked tree, exports before imports, and only when every entry for itself is
 * right. All messages stand at the position of `accounts`, as nats-server has it. */
#include <string.h>

#include "config/checker.h"
#include "config/mapping.h"
#include "nats/subject.h"

enum {
    CYCLE_DEPTH_MAX = 1024, /* accounts on one way */
    STEPS_MAX = 1 << 16     /* in looking for the circles of one import */
};

struct linking {
    struct checker *checker;
    const struct value *at;       /* accounts */
    const struct value *accounts; /* name: account */
    /* What has been linked so far; a later import is checked against it. Account: array of {other, from, to}. */
    struct value *streams, *services;
};

static struct view text_of(const struct value *map, const char *key) {
    const struct value *v = map ? value_find(map, view_text(key)) : NULL;
    return v ? v->text : view_of("", 0);
}

/* ---- exports ---- */

static bool is_placed(struct view subject, int64_t position) {
    struct view token;
    int64_t i = 0;
    for (bool more = true; subject_next_token(&token, &subject, &more);) {
        if (++i == position)
            return view_equal(token, VIEW("*"));
    }
    return false;
}

static void link_export(struct linking *l, const struct value *export) {
    bool service = value_find(export, VIEW("service")) != NULL;
    struct view subject = text_of(export, service ? "service" : "stream");
    const char *kind = service ? "service" : "stream";
    const struct value *names = value_find(export, VIEW("accounts"));
    for (size_t i = 0; names && i < names->array->count; i++) {
        struct view name = names->array->at[i]->text;
        if (!value_find(l->accounts, name))
            problem_at(l->checker, l->at, "%q account not defined for %s export", name, kind);
    }
    const struct value *position = value_find(export, VIEW("account_token_position"));
    if (position && position->number > 0 && !is_placed(subject, position->number))
        problem_at(l->checker, l->at, "Error adding %s export %q: sublist: invalid subject", kind, subject);
    const struct value *latency = value_find(export, VIEW("latency"));
    if (!latency)
        return;
    struct view results = text_of(latency, "subject");
    const char *fault = l->checker->config->options.no_system_account ? "system account not setup" : NULL;
    if (fault)
        problem_at(l->checker, l->at, "Error adding service latency sampling for %q: %s", subject, fault);
    else if (!subject_is_literal(results) || !subject_is_clean(results))
        problem_at(l->checker, l->at,
                   "Error adding service latency sampling for %q on subject %q: invalid publish subject", subject,
                   results);
    else if (value_find(export, VIEW("response_type")) &&
             !view_equal(text_of(export, "response_type"), VIEW("singleton")))
        problem_at(l->checker, l->at,
                   "Error adding service latency sampling for %q on subject %q: bad service response type", subject,
                   results);
}

/* ---- does an export allow an import? ---- */

static bool token_is(struct view subject, int64_t position, struct view name) {
    struct view token;
    int64_t i = 0;
    for (bool more = true; subject_next_token(&token, &subject, &more);) {
        if (++i == position)
            return view_equal(token, name);
    }
    return false;
}

static bool export_allows(const struct value *export, struct view importer, struct view subject, bool exact) {
    const struct value *names = value_find(export, VIEW("accounts"));
    const struct value *position = value_find(export, VIEW("account_token_position"));
    if (position && position->number > 0)
        return !exact && token_is(subject, position->number, importer);
    if (!names || !names->array->count)
        return true;
    for (size_t i = 0; i < names->array->count; i++) {
        if (view_equal(names->array->at[i]->text, importer))
            return true;
    }
    return false;
}

/* An export of the very subject decides, else the first that covers it. */
static bool is_authorized(const struct value *account, struct view importer, const char *kind, struct view subject) {
    const struct value *exports = value_find(account, VIEW("exports"));
    for (int exact = 1; exact >= 0; exact--) {
        for (size_t i = 0; exports && i < exports->array->count; i++) {
            const struct value *export = exports->array->at[i];
            struct view exported = text_of(export, kind);
            if (!exported.len)
                continue;
            if (exact ? view_equal(exported, subject) : subject_covers(exported, subject))
                return export_allows(export, importer, subject, exact);
        }
    }
    return false;
}

static bool exports_stream_matching(const struct value *account, struct view subject) {
    const struct value *exports = value_find(account, VIEW("exports"));
    for (size_t i = 0; exports && i < exports->array->count; i++) {
        struct view exported = text_of(exports->array->at[i], "stream");
        if (exported.len && subject_covers(exported, subject))
            return true;
    }
    return false;
}

/* ---- circles ---- */

/* True if some subject matches both. */
static bool subjects_collide(struct view a, struct view b) {
    struct view ta, tb;
    bool more_a = true, more_b = true;
    while (true) {
        bool has_a = subject_next_token(&ta, &a, &more_a), has_b = subject_next_token(&tb, &b, &more_b);
        if (!has_a || !has_b)
            return has_a == has_b;
        if (view_equal(ta, VIEW(">")) || view_equal(tb, VIEW(">")))
            return true;
        if (!view_equal(ta, tb) && !view_equal(ta, VIEW("*")) && !view_equal(tb, VIEW("*")))
            return false;
    }
}

struct walk {
    const struct linking *linking;
    bool streams;
    struct value *visited;
    uint32_t steps;
};

static const char *walk_on(struct walk *w, struct view account, struct view subject) {
    const struct value *links = value_find(w->streams ? w->linking->streams : w->linking->services, account);
    if (w->visited->map->count >= CYCLE_DEPTH_MAX || ++w->steps > STEPS_MAX)
        return "search cycle depth exhausted";
    if (w->streams && !exports_stream_matching(value_find(w->linking->accounts, account), subject))
        return NULL;
    for (size_t i = 0; links && i < links->array->count; i++) {
        const struct value *link = links->array->at[i];
        struct view to = text_of(link, "to"), other = text_of(link, "other"), from = text_of(link, "from");
        if (!subjects_collide(subject, to))
            continue;
        if (value_find(w->visited, other))
            return "import forms a cycle";
        value_put(w->linking->checker->arena, w->visited, account, value_make(w->linking->checker->arena, VALUE_BOOL));
        struct view local = w->streams ? to : from;
        const char *fault = walk_on(w, other, subject_covers(subject, local) ? local : subject);
        if (fault)
            return fault;
    }
    return NULL;
}

/* What an import of account from other, here under that subject, would close; NULL: nothing. */
static const char *find_circle(struct linking *l, bool streams, struct view account, struct view other,
                               struct view subject) {
    struct arena *a = l->checker->arena;
    struct walk w = {l, streams, value_make(a, VALUE_MAP), 0};
    value_put(a, w.visited, account, value_make(a, VALUE_BOOL));
    return walk_on(&w, other, subject);
}

static void add_link(struct linking *l, bool stream, struct view account, struct view other, struct view from,
                     struct view to) {
    struct arena *a = l->checker->arena;
    struct value *all = stream ? l->streams : l->services, *links = value_find(all, account);
    struct value *link = value_make(a, VALUE_MAP);
    if (!links) {
        links = value_make(a, VALUE_ARRAY);
        value_put(a, all, account, links);
    }
    value_put(a, link, VIEW("other"), value_make_text(a, other));
    value_put(a, link, VIEW("from"), value_make_text(a, from));
    value_put(a, link, VIEW("to"), value_make_text(a, to));
    value_append(a, links, link);
}

/* ---- imports ---- */

static struct view with_prefix(struct linking *l, struct view prefix, struct view subject) {
    struct text t = {.arena = l->checker->arena};
    text_add(&t, prefix);
    if (prefix.at[prefix.len - 1] != '.')
        text_add_byte(&t, '.');
    text_add(&t, subject);
    return text_view(&t);
}

static bool is_imported(const struct linking *l, struct view account, struct view other, struct view subject) {
    const struct value *links = value_find(l->streams, account);
    for (size_t i = 0; links && i < links->array->count; i++) {
        const struct value *link = links->array->at[i];
        if (view_equal(text_of(link, "other"), other) && view_equal(text_of(link, "from"), subject))
            return true;
    }
    return false;
}

/* Says whether a wildcard subject can be moved to another; what is wrong is appended to why. */
static bool can_move(struct linking *l, const char *kind, struct view from, struct view to, struct text *why) {
    struct text numbered = {.arena = l->checker->arena}, fault = {.arena = l->checker->arena};
    if (view_equal(from, to) || !subject_has_wildcard(from))
        return true;
    mapping_number_wildcards(&numbered, to);
    if (mapping_check(from, text_view(&numbered), &fault) == ERR_OK)
        return true;
    text_add_format(why, "failed to create mapping transform for %s import subject %q to %q: %v", kind, from, to,
                    text_view(&fault));
    return false;
}

static void link_stream(struct linking *l, struct view account, const struct value *import) {
    const struct value *source = value_find(import, VIEW("stream"));
    struct view other = text_of(source, "account"), subject = text_of(source, "subject");
    struct view prefix = text_of(import, "prefix"), to = text_of(import, "to");
    const struct value *exporter = value_find(l->accounts, other);
    struct text why = {.arena = l->checker->arena};
    if (!exporter) {
        problem_at(l->checker, l->at, "%q account not defined for stream import", other);
        return;
    }
    if (prefix.len)
        to = with_prefix(l, prefix, subject);
    else if (!to.len)
        to = subject;
    const char *circle = NULL;
    if (!subject_is_pattern(subject) || !is_authorized(exporter, account, "stream", subject))
        text_add(&why, VIEW("stream import not authorized"));
    else if (prefix.len && subject_has_wildcard(prefix))
        text_add(&why, VIEW("stream import prefix can not contain wildcard tokens"));
    else if ((circle = find_circle(l, true, account, other, to)))
        text_add(&why, view_text(circle));
    else if (can_move(l, "stream", subject, to, &why) && is_imported(l, account, other, subject))
        text_add(&why, VIEW("stream import already exists"));
    if (why.len)
        problem_at(l->checker, l->at, "Error adding stream import %q: %v", subject, text_view(&why));
    else
        add_link(l, true, account, other, subject, to);
}

static void link_service(struct linking *l, struct view account, const struct value *import) {
    const struct value *source = value_find(import, VIEW("service"));
    struct view other = text_of(source, "account"), subject = text_of(source, "subject"), to = text_of(import, "to");
    const struct value *exporter = value_find(l->accounts, other);
    struct text why = {.arena = l->checker->arena};
    if (!exporter) {
        problem_at(l->checker, l->at, "%q account not defined for service import", other);
        return;
    }
    struct view local = to.len ? to : subject;
    const char *circle = NULL;
    if (!subject_is_pattern(subject) || !subject_is_pattern(local))
        text_add(&why, VIEW("sublist: invalid subject"));
    else if (!is_authorized(exporter, account, "service", subject))
        text_add(&why, VIEW("service import not authorized"));
    else if ((circle = find_circle(l, false, account, other, local)))
        text_add(&why, view_text(circle));
    else if (subject_has_wildcard(subject))
        can_move(l, "service", subject, local, &why);
    if (why.len)
        problem_at(l->checker, l->at, "Error adding service import %q: %v", subject, text_view(&why));
    else
        add_link(l, false, account, other, local, subject);
}

static void link_account(struct linking *l, const char *what, const struct value_entry *entry, bool stream) {
    const struct value *list = value_find(entry->value, view_text(what));
    for (size_t i = 0; list && i < list->array->count; i++) {
        const struct value *one = list->array->at[i];
        if (!value_find(one, stream ? VIEW("stream") : VIEW("service")))
            continue;
        if (strcmp(what, "exports") == 0)
            link_export(l, one);
        else if (stream)
            link_stream(l, entry->key, one);
        else
            link_service(l, entry->key, one);
    }
}

void link_accounts(struct checker *c, const struct value *accounts) {
    static const struct {
        const char *what;
        bool stream;
    } passes[] = {{"exports", true}, {"exports", false}, {"imports", true}, {"imports", false}};
    struct linking l = {.checker = c,
                        .at = accounts,
                        .accounts = accounts,
                        .streams = value_make(c->arena, VALUE_MAP),
                        .services = value_make(c->arena, VALUE_MAP)};
    for (size_t p = 0; p < sizeof passes / sizeof *passes; p++) {
        for (size_t i = 0; i < accounts->map->count; i++)
            link_account(&l, passes[p].what, &accounts->map->at[i], passes[p].stream);
    }
}
