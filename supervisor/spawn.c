/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "config/reader.h"
#include "ipc/settings.h"
#include "shm/commit.h"

enum { FILES_WISH = 1 << 20, FILES_OTHERS = 4096 };

/* ---- executables ---- */

static bool folder_of_self(char *out, size_t cap) {
    ssize_t len = readlink("/proc/self/exe", out, cap - 1);
    if (len <= 0)
        return false;
    out[len] = '\0';
    char *slash = strrchr(out, '/');
    if (!slash)
        return false;
    *slash = '\0';
    return true;
}

static const char *open_executable(int *fd, int folder_fd, const char *name) {
    struct stat st;
    *fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (*fd < 0 || fstat(*fd, &st) != 0)
        return strerror(errno);
    if (!S_ISREG(st.st_mode))
        return "is not a regular file";
    if (st.st_mode & (S_IWGRP | S_IWOTH))
        return "is writable by others than its owner: chmod go-w";
    if (st.st_uid != 0 && st.st_uid != geteuid())
        return "must be owned by root or by the user who starts it";
    return NULL;
}

/* The folder, if the executables of the family lie there; else -1. */
static int open_folder(const char *path) {
    int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || faccessat(fd, family_role(BULKHEAD__ROLE__ROLE_ROUTER)->executable, F_OK, 0) == 0)
        return fd;
    close(fd);
    return -1;
}

static enum err open_executables(struct spawner *sp, char *why, size_t cap) {
    char self[4096 - 32], beside[4096];
    bool known = folder_of_self(self, sizeof self);
    snprintf(beside, sizeof beside, "%s/../libexec/bulkhead", known ? self : "");
    const char *const folders[] = {known ? self : LIBEXECDIR, known ? beside : LIBEXECDIR, LIBEXECDIR};
    const char *folder = NULL;
    int folder_fd = -1;
    for (size_t i = 0; i < sizeof folders / sizeof *folders && folder_fd < 0; i++)
        folder_fd = open_folder(folder = folders[i]);
    if (folder_fd < 0) {
        snprintf(why, cap, "%s not found next to this program, in ../libexec/bulkhead or in %s: run `make install`",
                 family_role(BULKHEAD__ROLE__ROLE_ROUTER)->executable, LIBEXECDIR);
        return ERR_SYSTEM;
    }
    for (int role = 0; role < FAMILY_ROLE_END; role++) {
        const struct family_role *row = family_role((Bulkhead__Role)role);
        const char *problem = row ? open_executable(&sp->executable_fd[role], folder_fd, row->executable) : NULL;
        if (problem) {
            snprintf(why, cap, "%s/%s: %s", folder, row->executable, problem);
            return ERR_SYSTEM;
        }
    }
    close(folder_fd);
    return ERR_OK;
}

/* ---- limits and users ---- */

static uint32_t raise_files_limit(bool root) {
    struct rlimit limit = {0, 0};
    getrlimit(RLIMIT_NOFILE, &limit);
    if (root && limit.rlim_max < FILES_WISH) {
        unsigned long most = FILES_WISH;
        FILE *f = fopen("/proc/sys/fs/nr_open", "re");
        if (f) {
            if (fscanf(f, "%lu", &most) != 1 || most > FILES_WISH)
                most = FILES_WISH;
            fclose(f);
        }
        struct rlimit raised = {most, most};
        if (most > limit.rlim_max && setrlimit(RLIMIT_NOFILE, &raised) == 0)
            return (uint32_t)most;
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_max > FILES_WISH ? FILES_WISH : (uint32_t)limit.rlim_max;
}

/* Shared memory counts as a file: the administrator's limit is for what the children write. Where it is a hard one, and
 * this process may not lift it, memory that does not fit is an error instead of a signal. */
static void lift_file_size(struct spawner *sp) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &sp->file_size);
    if (setrlimit(RLIMIT_FSIZE, &(struct rlimit){RLIM_INFINITY, RLIM_INFINITY}) == 0)
        return;
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){sp->file_size.rlim_max, sp->file_size.rlim_max});
    if (sp->file_size.rlim_max != RLIM_INFINITY)
        log_warn("The hard limit of file sizes, %llu bytes, is that of shared memory too",
                 (unsigned long long)sp->file_size.rlim_max);
}

enum err spawn_open(struct spawner *sp, char *why, size_t cap) {
    *sp = (struct spawner){.root = geteuid() == 0};
    lift_file_size(sp);
    for (int role = 0; role < FAMILY_ROLE_END; role++)
        sp->executable_fd[role] = -1;
    sp->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (sp->null_fd < 0) {
        snprintf(why, cap, "/dev/null: %s", strerror(errno));
        return ERR_SYSTEM;
    }
    sp->files_max = raise_files_limit(sp->root);
    ids_fill(sp->id, SPAWN_UIDS);
    walls_open(&sp->walls, sp->id[0]);
    return open_executables(sp, why, cap);
}

enum err spawn_configure(struct spawner *sp, const struct options *o, uint32_t frontends, char *why, size_t cap) {
    walls_relax(&sp->walls, o);
    return spawn_changes_users(sp) ? ids_resolve(sp->id, o, frontends, why, cap) : ERR_OK;
}

bool spawn_changes_users(const struct spawner *sp) {
    return sp->walls.wanted & sp->walls.granted & WALL_USER_ID;
}

/* ---- in the child, between fork and exec ---- */

static _Noreturn void child_fail(const char *step) {
    dprintf(2, "FCannot start a process: %s: %s\n", step, strerror(errno));
    _exit(127);
}

#define must(call)                                                                                                     \
    do {                                                                                                               \
        if ((call) < 0)                                                                                                \
            child_fail(#call);                                                                                         \
    } while (0)

static void arrange_fds(const struct spawner *sp, int log_fd, int control_fd, int executable_fd) {
    /* Moves the descriptors out of the way first, so that no dup2 below closes one that is still needed. */
    int log = fcntl(log_fd, F_DUPFD_CLOEXEC, 16), control = fcntl(control_fd, F_DUPFD_CLOEXEC, 16);
    int executable = fcntl(executable_fd, F_DUPFD_CLOEXEC, 16), null = fcntl(sp->null_fd, F_DUPFD_CLOEXEC, 16);
    if (log < 0 || control < 0 || executable < 0 || null < 0)
        child_fail("descriptors");
    must(dup2(log, 2));
    must(dup2(null, 0));
    must(dup2(null, 1));
    must(dup2(control, CONTROL_FD));
    must(dup3(executable, CONTROL_FD + 1, O_CLOEXEC));
    must((int)syscall(SYS_close_range, CONTROL_FD + 2, ~0u, 0));
}

static void limit_resources(const struct spawner *sp, const struct family_role *role) {
    struct rlimit size = sp->file_size;
    if (role->gifts & GIFT_BRIEF) { /* what it writes is a part of the configuration, into memory of the supervisor's */
        getrlimit(RLIMIT_FSIZE, &size);
        size.rlim_cur = size.rlim_max = size.rlim_max < READER_PART_MAX ? size.rlim_max : READER_PART_MAX;
    }
    must(setrlimit(RLIMIT_FSIZE, &size));
    struct rlimit files = {sp->files_max, sp->files_max};
    if (!(role->gifts & GIFT_FILES) && sp->files_max > FILES_OTHERS)
        files.rlim_cur = files.rlim_max = FILES_OTHERS;
    must(setrlimit(RLIMIT_NOFILE, &files));
#ifndef BULKHEAD_SANITIZED
    must(setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}));
#endif
}

static void drop_privileges(const struct spawner *sp, const struct family_role *role, uint32_t number) {
    const char *failed = walls_raise(&sp->walls, sp->id[number], role->without);
    if (failed)
        child_fail(failed);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

/* After the change of user, which clears it. Then the parent is compared: it may have gone before. logd stays to write
 * down what is still in its pipes. */
static void die_with_parent(const struct family_role *role, pid_t parent) {
    if (!(role->gifts & GIFT_STDERR))
        must(prctl(PR_SET_PDEATHSIG, SIGKILL));
    if (getppid() != parent)
        _exit(1);
}

/* Short turns on the processor, where the kernel takes the hint: a process that asks for short turns gets them sooner, so
 * a message does not wait behind a busy client's whole slice. Without it messages only wait longer. A nice value or policy
 * that the administrator has set stays. */
static void ask_for_short_slices(void) {
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime_ns, deadline_ns, period_ns;
    } attr = {0};
    if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) != 0 || attr.policy != SCHED_OTHER)
        return;
    attr.size = sizeof attr;
    attr.runtime_ns = 100000;
    syscall(SYS_sched_setattr, 0, &attr, 0);
}

static void reset_signals(void) {
    for (int i = 1; i < NSIG; i++) {
        if (i != SIGKILL && i != SIGSTOP && i != SIGPIPE && i != SIGXFSZ) /* a log that may not grow is a full one */
            signal(i, SIG_DFL);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Empty, but for walls that are left out, and what sanitizers take from there. */
static char **child_environment(const struct spawner *sp, uint32_t without) {
    static char *environment[9];
#ifdef BULKHEAD_SANITIZED
    extern char **environ;
    static const char *const names[] = {
        "ASAN_OPTIONS=", "UBSAN_OPTIONS=", "LSAN_OPTIONS=", "TSAN_OPTIONS=", "ASAN_SYMBOLIZER_PATH="};
    size_t count = 0;
    for (char **e = environ; *e; e++) {
        for (size_t i = 0; i < sizeof names / sizeof *names && count < 7; i++) {
            if (strncmp(*e, names[i], strlen(names[i])) == 0)
                environment[count++] = *e;
        }
    }
    environment[count] = walls_environment(&sp->walls, without);
#else
    environment[0] = walls_environment(&sp->walls, without);
#endif
    return environment;
}

static _Noreturn void become_child(const struct spawner *sp, const struct family_role *role, uint32_t number,
                                   int log_fd, int control_fd, pid_t parent) {
    char name[32];
    snprintf(name, sizeof name, "%s", role->executable);
    reset_signals();
    ask_for_short_slices();
    setsid(); /* a terminal's interrupt is for the supervisor alone */
    umask(077);
    limit_resources(sp, role);
    drop_privileges(sp, role, number);
    arrange_fds(sp, log_fd, control_fd, sp->executable_fd[role->role]);
    die_with_parent(role, parent);
    syscall(SYS_execveat, CONTROL_FD + 1, "", (char *[]){name, NULL}, child_environment(sp, role->without), AT_EMPTY_PATH);
    child_fail("exec");
}

enum err spawn_child(const struct spawner *sp, const struct family_role *role, uint32_t number, int log_fd,
                     int control_fd, pid_t *pid, int *pidfd) {
    pid_t parent = getpid();
    pid_t made = fork();
    if (made < 0)
        return ERR_SYSTEM;
    if (made == 0)
        become_child(sp, role, number, log_fd, control_fd, parent);
    *pid = made;
    *pidfd = (int)syscall(SYS_pidfd_open, made, 0);
    if (*pidfd < 0) {
        kill(made, SIGKILL);
        return ERR_SYSTEM;
    }
    fcntl(*pidfd, F_SETFD, FD_CLOEXEC);
    return ERR_OK;
}
