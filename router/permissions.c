/* SPDX-License-Identifier: Apache-2.0 */
/* A rule is a struct sub in a sublist, of which only the sublist's own fields and `flags` are used. That gives the
 * questions their answer: sublist_match takes a text whose wildcard tokens are literal, and returns the runs of rules
 * with that subject, those with a queue apart. All rules of one run have the same pattern, so a run's first rule stands
 * for it.
 */
#include "router/permissions.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "nats/subject.h"
#include "router/cost.h"
#include "router/sublist_impl.h"

enum { RULE_REST = 1 }; /* its pattern ends in '>' */
enum state { STATE_NEW = 0, STATE_COMPILING, STATE_COMPILED };
enum { LISTS = BOOK_SUB_DENY };

struct verdict {
    uint8_t len; /* 0: unused */
    bool allowed;
    char text[PERMISSIONS_SUBJECT_MAX + 2];
};

struct permissions {
    struct permissions_tools *tools;
    struct book_rules head;
    uint64_t pos; /* in the book */
    enum state state;
    bool nothing;           /* could not be compiled: allows nothing */
    bool listed[LISTS + 1]; /* by enum book_rule_kind: there is such a list, even if it is empty */
    struct sublist *list[LISTS + 1];
    struct sub *rule;
    uint8_t *copy;                /* struct book_rules and rules; kept while `overlap` is of use */
    uint32_t rule_at, rule_count; /* while it is being compiled */
    uint32_t overlap_count;       /* subscribe deny rules; beyond PERMISSIONS_OVERLAPS not noted */
    uint32_t overlap[PERMISSIONS_OVERLAPS];
    struct verdict *publish;   /* PERMISSIONS_REMEMBERED of them, or null */
    struct verdict *published; /* the last one of these that was asked for, or null */
    struct verdict *deliver;   /* likewise; subjects for which no rule of a queue is there */
    uint64_t message_no;       /* of the last delivery that was asked for */
    bool message_allowed;
};

/* ---- compiling ---- */

struct permissions *permissions_new(struct permissions_tools *tools, const struct book_rules *rules, uint64_t pos) {
    struct permissions *p = calloc(1, sizeof *p);
    if (!p)
        return NULL;
    p->tools = tools;
    p->head = *rules;
    p->pos = pos;
    return p;
}

static void drop_lists(struct permissions *p) {
    for (int kind = 1; kind <= LISTS; kind++) {
        sublist_free(p->list[kind]);
        p->list[kind] = NULL;
    }
    free(p->rule);
    free(p->copy);
    p->rule = NULL;
    p->copy = NULL;
}

void permissions_free(struct permissions *p) {
    if (!p)
        return;
    drop_lists(p);
    free(p->publish);
    free(p->deliver);
    free(p);
}

static bool begin(struct permissions *p, struct book *book) {
    struct book_entry entry;
    if (book_read(book, p->pos, &entry) != ERR_OK || entry.type != BOOK_RULES || entry.rules.number != p->head.number)
        return false;
    p->head = entry.rules;
    p->copy = book_keep(book);
    p->rule = calloc(p->head.count ? p->head.count : 1, sizeof *p->rule);
    p->state = STATE_COMPILING;
    return p->rule != NULL;
}

static bool ends_in_rest(struct view pattern) {
    return pattern.at[pattern.len - 1] == '>' && (pattern.len == 1 || pattern.at[pattern.len - 2] == '.');
}

static bool add(struct permissions *p, uint32_t at, const struct book_rule *rule, struct view subject,
                struct view queue) {
    p->listed[rule->kind] = true;
    if (subject.len == 0)
        return true; /* the list is empty, but there */
    if (!subject_is_pattern(subject))
        return false;
    if (!p->list[rule->kind] && !(p->list[rule->kind] = sublist_new(p->tools->hash, p->tools->slab)))
        return false;
    struct sub *s = &p->rule[p->rule_count++];
    s->flags = ends_in_rest(subject) ? RULE_REST : 0;
    if (rule->kind == BOOK_SUB_DENY && p->overlap_count++ < PERMISSIONS_OVERLAPS)
        p->overlap[p->overlap_count - 1] = at;
    return sublist_insert(p->list[rule->kind], s, subject, queue) == ERR_OK;
}

static const uint8_t *rules_of(const struct permissions *p) {
    return p->copy + sizeof(struct book_rules);
}

/* Some of the rules; false if one cannot be compiled. */
static bool step(struct permissions *p) {
    struct book_rule rule;
    struct view subject, queue;
    for (uint32_t n = 0; n < PERMISSIONS_COMPILED_AT_ONCE; n++) {
        uint32_t at = p->rule_at;
        if (!book_rule_next(&p->head, rules_of(p), &p->rule_at, &rule, &subject, &queue)) {
            p->state = STATE_COMPILED;
            return true;
        }
        *p->tools->work += COST_RULE + subject.len + queue.len;
        if (!add(p, at, &rule, subject, queue))
            return false;
    }
    return true;
}

bool permissions_compile(struct permissions *p, struct book *book) {
    if (likely(p->state == STATE_COMPILED))
        return true;
    if ((p->state == STATE_NEW && !begin(p, book)) || !step(p)) {
        log_error("permission set %u cannot be compiled; whoever has it is allowed nothing", p->head.number);
        drop_lists(p);
        p->nothing = true;
        p->state = STATE_COMPILED;
    }
    if (p->state != STATE_COMPILED)
        return false;
    if (p->overlap_count == 0 || p->overlap_count > PERMISSIONS_OVERLAPS) {
        free(p->copy);
        p->copy = NULL;
    }
    return true;
}

bool permissions_compiled(const struct permissions *p) {
    return p->state == STATE_COMPILED;
}

uint32_t permissions_responses(const struct permissions *p, uint64_t *ns) {
    *ns = p->head.responses_ms == 0 || p->head.responses_ms > UINT64_MAX / 1000000 ? UINT64_MAX
                                                                                   : p->head.responses_ms * 1000000;
    return p->nothing ? 0 : p->head.responses_max;
}

/* ---- looking ---- */

/* What of one list matches the text, in tools->match; false if nothing does. A text that would cost too much matches
 * nothing in an allow list and everything in a deny list, which *too_dear says. */
static bool look(struct permissions *p, enum book_rule_kind kind, struct view text, bool *too_dear) {
    struct permissions_tools *t = p->tools;
    uint32_t visited = 0;
    *too_dear = false;
    if (!p->list[kind])
        return false;
    enum err e = sublist_match(p->list[kind], text, &t->match, &visited);
    *t->work += COST_RULE + (uint64_t)COST_NODE * visited + (uint64_t)COST_RULE * t->match.queue_count;
    *too_dear = e != ERR_OK;
    return e == ERR_OK && (t->match.plain_count != 0 || t->match.queue_count != 0);
}

static bool denies(struct permissions *p, enum book_rule_kind kind, struct view text) {
    bool too_dear;
    return look(p, kind, text, &too_dear) || too_dear;
}

/* The names of queues are text, and so are the wildcards in them; a rule's name may be a pattern. */
static bool queue_is_denied(struct view rule, struct view queue) {
    return view_equal(rule, queue) || (subject_has_wildcard(rule) && subject_matches(rule, queue));
}

static bool queue_is_allowed(struct view rule, struct view queue) {
    return view_equal(rule, queue) || (subject_has_wildcard(rule) && subject_covers(rule, queue));
}

/* Do the queue rules of tools->match, which come from that list, concern the queue? */
static bool queue_denied_among(const struct permissions *p, enum book_rule_kind kind, struct view queue) {
    const struct match *m = &p->tools->match;
    for (uint32_t i = 0; queue.len != 0 && i < m->queue_count; i++)
        if (queue_is_denied(sublist_queue_name(p->list[kind], m->queue[i].queue), queue))
            return true;
    return false;
}

/* ---- what is remembered ---- */

static inline bool is_about(const struct verdict *v, struct view subject) {
    return v->len == subject.len && bytes_equal(v->text, subject.at, subject.len);
}

/* The place of a subject among those that are remembered; null: it has none. */
static inline struct verdict *place_of(struct permissions *p, struct verdict **kept, struct view subject) {
    if (unlikely(!*kept) && !(*kept = calloc(PERMISSIONS_REMEMBERED, sizeof **kept)))
        return NULL;
    uint64_t hash = hash_bytes(p->tools->hash, subject.at, subject.len);
    return &(*kept)[hash & (PERMISSIONS_REMEMBERED - 1)];
}

static inline bool can_be_remembered(struct view subject) {
    return subject.len != 0 && subject.len <= PERMISSIONS_SUBJECT_MAX;
}

static void remember(struct verdict *v, struct view subject, bool allowed) {
    v->allowed = allowed;
    memcpy(v->text, subject.at, subject.len);
    v->len = (uint8_t)subject.len;
}

/* ---- publish ---- */

static bool publish_decide(struct permissions *p, struct view subject) {
    bool too_dear;
    if (!subject_has_tokens(subject))
        return !p->listed[BOOK_PUB_ALLOW];
    if (p->listed[BOOK_PUB_ALLOW] && !look(p, BOOK_PUB_ALLOW, subject, &too_dear))
        return false;
    return !denies(p, BOOK_PUB_DENY, subject);
}

bool permissions_publish(struct permissions *p, struct view subject) {
    if (likely(p->published && is_about(p->published, subject)))
        return p->published->allowed;
    if (unlikely(p->nothing))
        return false;
    if (!p->listed[BOOK_PUB_ALLOW] && !p->list[BOOK_PUB_DENY])
        return true;
    struct verdict *v = can_be_remembered(subject) ? place_of(p, &p->publish, subject) : NULL;
    if (!v)
        return publish_decide(p, subject);
    if (!is_about(v, subject))
        remember(v, subject, publish_decide(p, subject));
    p->published = v;
    return v->allowed;
}

/* ---- subscribe ---- */

/* A rule whose pattern matches the text, which ends in '>' or not, allows all that the text matches. */
static bool allows_all(const struct sub_run *run, bool rest) {
    return !rest || (run->subs[0]->flags & RULE_REST);
}

static bool allowed_plain(const struct match *m, bool rest) {
    for (uint32_t i = 0; i < m->plain_count; i++)
        if (allows_all(&m->plain[i], rest))
            return true;
    return false;
}

/* Where there are queue rules for a subject, they alone say what queues it may be subscribed in. */
static bool subscribe_allowed(struct permissions *p, struct view pattern, struct view queue) {
    bool too_dear, rest = ends_in_rest(pattern);
    if (!p->listed[BOOK_SUB_ALLOW])
        return true;
    if (!look(p, BOOK_SUB_ALLOW, pattern, &too_dear))
        return false;
    const struct match *m = &p->tools->match;
    if (queue.len == 0 || m->queue_count == 0)
        return allowed_plain(m, rest);
    for (uint32_t i = 0; i < m->queue_count; i++)
        if (allows_all(&m->queue[i].run, rest) &&
            queue_is_allowed(sublist_queue_name(p->list[BOOK_SUB_ALLOW], m->queue[i].queue), queue))
            return true;
    return false;
}

static bool subscribe_denied(struct permissions *p, struct view pattern, struct view queue) {
    bool too_dear;
    if (!look(p, BOOK_SUB_DENY, pattern, &too_dear))
        return too_dear;
    return p->tools->match.plain_count != 0 || queue_denied_among(p, BOOK_SUB_DENY, queue);
}

bool permissions_subscribe(struct permissions *p, struct view pattern, struct view queue) {
    if (p->nothing)
        return false;
    if (!subject_has_tokens(pattern))
        return !p->listed[BOOK_SUB_ALLOW];
    return subscribe_allowed(p, pattern, queue) && !subscribe_denied(p, pattern, queue);
}

bool permissions_filters(struct permissions *p, struct view pattern, struct view queue) {
    if (p->nothing)
        return true;
    if (p->overlap_count == 0 || !subject_has_wildcard(pattern))
        return false;
    if (p->overlap_count > PERMISSIONS_OVERLAPS)
        return true;
    *p->tools->work += (uint64_t)COST_RULE * p->overlap_count;
    for (uint32_t i = 0; i < p->overlap_count; i++) {
        struct book_rule rule;
        struct view denied, of_queue;
        uint32_t at = p->overlap[i];
        if (!book_rule_next(&p->head, rules_of(p), &at, &rule, &denied, &of_queue))
            continue;
        bool concerns = of_queue.len == 0 || (queue.len != 0 && queue_is_denied(of_queue, queue));
        if (concerns && subject_overlaps(denied, pattern))
            return true;
    }
    return false;
}

/* ---- deliver ---- */

/* Is there a plain deny rule for the subject? *queued: there are such for queues. */
static bool deliver_decide(struct permissions *p, struct view subject, bool *queued) {
    bool too_dear, found = look(p, BOOK_SUB_DENY, subject, &too_dear);
    *queued = found && p->tools->match.queue_count != 0;
    return !too_dear && !(found && p->tools->match.plain_count != 0);
}

/* The answer for plain subscriptions, unless queues have rules of their own. */
static bool deliver_plain(struct permissions *p, struct view subject, bool *queued) {
    struct verdict *v = can_be_remembered(subject) ? place_of(p, &p->deliver, subject) : NULL;
    *queued = false;
    if (v && is_about(v, subject))
        return v->allowed;
    bool allowed = deliver_decide(p, subject, queued);
    if (v && !*queued)
        remember(v, subject, allowed);
    return allowed;
}

bool permissions_deliver(struct permissions *p, struct view subject, struct view queue, uint64_t message_no) {
    if (unlikely(p->nothing))
        return false;
    if (message_no != 0 && p->message_no == message_no && (queue.len == 0 || !p->message_allowed))
        return p->message_allowed;
    bool queued, allowed = deliver_plain(p, subject, &queued);
    p->message_no = message_no;
    p->message_allowed = allowed;
    return allowed && !(queued && queue_denied_among(p, BOOK_SUB_DENY, queue));
}
