/* SPDX-License-Identifier: Apache-2.0 */
/* Lists against an array that does the same, by random steps on two lists that share their things; and a wipe. */
#include <check.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/list.h"
#include "base/wipe.h"
#include "tests/unit/unit.h"

enum { THINGS = 16, STEPS = 20000 };

struct thing {
    uint32_t number;
    struct list_link link;
};

/* What a list should hold, in order. */
struct model {
    uint32_t at[THINGS], count;
};

static void model_remove(struct model *m, uint32_t number) {
    for (uint32_t i = 0; i < m->count; i++) {
        if (m->at[i] != number)
            continue;
        memmove(&m->at[i], &m->at[i + 1], (--m->count - i) * sizeof m->at[0]);
        return;
    }
}

static void compare(const struct list *l, const struct model *m) {
    const struct list_link *link = l->head.next;
    for (uint32_t i = 0; i < m->count; i++, link = link->next) {
        ck_assert_uint_eq(list_entry(link, struct thing, link)->number, m->at[i]);
        ck_assert_ptr_eq(link->next->prev, link);
    }
    ck_assert_ptr_eq(link, &l->head);
    ck_assert(list_is_empty(l) == (m->count == 0));
}

START_TEST(test_random) {
    struct thing things[THINGS] = {0};
    struct list lists[2];
    struct model models[2] = {0};
    srand(7);
    for (uint32_t i = 0; i < THINGS; i++)
        things[i].number = i;
    list_init(&lists[0]);
    list_init(&lists[1]);
    for (int step = 0; step < STEPS; step++) {
        int which = rand() % 2;
        struct thing *t = &things[rand() % THINGS];
        struct model *m = &models[which];
        switch (rand() % 8) {
        case 0:
        case 1:
        case 2:
            if (!list_has(&t->link))
                m->at[m->count++] = t->number;
            list_add(&lists[which], &t->link);
            break;
        case 3:
        case 4:
            model_remove(&models[0], t->number);
            model_remove(&models[1], t->number);
            list_remove(&t->link);
            ck_assert(!list_has(&t->link));
            break;
        case 5: {
            struct list_link *first = list_pop(&lists[which]);
            ck_assert((first != NULL) == (m->count > 0));
            if (first)
                model_remove(m, list_entry(first, struct thing, link)->number);
            break;
        }
        default:
            if (models[!which].count > 0)
                break;
            list_move(&lists[!which], &lists[which]);
            models[!which] = *m;
            m->count = 0;
        }
        compare(&lists[0], &models[0]);
        compare(&lists[1], &models[1]);
    }
}
END_TEST

START_TEST(test_wipe) {
    char bytes[] = "a secret";
    wipe(bytes + 2, 6);
    ck_assert_int_eq(memcmp(bytes, (const char[sizeof bytes]){'a', ' '}, sizeof bytes), 0);
    wipe(NULL, 0);
}
END_TEST

int main(void) {
    Suite *s = suite_create("list");
    TCase *t = tcase_create("list");
    tcase_add_test(t, test_random);
    tcase_add_test(t, test_wipe);
    suite_add_tcase(s, t);
    return unit_run(s);
}
