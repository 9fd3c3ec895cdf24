/* SPDX-License-Identifier: Apache-2.0 */
/* name_look against the plain functions of nats/subject.h, for every byte at every place around the 16-byte steps. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "nats/name.h"
#include "tests/unit/unit.h"

static unsigned expected(struct view v) {
    if (!subject_is_clean(v))
        return NAME_DIRTY;
    return v.len == 0 || !subject_has_tokens(v) ? NAME_EMPTY_TOKEN : 0;
}

START_TEST(test_every_byte_everywhere) {
    char name[80 + NAME_PAD];
    for (size_t len = 0; len <= 50; len++) {
        for (size_t place = 0; place < len || place == 0; place++) {
            for (int byte = 0; byte < 256; byte++) {
                memset(name, ' ', sizeof name); /* what lies beyond must not matter */
                memset(name, 'a', len);
                if (len > 0)
                    name[place] = (char)byte;
                struct view v = view_of(name, len);
                ck_assert_msg(name_look(v.at, v.len) == expected(v), "len %zu place %zu byte %d", len, place, byte);
            }
        }
    }
}
END_TEST

START_TEST(test_random_names) {
    unsigned seed = (unsigned)(getenv("TEST_SEED") ? atoi(getenv("TEST_SEED")) : 1);
    srand(seed);
    static const char letters[] = "ab.*>.\t \r\n_$\x01\x7f";
    char name[200 + NAME_PAD];
    for (int i = 0; i < 200000; i++) {
        size_t len = (size_t)rand() % 200, few = (size_t)rand() % (sizeof letters - 1) + 1;
        memset(name, '.', sizeof name);
        for (size_t k = 0; k < len; k++)
            name[k] = letters[(size_t)rand() % few];
        struct view v = view_of(name, len);
        ck_assert_msg(name_look(v.at, v.len) == expected(v), "seed %u round %d: %.*s", seed, i, (int)len, name);
    }
}
END_TEST

int main(void) {
    Suite *s = suite_create("name");
    TCase *t = tcase_create("name");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_every_byte_everywhere);
    tcase_add_test(t, test_random_names);
    suite_add_tcase(s, t);
    return unit_run(s);
}
