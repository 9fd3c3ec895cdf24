/* SPDX-License-Identifier: Apache-2.0 */
/* router/sublist.h: the subscriptions of an account, found by subject.
 *
 * One sublist per account. Literal subjects lie in a flat hash (8 bytes a slot: tag and index), patterns in a trie
 * whose edges are one hash of (parent, token). A node, for either, holds its plain subscriptions and its queue
 * subscriptions. An account without patterns never touches the trie.
 *
 *        "a.b" --hash--> node ----> plain: [sub, sub, …]
 *                             \---> queue: [(name, [sub, …]), …]
 *
 * A subscription is a `struct sub` that the caller owns; the sublist writes only the fields marked as its own. Tables
 * grow and shrink step by step: no operation stops the world. Nothing here knows links, rings or permissions. A `struct
 * sub` must not move while it is in a sublist.
 */
#ifndef ROUTER_SUBLIST_H
#define ROUTER_SUBLIST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/hash.h"
#include "base/slab.h"
#include "base/view.h"

/* One subscription, in all of the router. 44 bytes. */
struct sub {
    uint32_t conn;      /* connection number on its link */
    uint32_t slot;      /* the edge's number for it */
    uint32_t delivered; /* messages since SUB */
    uint32_t max;       /* ends when delivered reaches it; 0: none */
    uint16_t link;
    uint16_t flags;                /* the router's (router.h) */
    uint32_t stamp;                /* changes when the struct is used for another subscription */
    uint32_t conn_next, conn_prev; /* the router's list of a connection's subscriptions */
    /* the sublist's own */
    uint32_t node;  /* the node, or queue group, that holds it; 0: none */
    uint32_t place; /* its index there, so that removal needs no search */
    uint32_t queue; /* queue name's number, 0 for a plain subscription */
};

struct sublist; /* opaque */

/* A run of subscriptions in the sublist's own memory, good until the next insert or remove. */
struct sub_run {
    struct sub *const *subs;
    uint32_t count;
};

/* A run of one queue group's members under one pattern; several runs may have the same queue: they are one group. The
 * numbers of names (see sublist_queue_name) begin at 1, are not dense, and are reused when a last member has gone. */
struct queue_run {
    uint32_t queue;
    struct sub_run run;
};

/* The result of a match. Arrays belong to the match and grow as needed; reuse one match for many calls. */
struct match {
    struct sub_run *plain;
    uint32_t plain_count, plain_cap;
    uint32_t plain_total; /* subscriptions in all plain runs */
    struct queue_run *queue;
    uint32_t queue_count, queue_cap; /* runs are ordered so that those of one group are neighbours */
    bool queues_sorted;              /* by the numbers of their groups, the lowest first */
};

/* Null if memory is short. key and slab stay the caller's and must outlive the sublist. */
struct sublist *sublist_new(const struct hash_key *key, struct slab *slab);
void sublist_free(struct sublist *s); /* subs that are still in it are left as they are */

/* Hangs sub under a valid pattern (subject_is_pattern), with a queue name or an empty view; neither view is kept.
 * ERR_NOMEM: nothing changed. ERR_LONG: the pattern or the name has more than SUBLIST_TEXT_MAX bytes. */
enum { SUBLIST_TEXT_MAX = 65535 };
enum err sublist_insert(struct sublist *s, struct sub *sub, struct view pattern, struct view queue);
/* sub must be in this sublist. Returns how many trie nodes were freed with it. */
uint32_t sublist_remove(struct sublist *s, struct sub *sub);

/* The price of a subscription, in bytes: a formula of its texts alone, so that the same amount is charged at its insertion and given
 * back at its removal, whatever other subscriptions share its nodes. It is more than all that the subscription can have added to
 * the sublist and to the caller's tables (SUBLIST_SUB_BYTES), and at most about twice that where it shares nothing with others
 * and has no more than PRICE_TOKENS tokens. Each token of a pattern beyond those costs four times as much. */
enum { SUBLIST_SUB_BYTES = sizeof(struct sub) + sizeof(uint32_t), PRICE_TOKENS = 16 };
uint64_t sublist_price(struct view pattern, struct view queue);
/* The price of a subscription that is in this sublist. */
uint64_t sublist_price_of(const struct sublist *s, const struct sub *sub);
/* Memory of tables and nodes, without the subs; 0 when nothing is left in it. sublist_bytes_used
 * leaves out free pieces, which are used again for nodes of the same size. */
uint64_t sublist_bytes(const struct sublist *s);
uint64_t sublist_bytes_used(const struct sublist *s);

/* All subscriptions for a published subject that has tokens (subject_has_tokens); tokens of '*' and '>' in it are
 * literal text. ERR_NOMEM: *m holds nothing. ERR_RANGE: the match was cut after MATCH_VISIT_MAX trie nodes and one more for each byte of
 * the subject, or after MATCH_QUEUES_MAX queue groups; *m holds the subscriptions found until then. Which are found first does
 * not depend on how many others are in the sublist: the literal subject comes before all patterns, of two ways a walk takes the token before the
 * '*', and of the groups of one pattern the oldest come first. A subject of up to MATCH_TOKENS_WHOLE tokens never meets the
 * first bound. *visited (if not null) gets the number of trie nodes visited, 0 in a sublist without patterns. A zeroed struct
 * match is ready. */
enum { MATCH_VISIT_MAX = 4096, MATCH_QUEUES_MAX = 16384, MATCH_TOKENS_WHOLE = 11 };
enum err sublist_match(struct sublist *s, struct view subject, struct match *m, uint32_t *visited);
/* Sorts the groups: m->queues_sorted. */
void match_sort_queues(struct match *m);
/* Prefetches the memory that a match of this subject will look at first, and, if deep, the node behind it (useful some time after
 * the call that was not deep). No effect but on time; the subject may be any bytes. */
void sublist_hint(const struct sublist *s, struct view subject, bool deep);
void match_free(struct match *m);

/* The pattern of sub, written to out (at most cap bytes; returns its full length). */
size_t sublist_pattern(const struct sublist *s, const struct sub *sub, char *out, size_t cap);
/* The name of a queue number, good while a member exists. */
struct view sublist_queue_name(const struct sublist *s, uint32_t queue);

struct sublist_stats {
    uint64_t sub_count;
    uint32_t literal_count; /* distinct literal subjects */
    uint32_t trie_count;    /* trie nodes, with the root */
    uint64_t bytes;         /* sublist_bytes */
};
void sublist_stats(const struct sublist *s, struct sublist_stats *out);

#endif
