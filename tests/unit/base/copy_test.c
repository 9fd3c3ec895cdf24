/* SPDX-License-Identifier: Apache-2.0 */
/* copy_small against memcpy for every length around its steps, with guards on both sides. */
#include <check.h>
#include <string.h>

#include "base/copy.h"
#include "tests/unit/unit.h"

START_TEST(test_every_length) {
    unsigned char from[300], to[300], want[300];
    for (size_t len = 0; len <= 200; len++) {
        for (size_t i = 0; i < sizeof from; i++) {
            from[i] = (unsigned char)(i * 7 + len + 1);
            to[i] = want[i] = 0xee;
        }
        memcpy(want + 16, from + 3, len);
        void *end = copy_small(to + 16, from + 3, len);
        ck_assert_msg(end == to + 16 + len, "length %zu: end", len);
        ck_assert_msg(memcmp(to, want, sizeof to) == 0, "length %zu: bytes", len);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("copy");
    TCase *t = tcase_create("copy");
    tcase_add_test(t, test_every_length);
    suite_add_tcase(s, t);
    return unit_run(s);
}
