/* SPDX-License-Identifier: Apache-2.0 */
/* base/hash.h: a keyed hash for tables in memory.
 *
 * Multiply-fold over 8-byte words under a random key per start, so that an outsider cannot aim at one bucket. Not for seals
 * and not for anything that leaves the process.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct hash_key {
    uint64_t k[4];
};

/* Fills the key from the kernel's random source; ends the process if there is none. */
void hash_key_make(struct hash_key *key);

static inline uint64_t hash_fold(uint64_t a, uint64_t b) {
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t hash_load64(const unsigned char *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static inline uint64_t hash_load32(const unsigned char *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* Hash of len bytes. Reads nothing beyond at + len. */
static inline uint64_t hash_bytes(const struct hash_key *key, const void *at, size_t len) {
    const unsigned char *p = at;
    uint64_t h = key->k[0] ^ len;
    size_t left = len;
    while (left > 16) {
        h = hash_fold(hash_load64(p) ^ key->k[1] ^ h, hash_load64(p + 8) ^ key->k[2]);
        p += 16;
        left -= 16;
    }
    uint64_t a = 0, b = 0;
    if (left >= 8) {
        a = hash_load64(p);
        b = hash_load64(p + left - 8);
    } else if (left >= 4) {
        a = hash_load32(p);
        b = hash_load32(p + left - 4);
    } else if (left > 0) {
        a = (uint64_t)p[0] << 16 | (uint64_t)p[left / 2] << 8 | p[left - 1];
    }
    return hash_fold(hash_fold(a ^ key->k[1] ^ h, b ^ key->k[2]), key->k[3] ^ len);
}

/* Hash of two numbers. */
static inline uint64_t hash_pair(const struct hash_key *key, uint64_t a, uint64_t b) {
    return hash_fold(hash_fold(a ^ key->k[0], b ^ key->k[1]) ^ key->k[2], key->k[3]);
}

#endif
