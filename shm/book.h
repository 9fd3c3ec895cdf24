/* SPDX-License-Identifier: Apache-2.0 */
/* shm/book.h: the account book.
 *
 * An append-only memory that authd writes and the router reads; the supervisor keeps it over the death of either. It
 * holds the limits of accounts, permission sets, and which logins are still valid; no credential. So a new router needs
 * no living authd.
 *
 *   | struct book_head | entry | entry | …            entry: | len | type | check | fields |
 *
 * An entry is complete before written_pos passes it. Each carries a checksum over its bytes; a reader stops at the
 * first entry whose checksum is wrong.
 */
#ifndef SHM_BOOK_H
#define SHM_BOOK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/view.h"

enum { BOOK_BYTES = 16 << 20, BOOK_NAME_MAX = 255 };

/* Most accounts and users of one configuration, counting the account "$G" and two users that no file names. */
enum { BOOK_ACCOUNTS_MAX = 16384, BOOK_USERS_MAX = 65536 };

struct book_head {
    _Atomic uint64_t written_pos; /* bytes from the start of the memory; 0: never written */
};

enum book_type {
    BOOK_ACCOUNT = 1, /* struct book_account */
    BOOK_FLOOR,       /* struct book_floor */
    BOOK_RULES,       /* struct book_rules and its rules */
    BOOK_PERMIT,      /* struct book_permit */
    BOOK_TYPE_END
};

/* An account; a later entry of the same number replaces an earlier one. */
struct book_account {
    uint32_t number; /* from 1; given once in the server's life, the same in every process */
    uint32_t name_len;
    uint32_t conns_max; /* shm/limit.h */
    uint32_t subs_max;  /* of each connection; shm/limit.h */
    char name[BOOK_NAME_MAX + 1];
};

/* Bindings with a lower serial are no longer valid. */
struct book_floor {
    uint32_t account;
    uint32_t principal; /* 0: of every user of the account */
    uint64_t serial;
    uint32_t kick; /* enum record_kick: what the connections that it ends are told */
    uint32_t pad;
};

/* A permission set. It never changes; its number is given once per life of the server, from 1 (0: all is allowed). */
struct book_rules {
    uint32_t number;
    uint32_t
        responses_max; /* messages to each reply subject that was delivered; 0: no right to answer; BOOK_UNLIMITED */
    uint64_t responses_ms; /* how long that right lasts; 0: for ever */
    uint32_t count;        /* rules that follow */
    uint32_t bytes;        /* of those rules */
};
#define BOOK_UNLIMITED UINT32_MAX

enum book_rule_kind {
    BOOK_PUB_ALLOW = 1, /* a set without such rules allows every subject; one rule with subject length 0 stands for an
                         * empty list, which allows none */
    BOOK_PUB_DENY,
    BOOK_SUB_ALLOW, /* as BOOK_PUB_ALLOW */
    BOOK_SUB_DENY,
};

/* One rule; its subject and queue follow, without padding. */
struct book_rule {
    uint8_t kind; /* enum book_rule_kind */
    uint8_t pad;
    uint16_t subject_len;
    uint16_t
        queue_len; /* of subscription rules: the rule is for queue subscriptions whose queue this pattern matches; 0: for all */
};
enum { BOOK_RULES_BYTES_MAX = 1 << 20 };

/* Bindings of that user with a lower serial have these permissions and this limit instead of their own. */
struct book_permit {
    uint32_t account;
    uint32_t principal;
    uint64_t serial;
    uint32_t permissions; /* number of a set, 0: all is allowed */
    uint32_t payload_max; /* shm/limit.h */
};

struct book {
    uint8_t *at;
    uint64_t bytes;
    uint64_t pos;  /* bytes from the start: where the next entry is written, or read */
    uint8_t *copy; /* a reader's: the fields of its last BOOK_RULES; null: none */
};

/* Maps fd; a writer's position is behind the last whole entry, a reader's at the first. ERR_SYSTEM, ERR_NOMEM. */
enum err book_open(struct book *book, int fd, bool writer);
void book_close(struct book *book);

/* Appends one entry of len bytes of fields and makes it visible; the fields of BOOK_RULES are a struct book_rules and
 * its rules, one behind the other (book_rules_add). ERR_LONG: the book is full. ERR_SYNTAX: a reader would not take
 * these fields. */
enum err book_append(struct book *book, enum book_type type, const void *fields, uint32_t len);

/* Adds a rule to fields of BOOK_RULES that begin at rules and have room for cap bytes of rules behind the struct; count
 * and bytes grow. ERR_LONG: no room, or a text of more than 65535 bytes. */
enum err book_rules_add(struct book_rules *rules, uint32_t cap, enum book_rule_kind kind, struct view subject,
                        struct view queue);

struct book_entry {
    enum book_type type;
    uint32_t len;
    uint64_t pos; /* bytes from the start of the book, for book_read */
    union {
        struct book_account account;
        struct book_floor floor;
        struct book_permit permit;
        struct book_rules rules; /* book_rule_next reads the rules that follow */
    };
    const uint8_t *rule; /* BOOK_RULES: the copied rules, the book's until its next BOOK_RULES */
};

/* Copies the next entry and checks the copy. ERR_AGAIN: none yet. ERR_FORGED: the book is damaged here; nothing beyond
 * can be read. ERR_NOMEM: the entry can be asked for again. */
enum err book_next(struct book *book, struct book_entry *entry);

/* Copies the entry at pos, which book_next has returned before; book->pos does not change. Errors as of book_next. */
enum err book_read(struct book *book, uint64_t pos, struct book_entry *entry);

/* Hands the copied rules over to the caller, who frees them. */
uint8_t *book_keep(struct book *book);

/* The rule at *at (at first 0) of entry's rules, which have been checked; false behind the last one. */
bool book_rule_next(const struct book_rules *rules, const uint8_t *rule, uint32_t *at, struct book_rule *out,
                    struct view *subject, struct view *queue);

#endif
