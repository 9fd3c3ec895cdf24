/* Tests of authd/logins.c and authd/accounts.c. */
#include "authd/logins.h"

#include <check.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "authd/accounts.h"
#include "shm/memfd.h"

static struct binding_key key = {.number = 1};
static struct counters counters;
static struct logins logins;
static struct logins_edge edge;

static void open_logins(void) {
    ck_assert_int_ge(sodium_init(), 0);
    randombytes_buf(key.key, sizeof key.key);
    memset(&counters, 0, sizeof counters);
    memset(&edge, 0, sizeof edge);
    edge.link = 5;
    edge.incarnation = 123;
    edge.kind = LINK_FRONTEND;
    logins_open(&logins, &key, &counters, 4096, 10, 1000000);
}

START_TEST(test_binding) {
    struct binding sealed, b;
    ck_assert_int_eq(logins_decide(&logins, &edge, 7, 3, 555, &sealed), ERR_OK);
    ck_assert_int_eq(binding_open(&b, &key, &sealed, sizeof sealed), ERR_OK);
    ck_assert_uint_eq(b.link, 5);
    ck_assert_uint_eq(b.incarnation, 123);
    ck_assert_uint_eq(b.kind, LINK_FRONTEND);
    ck_assert_uint_eq(b.conn, 7);
    ck_assert_uint_eq(b.generation, 3);
    ck_assert_uint_eq(b.issued_s, 555);
    ck_assert_uint_eq(b.expires_s, 0);
    ck_assert_uint_eq(b.account, ACCOUNTS_GLOBAL);
    ck_assert_uint_eq(b.principal, LOGINS_ONLY_PRINCIPAL);
    ck_assert_uint_eq(b.permissions, 0);
    ck_assert_uint_eq(b.payload_max, UINT32_MAX);
    ck_assert_uint_eq(b.subs_max, 10);
    ck_assert_uint_eq(counter_get(&counters, COUNTER_BINDINGS), 1);
}
END_TEST

START_TEST(test_generations) {
    static const struct {
        const char *name;
        uint32_t conn, generation;
        enum err expected;
    } rows[] = {
        {"the first", 7, 1, ERR_OK},
        {"the same again", 7, 1, ERR_STALE},
        {"an older one", 7, 0, ERR_STALE},
        {"a newer one", 7, 9, ERR_OK},
        {"between", 7, 5, ERR_STALE},
        {"of another connection", 8, 1, ERR_OK},
        {"generation 0", 9, 0, ERR_STALE},
        {"the last number", SOFT_CONNS_MAX - 1, 1, ERR_OK},
        {"beyond the table", SOFT_CONNS_MAX, 1, ERR_STALE},
        {"far beyond the table", UINT32_MAX, 1, ERR_STALE},
        {"the last generation", 7, UINT32_MAX, ERR_OK},
        {"no wrap", 7, 1, ERR_STALE},
    };
    struct binding b;
    uint32_t refused = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        enum err e = logins_decide(&logins, &edge, rows[i].conn, rows[i].generation, 0, &b);
        ck_assert_msg(e == rows[i].expected, "%s: %s", rows[i].name, err_text(e));
        refused += e != ERR_OK;
    }
    ck_assert_uint_eq(counter_get(&counters, COUNTER_BINDINGS_REFUSED), refused);
}
END_TEST

/* Serials only grow: over logins, over a new authd, over a clock that was set back. */
START_TEST(test_serials) {
    struct binding b;
    uint64_t last = 1000000;
    for (uint32_t i = 1; i < 1000; i++) {
        ck_assert_int_eq(logins_decide(&logins, &edge, 1, i, 0, &b), ERR_OK);
        ck_assert_uint_eq(b.serial, last + 1);
        ck_assert_uint_eq(counter_get(&counters, COUNTER_SERIAL_HIGH), b.serial);
        last = b.serial;
    }
    logins_open(&logins, &key, &counters, 4096, 10, 5);
    ck_assert_int_eq(logins_decide(&logins, &edge, 2, 1, 0, &b), ERR_OK);
    ck_assert_uint_eq(b.serial, last + 1);
    logins_open(&logins, &key, &counters, 4096, 10, 2000000);
    ck_assert_int_eq(logins_decide(&logins, &edge, 3, 1, 0, &b), ERR_OK);
    ck_assert_uint_eq(b.serial, 2000001);
}
END_TEST

START_TEST(test_account_once) {
    int fd;
    struct book book;
    uint64_t first_pos, second_pos;
    ck_assert_int_eq(memfd_make(&fd, "book", BOOK_BYTES, 0), ERR_OK);
    ck_assert_int_eq(accounts_open(&book, fd, &first_pos), ERR_OK);
    ck_assert_uint_eq(first_pos, book.pos);
    struct book_floor f = {.account = 1};
    ck_assert_int_eq(book_append(&book, BOOK_FLOOR, &f, sizeof f), ERR_OK);
    uint64_t end = book.pos;
    munmap(book.at, book.bytes);
    /* The next authd finds it. */
    ck_assert_int_eq(accounts_open(&book, fd, &second_pos), ERR_OK);
    ck_assert_uint_eq(second_pos, first_pos);
    ck_assert_uint_eq(book.pos, end);
    munmap(book.at, book.bytes);
    struct book_entry entry;
    ck_assert_int_eq(book_open(&book, fd, false), ERR_OK);
    ck_assert_int_eq(book_next(&book, &entry), ERR_OK);
    ck_assert_uint_eq(entry.account.number, ACCOUNTS_GLOBAL);
    ck_assert_uint_eq(entry.account.name_len, 2);
    ck_assert_mem_eq(entry.account.name, "$G", 2);
    ck_assert_uint_eq(entry.account.conns_max | entry.account.subs_max, 0);
    munmap(book.at, book.bytes);
    close(fd);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("logins");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, open_logins, NULL);
    tcase_add_test(tcase, test_binding);
    tcase_add_test(tcase, test_generations);
    tcase_add_test(tcase, test_serials);
    tcase_add_test(tcase, test_account_once);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
