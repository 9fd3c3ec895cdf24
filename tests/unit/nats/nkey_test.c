/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of nats/nkey.c. */
#include "nats/nkey.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tests/unit/unit.h"

#define USER_TEXT    "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"
#define ZERO_ACCOUNT "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

START_TEST(known_text_is_read_and_written) {
    uint8_t key[NKEY_BYTES];
    char text[NKEY_TEXT_LEN + 1];
    ck_assert_int_eq(nkey_parse(key, NKEY_USER, VIEW(USER_TEXT)), ERR_OK);
    nkey_format(text, NKEY_USER, key);
    ck_assert_str_eq(text, USER_TEXT);
}
END_TEST

START_TEST(zero_key_has_zero_checksum) {
    uint8_t key[NKEY_BYTES] = {0};
    char text[NKEY_TEXT_LEN + 1];
    nkey_format(text, NKEY_ACCOUNT, key);
    ck_assert_str_eq(text, ZERO_ACCOUNT);
}
END_TEST

START_TEST(refused_texts) {
    static const struct {
        const char *name;
        enum nkey_kind kind;
        struct view text;
    } cases[] = {
        {"empty", NKEY_USER, {NULL, 0}},
        {"another kind", NKEY_ACCOUNT, VIEW(USER_TEXT)},
        {"one short", NKEY_USER, {USER_TEXT, NKEY_TEXT_LEN - 1}},
        {"one more", NKEY_USER, VIEW(USER_TEXT "A")},
        {"lower case", NKEY_USER, VIEW("uDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4")},
        {"not base32", NKEY_USER, VIEW("UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF1")},
        {"padding", NKEY_USER, VIEW("UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF=")},
        {"wrong checksum", NKEY_USER, VIEW("UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF5")},
        {"wrong key", NKEY_USER, VIEW("UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT3M7NLCNF4")},
        {"low bits of the prefix", NKEY_USER, VIEW("UHXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4")},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t key[NKEY_BYTES];
        ck_assert_msg(nkey_parse(key, cases[i].kind, cases[i].text) == ERR_SYNTAX, "%s", cases[i].name);
    }
}
END_TEST

START_TEST(random_keys_come_back) {
    static const enum nkey_kind kinds[] = {NKEY_SERVER, NKEY_CLUSTER, NKEY_OPERATOR, NKEY_ACCOUNT, NKEY_USER};
    unsigned seed = (unsigned)time(NULL), first = seed;
    printf("nkey_test seed %u\n", first);
    for (int round = 0; round < 10000; round++) {
        uint8_t key[NKEY_BYTES], back[NKEY_BYTES];
        char text[NKEY_TEXT_LEN + 1];
        for (size_t i = 0; i < NKEY_BYTES; i++)
            key[i] = (uint8_t)(rand_r(&seed) >> 7);
        enum nkey_kind kind = kinds[round % 5];
        nkey_format(text, kind, key);
        ck_assert_msg(text[0] == (char)kind && strlen(text) == NKEY_TEXT_LEN, "seed %u: %s", first, text);
        ck_assert_msg(nkey_parse(back, kind, view_text(text)) == ERR_OK, "seed %u: %s", first, text);
        ck_assert_msg(memcmp(key, back, NKEY_BYTES) == 0, "seed %u: %s", first, text);
        size_t pos = (size_t)rand_r(&seed) % NKEY_TEXT_LEN;
        text[pos] = text[pos] == 'B' ? 'C' : 'B';
        ck_assert_msg(nkey_parse(back, kind, view_text(text)) == ERR_SYNTAX, "seed %u: %s", first, text);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("nats/nkey");
    TCase *tc = tcase_create("nkey");
    tcase_add_test(tc, known_text_is_read_and_written);
    tcase_add_test(tc, zero_key_has_zero_checksum);
    tcase_add_test(tc, refused_texts);
    tcase_add_test(tc, random_keys_come_back);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
