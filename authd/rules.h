/* SPDX-License-Identifier: Apache-2.0 */
/* authd/rules.h: a permissions block of the configuration as the rules of the account book (shm/book.h).
 *
 * Rules are sorted and stand once, so that blocks that mean the same have the same bytes and become one set.
 */
#ifndef AUTHD_RULES_H
#define AUTHD_RULES_H

#include "base/err.h"
#include "config/value.h"
#include "shm/book.h"

enum { RULES_HASH_BYTES = 16 };

/* A permission set: its head without a number, its rules, and a hash of both. */
struct rules {
    struct book_rules head;
    const uint8_t *bytes;
    uint8_t hash[RULES_HASH_BYTES];
};

/* Makes the set of a checked permissions block; its bytes lie in the arena. A block that limits nothing gives a set
 * without rules and without responses. ERR_SYNTAX: not a permissions block; ERR_LONG: more than BOOK_RULES_BYTES_MAX.
 */
enum err rules_read(struct rules *rules, const struct value *permissions, struct arena *arena);

/* True if the set allows everything. */
bool rules_are_empty(const struct rules *rules);

/* The hash of a set as it stands in the book. */
void rules_hash(uint8_t hash[static RULES_HASH_BYTES], const struct book_rules *head, const void *bytes);

#endif
