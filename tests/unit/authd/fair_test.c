/* Tests of authd/fair.c: who is served in which order. */
#include "authd/fair.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct fair fair;

static struct fair_item *put(uint32_t link, uint8_t source, uint64_t price) {
    struct fair_item *item = calloc(1, sizeof *item);
    *item = (struct fair_item){.link = link, .bytes = 100, .source = {{source}}, .price = price};
    enum err e = fair_put(&fair, item);
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
    uint32_t one = 0, others = 0;
    while (put(1, 1, 16))
        one++;
    ck_assert_uint_eq(one, FAIR_ITEMS_MAX / 2);
    for (uint8_t source = 2; put(1, source, 16); source = (uint8_t)(source == 200 ? 2 : source + 1))
        others++;
    ck_assert_uint_eq(others, FAIR_ITEMS_MAX / 2);
    ck_assert_ptr_nonnull(put(2, 1, 16));
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
    tcase_add_test(tcase, test_drop);
    tcase_add_test(tcase, test_networks);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
