/* SPDX-License-Identifier: Apache-2.0 */
/* What a sublist costs: time per match and per insert, memory per subscription, the longest single operation. By hand:
 * make bench-built, then build/tests/bench/sublist_bench.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/clock.h"
#include "router/sublist.h"

enum { SUBS = 500000, ROUNDS = 5 };

struct text {
    char at[24]; /* 20 bytes of subject */
};

static struct hash_key key;
static struct slab slab;
static struct sub *subs;
static struct text *texts;

static uint64_t random_state = 88172645463325252u;

static uint32_t random_next(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32);
}

static struct view subject_of(uint32_t i) {
    return view_of(texts[i].at, 20);
}

static void insert(struct sublist *s, struct sub *sub, struct view pattern) {
    check(sublist_insert(s, sub, pattern, view_of(NULL, 0)) == ERR_OK);
}

/* Best of ROUNDS: ns per match of count subjects in turn; count is a power of two. */
static double match_ns(struct sublist *s, const struct view *subjects, uint32_t count, uint32_t loops) {
    struct match m = {0};
    uint64_t best = UINT64_MAX, total = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t start = clock_mono_ns();
        for (uint32_t i = 0; i < loops; i++) {
            check(sublist_match(s, subjects[i & (count - 1)], &m, NULL) == ERR_OK);
            total += m.plain_total;
        }
        uint64_t ns = clock_mono_ns() - start;
        best = ns < best ? ns : best;
    }
    check(total > 0 || m.plain_total == 0);
    match_free(&m);
    return (double)best / loops;
}

static void report_bytes(const struct sublist *s, const char *what) {
    struct sublist_stats stats;
    sublist_stats(s, &stats);
    if (stats.sub_count > 0)
        printf("  %-44s %8.1f bytes (%u literals, %u trie nodes)\n", what,
               (double)stats.bytes / (double)stats.sub_count, stats.literal_count, stats.trie_count);
}

static void bench_literals(void) {
    struct sublist *s = sublist_new(&key, &slab);
    uint64_t start = clock_mono_ns();
    for (uint32_t i = 0; i < SUBS; i++)
        insert(s, &subs[i], subject_of(i));
    printf("  %-44s %8.1f ns\n", "insert, mean of 500,000", (double)(clock_mono_ns() - start) / SUBS);
    report_bytes(s, "memory per literal subscription");

    struct view *order = calloc(1 << 20, sizeof *order);
    order[0] = subject_of(7);
    printf("  %-44s %8.1f ns\n", "match, hot", match_ns(s, order, 1, 5000000));
    for (uint32_t i = 0; i < 16; i++)
        order[i] = subject_of(i * 1000);
    printf("  %-44s %8.1f ns\n", "match, 16 in turn", match_ns(s, order, 16, 5000000));
    /* The subjects' own bytes lie close together, as they would in a ring. */
    struct text *copies = malloc((1 << 20) * sizeof *copies);
    for (uint32_t i = 0; i < 1 << 20; i++) {
        copies[i] = texts[random_next() % SUBS];
        order[i] = view_of(copies[i].at, 20);
    }
    printf("  %-44s %8.1f ns\n", "match, random over 500,000", match_ns(s, order, 1 << 20, 1 << 20));
    for (uint32_t i = 0; i < 1 << 20; i++)
        copies[i].at[0] = 'X';
    printf("  %-44s %8.1f ns\n", "match, random, nobody wants it", match_ns(s, order, 1 << 20, 1 << 20));

    start = clock_mono_ns();
    for (uint32_t i = 0; i < SUBS; i++)
        sublist_remove(s, &subs[i]);
    printf("  %-44s %8.1f ns\n", "remove, mean of 500,000", (double)(clock_mono_ns() - start) / SUBS);
    free(copies);
    free(order);
    sublist_free(s);
}

/* One clock reading per operation: its own cost is in the figure. */
static void bench_stalls(void) {
    struct sublist *s = sublist_new(&key, &slab);
    uint64_t worst_insert = 0, worst_remove = 0, over = 0, last = clock_mono_ns();
    double most = 0;
    for (uint32_t i = 0; i < SUBS; i++) {
        insert(s, &subs[i], subject_of(i));
        uint64_t now = clock_mono_ns();
        over += now - last > 50000;
        worst_insert = now - last > worst_insert ? now - last : worst_insert;
        if (i >= 10000 && i % 1000 == 0) {
            struct sublist_stats stats;
            sublist_stats(s, &stats);
            double each = (double)stats.bytes / (double)stats.sub_count;
            most = each > most ? each : most;
        }
        last = clock_mono_ns();
    }
    for (uint32_t i = 0; i < SUBS; i++) {
        sublist_remove(s, &subs[i]);
        uint64_t now = clock_mono_ns();
        over += now - last > 50000;
        worst_remove = now - last > worst_remove ? now - last : worst_remove;
        last = now;
    }
    printf("  %-44s %8.1f bytes\n", "most per literal subscription beyond 10,000", most);
    printf("  %-44s %8.1f us\n", "longest insert", (double)worst_insert / 1000);
    printf("  %-44s %8.1f us\n", "longest remove", (double)worst_remove / 1000);
    printf("  %-44s %8llu\n", "operations over 50 us", (unsigned long long)over);
    sublist_free(s);
}

static void bench_wildcards(void) {
    struct sublist *s = sublist_new(&key, &slab);
    char pattern[64];
    for (uint32_t i = 0; i < 1000; i++) {
        int len = snprintf(pattern, sizeof pattern, "sensor.%u.*.value", i);
        insert(s, &subs[i], view_of(pattern, (size_t)len));
    }
    report_bytes(s, "memory per wildcard subscription, 1,000");
    static struct text subjects[1024];
    struct view views[1024];
    for (uint32_t i = 0; i < 1024; i++) {
        int len = snprintf(subjects[i].at, sizeof subjects[i].at, "sensor.%u.x%u.value", random_next() % 1000, i % 10);
        views[i] = view_of(subjects[i].at, (size_t)len);
    }
    printf("  %-44s %8.1f ns\n", "match among 1,000 wildcards, hot", match_ns(s, views, 1, 2000000));
    printf("  %-44s %8.1f ns\n", "match among 1,000 wildcards, random", match_ns(s, views, 1024, 2000000));
    views[0] = VIEW("other.1.x1.value");
    printf("  %-44s %8.1f ns\n", "match among 1,000 wildcards, none", match_ns(s, views, 1, 2000000));
    for (uint32_t i = 0; i < 1000; i++)
        sublist_remove(s, &subs[i]);
    sublist_free(s);
}

/* All patterns of 16 tokens of 'a' and '*': one subject meets all 65,536 and visits twice as many nodes. */
static void bench_adversary(void) {
    enum { DEPTH = 16 };
    struct sublist *s = sublist_new(&key, &slab);
    char pattern[2 * DEPTH];
    for (uint32_t i = 0; i < 1 << DEPTH; i++) {
        for (uint32_t j = 0; j < DEPTH; j++) {
            pattern[2 * j] = i >> j & 1 ? '*' : 'a';
            pattern[2 * j + 1] = '.';
        }
        insert(s, &subs[i], view_of(pattern, 2 * DEPTH - 1));
    }
    struct match m = {0};
    uint32_t visited;
    uint64_t start = clock_mono_ns();
    check(sublist_match(s, VIEW("a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a"), &m, &visited) == ERR_OK);
    uint64_t ns = clock_mono_ns() - start;
    check(m.plain_total == 1 << DEPTH);
    printf("  %-44s %8.1f ns (%u nodes)\n", "adversary's trie, per node visited", (double)ns / visited, visited);
    match_free(&m);
    for (uint32_t i = 0; i < 1 << DEPTH; i++)
        sublist_remove(s, &subs[i]);
    sublist_free(s);
}

int main(void) {
    hash_key_make(&key);
    subs = calloc(SUBS, sizeof *subs);
    texts = calloc(SUBS, sizeof *texts);
    check(subs != NULL && texts != NULL);
    for (uint32_t i = 0; i < SUBS; i++)
        snprintf(texts[i].at, sizeof texts[i].at, "bench.room%03u.%06u", i % 1000, i);
    bench_literals();
    bench_stalls();
    bench_wildcards();
    bench_adversary();
    slab_free(&slab);
    free(subs);
    free(texts);
    return 0;
}
