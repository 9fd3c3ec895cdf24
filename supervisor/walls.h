/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/walls.h: the walls around a child that the supervisor puts up between fork and exec.
 *
 * What the kernel grants here (root may all of it, another user some of it where user namespaces are allowed, a
 * container perhaps nothing) is tried once, at the start, in a process that ends at once. From then on a child that
 * does not get a wall which was granted does not start.
 *
 * The empty root folder needs two steps, because exec still needs the real one for its libraries: the child begins in
 * an empty folder with the one capability that chroot needs, and sandbox_enter goes there and gives the capability up.
 *
 * There is no PID namespace: its first process ignores the signals that abort() and an administrator send, and no
 * process of the family may call kill or see /proc anyway.
 */
#ifndef SUPERVISOR_WALLS_H
#define SUPERVISOR_WALLS_H

#include <stdbool.h>
#include <stdint.h>

#include "config/options.h"
#include "supervisor/ids.h"

enum wall {
    WALL_USER_ID = 1 << 0, /* a user id of its own */
    WALL_NETWORK = 1 << 1, /* a network namespace without an interface */
    WALL_IPC = 1 << 2,     /* an IPC namespace */
    WALL_FOLDER = 1 << 3,  /* an empty root folder */
    WALL_LANDLOCK = 1 << 4,
    WALL_SECCOMP = 1 << 5,
};

struct walls {
    uint32_t granted;    /* enum wall: by this kernel to this user */
    uint32_t wanted;     /* by the configuration; all at first */
    bool user_namespace; /* the namespaces come out of one of users */
    int folder_fd;       /* the empty folder, which has no name any more; -1: none */
};

/* Tries what is granted. id: one that a child might get. */
void walls_open(struct walls *w, struct process_id id);

/* Takes the relaxations of the configuration. */
void walls_relax(struct walls *w, const struct options *o);

/* In the child: puts all walls up that are wanted and granted and not among `without` (enum wall), but Landlock and the system call filter, which the child
 * does itself (base/sandbox.h), and drops all capabilities but the one for the empty root folder. Returns NULL, or what
 * failed, with errno. Without WALL_USER_ID the child keeps its user. */
const char *walls_raise(const struct walls *w, struct process_id id, uint32_t without);

/* The environment variable that tells the child which of its own walls to leave out; NULL: none. */
char *walls_environment(const struct walls *w, uint32_t without);

/* A loud line for each relaxation, and one for what this kernel refuses. */
void walls_say(const struct walls *w);

#endif
