/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of shm/binding.c: a seal that was altered anywhere, or made with another key, opens nothing. */
#include "shm/binding.h"

#include <check.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

static struct binding_key key = {.number = 7};

static void make_key(void) {
    ck_assert_int_ge(sodium_init(), 0);
    randombytes_buf(key.key, sizeof key.key);
}

static struct binding sample(void) {
    struct binding b = {
        .kind = LINK_FRONTEND,
        .link = 3,
        .incarnation = UINT64_C(0x1122334455667788),
        .conn = 77,
        .generation = 5,
        .serial = 99,
        .issued_s = 1000,
        .expires_s = 2000,
        .account = 1,
        .principal = 1,
        .payload_max = 1 << 20,
    };
    binding_seal(&b, &key);
    return b;
}

START_TEST(test_open) {
    struct binding b = sample(), opened;
    ck_assert_int_eq(binding_open(&opened, &key, &b, sizeof b), ERR_OK);
    ck_assert_mem_eq(&opened, &b, sizeof b);
    ck_assert_uint_eq(opened.version, BINDING_VERSION);
    ck_assert_uint_eq(opened.key_number, 7);
}
END_TEST

START_TEST(test_every_bit) {
    struct binding b = sample(), opened;
    for (size_t i = 0; i < sizeof b * 8; i++) {
        struct binding altered = b;
        ((uint8_t *)&altered)[i / 8] ^= (uint8_t)(1 << i % 8);
        ck_assert_msg(binding_open(&opened, &key, &altered, sizeof altered) == ERR_FORGED, "bit %zu", i);
    }
}
END_TEST

/* Another link, incarnation, kind or connection under the seal of the first. */
START_TEST(test_other_place) {
    struct binding b = sample(), opened, other;
    for (int i = 0; i < 7; i++) {
        other = b;
        switch (i) {
        case 0:
            other.link++;
            break;
        case 1:
            other.incarnation++;
            break;
        case 2:
            other.kind = LINK_GATEWAYD;
            break;
        case 3:
            other.conn++;
            break;
        case 4:
            other.generation++;
            break;
        case 5:
            other.account++;
            break;
        default:
            other.expires_s = 0;
        }
        ck_assert_msg(binding_open(&opened, &key, &other, sizeof other) == ERR_FORGED, "change %d", i);
    }
}
END_TEST

START_TEST(test_other_key) {
    struct binding b = sample(), opened;
    struct binding_key other = key;
    other.key[31] ^= 1;
    ck_assert_int_eq(binding_open(&opened, &other, &b, sizeof b), ERR_FORGED);
    other = key;
    other.number++;
    ck_assert_int_eq(binding_open(&opened, &other, &b, sizeof b), ERR_FORGED);
}
END_TEST

START_TEST(test_len) {
    struct binding b = sample(), opened;
    char larger[sizeof b + 1] = {0};
    memcpy(larger, &b, sizeof b);
    ck_assert_int_eq(binding_open(&opened, &key, larger, sizeof larger), ERR_FORGED);
    for (uint32_t len = 0; len < sizeof b; len++)
        ck_assert_int_eq(binding_open(&opened, &key, larger, len), ERR_FORGED);
}
END_TEST

/* Sealing clears what the sealer may have left in the padding. */
START_TEST(test_padding) {
    struct binding b = sample(), opened;
    b.pad = 1;
    binding_seal(&b, &key);
    ck_assert_uint_eq(b.pad, 0);
    ck_assert_int_eq(binding_open(&opened, &key, &b, sizeof b), ERR_OK);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("binding");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, make_key, NULL);
    tcase_add_test(tcase, test_open);
    tcase_add_test(tcase, test_every_bit);
    tcase_add_test(tcase, test_other_place);
    tcase_add_test(tcase, test_other_key);
    tcase_add_test(tcase, test_len);
    tcase_add_test(tcase, test_padding);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
