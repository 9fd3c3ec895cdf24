/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a link: at once nothing is taken from it nor given to it, its connections leave their accounts, and sources that wait
 * for it go on. What it leaves behind goes in steps: its subscriptions (removal.c), and what its edge has not taken is counted.
 *
 * Code that finds that a link must end while a record is handled marks it (link_fail), because plans and loops hold pointers to
 * it; the mark is carried out before the record is planned anew, and before the turn's commit.
 */
#include "base/log.h"
#include "ipc/note.h"
#include "router/router.h"

/* At once: clients that come back on another link must not find their account full of connections that are gone. */
static void leave_accounts(struct router *r, struct link *l) {
    for (uint32_t n = 0; n < l->conn_high; n++) {
        struct conn *c = link_conn(l, n);
        if (!c || c->state != CONN_BOUND)
            continue;
        struct account *a = account_find(r, c->account);
        if (a)
            a->conn_count--;
        rights_end(r, c);
        memory_leaves(r, c);
        c->state = CONN_KICKED;
    }
}

void link_end(struct router *r, struct link *l, const char *why) {
    if (l->state == LINK_ENDING || l->state == LINK_NONE)
        return;
    if (why) {
        log_error("link %u: %s; its edge process is ended and its clients reconnect", l->number, why);
        counter_add(r->counters, COUNTER_LINKS_ENDED, 1);
    }
    if (l->waiting)
        egress_wait_end(r, l);
    for (uint32_t i = 0; i < r->link_high; i++)
        if (r->link[i].waiting && r->link[i].wait_link == l->number)
            egress_wait_end(r, &r->link[i]);
    if (l->spilling) {
        l->spilling = false;
        r->spilling_count--;
    }
    stall_resume(r, &l->stalled);
    if (l->egress.credit)
        ring_writer_refresh(&l->egress); /* what it has taken until now is not lost */
    l->state = LINK_ENDING;
    l->failed = NULL;
    l->end_conn = 0;
    r->commit_due = true;
    leave_accounts(r, l);
    router_wary(r, WARY_DEAD, true);
    if (why && !l->end_told) {
        l->end_told = true;
        note_send(&r->control, NOTE_LINK_BAD, l->number, l->incarnation);
    }
}

void links_end_failed(struct router *r) {
    r->failing = false;
    for (uint32_t i = 0; i < r->link_high; i++)
        if (r->link[i].failed)
            link_end(r, &r->link[i], r->link[i].failed);
}

void link_bury(struct router *r, struct link *l) {
    publish_drop(l);
    fanout_free(&l->fanout);
    link_unmap(r, l);
}

bool links_clear(struct router *r) {
    bool worked = false;
    turn_works_on(r, WORK_REMOVAL);
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (l->state != LINK_ENDING)
            continue;
        if (!egress_lost_step(r, l)) {
            worked = true;
            continue;
        }
        if (!l->down || !link_is_clear(l))
            continue;
        worked = true;
        uint64_t incarnation = l->incarnation;
        link_bury(r, l);
        note_send(&r->control, NOTE_LINK_GONE, i, incarnation);
    }
    turn_works_on(r, WORK_NONE);
    return worked;
}
