/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/shm/shm_testing.h: what the tests of shared memory have in common: a ring with both its sides in hand,
 * seeded numbers, and children that end with their parent.
 */
#ifndef TESTS_SHM_TESTING_H
#define TESTS_SHM_TESTING_H

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "shm/memfd.h"
#include "shm/ring.h"

#if defined(__SANITIZE_THREAD__)
#define TESTING_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TESTING_TSAN 1
#endif
#endif
#ifndef TESTING_TSAN
#define TESTING_TSAN 0
#endif

#ifdef BULKHEAD_SANITIZED
enum { TESTING_SLOWNESS = 10 };
#else
enum { TESTING_SLOWNESS = 1 };
#endif

/* ---- numbers ---- */

/* The seed of this run: SEED from the environment, else the time. Printed with the name of the test. */
static inline uint64_t testing_seed(const char *test) {
    const char *given = getenv("SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    printf("%s: SEED=%llu\n", test, (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

static inline uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint64_t random_next(uint64_t *state) {
    return mix(*state += 0x9e3779b97f4a7c15u);
}

static inline uint64_t random_below(uint64_t *state, uint64_t limit) {
    return random_next(state) % limit;
}

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- a ring ---- */

struct pair {
    uint64_t cap;
    int data_fd, credit_fd;
    struct ring_map producer, consumer;
    struct ring_writer w;
    struct ring_reader r;
};

/* The memory and both mappings; positions are zero, nothing is open yet. */
static inline void pair_map(struct pair *p, uint64_t cap) {
    *p = (struct pair){.cap = cap};
    check(memfd_make(&p->data_fd, "ring-data", ring_data_bytes(cap), 1) == ERR_OK);
    check(memfd_make(&p->credit_fd, "ring-credit", RING_PAGE, 1) == ERR_OK);
    check(ring_map(&p->producer, p->data_fd, p->credit_fd, true) == ERR_OK);
    check(ring_map(&p->consumer, p->data_fd, p->credit_fd, false) == ERR_OK);
}

/* The shared words, as each one's writer has them. */
static inline struct ring_data *pair_data(const struct pair *p) {
    return p->producer.data;
}

static inline struct ring_credit *pair_credit(const struct pair *p) {
    return p->consumer.credit;
}

static inline void pair_set(const struct pair *p, uint64_t produced, uint64_t consumed) {
    atomic_store(&pair_data(p)->produced_pos, produced);
    atomic_store(&pair_credit(p)->consumed_pos, consumed);
}

static inline void pair_open(struct pair *p, uint64_t pos) {
    pair_set(p, pos, pos);
    check(ring_writer_open(&p->w, &p->producer) == ERR_OK);
    check(ring_reader_open(&p->r, &p->consumer) == ERR_OK);
}

static inline void pair_make(struct pair *p, uint64_t cap, uint64_t pos) {
    pair_map(p, cap);
    pair_open(p, pos);
}

static inline void pair_free(struct pair *p) {
    ring_unmap(&p->producer);
    ring_unmap(&p->consumer);
    close(p->data_fd);
    close(p->credit_fd);
}

/* ---- processes ---- */

/* A fork whose child is killed when the test ends in whatever way. */
static inline pid_t testing_fork(void) {
    pid_t parent = getpid(), pid = fork();
    check(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(1);
    }
    return pid;
}

/* Waits for a child of our own; its exit status, or 1000 plus the signal that ended it. */
static inline int testing_wait(pid_t pid) {
    int status;
    check(waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static inline void testing_kill(pid_t pid) {
    check(kill(pid, SIGKILL) == 0);
    check(testing_wait(pid) == 1000 + SIGKILL);
}

#endif
