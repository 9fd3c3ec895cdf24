/* SPDX-License-Identifier: Apache-2.0 */
/* The table: after every operation each reference is found once, whatever is being moved. Tags are uniform, or crowded
 * so that clusters are long and run over the end. SEED can be given in the environment. */
#include "router/table.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/unit/unit.h"

enum { REFS = 600, OPS = 20000 };

static const struct {
    const char *name;
    uint32_t or_mask, and_mask; /* applied to a random tag */
} tags[] = {
    {"uniform", 0, UINT32_MAX},
    {"few homes", 0, 0xf000000f},
    {"all at the end", 0xffffff00, UINT32_MAX},
    {"one tag", 0x80000000, 0x80000000},
};

static uint32_t random_tag(int i) {
    return ((uint32_t)rand() << 16 ^ (uint32_t)rand() ^ (uint32_t)rand() << 31) & tags[i].and_mask;
}

static uint32_t times_found(const struct table *t, uint32_t tag, uint32_t ref) {
    uint32_t times = 0, found;
    struct table_seek seek = table_seek(t, tag);
    while ((found = table_next(t, &seek)) != 0)
        times += found == ref;
    return times;
}

static void count_visit(void *context, uint32_t ref) {
    uint8_t *seen = context;
    seen[ref]++;
}

static void check_all(const struct table *t, const uint32_t *tag, const bool *in, const char *name, int op) {
    uint8_t seen[REFS] = {0};
    table_each(t, count_visit, seen);
    for (uint32_t ref = 1; ref < REFS; ref++) {
        if (seen[ref] != in[ref] || times_found(t, tag[ref], ref) != in[ref])
            ck_abort_msg("%s, operation %d, reference %u", name, op, ref);
    }
}

START_TEST(test_every_reference_is_found) {
    const char *given = getenv("SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 0) : (unsigned)time(NULL);
    printf("table_test: SEED=%u\n", seed);
    srand(seed);
    struct table t = {0};
    uint32_t tag[REFS] = {0};
    bool in[REFS] = {false};
    uint32_t count = 0;
    int fill = 90;
    for (int op = 0; op < OPS; op++) {
        if (op % 1500 == 0)
            fill = fill > 50 ? 5 : 95;
        uint32_t ref = 1 + (uint32_t)rand() % (REFS - 1);
        bool insert = rand() % 100 < fill;
        if (!in[ref] && insert) {
            tag[ref] = random_tag(_i) | tags[_i].or_mask;
            ck_assert_int_eq(table_insert(&t, tag[ref], ref), ERR_OK);
            in[ref] = true;
            count++;
        } else if (in[ref] && !insert) {
            table_remove(&t, tag[ref], ref);
            in[ref] = false;
            count--;
        } else {
            table_step(&t);
        }
        if (t.count != count || (count == 0) != (table_bytes(&t) == 0))
            ck_abort_msg("%s, operation %d: count %u, not %u", tags[_i].name, op, t.count, count);
        if (t.old != NULL || op % 16 == 0)
            check_all(&t, tag, in, tags[_i].name, op);
    }
    table_free(&t);
}
END_TEST

/* Large enough for mmap, and for old memory to go back in parts. */
START_TEST(test_large) {
    enum { LARGE = 60000 };
    struct table t = {0};
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t ref = 1; ref < LARGE; ref++) {
            if (table_insert(&t, ref * 2654435761u, ref) != ERR_OK)
                ck_abort_msg("insert of %u", ref);
            for (uint32_t back = ref; back > 0; back /= 2) {
                if (times_found(&t, back * 2654435761u, back) != 1)
                    ck_abort_msg("%u lost after %u", back, ref);
            }
        }
        ck_assert_uint_ge(table_bytes(&t), LARGE * sizeof(struct slot));
        for (uint32_t ref = 1; ref < LARGE; ref++) {
            table_remove(&t, ref * 2654435761u, ref);
            for (uint32_t left = LARGE - 1; left > ref; left = ref + (left - ref) / 2) {
                if (times_found(&t, left * 2654435761u, left) != 1)
                    ck_abort_msg("%u lost without %u", left, ref);
            }
        }
        ck_assert_uint_eq(table_bytes(&t), 0);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("table");
    TCase *c = tcase_create("table");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, test_every_reference_is_found, 0, (int)(sizeof tags / sizeof tags[0]));
    tcase_add_test(c, test_large);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
