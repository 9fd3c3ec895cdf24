/* SPDX-License-Identifier: Apache-2.0 */
/* config-print man|markdown: the list of options, or config-print flags: that of flags, from the one table. For
 * bulkhead.conf(5), bulkhead(8) and docs/. For tests, config-print bounds: a line for each number with bounds. */
#include <stdio.h>
#include <string.h>

#include "config/options.h"

static const char *kind_of(const struct option *o) {
    static const char *const words[] = {[SHAPE_TEXT] = "text",
                                        [SHAPE_PATH] = "path",
                                        [SHAPE_BOOL] = "boolean",
                                        [SHAPE_INT] = "integer",
                                        [SHAPE_COUNT] = "integer or auto",
                                        [SHAPE_LISTEN] = "port or host:port",
                                        [SHAPE_DURATION] = "duration",
                                        [SHAPE_PERIOD] = "duration",
                                        [SHAPE_SECONDS] = "number",
                                        [SHAPE_TIMEOUT] = "number or duration",
                                        [SHAPE_STORAGE] = "size",
                                        [SHAPE_TEXTS] = "text or array of texts",
                                        [SHAPE_LIST] = "array of texts",
                                        [SHAPE_URLS] = "array of URLs",
                                        [SHAPE_BLOCK] = "block",
                                        [SHAPE_BLOCKS] = "array of blocks",
                                        [SHAPE_OWN] = "see text"};
    return words[o->shape];
}

/* All names of a row, joined: "a, b". With dashes before flags. */
static void join_names(char *out, size_t cap, const char *names, bool flags) {
    size_t len = 0;
    for (struct view name; option_next_name(&name, &names) && len < cap;)
        len += (size_t)snprintf(out + len, cap - len, "%s%s%.*s", len ? ", " : "", flags ? option_dashes(name) : "",
                                (int)name.len, name.at);
}

static void print_fact(bool man, const char *name, const char *value) {
    printf(man ? "%s: %s.\n" : " %s: %s.", name, value);
}

static void print_facts(bool man, const struct option *o) {
    static const char *const reloads[] = {[RELOAD_NO] = "needs a restart",
                                          [RELOAD_LIVE] = "at once",
                                          [RELOAD_TLS] = "only its tls block",
                                          [RELOAD_PARTLY] = "in part"};
    char flags[128];
    print_fact(man, "Takes", kind_of(o));
    if (o->unit)
        print_fact(man, "Unit", o->unit);
    if (o->fallback)
        print_fact(man, "Default", o->fallback);
    if (o->flags) {
        join_names(flags, sizeof flags, o->flags, true);
        print_fact(man, "Flag", flags);
    }
    if (o->section == SECTION_TOP)
        print_fact(man, "Reload", reloads[o->reload]);
    if (o->built != BUILT)
        print_fact(man, "Here", o->built == BUILT_IDLE ? "without effect" : "not available yet");
    if (o->since)
        print_fact(man, "nats-server", o->since);
}

static void print_section(bool man, enum section section) {
    char names[256];
    bool flags = section == SECTION_FLAGS;
    printf(man ? ".SS %s\n" : "\n### %s\n\n", *sections[section].title ? sections[section].title : "Top level");
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        if (o->section != section)
            continue;
        join_names(names, sizeof names, flags ? o->flags : o->names, flags);
        printf(man ? ".TP\n.B %s\n%s\n" : "- `%s`: %s", names, o->doc);
        if (!flags)
            print_facts(man, o);
        if (!man)
            putchar('\n');
    }
}

static void print_flags(void) {
    char names[128];
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        if (!o->flags)
            continue;
        join_names(names, sizeof names, o->flags, true);
        printf(".TP\n.B %s%s%s\n%s\n", names, o->arg ? " " : "", o->arg ? o->arg : "", o->doc);
    }
}

/* Section, name, least and most, as they would be written. */
static void print_bounds(void) {
    for (size_t i = 0; i < option_count; i++) {
        const struct option *o = &option_table[i];
        if (o->size != sizeof(int64_t) || (!o->low && !o->high))
            continue;
        const char *format = shape_is_time(o->shape) ? "%s\t%.*s\t\"%.0fms\"\t\"%.0fms\"\n" : "%s\t%.*s\t%.0f\t%.0f\n";
        double unit = shape_is_time(o->shape) ? 1e6 : 1;
        struct view name = option_name(o);
        printf(format, sections[o->section].title, (int)name.len, name.at, (double)o->low / unit,
               (double)o->high / unit * (o->high == INT64_MAX ? 0.9 : 1));
    }
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "flags") == 0) {
        print_flags();
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "bounds") == 0) {
        print_bounds();
        return 0;
    }
    bool man = argc == 2 && strcmp(argv[1], "man") == 0;
    if (man || (argc == 2 && strcmp(argv[1], "markdown") == 0)) {
        for (int section = 0; section < SECTION_FLAGS; section++)
            print_section(man, (enum section)section);
        return 0;
    }
    fprintf(stderr, "Usage: config-print man|markdown|flags|bounds\n");
    return 2;
}
