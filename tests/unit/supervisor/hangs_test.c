/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of supervisor/hangs.c, in simulated time. */
#include "supervisor/hangs.h"

#include <check.h>
#include <stdlib.h>

#include "tests/unit/unit.h"

static const struct hangs_patience plain = {.ms = 400, .work = 1}, worker = {.ms = 400, .work = 4},
                                   writer = {.ms = 400, .work = 1, .blocks = true};

/* A process and the time that the kernel would tell of it. */
struct process {
    struct hangs h;
    struct hangs_sample at;
};

/* A process that has answered its first poke. */
static struct process process_at_work(void) {
    struct process p = {.at = {.timed = true, .state = HANGS_SLEEPS}};
    ck_assert_int_eq(hangs_look(&p.h, &p.at, 450, true, &plain), HANGS_MOVED);
    p.at.beat++;
    ck_assert_int_eq(hangs_look(&p.h, &p.at, 450, true, &plain), HANGS_MOVED);
    return p;
}

static enum hangs_verdict look(struct process *p, enum hangs_state state, uint64_t ran_ms, uint64_t queued_ms,
                               const struct hangs_patience *patience) {
    p->at.state = state;
    p->at.ran_ns += ran_ms * 1000000;
    p->at.queued_ns += queued_ms * 1000000;
    return hangs_look(&p->h, &p->at, 450, true, patience);
}

/* The looks that it takes until a hang is found; 100: it is not. */
static int looks_until_hung(struct process *p, enum hangs_state state, uint64_t ran_ms, uint64_t queued_ms,
                            const struct hangs_patience *patience) {
    int looks = 1;
    while (looks < 100 && look(p, state, ran_ms, queued_ms, patience) != HANGS_HUNG)
        looks++;
    return looks;
}

START_TEST(test_states) {
    static const struct {
        const char *name;
        enum hangs_state state;
        uint64_t ran_ms, queued_ms; /* between two looks */
        int looks;
    } cases[] = {
        {"stopped", HANGS_STOPPED, 0, 0, 1},
        {"asleep", HANGS_SLEEPS, 0, 0, 1},
        {"burns a processor of its own", HANGS_RUNS, 449, 0, 1},
        {"burns half of one", HANGS_RUNS, 225, 225, 2},
        {"burns a tenth of one", HANGS_RUNS, 45, 405, 9},
        {"starved", HANGS_RUNS, 0, 0, 100},
        {"starved, then asleep", HANGS_SLEEPS, 1, 448, 100},
        {"starved, then stopped", HANGS_STOPPED, 0, 250, 2},
        {"waits for a disk", HANGS_WAITS_FOR_DISK, 0, 0, 100},
        {"held by a debugger", HANGS_TRACED, 0, 0, 100},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct process p = process_at_work();
        int looks = looks_until_hung(&p, cases[i].state, cases[i].ran_ms, cases[i].queued_ms, &plain);
        ck_assert_msg(looks == cases[i].looks, "%s: %d looks", cases[i].name, looks);
    }
}
END_TEST

/* From the hang to the verdict within a second, wherever between two looks it begins. */
START_TEST(test_soon) {
    ck_assert_uint_le(2 * hangs_look_ms(400), 1000);
}
END_TEST

/* One that beats, however rarely, is poked and never killed. */
START_TEST(test_moves) {
    struct process p = process_at_work();
    for (int i = 0; i < 1000; i++) {
        p.at.beat += 1 + (unsigned)rand() % 1000;
        ck_assert_int_eq(look(&p, (enum hangs_state)(i % 6), 450, 0, &plain), HANGS_MOVED);
    }
}
END_TEST

/* The whole machine stands still for a minute: a look that comes late counts for nobody, the next one does. */
START_TEST(test_machine_stalls) {
    struct process p = process_at_work();
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(hangs_look(&p.h, &p.at, 60000, false, &plain), HANGS_STANDS);
        p.at.ran_ns += 60000000000; /* steal time may look like this */
        p.at.state = HANGS_RUNS;
        ck_assert_int_eq(hangs_look(&p.h, &p.at, 60000, false, &plain), HANGS_STANDS);
    }
    p.at.beat++;
    ck_assert_int_eq(look(&p, HANGS_SLEEPS, 1, 0, &plain), HANGS_MOVED);
    ck_assert_int_eq(look(&p, HANGS_SLEEPS, 0, 0, &plain), HANGS_HUNG);
}
END_TEST

/* Without schedstat or without /proc: slower, but found, and a stopped one as fast as ever. */
START_TEST(test_blind) {
    struct process p = process_at_work();
    p.h.last.timed = p.at.timed = false;
    ck_assert_int_eq(looks_until_hung(&p, HANGS_UNKNOWN, 0, 0, &plain), 4);
    p = process_at_work();
    p.h.last.timed = p.at.timed = false;
    ck_assert_int_eq(looks_until_hung(&p, HANGS_RUNS, 0, 0, &plain), 4);
    p = process_at_work();
    p.h.last.timed = p.at.timed = false;
    ck_assert_int_eq(looks_until_hung(&p, HANGS_STOPPED, 0, 0, &plain), 1);
}
END_TEST

/* A start takes its time, and so does a large table; a stopped process is at no work. */
START_TEST(test_patience) {
    struct process p = {.at = {.timed = true}};
    ck_assert_int_eq(look(&p, HANGS_RUNS, 0, 0, &plain), HANGS_MOVED);
    ck_assert_int_eq(looks_until_hung(&p, HANGS_RUNS, 450, 0, &plain), 9);
    p = (struct process){.at = {.timed = true}};
    ck_assert_int_eq(look(&p, HANGS_RUNS, 0, 0, &plain), HANGS_MOVED);
    ck_assert_int_eq(looks_until_hung(&p, HANGS_STOPPED, 0, 0, &plain), 1);
    p = process_at_work();
    ck_assert_int_eq(looks_until_hung(&p, HANGS_RUNS, 450, 0, &worker), 4);
    p = process_at_work();
    ck_assert_int_eq(looks_until_hung(&p, HANGS_SLEEPS, 0, 0, &worker), 1);
}
END_TEST

/* One that writes to a slow disk or to a reader that does not read is named once, and again when it goes on. */
START_TEST(test_stuck) {
    struct process p = process_at_work();
    int said = 0;
    for (int i = 0; i < 100; i++) {
        enum hangs_verdict verdict = look(&p, i % 2 ? HANGS_SLEEPS : HANGS_WAITS_FOR_DISK, 0, 0, &writer);
        ck_assert_int_ne(verdict, HANGS_HUNG);
        said += verdict == HANGS_STUCK;
    }
    ck_assert_int_eq(said, 1);
    p.at.beat++;
    ck_assert_int_eq(look(&p, HANGS_SLEEPS, 0, 0, &writer), HANGS_GOES_ON);
    p.at.beat++;
    ck_assert_int_eq(look(&p, HANGS_SLEEPS, 0, 0, &writer), HANGS_MOVED);
    ck_assert_int_eq(looks_until_hung(&p, HANGS_STOPPED, 0, 0, &writer), 1);
    p = process_at_work();
    ck_assert_int_eq(looks_until_hung(&p, HANGS_RUNS, 450, 0, &writer), 1);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hangs");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, test_states);
    tcase_add_test(tcase, test_soon);
    tcase_add_test(tcase, test_moves);
    tcase_add_test(tcase, test_machine_stalls);
    tcase_add_test(tcase, test_blind);
    tcase_add_test(tcase, test_patience);
    tcase_add_test(tcase, test_stuck);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
