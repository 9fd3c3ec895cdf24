/* SPDX-License-Identifier: Apache-2.0 */
/* The pool: pieces keep their bytes and their place through random taking and giving; memory goes with the last piece.
 */
#include "base/pool.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/unit/unit.h"

struct piece {
    uint32_t ref; /* 0: none */
    size_t size;
    unsigned char fill;
};

static void look(const struct pool *p, const struct piece *piece) {
    const unsigned char *at = pool_at(p, piece->ref);
    for (size_t i = 0; i < piece->size; i++) {
        if (at[i] != piece->fill)
            ck_abort_msg("piece %u of %zu bytes, byte %zu", piece->ref, piece->size, i);
    }
}

START_TEST(test_random_pieces) {
    enum { PIECES = 20000, OPS = 400000 };
    const char *given = getenv("SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    printf("pool_test: SEED=%u\n", seed);
    srand(seed);
    struct pool p = {0};
    struct piece *pieces = calloc(PIECES, sizeof *pieces);
    size_t live = 0;
    int fill = 80;
    for (int op = 0; op < OPS; op++) {
        if (op % 50000 == 0)
            fill = fill > 50 ? 20 : 80;
        struct piece *piece = &pieces[rand() % PIECES];
        if (piece->ref != 0 && rand() % 100 >= fill) {
            look(&p, piece);
            pool_give(&p, piece->ref);
            piece->ref = 0;
            live -= piece->size;
        } else if (piece->ref == 0 && rand() % 100 < fill) {
            piece->size = 1 + (size_t)(rand() % (rand() % 2 ? POOL_PIECE_MAX : 48));
            piece->fill = (unsigned char)rand();
            unsigned char *at = pool_take(&p, piece->size, &piece->ref);
            if (at == NULL || at != pool_at(&p, piece->ref) || (uintptr_t)at % POOL_UNIT != 0 || piece->ref == 0)
                ck_abort_msg("operation %d", op);
            memset(at, piece->fill, piece->size);
            live += piece->size;
        }
        if (p.bytes < live)
            ck_abort_msg("%zu bytes hold %zu", p.bytes, live);
    }
    for (int i = 0; i < PIECES; i++) {
        if (pieces[i].ref != 0) {
            look(&p, &pieces[i]);
            pool_give(&p, pieces[i].ref);
        }
    }
    ck_assert_uint_eq(p.bytes, 0);
    ck_assert_ptr_null(p.chunks);
    free(pieces);
}
END_TEST

START_TEST(test_small_begin_dense_end) {
    enum { COUNT = 100000, SIZE = 40 };
    struct pool p = {0};
    uint32_t ref;
    ck_assert_ptr_nonnull(pool_take(&p, SIZE, &ref));
    ck_assert_uint_lt(p.bytes, 1024);
    for (int i = 1; i < COUNT; i++) {
        if (pool_take(&p, SIZE, &ref) == NULL)
            ck_abort_msg("piece %d", i);
    }
    ck_assert_uint_lt(p.bytes, COUNT * (SIZE + 2));
    pool_free(&p);
    ck_assert_uint_eq(p.bytes, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("pool");
    TCase *c = tcase_create("pool");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, test_random_pieces);
    tcase_add_test(c, test_small_begin_dense_end);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
