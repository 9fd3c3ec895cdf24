/* SPDX-License-Identifier: Apache-2.0 */
/* router/sublist_impl.h: what sublist.c and trie.c share. Nobody else includes it.
 *
 * Every node, group and queue name is a piece of the sublist's pool and is named by its reference. References of trie
 * nodes carry NODE_IN_TRIE where both kinds of node can stand: in sub->node and group->node.
 */
#ifndef ROUTER_SUBLIST_IMPL_H
#define ROUTER_SUBLIST_IMPL_H

#include "base/check.h"
#include "base/pool.h"
#include "router/sublist.h"
#include "router/table.h"

#define NODE_IN_TRIE (UINT32_C(1) << POOL_REF_BITS)

/* Subscriptions that hang at one place. */
struct sub_array {
    size_t cap;
    struct sub *subs[];
};

struct bunch {
    union {
        struct sub *one;        /* count is 0 or 1; null if 0 */
        struct sub_array *many; /* count is 2 or more */
    };
    uint32_t count;
    union {
        uint32_t first_group; /* a node's plain subscriptions: beside them are these groups; 0: none */
        uint32_t queue;       /* a group's subscriptions: the name */
    };
};

/* The members of one queue at one node. */
struct group {
    struct bunch members;
    uint32_t node;
    uint32_t next, prev; /* groups of the same node, oldest first; prev of the oldest is the newest */
};

/* A text of a piece: the bytes themselves, or beyond TEXT_INLINE_MAX a pointer to them. */
enum { TEXT_INLINE_MAX = 200 };

struct queue_name {
    uint32_t group_count;
    uint32_t len;
    char text[];
};

struct literal {
    struct bunch plain; /* first, as in a trie_node */
    uint32_t len;
    char text[];
};

struct trie_node {
    struct bunch plain;  /* first, as in a literal */
    uint32_t parent;     /* 0: the root */
    uint32_t star;       /* the child for '*', or 0 */
    uint32_t rest;       /* the child for '>', or 0; it has no children */
    uint32_t edge_count; /* children for other tokens */
    uint32_t len;
    char token[];
};

/* A token of the subject that is being matched. */
struct token {
    uint32_t pos, len;
    uint64_t hash;
};

/* A place in the trie to come back to, with the tokens that lead there. */
struct turn {
    uint32_t node;
    uint32_t depth;
};

/* Memory of a walk, kept for the next one while the trie has nodes. Its size is bounded by the deepest pattern. */
struct walk {
    struct token *tokens;
    uint32_t token_cap;
    struct turn *turns;
    uint32_t turn_cap;
};

struct sublist {
    const struct hash_key *key;
    struct slab *slab;
    struct pool pool;
    struct table literals; /* text -> struct literal */
    struct table edges;    /* parent, token -> struct trie_node */
    struct table groups;   /* node, queue -> struct group */
    struct table names;    /* text -> struct queue_name */
    uint32_t root;         /* 0: no patterns */
    uint32_t trie_count;
    uint64_t sub_count;
    size_t side_bytes; /* arrays of subscriptions, long texts, the walk */
    struct walk walk;
};

/* A match in the making. */
struct gather {
    struct match *match;
    uint32_t queue_sources; /* nodes that gave queue runs */
};

static inline uint32_t tag_of(uint64_t hash) {
    return (uint32_t)(hash >> 32);
}

/* Subjects are short: a call of memcmp costs more than the comparison. */
static inline bool bytes_equal(const char *a, const char *b, size_t len) {
    const unsigned char *x = (const unsigned char *)a, *y = (const unsigned char *)b;
    if (len > 64)
        return memcmp(a, b, len) == 0;
    if (len >= 8) {
        for (size_t i = 0; i + 8 <= len; i += 8) {
            if (hash_load64(x + i) != hash_load64(y + i))
                return false;
        }
        return hash_load64(x + len - 8) == hash_load64(y + len - 8);
    }
    if (len >= 4)
        return hash_load32(x) == hash_load32(y) && hash_load32(x + len - 4) == hash_load32(y + len - 4);
    for (size_t i = 0; i < len; i++) {
        if (x[i] != y[i])
            return false;
    }
    return true;
}

static inline size_t text_room(size_t len) {
    return len <= TEXT_INLINE_MAX ? len : sizeof(char *);
}

static inline struct view text_view(const char *text, uint32_t len) {
    const char *at = text;
    if (unlikely(len > TEXT_INLINE_MAX))
        memcpy(&at, text, sizeof at);
    return view_of(at, len);
}

static inline bool text_equal(const char *text, uint32_t len, struct view v) {
    return len == v.len && bytes_equal(text_view(text, len).at, v.at, len);
}

enum err text_put(struct sublist *s, char *text, struct view from);
void text_drop(struct sublist *s, const char *text, uint32_t len);

/* True if nothing hangs at the node itself. */
static inline bool node_is_bare(const struct bunch *plain) {
    return plain->count == 0 && plain->first_group == 0;
}

/* Adds a node's subscriptions to the match. */
enum err gather_node(const struct sublist *s, struct gather *g, const struct bunch *plain);

/* The node of a pattern that has a wildcard, made if it is not there. ERR_NOMEM: nothing changed. */
enum err trie_make(struct sublist *s, struct view pattern, uint32_t *ref);
/* Frees the node if nothing hangs there or below, then its parents likewise. Returns how many were freed. */
uint32_t trie_prune(struct sublist *s, uint32_t ref);
/* Adds what matches to g. ERR_NOMEM, ERR_RANGE: as sublist_match. */
enum err trie_match(struct sublist *s, struct view subject, struct gather *g, uint32_t *visited);
/* Tokens of the pattern of a node, and its length; nothing is copied. */
struct pattern_size {
    size_t len;
    uint32_t tokens;
};
struct pattern_size trie_pattern_size(const struct sublist *s, uint32_t ref);
size_t trie_pattern(const struct sublist *s, uint32_t ref, char *out, size_t cap);
/* Calls drop for every trie node, in no order; drop must not touch the trie. */
void trie_each(struct sublist *s, void (*drop)(struct sublist *s, struct trie_node *n));
void walk_free(struct sublist *s);

#endif
