/* SPDX-License-Identifier: Apache-2.0 */
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
    ck_assert_uint_eq(places_tick(&places, 10), PLACES_WAIT_MS);
    places_forgive(&places, 500);
    ck_assert_uint_eq(places_tick(&places, PLACES_WAIT_MS), PLACES_WAIT_MS + 500);
    ck_assert_int_eq(take_answer(0), -1);
    ck_assert_uint_eq(places_tick(&places, PLACES_WAIT_MS + 500), 0);
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

static void on_shed(void *owner, uint32_t frontend, uint32_t count, bool strangers) {
    (void)owner;
    (void)strangers;
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
    places_tick(&places, PLACES_WAIT_MS);
    ck_assert_uint_eq(sheds[0] + sheds[1], 3);
    places_leave(&places, 0, 0); /* its death pays as well */
    ck_assert_uint_eq(places.owed, 1);
}
END_TEST

/* ---- one that keeps what it does not use ---- */

static uint32_t known[LINKS_MAX], strangers_told[LINKS_MAX], ended[LINKS_MAX];

static uint32_t on_count(void *owner, uint32_t frontend) {
    (void)owner;
    return known[frontend];
}

static void on_end(void *owner, uint32_t frontend, const char *what) {
    (void)owner;
    ck_assert_ptr_nonnull(what);
    ended[frontend]++;
}

static void on_strangers(void *owner, uint32_t frontend, uint32_t count, bool strangers) {
    (void)owner;
    ck_assert(strangers);
    strangers_told[frontend] += count;
}

/* Frontend 0 has taken all places but those that the others hold. */
static void hoard(uint32_t total, uint32_t frontends) {
    open_places(total, frontends);
    memset(known, 0, sizeof known);
    memset(strangers_told, 0, sizeof strangers_told);
    memset(ended, 0, sizeof ended);
    places.count_bound = on_count;
    places.end = on_end;
    places.send_shed = on_strangers;
    for (uint32_t i = 1; i < frontends; i++)
        ck_assert_int_gt(want(i), 0);
    while (places.free)
        ck_assert_int_gt(want(0), 0);
}

/* It does not even answer: it is ended, and the one that asks waits for what comes back then. */
START_TEST(test_hoarder_says_nothing) {
    hoard(1000, 2);
    ck_assert_int_eq(want(1), -1);
    ck_assert_uint_eq(recalls[0], 1);
    ck_assert_uint_eq(places_tick(&places, 1), PLACES_WAIT_MS);
    ck_assert_uint_ne(places_tick(&places, PLACES_WAIT_MS), 0);
    ck_assert_int_eq(take_answer(1), -1);
    ck_assert_uint_eq(ended[0], 1);
    places_leave(&places, 0, PLACES_WAIT_MS + 1);
    ck_assert_int_gt(take_answer(1), 0);
    ck_assert_uint_eq(places_tick(&places, PLACES_WAIT_MS + 2), 0);
}
END_TEST

/* It says that all are in use, and the router knows of none: it must close some, or is ended. */
START_TEST(test_hoarder_lies) {
    hoard(1000, 2);
    ck_assert_int_eq(want(1), -1);
    ck_assert_int_eq(places_back(&places, 0, 0, 1), ERR_OK);
    ck_assert_int_eq(take_answer(1), -1);
    ck_assert_uint_gt(strangers_told[0], 0);
    if (_i == 0) { /* an honest one with silent clients */
        ck_assert_int_eq(places_back(&places, 0, strangers_told[0], 2), ERR_OK);
        ck_assert_int_gt(take_answer(1), 0);
        ck_assert_uint_eq(ended[0], 0);
        return;
    }
    places_tick(&places, PLACES_WAIT_MS + 1);
    ck_assert_uint_eq(ended[0], 1);
    ck_assert_int_eq(take_answer(1), -1);
    places_leave(&places, 0, PLACES_WAIT_MS + 2);
    ck_assert_int_gt(take_answer(1), 0);
}
END_TEST

/* What the router knows, and an equal share, are nobody else's; who has logged in meanwhile is no guilt. */
START_TEST(test_due) {
    hoard(1000, 2);
    known[0] = places.leased[0];
    ck_assert_int_eq(want(1), -1);
    ck_assert_int_eq(places_back(&places, 0, 0, 1), ERR_OK);
    ck_assert_int_eq(take_answer(1), 0);
    ck_assert_uint_eq(strangers_told[0], 0);
    known[0] = 0;
    ck_assert_int_eq(want(1), -1);
    ck_assert_int_eq(places_back(&places, 0, 0, 2), ERR_OK);
    ck_assert_uint_gt(strangers_told[0], 0);
    known[0] = places.leased[0];
    places_tick(&places, PLACES_WAIT_MS + 2);
    ck_assert_uint_eq(ended[0], 0);
    ck_assert_int_eq(take_answer(1), 0);
    while (places.leased[0] > 500)
        ck_assert_int_eq(places_back(&places, 0, 1, 3), ERR_OK);
    known[0] = strangers_told[0] = 0;
    while (places.free)
        ck_assert_int_gt(want(1), 0);
    ck_assert_int_eq(want(1), -1);
    ck_assert_int_eq(places_back(&places, 0, 0, 4), ERR_OK);
    ck_assert_int_eq(take_answer(1), 0);
    ck_assert_uint_eq(strangers_told[0], 0);
}
END_TEST

/* A liar that gives back what it must each time keeps its share, and the others have the rest. */
START_TEST(test_hoarder_obeys) {
    hoard(1000, 4);
    for (uint32_t i = 0; i < 3000; i++) {
        uint32_t asks = 1 + i % 3, told = strangers_told[0];
        int32_t got = want(asks);
        if (got >= 0)
            continue;
        for (uint32_t k = 0; k < 4; k++) {
            if (places.recalled[k])
                ck_assert_int_eq(places_back(&places, k, 0, i), ERR_OK);
        }
        if (strangers_told[0] != told)
            ck_assert_int_eq(places_back(&places, 0, strangers_told[0] - told, i), ERR_OK);
        take_answer(asks);
        known[asks] = places.leased[asks];
    }
    ck_assert_uint_eq(places.leased[0], 250);
    ck_assert_uint_eq(ended[0] + ended[1] + ended[2] + ended[3], 0);
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
    tcase_add_test(tcase, test_hoarder_says_nothing);
    tcase_add_loop_test(tcase, test_hoarder_lies, 0, 2);
    tcase_add_test(tcase, test_due);
    tcase_add_test(tcase, test_hoarder_obeys);
    tcase_add_loop_test(tcase, test_random, 0, 5);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
