/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of base/sandbox.c: each row is tried in a process of its own that has locked itself in. */
#include "base/sandbox.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdbool.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "tests/unit/unit.h"

#ifndef BULKHEAD_SANITIZED

static int pair[2];

/* What a daemon might allow itself. */
static const struct sandbox_call allowed[] = {
    SANDBOX_CALL(getppid),
    SANDBOX_CALL_ARGS(sendto, SANDBOX_ARG(3, MSG_FASTOPEN, 0), SANDBOX_ARG(4, UINT64_MAX, 0)),
    SANDBOX_CALL_ARGS(fcntl, SANDBOX_ARG(1, UINT32_MAX, F_GETFL)),
    SANDBOX_CALL_ARGS(fcntl, SANDBOX_ARG(1, UINT32_MAX, F_DUPFD_CLOEXEC)),
    SANDBOX_CALL(openat), /* for the second wall */
    SANDBOX_CALL(kill),
};

static bool do_write(void) {
    return write(pair[0], "x", 1) == 1;
}
static bool do_memory(void) {
    char *p = malloc(10 << 20);
    memset(p, 1, 10 << 20);
    p = realloc(p, 40 << 20);
    bool ok = p && p[5] == 1;
    free(p);
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return ok && madvise(page, 4096, MADV_DONTNEED) == 0 && mprotect(page, 4096, PROT_READ) == 0;
}
static bool do_clock(void) {
    struct timespec t;
    return clock_gettime(CLOCK_REALTIME, &t) == 0;
}
static bool do_getppid(void) {
    return getppid() > 0;
}
static bool do_send(void) {
    return send(pair[0], "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
}
static bool do_getfl(void) {
    return fcntl(pair[0], F_GETFL) >= 0;
}
static bool do_dupfd(void) {
    return fcntl(pair[0], F_DUPFD_CLOEXEC, 0) >= 0;
}

static struct sockaddr_in somewhere = {.sin_family = AF_INET, .sin_port = 9};
static bool do_send_to(void) {
    return sendto(pair[0], "x", 1, 0, (struct sockaddr *)&somewhere, sizeof somewhere);
}
static bool do_fast_open(void) {
    return send(pair[0], "x", 1, MSG_FASTOPEN);
}
static bool do_setfl(void) {
    return fcntl(pair[0], F_SETFL, O_NONBLOCK);
}
static bool do_setsig(void) {
    return fcntl(pair[0], F_SETSIG, SIGKILL);
}
static bool do_exec_map(void) {
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}
static bool do_exec_protect(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return mprotect(page, 4096, PROT_READ | PROT_EXEC);
}
static bool do_madv_remove(void) {
    return madvise(NULL, 4096, MADV_REMOVE);
}
static bool do_fork(void) {
    return fork();
}
static bool do_exec(void) {
    return execl("/bin/true", "true", NULL);
}
static bool do_socket(void) {
    return socket(AF_INET, SOCK_STREAM, 0);
}
static bool do_ptrace(void) {
    return ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}
static bool do_unshare(void) {
    return unshare(CLONE_NEWUSER);
}
static bool do_prctl(void) {
    return prctl(PR_SET_PDEATHSIG, 0);
}
static bool do_fchmod(void) {
    return fchmod(pair[0], 0777);
}
static bool do_memfd(void) {
    return memfd_create("x", 0);
}
static bool do_io_uring(void) {
    return syscall(SYS_io_uring_setup, 1, NULL);
}
static bool do_32_bit(void) { /* getpid by the gate of 32-bit programs: its number is another call's */
    long result = 20;
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory");
    return result;
}
static bool do_abort(void) {
    abort();
}
static bool do_check(void) {
    check(pair[0] < 0);
    return true;
}
static bool do_kill_self_softly(void) {
    return syscall(SYS_tgkill, getpid(), gettid(), SIGTERM);
}

/* Allowed by the filter, refused by Landlock (where the kernel has it). */
static bool landlock_version(int version) {
    return syscall(SYS_landlock_create_ruleset, NULL, 0, 1) >= version;
}
static bool do_open(void) {
    return open("/etc/passwd", O_RDONLY) < 0 && errno == EACCES;
}
static bool do_kill_parent(void) {
    return kill(getppid(), 0) < 0 && errno == EPERM;
}

enum expected { WORKS, KILLED, ABORTS };
static const struct {
    const char *name;
    bool (*try)(void);
    enum expected expected;
    int landlock;
} rows[] = {
    {"write", do_write, WORKS, 0},
    {"memory", do_memory, WORKS, 0},
    {"clock", do_clock, WORKS, 0},
    {"a call of the daemon's list", do_getppid, WORKS, 0},
    {"send without an address", do_send, WORKS, 0},
    {"fcntl F_GETFL", do_getfl, WORKS, 0},
    {"fcntl F_DUPFD_CLOEXEC, the second row of one call", do_dupfd, WORKS, 0},
    {"abort", do_abort, ABORTS, 0},
    {"a broken promise", do_check, ABORTS, 0},
    {"open a file", do_open, WORKS, 1},
    {"signal the parent", do_kill_parent, WORKS, 6},
    {"send to an address", do_send_to, KILLED, 0},
    {"send with MSG_FASTOPEN", do_fast_open, KILLED, 0},
    {"fcntl F_SETFL", do_setfl, KILLED, 0},
    {"fcntl F_SETSIG", do_setsig, KILLED, 0},
    {"executable map", do_exec_map, KILLED, 0},
    {"executable mprotect", do_exec_protect, KILLED, 0},
    {"madvise MADV_REMOVE", do_madv_remove, KILLED, 0},
    {"fork", do_fork, KILLED, 0},
    {"exec", do_exec, KILLED, 0},
    {"socket", do_socket, KILLED, 0},
    {"ptrace", do_ptrace, KILLED, 0},
    {"unshare", do_unshare, KILLED, 0},
    {"prctl", do_prctl, KILLED, 0},
    {"fchmod", do_fchmod, KILLED, 0},
    {"memfd_create", do_memfd, KILLED, 0},
    {"io_uring_setup", do_io_uring, KILLED, 0},
    {"a 32-bit call", do_32_bit, KILLED, 0},
    {"tgkill with another signal", do_kill_self_softly, KILLED, 0},
};

static int run_locked_in(bool (*try)(void)) {
    pid_t pid = fork();
    if (pid == 0) {
        sandbox_start();
        if (dup2(open("/dev/null", O_WRONLY), 2) != 2 ||
            sandbox_enter(allowed, sizeof allowed / sizeof *allowed) != ERR_OK)
            _exit(3);
        _exit(try() ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return status;
}

START_TEST(test_row) {
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    if (rows[_i].landlock && !landlock_version(rows[_i].landlock))
        return;
    int status = run_locked_in(rows[_i].try);
    bool fits = rows[_i].expected == WORKS    ? WIFEXITED(status) && WEXITSTATUS(status) == 0
                : rows[_i].expected == ABORTS ? WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT
                                              : WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
    ck_assert_msg(fits, "%s: status 0x%x", rows[_i].name, status);
}
END_TEST

/* ---- relaxations ---- */

static bool do_open_freely(void) {
    return open("/etc/passwd", O_RDONLY) >= 0;
}
/* The kernel lets root start as many as it likes. */
static bool do_not_fork(void) {
    return (geteuid() != 0 || setresuid(65533, 65533, 65533) == 0) && fork() < 0 && errno == EAGAIN;
}
static bool do_socket_freely(void) {
    return socket(AF_INET, SOCK_STREAM, 0) >= 0;
}

static const struct {
    const char *without;
    bool (*try)(void);
    enum expected expected;
    int landlock;
} relaxed_rows[] = {
    {"landlock", do_open_freely, WORKS, 0},
    {"landlock", do_socket_freely, KILLED, 0},
    {"seccomp", do_socket_freely, WORKS, 0},
    {"seccomp", do_open, WORKS, 1},
    {"seccomp,landlock", do_socket_freely, WORKS, 0},
    {"seccomp,landlock", do_open_freely, WORKS, 0},
    {"", do_socket_freely, KILLED, 0},
    {"", do_open, WORKS, 1},
    {"seccomp", do_not_fork, WORKS, 0},
};

START_TEST(test_relaxed) {
    if (relaxed_rows[_i].landlock && !landlock_version(relaxed_rows[_i].landlock))
        return;
    setenv(SANDBOX_WITHOUT, relaxed_rows[_i].without, 1);
    int status = run_locked_in(relaxed_rows[_i].try);
    unsetenv(SANDBOX_WITHOUT);
    bool fits = relaxed_rows[_i].expected == WORKS ? WIFEXITED(status) && WEXITSTATUS(status) == 0
                                                   : WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS;
    ck_assert_msg(fits, "row %d, without \"%s\": status 0x%x", _i, relaxed_rows[_i].without, status);
}
END_TEST

/* ---- the empty root folder ---- */

static uint64_t capabilities(void) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2];
    check(syscall(SYS_capget, &head, sets) == 0);
    return sets[0].permitted | sets[0].effective | sets[0].inheritable | (uint64_t)sets[1].permitted << 32;
}

/* As the supervisor prepares it: in a folder without a name, with the one capability. */
static bool prepare_folder(void) {
    char path[] = "/tmp/sandbox-test-XXXXXX";
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2];
    if (!mkdtemp(path) || chdir(path) != 0 || rmdir(path) != 0 || syscall(SYS_capget, &head, sets) != 0)
        return false;
    sets[0].inheritable = 1u << CAP_SYS_CHROOT;
    return syscall(SYS_capset, &head, sets) == 0 &&
           prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_CHROOT, 0, 0) == 0;
}

static int look_around(void) {
    if (sandbox_enter(allowed, sizeof allowed / sizeof *allowed) != ERR_OK)
        return 2;
    if (capabilities() != 0)
        return 3;
    if (open("/etc/passwd", O_RDONLY) >= 0 || errno != ENOENT || open("/..", O_PATH) < 0)
        return 4;
    if (open("/file", O_WRONLY | O_CREAT, 0600) >= 0 || mkdir("/folder", 0700) == 0)
        return 5;
    return chroot(".") == 0 ? 6 : 0;
}

START_TEST(test_folder) {
    if (geteuid() != 0)
        return; /* it has no right to give */
    pid_t pid = fork();
    if (pid == 0) {
        setenv(SANDBOX_WITHOUT, "seccomp,landlock", 1); /* so that the folder alone answers */
        sandbox_start();
        _exit(prepare_folder() ? look_around() : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

static bool is_started(void) {
    int signal_number = 0;
    return prctl(PR_GET_DUMPABLE) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 &&
           prctl(PR_GET_PDEATHSIG, &signal_number) == 0 && signal_number == SIGKILL && umask(0) == 077;
}

START_TEST(test_start) {
    pid_t pid = fork();
    if (pid == 0) {
        sandbox_start();
        _exit(is_started() ? 0 : 1);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

#endif

int main(void) {
    Suite *suite = suite_create("sandbox");
    TCase *tcase = tcase_create("all");
#ifndef BULKHEAD_SANITIZED
    tcase_add_loop_test(tcase, test_row, 0, sizeof rows / sizeof *rows);
    tcase_add_loop_test(tcase, test_relaxed, 0, sizeof relaxed_rows / sizeof *relaxed_rows);
    tcase_add_test(tcase, test_folder);
    tcase_add_test(tcase, test_start);
#endif
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
