/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/roles.h: what the supervisor does for a process of a role. The other table, supervisor/family.h, says what the
 * process may have; a new daemon is one row in each. */
#ifndef SUPERVISOR_ROLES_H
#define SUPERVISOR_ROLES_H

#include <stdbool.h>

#include "base/err.h"
#include "ipc/note.h"
#include "ipc/settings.h"
#include "supervisor/family.h"

struct supervisor;
struct child;

/* How a process has died. */
struct death {
    bool fault;        /* of its own fault, or it ended without being asked */
    bool caused;       /* in the midst of its work, by a signal that it caused or because it hung */
    bool well;         /* it ended by itself, with status 0 */
    int signal_number; /* 0: it has exited */
};

/* Who a process of the role may meet is in its row of supervisor/family.c; when, child_meet says. */
struct role_handlers {
    /* Starts c, if it does not run and may; called at the start of the server and when its rest is over. NULL: not by time. */
    void (*start)(struct supervisor *s, struct child *c);
    /* Any note but an answer to a reload. NULL: only NOTE_READY may come. */
    void (*on_note)(struct supervisor *s, struct child *c, const struct note *note);
    /* Takes what a child says that sends other packets than notes. ERR_AGAIN: more will come; ERR_OK: no more, and it ends by
     * itself; others: it is killed. NULL: it sends notes. */
    enum err (*on_packets)(struct supervisor *s, struct child *c);
    /* It is buried; the handler says when another one is started. */
    void (*on_exit)(struct supervisor *s, struct child *c, const struct death *death);
    /* Makes the settings that a new process gets out of the server's. NULL: they are the same. */
    void (*settings)(const struct supervisor *s, struct settings *settings);
    /* An answer to a reload. NULL: it is asked nothing. */
    void (*on_answer)(struct supervisor *s, struct child *c, const struct note *note);
};

/* The handlers of a role that has a row in supervisor/family.c. */
const struct role_handlers *roles_of(Bulkhead__Role role);

#endif
