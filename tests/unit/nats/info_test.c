/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of nats/info.c. */
#include "nats/info.h"

#include <check.h>
#include <jansson.h>
#include <stdlib.h>

#include "tests/unit/unit.h"

static const struct info smallest = {
    .server_id = {"NABC", 4},
    .server_name = {"A", 1},
    .host = {"0.0.0.0", 7},
    .port = 4222,
    .max_payload = 1048576,
};

#define START                                                                                                          \
    "INFO "                                                                                                            \
    "{\"server_id\":\"NABC\",\"server_name\":\"A\",\"version\":\"2.9.10\",\"server\":\"bulkhead " BULKHEAD_VERSION     \
    "\",\"proto\":1,\"go\":\"none\",\"host\":\"0.0.0.0\",\"port\":4222,"

START_TEST(smallest_has_what_is_always_there) {
    char out[1024];
    size_t len = info_format(out, sizeof out - 1, &smallest);
    out[len] = '\0';
    ck_assert_str_eq(out, START "\"headers\":false,\"max_payload\":1048576} \r\n");
}
END_TEST

START_TEST(largest_has_all_in_order) {
    static const struct view urls[] = {VIEW("127.0.0.1:4222"), VIEW("[::1]:4223")};
    struct info info = smallest;
    info.headers = info.auth_required = info.tls_required = info.tls_verify = info.tls_available = info.ldm = true;
    info.client_id = UINT64_MAX;
    info.client_ip = VIEW("127.0.0.1");
    info.nonce = VIEW("i-hpFsh2FlQ8c5U");
    info.cluster = VIEW("C");
    info.connect_urls = urls;
    info.connect_url_count = 2;
    char out[1024];
    size_t len = info_format(out, sizeof out - 1, &info);
    out[len] = '\0';
    ck_assert_str_eq(out, START "\"headers\":true,\"auth_required\":true,\"tls_required\":true,\"tls_verify\":true,"
                                "\"tls_available\":true,\"max_payload\":1048576,\"client_id\":18446744073709551615,"
                                "\"client_ip\":\"127.0.0.1\",\"nonce\":\"i-hpFsh2FlQ8c5U\",\"cluster\":\"C\","
                                "\"connect_urls\":[\"127.0.0.1:4222\",\"[::1]:4223\"],\"ldm\":true} \r\n");
}
END_TEST

START_TEST(texts_are_escaped) {
    struct info info = smallest;
    info.server_name = VIEW("a\"b\\c\n\x01\x7f\xc3\xa9");
    char out[1024];
    size_t len = info_format(out, sizeof out, &info);
    json_t *json = json_loadb(out + 5, len - 5, 0, NULL);
    ck_assert_ptr_nonnull(json);
    ck_assert_str_eq(json_string_value(json_object_get(json, "server_name")), "a\"b\\c\n\x01\x7f\xc3\xa9");
    json_decref(json);
    ck_assert_ptr_null(memchr(out, '\n', len - 1));
}
END_TEST

START_TEST(too_small_is_zero) {
    char full[1024];
    size_t len = info_format(full, sizeof full, &smallest);
    for (size_t cap = 0; cap <= len; cap++) {
        char *out = malloc(cap + (cap == 0));
        ck_assert_ptr_nonnull(out);
        ck_assert_uint_eq(info_format(out, cap, &smallest), cap == len ? len : 0);
        free(out);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("nats/info");
    TCase *tc = tcase_create("info");
    tcase_add_test(tc, smallest_has_what_is_always_there);
    tcase_add_test(tc, largest_has_all_in_order);
    tcase_add_test(tc, texts_are_escaped);
    tcase_add_test(tc, too_small_is_zero);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
