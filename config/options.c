/* SPDX-License-Identifier: Apache-2.0 */
/* Looking things up in the table, and what follows from it for a struct options. */
#include "config/options.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/check.h"
#include "config/text.h"

bool option_next_name(struct view *name, const char **rest) {
    const char *at = *rest ? *rest + strspn(*rest, " ") : "";
    size_t len = strcspn(at, " ");
    *name = view_of(at, len);
    *rest = at + len;
    return len > 0;
}

static bool same_word(struct view a, struct view b) {
    return a.len == b.len && strncasecmp(a.at, b.at, a.len) == 0;
}

const struct option *option_find(enum section section, struct view key) {
    for (size_t i = 0; i < option_count; i++) {
        const char *rest = option_table[i].section == section ? option_table[i].names : NULL;
        for (struct view name; option_next_name(&name, &rest);) {
            if (same_word(name, key))
                return &option_table[i];
        }
    }
    return NULL;
}

const struct option *option_find_flag(struct view flag) {
    for (size_t i = 0; i < option_count; i++) {
        const char *rest = option_table[i].flags;
        for (struct view name; option_next_name(&name, &rest);) {
            if (view_equal(name, flag))
                return &option_table[i];
        }
    }
    return NULL;
}

struct view option_name(const struct option *o) {
    const char *rest = o->names ? o->names : o->flags;
    struct view name;
    option_next_name(&name, &rest);
    return name;
}

const char *option_dashes(struct view flag) {
    return flag.len > 2 && flag.at[0] >= 'a' ? "--" : "-"; /* -DVV and the like are short flags too */
}

const struct process_ids *options_process(const struct options *o, const char *name) {
    const struct process_ids *ids = o->process;
    for (size_t i = 0; i < option_count; i++) {
        if (option_table[i].section != SECTION_PROCESSES)
            continue;
        check(ids < o->process + OPTION_PROCESSES);
        if (strcmp(option_table[i].names, name) == 0)
            return ids;
        ids++;
    }
    return NULL;
}

void *option_place(const struct option *o, struct options *options) {
    return (char *)options + o->offset;
}

const void *option_place_const(const struct option *o, const struct options *options) {
    return (const char *)options + o->offset;
}

bool shape_is_time(enum shape shape) {
    return shape == SHAPE_DURATION || shape == SHAPE_PERIOD || shape == SHAPE_SECONDS || shape == SHAPE_TIMEOUT;
}

void options_clear(struct options *o) {
    *o = (struct options){.logtime = true};
}

/* Sanitizer builds are slow: what waits for another process waits longer. */
#ifdef BULKHEAD_SANITIZED
enum { SLOWNESS = 20 };
#else
enum { SLOWNESS = 1 };
#endif

static int64_t default_number(const struct option *o) {
    if (!shape_is_time(o->shape))
        return strtoll(o->fallback, NULL, 10); /* auto is 0 */
    int64_t ns = 0;
    char *end;
    double seconds = strtod(o->fallback, &end);
    if (!*end)
        ns = (int64_t)(seconds * 1e9);
    else
        check(duration_parse(&ns, view_text(o->fallback), &(struct text){0}) == ERR_OK);
    return o->section == SECTION_PATIENCE || o->offset == offsetof(struct options, auth_timeout_ns) ? ns * SLOWNESS
                                                                                                    : ns;
}

void options_fill(struct options *o) {
    for (size_t i = 0; i < option_count; i++) {
        const struct option *row = &option_table[i];
        if (!row->size || !row->fallback || row->size == sizeof(bool))
            continue;
        char *place = option_place(row, o);
        if (row->size != sizeof(int64_t)) {
            if (!*place)
                strcpy(place, row->fallback); /* the table's texts fit */
            continue;
        }
        int64_t number;
        memcpy(&number, place, sizeof number);
        if (number == 0) {
            number = default_number(row);
            memcpy(place, &number, sizeof number);
        }
    }
    if (o->cluster_port && !o->cluster_host[0])
        strcpy(o->cluster_host, "0.0.0.0");
    if (o->gateway_port && !o->gateway_host[0])
        strcpy(o->gateway_host, "0.0.0.0");
}
