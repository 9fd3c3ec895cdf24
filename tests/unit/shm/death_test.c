/* SPDX-License-Identifier: Apache-2.0 */
/* Sudden death: one side of a ring is killed at a random instant, many times; the other side and the successor find
 * consistent positions and whole records, and the traffic goes on as one unbroken sequence. */
#include <check.h>

#include "tests/unit/shm/ring_traffic.h"
#include "tests/unit/unit.h"

enum { ROUNDS = 250, LIFE_MOST_NS = 3000000 };

/* What a child has to tell; it dies before it can. */
struct told {
    _Atomic int wrong; /* enum traffic_end */
    _Atomic int alive; /* children that got as far as their first record */
};

static struct told *told;

static void begin(struct pair *p, struct bells side[2], uint64_t cap, uint64_t pos) {
    signal(SIGPIPE, SIG_IGN);
    pair_map(p, cap);
    pair_open(p, pos);
    bells_make(
        side); /* all ends stay open here: a death says nothing by itself, as with a supervisor that holds the ends */
    told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(told != MAP_FAILED);
}

static void child_ends(enum traffic_end end) {
    atomic_store(&told->wrong, (int)end);
    _exit(1);
}

static pid_t start_producer(const struct pair *p, struct bells *b, uint64_t count, uint64_t seed) {
    pid_t pid = testing_fork();
    if (pid == 0) {
        struct ring_writer w;
        if (ring_writer_open(&w, &p->producer) != ERR_OK)
            child_ends(TRAFFIC_BROKEN);
        atomic_fetch_add(&told->alive, 1);
        enum traffic_end end = traffic_produce(&w, b, count, 0, seed);
        if (end != TRAFFIC_DONE)
            child_ends(end);
        _exit(0);
    }
    return pid;
}

static pid_t start_consumer(const struct pair *p, struct bells *b, uint64_t count, uint64_t seed) {
    pid_t pid = testing_fork();
    if (pid == 0) {
        struct ring_reader r;
        if (ring_reader_open(&r, &p->consumer) != ERR_OK)
            child_ends(TRAFFIC_BROKEN);
        atomic_fetch_add(&told->alive, 1);
        enum traffic_end end = traffic_consume(&r, b, &count, 0, seed);
        if (end != TRAFFIC_DONE)
            child_ends(end);
        _exit(0);
    }
    return pid;
}

/* Waits as little as a round lasts without working: the two children work. */
static void pause_ns(uint64_t ns) {
    for (uint64_t until = now_ns() + ns; now_ns() < until;)
        sched_yield();
}

static void drain(struct pair *p, int round) {
    if (!ring_reader_refresh(&p->r))
        ck_abort_msg("round %d: the position that is left behind cannot be", round);
    while (ring_ready(&p->r) > 0)
        if (!traffic_read(&p->r))
            ck_abort_msg("round %d: a torn record at %llu", round, (unsigned long long)p->r.tail_pos);
    ring_release(&p->r);
}

START_TEST(test_producer_dies) {
    uint64_t seed = testing_seed("death_test producer_dies");
    struct pair p;
    struct bells side[2];
    begin(&p, side, 3 * 4096, ((uint64_t)1 << 32) - 4096);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t until = now_ns() + random_below(&seed, LIFE_MOST_NS), left = UINT64_MAX;
        pid_t child = start_producer(&p, &side[0], UINT64_MAX, random_next(&seed));
        enum traffic_end end = traffic_consume(&p.r, &side[1], &left, until, random_next(&seed));
        testing_kill(child);
        if (end != TRAFFIC_TIME_OVER || atomic_load(&told->wrong) != 0)
            ck_abort_msg("round %d: %s; producer: %s", round, traffic_text(end),
                         traffic_text(atomic_load(&told->wrong)));
        drain(&p, round);
    }
    pid_t last = start_producer(&p, &side[0], 1000, seed);
    uint64_t left = 1000;
    ck_assert_int_eq(traffic_consume(&p.r, &side[1], &left, 0, seed), TRAFFIC_DONE);
    ck_assert_int_eq(testing_wait(last), 0);
    printf("death_test producer_dies: %d of %d had begun\n", atomic_load(&told->alive), ROUNDS + 1);
    ck_assert_int_gt(atomic_load(&told->alive), ROUNDS / 10);
    pair_free(&p);
}
END_TEST

START_TEST(test_consumer_dies) {
    uint64_t seed = testing_seed("death_test consumer_dies");
    struct pair p;
    struct bells side[2];
    begin(&p, side, 3 * 4096, ((uint64_t)1 << 63) - 4096);
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t until = now_ns() + random_below(&seed, LIFE_MOST_NS);
        pid_t child = start_consumer(&p, &side[1], UINT64_MAX, random_next(&seed));
        enum traffic_end end = traffic_produce(&p.w, &side[0], UINT64_MAX, until, random_next(&seed));
        testing_kill(child);
        if (end != TRAFFIC_TIME_OVER || atomic_load(&told->wrong) != 0)
            ck_abort_msg("round %d: %s; consumer: %s", round, traffic_text(end),
                         traffic_text(atomic_load(&told->wrong)));
        if (!ring_writer_refresh(&p.w))
            ck_abort_msg("round %d: the position that is left behind cannot be", round);
    }
    ring_publish(&p.w);
    ck_assert(ring_reader_open(&p.r, &p.consumer) == ERR_OK);
    drain(&p, ROUNDS);
    ck_assert_uint_eq(p.r.tail_pos, p.w.head_pos);
    ck_assert_int_gt(atomic_load(&told->alive), ROUNDS / 10);
    pair_free(&p);
}
END_TEST

/* Both sides are children, one of them or both die; what lies in the memory is always a whole sequence. */
START_TEST(test_either_dies) {
    uint64_t seed = testing_seed("death_test either_dies");
    struct pair p;
    struct bells side[2];
    begin(&p, side, 5 * 4096, 0);
    uint64_t produced = 0, consumed = 0;
    pid_t producer = start_producer(&p, &side[0], UINT64_MAX, random_next(&seed));
    pid_t consumer = start_consumer(&p, &side[1], UINT64_MAX, random_next(&seed));
    for (int round = 0; round < ROUNDS; round++) {
        pause_ns(random_below(&seed, LIFE_MOST_NS / 2));
        uint64_t which = random_below(&seed, 3);
        if (which != 0)
            testing_kill(producer);
        if (which != 1)
            testing_kill(consumer);
        if (which == 2) { /* nobody writes now */
            uint64_t produced_now = atomic_load(&pair_data(&p)->produced_pos);
            uint64_t consumed_now = atomic_load(&pair_credit(&p)->consumed_pos);
            if (produced_now < produced || consumed_now < consumed || produced_now - consumed_now > p.cap)
                ck_abort_msg("round %d: produced %llu, consumed %llu", round, (unsigned long long)produced_now,
                             (unsigned long long)consumed_now);
            produced = produced_now;
            consumed = consumed_now;
        }
        if (atomic_load(&told->wrong) != 0)
            ck_abort_msg("round %d: %s", round, traffic_text(atomic_load(&told->wrong)));
        if (which != 0)
            producer = start_producer(&p, &side[0], UINT64_MAX, random_next(&seed));
        if (which != 1)
            consumer = start_consumer(&p, &side[1], UINT64_MAX, random_next(&seed));
    }
    testing_kill(producer);
    testing_kill(consumer);
    ck_assert(ring_reader_open(&p.r, &p.consumer) == ERR_OK);
    drain(&p, ROUNDS);
    ck_assert_uint_eq(p.r.tail_pos, atomic_load(&pair_data(&p)->produced_pos));
    ck_assert_uint_gt(p.r.tail_pos, 0);
    pair_free(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("death");
    TCase *c = tcase_create("death");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, test_producer_dies);
    tcase_add_test(c, test_consumer_dies);
    tcase_add_test(c, test_either_dies);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
