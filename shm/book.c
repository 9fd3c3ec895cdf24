/* The checksum is BLAKE2b without a key: it finds a torn or damaged entry; it is no seal, authd is trusted with the
 * book. */
#include "shm/book.h"

#include <sodium.h>
#include <string.h>

#include "base/check.h"
#include "shm/memfd.h"

enum { CHECK_BYTES = 16 };

struct entry_head {
    uint32_t len; /* of the fields */
    uint32_t type;
    uint8_t check[CHECK_BYTES];
};

static struct book_head *head_of(const struct book *book) {
    return (struct book_head *)(void *)book->at;
}

static uint64_t first_pos(void) {
    return 64;
}

static void entry_check(uint8_t out[CHECK_BYTES], const struct entry_head *head, const void *fields) {
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, CHECK_BYTES);
    crypto_generichash_update(&state, (const unsigned char *)&head->len, sizeof head->len);
    crypto_generichash_update(&state, (const unsigned char *)&head->type, sizeof head->type);
    crypto_generichash_update(&state, fields, head->len);
    crypto_generichash_final(&state, out, CHECK_BYTES);
}

enum err book_open(struct book *book, int fd, bool writer) {
    size_t bytes;
    void *at;
    enum err e = memfd_size(fd, &bytes);
    if (e == ERR_OK)
        e = memfd_map(&at, fd, bytes, writer);
    if (e != ERR_OK)
        return e;
    *book = (struct book){at, bytes, first_pos()};
    if (writer) {
        struct book_entry entry;
        while ((e = book_next(book, &entry)) == ERR_OK)
            ;
        /* A writer that died left at most an entry beyond written_pos: it is written over. */
        atomic_store_explicit(&head_of(book)->written_pos, book->pos, memory_order_release);
    }
    return ERR_OK;
}

static uint64_t entry_bytes(uint32_t len) {
    return (sizeof(struct entry_head) + (uint64_t)len + 7) & ~(uint64_t)7;
}

/* The fields lie in their place; the entry becomes visible. */
static void complete(struct book *book, enum book_type type, uint32_t len) {
    struct entry_head head = {.len = len, .type = type};
    entry_check(head.check, &head, book->at + book->pos + sizeof head);
    memcpy(book->at + book->pos, &head, sizeof head);
    book->pos += entry_bytes(len);
    atomic_store_explicit(&head_of(book)->written_pos, book->pos, memory_order_release);
}

enum err book_append(struct book *book, enum book_type type, const void *fields, uint32_t len) {
    if (len > sizeof(struct book_entry) || entry_bytes(len) > book->bytes - book->pos)
        return ERR_LONG;
    memcpy(book->at + book->pos + sizeof(struct entry_head), fields, len);
    complete(book, type, len);
    return ERR_OK;
}

enum err book_append_rules(struct book *book, const struct book_rules *rules, const void *bytes) {
    uint32_t len = (uint32_t)sizeof *rules + rules->bytes;
    if (rules->bytes > BOOK_RULES_BYTES_MAX || entry_bytes(len) > book->bytes - book->pos)
        return ERR_LONG;
    uint8_t *fields = book->at + book->pos + sizeof(struct entry_head);
    memcpy(fields, rules, sizeof *rules);
    memcpy(fields + sizeof *rules, bytes, rules->bytes);
    complete(book, BOOK_RULES, len);
    return ERR_OK;
}

/* Does the length fit the type? */
static bool len_fits(const struct entry_head *head) {
    switch (head->type) {
    case BOOK_ACCOUNT:
        return head->len == sizeof(struct book_account);
    case BOOK_FLOOR:
        return head->len == sizeof(struct book_floor);
    case BOOK_PERMIT:
        return head->len == sizeof(struct book_permit);
    case BOOK_RULES:
        return head->len >= sizeof(struct book_rules) && head->len <= sizeof(struct book_rules) + BOOK_RULES_BYTES_MAX;
    default:
        return false;
    }
}

enum err book_next(struct book *book, struct book_entry *entry) {
    uint64_t written = atomic_load_explicit(&head_of(book)->written_pos, memory_order_acquire);
    if (written <= book->pos)
        return ERR_AGAIN;
    struct entry_head head;
    if (written > book->bytes || written - book->pos < sizeof head)
        return ERR_FORGED;
    memcpy(&head, book->at + book->pos, sizeof head);
    if (!len_fits(&head) || entry_bytes(head.len) > written - book->pos)
        return ERR_FORGED;
    const uint8_t *fields = book->at + book->pos + sizeof head;
    uint8_t sum[CHECK_BYTES];
    entry_check(sum, &head, fields);
    if (memcmp(sum, head.check, sizeof sum) != 0)
        return ERR_FORGED;
    entry->type = (enum book_type)head.type;
    entry->len = head.len;
    memcpy(&entry->account, fields, entry->type == BOOK_RULES ? sizeof entry->rules : head.len);
    entry->rule_bytes = entry->type == BOOK_RULES ? fields + sizeof entry->rules : NULL;
    if (entry->type == BOOK_ACCOUNT && (entry->account.number == 0 || entry->account.name_len > BOOK_NAME_MAX))
        return ERR_FORGED;
    if (entry->type == BOOK_RULES && (entry->rules.number == 0 || entry->rules.bytes != head.len - sizeof entry->rules))
        return ERR_FORGED;
    book->pos += entry_bytes(head.len);
    return ERR_OK;
}
