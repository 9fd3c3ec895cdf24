/* SPDX-License-Identifier: Apache-2.0 */
/* The last words of a process that broke a promise to itself. They go out in one write, because nothing else can be
 * trusted any more. */
#include "base/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

_Noreturn void check_failed(const char *file, int line, const char *what) {
    char text[512];
    int n = snprintf(text, sizeof text, "F%s:%d: broken promise: %s\n", file, line, what);
    if (n > 0 && write(2, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1) < 0)
        _exit(134);
    abort();
}
