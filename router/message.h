/* router/message.h: one message on its way through a router; shared by publish.c, choose.c, deliver.c and fanout.c.
 *
 * publish.c plans: who may, what matches, which queue members (choose.c), is there room. deliver.c writes and cannot fail. What
 * is too much for one step is pinned and goes on step by step (fanout.c).
 */
#ifndef ROUTER_MESSAGE_H
#define ROUTER_MESSAGE_H

#include "router/router.h"

struct message {
    struct link *source;
    struct conn *conn;
    const struct record *rec;
    const struct record_parts *parts;
    struct view subject; /* both in the router's own memory */
    struct view reply;
    const uint8_t *payload; /* in the source's ring: passed on, never looked at */
    uint32_t payload_len;
    uint32_t header_len;
    uint8_t flags; /* of the DELIVER */
    bool cut;      /* the match was cut: that nobody was found does not mean that nobody is there */
    bool later;    /* the permissions of a target are being compiled: the plan is made anew in the next turn */
    uint64_t no;   /* of this plan, when its subject was first held against deny rules */
};

/* ---- deliver.c ---- */

enum { WARY_OF_TARGETS = WARY_DEAD | WARY_FILTERS | WARY_RECHECKS };

/* The subscription's connection lives, and may get messages of that subject. May set m->later. */
bool target_may(struct router *r, struct message *m, const struct sub *s, struct view subject);

/* The subscription takes the message: it may, and is not the publisher's own without echo. */
static inline bool target_takes(struct router *r, struct message *m, const struct sub *s) {
    if (s->link == m->source->number && !(m->conn->options & RECORD_ECHO) && s->conn == m->rec->conn)
        return false;
    if (likely(!(r->wary & WARY_OF_TARGETS)))
        return true;
    return target_may(r, m, s, m->subject);
}

/* Delivering one more message ends the subscription. */
static inline bool sub_ends_now(const struct sub *s) {
    return s->max != 0 && s->delivered + 1 >= s->max;
}

bool targets_reserve(struct router *r, uint32_t count); /* room in r->targets; false: no memory */

/* The bytes of one message to so many targets on one link. */
uint64_t deliver_bytes(const struct message *m, uint32_t targets);
/* Writes it. Room was made sure of, also for a SLOT_FREE for each subscription that ends with it. */
void deliver_to(struct router *r, struct link *l, const struct message *m, struct sub *const *targets, uint32_t count);
/* The same without what follows for the subscriptions: for messages that are not theirs (503). */
void deliver_write(struct router *r, struct link *l, const struct message *m, struct sub *const *targets, uint32_t count);
/* The first `count` of r->targets on all links at once, and the publisher's OK, if there is room for all of it (else STEP_WAIT,
 * and nothing is written). too_large: set instead if that is too much for one step; null: it is not asked. */
enum step deliver_all(struct router *r, const struct message *m, uint32_t count, bool *too_large);

/* ---- choose.c ---- */

/* One member of each queue group in r->match, to r->targets[0 .. *queued). STEP_MORE: it goes on in the next turn, with a new
 * match. STEP_BAD: no memory. */
enum step choose_members(struct router *r, struct message *m, uint32_t *queued);
void choose_drop(struct choice *c); /* forgets a choice that was begun */

/* ---- fanout.c ---- */

/* Pins the message and all plain targets in r->match. ERR_NOMEM. */
enum err fanout_begin(struct router *r, const struct message *m);
/* Goes on with pinning. STEP_DONE: all is in order, and may be served after fanout_open. */
enum step fanout_pin(struct router *r, const struct message *m);
/* Queue members have been served: from now on plain targets are. served: somebody has had the message. */
void fanout_open(struct link *source, bool served);
/* Serves some more. STEP_DONE: all have been served. */
enum step fanout_serve(struct router *r, struct message *m);
void fanout_drop(struct fanout *f);

#endif
