/* SPDX-License-Identifier: Apache-2.0 */
/* authd/verdict.h: may these credentials in, and as whom? The order in which methods are tried stands here alone.
 *
 * Decides over a table of users and nothing else: no state, no clock. A password that has to be compared with a bcrypt
 * hash is left to the caller, because that takes long. Whether a user exists cannot be seen from the time an answer
 * takes: an unknown name and a wrong plain password cost a hash where any user has one.
 */
#ifndef AUTHD_VERDICT_H
#define AUTHD_VERDICT_H

#include "authd/users.h"

/* As CONNECT had them; empty: not sent. */
struct credentials {
    struct view user, pass, token, nkey, sig;
    struct view nonce;       /* of the connection's INFO */
    struct view certificate; /* DER */
    uint8_t type;            /* enum ConnectionType */
    bool nonce_good;         /* it was given out on this link, and never used */
    bool nonce_spent;        /* it was given out on this link, and used */
};

enum verdict_kind {
    VERDICT_REFUSED,
    VERDICT_GRANTED, /* as user */
    VERDICT_HASH,    /* compare password with hash first: if it matches and there is a user, as user; else refused */
};

struct verdict {
    enum verdict_kind kind;
    const struct user *user;
    char hash[BCRYPT_CHARS];
    struct view password; /* of the credentials */
    bool nonce_spent;     /* refused for that alone: no guess, maybe the same login again */
    const char *why;      /* of a refusal, for a debug line; holds no credential. NULL: nothing to say */
};

void verdict_make(struct verdict *verdict, const struct users *users, const struct credentials *c);

#endif
