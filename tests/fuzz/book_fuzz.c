/* SPDX-License-Identifier: Apache-2.0 */
/* The account book's reader on arbitrary bytes, as if authd had written them: the input is a run of entries (type, length, bytes),
 * sealed by the fuzzer so that they get past the checksum, or not. What must hold: no crash; what is taken is within its bounds,
 * its rules add up, and a set that was taken can be compiled and asked. */
#include <sodium.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "router/permissions.h"
#include "shm/memfd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BYTES = 64 * 1024, HEAD = 24, FIRST = 64 };

static uint8_t *memory;
static int fd;

static void seal(uint8_t *entry, uint32_t len) {
    crypto_generichash_state state;
    crypto_generichash_init(&state, NULL, 0, 16);
    crypto_generichash_update(&state, entry, 8);
    crypto_generichash_update(&state, entry + HEAD, len);
    crypto_generichash_final(&state, entry + 8, 16);
}

/* Entries out of the input; returns where they end. */
static uint64_t fill(const uint8_t *data, size_t size) {
    uint64_t pos = FIRST;
    while (size >= 4) {
        uint8_t how = data[0], type = data[1];
        uint32_t len = (uint32_t)data[2] | (uint32_t)data[3] << 8;
        data += 4, size -= 4;
        uint32_t given = len <= size ? len : (uint32_t)size;
        if (how & 1) /* the length that the type wants */
            len = type == BOOK_ACCOUNT  ? sizeof(struct book_account)
                  : type == BOOK_FLOOR  ? sizeof(struct book_floor)
                  : type == BOOK_PERMIT ? sizeof(struct book_permit)
                                        : given;
        if (pos + HEAD + len + 8 > BYTES)
            break;
        uint8_t *entry = memory + pos;
        uint32_t head[2] = {how & 4 ? len + (how >> 3) : len, type};
        memset(entry, 0, HEAD + len);
        memcpy(entry, head, sizeof head);
        memcpy(entry + HEAD, data, given < len ? given : len);
        if (type == BOOK_RULES && (how & 8) && len >= sizeof(struct book_rules)) {
            uint32_t bytes = len - (uint32_t)sizeof(struct book_rules);
            memcpy(entry + HEAD + offsetof(struct book_rules, bytes), &bytes, sizeof bytes);
        }
        if (!(how & 2))
            seal(entry, len);
        data += given, size -= given;
        pos += (HEAD + len + 7) & ~7u;
    }
    return pos;
}

static void ask(struct permissions_tools *tools, struct book *book, const struct book_entry *entry) {
    struct permissions *p = permissions_new(tools, &entry->rules, entry->pos);
    check(p != NULL);
    struct book_rule rule;
    struct view subject, queue;
    uint32_t at = 0, count = 0;
    while (book_rule_next(&entry->rules, entry->rule, &at, &rule, &subject, &queue))
        count++;
    check(count == entry->rules.count && at == entry->rules.bytes);
    while (!permissions_compile(p, book)) {
    }
    permissions_publish(p, VIEW("a.b"));
    permissions_subscribe(p, VIEW("a.*"), VIEW("q"));
    permissions_filters(p, VIEW("a.>"), VIEW("q"));
    permissions_deliver(p, VIEW("a.b"), VIEW("q"), 1);
    permissions_free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!memory) {
        void *at;
        check(sodium_init() >= 0 && memfd_make(&fd, "book", BYTES, 0) == ERR_OK &&
              memfd_map(&at, fd, BYTES, 1) == ERR_OK);
        memory = at;
    }
    memset(memory, 0, BYTES);
    uint64_t end = fill(data, size);
    memcpy(memory, &end, sizeof end);
    struct hash_key hash = {{1, 2, 3, 4}};
    struct slab slab = {0};
    uint64_t work = 0;
    struct permissions_tools tools = {.hash = &hash, .slab = &slab, .work = &work};
    struct book reader, asked;
    check(book_open(&reader, fd, false) == ERR_OK && book_open(&asked, fd, false) == ERR_OK);
    struct book_entry entry;
    enum err e;
    while ((e = book_next(&reader, &entry)) == ERR_OK) {
        check(entry.type > 0 && entry.type < BOOK_TYPE_END && reader.pos <= end && entry.pos < reader.pos);
        if (entry.type == BOOK_ACCOUNT)
            check(entry.account.number != 0 && entry.account.name_len <= BOOK_NAME_MAX);
        else if (entry.type == BOOK_RULES)
            ask(&tools, &asked, &entry);
    }
    check(e == ERR_AGAIN ? reader.pos == end : e == ERR_FORGED);
    book_close(&reader);
    book_close(&asked);
    match_free(&tools.match);
    slab_free(&slab);
    return 0;
}
