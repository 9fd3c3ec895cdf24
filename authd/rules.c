/* SPDX-License-Identifier: Apache-2.0 */
#include "authd/rules.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum { RESPONSES_DEFAULT = 1, RESPONSES_DEFAULT_MS = 2 * 60 * 1000 };

struct rule {
    enum book_rule_kind kind;
    struct view subject, queue;
};

struct rule_list {
    struct arena *arena;
    struct rule *at;
    size_t count, cap;
};

static void add(struct rule_list *list, enum book_rule_kind kind, struct view subject, struct view queue) {
    list->at = arena_grow(list->arena, list->at, list->count, &list->cap, sizeof *list->at);
    list->at[list->count++] = (struct rule){kind, subject, queue};
}

static bool is_blank(char b) {
    return b == ' ' || b == '\t' || b == '\n' || b == '\r' || b == '\f';
}

/* The next word of *text, which is shortened by it; empty at the end. */
static struct view next_word(struct view *text) {
    size_t from = 0;
    while (from < text->len && is_blank(text->at[from]))
        from++;
    size_t to = from;
    while (to < text->len && !is_blank(text->at[to]))
        to++;
    struct view word = view_of(text->at + from, to - from);
    *text = view_of(text->at + to, text->len - to);
    return word;
}

static bool is_subscribe(enum book_rule_kind kind) {
    return kind == BOOK_SUB_ALLOW || kind == BOOK_SUB_DENY;
}

/* A subject to publish to with a queue group behind it matches nothing; a list of allowed subjects stays one. */
static enum err read_list(struct rule_list *list, enum book_rule_kind kind, const struct value *subjects) {
    if (!subjects)
        return ERR_OK;
    if (subjects->type != VALUE_ARRAY)
        return ERR_SYNTAX;
    for (size_t i = 0; i < subjects->array->count; i++) {
        const struct value *v = subjects->array->at[i];
        if (v->type != VALUE_TEXT)
            return ERR_SYNTAX;
        struct view rest = v->text, subject = next_word(&rest), queue = next_word(&rest);
        if (!subject.len || next_word(&rest).len || subject.len > UINT16_MAX || queue.len > UINT16_MAX)
            return ERR_SYNTAX;
        if (!queue.len || is_subscribe(kind))
            add(list, kind, subject, queue);
        else if (kind == BOOK_PUB_ALLOW)
            add(list, kind, VIEW(""), VIEW(""));
    }
    return ERR_OK;
}

static enum err read_side(struct rule_list *list, const struct value *side, enum book_rule_kind allow,
                          enum book_rule_kind deny) {
    if (!side)
        return ERR_OK;
    if (side->type != VALUE_MAP)
        return ERR_SYNTAX;
    enum err e = read_list(list, allow, value_find(side, VIEW("allow")));
    return e == ERR_OK ? read_list(list, deny, value_find(side, VIEW("deny"))) : e;
}

static int64_t read_number(const struct value *map, struct view key) {
    const struct value *v = value_find(map, key);
    return v && v->type == VALUE_INT ? v->number : 0;
}

/* A user with allow_responses and no list of allowed subjects may publish nothing but answers. */
static enum err read_responses(struct rule_list *list, struct book_rules *head, const struct value *permissions) {
    const struct value *responses = value_find(permissions, VIEW("allow_responses"));
    if (!responses)
        return ERR_OK;
    if (responses->type != VALUE_MAP)
        return ERR_SYNTAX;
    int64_t max = read_number(responses, VIEW("max")), ns = read_number(responses, VIEW("expires"));
    head->responses_max = max == 0                           ? RESPONSES_DEFAULT
                          : max < 0 || max >= BOOK_UNLIMITED ? BOOK_UNLIMITED
                                                             : (uint32_t)max;
    head->responses_ms = ns == 0 ? RESPONSES_DEFAULT_MS : ns < 0 ? 0 : ((uint64_t)ns + 999999) / 1000000;
    for (size_t i = 0; i < list->count; i++) {
        if (list->at[i].kind == BOOK_PUB_ALLOW)
            return ERR_OK;
    }
    add(list, BOOK_PUB_ALLOW, VIEW(""), VIEW(""));
    return ERR_OK;
}

static int compare_views(struct view a, struct view b) {
    size_t least = a.len < b.len ? a.len : b.len;
    int order = least ? memcmp(a.at, b.at, least) : 0;
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare(const void *left, const void *right) {
    const struct rule *a = left, *b = right;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    int order = compare_views(a->subject, b->subject);
    return order ? order : compare_views(a->queue, b->queue);
}

static void remove_twins(struct rule_list *list) {
    size_t kept = 0;
    for (size_t i = 0; i < list->count; i++) {
        if (kept == 0 || compare(&list->at[kept - 1], &list->at[i]) != 0)
            list->at[kept++] = list->at[i];
    }
    list->count = kept;
}

static size_t rule_bytes(const struct rule *r) {
    return sizeof(struct book_rule) + r->subject.len + r->queue.len;
}

static void write_rule(uint8_t *at, const struct rule *r) {
    struct book_rule head = {
        .kind = (uint8_t)r->kind, .subject_len = (uint16_t)r->subject.len, .queue_len = (uint16_t)r->queue.len};
    memcpy(at, &head, sizeof head);
    if (r->subject.len)
        memcpy(at + sizeof head, r->subject.at, r->subject.len);
    if (r->queue.len)
        memcpy(at + sizeof head + r->subject.len, r->queue.at, r->queue.len);
}

enum err rules_read(struct rules *rules, const struct value *permissions, struct arena *arena) {
    struct rule_list list = {.arena = arena};
    *rules = (struct rules){0};
    if (permissions->type != VALUE_MAP)
        return ERR_SYNTAX;
    enum err e = read_side(&list, value_find(permissions, VIEW("publish")), BOOK_PUB_ALLOW, BOOK_PUB_DENY);
    if (e == ERR_OK)
        e = read_side(&list, value_find(permissions, VIEW("subscribe")), BOOK_SUB_ALLOW, BOOK_SUB_DENY);
    if (e == ERR_OK)
        e = read_responses(&list, &rules->head, permissions);
    if (e != ERR_OK)
        return e;
    if (list.count)
        qsort(list.at, list.count, sizeof *list.at, compare);
    remove_twins(&list);
    size_t bytes = 0;
    for (size_t i = 0; i < list.count; i++)
        bytes += rule_bytes(&list.at[i]);
    if (bytes > BOOK_RULES_BYTES_MAX)
        return ERR_LONG;
    uint8_t *at = arena_take(arena, bytes + 1);
    rules->bytes = at;
    for (size_t i = 0; i < list.count; at += rule_bytes(&list.at[i++]))
        write_rule(at, &list.at[i]);
    rules->head.count = (uint32_t)list.count;
    rules->head.bytes = (uint32_t)bytes;
    rules_hash(rules->hash, &rules->head, rules->bytes);
    return ERR_OK;
}

bool rules_are_empty(const struct rules *rules) {
    return rules->head.count == 0 && rules->head.responses_max == 0;
}

void rules_hash(uint8_t hash[static RULES_HASH_BYTES], const struct book_rules *head, const void *bytes) {
    struct book_rules content = *head;
    crypto_generichash_state state;
    content.number = 0;
    crypto_generichash_init(&state, NULL, 0, RULES_HASH_BYTES);
    crypto_generichash_update(&state, (const unsigned char *)&content, sizeof content);
    crypto_generichash_update(&state, bytes, head->bytes);
    crypto_generichash_final(&state, hash, RULES_HASH_BYTES);
}
