/* SPDX-License-Identifier: Apache-2.0 */
/* shm/binding.h: sealed bindings, the only way in which the router learns who a connection is.
 *
 * authd fills and seals one for each login; an edge carries it as opaque bytes; the router opens it. The seal is a keyed
 * BLAKE2b over everything before it, so there is no nonce to misuse. Link, incarnation and kind come from the supervisor's
 * table for the socket on which the login came, never from the login.
 */
#ifndef SHM_BINDING_H
#define SHM_BINDING_H

#include <stdint.h>

#include "base/err.h"

enum { BINDING_VERSION = 1, BINDING_KEY_BYTES = 32, BINDING_SEAL_BYTES = 32 };

enum link_kind { LINK_FRONTEND = 1, LINK_GATEWAYD, LINK_LEAFD, LINK_SYSACCT };

struct binding {
    uint8_t version;
    uint8_t kind; /* enum link_kind */
    uint16_t key_number;
    uint32_t link;
    uint64_t incarnation; /* of the edge process */
    uint32_t conn;        /* connection number on the link */
    uint32_t generation;  /* of that number */
    uint64_t serial;      /* of this binding; never used twice */
    uint64_t issued_s;    /* seconds since 1970 */
    uint64_t expires_s;   /* seconds since 1970; 0: never */
    uint32_t account;     /* number in the account book */
    uint32_t principal;   /* the user's number within the account */
    uint32_t permissions; /* number of a set in the account book, 0: all is allowed */
    uint32_t payload_max; /* shm/limit.h */
    uint32_t subs_max;    /* shm/limit.h */
    uint32_t pad;
    uint8_t seal[BINDING_SEAL_BYTES];
};
_Static_assert(sizeof(struct binding) == 104, "the layout of a sealed binding is fixed");

struct binding_key {
    uint16_t number;
    uint8_t key[BINDING_KEY_BYTES];
};

/* Fills version, key number and seal. */
void binding_seal(struct binding *b, const struct binding_key *key);

/* Copies a binding out of len foreign bytes. ERR_FORGED: wrong length, version, key number, padding or seal. */
enum err binding_open(struct binding *b, const struct binding_key *key, const void *bytes, uint32_t len);

#endif
