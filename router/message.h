/* SPDX-License-Identifier: Apache-2.0 */
/* router/message.h: one message on its way through a router; shared by publish.c, plan.c, choose.c, deliver.c and
 * fanout.c.
 *
 * A message is planned as a list of legs. A leg is one account with one form of the message, and the targets that it
 * has there; the first leg is the publisher's own.
 *
 *   publish.c   may it be published; what follows when nobody is there
 *   plan.c      what matches, the targets of each leg, the bytes for each link; whether they fit; then all is written
 *   choose.c    one member of each queue group
 *   deliver.c   the records of one leg on one link, and what they mean for its subscriptions; cannot fail
 *   fanout.c    what is too much for one step is pinned and goes on step by step
 *
 * Until plan_write nothing has changed but the router's own memory for plans (match, targets): a plan without room is
 * thrown away, and made anew later.
 */
#ifndef ROUTER_MESSAGE_H
#define ROUTER_MESSAGE_H

#include "router/cost.h"
#include "router/router.h"

enum leg_kind {
    LEG_OWN,    /* the publisher's account, the message as it was published */
    LEG_NOBODY, /* there is nobody: a 503 to the publisher's own subscription for the reply */
};

struct plan;
struct leg {
    struct plan *plan; /* of the message whose leg it is */
    struct account *account;
    struct match *found;        /* what the account has for the subject */
    struct view subject, reply; /* in the router's own memory */
    const uint8_t *body;        /* in the source's ring: passed on, never looked at */
    uint32_t payload_len;       /* bytes of header and body */
    uint32_t header_len;        /* bytes of them that are the header block */
    struct view header;         /* made by the router, in its own memory; empty: the body has the publisher's, if any */
    uint64_t no;           /* of this leg's subject, when it was first held against deny rules; 0: it was not yet */
    uint32_t first, count; /* its targets, set by plan_targets: r->targets[first .. first + count) */
    uint8_t kind;          /* enum leg_kind */
    uint8_t depth;         /* crossings from one account to another on its way; 0: none */
    uint8_t from;          /* the leg in whose match the crossing to this one was met; of the first: itself */
    uint8_t flags;         /* of the DELIVER */
};

struct plan {
    struct link *source;
    struct conn *conn; /* the publisher */
    const struct record *rec;
    const struct record_parts *parts;
    bool cut;           /* a match was cut: that nobody was found does not mean that nobody is there */
    bool later;         /* the permissions of a target are being compiled: the plan is made anew in the next turn */
    uint32_t leg_count; /* LEGS_MAX at most */
    struct leg *leg;
};
enum { LEGS_MAX = 1 };

/* A leg without a message. Subject, reply, body and the two lengths are the caller's to set: field by field, because to
 * clear a leg first costs a small message several percent. */
static inline void leg_begin(struct leg *leg, struct plan *p, enum leg_kind kind, struct account *a,
                             struct match *found) {
    leg->plan = p;
    leg->account = a;
    leg->found = found;
    leg->header = (struct view){0};
    leg->no = 0;
    leg->kind = (uint8_t)kind;
    leg->depth = leg->from = leg->flags = 0;
}

/* A bound that the compiler knows as well: a plan of one leg has no loops over legs. */
static inline uint32_t plan_legs(const struct plan *p) {
    if (p->leg_count == 0 || p->leg_count > LEGS_MAX)
        __builtin_unreachable();
    return p->leg_count;
}

/* What a plan is for each link. */
struct share {
    uint64_t bytes; /* of all legs, with OK and SLOT_FREE */
    struct {
        uint32_t count;  /* targets */
        uint32_t ending; /* of them, subscriptions that reach their max with this message */
    } leg[LEGS_MAX];
};
struct weight {
    uint32_t ending; /* subscriptions on all links that end with it */
    struct share link[LINKS_MAX];
};

/* ---- plan.c ---- */

enum { WARY_OF_TARGETS = WARY_DEAD | WARY_FILTERS | WARY_RECHECKS };

/* The subscription's connection lives, and may get that leg. May set the plan's `later`. */
bool target_may(struct router *r, struct leg *leg, const struct sub *s);

/* The subscription takes the leg: it may, and is not the publisher's own without echo. */
static inline bool target_takes(struct router *r, struct leg *leg, const struct sub *s) {
    const struct plan *p = leg->plan;
    if (s->link == p->source->number && !(p->conn->options & RECORD_ECHO) && s->conn == p->rec->conn)
        return false;
    if (likely(!(r->wary & WARY_OF_TARGETS)))
        return true;
    return target_may(r, leg, s);
}

/* Delivering one more message ends the subscription. */
static inline bool sub_ends_now(const struct sub *s) {
    return s->max != 0 && s->delivered + 1 >= s->max;
}

bool targets_reserve(struct router *r, uint32_t count); /* room in r->targets; false: no memory */

/* The match was no whole one. False: no memory. */
bool plan_match_cut(struct router *r, struct leg *leg, enum err e);

/* What the account of that leg has for its subject, in leg->found. False: no memory. */
static inline bool plan_match(struct router *r, struct leg *leg) {
    uint32_t visited;
    enum err e = sublist_match(leg->account->sublist, leg->subject, leg->found, &visited);
    r->work += (uint64_t)COST_NODE * visited;
    return likely(e == ERR_OK) || plan_match_cut(r, leg, e);
}

/* The targets of all legs: queue members, and with plain the others too. STEP_NOMEM, STEP_MORE: no plan yet. */
struct outcome plan_targets(struct router *r, struct plan *p, bool plain);
/* What each link gets. */
void plan_weigh(const struct router *r, const struct plan *p, struct weight *w);
/* Is there room for all of it? Only asks. STEP_WAIT: not now. STEP_LARGE: never in one step; it is asked only with
 * `whole`. */
struct outcome plan_fits(struct router *r, const struct weight *w, bool whole);
/* Writes the publisher's OK and all legs; cannot fail. */
void plan_write(struct router *r, const struct plan *p, const struct weight *w);

static inline uint32_t plan_count(const struct plan *p) { /* targets of all legs */
    const struct leg *last = &p->leg[plan_legs(p) - 1];
    return last->first + last->count;
}

/* All of these, for what the legs have found. plain: a plan that has no target writes nothing, and one that is too much
 * for one step is STEP_LARGE. */
struct outcome plan_serve(struct router *r, struct plan *p, bool plain);

/* ---- deliver.c ---- */

/* The bytes of one leg to so many targets on one link. */
uint64_t deliver_bytes(const struct leg *leg, uint32_t targets);
/* Writes it. Room was made sure of, also for a SLOT_FREE for each subscription that ends with it. */
void deliver_to(struct router *r, const struct leg *leg, struct link *l, struct sub *const *targets, uint32_t count);
/* The same without what follows for the subscriptions: for messages that are not theirs (503). */
void deliver_write(struct router *r, const struct leg *leg, struct link *l, struct sub *const *targets, uint32_t count);

/* ---- choose.c ---- */

/* One member of each queue group that the leg has found, as its targets. STEP_MORE: it goes on in the next turn, with a
 * new match. STEP_NOMEM. */
struct outcome choose_members(struct router *r, struct leg *leg);
void choose_drop(struct choice *c); /* forgets a choice that was begun */

/* ---- fanout.c ---- */

/* Pins the message and all plain targets that its first leg has found; a message of several legs is not for it.
 * ERR_NOMEM. */
enum err fanout_begin(struct router *r, const struct plan *p);
/* Goes on with pinning. STEP_DONE: all is in order, and may be served after fanout_open. */
struct outcome fanout_pin(struct router *r, const struct plan *p);
/* Queue members have been served: from now on plain targets are. served: somebody has had the message. */
void fanout_open(struct link *source, bool served);
/* Serves some more. STEP_DONE: all have been served. STEP_NOMEM. */
struct outcome fanout_serve(struct router *r, struct plan *p);
void fanout_drop(struct fanout *f);

#endif
