/* shm/book.h: the account book.
 *
 * An append-only memory that authd writes and the router reads; the supervisor keeps it over the death of either. It holds
 * what an account may do and which logins are still valid, and no credential. So a new router needs no living authd.
 *
 *   | struct book_head | entry | entry | …            entry: | len | type | check | fields |
 *
 * An entry is complete before written_pos passes it. Each carries a checksum over its bytes; a reader stops at the first one
 * that does not fit.
 */
#ifndef SHM_BOOK_H
#define SHM_BOOK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/view.h"

enum { BOOK_BYTES = 16 << 20, BOOK_NAME_MAX = 255 };

struct book_head {
    _Atomic uint64_t written_pos; /* bytes from the start of the memory; 0: never written */
};

enum book_type {
    BOOK_ACCOUNT = 1, /* struct book_account */
    BOOK_FLOOR,       /* struct book_floor */
    BOOK_TYPE_END
};

/* An account; a later entry of the same number replaces an earlier one. */
struct book_account {
    uint32_t number; /* from 1; given once per life of the server, means the same to every process */
    uint32_t name_len;
    uint32_t conns_max; /* 0: no limit */
    uint32_t subs_max;  /* 0: no limit */
    char name[BOOK_NAME_MAX + 1];
};

/* Bindings of this account (and principal, if it is not 0) with a serial below this one are no longer valid. */
struct book_floor {
    uint32_t account;
    uint32_t principal;
    uint64_t serial;
};

struct book {
    uint8_t *at;
    uint64_t bytes;
    uint64_t pos; /* the writer's next entry, or the reader's */
};

/* Maps fd; a writer's position is behind the last whole entry, a reader's at the first. ERR_SYSTEM. */
enum err book_open(struct book *book, int fd, bool writer);

/* Appends one entry of len bytes of fields and makes it visible. ERR_LONG: the book is full. */
enum err book_append(struct book *book, enum book_type type, const void *fields, uint32_t len);

struct book_entry {
    enum book_type type;
    uint32_t len;
    union {
        struct book_account account;
        struct book_floor floor;
    };
};

/* Copies the next entry. ERR_AGAIN: none yet. ERR_FORGED: the book is damaged here; nothing beyond can be read. */
enum err book_next(struct book *book, struct book_entry *entry);

#endif
