/* router/cost.h: what a piece of work costs, in work units. One unit is about what a byte of message costs.
 *
 * A link has TURN_UNITS a turn, so neither many cheap records nor a few dear ones of one link starve another.
 */
#ifndef ROUTER_COST_H
#define ROUTER_COST_H

enum {
    COST_RECORD = 64,  /* any record, beside its bytes */
    COST_TARGET = 32,  /* one delivery */
    COST_NODE = 16,    /* one trie node visited */
    COST_RULE = 16,    /* one permission rule compiled or compared, or one look at a list of them */
    COST_SUB = 512,    /* a subscription made or removed, beside its bytes */
    COST_BIND = 2048,  /* a seal opened */
    COST_PLAIN_BYTES = 2048, /* of a record; each byte beyond is one of COST_BULK in a unit: a copy is cheap */
    COST_BULK = 4,
};

#endif
