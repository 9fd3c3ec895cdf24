/* Tests of shm/book.c: a writer and a reader of one memory, a torn end, every kind of damage. */
#include "shm/book.h"

#include <check.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/memfd.h"

static int fd;
static struct book writer, reader;

static void open_book(void) {
    ck_assert_int_ge(sodium_init(), 0);
    ck_assert_int_eq(memfd_make(&fd, "book", 64 * 1024, 0), ERR_OK);
    ck_assert_int_eq(book_open(&writer, fd, true), ERR_OK);
    ck_assert_int_eq(book_open(&reader, fd, false), ERR_OK);
}

static void close_book(void) {
    book_close(&writer);
    book_close(&reader);
    close(fd);
}

static void append_account(uint32_t number, const char *name) {
    struct book_account a = {.number = number, .name_len = (uint32_t)strlen(name), .conns_max = number * 2};
    memcpy(a.name, name, a.name_len);
    ck_assert_int_eq(book_append(&writer, BOOK_ACCOUNT, &a, sizeof a), ERR_OK);
}

START_TEST(test_round_trip) {
    struct book_entry entry;
    ck_assert_int_eq(book_next(&reader, &entry), ERR_AGAIN);
    append_account(1, "$G");
    append_account(2, "");
    struct book_floor f = {.account = 1, .principal = 9, .serial = UINT64_MAX};
    ck_assert_int_eq(book_append(&writer, BOOK_FLOOR, &f, sizeof f), ERR_OK);
    ck_assert_int_eq(book_next(&reader, &entry), ERR_OK);
    ck_assert_int_eq(entry.type, BOOK_ACCOUNT);
    ck_assert_uint_eq(entry.account.number, 1);
    ck_assert_uint_eq(entry.account.conns_max, 2);
    ck_assert_mem_eq(entry.account.name, "$G", 2);
    ck_assert_int_eq(book_next(&reader, &entry), ERR_OK);
    ck_assert_uint_eq(entry.account.name_len, 0);
    ck_assert_int_eq(book_next(&reader, &entry), ERR_OK);
    ck_assert_int_eq(entry.type, BOOK_FLOOR);
    ck_assert_mem_eq(&entry.floor, &f, sizeof f);
    ck_assert_int_eq(book_next(&reader, &entry), ERR_AGAIN);
    ck_assert_uint_eq(reader.pos, writer.pos);
}
END_TEST

/* The next writer goes on behind the last whole entry. */
START_TEST(test_second_writer) {
    append_account(1, "$G");
    struct book second;
    ck_assert_int_eq(book_open(&second, fd, true), ERR_OK);
    ck_assert_uint_eq(second.pos, writer.pos);
    struct book_floor f = {.account = 1};
    ck_assert_int_eq(book_append(&second, BOOK_FLOOR, &f, sizeof f), ERR_OK);
    struct book_entry entry;
    ck_assert_int_eq(book_next(&reader, &entry), ERR_OK);
    ck_assert_int_eq(book_next(&reader, &entry), ERR_OK);
    ck_assert_int_eq(entry.type, BOOK_FLOOR);
    book_close(&second);
}
END_TEST

/* A writer that died in the middle: its entry was never visible and is written over. */
START_TEST(test_torn) {
    append_account(1, "$G");
    memset(writer.at + writer.pos, 0xa5, 300);
    struct book second;
    ck_assert_int_eq(book_open(&second, fd, true), ERR_OK);
    ck_assert_uint_eq(second.pos, writer.pos);
    struct book_floor f = {.account = 1, .serial = 4};
    ck_assert_int_eq(book_append(&second, BOOK_FLOOR, &f, sizeof f), ERR_OK);
    struct book_entry entry;
    ck_assert_int_eq(book_next(&reader, &entry), ERR_OK);
    ck_assert_int_eq(book_next(&reader, &entry), ERR_OK);
    ck_assert_uint_eq(entry.floor.serial, 4);
    ck_assert_int_eq(book_next(&reader, &entry), ERR_AGAIN);
    book_close(&second);
}
END_TEST

START_TEST(test_every_byte) {
    uint64_t begin = writer.pos;
    append_account(1, "$G");
    for (uint64_t at = begin; at < writer.pos; at++) {
        writer.at[at] ^= 0x40;
        struct book other;
        struct book_entry entry;
        ck_assert_int_eq(book_open(&other, fd, false), ERR_OK);
        enum err e = book_next(&other, &entry);
        book_close(&other);
        writer.at[at] ^= 0x40;
        /* Padding behind the fields means nothing. */
        ck_assert_msg(e == ERR_FORGED || at >= begin + 24 + sizeof(struct book_account), "byte %u",
                      (unsigned)(at - begin));
    }
}
END_TEST

START_TEST(test_bad_position) {
    append_account(1, "$G");
    struct book_entry entry;
    struct book_head *head = (void *)writer.at;
    uint64_t good = head->written_pos;
    const uint64_t bad[] = {UINT64_MAX, writer.bytes + 8, good - 8, reader.pos + 8};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        head->written_pos = bad[i];
        ck_assert_msg(book_next(&reader, &entry) == ERR_FORGED, "position %zu", i);
    }
    head->written_pos = good;
    ck_assert_int_eq(book_next(&reader, &entry), ERR_OK);
}
END_TEST

START_TEST(test_full) {
    struct book_account a = {.number = 1};
    uint32_t count = 0;
    enum err e;
    while ((e = book_append(&writer, BOOK_ACCOUNT, &a, sizeof a)) == ERR_OK)
        count++;
    ck_assert_int_eq(e, ERR_LONG);
    ck_assert_uint_gt(count, 200);
    struct book_entry entry;
    while ((e = book_next(&reader, &entry)) == ERR_OK)
        count--;
    ck_assert_int_eq(e, ERR_AGAIN);
    ck_assert_uint_eq(count, 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("book");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, open_book, close_book);
    tcase_add_test(tcase, test_round_trip);
    tcase_add_test(tcase, test_second_writer);
    tcase_add_test(tcase, test_torn);
    tcase_add_test(tcase, test_every_byte);
    tcase_add_test(tcase, test_bad_position);
    tcase_add_test(tcase, test_full);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
