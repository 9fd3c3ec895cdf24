/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of authd/fair.c: who is served in which order. */
#include "authd/fair.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct fair fair;
static uint32_t dropped_of[256]; /* by source: items that had to make room */

static struct fair_item *put(uint32_t link, uint8_t source, uint64_t price) {
    struct fair_item *item = calloc(1, sizeof *item);
    *item = (struct fair_item){.link = link, .bytes = 100, .source = {{source}}, .price = price};
    struct fair_item *dropped, *next;
    enum err e = fair_put(&fair, item, &dropped);
    for (; dropped; dropped = next) {
        next = dropped->next;
        ck_assert_uint_eq(dropped->link, link);
        dropped_of[dropped->source.at[0]]++;
        free(dropped);
    }
    if (e == ERR_OK)
        return item;
    ck_assert_int_eq(e, ERR_LONG);
    free(item);
    return NULL;
}

/* The next as "link:source"; "" for none. */
static const char *take(void) {
    static char text[32];
    struct fair_item *item = fair_take(&fair);
    if (!item)
        return "";
    snprintf(text, sizeof text, "%u:%u", item->link, item->source.at[0]);
    free(item);
    return text;
}

static void open_fair(void) {
    fair_open(&fair);
    memset(dropped_of, 0, sizeof dropped_of);
}

static void empty_fair(void) {
    while (*take())
        ;
}

/* A link that floods does not keep another one waiting longer than one job. */
START_TEST(test_links) {
    for (int i = 0; i < 1000; i++)
        put(0, 1, 16);
    ck_assert_str_eq(take(), "0:1");
    put(7, 1, 16);
    put(7, 1, 16);
    int before = 0, sevens = 0;
    for (int i = 0; i < 4; i++)
        *take() == '7' ? sevens++ : before++;
    ck_assert_int_eq(sevens, 2);
    ck_assert_int_eq(before, 2);
}
END_TEST

/* What counts is work, not jobs: a link with dear jobs gets fewer of them. */
START_TEST(test_prices) {
    int dear = 0, cheap = 0;
    for (int i = 0; i < 1000; i++) {
        put(1, 1, 64);
        put(2, 1, 4);
    }
    for (int i = 0; i < 510; i++)
        *take() == '1' ? dear++ : cheap++;
    ck_assert_int_ge(cheap, 16 * (dear - 1));
    ck_assert_int_le(cheap, 16 * (dear + 1));
}
END_TEST

/* A pause saves nothing up. */
START_TEST(test_pause) {
    for (int i = 0; i < 1000; i++)
        put(1, 1, 16);
    for (int i = 0; i < 500; i++)
        take();
    for (int i = 0; i < 500; i++)
        put(2, 1, 16);
    int ones = 0;
    for (int i = 0; i < 100; i++)
        ones += *take() == '1';
    ck_assert_int_ge(ones, 49);
}
END_TEST

START_TEST(test_sources) {
    for (int i = 0; i < 3; i++)
        put(1, 1, 16);
    put(1, 2, 16);
    put(1, 3, 16);
    put(1, 2, 16);
    static const char *const order[] = {"1:1", "1:2", "1:3", "1:1", "1:2", "1:1", ""};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        ck_assert_str_eq(take(), order[i]);
}
END_TEST

/* A source fills half of its link, other sources the rest, other links are not concerned. */
START_TEST(test_full) {
    uint32_t one = 0;
    while (put(1, 1, 16))
        one++;
    ck_assert_uint_eq(one, FAIR_ITEMS_MAX / 2);
    for (uint32_t i = 0; i < FAIR_ITEMS_MAX / 2; i++)
        ck_assert_ptr_nonnull(put(1, (uint8_t)(2 + i % 4), 16));
    ck_assert_uint_eq(fair.link[1].items, FAIR_ITEMS_MAX);
    ck_assert_ptr_nonnull(put(2, 1, 16));
    for (int i = 0; i < 256; i++)
        ck_assert_uint_eq(dropped_of[i], 0);
}
END_TEST

/* Three sources that flood fill a link, and a fourth one is let in all the same: the newest of who has most makes room.
 * Who has most is not let in. */
START_TEST(test_full_of_others) {
    for (uint32_t i = 0; i < FAIR_ITEMS_MAX; i++)
        ck_assert_ptr_nonnull(put(1, (uint8_t)(i % 8 == 0 ? 1 : i % 3 + 1), 16));
    ck_assert_ptr_null(put(1, 1, 16));
    ck_assert_uint_eq(dropped_of[1] + dropped_of[2] + dropped_of[3], 0);
    uint32_t before = fair.link[1].items;
    for (int i = 0; i < 100; i++)
        ck_assert_ptr_nonnull(put(1, 9, 16));
    ck_assert_uint_eq(dropped_of[1], 100);
    ck_assert_uint_eq(dropped_of[9], 0);
    ck_assert_uint_eq(fair.link[1].items, before);
    int nines = 0;
    for (int i = 0; i < 400; i++)
        nines += strcmp(take(), "1:9") == 0;
    ck_assert_int_eq(nines, 100);
}
END_TEST

/* Few large ones count as much as many small ones. */
START_TEST(test_full_of_bytes) {
    enum { LARGE = 60000, COUNT = FAIR_BYTES_MAX / LARGE, SOURCES = 3 };
    static struct fair_item item[COUNT], late = {.link = 1, .bytes = LARGE, .source = {{9}}, .price = 1};
    struct fair_item *dropped;
    for (size_t i = 0; i < COUNT; i++) {
        item[i] = (struct fair_item){.link = 1, .bytes = LARGE, .source = {{(uint8_t)(i % SOURCES)}}, .price = 1};
        ck_assert_int_eq(fair_put(&fair, &item[i], &dropped), ERR_OK);
        ck_assert_ptr_null(dropped);
    }
    ck_assert_int_eq(fair_put(&fair, &late, &dropped), ERR_OK);
    ck_assert_ptr_nonnull(dropped);
    ck_assert_ptr_null(dropped->next);
    ck_assert(dropped >= &item[COUNT - SOURCES] && dropped <= &item[COUNT - 1]);
    while (fair_take(&fair))
        ;
}
END_TEST

START_TEST(test_remove) {
    struct fair_item *a = put(1, 1, 16), *b = put(1, 2, 16), *c = put(1, 2, 16), *d = put(1, 3, 16);
    ck_assert(fair_remove(&fair, c));
    ck_assert(!fair_remove(&fair, c));
    ck_assert(fair_remove(&fair, d));
    ck_assert_str_eq(take(), "1:1");
    ck_assert(fair_remove(&fair, b));
    ck_assert_str_eq(take(), "");
    ck_assert_uint_eq(fair.link[1].items + fair.link[1].bytes, 0);
    free(b);
    free(c);
    free(d);
    a = put(1, 3, 16);
    ck_assert_ptr_eq(fair_take_of(&fair, 1), a);
    ck_assert(!fair_remove(&fair, a));
    free(a);
}
END_TEST

START_TEST(test_drop) {
    for (uint8_t i = 0; i < 100; i++) {
        put(1, i % 7, 16);
        put(2, i % 7, 16);
    }
    struct fair_item *item;
    int dropped = 0;
    while ((item = fair_take_of(&fair, 1))) {
        ck_assert_uint_eq(item->link, 1);
        free(item);
        dropped++;
    }
    ck_assert_int_eq(dropped, 100);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(*take(), '2');
    ck_assert_str_eq(take(), "");
}
END_TEST

START_TEST(test_networks) {
    static const uint8_t v4[16] = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 1},
                         v4_other[16] = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 2};
    static const uint8_t v6[16] = {0x20, 1, 2, 3, 4, 5, 6, 7, 8}, v6_near[16] = {0x20, 1, 2, 3, 4, 5, 6, 7, 9},
                         v6_far[16] = {0x20, 1, 2, 3, 4, 5, 6, 8, 8};
    ck_assert(!source_equal(source_of(view_of(v4, 16)), source_of(view_of(v4_other, 16))));
    ck_assert(source_equal(source_of(view_of(v6, 16)), source_of(view_of(v6_near, 16))));
    ck_assert(!source_equal(source_of(view_of(v6, 16)), source_of(view_of(v6_far, 16))));
    ck_assert(source_equal(source_of(view_of(v6, 15)), source_of(view_of("", 0))));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("fair");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, open_fair, empty_fair);
    tcase_add_test(tcase, test_links);
    tcase_add_test(tcase, test_prices);
    tcase_add_test(tcase, test_pause);
    tcase_add_test(tcase, test_sources);
    tcase_add_test(tcase, test_full);
    tcase_add_test(tcase, test_full_of_others);
    tcase_add_test(tcase, test_full_of_bytes);
    tcase_add_test(tcase, test_remove);
    tcase_add_test(tcase, test_drop);
    tcase_add_test(tcase, test_networks);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
