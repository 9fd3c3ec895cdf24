/* Tests of supervisor/places.c: the bound is exact, and everybody is answered. */
#include "supervisor/places.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct places places;
static int32_t answer[LINKS_MAX]; /* -1: none since it was looked at */
static uint32_t recalls[LINKS_MAX];

static void on_places(void *owner, uint32_t frontend, uint32_t count) {
    (void)owner;
    ck_assert_int_eq(answer[frontend], -1);
    answer[frontend] = (int32_t)count;
}

static void on_recall(void *owner, uint32_t frontend) {
    (void)owner;
    recalls[frontend]++;
}

static void open_places(uint32_t count, uint32_t frontends) {
    memset(recalls, 0, sizeof recalls);
    for (uint32_t i = 0; i < LINKS_MAX; i++)
        answer[i] = -1;
    places_open(&places, count, NULL, on_places, on_recall);
    for (uint32_t i = 0; i < frontends; i++)
        places_join(&places, i);
}

static int32_t take_answer(uint32_t frontend) {
    int32_t a = answer[frontend];
    answer[frontend] = -1;
    return a;
}

static int32_t want(uint32_t frontend) {
    places_want(&places, frontend, 0);
    return take_answer(frontend);
}

START_TEST(test_blocks) {
    open_places(65536, 2);
    ck_assert_int_eq(want(0), PLACES_BLOCK_MAX);
    ck_assert_int_eq(want(1), PLACES_BLOCK_MAX);
    open_places(8, 2);
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(want((uint32_t)i % 2), 1);
}
END_TEST

START_TEST(test_bound_single) {
    open_places(3, 1);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(want(0), 1);
    ck_assert_int_eq(want(0), 0); /* nobody else to ask: at once */
    ck_assert_int_eq(places_back(&places, 0, 1, 0), ERR_OK);
    ck_assert_int_eq(want(0), 1);
    ck_assert_int_eq(want(0), 0);
}
END_TEST

/* A frontend that has descriptors for no more is told so at once, whatever is free. */
START_TEST(test_bound_of_each) {
    open_places(100, 2);
    places.each_max = 7;
    int32_t got = 0;
    for (int32_t more; (more = want(0)) > 0;)
        got += more;
    ck_assert_int_eq(got, 7);
    ck_assert_uint_eq(recalls[1], 0);
    ck_assert_int_gt(want(1), 0);
    ck_assert_int_eq(places_back(&places, 0, 1, 0), ERR_OK);
    ck_assert_int_eq(want(0), 1);
}
END_TEST

START_TEST(test_recall) {
    open_places(4, 3);
    ck_assert_int_eq(want(1), 1);
    ck_assert_int_eq(want(1), 1);
    ck_assert_int_eq(want(2), 1);
    ck_assert_int_eq(want(2), 1);
    ck_assert_int_eq(want(0), -1);
    ck_assert_uint_eq(recalls[0], 0);
    ck_assert_uint_eq(recalls[1], 1);
    ck_assert_uint_eq(recalls[2], 1);
    ck_assert_int_eq(want(0), -1); /* asking twice changes nothing */
    ck_assert_int_eq(places_back(&places, 1, 0, 0), ERR_OK);
    ck_assert_int_eq(take_answer(0), -1);
    ck_assert_int_eq(places_back(&places, 2, 1, 0), ERR_OK);
    ck_assert_int_eq(take_answer(0), 1);
    /* Now all are in use. */
    ck_assert_int_eq(want(0), -1);
    ck_assert_int_eq(places_back(&places, 1, 0, 0), ERR_OK);
    ck_assert_int_eq(places_back(&places, 2, 0, 0), ERR_OK);
    ck_assert_int_eq(take_answer(0), 0);
}
END_TEST

START_TEST(test_two_ask) {
    open_places(2, 2);
    ck_assert_int_eq(want(0), 1);
    ck_assert_int_eq(want(1), 1);
    ck_assert_int_eq(want(0), -1);
    ck_assert_int_eq(want(1), -1);
    ck_assert_int_eq(places_back(&places, 1, 0, 0), ERR_OK);
    ck_assert_int_eq(take_answer(0), 0);
    ck_assert_uint_eq(recalls[0], 1);
    ck_assert_int_eq(places_back(&places, 0, 1, 0), ERR_OK);
    ck_assert_int_eq(take_answer(1), 1);
}
END_TEST

START_TEST(test_death) {
    open_places(3, 3);
    ck_assert_int_eq(want(1), 1);
    ck_assert_int_eq(want(1), 1);
    ck_assert_int_eq(want(2), 1);
    ck_assert_int_eq(want(0), -1);
    ck_assert_int_eq(places_back(&places, 2, 0, 0), ERR_OK);
    places_leave(&places, 1, 0); /* owes an answer, and had two */
    ck_assert_int_eq(take_answer(0), 1);
    ck_assert_uint_eq(places.free, 1);
    places_leave(&places, 1, 0);
    places_join(&places, 1);
    ck_assert_int_eq(want(1), 1);
    /* The one who asks dies: the others' answers mean nothing to anybody. */
    ck_assert_int_eq(want(0), -1);
    places_leave(&places, 0, 0);
    ck_assert_uint_eq(places.queue_len, 0);
    ck_assert_int_eq(places_back(&places, 1, 1, 0), ERR_OK);
    ck_assert_int_eq(places_back(&places, 2, 0, 0), ERR_OK);
    ck_assert_int_eq(take_answer(0), -1);
    ck_assert_uint_eq(places.free, 2);
}
END_TEST

START_TEST(test_silence) {
    open_places(1, 2);
    ck_assert_uint_eq(places_tick(&places, 0), 0);
    ck_assert_int_eq(want(1), 1);
    ck_assert_int_eq(want(0), -1);
    ck_assert_uint_eq(places_tick(&places, 10), PLACES_RECALL_MS);
    ck_assert_int_eq(take_answer(0), -1);
    ck_assert_uint_eq(places_tick(&places, PLACES_RECALL_MS), 0);
    ck_assert_int_eq(take_answer(0), 0);
    ck_assert_int_eq(places_back(&places, 1, 1, 0), ERR_OK);
    ck_assert_uint_eq(places.free, 1);
}
END_TEST

START_TEST(test_hostile) {
    open_places(10, 2);
    ck_assert_int_eq(want(0), 1);
    ck_assert_int_eq(places_back(&places, 0, 2, 0), ERR_HOSTILE);
    ck_assert_int_eq(places_back(&places, 1, 1, 0), ERR_HOSTILE);
    ck_assert_int_eq(places_back(&places, 5, 0, 0), ERR_HOSTILE);
    ck_assert_int_eq(places_back(&places, 0, UINT32_MAX, 0), ERR_HOSTILE);
    ck_assert_uint_eq(places.free, 9);
}
END_TEST

/* ---- another bound ---- */

static uint32_t sheds[LINKS_MAX];

static void on_shed(void *owner, uint32_t frontend, uint32_t count) {
    (void)owner;
    sheds[frontend] += count;
}

/* Idle places come back first; only what is in use then is closed. */
START_TEST(test_shrink) {
    open_places(10, 2);
    memset(sheds, 0, sizeof sheds);
    places.send_shed = on_shed;
    uint32_t held[2] = {0};
    for (uint32_t f = 0; f < 2; f++) {
        while (held[f] < 4)
            held[f] += (uint32_t)want(f);
    }
    places_resize(&places, 5, 0);
    ck_assert_uint_eq(recalls[0] + recalls[1], 2);
    ck_assert_uint_eq(sheds[0] + sheds[1], 0);
    ck_assert_int_eq(places_back(&places, 0, 1, 0), ERR_OK);
    ck_assert_uint_eq(sheds[0] + sheds[1], 0);
    ck_assert_int_eq(places_back(&places, 1, 0, 0), ERR_OK);
    uint32_t in_use = places.leased[0] + places.leased[1];
    ck_assert_uint_eq(in_use - sheds[0] - sheds[1], 5);
    for (uint32_t f = 0; f < 2; f++)
        ck_assert_int_eq(places_back(&places, f, sheds[f], 0), ERR_OK);
    ck_assert_uint_eq(places.owed, 0);
    ck_assert_uint_eq(places.free + places.leased[0] + places.leased[1], 5);
    places_resize(&places, 8, 0);
    ck_assert_uint_eq(places.free + places.leased[0] + places.leased[1], 8);
}
END_TEST

/* A frontend that does not answer the recall is not waited for. */
START_TEST(test_shrink_in_silence) {
    open_places(4, 2);
    memset(sheds, 0, sizeof sheds);
    places.send_shed = on_shed;
    for (uint32_t f = 0; f < 2; f++) {
        while (places.leased[f] < 2)
            want(f);
    }
    places_resize(&places, 1, 0);
    ck_assert_uint_ne(places_tick(&places, 0), 0);
    places_tick(&places, PLACES_RECALL_MS);
    ck_assert_uint_eq(sheds[0] + sheds[1], 3);
    places_leave(&places, 0, 0); /* its death pays as well */
    ck_assert_uint_eq(places.owed, 1);
}
END_TEST

/* Random life: no place is lost or made, and nobody waits while a place is free. */
START_TEST(test_random) {
    unsigned seed = (unsigned)_i + 1;
    open_places(50, 5);
    uint32_t held[5] = {0};
    for (int step = 0; step < 20000; step++) {
        uint32_t f = (uint32_t)rand_r(&seed) % 5;
        switch (rand_r(&seed) % 8) {
        case 0:
            if (places.present[f])
                places_leave(&places, f, 0);
            else
                places_join(&places, f);
            held[f] = 0;
            break;
        case 1:
        case 2:
            if (places.present[f] && held[f]) {
                uint32_t count = (uint32_t)rand_r(&seed) % (held[f] + 1);
                held[f] -= count;
                ck_assert_int_eq(places_back(&places, f, count, 0), ERR_OK);
            }
            break;
        default:
            places_want(&places, f, 0);
        }
        for (uint32_t i = 0; i < 5; i++) {
            if (places.recalled[i])
                ck_assert_int_eq(places_back(&places, i, 0, 0), ERR_OK);
        }
        uint32_t sum = places.free;
        for (uint32_t i = 0; i < 5; i++) {
            int32_t count = take_answer(i);
            held[i] += count > 0 ? (uint32_t)count : 0;
            sum += places.leased[i];
            ck_assert_msg(places.leased[i] == held[i], "seed %d, step %d", _i + 1, step);
        }
        ck_assert_msg(sum == 50 && !(places.free && places.queue_len), "seed %d, step %d", _i + 1, step);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("places");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, test_blocks);
    tcase_add_test(tcase, test_bound_single);
    tcase_add_test(tcase, test_bound_of_each);
    tcase_add_test(tcase, test_recall);
    tcase_add_test(tcase, test_two_ask);
    tcase_add_test(tcase, test_death);
    tcase_add_test(tcase, test_silence);
    tcase_add_test(tcase, test_hostile);
    tcase_add_test(tcase, test_shrink);
    tcase_add_test(tcase, test_shrink_in_silence);
    tcase_add_loop_test(tcase, test_random, 0, 5);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
