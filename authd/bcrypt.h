/* SPDX-License-Identifier: Apache-2.0 */
/* authd/bcrypt.h: bcrypt hashes as nats-server takes them: $2a$, $2b$, $2x$ and $2y$ all mean the same algorithm. */
#ifndef AUTHD_BCRYPT_H
#define AUTHD_BCRYPT_H

#include <stdint.h>

#include "base/view.h"

enum { BCRYPT_CHARS = 60, BCRYPT_COST_MIN = 4, BCRYPT_COST_MAX = 31 };

/* True if a configured password is meant as a hash: it never counts as plain text then, even if it is no good one. */
bool bcrypt_is_hash(struct view text);

/* The cost of a hash that a password can match; 0: nothing can. */
uint32_t bcrypt_cost(struct view text);

/* True if the password has that hash. Takes its time, by the cost; only the first 72 bytes count. A password with a NUL
 * has none. A hash without a cost costs nothing. */
bool bcrypt_matches(struct view hash, struct view password);

#endif
