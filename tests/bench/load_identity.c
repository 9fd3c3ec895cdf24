/* SPDX-License-Identifier: Apache-2.0 */
/* Who a client says it is.
 *
 * The test keys are Ed25519 pairs from seeds that count from 1: a server's configuration gets the public ones by
 * `load nkeys`, clients use them in turn.
 */
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "nats/nkey.h"
#include "tests/bench/load.h"

#define HELLO                                                                                                          \
    "\"verbose\":false,\"pedantic\":false,\"tls_required\":%s,\"headers\":true,\"no_responders\":true,\"protocol\":1," \
    "\"lang\":\"c\",\"version\":\"1\""

struct nkey {
    char text[NKEY_TEXT_LEN + 1];
    uint8_t secret[crypto_sign_SECRETKEYBYTES];
};

static struct nkey *keys;

/* ---- nkeys ---- */

static void nkey_make(struct nkey *key, uint32_t number) {
    uint8_t seed[crypto_sign_SEEDBYTES] = {0}, open[crypto_sign_PUBLICKEYBYTES];
    memcpy(seed, &number, sizeof number);
    crypto_sign_seed_keypair(open, key->secret, seed);
    nkey_format(key->text, NKEY_USER, open);
}

static void nkeys_make(uint32_t count) {
    keys = take(count * sizeof *keys);
    for (uint32_t i = 0; i < count; i++)
        nkey_make(&keys[i], i + 1);
}

void mode_nkeys(const struct options *o) {
    nkeys_make(o->count);
    for (uint32_t i = 0; i < o->count; i++) {
        char name[16];
        snprintf(name, sizeof name, "%u", i);
        put_text(name, keys[i].text);
    }
}

static void sign_nonce(const struct nkey *key, const char *info, char *to, size_t cap) {
    static const char field[] = "\"nonce\":\"";
    const char *nonce = strstr(info, field), *end = nonce ? strchr(nonce + sizeof field - 1, '"') : NULL;
    uint8_t signature[crypto_sign_BYTES];
    if (!end)
        die("INFO has no nonce");
    nonce += sizeof field - 1;
    crypto_sign_detached(signature, NULL, (const uint8_t *)nonce, (size_t)(end - nonce), key->secret);
    sodium_bin2base64(to, cap, signature, sizeof signature, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

/* ---- CONNECT ---- */

size_t identity_connect(const struct options *o, const char *info, char to[static CONNECT_MAX]) {
    static atomic_uint clients;
    const char *tls = o->tls ? "true" : "false";
    char signature[128];
    int n;
    if (o->nkeys > 0) {
        const struct nkey *key = &keys[atomic_fetch_add(&clients, 1) % o->nkeys];
        sign_nonce(key, info, signature, sizeof signature);
        n = snprintf(to, CONNECT_MAX, "CONNECT {" HELLO ",\"nkey\":\"%s\",\"sig\":\"%s\"}\r\nPING\r\n", tls, key->text,
                     signature);
    } else if (o->user) {
        n = snprintf(to, CONNECT_MAX, "CONNECT {" HELLO ",\"user\":\"%s\",\"pass\":\"%s\"}\r\nPING\r\n", tls, o->user,
                     o->password);
    } else {
        n = snprintf(to, CONNECT_MAX, "CONNECT {" HELLO "}\r\nPING\r\n", tls);
    }
    if (n >= CONNECT_MAX)
        die("user and password are too long");
    return (size_t)n;
}

void identity_open(const struct options *o) {
    if (sodium_init() < 0)
        die("libsodium does not start");
    if (o->nkeys > 0)
        nkeys_make(o->nkeys);
}
