/* SPDX-License-Identifier: Apache-2.0 */
/* base/sandbox.h: what a child gives up before it touches anything foreign.
 *
 * Order in every main: sandbox_start() is the first statement; then the control messages that bring descriptors; then
 * sandbox_enter() with the daemon's own list of system calls. A call that is not on the list kills the process.
 */
#ifndef BASE_SANDBOX_H
#define BASE_SANDBOX_H

#include <stdint.h>
#include <sys/syscall.h>

#include "base/err.h"

/* A process that finds this in its environment leaves out the walls that it names, `seccomp`, `landlock`, or both
 * joined by a comma. The environment of a daemon is written by the supervisor alone. */
#define SANDBOX_WITHOUT "BULKHEAD_WITHOUT"

/* Not dumpable (exec set it back), dies with its parent (set again here because the change of user cleared it), no new
 * privileges, umask 077. Ends the process if the parent has already gone. Takes SANDBOX_WITHOUT out of the environment.
 */
void sandbox_start(void);

/* One allowed system call; up to three arguments may be pinned: (argument & mask) == value. */
struct sandbox_arg {
    uint8_t index; /* 0 to 5 */
    uint8_t used;
    uint64_t mask;
    uint64_t value;
};
struct sandbox_call {
    int number; /* SYS_… */
    struct sandbox_arg arg[3];
};

/* clang-format off */
#define SANDBOX_CALL(name)            {.number = SYS_##name}
#define SANDBOX_ARG(i, m, v)          {.index = (i), .used = 1, .mask = (m), .value = (v)}
#define SANDBOX_CALL_ARGS(name, ...)  {.number = SYS_##name, .arg = {__VA_ARGS__}}
/* clang-format on */

/* Makes the working directory the root folder if the process was given CAP_SYS_CHROOT for that (as an ambient
 * capability; supervisor/walls.h), and gives up every capability; from then on no further process or thread can be started
 * (so it is called by the first thread, after the others); locks files, TCP and other processes away (Landlock) and installs a filter that allows these calls and what every process needs (read, write, close, exit_group, futex,
 * memory: mmap and mprotect never executable, brk, munmap, mremap, madvise DONTNEED and FREE only, clock reading,
 * getrandom, signal return, restart_syscall). A call that comes several times is allowed if one of its rows fits.
 * Sanitizer builds install nothing and say so at debug level. ERR_SYSTEM. */
enum err sandbox_enter(const struct sandbox_call *calls, uint32_t count);

#endif
