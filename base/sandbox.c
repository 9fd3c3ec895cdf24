/* SPDX-License-Identifier: Apache-2.0 */
/* The walls that a process puts up from inside: an empty root folder, if the supervisor has prepared one; Landlock with an
 * empty set of rules (no file, no TCP bind or connect, no signal and no abstract socket beyond this process); a system
 * call filter that kills. Landlock goes as far as the running kernel knows it; the filter has to work. The supervisor
 * alone can have the last two left out.
 *
 * Sanitizers need calls of their own, and their leak check stops the process from outside: their builds stay open.
 */
#include "base/sandbox.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"

static bool without_seccomp, without_landlock;

static void take_relaxations(void) {
    const char *names = getenv(SANDBOX_WITHOUT);
    without_seccomp = names && strstr(names, "seccomp");
    without_landlock = names && strstr(names, "landlock");
    unsetenv(SANDBOX_WITHOUT);
}

void sandbox_start(void) {
    take_relaxations();
#ifndef BULKHEAD_SANITIZED
    prctl(PR_SET_DUMPABLE, 0);
#endif
    /* Who started this process compared the parent before exec; from there on the signal was armed, so a parent that
     * went between has taken this process with it. */
    pid_t parent = getppid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_NAME, program_invocation_short_name); /* exec by descriptor leaves a number there */
    umask(077);
    if (getppid() != parent)
        _exit(1);
}

#ifdef BULKHEAD_SANITIZED

enum err sandbox_enter(const struct sandbox_call *calls, uint32_t count) {
    (void)calls;
    log_debug("Sanitizer build: no system call filter (%u calls would be allowed)", count);
    return ERR_OK;
}

#else

/* The ruleset as later kernels know it; a kernel takes as many bytes as its version has. */
struct landlock_rules {
    uint64_t fs;
    uint64_t net;
    uint64_t scoped;
};

static void landlock_enter(void) {
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 1)
        return;
    static const uint8_t fs_bits[] = {0, 13, 14, 15, 15, 16}; /* rights of the file system by version, from 1 */
    struct landlock_rules rules = {
        .fs = (UINT64_C(1) << fs_bits[version < 5 ? version : 5]) - 1,
        .net = version >= 4 ? 3 : 0,    /* bind and connect by TCP */
        .scoped = version >= 6 ? 3 : 0, /* abstract sockets, signals */
    };
    size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    int fd = (int)syscall(SYS_landlock_create_ruleset, &rules, size, 0);
    if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) != 0)
        log_warn("Landlock is there but refused; the system call filter alone holds this process");
    if (fd >= 0)
        close(fd);
}

static int allow(scmp_filter_ctx filter, const struct sandbox_call *call) {
    struct scmp_arg_cmp args[3];
    unsigned count = 0;
    for (unsigned i = 0; i < 3; i++) {
        const struct sandbox_arg *a = &call->arg[i];
        if (a->used)
            args[count++] = (struct scmp_arg_cmp){a->index, SCMP_CMP_MASKED_EQ, a->mask, a->value};
    }
    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call->number, count, args);
}

#define NO_EXEC        SANDBOX_ARG(2, PROT_EXEC, 0)
#define LOW_WORD(i, v) SANDBOX_ARG(i, UINT64_C(0xffffffff), v) /* of an int the upper half is undefined */

static int allow_common(scmp_filter_ctx filter) {
    const struct sandbox_call common[] = {
        SANDBOX_CALL(read),
        SANDBOX_CALL(write),
        SANDBOX_CALL(close),
        SANDBOX_CALL(exit),
        SANDBOX_CALL(exit_group),
        SANDBOX_CALL(futex),
        SANDBOX_CALL(brk),
        SANDBOX_CALL(munmap),
        SANDBOX_CALL(mremap),
        SANDBOX_CALL(clock_gettime),
        SANDBOX_CALL(gettimeofday),
        SANDBOX_CALL(getrandom),
        SANDBOX_CALL(rt_sigreturn),
        SANDBOX_CALL(restart_syscall),
        SANDBOX_CALL_ARGS(mmap, NO_EXEC),
        SANDBOX_CALL_ARGS(mprotect, NO_EXEC),
        SANDBOX_CALL_ARGS(madvise, LOW_WORD(2, MADV_DONTNEED)),
        SANDBOX_CALL_ARGS(madvise, LOW_WORD(2, MADV_FREE)),
        /* abort() of a broken promise: a signal to this process and to no other. */
        SANDBOX_CALL(rt_sigprocmask),
        SANDBOX_CALL(getpid),
        SANDBOX_CALL(gettid),
        SANDBOX_CALL_ARGS(tgkill, LOW_WORD(0, (uint64_t)getpid()), LOW_WORD(2, SIGABRT)),
    };
    for (size_t i = 0; i < sizeof common / sizeof *common; i++) {
        int failed = allow(filter, &common[i]);
        if (failed)
            return failed;
    }
    return 0;
}

/* Who starts this process leaves it one right, to go into the empty folder that it begins in. */
static bool enter_folder(void) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {0};
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_SYS_CHROOT, 0, 0) != 1)
        return true;
    return chroot(".") == 0 && chdir("/") == 0 && syscall(SYS_capset, &head, none) == 0;
}

/* No process and no thread from here on, also where the filter is left out. Threads lock themselves in before the first one
 * does, which may have more of them to start. */
static bool forbid_processes(void) {
    return gettid() != getpid() || setrlimit(RLIMIT_NPROC, &(struct rlimit){0, 0}) == 0;
}

enum err sandbox_enter(const struct sandbox_call *calls, uint32_t count) {
    if (!enter_folder() || !forbid_processes())
        return ERR_SYSTEM;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter)
        return ERR_SYSTEM;
    int failed = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (!failed)
        failed = allow_common(filter);
    for (uint32_t i = 0; i < count && !failed; i++)
        failed = allow(filter, &calls[i]);
    if (!failed) {
        if (!without_landlock)
            landlock_enter();
        failed = without_seccomp ? 0 : seccomp_load(filter);
    }
    seccomp_release(filter);
    return failed ? ERR_SYSTEM : ERR_OK;
}

#endif
