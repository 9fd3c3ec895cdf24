/* SPDX-License-Identifier: Apache-2.0 */
/* base/wipe.h: bytes that must not be left behind.
 *
 * A memset that the compiler may not leave out. The C library's explicit_bzero does the same, but a sanitizer does not look at
 * it: a wipe of memory that has been freed would go unseen.
 */
#ifndef BASE_WIPE_H
#define BASE_WIPE_H

#include <stddef.h>
#include <string.h>

/* Zeroes len bytes; `at` may be null if there are none. */
static inline void wipe(void *at, size_t len) {
    if (len == 0)
        return;
    memset(at, 0, len);
    __asm__ volatile("" : : "r"(at) : "memory"); /* for the compiler: the zeroes may be read */
}

#endif
