/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/tls.h: TLS inside the frontend.
 *
 *   tls.c          one connection: the first byte, the handshake, reading, writing, the end
 *   tls_record.c   from the socket to OpenSSL, whole records at a time
 *   tls_context.c  how TLS is spoken: certificates, suites, what is asked of clients
 *   tls_verify.c   which certificates of clients are accepted
 *   tls_key.c      a private key that is not here: OpenSSL gets an object that hands what is to be signed on
 *   tls_sign.c     the conversation with the signer
 *
 * A handshake runs as an OpenSSL job (a stack of its own): where it needs a signature it is paused, and goes on when
 * the signer has answered. No key, and no wait, is in this process.
 */
#ifndef FRONTEND_TLS_H
#define FRONTEND_TLS_H

#include "frontend/frontend.h"
#include "ipc/openssl.h"
#include "ipc/sign.h"

enum {
    TLS_RECORD = 16 * 1024,             /* plain bytes of one record */
    TLS_RECORD_WIRE = 18 * 1024,        /* the same encrypted, at most */
    TLS_HELLO_BYTES = 16 * 1024,        /* the longest ClientHello */
    TLS_CERTIFICATES_BYTES = 64 * 1024, /* the longest chain of a client's */
    TLS_JOBS = 256,                     /* handshakes that wait for a signature at a time */
    TLS_PINS_MAX = 256,
    TLS_PIN_BYTES = 32,
};

/* ---- tls_context.c ---- */

/* How TLS is spoken; held by the listener and by each connection that began with it. */
struct tls_context {
    uint32_t references;
    uint32_t generation;
    SSL_CTX *ssl;
    bool verify, map, allow_non_tls, first;
    uint32_t timeout_ms, rate_limit, first_after_ms;
    uint32_t pin_count;
    uint8_t pin[][TLS_PIN_BYTES];
};

/* pem: the certificate chain, then the CA certificates. ERR_SYNTAX: something in it cannot be used (why: a text of at
 * most cap bytes). */
enum err tls_context_make(struct tls_context **out, const struct Bulkhead__Tls *m, const char *pem, char *why,
                          size_t cap);
void tls_context_drop(struct tls_context *x); /* may be null */

/* ---- tls_verify.c ---- */

/* Verifies a client's chain, in the form that SSL_CTX_set_cert_verify_callback wants: 1, or 0 and the error in store. */
int tls_verify(X509_STORE_CTX *store, void *unused);
/* The bits of an RSA key that is accepted but too short to be good; 0: it is good. */
int tls_verify_weak_bits(X509 *x);

/* ---- tls_key.c ---- */

/* A key that has only the public part of `public`: its signatures come from tls_sign_ask. Null: OpenSSL refuses. */
EVP_PKEY *tls_key_make(EVP_PKEY *public, uint32_t generation, uint32_t number);
/* Once, before anything else of OpenSSL's. */
enum err tls_key_open(void);

/* ---- tls_sign.c ---- */

/* In the job of c's handshake (tls_now): asks, and returns when the signer has answered. False: refused, or given up.
 */
bool tls_sign_ask(struct sign_request *request, uint8_t *signature, size_t *len);
/* After the job has paused: the request goes out. */
void tls_sign_start(struct frontend *f, struct client *c);
/* The connection ends: its job goes on at once, without a signature. */
void tls_sign_give_up(struct client *c);
/* No job was free for c: it is resumed when there is one. */
void tls_sign_wait_for_job(struct frontend *f, struct client *c);

/* ---- tls.c ---- */

enum tls_phase {
    TLS_LOOK, /* the first byte tells whether this is TLS */
    TLS_HANDSHAKE,
    TLS_OPEN,
    TLS_BROKEN, /* nothing more can be said to the client */
};
enum tls_wait { TLS_WAITS_NOT, TLS_WAITS_SIGNER, TLS_WAITS_JOB };

struct tls {
    struct client *client;
    struct tls_context *context;
    SSL *ssl; /* null until the first record has come */
    int fd;
    uint8_t phase;    /* enum tls_phase */
    uint8_t waits;    /* enum tls_wait: for us, not for the client */
    bool owes_info;   /* INFO comes after the handshake */
    bool wants_write; /* goes on when the socket takes bytes */
    bool more;        /* raw holds a whole record */
    bool eof;
    bool too_long;        /* its hello */
    uint32_t hello_at;    /* bytes of the hello that OpenSSL has got */
    uint32_t hello_bytes; /* as its header says */
    uint32_t record_left; /* of the record that OpenSSL reads */
    uint32_t raw_len;     /* bytes that were read and that OpenSSL has not got */
    uint32_t certificate_len;
    uint64_t due_ms;          /* the handshake's end; 0: none */
    uint64_t left_ms;         /* while it waits for us: of the client's own time */
    uint32_t slot;            /* while it waits for the signer */
    struct list_link jobless; /* while it waits for a job */
    char *raw;
    uint8_t *certificate; /* the client's own, DER; where authd maps it */
};

extern struct client *tls_now; /* whose handshake runs */
/* c waited for us, and need not any more. */
void tls_resume(struct frontend *f, struct client *c);

/* ---- tls_record.c ---- */

/* A source of records for t's SSL; null: no memory. */
BIO *tls_record_source(struct tls *t);
/* Around each call of OpenSSL's that reads for t. tls_record_end is false if there was no memory to keep what is left.
 */
void tls_record_begin(struct tls *t);
bool tls_record_end(struct tls *t);
/* Reads what there is before OpenSSL is called at all. False: no whole record yet, and no end or error either. */
bool tls_record_is_there(struct tls *t);

#endif
