/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/walls.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sandbox.h"

/* A sanitizer needs files, and calls of its own. */
#ifdef BULKHEAD_SANITIZED
static const bool IS_OPEN = true;
#else
static const bool IS_OPEN = false;
#endif

enum { WALLS_ALL = (1 << 6) - 1, WALLS_NAMESPACES = WALL_NETWORK | WALL_IPC | WALL_FOLDER };

/* ---- in a child ---- */

/* Sets the inheritable capabilities to one, or to none (-1). Must come before drop_bounds. */
static bool inherit_capability(int number) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2];
    if (syscall(SYS_capget, &head, sets) != 0)
        return false;
    sets[0].inheritable = number < 0 ? 0 : UINT32_C(1) << number;
    sets[1].inheritable = 0;
    return syscall(SYS_capset, &head, sets) == 0;
}

/* That one alone is left, or none. */
static bool keep_capability(int number) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    uint32_t bit = number < 0 ? 0 : UINT32_C(1) << number;
    struct __user_cap_data_struct sets[2] = {{bit, bit, bit}, {0, 0, 0}};
    return syscall(SYS_capset, &head, sets) == 0;
}

/* A capability within the bounds could come back at an exec. A process that may not drop bounds has no capability. */
static bool drop_bounds(void) {
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0 && errno != EPERM)
            return false;
    }
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0;
}

static bool change_user(struct process_id id) {
    return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 && setgroups(0, NULL) == 0 &&
           setresgid(id.gid, id.gid, id.gid) == 0 && setresuid(id.uid, id.uid, id.uid) == 0;
}

static const char *put_up(const struct walls *w, uint32_t which, struct process_id id) {
    bool in_namespace = w->user_namespace && which & WALLS_NAMESPACES;
    if (in_namespace && which & WALL_USER_ID && !change_user(id))
        return "user id"; /* there is no other id inside */
    if (in_namespace && unshare(CLONE_NEWUSER) != 0)
        return "user namespace";
    if (which & WALL_NETWORK && unshare(CLONE_NEWNET) != 0)
        return "network namespace";
    if (which & WALL_IPC && unshare(CLONE_NEWIPC) != 0)
        return "IPC namespace";
    if ((which & WALL_FOLDER ? fchdir(w->folder_fd) : chdir("/")) != 0)
        return "folder";
    /* What passes the exec is the right to go into the empty folder, or nothing. */
    int kept = which & WALL_FOLDER ? CAP_SYS_CHROOT : -1;
    if (!inherit_capability(kept) || !drop_bounds())
        return "capabilities";
    if (!in_namespace && which & WALL_USER_ID && !change_user(id))
        return "user id";
    if (!keep_capability(kept) || (kept >= 0 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept, 0, 0) != 0))
        return "capabilities";
    return NULL;
}

const char *walls_raise(const struct walls *w, struct process_id id, uint32_t without) {
    return put_up(w, w->wanted & w->granted & ~without, id);
}

char *walls_environment(const struct walls *w, uint32_t without) {
    static char seccomp[] = SANDBOX_WITHOUT "=seccomp", landlock[] = SANDBOX_WITHOUT "=landlock",
                both[] = SANDBOX_WITHOUT "=seccomp,landlock";
    uint32_t wanted = w->wanted & ~without;
    bool without_seccomp = !(wanted & WALL_SECCOMP), without_landlock = !(wanted & WALL_LANDLOCK);
    if (without_seccomp)
        return without_landlock ? both : seccomp;
    return without_landlock ? landlock : NULL;
}

/* ---- what is granted ---- */

/* True if a child could do all of these. */
static bool try_walls(const struct walls *w, uint32_t which, struct process_id id) {
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(put_up(w, which, id) == NULL && (!(which & WALL_FOLDER) || chroot(".") == 0) ? 0 : 1);
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

/* A folder that is empty for ever: it has no name, and nothing can be made in it. */
static int make_empty_folder(void) {
    static const char *const places[] = {"/run", "/tmp", "/dev/shm", "/var/tmp"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/bulkhead-XXXXXX", places[i]);
        if (!mkdtemp(path))
            continue;
        int fd = chmod(path, 0555) == 0 ? open(path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
        if (rmdir(path) == 0 && fd >= 0)
            return fd;
        if (fd >= 0)
            close(fd);
    }
    return -1;
}

/* One call for each namespace, so that a refusal costs only that namespace. */
static uint32_t try_namespaces(const struct walls *w, struct process_id id) {
    static const enum wall each[] = {WALL_NETWORK, WALL_IPC, WALL_FOLDER};
    uint32_t got = 0;
    for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
        if ((each[i] != WALL_FOLDER || w->folder_fd >= 0) && try_walls(w, (w->granted & WALL_USER_ID) | each[i], id))
            got |= each[i];
    }
    return got;
}

void walls_open(struct walls *w, struct process_id id) {
    *w = (struct walls){.wanted = WALLS_ALL, .folder_fd = -1};
    if (geteuid() == 0 && try_walls(w, WALL_USER_ID, id))
        w->granted |= WALL_USER_ID;
    if (IS_OPEN)
        return;
    w->granted |= WALL_SECCOMP;
    if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >= 1)
        w->granted |= WALL_LANDLOCK;
    w->folder_fd = make_empty_folder();
    uint32_t got = try_namespaces(w, id);
    if (got != WALLS_NAMESPACES) {
        w->user_namespace = true;
        uint32_t inside = try_namespaces(w, id);
        w->user_namespace = __builtin_popcount(inside) > __builtin_popcount(got);
        got = w->user_namespace ? inside : got;
    }
    w->granted |= got;
}

void walls_relax(struct walls *w, const struct options *o) {
    uint32_t off = (o->seccomp_off ? WALL_SECCOMP : 0u) | (o->landlock_off ? WALL_LANDLOCK : 0u) |
                   (o->namespaces_off ? WALLS_NAMESPACES : 0u) | (o->user_ids_off ? WALL_USER_ID : 0u);
    w->wanted = o->sandbox_off ? 0 : WALLS_ALL & ~off;
}

/* ---- lines ---- */

static void add(char *list, size_t cap, const char *name) {
    size_t len = strlen(list);
    snprintf(list + len, cap - len, "%s%s", len ? ", " : "", name);
}

void walls_say(const struct walls *w) {
    static const struct {
        uint32_t walls;
        const char *name, *missing, *off;
    } rows[] = {
        {WALL_USER_ID, "user_ids", "user ids of their own", "all processes keep the server's user"},
        {WALLS_NAMESPACES, "namespaces", NULL, "processes have the root folder, the network and the IPC of the host"},
        {WALL_NETWORK, NULL, "network namespaces", NULL},
        {WALL_IPC, NULL, "IPC namespaces", NULL},
        {WALL_FOLDER, NULL, "an empty root folder", NULL},
        {WALL_LANDLOCK, "landlock", "Landlock", "processes are not kept from files and from one another by Landlock"},
        {WALL_SECCOMP, "seccomp", "system call filters", "processes may make any system call"},
    };
    char missing[256] = "";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].name && !(w->wanted & rows[i].walls))
            log_warn("The sandbox is relaxed: %s is off: %s", rows[i].name, rows[i].off);
        if (rows[i].missing && rows[i].walls & w->wanted & ~w->granted)
            add(missing, sizeof missing, rows[i].missing);
    }
    if (missing[0])
        log_warn("Not granted here, so the walls between processes are lower: %s", missing);
}
