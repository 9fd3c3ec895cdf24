/* SPDX-License-Identifier: Apache-2.0 */
/* How TLS is spoken: an SSL_CTX made from what the supervisor says, with every choice that is not an option made here.
 *
 * TLS 1.2 and 1.3; key exchange by elliptic curves only, so there is never anything to decrypt with the private key; no
 * renegotiation, no compression, no early data, no resumption.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "frontend/tls.h"
#include "ipc/control.pb-c.h"

#define DEFAULT_CIPHERS                                                                                                \
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:"                         \
    "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384"
#define TLS13_CIPHERS  "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define DEFAULT_GROUPS "X25519:P-256:P-384:P-521"

enum { LIST_MAX = 2048 };

struct why {
    char *text;
    size_t cap;
};

__attribute__((format(printf, 2, 3))) static enum err bad(const struct why *why, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(why->text, why->cap, format, args);
    va_end(args);
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());
    if (reason && n > 0 && (size_t)n < why->cap)
        snprintf(why->text + n, why->cap - (size_t)n, ": %s", reason);
    ERR_clear_error();
    return ERR_SYNTAX;
}

/* ---- suites and curves ---- */

static bool take_list(char *out, const ProtobufCBinaryData *list, const char *fallback) {
    size_t len = list->len ? list->len : strlen(fallback);
    if (len >= LIST_MAX || memchr(list->len ? (const char *)list->data : fallback, '\0', len))
        return false;
    memcpy(out, list->len ? (const char *)list->data : fallback, len);
    out[len] = '\0';
    return true;
}

static uint32_t count_names(const char *list) {
    uint32_t n = 1;
    for (; *list; list++)
        n += *list == ':';
    return n;
}

/* Each name has to be a suite of TLS 1.2 with ECDHE and a certificate. */
static enum err set_ciphers(SSL_CTX *ssl, const ProtobufCBinaryData *list, const struct why *why) {
    char names[LIST_MAX];
    if (!take_list(names, list, DEFAULT_CIPHERS) || !SSL_CTX_set_cipher_list(ssl, names))
        return bad(why, "the list of cipher suites cannot be used");
    STACK_OF(SSL_CIPHER) *ciphers = SSL_CTX_get_ciphers(ssl);
    uint32_t tls12 = 0;
    for (int i = 0; i < sk_SSL_CIPHER_num(ciphers); i++) {
        const SSL_CIPHER *cipher = sk_SSL_CIPHER_value(ciphers, i);
        int exchange = SSL_CIPHER_get_kx_nid(cipher), proof = SSL_CIPHER_get_auth_nid(cipher);
        if (exchange == NID_kx_any)
            continue; /* of TLS 1.3 */
        if (exchange != NID_kx_ecdhe || (proof != NID_auth_rsa && proof != NID_auth_ecdsa))
            return bad(why, "cipher suite %s has no ECDHE key exchange with a certificate",
                       SSL_CIPHER_get_name(cipher));
        if (SSL_CIPHER_get_bits(cipher, NULL) == 0)
            return bad(why, "cipher suite %s hides nothing", SSL_CIPHER_get_name(cipher));
        tls12++;
    }
    return tls12 == count_names(names) ? ERR_OK : bad(why, "a cipher suite is unknown or named twice");
}

static enum err set_groups(SSL_CTX *ssl, const ProtobufCBinaryData *list, const struct why *why) {
    char names[LIST_MAX];
    if (!take_list(names, list, DEFAULT_GROUPS) || !SSL_CTX_set1_groups_list(ssl, names))
        return bad(why, "the list of curves cannot be used");
    return ERR_OK;
}

/* ---- certificates ---- */

/* The next certificate, or null at the end of the text; broken: what follows is none. */
static X509 *next_certificate(BIO *pem, bool *broken) {
    X509 *x = PEM_read_bio_X509(pem, NULL, NULL, NULL);
    unsigned long e = ERR_peek_last_error();
    *broken = !x && !(ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE);
    if (!*broken)
        ERR_clear_error();
    return x;
}

static enum err set_chain(struct tls_context *x, BIO *pem, uint32_t key_number, const struct why *why) {
    bool broken;
    X509 *leaf = next_certificate(pem, &broken);
    if (!leaf)
        return bad(why, "there is no certificate");
    EVP_PKEY *key = tls_key_make(X509_get0_pubkey(leaf), x->generation, key_number);
    bool fits = key && SSL_CTX_use_certificate(x->ssl, leaf) == 1 && SSL_CTX_use_PrivateKey(x->ssl, key) == 1;
    EVP_PKEY_free(key);
    X509_free(leaf);
    if (!fits)
        return bad(why, "the certificate cannot be used");
    for (X509 *more; (more = next_certificate(pem, &broken));) {
        if (!SSL_CTX_add0_chain_cert(x->ssl, more)) {
            X509_free(more);
            return bad(why, "the certificate chain cannot be used");
        }
    }
    return broken ? bad(why, "the certificate chain cannot be read") : ERR_OK;
}

static enum err set_ca(struct tls_context *x, BIO *pem, const struct why *why) {
    bool broken;
    X509_STORE *store = SSL_CTX_get_cert_store(x->ssl);
    uint32_t count = 0;
    for (X509 *ca; (ca = next_certificate(pem, &broken)); count++) {
        bool added = X509_STORE_add_cert(store, ca) && SSL_CTX_add_client_CA(x->ssl, ca);
        X509_free(ca);
        if (!added)
            return bad(why, "a CA certificate cannot be used");
    }
    return broken || count == 0 ? bad(why, "failed to parse root ca certificate") : ERR_OK;
}

static enum err set_certificates(struct tls_context *x, const struct Bulkhead__Tls *m, const char *pem,
                                 const struct why *why) {
    BIO *chain = BIO_new_mem_buf(pem, (int)m->chain_bytes);
    BIO *ca = m->ca_bytes ? BIO_new_mem_buf(pem + m->chain_bytes, (int)m->ca_bytes) : NULL;
    enum err e = chain && (ca || !m->ca_bytes) ? ERR_OK : ERR_NOMEM;
    if (e == ERR_OK)
        e = set_chain(x, chain, m->key, why);
    if (e == ERR_OK && ca)
        e = set_ca(x, ca, why);
    BIO_free(chain);
    BIO_free(ca);
    return e;
}

/* ---- the rest ---- */

static enum err set_pins(struct tls_context *x, const struct Bulkhead__Tls *m, const struct why *why) {
    for (size_t i = 0; i < m->n_pins; i++) {
        if (m->pins[i].len != TLS_PIN_BYTES)
            return bad(why, "a pinned certificate is not 32 bytes");
        memcpy(x->pin[i], m->pins[i].data, TLS_PIN_BYTES);
    }
    x->pin_count = (uint32_t)m->n_pins;
    return ERR_OK;
}

/* Records lie in memory that changes its place between two tries, and only while there is something to write. */
static bool set_manners(struct tls_context *x) {
    SSL_CTX *ssl = x->ssl;
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CLEANSE_PLAINTEXT |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF | SSL_OP_NO_TICKET);
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN | SSL_MODE_ASYNC);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_max_cert_list(ssl, TLS_CERTIFICATES_BYTES);
    if (x->verify) {
        SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        SSL_CTX_set_cert_verify_callback(ssl, tls_verify, NULL);
    }
    return SSL_CTX_set_ciphersuites(ssl, TLS13_CIPHERS) && SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) &&
           SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) && SSL_CTX_set_num_tickets(ssl, 0);
}

static enum err fill(struct tls_context *x, const struct Bulkhead__Tls *m, const char *pem, const struct why *why) {
    if (m->timeout_ms == 0)
        return bad(why, "a handshake has no time");
    if (x->verify && m->ca_bytes == 0)
        return bad(why, "clients are to be verified, but there is no CA certificate");
    if (!x->ssl || !set_manners(x))
        return ERR_NOMEM;
    enum err e = set_ciphers(x->ssl, &m->ciphers, why);
    if (e == ERR_OK)
        e = set_groups(x->ssl, &m->groups, why);
    if (e == ERR_OK)
        e = set_certificates(x, m, pem, why);
    return e == ERR_OK ? set_pins(x, m, why) : e;
}

enum err tls_context_make(struct tls_context **out, const struct Bulkhead__Tls *m, const char *pem, char *text,
                          size_t cap) {
    struct why why = {text, cap};
    snprintf(text, cap, "no memory");
    ERR_clear_error();
    if (m->n_pins > TLS_PINS_MAX)
        return bad(&why, "there are more than %d pinned certificates", TLS_PINS_MAX);
    struct tls_context *x = calloc(1, sizeof *x + m->n_pins * TLS_PIN_BYTES);
    if (!x)
        return ERR_NOMEM;
    x->references = 1;
    x->generation = m->generation;
    x->verify = m->verify;
    x->map = m->map;
    x->allow_non_tls = m->allow_non_tls;
    x->first = m->first;
    x->timeout_ms = m->timeout_ms;
    x->rate_limit = m->rate_limit;
    x->first_after_ms = m->first_after_ms;
    x->ssl = SSL_CTX_new(TLS_server_method());
    enum err e = fill(x, m, pem, &why);
    if (e == ERR_OK)
        *out = x;
    else
        tls_context_drop(x);
    return e;
}

void tls_context_drop(struct tls_context *x) {
    if (!x || --x->references > 0)
        return;
    SSL_CTX_free(x->ssl);
    free(x);
}
