/* SPDX-License-Identifier: Apache-2.0 */
/* The slab: alignment, reuse, no overlap, and a random run that writes every piece full and looks at it again. */
#include "base/slab.h"

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/unit/unit.h"

START_TEST(test_sizes) {
    struct slab s = {0};
    static const size_t sizes[] = {0, 1, 7, 8, 9, 48, 255, 256, 257, 4096, 1000000};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    void *pieces[COUNT];
    for (size_t i = 0; i < COUNT; i++) {
        pieces[i] = slab_take(&s, sizes[i]);
        ck_assert_msg(pieces[i] != NULL && (uintptr_t)pieces[i] % 8 == 0, "size %zu", sizes[i]);
        memset(pieces[i], 0xa5, sizes[i]);
    }
    for (size_t i = 0; i < COUNT; i++)
        slab_give(&s, pieces[i], sizes[i]);
    slab_give(&s, NULL, 8);
    slab_free(&s);
}
END_TEST

#ifndef BULKHEAD_SANITIZED
START_TEST(test_reuse_within_a_class) {
    struct slab s = {0};
    void *a = slab_take(&s, 17);
    slab_give(&s, a, 17);
    ck_assert_ptr_eq(slab_take(&s, 24), a);
    ck_assert_ptr_ne(slab_take(&s, 24), a);
    slab_free(&s);
}
END_TEST

START_TEST(test_rest_of_a_block_is_used) {
    struct slab s = {0};
    while (s.fresh_len == 0 || s.fresh_len >= 256)
        ck_assert_ptr_nonnull(slab_take(&s, 200));
    void *rest = s.fresh;
    size_t rest_len = s.fresh_len;
    ck_assert_ptr_nonnull(slab_take(&s, 256));
    if (rest_len > 0)
        ck_assert_ptr_eq(slab_take(&s, rest_len), rest);
    slab_free(&s);
}
END_TEST
#endif

START_TEST(test_resize_keeps_content) {
    static const size_t steps[] = {8, 16, 15, 256, 257, 100000, 300, 256, 1};
    struct slab s = {0};
    size_t size = steps[0];
    char *p = slab_take(&s, size);
    memset(p, 'x', size);
    for (size_t i = 1; i < sizeof steps / sizeof steps[0]; i++) {
        p = slab_resize(&s, p, size, steps[i]);
        ck_assert_ptr_nonnull(p);
        size_t kept = size < steps[i] ? size : steps[i];
        for (size_t j = 0; j < kept; j++)
            ck_assert_msg(p[j] == 'x', "step %zu, byte %zu", i, j);
        size = steps[i];
        memset(p, 'x', size);
    }
    slab_give(&s, p, size);
    slab_free(&s);
}
END_TEST

struct piece {
    unsigned char *at;
    size_t size;
    unsigned char fill;
};

static bool intact(const struct piece *p) {
    for (size_t i = 0; i < p->size; i++) {
        if (p->at[i] != p->fill)
            return false;
    }
    return true;
}

START_TEST(test_random_pieces_never_overlap) {
    enum { PIECES = 2000, OPS = 300000 };
    const char *given = getenv("SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    printf("slab_test: SEED=%u\n", seed);
    srand(seed);
    struct slab s = {0};
    struct piece *pieces = calloc(PIECES, sizeof *pieces);
    for (int op = 0; op < OPS; op++) {
        struct piece *p = &pieces[rand() % PIECES];
        size_t size = (size_t)(rand() % (rand() % 50 == 0 ? 2000 : 300));
        if (p->at == NULL) {
            p->at = slab_take(&s, size);
        } else {
            ck_assert_msg(intact(p), "operation %d", op);
            if (rand() % 3 == 0) {
                p->at = slab_resize(&s, p->at, p->size, size);
            } else {
                slab_give(&s, p->at, p->size);
                *p = (struct piece){0};
                continue;
            }
        }
        ck_assert_ptr_nonnull(p->at);
        p->size = size;
        p->fill = (unsigned char)rand();
        memset(p->at, p->fill, size);
    }
    for (int i = 0; i < PIECES; i++) {
        if (pieces[i].at != NULL) {
            ck_assert(intact(&pieces[i]));
            slab_give(&s, pieces[i].at, pieces[i].size);
        }
    }
    slab_free(&s);
    free(pieces);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("slab");
    TCase *c = tcase_create("slab");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, test_sizes);
#ifndef BULKHEAD_SANITIZED
    tcase_add_test(c, test_reuse_within_a_class);
    tcase_add_test(c, test_rest_of_a_block_is_used);
#endif
    tcase_add_test(c, test_resize_keeps_content);
    tcase_add_test(c, test_random_pieces_never_overlap);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
