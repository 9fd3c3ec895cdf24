/* SPDX-License-Identifier: Apache-2.0 */
/* A private key that is not here.
 *
 * OpenSSL signs with whatever the key's provider offers, so this is a provider of our own, inside the process: its keys
 * hold public parts and the signer's number for the private one, and its signatures hand the content of one handshake
 * on to the signer. It offers no other operation, exports nothing, and its algorithms come second to OpenSSL's own of
 * the same name, so that certificates of clients are never checked with it.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "frontend/tls.h"

#define PROVIDER         "bulkhead-signer"
#define FROM_PROVIDER    "provider=" PROVIDER
#define PARAM_NUMBER     "bulkhead-number"
#define PARAM_GENERATION "bulkhead-generation"

enum key_type { KEY_RSA, KEY_EC, KEY_ED25519 };
enum { PUBLIC_MAX = 1032 };

struct key {
    enum key_type type;
    uint32_t number, generation;
    int bits, security_bits, size; /* size: of a signature, at most */
    char group[32];
    size_t public_len;
    uint8_t public[PUBLIC_MAX]; /* modulus and exponent, or the point */
};

/* ---- keys ---- */

static void *key_new(enum key_type type) {
    struct key *key = calloc(1, sizeof *key);
    if (key)
        key->type = type;
    return key;
}

static void *rsa_new(void *provider) {
    (void)provider;
    return key_new(KEY_RSA);
}

static void *ec_new(void *provider) {
    (void)provider;
    return key_new(KEY_EC);
}

static void *ed25519_new(void *provider) {
    (void)provider;
    return key_new(KEY_ED25519);
}

static void key_free(void *key) {
    free(key);
}

static int key_has(const void *key, int selection) {
    (void)selection; /* the private part is as good as here */
    return key != NULL;
}

static int key_match(const void *a, const void *b, int selection) {
    (void)selection;
    const struct key *x = a, *y = b;
    return x->type == y->type && strcmp(x->group, y->group) == 0 && x->public_len == y->public_len &&
           memcmp(x->public, y->public, x->public_len) == 0;
}

static const OSSL_PARAM import_list[] = {
    OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
    OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0),
    OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
    OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0),
    OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
    OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
    OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
    OSSL_PARAM_uint32(PARAM_NUMBER, NULL),
    OSSL_PARAM_uint32(PARAM_GENERATION, NULL),
    OSSL_PARAM_END,
};

static const OSSL_PARAM *key_import_types(int selection) {
    (void)selection;
    return import_list;
}

/* Adds a number's or a point's bytes, whatever their form. */
static bool add_public(struct key *key, const OSSL_PARAM *p) {
    if (!p || p->data_size > PUBLIC_MAX - key->public_len)
        return false;
    memcpy(key->public + key->public_len, p->data, p->data_size);
    key->public_len += p->data_size;
    return true;
}

static int key_import(void *object, int selection, const OSSL_PARAM params[]) {
    (void)selection;
    struct key *key = object;
    const OSSL_PARAM *p;
    key->public_len = 0;
    bool ok = key->type == KEY_RSA ? add_public(key, OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_N)) &&
                                         add_public(key, OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_RSA_E))
                                   : add_public(key, OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_PUB_KEY));
    char *group = key->group;
    if (ok && key->type == KEY_EC)
        ok = (p = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_GROUP_NAME)) &&
             OSSL_PARAM_get_utf8_string(p, &group, sizeof key->group);
    /* These are missing where a certificate's own key is compared. */
    if (ok && (p = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_BITS)))
        ok = OSSL_PARAM_get_int(p, &key->bits);
    if (ok && (p = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_SECURITY_BITS)))
        ok = OSSL_PARAM_get_int(p, &key->security_bits);
    if (ok && (p = OSSL_PARAM_locate_const(params, OSSL_PKEY_PARAM_MAX_SIZE)))
        ok = OSSL_PARAM_get_int(p, &key->size);
    if (ok && (p = OSSL_PARAM_locate_const(params, PARAM_NUMBER)))
        ok = OSSL_PARAM_get_uint32(p, &key->number);
    if (ok && (p = OSSL_PARAM_locate_const(params, PARAM_GENERATION)))
        ok = OSSL_PARAM_get_uint32(p, &key->generation);
    return ok;
}

static const OSSL_PARAM get_list[] = {
    OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
    OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
    OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
    OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
    OSSL_PARAM_END,
};

static const OSSL_PARAM *key_gettable(void *provider) {
    (void)provider;
    return get_list;
}

static int key_get(void *object, OSSL_PARAM params[]) {
    const struct key *key = object;
    OSSL_PARAM *p;
    bool ok = true;
    if ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_BITS)))
        ok = ok && OSSL_PARAM_set_int(p, key->bits);
    if ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_SECURITY_BITS)))
        ok = ok && OSSL_PARAM_set_int(p, key->security_bits);
    if ((p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_MAX_SIZE)))
        ok = ok && OSSL_PARAM_set_int(p, key->size);
    if (key->type == KEY_EC && (p = OSSL_PARAM_locate(params, OSSL_PKEY_PARAM_GROUP_NAME)))
        ok = ok && OSSL_PARAM_set_utf8_string(p, key->group);
    return ok;
}

static const char *ec_operation(int operation) {
    return operation == OSSL_OP_SIGNATURE ? "ECDSA" : NULL;
}

#define FUNCTION(id, f)                                                                                                \
    { id, (void (*)(void))(f) }
#define KEY_FUNCTIONS(make)                                                                                            \
    FUNCTION(OSSL_FUNC_KEYMGMT_NEW, make), FUNCTION(OSSL_FUNC_KEYMGMT_FREE, key_free),                                 \
        FUNCTION(OSSL_FUNC_KEYMGMT_HAS, key_has), FUNCTION(OSSL_FUNC_KEYMGMT_MATCH, key_match),                        \
        FUNCTION(OSSL_FUNC_KEYMGMT_IMPORT, key_import), FUNCTION(OSSL_FUNC_KEYMGMT_IMPORT_TYPES, key_import_types),    \
        FUNCTION(OSSL_FUNC_KEYMGMT_GET_PARAMS, key_get), FUNCTION(OSSL_FUNC_KEYMGMT_GETTABLE_PARAMS, key_gettable)

static const OSSL_DISPATCH rsa_keys[] = {KEY_FUNCTIONS(rsa_new), {0, NULL}};
static const OSSL_DISPATCH ec_keys[] = {
    KEY_FUNCTIONS(ec_new), FUNCTION(OSSL_FUNC_KEYMGMT_QUERY_OPERATION_NAME, ec_operation), {0, NULL}};
static const OSSL_DISPATCH ed25519_keys[] = {KEY_FUNCTIONS(ed25519_new), {0, NULL}};

/* ---- signatures ---- */

struct signing {
    const struct key *key;
    int hash; /* 256, 384, 512; 0: none apart */
    bool pss;
};

static void *signing_new(void *provider, const char *query) {
    (void)provider, (void)query;
    return calloc(1, sizeof(struct signing));
}

static void signing_free(void *s) {
    free(s);
}

static int hash_named(const char *name) {
    static const struct {
        const char *name;
        int bits;
    } names[] = {{"SHA256", 256},   {"SHA2-256", 256}, {"SHA384", 384},
                 {"SHA2-384", 384}, {"SHA512", 512},   {"SHA2-512", 512}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcasecmp(name, names[i].name) == 0)
            return names[i].bits;
    }
    return 0;
}

/* A padding is a word or a number, as the caller likes; a salt is as long as the digest, or there is none. */
static int signing_set(void *object, const OSSL_PARAM params[]) {
    struct signing *s = object;
    const OSSL_PARAM *p = params ? OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PAD_MODE) : NULL;
    if (p && p->data_type == OSSL_PARAM_UTF8_STRING) {
        s->pss = strcmp(p->data, OSSL_PKEY_RSA_PAD_MODE_PSS) == 0;
        if (!s->pss && strcmp(p->data, OSSL_PKEY_RSA_PAD_MODE_PKCSV15) != 0)
            return 0;
    } else if (p) {
        int mode;
        if (!OSSL_PARAM_get_int(p, &mode) || (mode != RSA_PKCS1_PSS_PADDING && mode != RSA_PKCS1_PADDING))
            return 0;
        s->pss = mode == RSA_PKCS1_PSS_PADDING;
    }
    p = params ? OSSL_PARAM_locate_const(params, OSSL_SIGNATURE_PARAM_PSS_SALTLEN) : NULL;
    if (p && p->data_type == OSSL_PARAM_UTF8_STRING)
        return strcmp(p->data, OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST) == 0;
    int salt;
    return !p || (OSSL_PARAM_get_int(p, &salt) && salt == RSA_PSS_SALTLEN_DIGEST);
}

static const OSSL_PARAM set_list[] = {
    OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
    OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
    OSSL_PARAM_END,
};

static const OSSL_PARAM *signing_settable(void *s, void *provider) {
    (void)s, (void)provider;
    return set_list;
}

static int signing_init(void *object, const char *digest, void *key, const OSSL_PARAM params[]) {
    struct signing *s = object;
    if (key)
        s->key = key;
    if (!s->key)
        return 0;
    bool named = digest && *digest;
    s->hash = named ? hash_named(digest) : 0;
    return (s->key->type == KEY_ED25519 ? !named : s->hash != 0) && signing_set(s, params);
}

static uint16_t scheme_of(const struct signing *s) {
    static const uint16_t schemes[][3] = {
        {SIGN_RSA_PKCS1_SHA256, SIGN_RSA_PKCS1_SHA384, SIGN_RSA_PKCS1_SHA512},
        {SIGN_RSA_PSS_SHA256, SIGN_RSA_PSS_SHA384, SIGN_RSA_PSS_SHA512},
        {SIGN_ECDSA_SHA256, SIGN_ECDSA_SHA384, SIGN_ECDSA_SHA512},
    };
    if (s->key->type == KEY_ED25519)
        return SIGN_ED25519;
    return schemes[s->key->type == KEY_EC ? 2 : s->pss][s->hash == 256 ? 0 : s->hash == 384 ? 1 : 2];
}

/* TLS 1.3 begins with what no TLS 1.2 content has: there a named curve follows the 64 bytes. */
static bool fill_request(struct sign_request *r, const unsigned char *content, size_t len) {
    static const unsigned char context[] = SIGN_CONTEXT;
    bool tls13 = len > SIGN_BLANKS + SIGN_CONTEXT_LEN && memcmp(content + SIGN_BLANKS, context, SIGN_CONTEXT_LEN) == 0;
    r->form = tls13 ? SIGN_TLS13 : SIGN_TLS12;
    if (tls13) {
        content += SIGN_BLANKS + SIGN_CONTEXT_LEN;
        len -= SIGN_BLANKS + SIGN_CONTEXT_LEN;
    }
    if (len > SIGN_CONTENT_MAX)
        return false;
    memcpy(r->content, content, len);
    r->content_len = (uint16_t)len;
    return true;
}

static int signing_sign(void *object, unsigned char *out, size_t *len, size_t cap, const unsigned char *content,
                        size_t content_len) {
    const struct signing *s = object;
    if (!s->key)
        return 0;
    if (!out) {
        *len = (size_t)s->key->size;
        return 1;
    }
    struct sign_request request = {.generation = s->key->generation, .key = s->key->number, .scheme = scheme_of(s)};
    *len = cap;
    return fill_request(&request, content, content_len) && tls_sign_ask(&request, out, len);
}

static const OSSL_DISPATCH signatures[] = {
    FUNCTION(OSSL_FUNC_SIGNATURE_NEWCTX, signing_new),
    FUNCTION(OSSL_FUNC_SIGNATURE_FREECTX, signing_free),
    FUNCTION(OSSL_FUNC_SIGNATURE_DIGEST_SIGN_INIT, signing_init),
    FUNCTION(OSSL_FUNC_SIGNATURE_DIGEST_SIGN, signing_sign),
    FUNCTION(OSSL_FUNC_SIGNATURE_SET_CTX_PARAMS, signing_set),
    FUNCTION(OSSL_FUNC_SIGNATURE_SETTABLE_CTX_PARAMS, signing_settable),
    {0, NULL},
};

/* ---- the provider ---- */

static const OSSL_ALGORITHM key_algorithms[] = {
    {"RSA:rsaEncryption", FROM_PROVIDER, rsa_keys, NULL},
    {"EC:id-ecPublicKey", FROM_PROVIDER, ec_keys, NULL},
    {"ED25519", FROM_PROVIDER, ed25519_keys, NULL},
    {NULL, NULL, NULL, NULL},
};
static const OSSL_ALGORITHM signature_algorithms[] = {
    {"RSA:rsaEncryption", FROM_PROVIDER, signatures, NULL},
    {"ECDSA", FROM_PROVIDER, signatures, NULL},
    {"ED25519", FROM_PROVIDER, signatures, NULL},
    {NULL, NULL, NULL, NULL},
};

static const OSSL_ALGORITHM *query(void *provider, int operation, int *no_cache) {
    (void)provider;
    *no_cache = 0;
    return operation == OSSL_OP_KEYMGMT ? key_algorithms : operation == OSSL_OP_SIGNATURE ? signature_algorithms : NULL;
}

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out,
                         void **provider) {
    static const OSSL_DISPATCH functions[] = {FUNCTION(OSSL_FUNC_PROVIDER_QUERY_OPERATION, query), {0, NULL}};
    (void)handle, (void)in;
    *provider = (void *)(uintptr_t)functions; /* there is no state; null would mean failure to some callers */
    *out = functions;
    return 1;
}

enum err tls_key_open(void) {
    bool ok = OSSL_PROVIDER_load(NULL, "default") && OSSL_PROVIDER_add_builtin(NULL, PROVIDER, provider_init) &&
              OSSL_PROVIDER_load(NULL, PROVIDER) && EVP_set_default_properties(NULL, "?provider=default");
    return ok ? ERR_OK : ERR_SYSTEM;
}

EVP_PKEY *tls_key_make(EVP_PKEY *public, uint32_t generation, uint32_t number) {
    const char *type = EVP_PKEY_is_a(public, "RSA")       ? "RSA"
                       : EVP_PKEY_is_a(public, "EC")      ? "EC"
                       : EVP_PKEY_is_a(public, "ED25519") ? "ED25519"
                                                          : NULL;
    int bits = EVP_PKEY_get_bits(public), security = EVP_PKEY_get_security_bits(public),
        size = EVP_PKEY_get_size(public);
    if (!type || size <= 0 || size > SIGN_SIGNATURE_MAX)
        return NULL;
    OSSL_PARAM more[] = {
        OSSL_PARAM_construct_int(OSSL_PKEY_PARAM_BITS, &bits),
        OSSL_PARAM_construct_int(OSSL_PKEY_PARAM_SECURITY_BITS, &security),
        OSSL_PARAM_construct_int(OSSL_PKEY_PARAM_MAX_SIZE, &size),
        OSSL_PARAM_construct_uint32(PARAM_NUMBER, &number),
        OSSL_PARAM_construct_uint32(PARAM_GENERATION, &generation),
        OSSL_PARAM_construct_end(),
    };
    OSSL_PARAM *parts = NULL, *all = NULL;
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, type, FROM_PROVIDER);
    bool ok = ctx && EVP_PKEY_todata(public, EVP_PKEY_PUBLIC_KEY, &parts) > 0 &&
              (all = OSSL_PARAM_merge(parts, more)) && EVP_PKEY_fromdata_init(ctx) > 0 &&
              EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, all) > 0;
    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(parts);
    OPENSSL_free(all);
    return ok ? key : NULL;
}
