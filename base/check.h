/* SPDX-License-Identifier: Apache-2.0 */
/* base/check.h: promises that our own code makes to itself.
 *
 * check(cond) ends the process when cond does not hold; the supervisor starts a fresh process, and the walls confine the loss.
 * It is never used for input from outside: bad input is an `enum err`.
 */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#define likely(x)   __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Writes the broken promise to the log descriptor (2) and aborts. */
_Noreturn void check_failed(const char *file, int line, const char *what);

#define check(cond)                                                                                                    \
    do {                                                                                                               \
        if (unlikely(!(cond)))                                                                                         \
            check_failed(__FILE__, __LINE__, #cond);                                                                   \
    } while (0)

#endif
