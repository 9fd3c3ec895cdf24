/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of shm/book.c: a writer and a reader of one memory, a torn end, every kind of damage. */
#include "shm/book.h"

#include <check.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "shm/memfd.h"
#include "tests/unit/unit.h"

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

/* ---- rules ---- */

static struct {
    struct book_rules head;
    uint8_t rules[BOOK_RULES_BYTES_MAX];
} set;

static void set_begin(uint32_t number) {
    set.head = (struct book_rules){.number = number, .responses_max = 3, .responses_ms = 1000};
}

static enum err set_append(void) {
    return book_append(&writer, BOOK_RULES, &set, (uint32_t)sizeof set.head + set.head.bytes);
}

static void set_add(enum book_rule_kind kind, const char *subject, const char *queue) {
    ck_assert_int_eq(book_rules_add(&set.head, sizeof set.rules, kind, view_text(subject), view_text(queue)), ERR_OK);
}

static const struct {
    enum book_rule_kind kind;
    const char *subject, *queue;
} some[] = {
    {BOOK_PUB_ALLOW, "", ""}, {BOOK_PUB_DENY, "a.>", ""}, {BOOK_SUB_ALLOW, "b.*", "v1.*"}, {BOOK_SUB_DENY, "c", "q"}};
enum { SOME = sizeof some / sizeof *some };

static void append_some(uint32_t number) {
    set_begin(number);
    for (size_t i = 0; i < SOME; i++)
        set_add(some[i].kind, some[i].subject, some[i].queue);
    ck_assert_int_eq(set_append(), ERR_OK);
}

static void expect_some(const struct book_entry *entry, uint32_t number) {
    ck_assert_int_eq(entry->type, BOOK_RULES);
    ck_assert_uint_eq(entry->rules.number, number);
    ck_assert_uint_eq(entry->rules.responses_max, 3);
    ck_assert_uint_eq(entry->rules.count, SOME);
    struct book_rule rule;
    struct view subject, queue;
    uint32_t at = 0;
    for (size_t i = 0; i < SOME; i++) {
        ck_assert(book_rule_next(&entry->rules, entry->rule, &at, &rule, &subject, &queue));
        ck_assert(rule.kind == some[i].kind && view_equal(subject, view_text(some[i].subject)) &&
                  view_equal(queue, view_text(some[i].queue)));
    }
    ck_assert(!book_rule_next(&entry->rules, entry->rule, &at, &rule, &subject, &queue));
}

START_TEST(test_rules) {
    struct book_entry entry, again;
    append_some(7);
    append_account(1, "$G");
    append_some(8);
    struct book_permit p = {.account = 1, .principal = 4, .serial = 9, .permissions = 8, .payload_max = 100};
    ck_assert_int_eq(book_append(&writer, BOOK_PERMIT, &p, sizeof p), ERR_OK);
    ck_assert_int_eq(book_next(&reader, &entry), ERR_OK);
    expect_some(&entry, 7);
    uint64_t first = entry.pos;
    ck_assert_int_eq(book_next(&reader, &entry), ERR_OK);
    ck_assert_int_eq(entry.type, BOOK_ACCOUNT);
    ck_assert_int_eq(book_next(&reader, &entry), ERR_OK);
    expect_some(&entry, 8);
    uint8_t *kept = book_keep(&reader);
    uint64_t pos = reader.pos;
    ck_assert_int_eq(book_read(&reader, first, &again), ERR_OK);
    expect_some(&again, 7);
    expect_some(&entry, 8); /* which is ours now */
    ck_assert_uint_eq(reader.pos, pos);
    free(kept);
    ck_assert_int_eq(book_next(&reader, &entry), ERR_OK);
    ck_assert_int_eq(entry.type, BOOK_PERMIT);
    ck_assert_mem_eq(&entry.permit, &p, sizeof p);
    /* A writer finds the end behind all of it. */
    struct book second;
    ck_assert_int_eq(book_open(&second, fd, true), ERR_OK);
    ck_assert_uint_eq(second.pos, writer.pos);
    book_close(&second);
}
END_TEST

START_TEST(test_rules_bounds) {
    static char longest[70000];
    memset(longest, 'x', sizeof longest - 1);
    set_begin(1);
    ck_assert_int_eq(book_rules_add(&set.head, sizeof set.rules, BOOK_SUB_DENY, view_text(longest), (struct view){0}),
                     ERR_LONG);
    ck_assert_int_eq(book_rules_add(&set.head, 10, BOOK_SUB_DENY, VIEW("abcde"), (struct view){0}), ERR_LONG);
    ck_assert_uint_eq(set.head.count, 0);
    ck_assert_int_eq(set_append(), ERR_OK); /* a set without rules */
    struct view half = view_of(longest, 60000);
    while (book_rules_add(&set.head, sizeof set.rules, BOOK_SUB_DENY, half, (struct view){0}) == ERR_OK)
        ;
    ck_assert_uint_eq(set.head.count, BOOK_RULES_BYTES_MAX / (60000 + sizeof(struct book_rule)));
    ck_assert_int_eq(set_append(), ERR_LONG); /* larger than this book */
}
END_TEST

/* Fields that no writer may write; the same, sealed by hand, no reader takes. */
static void no_number(void) {
    set.head.number = 0;
}
static void more_count(void) {
    set.head.count++;
}
static void less_count(void) {
    set.head.count--;
}
static void more_bytes(void) {
    set.head.bytes++;
}
static void less_bytes(void) {
    set.head.bytes--;
}
static void huge_bytes(void) {
    set.head.bytes = UINT32_MAX;
}
static void kind_zero(void) {
    set.rules[0] = 0;
}
static void kind_high(void) {
    set.rules[0] = BOOK_SUB_DENY + 1;
}
static void rule_pad(void) {
    set.rules[1] = 1;
}
static void long_subject(void) {
    set.rules[2] = 255;
}
static void longer_queue(void) {
    set.rules[4] = 255;
}
static void queue_of_pub(void) {
    set.rules[4] = 6, set.head.count--;
} /* it swallows the next rule's head */
static void (*const spoil[])(void) = {no_number, more_count, less_count, more_bytes,   less_bytes,   huge_bytes,
                                      kind_zero, kind_high,  rule_pad,   long_subject, longer_queue, queue_of_pub};

START_TEST(test_rules_bad) {
    append_some(1);
    uint64_t end = writer.pos, begin = reader.pos;
    uint32_t len = (uint32_t)sizeof set.head + set.head.bytes;
    spoil[_i]();
    ck_assert_int_eq(book_append(&writer, BOOK_RULES, &set, len), ERR_SYNTAX);
    ck_assert_uint_eq(writer.pos, end);
    /* What a writer without a check would have left. */
    struct {
        uint32_t len, type;
        uint8_t check[16];
    } head = {.len = len, .type = BOOK_RULES};
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, sizeof head.check);
    crypto_generichash_update(&state, (const unsigned char *)&head, 8);
    crypto_generichash_update(&state, (const unsigned char *)&set, len);
    crypto_generichash_final(&state, head.check, sizeof head.check);
    memcpy(writer.at + begin, &head, sizeof head);
    memcpy(writer.at + begin + sizeof head, &set, len);
    struct book_entry entry;
    ck_assert_int_eq(book_next(&reader, &entry), ERR_FORGED);
    ck_assert_uint_eq(reader.pos, begin);
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
    tcase_add_test(tcase, test_rules);
    tcase_add_test(tcase, test_rules_bounds);
    tcase_add_loop_test(tcase, test_rules_bad, 0, sizeof spoil / sizeof *spoil);
    tcase_add_test(tcase, test_bad_position);
    tcase_add_test(tcase, test_full);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
