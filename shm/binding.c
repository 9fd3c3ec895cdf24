/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/binding.h"

#include <sodium.h>
#include <stddef.h>
#include <string.h>

#include "base/check.h"

static void seal_compute(uint8_t out[BINDING_SEAL_BYTES], const struct binding *b, const struct binding_key *key) {
    check(crypto_generichash(out, BINDING_SEAL_BYTES, (const unsigned char *)b, offsetof(struct binding, seal),
                             key->key, BINDING_KEY_BYTES) == 0);
}

void binding_seal(struct binding *b, const struct binding_key *key) {
    b->version = BINDING_VERSION;
    b->key_number = key->number;
    b->pad = 0;
    seal_compute(b->seal, b, key);
}

enum err binding_open(struct binding *b, const struct binding_key *key, const void *bytes, uint32_t len) {
    if (len != sizeof *b)
        return ERR_FORGED;
    memcpy(b, bytes, sizeof *b);
    if (b->version != BINDING_VERSION || b->key_number != key->number)
        return ERR_FORGED;
    uint8_t seal[BINDING_SEAL_BYTES];
    seal_compute(seal, b, key);
    return sodium_memcmp(seal, b->seal, sizeof seal) == 0 && b->pad == 0 ? ERR_OK : ERR_FORGED;
}
