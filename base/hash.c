/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

#include <sys/random.h>

#include "base/check.h"

void hash_key_make(struct hash_key *key) {
    check(getrandom(key, sizeof *key, 0) == sizeof *key);
    for (int i = 0; i < 4; i++)
        key->k[i] |= 1; /* a zero factor would fold everything to zero */
}
