/* The checksum is BLAKE2b without a key: it finds a torn or damaged entry; it is no seal, authd is trusted with the book. */
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

enum err book_append(struct book *book, enum book_type type, const void *fields, uint32_t len) {
    if (len > sizeof(struct book_entry) || book->pos + entry_bytes(len) > book->bytes)
        return ERR_LONG;
    struct entry_head head = {.len = len, .type = type};
    entry_check(head.check, &head, fields);
    memcpy(book->at + book->pos, &head, sizeof head);
    memcpy(book->at + book->pos + sizeof head, fields, len);
    book->pos += entry_bytes(len);
    atomic_store_explicit(&head_of(book)->written_pos, book->pos, memory_order_release);
    return ERR_OK;
}

enum err book_next(struct book *book, struct book_entry *entry) {
    uint64_t written = atomic_load_explicit(&head_of(book)->written_pos, memory_order_acquire);
    if (written <= book->pos)
        return ERR_AGAIN;
    struct entry_head head;
    if (written > book->bytes || written - book->pos < sizeof head)
        return ERR_FORGED;
    memcpy(&head, book->at + book->pos, sizeof head);
    static const uint32_t lens[BOOK_TYPE_END] = {[BOOK_ACCOUNT] = sizeof(struct book_account),
                                                 [BOOK_FLOOR] = sizeof(struct book_floor)};
    if (head.type >= BOOK_TYPE_END || head.len == 0 || head.len != lens[head.type] ||
        entry_bytes(head.len) > written - book->pos)
        return ERR_FORGED;
    entry->type = (enum book_type)head.type;
    entry->len = head.len;
    memcpy(&entry->account, book->at + book->pos + sizeof head, head.len);
    uint8_t sum[CHECK_BYTES];
    entry_check(sum, &head, &entry->account);
    if (memcmp(sum, head.check, sizeof sum) != 0)
        return ERR_FORGED;
    if (entry->type == BOOK_ACCOUNT && (entry->account.number == 0 || entry->account.name_len > BOOK_NAME_MAX))
        return ERR_FORGED;
    book->pos += entry_bytes(head.len);
    return ERR_OK;
}
