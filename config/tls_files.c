/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates and private keys, looked at with OpenSSL: verdicts and words are those of Go's crypto/tls and
 * crypto/x509, because nats-server prints them. What a file holds beside what is asked for is passed over, as Go does
 * it, and never handed on: a certificate file may hold the private key too. */
#include "config/tls.h"

#define ERR_STATE OPENSSL_ERR_STATE /* a type there, an error here */
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#undef ERR_STATE
#include <stdlib.h>
#include <string.h>

#include "config/checker.h"

/* System-wide CA certificates, which a listener that verifies without a ca_file goes by, as with Go. */
static const char *const system_cas[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt",
                                         "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem", NULL};

void tls_files_prepare(void) {
    OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT | OPENSSL_INIT_LOAD_CRYPTO_STRINGS |
                            OPENSSL_INIT_ADD_ALL_CIPHERS | OPENSSL_INIT_ADD_ALL_DIGESTS,
                        NULL);
}

/* ---- PEM ---- */

struct pem {
    char *name, *header;
    unsigned char *data;
    long len;
};

static void pem_clear(struct pem *p) {
    OPENSSL_free(p->name);
    OPENSSL_free(p->header);
    OPENSSL_clear_free(p->data, p->data ? (size_t)p->len : 0);
    *p = (struct pem){0};
}

/* The next block that is whole; broken ones are passed over. False at the end. */
static bool pem_next(BIO *bio, struct pem *p) {
    while (true) {
        if (PEM_read_bio(bio, &p->name, &p->header, &p->data, &p->len))
            return true;
        bool end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
        ERR_clear_error();
        if (end || BIO_eof(bio))
            return false;
    }
}

static bool is_certificate(const struct pem *p) {
    return strcmp(p->name, "CERTIFICATE") == 0;
}

static bool is_key(const struct pem *p) {
    static const char tail[] = " PRIVATE KEY";
    size_t len = strlen(p->name), tail_len = sizeof tail - 1;
    return strcmp(p->name, tail + 1) == 0 || (len > tail_len && strcmp(p->name + len - tail_len, tail) == 0);
}

static BIO *open_pem(struct view pem) {
    BIO *bio = BIO_new_mem_buf(pem.at, (int)pem.len); /* a file has at most PARSER_FILE_MAX bytes */
    if (!bio)
        abort();
    return bio;
}

/* The curves that Go has, too: other keys are none to it. */
static bool is_known_curve(const EVP_PKEY *key) {
    static const char *const curves[] = {"secp224r1", "prime256v1", "secp384r1", "secp521r1"};
    char name[64];
    if (EVP_PKEY_get_base_id(key) != EVP_PKEY_EC)
        return true;
    if (EVP_PKEY_get_group_name(key, name, sizeof name, NULL) != 1)
        return false;
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
        if (strcmp(name, curves[i]) == 0)
            return true;
    }
    return false;
}

/* NULL: it cannot be read; *words says it. */
static X509 *parse_certificate(const struct pem *p, const char **words) {
    const unsigned char *at = p->data;
    X509 *x = d2i_X509(NULL, &at, p->len);
    const EVP_PKEY *key = x ? X509_get0_pubkey(x) : NULL;
    bool curve = !key || is_known_curve(key);
    ERR_clear_error();
    if (x && curve && at == p->data + p->len) /* Go refuses trailing bytes */
        return x;
    *words = curve ? "x509: malformed certificate" : "x509: unsupported elliptic curve";
    X509_free(x);
    return NULL;
}

/* ---- a pair ---- */

/* The first certificate. NULL: why says it, and *found whether there was a block of one at all. */
static X509 *first_certificate(struct view cert, bool *found, struct text *why) {
    struct pem p = {0};
    bool any = false, key_alone = false;
    X509 *x = NULL;
    const char *words = "";
    struct text names = {.arena = why->arena};
    BIO *bio = open_pem(cert);
    *found = false;
    while (!*found && pem_next(bio, &p)) {
        *found = is_certificate(&p);
        if (*found) {
            x = parse_certificate(&p, &words);
        } else {
            text_add_format(&names, any ? " %s" : "%s", p.name);
            key_alone = !any && is_key(&p);
            any = true;
        }
        pem_clear(&p);
    }
    BIO_free(bio);
    if (x)
        return x;
    if (*found)
        text_add_format(why, "%s", words);
    else if (!any)
        text_add(why, VIEW("tls: failed to find any PEM data in certificate input"));
    else if (key_alone)
        text_add(why, VIEW("tls: failed to find certificate PEM data in certificate input, but did find a private key; "
                           "PEM inputs may have been switched"));
    else
        text_add_format(why,
                        "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks "
                        "of the following types: [%v]",
                        text_view(&names));
    return NULL;
}

/* The DER of the first private key, in *p. False: why says it. */
static bool first_key_block(struct view key, struct pem *p, struct text *why) {
    bool any = false, certificate_alone = false;
    struct text names = {.arena = why->arena};
    BIO *bio = open_pem(key);
    bool found = false;
    while (!found && pem_next(bio, p)) {
        found = is_key(p);
        if (found)
            break;
        text_add_format(&names, any ? " %s" : "%s", p->name);
        certificate_alone = !any && is_certificate(p);
        any = true;
        pem_clear(p);
    }
    BIO_free(bio);
    if (found)
        return true;
    if (!any)
        text_add(why, VIEW("tls: failed to find any PEM data in key input"));
    else if (certificate_alone)
        text_add(why, VIEW("tls: found a certificate rather than a key in the PEM for the private key"));
    else
        text_add_format(why,
                        "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping "
                        "PEM blocks of the following types: [%v]",
                        text_view(&names));
    return false;
}

static bool is_known_kind(const EVP_PKEY *key) {
    int kind = EVP_PKEY_get_base_id(key);
    return kind == EVP_PKEY_RSA || kind == EVP_PKEY_EC || kind == EVP_PKEY_ED25519;
}

static EVP_PKEY *first_key(struct view key, struct text *why) {
    struct pem p = {0};
    if (!first_key_block(key, &p, why))
        return NULL;
    const unsigned char *at = p.data;
    EVP_PKEY *pkey = d2i_AutoPrivateKey(NULL, &at, p.len);
    ERR_clear_error();
    pem_clear(&p);
    if (pkey && is_known_kind(pkey) && is_known_curve(pkey))
        return pkey;
    text_add(why, VIEW("tls: failed to parse private key"));
    EVP_PKEY_free(pkey);
    return NULL;
}

static enum err judge(const EVP_PKEY *public, const EVP_PKEY *private, struct text *why) {
    const char *words = !public || !is_known_kind(public) ? "tls: unknown public key algorithm"
                        : EVP_PKEY_get_base_id(public) != EVP_PKEY_get_base_id(private)
                            ? "tls: private key type does not match public key type"
                        : EVP_PKEY_eq(public, private) != 1 ? "tls: private key does not match public key"
                                                            : NULL;
    ERR_clear_error();
    if (words)
        text_add_format(why, "%s", words);
    return words ? ERR_SYNTAX : ERR_OK;
}

/* Go looks for both blocks before it looks into either. */
enum err tls_check_pair(struct view cert, struct view key, struct text *why) {
    struct text later = {.arena = why->arena}, key_later = {.arena = why->arena};
    struct pem p = {0};
    bool found;
    X509 *x = first_certificate(cert, &found, &later);
    if (!found) {
        text_add(why, text_view(&later));
        return ERR_SYNTAX;
    }
    bool has_key = first_key_block(key, &p, &key_later);
    pem_clear(&p);
    EVP_PKEY *private = has_key && x ? first_key(key, &key_later) : NULL;
    enum err e = ERR_SYNTAX;
    if (!has_key)
        text_add(why, text_view(&key_later));
    else if (!x)
        text_add(why, text_view(&later));
    else if (!private)
        text_add(why, text_view(&key_later));
    else
        e = judge(X509_get0_pubkey(x), private, why);
    EVP_PKEY_free(private);
    X509_free(x);
    return e;
}

/* ---- what this server's processes take ---- */

enum { SECURITY_BITS_MIN = 112, RSA_BITS_MAX = 8192 };

/* What frontends ask of each certificate of the chain: RSA of 2048 bits and the like, and no SHA-1. */
static const char *find_weakness(X509 *x) {
    int bits = 0;
    const EVP_PKEY *key = X509_get0_pubkey(x);
    if (!key || EVP_PKEY_get_security_bits(key) < SECURITY_BITS_MIN)
        return "a certificate's key is too short: RSA needs 2048 bits";
    bool own = X509_get_extension_flags(x) & EXFLAG_SS;
    if (!own && X509_get_signature_info(x, NULL, NULL, &bits, NULL) == 1 && bits < SECURITY_BITS_MIN)
        return "a certificate's signature is too weak: SHA-1 and MD5 are not taken";
    return NULL;
}

/* What the signer takes (authd/signer.c). */
static bool can_sign(const EVP_PKEY *key) {
    char name[64];
    if (EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA)
        return EVP_PKEY_get_security_bits(key) >= SECURITY_BITS_MIN && EVP_PKEY_get_bits(key) <= RSA_BITS_MAX;
    return EVP_PKEY_get_base_id(key) != EVP_PKEY_EC ||
           (EVP_PKEY_get_group_name(key, name, sizeof name, NULL) == 1 && strcmp(name, "secp224r1") != 0);
}

static enum err check_strength(struct view cert, struct text *why) {
    struct pem p = {0};
    const char *weakness = NULL, *words;
    BIO *bio = open_pem(cert);
    while (!weakness && pem_next(bio, &p)) {
        X509 *x = is_certificate(&p) ? parse_certificate(&p, &words) : NULL;
        weakness = x ? find_weakness(x) : NULL;
        X509_free(x);
        pem_clear(&p);
    }
    BIO_free(bio);
    ERR_clear_error();
    if (weakness)
        text_add_format(why, "tls: %s", weakness);
    return weakness ? ERR_SYNTAX : ERR_OK;
}

/* ---- what is handed on ---- */

/* Appends as PEM each certificate that can be read; returns how many there were. out may be NULL. */
static size_t copy_certificates(struct text *out, struct view pem) {
    struct pem p = {0};
    size_t count = 0;
    BIO *in = open_pem(pem), *made = BIO_new(BIO_s_mem());
    while (made && pem_next(in, &p)) {
        const char *words;
        X509 *x = is_certificate(&p) && !*p.header ? parse_certificate(&p, &words) : NULL;
        count += x && PEM_write_bio_X509(made, x) == 1;
        X509_free(x);
        pem_clear(&p);
    }
    char *bytes;
    long len = made ? BIO_get_mem_data(made, &bytes) : 0;
    if (out && len > 0)
        text_add(out, view_of(bytes, (size_t)len));
    BIO_free(made);
    BIO_free(in);
    return count;
}

enum err tls_check_ca(struct view ca, struct text *why) {
    if (copy_certificates(NULL, ca))
        return ERR_OK;
    text_add(why, VIEW("failed to parse root ca certificate"));
    return ERR_SYNTAX;
}

static void add_u32(struct text *out, uint32_t number) {
    for (int i = 0; i < 4; i++)
        text_add_byte(out, (char)(number >> 8 * i));
}

static enum err add_key(struct text *keys, struct view pem, struct text *why) {
    EVP_PKEY *key = first_key(pem, why);
    BIO *bio = BIO_new(BIO_s_secmem());
    enum err e = ERR_SYNTAX;
    if (key && !can_sign(key))
        text_add(why,
                 VIEW("tls: a private key must be RSA of 2048 to 8192 bits, of P-256, P-384 or P-521, or Ed25519"));
    else if (key && bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1) {
        char *bytes;
        long len = BIO_get_mem_data(bio, &bytes);
        add_u32(keys, 1);
        add_u32(keys, TLS_KEY_NUMBER);
        add_u32(keys, (uint32_t)len);
        text_add(keys, view_of(bytes, (size_t)len));
        e = ERR_OK;
    }
    BIO_free(bio);
    EVP_PKEY_free(key);
    return e;
}

static enum err add_file(struct text *out, const struct config *c, struct arena *arena, const char *path,
                         struct text *why) {
    struct view pem;
    enum err e = source_read(c->source, path, arena, &pem, why);
    if (e == ERR_OK)
        copy_certificates(out, pem);
    return e;
}

/* The first list of CA certificates that the system has. */
static enum err add_system_cas(struct text *out, const struct config *c, struct arena *arena, struct text *why) {
    for (const char *const *path = system_cas; *path; path++) {
        struct text unread = {.arena = arena};
        if (add_file(out, c, arena, *path, &unread) == ERR_OK)
            return ERR_OK;
    }
    text_add(why, VIEW("tls verifies clients, but there is neither a ca_file nor a list of the system's"));
    return ERR_SYSTEM;
}

static const char *path_of(const struct config *c, struct arena *arena, const char *name) {
    const struct value *v = value_find(config_find(c, "tls"), view_text(name));
    return text_given(v) ? arena_copy(arena, v->text).at : NULL;
}

/* The files are read a second time; should one be another by now, the start fails or takes the new one whole. */
static enum err write_in(struct tls_options *t, const struct config *c, struct arena *arena, struct text *certificates,
                         struct text *keys, struct text *why) {
    const char *cert = path_of(c, arena, "cert_file"), *key = path_of(c, arena, "key_file");
    const char *ca = path_of(c, arena, "ca_file");
    struct view cert_pem, key_pem;
    enum err e = source_read(c->source, cert, arena, &cert_pem, why);
    if (e == ERR_OK)
        e = source_read(c->source, key, arena, &key_pem, why);
    if (e == ERR_OK)
        e = tls_check_pair(cert_pem, key_pem, why);
    if (e == ERR_OK)
        e = check_strength(cert_pem, why);
    if (e != ERR_OK)
        return e;
    copy_certificates(certificates, cert_pem);
    t->chain_bytes = (uint32_t)certificates->len;
    if (ca)
        e = add_file(certificates, c, arena, ca, why);
    else if (t->verify)
        e = add_system_cas(certificates, c, arena, why);
    t->ca_bytes = (uint32_t)certificates->len - t->chain_bytes;
    return e == ERR_OK ? add_key(keys, key_pem, why) : e;
}

enum err tls_files_write(struct tls_options *t, const struct config *c, struct text *certificates, struct text *keys,
                         struct text *why) {
    struct arena scratch = {0};
    enum err e = write_in(t, c, &scratch, certificates, keys, why);
    arena_free(&scratch);
    return e;
}
