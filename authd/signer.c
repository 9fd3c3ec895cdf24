/* SPDX-License-Identifier: Apache-2.0 */
/* These checks alone keep a lost frontend from using a key for anything but handshakes of its own listener: the key's number, the form of the content, and a scheme that fits the key. The bytes that are signed
 * are built from these parts in one place, signed_bytes(). */
#include "authd/signer.h"

#include <string.h>

#include "base/view.h"

enum {
    RSA_BITS_MIN = 2048,
    RSA_BITS_MAX = 8 * SIGN_SIGNATURE_MAX,
    SIGNED_MAX = SIGN_BLANKS + SIGN_CONTEXT_LEN + SIGN_CONTENT_MAX
};

/* ---- keys ---- */

static uint32_t take_u32(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

/* The scheme's curve, as OpenSSL names it; null if the key is of no curve that TLS uses here. */
static const char *curve_of(const EVP_PKEY *key) {
    static const char *const names[] = {"prime256v1", "secp384r1", "secp521r1"};
    char name[32];
    if (!EVP_PKEY_get_utf8_string_param(key, "group", name, sizeof name, NULL))
        return NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0)
            return names[i];
    }
    return NULL;
}

static bool is_usable(const EVP_PKEY *key) {
    if (EVP_PKEY_is_a(key, "RSA"))
        return EVP_PKEY_get_bits(key) >= RSA_BITS_MIN && EVP_PKEY_get_bits(key) <= RSA_BITS_MAX;
    return EVP_PKEY_is_a(key, "ED25519") || (EVP_PKEY_is_a(key, "EC") && curve_of(key));
}

/* A key with a password is not asked for one. */
static int no_password(char *out, int cap, int writing, void *owner) {
    (void)out, (void)cap, (void)writing, (void)owner;
    return -1;
}

static EVP_PKEY *read_pem(const uint8_t *at, uint32_t len) {
    BIO *bio = BIO_new_mem_buf(at, (int)len);
    EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_password, NULL) : NULL;
    BIO_free(bio);
    ERR_clear_error();
    return key;
}

static const char *read_keys(struct signer_keys *keys, const uint8_t *at, size_t len) {
    if (len < 4)
        return "the list of keys is cut off";
    uint32_t count = take_u32(at);
    if (count > SIGN_KEYS_MAX)
        return "there are too many keys";
    size_t used = 4;
    for (uint32_t i = 0; i < count; i++) {
        if (len - used < 8)
            return "the list of keys is cut off";
        uint32_t number = take_u32(at + used), bytes = take_u32(at + used + 4);
        used += 8;
        if (bytes > len - used)
            return "a key is longer than its memory";
        EVP_PKEY *key = read_pem(at + used, bytes);
        if (!key)
            return "a private key cannot be read";
        keys->key[keys->count++] = (struct signer_key){number, key};
        if (!is_usable(key))
            return "a private key is neither RSA of 2048 bits or more, nor of P-256, P-384, P-521, nor Ed25519";
        used += bytes;
    }
    return NULL;
}

enum err signer_keys_read(struct signer_keys *keys, uint32_t generation, const uint8_t *at, size_t len,
                          const char **why) {
    *keys = (struct signer_keys){.used = true, .generation = generation};
    *why = read_keys(keys, at, len);
    if (!*why)
        return ERR_OK;
    signer_keys_free(keys);
    return ERR_SYNTAX;
}

void signer_keys_free(struct signer_keys *keys) {
    for (uint32_t i = 0; i < keys->count; i++)
        EVP_PKEY_free(keys->key[i].key);
    *keys = (struct signer_keys){0};
}

void signer_take(struct signer *s, struct signer_keys *keys, bool at_once) {
    struct signer_keys *to = at_once ? &s->now : &s->staged;
    signer_keys_free(to);
    *to = *keys;
    *keys = (struct signer_keys){0};
}

void signer_commit(struct signer *s, uint32_t generation) {
    if (!s->staged.used || s->staged.generation != generation)
        return;
    signer_keys_free(&s->before);
    s->before = s->now;
    s->now = s->staged;
    s->staged = (struct signer_keys){0};
}

static EVP_PKEY *find_in(const struct signer_keys *keys, uint32_t generation, uint32_t number) {
    if (!keys->used || keys->generation != generation)
        return NULL;
    for (uint32_t i = 0; i < keys->count; i++) {
        if (keys->key[i].number == number)
            return keys->key[i].key;
    }
    return NULL;
}

/* Edges may commit a moment before this process does, so staged keys count. */
static EVP_PKEY *find(const struct signer *s, uint32_t generation, uint32_t number) {
    EVP_PKEY *key = find_in(&s->now, generation, number);
    if (!key)
        key = find_in(&s->staged, generation, number);
    return key ? key : find_in(&s->before, generation, number);
}

/* ---- schemes ---- */

struct scheme {
    uint16_t scheme; /* enum sign_scheme */
    bool tls12_only;
    const char *type;   /* of the key */
    const char *curve;  /* with TLS 1.3; null: any */
    const char *digest; /* null: none apart */
    int padding;
};

static const struct scheme schemes[] = {
    {SIGN_ECDSA_SHA256, false, "EC", "prime256v1", "SHA256", 0},
    {SIGN_ECDSA_SHA384, false, "EC", "secp384r1", "SHA384", 0},
    {SIGN_ECDSA_SHA512, false, "EC", "secp521r1", "SHA512", 0},
    {SIGN_ED25519, false, "ED25519", NULL, NULL, 0},
    {SIGN_RSA_PSS_SHA256, false, "RSA", NULL, "SHA256", RSA_PKCS1_PSS_PADDING},
    {SIGN_RSA_PSS_SHA384, false, "RSA", NULL, "SHA384", RSA_PKCS1_PSS_PADDING},
    {SIGN_RSA_PSS_SHA512, false, "RSA", NULL, "SHA512", RSA_PKCS1_PSS_PADDING},
    {SIGN_RSA_PKCS1_SHA256, true, "RSA", NULL, "SHA256", RSA_PKCS1_PADDING},
    {SIGN_RSA_PKCS1_SHA384, true, "RSA", NULL, "SHA384", RSA_PKCS1_PADDING},
    {SIGN_RSA_PKCS1_SHA512, true, "RSA", NULL, "SHA512", RSA_PKCS1_PADDING},
};

static const struct scheme *scheme_for(const struct sign_request *r, const EVP_PKEY *key) {
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        const struct scheme *s = &schemes[i];
        if (s->scheme != r->scheme || !EVP_PKEY_is_a(key, s->type))
            continue;
        if (r->form == SIGN_TLS12)
            return s;
        const char *curve = s->curve ? curve_of(key) : NULL;
        return !s->tls12_only && (!s->curve || (curve && strcmp(curve, s->curve) == 0)) ? s : NULL;
    }
    return NULL;
}

/* ---- content ---- */

/* ServerECDHParams (RFC 8422, 5.4) of a named curve. */
static bool is_ecdh_block(const uint8_t *at, size_t len) {
    static const struct { uint16_t curve, point; } curves[] = {{23, 65}, {24, 97}, {25, 133}, {29, 32}};
    if (len < 4 || at[0] != 3 || at[3] != len - 4)
        return false;
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        if (curves[i].curve == (at[1] << 8 | at[2]))
            return at[3] == curves[i].point && (curves[i].curve == 29 || at[4] == 4);
    }
    return false;
}

/* Builds what is signed; 0: the content has not its form. */
static size_t signed_bytes(uint8_t *out, const struct sign_request *r) {
    if (r->form == SIGN_TLS13) {
        if (r->content_len != 32 && r->content_len != 48)
            return 0;
        memset(out, ' ', SIGN_BLANKS);
        memcpy(out + SIGN_BLANKS, SIGN_CONTEXT, SIGN_CONTEXT_LEN);
        memcpy(out + SIGN_BLANKS + SIGN_CONTEXT_LEN, r->content, r->content_len);
        return SIGN_BLANKS + SIGN_CONTEXT_LEN + (size_t)r->content_len;
    }
    if (r->form != SIGN_TLS12 || r->content_len <= SIGN_RANDOMS ||
        !is_ecdh_block(r->content + SIGN_RANDOMS, r->content_len - SIGN_RANDOMS))
        return 0;
    memcpy(out, r->content, r->content_len);
    return r->content_len;
}

/* ---- signing ---- */

static bool sign(EVP_PKEY *key, const struct scheme *scheme, const uint8_t *bytes, size_t len,
                 struct sign_answer *answer) {
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pkey_ctx = NULL;
    size_t made = sizeof answer->signature;
    bool ok = ctx && EVP_DigestSignInit_ex(ctx, &pkey_ctx, scheme->digest, NULL, NULL, key, NULL) > 0;
    if (ok && scheme->padding)
        ok = EVP_PKEY_CTX_set_rsa_padding(pkey_ctx, scheme->padding) > 0;
    if (ok && scheme->padding == RSA_PKCS1_PSS_PADDING)
        ok = EVP_PKEY_CTX_set_rsa_pss_saltlen(pkey_ctx, RSA_PSS_SALTLEN_DIGEST) > 0;
    ok = ok && EVP_DigestSign(ctx, answer->signature, &made, bytes, len) > 0;
    EVP_MD_CTX_free(ctx);
    ERR_clear_error();
    answer->len = ok ? (uint32_t)made : 0;
    return ok;
}

bool signer_is_whole(const struct sign_request *r) {
    if (r->content_len > SIGN_CONTENT_MAX || r->zero)
        return false;
    for (size_t i = r->content_len; i < SIGN_CONTENT_MAX; i++) {
        if (r->content[i])
            return false;
    }
    return true;
}

const char *signer_sign(const struct signer *s, uint32_t kind, const struct sign_request *r,
                        struct sign_answer *answer) {
    *answer = (struct sign_answer){.id = r->id, .status = SIGN_REFUSED};
    if (sign_key_kind(r->key) != kind)
        return "the key of another listener";
    EVP_PKEY *key = find(s, r->generation, r->key);
    if (!key)
        return "a key that is not there";
    uint8_t bytes[SIGNED_MAX];
    size_t len = signed_bytes(bytes, r);
    if (len == 0)
        return "content that is no server's handshake";
    const struct scheme *scheme = scheme_for(r, key);
    if (!scheme)
        return "a scheme that does not fit the key";
    if (!sign(key, scheme, bytes, len, answer))
        return "the key cannot sign";
    answer->status = SIGN_DONE;
    return NULL;
}
