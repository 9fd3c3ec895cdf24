/* SPDX-License-Identifier: Apache-2.0 */
/* ring_soak [RECORDS]: records with checksums through real rings between two processes that really sleep, 10^8 if
 * nothing else is said: half of them through a small ring, half through a large one. The last line is `N passed, N
 * failed`.
 */
#include "tests/unit/shm/ring_traffic.h"

static const struct ring_case {
    const char *name;
    uint64_t cap, begin_pos;
} cases[] = {
    {"small ring", 3 * 4096, ((uint64_t)1 << 32) - ((uint64_t)1 << 20)},
    {"large ring", 259 * 4096, ((uint64_t)1 << 63) - ((uint64_t)1 << 20)},
};
enum { CASES = sizeof cases / sizeof *cases };

int main(int argc, char **argv) {
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 0) : 100000000u;
    uint64_t seed = testing_seed("ring_soak");
    int failed = 0;
    for (int i = 0; i < CASES; i++) {
        uint64_t begin = now_ns();
        const char *wrong = traffic_run(cases[i].cap, cases[i].begin_pos, count / CASES, seed + (uint64_t)i);
        printf("%s: %s, %.1f s\n", cases[i].name, wrong ? wrong : "whole", (double)(now_ns() - begin) / 1e9);
        fflush(stdout);
        failed += wrong != NULL;
    }
    printf("%d passed, %d failed\n", CASES - failed, failed);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
