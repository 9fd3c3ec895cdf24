/* SPDX-License-Identifier: Apache-2.0 */
/* A real ring, two processes or two threads, real sleep. The threads are there for ThreadSanitizer, which knows nothing
 * about memory under two addresses: they share one mapping, so that it sees both sides touch the same bytes. */
#include <check.h>
#include <pthread.h>

#include "tests/unit/shm/ring_traffic.h"
#include "tests/unit/unit.h"

static const struct ring_case {
    const char *name;
    uint64_t cap, begin_pos, count;
} cases[] = {
    {"small ring, both sides sleep", 3 * 4096, 0, 1000000},
    {"one page", 4096, ((uint64_t)1 << 32) - 4096, 300000},
    {"large ring", 51 * 4096, ((uint64_t)1 << 63) - 4096, 300000},
};

START_TEST(test_two_processes) {
    const struct ring_case *c = &cases[_i];
    uint64_t seed = testing_seed("stress_test two_processes");
    const char *wrong = traffic_run(c->cap, c->begin_pos, c->count / TESTING_SLOWNESS, seed);
    if (wrong)
        ck_abort_msg("%s: %s", c->name, wrong);
}
END_TEST

struct thread_side {
    struct ring_writer w;
    struct ring_reader r;
    struct bells bells;
    uint64_t count, seed;
    enum traffic_end end;
};

static void *produce(void *arg) {
    struct thread_side *s = arg;
    s->end = traffic_produce(&s->w, &s->bells, s->count, 0, s->seed);
    return NULL;
}

static void *consume(void *arg) {
    struct thread_side *s = arg;
    s->end = traffic_consume(&s->r, &s->bells, &s->count, 0, s->seed);
    return NULL;
}

START_TEST(test_two_threads) {
    const struct ring_case *c = &cases[_i];
    uint64_t seed = testing_seed("stress_test two_threads");
    struct pair p;
    pair_map(&p, c->cap);
    struct ring_map both = {p.producer.data, p.consumer.credit, c->cap};
    pair_set(&p, c->begin_pos, c->begin_pos);
    struct bells bells[2];
    bells_make(bells);
    uint64_t count = c->count / 4 / TESTING_SLOWNESS;
    struct thread_side side[2] = {{.bells = bells[0], .count = count, .seed = seed},
                                  {.bells = bells[1], .count = count, .seed = ~seed}};
    ck_assert(ring_writer_open(&side[0].w, &both) == ERR_OK && ring_reader_open(&side[1].r, &both) == ERR_OK);
    pthread_t thread[2];
    ck_assert(pthread_create(&thread[0], NULL, produce, &side[0]) == 0);
    ck_assert(pthread_create(&thread[1], NULL, consume, &side[1]) == 0);
    ck_assert(pthread_join(thread[0], NULL) == 0 && pthread_join(thread[1], NULL) == 0);
    if (side[0].end != TRAFFIC_DONE || side[1].end != TRAFFIC_DONE)
        ck_abort_msg("%s: producer: %s, consumer: %s", c->name, traffic_text(side[0].end), traffic_text(side[1].end));
    ck_assert_uint_eq(side[1].r.tail_pos, side[0].w.head_pos);
    bells_close(&bells[0]);
    bells_close(&bells[1]);
    pair_free(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("stress");
    TCase *c = tcase_create("stress");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, test_two_processes, 0, sizeof cases / sizeof *cases);
    tcase_add_loop_test(c, test_two_threads, 0, sizeof cases / sizeof *cases);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
