/* SPDX-License-Identifier: Apache-2.0 */
/* The checksum is BLAKE2b without a key: it finds a torn or damaged entry; it is no seal, authd is trusted with the
 * book. */
#include "shm/book.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

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
    *book = (struct book){at, bytes, first_pos(), NULL};
    if (writer) {
        struct book_entry entry;
        while ((e = book_next(book, &entry)) == ERR_OK)
            ;
        free(book_keep(book));
        if (e == ERR_NOMEM) {
            book_close(book);
            return e;
        }
        /* A writer that died left at most an entry beyond written_pos: it is written over. */
        atomic_store_explicit(&head_of(book)->written_pos, book->pos, memory_order_release);
    }
    return ERR_OK;
}

void book_close(struct book *book) {
    if (book->at)
        munmap(book->at, book->bytes);
    free(book->copy);
    *book = (struct book){0};
}

static uint64_t entry_bytes(uint32_t len) {
    return (sizeof(struct entry_head) + (uint64_t)len + 7) & ~(uint64_t)7;
}

/* ---- rules ---- */

bool book_rule_next(const struct book_rules *rules, const uint8_t *rule, uint32_t *at, struct book_rule *out,
                    struct view *subject, struct view *queue) {
    if (*at >= rules->bytes)
        return false;
    memcpy(out, rule + *at, sizeof *out);
    *subject = view_of(rule + *at + sizeof *out, out->subject_len);
    *queue = view_of(rule + *at + sizeof *out + out->subject_len, out->queue_len);
    *at += (uint32_t)sizeof *out + out->subject_len + out->queue_len;
    return true;
}

/* Every rule of a known kind and within its bounds, and all of them together just what the head says. */
static bool rules_fit(const struct book_rules *rules, const uint8_t *rule, uint32_t len) {
    if (rules->number == 0 || len - sizeof *rules != rules->bytes)
        return false;
    uint32_t at = 0, count = 0;
    while (rules->bytes - at >= sizeof(struct book_rule)) {
        struct book_rule r;
        memcpy(&r, rule + at, sizeof r);
        bool subscribes = r.kind == BOOK_SUB_ALLOW || r.kind == BOOK_SUB_DENY;
        if (r.kind < BOOK_PUB_ALLOW || r.kind > BOOK_SUB_DENY || r.pad != 0 || (r.queue_len != 0 && !subscribes) ||
            (r.subject_len == 0 && r.kind != BOOK_PUB_ALLOW && r.kind != BOOK_SUB_ALLOW) ||
            rules->bytes - at - sizeof r < (uint64_t)r.subject_len + r.queue_len)
            return false;
        at += (uint32_t)sizeof r + r.subject_len + r.queue_len;
        count++;
    }
    return at == rules->bytes && count == rules->count;
}

enum err book_rules_add(struct book_rules *rules, uint32_t cap, enum book_rule_kind kind, struct view subject,
                        struct view queue) {
    struct book_rule rule = {(uint8_t)kind, 0, (uint16_t)subject.len, (uint16_t)queue.len};
    if (subject.len > UINT16_MAX || queue.len > UINT16_MAX || cap > BOOK_RULES_BYTES_MAX || rules->bytes > cap ||
        cap - rules->bytes < sizeof rule + subject.len + queue.len)
        return ERR_LONG;
    uint8_t *to = (uint8_t *)(rules + 1) + rules->bytes;
    memcpy(to, &rule, sizeof rule);
    if (subject.len != 0)
        memcpy(to + sizeof rule, subject.at, subject.len);
    if (queue.len != 0)
        memcpy(to + sizeof rule + subject.len, queue.at, queue.len);
    rules->bytes += (uint32_t)(sizeof rule + subject.len + queue.len);
    rules->count++;
    return ERR_OK;
}

/* ---- entries ---- */

static bool len_fits(uint32_t type, uint32_t len) {
    switch (type) {
    case BOOK_ACCOUNT:
        return len == sizeof(struct book_account);
    case BOOK_FLOOR:
        return len == sizeof(struct book_floor);
    case BOOK_PERMIT:
        return len == sizeof(struct book_permit);
    case BOOK_RULES:
        return len >= sizeof(struct book_rules) && len - sizeof(struct book_rules) <= BOOK_RULES_BYTES_MAX;
    default:
        return false;
    }
}

enum err book_append(struct book *book, enum book_type type, const void *fields, uint32_t len) {
    if (!len_fits(type, len))
        return ERR_SYNTAX;
    if (type == BOOK_RULES) {
        struct book_rules rules;
        memcpy(&rules, fields, sizeof rules);
        if (!rules_fit(&rules, (const uint8_t *)fields + sizeof rules, len))
            return ERR_SYNTAX;
    }
    if (book->pos + entry_bytes(len) > book->bytes)
        return ERR_LONG;
    struct entry_head head = {.len = len, .type = type};
    entry_check(head.check, &head, fields);
    memcpy(book->at + book->pos, &head, sizeof head);
    memcpy(book->at + book->pos + sizeof head, fields, len);
    book->pos += entry_bytes(len);
    atomic_store_explicit(&head_of(book)->written_pos, book->pos, memory_order_release);
    return ERR_OK;
}

uint8_t *book_keep(struct book *book) {
    uint8_t *copy = book->copy;
    book->copy = NULL;
    return copy;
}

/* Where the fields of an entry are copied to: the entry itself, or for rules a piece of memory. */
static uint8_t *copy_place(struct book *book, struct book_entry *entry, uint32_t len) {
    if (entry->type != BOOK_RULES)
        return (uint8_t *)&entry->account;
    free(book->copy);
    book->copy = malloc(len);
    return book->copy;
}

static bool fields_fit(struct book_entry *entry, const uint8_t *copy) {
    if (entry->type == BOOK_ACCOUNT)
        return entry->account.number != 0 && entry->account.name_len <= BOOK_NAME_MAX;
    if (entry->type != BOOK_RULES)
        return true;
    memcpy(&entry->rules, copy, sizeof entry->rules);
    entry->rule = copy + sizeof entry->rules;
    return rules_fit(&entry->rules, entry->rule, entry->len);
}

enum err book_read(struct book *book, uint64_t pos, struct book_entry *entry) {
    uint64_t written = atomic_load_explicit(&head_of(book)->written_pos, memory_order_acquire);
    if (written <= pos)
        return ERR_AGAIN;
    struct entry_head head;
    if (written > book->bytes || written - pos < sizeof head)
        return ERR_FORGED;
    memcpy(&head, book->at + pos, sizeof head);
    if (!len_fits(head.type, head.len) || entry_bytes(head.len) > written - pos)
        return ERR_FORGED;
    entry->type = (enum book_type)head.type;
    entry->len = head.len;
    entry->pos = pos;
    uint8_t *copy = copy_place(book, entry, head.len);
    if (!copy)
        return ERR_NOMEM;
    memcpy(copy, book->at + pos + sizeof head, head.len);
    uint8_t sum[CHECK_BYTES];
    entry_check(sum, &head, copy);
    return memcmp(sum, head.check, sizeof sum) == 0 && fields_fit(entry, copy) ? ERR_OK : ERR_FORGED;
}

enum err book_next(struct book *book, struct book_entry *entry) {
    enum err e = book_read(book, book->pos, entry);
    if (e == ERR_OK)
        book->pos += entry_bytes(entry->len);
    return e;
}
