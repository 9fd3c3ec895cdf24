/* SPDX-License-Identifier: Apache-2.0 */
/* The one authd: it gets its part of the configuration, the book, its ledger, and a socket to the router and to each edge
 * that is going. */
#include "shm/commit.h"
#include "supervisor/supervisor.h"

void authd_start(struct supervisor *s) {
    struct child *c = child_of(s, BULKHEAD__ROLE__ROLE_AUTHD, 0);
    if (s->stop || c->pid || child_start(s, c, s->counters_fd[c->role->role]) != ERR_OK)
        return;
    parts_send(s, c, &s->parts, s->settings.generation);
    const int memory[] = {s->book_fd, s->ledger_fd};
    child_send(s, c, MESSAGE_BOOK, NULL, memory, 2);
    if (s->router)
        child_introduce(s, c, &s->child[s->router]);
    for (uint32_t i = 0; i < s->edge_count; i++) {
        if (s->edge[i].state == EDGE_GOING)
            child_introduce(s, c, child_of(s, BULKHEAD__ROLE__ROLE_FRONTEND, i));
    }
}

void authd_on_exit(struct supervisor *s, struct child *c, bool fault) {
    c->restart_ms = s->now_ms + child_restart_delay(s, c, &s->authd_restarts, fault, CHILD_REST_MS);
    if (c->restart_ms <= s->now_ms)
        authd_start(s);
}
