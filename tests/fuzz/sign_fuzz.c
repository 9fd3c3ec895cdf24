/* SPDX-License-Identifier: Apache-2.0 */
/* The signer on arbitrary packets. What must hold: what is signed is a packet of the right size, of a key of the asking
 * kind of edge, and has the form of a server's handshake, by a second reading of the rules. Then the same bytes as a
 * list of keys. */
#include "authd/signer.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { GENERATION = 1, KEYS = 3 };

static struct signer signer;

static void make_keys(void) {
    signer.now.used = true;
    signer.now.generation = GENERATION;
    EVP_PKEY *made[KEYS] = {EVP_EC_gen("P-256"), EVP_PKEY_Q_keygen(NULL, NULL, "ED25519"), EVP_RSA_gen(2048)};
    for (uint32_t i = 0; i < KEYS; i++) {
        check(made[i] != NULL);
        signer.now.key[signer.now.count++] = (struct signer_key){i + 1, made[i]};
    }
}

static bool is_handshake(const struct sign_request *r) {
    if (r->form == SIGN_TLS13)
        return r->content_len == 32 || r->content_len == 48;
    if (r->form != SIGN_TLS12 || r->content_len < 64 + 4 + 32 || r->content[64] != 3 || r->content[65] != 0)
        return false;
    const size_t points[] = {['\x17'] = 65, ['\x18'] = 97, ['\x19'] = 133, ['\x1d'] = 32};
    uint8_t curve = r->content[66];
    return curve < sizeof points / sizeof *points && points[curve] != 0 && r->content[67] == points[curve] &&
           r->content_len == 64 + 4 + points[curve];
}

static bool fits(const struct sign_request *r) {
    switch (r->key) {
    case 1:
        return r->scheme == SIGN_ECDSA_SHA256 ||
               (r->form == SIGN_TLS12 && (r->scheme == SIGN_ECDSA_SHA384 || r->scheme == SIGN_ECDSA_SHA512));
    case 2:
        return r->scheme == SIGN_ED25519;
    case 3:
        return (r->scheme >= SIGN_RSA_PSS_SHA256 && r->scheme <= SIGN_RSA_PSS_SHA512) ||
               (r->form == SIGN_TLS12 && (r->scheme & 0xff) == 1 && r->scheme >> 8 >= 4 && r->scheme >> 8 <= 6);
    default:
        return false;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!signer.now.used)
        make_keys();
    struct sign_request r;
    struct sign_answer a;
    if (size > 0 && size - 1 >= sizeof r) {
        memcpy(&r, data + 1, sizeof r);
        if (signer_is_whole(&r)) {
            uint32_t kind = data[0];
            const char *why = signer_sign(&signer, kind, &r, &a);
            bool allowed = kind == LINK_FRONTEND && r.generation == GENERATION && is_handshake(&r) && fits(&r);
            check(a.id == r.id && (why ? a.len == 0 && a.status == SIGN_REFUSED : a.len > 0 && a.status == SIGN_DONE));
            check(why || allowed);
        }
    }
    struct signer_keys keys;
    const char *why;
    if (signer_keys_read(&keys, 2, data, size, &why) == ERR_OK)
        signer_keys_free(&keys);
    else
        check(!keys.used && keys.count == 0);
    return 0;
}
