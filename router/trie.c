/* SPDX-License-Identifier: Apache-2.0 */
/* The patterns of a sublist: a trie by tokens. The edges of all nodes are one table of (parent, token); '*' and '>' are
 * fields of the parent, for a walk has to look at both everywhere.
 *
 *   root --"a"--> (a) --star--> (a.*) --"c"--> (a.*.c)
 *                   \---rest--> (a.>)
 *
 * A walk goes down one branch and remembers the other on a stack of its own: the stack has at most one entry per level,
 * so neither a deep subject nor a deep pattern can exhaust anything. A node has one way from the root, so a walk visits
 * no node twice; MATCH_VISIT_MAX is for subjects that meet thousands of patterns. Tokens of a published subject are
 * only ever looked up as edges, which is why a published '*' meets the wildcard patterns and nothing else.
 */
#include <stdlib.h>

#include "router/sublist_impl.h"

static struct trie_node *node_at(const struct sublist *s, uint32_t ref) {
    return pool_at(&s->pool, ref);
}

static uint64_t token_hash(const struct sublist *s, struct view token) {
    return hash_bytes(s->key, token.at, token.len);
}

static uint32_t edge_tag(const struct sublist *s, uint32_t parent, uint64_t hash) {
    return tag_of(hash_pair(s->key, parent, hash));
}

static uint32_t edge_find(const struct sublist *s, uint32_t parent, struct view token, uint64_t hash) {
    struct table_seek seek = table_seek(&s->edges, edge_tag(s, parent, hash));
    uint32_t ref;
    while ((ref = table_next(&s->edges, &seek)) != 0) {
        const struct trie_node *n = node_at(s, ref);
        if (n->parent == parent && text_equal(n->token, n->len, token))
            break;
    }
    return ref;
}

/* The token that starts at pos; '.' or the text's end ends it. */
static struct view token_at(struct view text, size_t pos) {
    const char *start = text.at + pos;
    const char *dot = memchr(start, '.', text.len - pos);
    return view_of(start, dot ? (size_t)(dot - start) : text.len - pos);
}

static struct trie_node *node_new(struct sublist *s, uint32_t parent, struct view token, uint32_t *ref) {
    struct trie_node *n = pool_take(&s->pool, offsetof(struct trie_node, token) + text_room(token.len), ref);
    if (n == NULL)
        return NULL;
    n->plain = (struct bunch){.one = NULL};
    n->parent = parent;
    n->star = n->rest = n->edge_count = 0;
    n->len = (uint32_t)token.len;
    if (text_put(s, n->token, token) != ERR_OK) {
        pool_give(&s->pool, *ref);
        return NULL;
    }
    s->trie_count++;
    return n;
}

static void node_free(struct sublist *s, uint32_t ref) {
    const struct trie_node *n = node_at(s, ref);
    text_drop(s, n->token, n->len);
    pool_give(&s->pool, ref);
    s->trie_count--;
}

/* The child under a token, made if it is not there. */
static enum err child_make(struct sublist *s, uint32_t parent_ref, struct view token, uint32_t *ref) {
    struct trie_node *parent = node_at(s, parent_ref);
    uint32_t *wild = NULL;
    if (token.len == 1 && token.at[0] == '*')
        wild = &parent->star;
    else if (token.len == 1 && token.at[0] == '>')
        wild = &parent->rest;
    uint64_t hash = wild ? 0 : token_hash(s, token);
    *ref = wild ? *wild : edge_find(s, parent_ref, token, hash);
    if (*ref != 0)
        return ERR_OK;
    if (node_new(s, parent_ref, token, ref) == NULL)
        return ERR_NOMEM;
    if (wild != NULL) {
        *wild = *ref;
        return ERR_OK;
    }
    if (table_insert(&s->edges, edge_tag(s, parent_ref, hash), *ref) != ERR_OK) {
        node_free(s, *ref);
        return ERR_NOMEM;
    }
    parent->edge_count++;
    return ERR_OK;
}

enum err trie_make(struct sublist *s, struct view pattern, uint32_t *ref) {
    if (s->root == 0 && node_new(s, 0, view_of(NULL, 0), &s->root) == NULL)
        return ERR_NOMEM;
    uint32_t at = s->root;
    for (size_t pos = 0; pos <= pattern.len;) {
        struct view token = token_at(pattern, pos);
        uint32_t child;
        if (child_make(s, at, token, &child) != ERR_OK) {
            trie_prune(s, at);
            return ERR_NOMEM;
        }
        at = child;
        pos += token.len + 1;
    }
    *ref = at;
    return ERR_OK;
}

static void child_unlink(struct sublist *s, const struct trie_node *n, uint32_t ref) {
    struct trie_node *parent = node_at(s, n->parent);
    if (parent->star == ref) {
        parent->star = 0;
    } else if (parent->rest == ref) {
        parent->rest = 0;
    } else {
        uint64_t hash = token_hash(s, text_view(n->token, n->len));
        table_remove(&s->edges, edge_tag(s, n->parent, hash), ref);
        check(parent->edge_count > 0);
        parent->edge_count--;
    }
}

uint32_t trie_prune(struct sublist *s, uint32_t ref) {
    uint32_t freed = 0;
    for (; ref != 0; freed++) {
        const struct trie_node *n = node_at(s, ref);
        if (!node_is_bare(&n->plain) || n->star != 0 || n->rest != 0 || n->edge_count > 0)
            break;
        uint32_t parent = n->parent;
        if (parent != 0)
            child_unlink(s, n, ref);
        node_free(s, ref);
        if (parent == 0) {
            s->root = 0;
            walk_free(s);
        }
        ref = parent;
    }
    return freed;
}

/* An array of twice the capacity, at least 32; null when memory is short. */
static void *scratch_grow(struct sublist *s, void *array, uint32_t *cap, size_t size) {
    uint32_t new_cap = *cap == 0 ? 32 : *cap * 2;
    void *grown = realloc(array, new_cap * size);
    if (grown == NULL)
        return NULL;
    s->side_bytes += (new_cap - *cap) * size;
    *cap = new_cap;
    return grown;
}

void walk_free(struct sublist *s) {
    struct walk *w = &s->walk;
    s->side_bytes -= w->token_cap * sizeof *w->tokens + w->turn_cap * sizeof *w->turns;
    free(w->tokens);
    free(w->turns);
    *w = (struct walk){0};
}

/* Cuts the next token off the subject; tokens are cut and hashed once, when a walk first gets that deep. */
static enum err token_learn(struct sublist *s, struct view subject, uint32_t index) {
    struct walk *w = &s->walk;
    if (index == w->token_cap) {
        struct token *tokens = scratch_grow(s, w->tokens, &w->token_cap, sizeof *tokens);
        if (tokens == NULL)
            return ERR_NOMEM;
        w->tokens = tokens;
    }
    uint32_t pos = index == 0 ? 0 : w->tokens[index - 1].pos + w->tokens[index - 1].len + 1;
    struct view token = token_at(subject, pos);
    w->tokens[index] = (struct token){.pos = pos, .len = (uint32_t)token.len, .hash = token_hash(s, token)};
    return ERR_OK;
}

static enum err turn_push(struct sublist *s, uint32_t top, struct turn turn) {
    struct walk *w = &s->walk;
    if (top == w->turn_cap) {
        struct turn *turns = scratch_grow(s, w->turns, &w->turn_cap, sizeof *turns);
        if (turns == NULL)
            return ERR_NOMEM;
        w->turns = turns;
    }
    w->turns[top] = turn;
    return ERR_OK;
}

enum err trie_match(struct sublist *s, struct view subject, struct gather *g, uint32_t *visited) {
    struct turn at = {s->root, 0};
    uint32_t top = 0, known = 0, most = MATCH_VISIT_MAX + (uint32_t)subject.len;
    for (;;) {
        if (++*visited > most)
            return ERR_RANGE;
        const struct trie_node *n = node_at(s, at.node);
        uint32_t edge = 0, star = 0;
        bool at_end =
            at.depth > 0 && s->walk.tokens[at.depth - 1].pos + s->walk.tokens[at.depth - 1].len == subject.len;
        if (at_end) {
            enum err e = gather_node(s, g, &n->plain);
            if (unlikely(e != ERR_OK))
                return e;
        } else {
            enum err e = n->rest != 0 ? gather_node(s, g, &node_at(s, n->rest)->plain) : ERR_OK;
            if (unlikely(e != ERR_OK))
                return e;
            star = n->star;
            if (at.depth == known && (star != 0 || n->edge_count > 0)) {
                if (token_learn(s, subject, known) != ERR_OK)
                    return ERR_NOMEM;
                known++;
            }
            if (n->edge_count > 0) {
                const struct token *t = &s->walk.tokens[at.depth];
                edge = edge_find(s, at.node, view_of(subject.at + t->pos, t->len), t->hash);
            }
        }
        if (edge != 0 && star != 0 && turn_push(s, top++, (struct turn){star, at.depth + 1}) != ERR_OK)
            return ERR_NOMEM;
        if (edge != 0 || star != 0)
            at = (struct turn){edge != 0 ? edge : star, at.depth + 1};
        else if (top > 0)
            at = s->walk.turns[--top];
        else
            return ERR_OK;
    }
}

struct pattern_size trie_pattern_size(const struct sublist *s, uint32_t ref) {
    struct pattern_size size = {0, 0};
    for (const struct trie_node *n = node_at(s, ref); n->parent != 0; n = node_at(s, n->parent)) {
        size.len += n->len + (size.tokens > 0 ? 1 : 0);
        size.tokens++;
    }
    return size;
}

size_t trie_pattern(const struct sublist *s, uint32_t ref, char *out, size_t cap) {
    size_t len = trie_pattern_size(s, ref).len;
    size_t end = len;
    for (const struct trie_node *n = node_at(s, ref); n->parent != 0; n = node_at(s, n->parent)) {
        if (end < len && --end < cap)
            out[end] = '.';
        struct view token = text_view(n->token, n->len);
        end -= token.len;
        if (end < cap)
            memcpy(out + end, token.at, token.len < cap - end ? token.len : cap - end);
    }
    return len;
}

struct each_context {
    struct sublist *s;
    void (*drop)(struct sublist *s, struct trie_node *n);
};

/* A node that is an edge, or the root, then what is reached from it by wildcards alone: that is every node once. */
static void each_from(void *context, uint32_t ref) {
    struct each_context *c = context;
    while (ref != 0) {
        struct trie_node *n = node_at(c->s, ref);
        if (n->rest != 0)
            c->drop(c->s, node_at(c->s, n->rest));
        ref = n->star;
        c->drop(c->s, n);
    }
}

void trie_each(struct sublist *s, void (*drop)(struct sublist *s, struct trie_node *n)) {
    struct each_context context = {s, drop};
    table_each(&s->edges, each_from, &context);
    each_from(&context, s->root);
}
