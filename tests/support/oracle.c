/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/oracle.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"

enum { TOKENS_MAX = 32 };

struct tokens {
    char text[ORACLE_LINE_MAX];
    const char *at[TOKENS_MAX];
    uint32_t count;
    bool empty; /* one of them is */
};

static struct tokens *split(struct tokens *t, const char *text) {
    snprintf(t->text, sizeof t->text, "%s", text);
    t->count = 0;
    t->empty = false;
    for (char *at = t->text;;) {
        char *dot = strchr(at, '.');
        if (dot)
            *dot = 0;
        check(t->count < TOKENS_MAX);
        t->at[t->count++] = at;
        t->empty |= *at == 0;
        if (!dot)
            return t;
        at = dot + 1;
    }
}

static bool is_rest(const struct tokens *t) {
    return strcmp(t->at[t->count - 1], ">") == 0;
}

bool oracle_matches(const char *pattern, const char *text) {
    struct tokens p, t;
    split(&p, pattern);
    split(&t, text);
    if (t.empty)
        return false;
    for (uint32_t i = 0; i < p.count; i++) {
        if (i >= t.count)
            return false;
        if (i + 1 == p.count && strcmp(p.at[i], ">") == 0)
            return true;
        if (strcmp(p.at[i], "*") != 0 && strcmp(p.at[i], t.at[i]) != 0)
            return false;
    }
    return p.count == t.count;
}

/* A line cut into its parts. */
struct rule {
    char kind[8], subject[ORACLE_LINE_MAX], queue[ORACLE_LINE_MAX];
};

static struct rule rule_of(const char *line) {
    struct rule r = {{0}, {0}, {0}};
    sscanf(line, "%7s %63s %63s", r.kind, r.subject, r.queue);
    return r;
}

static bool has(const struct oracle_set *o, const char *kind) {
    for (uint32_t i = 0; i < o->count; i++)
        if (strncmp(o->line[i], kind, 4) == 0)
            return true;
    return false;
}

bool oracle_publish(const struct oracle_set *o, const char *subject) {
    bool allowed = !has(o, "+pub");
    for (uint32_t i = 0; i < o->count; i++) {
        struct rule r = rule_of(o->line[i]);
        bool hit = r.subject[0] != 0 && oracle_matches(r.subject, subject);
        if (hit && strcmp(r.kind, "-pub") == 0)
            return false;
        allowed |= hit && strcmp(r.kind, "+pub") == 0;
    }
    return allowed;
}

static bool queue_fits(const char *rule, const char *queue) {
    return queue != NULL && oracle_matches(rule, queue);
}

bool oracle_withheld(const struct oracle_set *o, const char *subject, const char *queue) {
    for (uint32_t i = 0; i < o->count; i++) {
        struct rule r = rule_of(o->line[i]);
        if (strcmp(r.kind, "-sub") == 0 && oracle_matches(r.subject, subject) &&
            (r.queue[0] == 0 || queue_fits(r.queue, queue)))
            return true;
    }
    return false;
}

/* Allowed by that rule is only what lies wholly within it. */
static bool within(const char *rule, const char *pattern) {
    struct tokens a, b;
    split(&a, rule);
    split(&b, pattern);
    return oracle_matches(rule, pattern) && (!is_rest(&b) || is_rest(&a));
}

bool oracle_subscribe(const struct oracle_set *o, const char *pattern, const char *queue) {
    struct tokens t;
    if (split(&t, pattern)->empty)
        return !has(o, "+sub");
    bool plain = !has(o, "+sub"), queue_rules = false, in_queue = false;
    for (uint32_t i = 0; i < o->count; i++) {
        struct rule r = rule_of(o->line[i]);
        if (strcmp(r.kind, "+sub") != 0 || r.subject[0] == 0 || !oracle_matches(r.subject, pattern))
            continue;
        bool good = within(r.subject, pattern);
        if (r.queue[0] == 0)
            plain |= good;
        else
            queue_rules = true;
        in_queue |= r.queue[0] != 0 && good && queue_fits(r.queue, queue);
    }
    bool allowed = queue && queue_rules ? in_queue : plain;
    return allowed && !oracle_withheld(o, pattern, queue);
}

/* ---- random ones ---- */

void oracle_add(struct oracle_set *o, const char *kind, const char *subject, const char *queue) {
    check(o->count < ORACLE_LINES_MAX);
    char *line = o->line[o->count];
    snprintf(line, ORACLE_LINE_MAX, "%s %s%s%s", kind, subject, queue ? " " : "", queue ? queue : "");
    o->lines[o->count++] = line;
}

void oracle_print(const struct oracle_set *o) {
    for (uint32_t i = 0; i < o->count; i++)
        printf("    %s\n", o->line[i]);
    printf("    responses: %u, %llu ms\n", o->responses_max, (unsigned long long)o->responses_ms);
}

static const char *const words[] = {"a", "b", "c"};

void oracle_random_subject(struct rnd *r, char *out, bool wild) {
    out[0] = 0;
    for (uint32_t i = 0, count = 1 + rnd_below(r, 3); i < count; i++) {
        const char *token = words[rnd_below(r, 3)];
        if (wild && rnd_below(r, 8) == 0)
            token = rnd_below(r, 2) ? "*" : ">";
        if (wild && rnd_below(r, 40) == 0)
            token = "";
        strcat(out, i ? "." : "");
        strcat(out, token);
    }
    if (out[0] == 0)
        strcpy(out, "a..b");
}

void oracle_random_pattern(struct rnd *r, char *out, bool valid) {
    out[0] = 0;
    for (uint32_t i = 0, count = 1 + rnd_below(r, 3); i < count; i++) {
        const char *token = rnd_below(r, 3) == 0 ? "*" : words[rnd_below(r, 3)];
        if (i + 1 == count && rnd_below(r, 4) == 0)
            token = ">";
        if (!valid && rnd_below(r, 30) == 0)
            token = rnd_below(r, 2) ? ">" : "";
        strcat(out, i ? "." : "");
        strcat(out, token);
    }
    if (out[0] == 0)
        strcpy(out, "b..c");
}

const char *oracle_random_queue(struct rnd *r) {
    static const char *const queues[] = {"q1", "q2", "v1.x", "v1.y"};
    return rnd_below(r, 2) ? NULL : queues[rnd_below(r, 4)];
}

void oracle_random_set(struct rnd *r, struct oracle_set *o) {
    static const char *const queues[] = {"q1", "q2", "v1.x", "v1.*", "v1.>"};
    memset(o, 0, sizeof *o);
    const char *kinds[] = {rnd_below(r, 2) ? "+pub" : "-pub", "-pub", rnd_below(r, 2) ? "+sub" : "-sub", "-sub"};
    for (uint32_t n = 1 + rnd_below(r, 10); n > 0; n--) {
        char subject[ORACLE_LINE_MAX];
        const char *kind = kinds[rnd_below(r, 4)];
        oracle_random_pattern(r, subject, true);
        bool queued = kind[1] == 's' && rnd_below(r, 3) == 0;
        oracle_add(o, kind, subject, queued ? queues[rnd_below(r, 5)] : NULL);
    }
    if (rnd_below(r, 8) == 0)
        oracle_add(o, "+pub", "", NULL);
    if (rnd_below(r, 3) == 0) {
        o->responses_max = rnd_below(r, 4) == 0 ? BOOK_UNLIMITED : 1 + rnd_below(r, 3);
        o->responses_ms = rnd_below(r, 3) ? 10000 : 0;
    }
}
