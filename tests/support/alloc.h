/* SPDX-License-Identifier: Apache-2.0 */
/* tests/support/alloc.h: allocations that fail, for one program that is linked with
 * -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc. What the C library and other libraries allocate among themselves does not fail.
 */
#ifndef TESTS_SUPPORT_ALLOC_H
#define TESTS_SUPPORT_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

static struct {
    bool armed;
    long before;  /* so many succeed first */
    long failing; /* then so many fail */
    long failed;  /* have failed */
} allocs;

/* From now on: `before` allocations succeed, then `failing` ones fail, all others succeed. */
static inline void allocs_arm(long before, long failing) {
    allocs.armed = true;
    allocs.before = before;
    allocs.failing = failing;
    allocs.failed = 0;
}

/* Returns how many have failed. */
static inline long allocs_disarm(void) {
    allocs.armed = false;
    return allocs.failed;
}

static bool alloc_fails(void) {
    if (!allocs.armed || allocs.before-- > 0 || allocs.failing == 0)
        return false;
    allocs.failing--;
    allocs.failed++;
    return true;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size) {
    return alloc_fails() ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size) {
    return alloc_fails() ? NULL : __real_calloc(count, size);
}

void *__real_realloc(void *at, size_t size);
void *__wrap_realloc(void *at, size_t size);
void *__wrap_realloc(void *at, size_t size) {
    return alloc_fails() ? NULL : __real_realloc(at, size);
}

#endif
