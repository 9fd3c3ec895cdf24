/* SPDX-License-Identifier: Apache-2.0 */
/* authd/users.h: the users of the configuration, as a table.
 *
 * It is made from authd's part of the configuration (config_print with PART_AUTH) and never changes. No password lies
 * in it: of a plain one there is a keyed hash, so that comparing takes the same time whatever differs; a bcrypt hash is
 * kept as it is. Both lie in locked memory that is in no core dump and is wiped when the table is dropped.
 */
#ifndef AUTHD_USERS_H
#define AUTHD_USERS_H

#include <stdbool.h>
#include <stdint.h>

#include "authd/bcrypt.h"
#include "authd/rules.h"
#include "base/err.h"
#include "base/hash.h"
#include "config/text.h"
#include "nats/nkey.h"
#include "shm/book.h"

enum {
    USERS_MAX = BOOK_USERS_MAX,
    USERS_ACCOUNTS_MAX = BOOK_ACCOUNTS_MAX,
    USERS_KEY_BYTES = 32,
    USERS_MARK_BYTES = 32,
    USERS_GLOBAL = 0, /* index of the account "$G" */
};

enum user_kind {
    USER_ANYONE = 1, /* no authentication is configured: the one user there is */
    USER_NAME,       /* with name and password */
    USER_NKEY,       /* the name is the public key */
    USER_TOKEN,      /* without a name */
    USER_UNNAMED,    /* no_auth_user: the name is that of the user whose rights it has */
};

/* Of a password or token. */
struct user_secret {
    uint8_t mark[USERS_MARK_BYTES]; /* keyed hash of its text */
    uint32_t cost;                  /* of a bcrypt hash; 0 with is_hash: nothing matches */
    bool is_hash;
    char hash[BCRYPT_CHARS]; /* if it is one that can match */
};

struct user {
    enum user_kind kind;
    uint8_t types;    /* connections that may use it: 1 << (type - 1) each, of enum ConnectionType; 0: all */
    uint32_t account; /* index */
    uint32_t rules;   /* index of its permission set; USERS_ALL: none */
    struct view name; /* as configured */
    struct view dn;   /* of USER_NAME: as a distinguished name, canonical (authd/names.h); empty: it is none */
    uint8_t nkey[NKEY_BYTES];
    struct user_secret *secret; /* NULL: no password */
    /* Set when the table is held against the ledger (authd/identity.h). */
    uint32_t principal, account_number, permissions, payload_max, subs_max;
};
#define USERS_ALL UINT32_MAX

struct user_account {
    struct view name;
    uint32_t conns_max, subs_max, payload_max; /* shm/limit.h */
    uint32_t number;                           /* set as above */
};

/* How failed logins slow their source down; see authd/penalties.h. */
struct user_penalties {
    uint32_t after; /* failures within a minute */
    uint32_t step_ms, max_ms;
};

struct users {
    struct arena arena;
    struct user *at;
    uint32_t count;
    struct user_account *accounts; /* the first is "$G" */
    uint32_t account_count;
    struct rules *rules;
    uint32_t rules_count;
    struct user_secret *secrets; /* locked; given back with sodium_free */
    uint32_t *index;             /* by kind and name, open addressing, number + 1 */
    uint32_t index_cap;
    struct hash_key index_key;
    uint8_t key[USERS_KEY_BYTES]; /* of the marks; the caller's */

    bool required; /* a login is asked for at all */
    bool has_array, has_nkeys, maps_certificates, has_plain;
    const struct user *token, *single, *unnamed; /* NULL: none */
    uint32_t cost_max;                           /* of all users with names; 0: no hash */
    char dummy[BCRYPT_CHARS];                    /* of that cost; nobody's password */
    struct user_penalties penalties;
};

/* Makes a table of the text of an AuthPart; empty text: no authentication. key: for marks, the same for the life of the
 * server. An error is said in why, without a credential: ERR_SYNTAX, ERR_LONG, ERR_NOMEM. */
enum err users_read(struct users **users, struct view text, const uint8_t key[static USERS_KEY_BYTES],
                    struct text *why);

/* Wipes and gives back; NULL is allowed. */
void users_free(struct users *users);

/* NULL: nobody of that kind and name. */
const struct user *users_find(const struct users *users, enum user_kind kind, struct view name);

/* The user whose name is that distinguished name, in any order of its parts; NULL: none. */
const struct user *users_find_dn(const struct users *users, struct view dn);

/* The mark of a text under the table's key, to be compared with one of its secrets. */
void users_mark(const struct users *users, struct view text, uint8_t mark[static USERS_MARK_BYTES]);

#endif
