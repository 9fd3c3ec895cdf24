/* SPDX-License-Identifier: Apache-2.0 */
/* authd/signer.h: the private keys of TLS, and what they sign.
 *
 * Two generations of keys are held: the one in force and the one before it, for handshakes that began before a reload.
 * A third one may be staged. Which key an edge may use follows from its kind (sign_key_kind), never from the request
 * alone.
 */
#ifndef AUTHD_SIGNER_H
#define AUTHD_SIGNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "ipc/openssl.h"
#include "ipc/sign.h"

struct signer_key {
    uint32_t number;
    EVP_PKEY *key;
};

struct signer_keys {
    bool used;
    uint32_t generation;
    uint32_t count;
    struct signer_key key[SIGN_KEYS_MAX];
};

struct signer {
    struct signer_keys now, before, staged;
};

/* Reads keys in the layout of ipc/sign.h; nothing of `at` is needed afterwards. ERR_SYNTAX: the layout is broken, or a
 * PEM holds no key that TLS can use (why: a static text). On an error *keys is empty. */
enum err signer_keys_read(struct signer_keys *keys, uint32_t generation, const uint8_t *at, size_t len,
                          const char **why);
void signer_keys_free(struct signer_keys *keys);

/* Keys that hold at once (the first ones), or that are staged until signer_commit of their generation. Takes them over.
 */
void signer_take(struct signer *s, struct signer_keys *keys, bool at_once);
/* The staged keys of that generation hold from now on; nothing else happens if there are none. */
void signer_commit(struct signer *s, uint32_t generation);

/* Signs for an edge of that kind (enum link_kind) and fills the answer. Null, or a static text that says why it was
 * refused (then the answer says so too). */
const char *signer_sign(const struct signer *s, uint32_t kind, const struct sign_request *r,
                        struct sign_answer *answer);

/* False: a packet that no edge of ours can send. */
bool signer_is_whole(const struct sign_request *r);

#endif
