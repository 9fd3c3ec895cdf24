/* SPDX-License-Identifier: Apache-2.0 */
/* router/cost.h: the price of each piece of work, in work units. One unit is about the price of one byte of a message.
 *
 * There is one accumulator, router.work. It is charged where the work is done, and a price is the difference between two looks at
 * it. A link has TURN_UNITS a turn and all links together TURN_ALL_UNITS, so neither many cheap records nor a few dear ones of
 * one link starve another. Work that can be dearer than that is bounded, or done in steps:
 *
 *   a match                      visits MATCH_VISIT_MAX nodes and MATCH_QUEUES_MAX queue groups at most (sublist.h)
 *   a choice of a queue member   goes on in the next turn after CHOICE_UNITS (choose.c)
 *   a fan-out                    is pinned and served in steps of FANOUT_UNITS (fanout.c)
 *   removals                     have one queue and REMOVAL_UNITS a turn (removal.c)
 *   a changed book               is applied in steps of CHANGES_UNITS (changes.c)
 */
#ifndef ROUTER_COST_H
#define ROUTER_COST_H

#include <stdint.h>

enum {
    COST_RECORD = 64,        /* any record, beside its bytes */
    COST_TARGET = 32,        /* one target or queue member looked at, and its delivery */
    COST_QUEUE = 48,         /* one queue group found, and its place among the others */
    COST_PIN = 8,            /* one target pinned, for each of the steps of that */
    COST_NODE = 32,          /* one trie node visited, made or freed */
    COST_RULE = 16,          /* one permission rule compiled or compared, or one look at a list of them */
    COST_SUB = 512,          /* a subscription made or removed, beside its bytes */
    COST_CONN = 8,           /* one connection looked at */
    COST_BIND = 2048,        /* a seal opened; a connection ended */
    COST_PLAIN_BYTES = 2048, /* of a record; each byte beyond is one of COST_BULK in a unit: a copy is cheap */
    COST_BULK = 4,

    TURN_UNITS = 64 * 1024,           /* of one link in one turn */
    TURN_ALL_UNITS = 16 * TURN_UNITS, /* of all links in one turn */
    CHOICE_UNITS = 8 * TURN_UNITS,
    FANOUT_UNITS = 8 * TURN_UNITS,
    REMOVAL_UNITS = TURN_UNITS,
    CHANGES_UNITS = TURN_UNITS,
};

/* Of a record of that many bytes, before anything is done with it. */
static inline uint64_t cost_record(uint32_t len) {
    return COST_RECORD + (len <= COST_PLAIN_BYTES ? len : COST_PLAIN_BYTES + (len - COST_PLAIN_BYTES) / COST_BULK);
}

#endif
