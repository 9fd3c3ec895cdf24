/* supervisor/spawn.h: fork and exec of one child, and all that it loses on the way.
 *
 * The executables are opened once, at the start, from one folder, and started by descriptor: what is put there later is
 * not run. A child begins with descriptors 0 and 1 on /dev/null, 2 for its log, 3 for its control socket, nothing else;
 * an empty environment; as root: a user id of its own and no capability; no new privileges; a session of its own; the
 * kernel ends it when the supervisor dies.
 */
#ifndef SUPERVISOR_SPAWN_H
#define SUPERVISOR_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "supervisor/family.h"

enum { SPAWN_UIDS = 64100 };

struct spawner {
    int executable_fd[FAMILY_ROLE_END]; /* by role */
    int null_fd;
    bool root; /* children change their user */
    uint32_t uid_base;
    uint32_t files_max; /* the hard limit of descriptors */
};

/* Opens the executables beside /proc/self/exe if bulkhead-router lies there, else in LIBEXECDIR; raises the limit of
 * descriptors. User ids begin at SPAWN_UIDS until spawn_check_ids says otherwise. ERR_SYSTEM: why (cap bytes) says what
 * is wrong. */
enum err spawn_open(struct spawner *sp, char *why, size_t cap);

/* Children get ids from uid_base on. As root, sees that no account of the system has one of them: ERR_SYSTEM. */
enum err spawn_check_ids(struct spawner *sp, uint32_t uid_base, char *why, size_t cap);

/* Starts a process of the role; number is its offset from uid_base. log_fd and control_fd stay the caller's. *pidfd is
 * readable when it has died. ERR_SYSTEM with errno. */
enum err spawn_child(const struct spawner *sp, const struct family_role *role, uint32_t number, int log_fd,
                     int control_fd, pid_t *pid, int *pidfd);

#endif
