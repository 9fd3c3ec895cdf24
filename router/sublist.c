/* SPDX-License-Identifier: Apache-2.0 */
/* Literal subjects lie in a table, patterns in the trie of trie.c; here is what hangs at the nodes of both, and the
 * match that brings both together.
 *
 *   literals --tag--> literal: | plain: one sub, or -> [sub, sub, …] | first group | text |
 *                                                                        \-> group: | members | queue | next |
 *
 * The one plain subscription of a subject stands in the node: no array, and the run of a match points there. A member
 * of a queue group hangs at its group, which knows its node: so no removal searches, however many groups or members
 * there are. An insert makes all it needs before it changes what a match can see, and prunes what is bare when it
 * fails.
 */
#include "router/sublist.h"

#include <stdlib.h>

#include "nats/subject.h"
#include "router/sublist_impl.h"

/* --- texts --- */

enum err text_put(struct sublist *s, char *text, struct view from) {
    if (from.len <= TEXT_INLINE_MAX) {
        if (from.len > 0)
            memcpy(text, from.at, from.len);
        return ERR_OK;
    }
    char *copy = malloc(from.len); /* not of the slab, which gives nothing back */
    if (copy == NULL)
        return ERR_NOMEM;
    memcpy(copy, from.at, from.len);
    memcpy(text, &copy, sizeof copy);
    s->side_bytes += from.len;
    return ERR_OK;
}

void text_drop(struct sublist *s, const char *text, uint32_t len) {
    if (len <= TEXT_INLINE_MAX)
        return;
    char *copy;
    memcpy(&copy, text, sizeof copy);
    free(copy);
    s->side_bytes -= len;
}

/* --- subscriptions at one place --- */

enum { ARRAY_CAP_MIN = 4, ARRAY_CAP_DOUBLES = 4096 };

static size_t array_bytes(size_t cap) {
    return offsetof(struct sub_array, subs) + cap * sizeof(struct sub *);
}

static enum err array_resize(struct sublist *s, struct bunch *b, size_t cap) {
    size_t old_bytes = array_bytes(b->many->cap);
    struct sub_array *array = slab_resize(s->slab, b->many, old_bytes, array_bytes(cap));
    if (array == NULL)
        return ERR_NOMEM;
    array->cap = cap;
    b->many = array;
    s->side_bytes += array_bytes(cap) - old_bytes;
    return ERR_OK;
}

static void array_drop(struct sublist *s, struct sub_array *array) {
    size_t bytes = array_bytes(array->cap);
    slab_give(s->slab, array, bytes);
    s->side_bytes -= bytes;
}

static enum err array_new(struct sublist *s, struct bunch *b) {
    struct sub_array *array = slab_take(s->slab, array_bytes(ARRAY_CAP_MIN));
    if (array == NULL)
        return ERR_NOMEM;
    array->cap = ARRAY_CAP_MIN;
    array->subs[0] = b->one;
    b->many = array;
    s->side_bytes += array_bytes(ARRAY_CAP_MIN);
    return ERR_OK;
}

static enum err bunch_add(struct sublist *s, struct bunch *b, struct sub *sub) {
    if (b->count == 0) {
        b->one = sub;
    } else {
        enum err e = ERR_OK;
        if (b->count == 1)
            e = array_new(s, b);
        else if (b->count == b->many->cap)
            e = array_resize(s, b, b->many->cap < ARRAY_CAP_DOUBLES ? b->count * 2u : b->count + (size_t)b->count / 2);
        if (e != ERR_OK)
            return e;
        b->many->subs[b->count] = sub;
    }
    sub->place = b->count++;
    return ERR_OK;
}

static void bunch_remove(struct sublist *s, struct bunch *b, struct sub *sub) {
    check(sub->place < b->count);
    if (b->count == 1) {
        check(b->one == sub);
        b->one = NULL;
        b->count = 0;
        return;
    }
    struct sub_array *array = b->many;
    check(array->subs[sub->place] == sub);
    struct sub *last = array->subs[--b->count];
    array->subs[sub->place] = last;
    last->place = sub->place;
    if (b->count == 1) {
        b->one = array->subs[0];
        array_drop(s, array);
    } else if (array->cap > ARRAY_CAP_MIN && b->count <= array->cap / 4) {
        array_resize(s, b, array->cap / 2); /* without memory for it the array stays as it is */
    }
}

static void bunch_drop(struct sublist *s, struct bunch *b) {
    if (b->count > 1)
        array_drop(s, b->many);
}

static struct sub_run bunch_run(const struct bunch *b) {
    return (struct sub_run){.subs = b->count == 1 ? &b->one : b->many->subs, .count = b->count};
}

/* --- literal subjects --- */

static inline uint32_t literal_find(const struct sublist *s, struct view text, uint32_t tag) {
    struct table_seek seek = table_seek(&s->literals, tag);
    uint32_t ref;
    while ((ref = table_next(&s->literals, &seek)) != 0) {
        const struct literal *n = pool_at(&s->pool, ref);
        if (likely(text_equal(n->text, n->len, text)))
            break;
    }
    return ref;
}

static enum err literal_make(struct sublist *s, struct view text, uint32_t *ref) {
    uint32_t tag = tag_of(hash_bytes(s->key, text.at, text.len));
    *ref = literal_find(s, text, tag);
    if (*ref != 0)
        return ERR_OK;
    struct literal *n = pool_take(&s->pool, offsetof(struct literal, text) + text_room(text.len), ref);
    if (n == NULL)
        return ERR_NOMEM;
    n->plain = (struct bunch){.one = NULL};
    n->len = (uint32_t)text.len;
    if (text_put(s, n->text, text) != ERR_OK) {
        pool_give(&s->pool, *ref);
        return ERR_NOMEM;
    }
    if (table_insert(&s->literals, tag, *ref) != ERR_OK) {
        text_drop(s, n->text, n->len);
        pool_give(&s->pool, *ref);
        return ERR_NOMEM;
    }
    return ERR_OK;
}

static void literal_prune(struct sublist *s, uint32_t ref) {
    const struct literal *n = pool_at(&s->pool, ref);
    if (!node_is_bare(&n->plain))
        return;
    struct view text = text_view(n->text, n->len);
    table_remove(&s->literals, tag_of(hash_bytes(s->key, text.at, text.len)), ref);
    text_drop(s, n->text, n->len);
    pool_give(&s->pool, ref);
}

/* --- nodes of either kind --- */

static struct bunch *node_plain(const struct sublist *s, uint32_t node) {
    return pool_at(&s->pool, node & ~NODE_IN_TRIE);
}

static enum err node_make(struct sublist *s, struct view pattern, uint32_t *node) {
    if (!subject_has_wildcard(pattern))
        return literal_make(s, pattern, node);
    uint32_t ref;
    enum err e = trie_make(s, pattern, &ref);
    if (e == ERR_OK)
        *node = ref | NODE_IN_TRIE;
    return e;
}

/* Returns how many trie nodes were freed. */
static uint32_t node_prune(struct sublist *s, uint32_t node) {
    if (node & NODE_IN_TRIE)
        return trie_prune(s, node & ~NODE_IN_TRIE);
    literal_prune(s, node);
    return 0;
}

/* --- queue names --- */

static struct queue_name *name_at(const struct sublist *s, uint32_t ref) {
    return pool_at(&s->pool, ref);
}

static uint32_t name_tag(const struct sublist *s, struct view text) {
    return tag_of(hash_bytes(s->key, text.at, text.len));
}

static enum err name_make(struct sublist *s, struct view text, uint32_t *ref) {
    uint32_t tag = name_tag(s, text);
    struct table_seek seek = table_seek(&s->names, tag);
    while ((*ref = table_next(&s->names, &seek)) != 0) {
        const struct queue_name *known = name_at(s, *ref);
        if (text_equal(known->text, known->len, text))
            return ERR_OK;
    }
    struct queue_name *name = pool_take(&s->pool, offsetof(struct queue_name, text) + text_room(text.len), ref);
    if (name == NULL)
        return ERR_NOMEM;
    name->group_count = 0;
    name->len = (uint32_t)text.len;
    if (text_put(s, name->text, text) != ERR_OK) {
        pool_give(&s->pool, *ref);
        return ERR_NOMEM;
    }
    if (table_insert(&s->names, tag, *ref) != ERR_OK) {
        text_drop(s, name->text, name->len);
        pool_give(&s->pool, *ref);
        return ERR_NOMEM;
    }
    return ERR_OK;
}

static void name_prune(struct sublist *s, uint32_t ref) {
    const struct queue_name *name = name_at(s, ref);
    if (name->group_count > 0)
        return;
    table_remove(&s->names, name_tag(s, text_view(name->text, name->len)), ref);
    text_drop(s, name->text, name->len);
    pool_give(&s->pool, ref);
}

/* --- queue groups at a node --- */

static struct group *group_at(const struct sublist *s, uint32_t ref) {
    return pool_at(&s->pool, ref);
}

static uint32_t group_tag(const struct sublist *s, uint32_t node, uint32_t queue) {
    return tag_of(hash_pair(s->key, node, queue));
}

static enum err group_make(struct sublist *s, uint32_t node, uint32_t queue, uint32_t *ref) {
    uint32_t tag = group_tag(s, node, queue);
    struct table_seek seek = table_seek(&s->groups, tag);
    while ((*ref = table_next(&s->groups, &seek)) != 0) {
        const struct group *known = group_at(s, *ref);
        if (known->node == node && known->members.queue == queue)
            return ERR_OK;
    }
    struct group *group = pool_take(&s->pool, sizeof *group, ref);
    if (group == NULL)
        return ERR_NOMEM;
    if (table_insert(&s->groups, tag, *ref) != ERR_OK) {
        pool_give(&s->pool, *ref);
        return ERR_NOMEM;
    }
    struct bunch *plain = node_plain(s, node);
    *group = (struct group){.members = {.one = NULL, .queue = queue}, .node = node, .prev = *ref};
    if (plain->first_group == 0) {
        plain->first_group = *ref;
    } else {
        struct group *oldest = group_at(s, plain->first_group);
        group->prev = oldest->prev;
        group_at(s, oldest->prev)->next = *ref;
        oldest->prev = *ref;
    }
    name_at(s, queue)->group_count++;
    return ERR_OK;
}

static void group_prune(struct sublist *s, uint32_t ref) {
    const struct group *group = group_at(s, ref);
    if (group->members.count > 0)
        return;
    struct bunch *plain = node_plain(s, group->node);
    uint32_t oldest = plain->first_group == ref ? group->next : plain->first_group;
    if (plain->first_group != ref)
        group_at(s, group->prev)->next = group->next;
    if (oldest != 0)
        group_at(s, group->next != 0 ? group->next : oldest)->prev = group->prev;
    plain->first_group = oldest;
    uint32_t queue = group->members.queue;
    table_remove(&s->groups, group_tag(s, group->node, queue), ref);
    pool_give(&s->pool, ref);
    name_at(s, queue)->group_count--;
    name_prune(s, queue);
}

static enum err member_add(struct sublist *s, uint32_t node, struct sub *sub, struct view queue) {
    uint32_t name, group;
    enum err e = name_make(s, queue, &name);
    if (e != ERR_OK)
        return e;
    e = group_make(s, node, name, &group);
    if (e != ERR_OK) {
        name_prune(s, name);
        return e;
    }
    e = bunch_add(s, &group_at(s, group)->members, sub);
    if (e != ERR_OK) {
        group_prune(s, group);
        return e;
    }
    sub->node = group;
    sub->queue = name;
    return ERR_OK;
}

/* --- the match --- */

static enum err plain_grow(struct match *m) {
    uint32_t cap = m->plain_cap == 0 ? 8 : m->plain_cap * 2;
    struct sub_run *plain = realloc(m->plain, cap * sizeof *plain);
    if (plain == NULL)
        return ERR_NOMEM;
    m->plain = plain;
    m->plain_cap = cap;
    return ERR_OK;
}

static enum err queue_grow(struct match *m) {
    uint32_t cap = m->queue_cap == 0 ? 8 : m->queue_cap * 2;
    struct queue_run *queue = realloc(m->queue, cap * sizeof *queue);
    if (queue == NULL)
        return ERR_NOMEM;
    m->queue = queue;
    m->queue_cap = cap;
    return ERR_OK;
}

static enum err gather_groups(const struct sublist *s, struct gather *g, uint32_t first) {
    struct match *m = g->match;
    g->queue_sources++;
    for (uint32_t ref = first; ref != 0;) {
        const struct group *group = group_at(s, ref);
        if (unlikely(m->queue_count == MATCH_QUEUES_MAX))
            return ERR_RANGE;
        if (m->queue_count == m->queue_cap && queue_grow(m) != ERR_OK)
            return ERR_NOMEM;
        m->queue[m->queue_count++] = (struct queue_run){group->members.queue, bunch_run(&group->members)};
        ref = group->next;
    }
    return ERR_OK;
}

static inline enum err gather_into(const struct sublist *s, struct gather *g, const struct bunch *plain) {
    struct match *m = g->match;
    if (likely(plain->count > 0)) {
        if (unlikely(m->plain_count == m->plain_cap) && plain_grow(m) != ERR_OK)
            return ERR_NOMEM;
        m->plain[m->plain_count++] = bunch_run(plain);
        m->plain_total += plain->count;
    }
    return likely(plain->first_group == 0) ? ERR_OK : gather_groups(s, g, plain->first_group);
}

enum err gather_node(const struct sublist *s, struct gather *g, const struct bunch *plain) {
    return gather_into(s, g, plain);
}

static void sift_down(struct queue_run *runs, uint32_t count, uint32_t at) {
    struct queue_run moved = runs[at];
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= count)
            break;
        if (child + 1 < count && runs[child + 1].queue > runs[child].queue)
            child++;
        if (runs[child].queue <= moved.queue)
            break;
        runs[at] = runs[child];
        at = child;
    }
    runs[at] = moved;
}

/* By name's number, which makes neighbours of those of one group. A heap needs no memory and has no bad input. */
static void sort_queues(struct queue_run *runs, uint32_t count) {
    for (uint32_t i = count / 2; i-- > 0;)
        sift_down(runs, count, i);
    for (uint32_t end = count; end-- > 1;) {
        struct queue_run top = runs[0];
        runs[0] = runs[end];
        runs[end] = top;
        sift_down(runs, end, 0);
    }
}

static void match_clear(struct match *m) {
    m->plain_count = m->plain_total = m->queue_count = 0;
    m->queues_sorted = false;
}

void match_sort_queues(struct match *m) {
    sort_queues(m->queue, m->queue_count);
    m->queues_sorted = true;
}

/* --- the price --- */

enum {
    PRICE_SUB = SUBLIST_SUB_BYTES + 24, /* with its place in an array: half of that is unused, and it has a head */
    PRICE_NODE = 80,                    /* a node without its text, and up to 32 bytes in a table that is moving */
    PRICE_GROUP = 160                   /* the same of a group and of its name */
};

/* Long texts are rounded up, and have a pointer and the C library's own word. */
static uint64_t text_price(size_t len) {
    return len + len / 8;
}

static uint64_t price(struct pattern_size size, size_t queue_len) {
    uint64_t nodes = size.tokens <= PRICE_TOKENS ? size.tokens : 4u * size.tokens - 3u * PRICE_TOKENS;
    return PRICE_SUB + PRICE_NODE * nodes + text_price(size.len) +
           (queue_len > 0 ? PRICE_GROUP + text_price(queue_len) : 0);
}

uint64_t sublist_price(struct view pattern, struct view queue) {
    bool literal = !subject_has_wildcard(pattern); /* one node, however many tokens */
    return price((struct pattern_size){pattern.len, literal ? 1 : subject_token_count(pattern)}, queue.len);
}

static uint32_t sub_node(const struct sublist *s, const struct sub *sub) {
    check(sub->node != 0);
    return sub->queue != 0 ? group_at(s, sub->node)->node : sub->node;
}

uint64_t sublist_price_of(const struct sublist *s, const struct sub *sub) {
    uint32_t node = sub_node(s, sub);
    struct pattern_size size = {.tokens = 1};
    if (node & NODE_IN_TRIE)
        size = trie_pattern_size(s, node & ~NODE_IN_TRIE);
    else
        size.len = ((const struct literal *)pool_at(&s->pool, node))->len;
    return price(size, sub->queue != 0 ? name_at(s, sub->queue)->len : 0);
}

/* --- for callers --- */

struct sublist *sublist_new(const struct hash_key *key, struct slab *slab) {
    struct sublist *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->key = key;
    s->slab = slab;
    return s;
}

static void drop_literal(void *context, uint32_t ref) {
    struct sublist *s = context;
    struct literal *n = pool_at(&s->pool, ref);
    bunch_drop(s, &n->plain);
    text_drop(s, n->text, n->len);
}

static void drop_group(void *context, uint32_t ref) {
    struct sublist *s = context;
    bunch_drop(s, &group_at(s, ref)->members);
}

static void drop_name(void *context, uint32_t ref) {
    struct sublist *s = context;
    text_drop(s, name_at(s, ref)->text, name_at(s, ref)->len);
}

static void drop_trie_node(struct sublist *s, struct trie_node *n) {
    bunch_drop(s, &n->plain);
    text_drop(s, n->token, n->len);
}

void sublist_free(struct sublist *s) {
    if (s == NULL)
        return;
    table_each(&s->literals, drop_literal, s);
    table_each(&s->groups, drop_group, s);
    table_each(&s->names, drop_name, s);
    trie_each(s, drop_trie_node);
    walk_free(s);
    table_free(&s->literals);
    table_free(&s->edges);
    table_free(&s->groups);
    table_free(&s->names);
    pool_free(&s->pool);
    free(s);
}

enum err sublist_insert(struct sublist *s, struct sub *sub, struct view pattern, struct view queue) {
    if (pattern.len > SUBLIST_TEXT_MAX || queue.len > SUBLIST_TEXT_MAX)
        return ERR_LONG;
    uint32_t node;
    enum err e = node_make(s, pattern, &node);
    if (e != ERR_OK)
        return e;
    if (queue.len > 0) {
        e = member_add(s, node, sub, queue);
    } else {
        e = bunch_add(s, node_plain(s, node), sub);
        if (e == ERR_OK) {
            sub->node = node;
            sub->queue = 0;
        }
    }
    if (e != ERR_OK) {
        node_prune(s, node);
        return e;
    }
    s->sub_count++;
    return ERR_OK;
}

uint32_t sublist_remove(struct sublist *s, struct sub *sub) {
    check(sub->node != 0);
    uint32_t node = sub->node;
    if (sub->queue != 0) {
        uint32_t group = sub->node;
        node = group_at(s, group)->node;
        bunch_remove(s, &group_at(s, group)->members, sub);
        group_prune(s, group);
    } else {
        bunch_remove(s, node_plain(s, node), sub);
    }
    sub->node = sub->place = sub->queue = 0;
    s->sub_count--;
    return node_prune(s, node);
}

enum err sublist_match(struct sublist *s, struct view subject, struct match *m, uint32_t *visited) {
    struct gather g = {.match = m, .queue_sources = 0};
    uint32_t visit_count = 0;
    enum err e = ERR_OK;
    match_clear(m);
    uint32_t ref = literal_find(s, subject, tag_of(hash_bytes(s->key, subject.at, subject.len)));
    if (ref != 0)
        e = gather_into(s, &g, node_plain(s, ref));
    if (s->root != 0 && e == ERR_OK)
        e = trie_match(s, subject, &g, &visit_count);
    if (unlikely(g.queue_sources > 1))
        match_sort_queues(m);
    if (unlikely(s->literals.old != NULL))
        table_step(&s->literals);
    if (unlikely(s->edges.old != NULL))
        table_step(&s->edges);
    if (unlikely(e == ERR_NOMEM))
        match_clear(m);
    if (visited != NULL)
        *visited = visit_count;
    return e;
}

void sublist_hint(const struct sublist *s, struct view subject, bool deep) {
    if (s->literals.slots == NULL)
        return;
    struct table_seek seek = table_seek(&s->literals, tag_of(hash_bytes(s->key, subject.at, subject.len)));
    if (!deep) {
        __builtin_prefetch(&seek.slots[seek.pos]);
        return;
    }
    uint32_t ref = table_next(&s->literals, &seek);
    if (ref != 0)
        __builtin_prefetch(pool_at(&s->pool, ref));
}

void match_free(struct match *m) {
    free(m->plain);
    free(m->queue);
    *m = (struct match){0};
}

size_t sublist_pattern(const struct sublist *s, const struct sub *sub, char *out, size_t cap) {
    uint32_t node = sub_node(s, sub);
    if (node & NODE_IN_TRIE)
        return trie_pattern(s, node & ~NODE_IN_TRIE, out, cap);
    const struct literal *n = pool_at(&s->pool, node);
    struct view text = text_view(n->text, n->len);
    if (cap > 0)
        memcpy(out, text.at, text.len < cap ? text.len : cap);
    return text.len;
}

struct view sublist_queue_name(const struct sublist *s, uint32_t queue) {
    const struct queue_name *name = name_at(s, queue);
    return text_view(name->text, name->len);
}

uint64_t sublist_bytes(const struct sublist *s) {
    return s->pool.bytes + s->side_bytes + table_bytes(&s->literals) + table_bytes(&s->edges) +
           table_bytes(&s->groups) + table_bytes(&s->names);
}

uint64_t sublist_bytes_used(const struct sublist *s) {
    return sublist_bytes(s) - s->pool.bytes + s->pool.used;
}

void sublist_stats(const struct sublist *s, struct sublist_stats *out) {
    *out = (struct sublist_stats){
        .sub_count = s->sub_count,
        .literal_count = s->literals.count,
        .trie_count = s->trie_count,
        .bytes = sublist_bytes(s),
    };
}
