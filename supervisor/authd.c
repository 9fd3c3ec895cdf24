/* SPDX-License-Identifier: Apache-2.0 */
/* The one authd: it gets its part of the configuration, the book, its ledger, and a socket to the router and to each edge
 * that is going. */
#include "shm/commit.h"
#include "supervisor/supervisor.h"

void authd_start(struct supervisor *s, struct child *c) {
    if (s->stop || c->pid || child_start(s, c) != ERR_OK)
        return;
    parts_send(s, c, &s->parts, s->settings.generation);
    const int memory[] = {s->book_fd, s->ledger_fd};
    child_send(s, c, MESSAGE_BOOK, NULL, memory, 2);
    child_meet(s, c);
}
