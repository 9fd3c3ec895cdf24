/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/spawn.h: fork and exec of one child, and all that it loses on the way.
 *
 * The executables are opened once, at the start, from one folder, and started by descriptor: what is put there later is
 * not run. A child begins with descriptors 0 and 1 on /dev/null, 2 for its log, 3 for its control socket, nothing else;
 * an empty environment; the walls of supervisor/walls.h; no new privileges; a session of its own; the kernel ends it
 * when the supervisor dies.
 */
#ifndef SUPERVISOR_SPAWN_H
#define SUPERVISOR_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/err.h"
#include "supervisor/family.h"
#include "supervisor/ids.h"
#include "supervisor/walls.h"

enum { SPAWN_UIDS = 64100 };

struct spawner {
    int executable_fd[FAMILY_ROLE_END]; /* by role */
    int null_fd;
    bool root;                         /* the supervisor is */
    struct process_id id[FAMILY_UIDS]; /* by number of the child */
    struct walls walls;
    uint32_t files_max;      /* the hard limit of descriptors */
    struct rlimit file_size; /* the administrator's, for what children write */
};

/* Opens the executables beside /proc/self/exe if bulkhead-router lies there, else in LIBEXECDIR; raises the limit of
 * descriptors, lifts that of file sizes for shared memory; tries which walls are granted. Until spawn_configure says otherwise all of these are wanted and user ids
 * begin at SPAWN_UIDS. ERR_SYSTEM: why (cap bytes) says what is wrong. */
enum err spawn_open(struct spawner *sp, char *why, size_t cap);

/* Takes users and walls from the configuration. ERR_SYSTEM as with ids_resolve. */
enum err spawn_configure(struct spawner *sp, const struct options *o, uint32_t frontends, char *why, size_t cap);

/* True if children get the ids of sp->id. */
bool spawn_changes_users(const struct spawner *sp);

/* Starts a process of the role; number is that of the child (supervisor.h). log_fd and control_fd stay the caller's.
 * *pidfd is readable when it has died. ERR_SYSTEM with errno. */
enum err spawn_child(const struct spawner *sp, const struct family_role *role, uint32_t number, int log_fd,
                     int control_fd, pid_t *pid, int *pidfd);

#endif
