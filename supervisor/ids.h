/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/ids.h: the user and group id of every process of the family.
 *
 * Without `processes` each has the id uid_base + its number, for user and group. `processes { KIND { user } }` puts
 * another in its place: a number is the first of a range, so that each process of the kind still has one of its own; a
 * name is one user for all of the kind. The group is the one that is given, else the user's from /etc/passwd, else the
 * same number.
 */
#ifndef SUPERVISOR_IDS_H
#define SUPERVISOR_IDS_H

#include <sys/types.h>

#include "base/err.h"
#include "config/options.h"
#include "supervisor/family.h"

struct process_id {
    uid_t uid;
    gid_t gid;
};

/* The ids of a start without a configuration. */
void ids_fill(struct process_id ids[static FAMILY_UIDS], uint32_t uid_base);

/* Fills ids, by number of the child (supervisor.h), for so many frontends. ERR_SYSTEM: a name is unknown, an id is
 * root's, or one that nobody named belongs to an account of the system that is not Bulkhead's; why (cap bytes) says
 * which. */
enum err ids_resolve(struct process_id ids[static FAMILY_UIDS], const struct options *o, uint32_t frontends, char *why,
                     size_t cap);

/* Warns where two processes share a user id, and so could signal one another. */
void ids_say(const struct process_id ids[static FAMILY_UIDS], uint32_t frontends);

#endif
