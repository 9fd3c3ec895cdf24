/* SPDX-License-Identifier: Apache-2.0 */
/* router/permissions.h: permission sets, compiled.
 *
 * A set comes from the account book under a number and never changes; all connections that have it share it. It is
 * compiled when it is first needed, in steps, into one sublist for each of its four lists:
 *
 *   publish allow, publish deny, subscribe allow, subscribe deny:     subject pattern [queue pattern] -> rule
 *
 * A question is a look into one or two of them. Some subjects that a set's connections have published to, or were sent,
 * are remembered with the answer. Nothing here knows connections, links or rings.
 */
#ifndef ROUTER_PERMISSIONS_H
#define ROUTER_PERMISSIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/slab.h"
#include "base/view.h"
#include "router/sublist.h"
#include "shm/book.h"

enum {
    PERMISSIONS_COMPILED_AT_ONCE = 1024, /* rules */
    PERMISSIONS_REMEMBERED = 64,         /* subjects of one set; a power of two */
    PERMISSIONS_SUBJECT_MAX = 60,        /* bytes of a subject that is remembered */
    /* With more subscribe deny rules every wildcard subscription is checked at each delivery. */
    PERMISSIONS_OVERLAPS = 64,
};

struct permissions; /* opaque */

/* Tools that all sets of one router share; they must outlive the sets. */
struct permissions_tools {
    const struct hash_key *hash;
    struct slab *slab;
    struct match match;
    uint64_t *work; /* the price of work is added here, in units (router/cost.h) */
};

/* A set that is not compiled, of the entry of type BOOK_RULES that lies at pos in the book. Null: no memory. */
struct permissions *permissions_new(struct permissions_tools *tools, const struct book_rules *rules, uint64_t pos);
void permissions_free(struct permissions *p);

/* Compiles some rules if it has to; true if the set is compiled. A set that cannot be compiled, for want of memory or
 * because the book is damaged, becomes a set that allows nothing. book is only read at the set's place. */
bool permissions_compile(struct permissions *p, struct book *book);
bool permissions_compiled(const struct permissions *p);

/* For how many messages and nanoseconds (UINT64_MAX: for ever) a connection may answer on the reply subject of a
 * message that it got; 0 messages: not at all; BOOK_UNLIMITED: any number. The set need not be compiled. */
uint32_t permissions_responses(const struct permissions *p, uint64_t *ns);

/* ---- of compiled sets alone ---- */

/* May subject be published to? Wildcard tokens are literal text; a subject with an empty token is allowed only if everything is. */
bool permissions_publish(struct permissions *p, struct view subject);

/* Whether the pattern may be subscribed to, in that queue (empty: none). It is allowed if it lies wholly within one
 * allow rule: `s.>` is not allowed by `s.*`. It is refused if, read as literal text, it matches a deny rule. A pattern that is
 * not valid is allowed only if everything is. */
bool permissions_subscribe(struct permissions *p, struct view pattern, struct view queue);

/* True if a message could come to that subscription, which may be made, that a deny rule keeps from it. */
bool permissions_filters(struct permissions *p, struct view pattern, struct view queue);

/* False if a deny rule keeps messages of that subject, which has tokens, from a subscription with that queue. message_no names the
 * message, so that it is looked up once for all of its targets; 0: none. */
bool permissions_deliver(struct permissions *p, struct view subject, struct view queue, uint64_t message_no);

#endif
