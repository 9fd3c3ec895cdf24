/* SPDX-License-Identifier: Apache-2.0 */
/* authd/ledger.h: what one authd leaves to the next.
 *
 * A memory that authd alone maps and that the supervisor keeps over its deaths. It holds, for every user whose bindings
 * may be live, what the last configuration said of it: so the next configuration, or the next authd, sees who was
 * removed, moved, or given another password while nobody looked. No credential lies in it, only keyed hashes. And it
 * holds the nonces that were given out.
 *
 *   | head | entry | entry | ...  | nonces of link 0 | nonces of link 1 | ...
 *
 * An entry never changes: a user's new state goes into a free entry, which is published with one store; then the old
 * one is freed. After a death between the two the entry with the higher version counts. What follows from a change is
 * written to the account book first and to the ledger second: after a death between the two it is written again, which
 * does no harm.
 */
#ifndef AUTHD_LEDGER_H
#define AUTHD_LEDGER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "ipc/nonce.h"
#include "shm/commit.h"
#include "shm/ledger.h"

enum {
    LEDGER_ENTRIES = 1 << 18, /* twice the users of two configurations */
    LEDGER_NAME_BYTES = 16,
    LEDGER_MARK_BYTES = 16,
    LEDGER_KEY_BYTES = 32,
    LEDGER_NONCES = 65536, /* of one link; a newer one takes the place of the oldest */
    LEDGER_NONCE_BYTES = 11,
};

struct ledger_user {
    uint8_t name[LEDGER_NAME_BYTES]; /* keyed hash of kind and name */
    uint8_t mark[LEDGER_MARK_BYTES]; /* keyed hash of the credential and of how it is checked */
    uint32_t account;                /* number in the account book */
    uint32_t principal;
    uint32_t permissions, payload_max; /* of its next binding */
    uint32_t types;                    /* struct user, types */
};

struct ledger_entry {
    _Atomic uint64_t version; /* 0: free */
    struct ledger_user user;
};

enum nonce_state { NONCE_NEVER, NONCE_GIVEN, NONCE_USED };

struct ledger_nonce {
    uint64_t given_ms; /* clock_mono_ms */
    uint32_t epoch;    /* of the link */
    uint8_t bytes[LEDGER_NONCE_BYTES];
    _Atomic uint8_t state;
};

struct ledger_link {
    uint64_t incarnation; /* of the edge process that the nonces were given to */
    uint32_t epoch;       /* counts incarnations: nonces of another one are void */
    uint32_t next;        /* place of the next nonce */
    struct ledger_nonce nonce[LEDGER_NONCES];
};

struct ledger_memory {
    _Atomic uint32_t made; /* the key is there */
    _Atomic uint32_t principal_high;
    _Atomic uint32_t entries_high; /* all beyond have never been used */
    uint8_t key[LEDGER_KEY_BYTES];
    struct ledger_entry entry[LEDGER_ENTRIES];
    struct ledger_link link[LINKS_MAX];
};
_Static_assert(sizeof(struct ledger_memory) <= LEDGER_BYTES, "the ledger fits into its memory");

struct ledger {
    struct ledger_memory *memory;
    uint64_t version_high;
    uint32_t hint; /* no entry before is free */
    uint32_t live; /* entries */
};

/* Maps the ledger behind fd; a fresh one gets its key. Of two entries of one user the older one is freed. */
enum err ledger_open(struct ledger *ledger, int fd);
void ledger_close(struct ledger *ledger);

/* The number of an entry with that name; UINT32_MAX: none. Takes as long as the ledger: for many look-ups make a table.
 */
uint32_t ledger_find(const struct ledger *ledger, const uint8_t name[static LEDGER_NAME_BYTES]);

/* A principal number that no user ever had; 0: there is none left. */
uint32_t ledger_new_principal(struct ledger *ledger);

/* Writes an entry and frees the one that it replaces (UINT32_MAX: none). Returns its number; UINT32_MAX: the ledger is
 * full. */
uint32_t ledger_put(struct ledger *ledger, const struct ledger_user *user, uint32_t replaced);
void ledger_free(struct ledger *ledger, uint32_t number);

/* ---- nonces ---- */

/* The edge process of a link from now on: nonces given to an earlier one are void. */
void nonces_open_link(struct ledger *ledger, uint32_t link, uint64_t incarnation);

/* Gives out one nonce. */
void nonces_give(struct ledger *ledger, uint32_t link, uint64_t now_ms, char text[static NONCE_CHARS]);

enum nonce_look { NONCE_BAD, NONCE_GOOD, NONCE_SPENT };

/* NONCE_GOOD: it was given to that link, is not too old, and was not taken; NONCE_SPENT: it was taken. */
enum nonce_look nonces_look(const struct ledger *ledger, uint32_t link, uint64_t now_ms, const void *text, size_t len);

/* True, once, for a nonce that is good. */
bool nonces_take(struct ledger *ledger, uint32_t link, uint64_t now_ms, const void *text, size_t len);

#endif
