/* SPDX-License-Identifier: Apache-2.0 */
/* The record that a router died of: its successor skips it.
 *
 * The box of the commit page says at each moment which record is being handled, or which other work is done. A new router
 * that is told of a death by the router's own fault skips that record; the second one of a connection within a minute ends
 * the connection. A skipped record still gets its answer: no client waits for ever, and no connection or subscription stays
 * that its edge believes gone. A removal may have been the fault, so none is tried here: a connection that ends is only marked,
 * and its subscriptions go in later turns, after the commit that follows each skipped record; if a removal kills this router,
 * the next one does not get those subscriptions again.
 */
#include "base/clock.h"
#include "base/log.h"
#include "nats/subject.h"
#include "router/router.h"

/* In the list of poison, connections whose replay killed a router are marked: they are ended by all routers of the next
 * minute, since two of them would else bring down one router after the other. */
#define POISON_REPLAY 0x80000000u

void poison_open(struct router *r, struct commit_page *page) {
    r->page = page;
    r->died_box = atomic_load_explicit(&page->box, memory_order_relaxed);
    turn_works_on(r, WORK_TAKEOVER);
}

static void keep(struct router *r, const struct link *l, uint32_t conn) {
    struct commit_page *p = r->page;
    p->poison[p->poison_count++ % POISON_KEPT] =
        (struct commit_poison){clock_wall_s(), l->incarnation, l->number, conn};
    counter_add(r->counters, COUNTER_POISONED, 1);
}

static bool is_kept(const struct router *r, const struct link *l, uint32_t conn) {
    for (uint32_t i = 0; i < POISON_KEPT; i++) {
        const struct commit_poison *p = &r->page->poison[i];
        if (p->incarnation == l->incarnation && p->link == l->number && p->conn == conn && p->wall_s + 60 >= r->wall)
            return true;
    }
    return false;
}

bool poison_replays(const struct router *r, const struct link *l, uint32_t conn) {
    return is_kept(r, l, conn | POISON_REPLAY);
}

static const char *const work_text[WORK_END] = {
    [WORK_NONE] = "waited for work",
    [WORK_CONTROL] = "handled a message of the supervisor or of authd",
    [WORK_CHANGES] = "applied changes of accounts",
    [WORK_TAKEOVER] = "was taking over",
    [WORK_REMOVAL] = "removed what had ended",
    [WORK_RECHECK] = "looked at subscriptions under changed permissions",
    [WORK_EGRESS] = "moved overflows and marks",
    [WORK_COMMIT] = "committed a turn",
};

void poison_find(struct router *r) {
    uint64_t box = r->died_box;
    if (r->died_signal == 0)
        return;
    if (box < WORK_END) {
        log_error("The router before died (signal %d) while it %s; no record is to blame", r->died_signal,
                  work_text[box]);
        return;
    }
    uint32_t number = (uint32_t)((box & ~BOX_REPLAY) >> 56) - 1;
    if (number >= r->link_high || r->link[number].state == LINK_NONE)
        return;
    struct link *l = &r->link[number];
    uint64_t pos = box & 0x00ffffffffffffffu;
    if (!(box & BOX_REPLAY)) {
        l->poison_pos = (l->ingress.tail_pos & ~(uint64_t)0x00ffffffffffffffu) | pos;
        return;
    }
    keep(r, l, (uint32_t)pos | POISON_REPLAY);
    log_error("link %u connection %u: the router before died of its replay; the connection is ended", l->number,
              (uint32_t)pos);
}

/* True if it is the second of its connection within a minute. */
static bool note(struct router *r, const struct link *l, const struct record *rec) {
    bool again = is_kept(r, l, rec->conn);
    keep(r, l, rec->conn);
    atomic_fetch_add_explicit(&r->page->lost_count, 1, memory_order_relaxed);
    log_error("link %u connection %u: the router before died of a record of it (type %u); the record is skipped%s",
              l->number, rec->conn, rec->type,
              again ? " and the connection ended, because it is the second within a minute" : "");
    return again;
}

/* A subscription that does not come to life: its slot ends, and its client is told. */
static void refuse_sub(struct router *r, struct link *l, const struct conn *c, const struct record *rec, uint32_t slot,
                       struct view subject, struct view queue) {
    if (!egress_has_room(r, l, SMALL + DENY_SUB_BYTES(subject.len, queue.len), true)) {
        admit_kick_poisoned(r, l, rec->conn); /* CONN_FREE will free the slot */
        return;
    }
    if (c->state == CONN_BOUND)
        record_deny_sub(r, l, rec->conn, slot, RECORD_DENY_SUB, subject, queue);
    egress_small(r, l, RECORD_SLOT_FREE, rec->conn, slot);
}

static enum step skip_sub(struct router *r, struct link *l, const struct conn *c, const struct record *rec,
                          const struct record_parts *parts, const uint8_t *at) {
    struct record_sub fixed;
    memcpy(&fixed, at + RECORD_HEADER, sizeof fixed);
    memcpy(r->scratch, at + parts->subject, (size_t)rec->subject_len + rec->reply_len);
    struct view subject = view_of((const char *)r->scratch, rec->subject_len);
    struct view queue = view_of((const char *)r->scratch + rec->subject_len, rec->reply_len);
    if (fixed.slot >= SLOTS_MAX || link_slot(l, fixed.slot) != 0 || !subject_is_clean(subject) ||
        !subject_is_clean(queue))
        return STEP_BAD;
    refuse_sub(r, l, c, rec, fixed.slot, subject, queue);
    return STEP_DONE;
}

enum step poison_skip(struct router *r, struct link *l, const struct record *rec, const struct record_parts *parts,
                      const uint8_t *at) {
    bool again = note(r, l, rec);
    if (rec->type == RECORD_BIND)
        return admit_poisoned(r, l, rec->conn);
    struct conn *c = link_conn(l, rec->conn);
    if (!c || c->state == CONN_FREE || c->state == CONN_CLOSING)
        return STEP_BAD;
    if (again)
        admit_kick_poisoned(r, l, rec->conn);
    switch (rec->type) {
    case RECORD_SUB:
        return skip_sub(r, l, c, rec, parts, at);
    case RECORD_UNSUB:
        admit_kick_poisoned(r, l, rec->conn); /* the subscription is not touched, but it must not live on */
        return STEP_DONE;
    case RECORD_PUB:
        if (!(rec->flags & RECORD_ANSWER) || c->state != CONN_BOUND || l->resume.cursor != CURSOR_NONE)
            return STEP_DONE; /* nothing to answer, or the router before has answered */
        if (egress_has_room(r, l, SMALL, true))
            egress_small(r, l, RECORD_OK, rec->conn, 0); /* it was received; it is lost, as a message may be */
        else
            admit_kick_poisoned(r, l, rec->conn);
        return STEP_DONE;
    case RECORD_CLOSE:
        admit_close_poisoned(r, l, rec->conn, c);
        return STEP_DONE;
    default:
        return STEP_DONE;
    }
}
