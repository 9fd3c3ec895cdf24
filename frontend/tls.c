/* SPDX-License-Identifier: Apache-2.0 */
/* TLS of one connection: the first byte, the handshake, reading, writing, the end.
 *
 * A connection has no SSL object until its first record has come, so a silent connection costs little. A handshake
 * ends at its time, without a text; its waits for this server (for a job, for the signer) do not count,
 * up to as much time again. Reading stops at a record's end while a whole record still fits, so OpenSSL never keeps
 * plain bytes back: the rest stays in the socket, or in t->raw, and then the connection is on the list `ready`.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "frontend/tls.h"
#include "ipc/control.pb-c.h"
#include "nats/errors.h"
#include "nats/info.h"
#include "shm/memfd.h"

enum { HANDSHAKE_RECORD = 0x16, PEM_BYTES_MAX = 1 << 20, RATE_MS = 1000 };

struct client *tls_now;

/* ---- settings ---- */

enum err tls_prepare(void) {
    if (!OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_LOAD_SSL_STRINGS |
                              OPENSSL_INIT_LOAD_CRYPTO_STRINGS | OPENSSL_INIT_NO_ATEXIT,
                          NULL) ||
        RAND_status() != 1)
        return ERR_SYSTEM;
    tzset(); /* a certificate's dates want the time zone */
    SSL_CTX *first = tls_key_open() == ERR_OK ? SSL_CTX_new(TLS_server_method()) : NULL;
    SSL_CTX_free(first);
    return first ? ERR_OK : ERR_SYSTEM;
}

static enum err read_context(struct tls_context **out, const struct Bulkhead__Tls *m, int fd, char *why, size_t cap) {
    size_t bytes;
    void *pem;
    snprintf(why, cap, "the certificates' memory cannot be read");
    enum err e = memfd_size(fd, &bytes);
    if (e == ERR_OK && (bytes > PEM_BYTES_MAX || m->chain_bytes > bytes || m->ca_bytes > bytes - m->chain_bytes))
        e = ERR_LONG;
    if (e == ERR_OK)
        e = memfd_map(&pem, fd, bytes, 0);
    if (e != ERR_OK)
        return e;
    e = tls_context_make(out, m, pem, why, cap);
    munmap(pem, bytes);
    return e;
}

enum err tls_message(struct frontend *f, const struct Bulkhead__Tls *m, int fd, bool at_once) {
    struct tls_context *made = NULL;
    char why[256];
    enum err e = m->chain_bytes == 0 ? ERR_OK : read_context(&made, m, fd, why, sizeof why);
    close(fd);
    if (e != ERR_OK)
        log_error("The TLS settings of generation %u are refused: %s", m->generation, why);
    if (at_once) {
        tls_context_drop(f->tls);
        f->tls = made;
        return e;
    }
    tls_context_drop(f->tls_next);
    f->tls_next = made;
    f->tls_next_generation = m->generation;
    f->tls_next_state = e == ERR_OK ? TLS_NEXT_GOOD : TLS_NEXT_BAD;
    return ERR_OK;
}

bool tls_acceptable(const struct frontend *f, uint32_t generation) {
    return f->tls_next_state != TLS_NEXT_BAD || f->tls_next_generation != generation;
}

void tls_commit(struct frontend *f, uint32_t generation) {
    if (f->tls_next_state != TLS_NEXT_GOOD || f->tls_next_generation != generation)
        return;
    tls_context_drop(f->tls);
    f->tls = f->tls_next;
    f->tls_next = NULL;
    f->tls_next_state = TLS_NEXT_NONE;
}

void tls_describe(const struct frontend *f, struct info *info) {
    if (!f->tls)
        return;
    info->tls_available = f->tls->allow_non_tls;
    info->tls_required = !f->tls->allow_non_tls;
    info->tls_verify = f->tls->verify;
}

/* ---- a connection's events and time ---- */

static void set_events(struct frontend *f, struct client *c, uint32_t flags) {
    uint32_t mask = CLIENT_DISARMED | CLIENT_BLOCKED;
    if ((c->flags & mask) == flags)
        return;
    c->flags = (c->flags & ~mask) | flags;
    client_sync_events(f, c);
}

static void set_due(struct frontend *f, struct client *c, uint64_t due_ms) {
    c->tls->due_ms = due_ms;
    timer_update(f, c);
}

uint64_t tls_due_ms(const struct tls *t) {
    return t->due_ms;
}

/* Stops the client's own time while it waits for us. */
static void wait_for_us(struct frontend *f, struct client *c) {
    struct tls *t = c->tls;
    t->left_ms = t->due_ms > f->now_ms ? t->due_ms - f->now_ms : 0;
    set_due(f, c, f->now_ms + t->context->timeout_ms);
}

void tls_resume(struct frontend *f, struct client *c) {
    struct tls *t = c->tls;
    if (c->state >= CLIENT_ENDING)
        return; /* tls_end does the rest */
    t->waits = TLS_WAITS_NOT;
    set_due(f, c, f->now_ms + t->left_ms);
    set_events(f, c, 0);
    input_read(f, c);
}

/* ---- from accept to the handshake ---- */

static void forget(struct client *c) {
    struct tls *t = c->tls;
    SSL_free(t->ssl);
    tls_context_drop(t->context);
    OPENSSL_free(t->certificate);
    free(t->raw);
    free(t);
    c->tls = NULL;
}

static bool is_throttled(struct frontend *f, const struct tls_context *x) {
    if (x->rate_limit == 0)
        return false;
    if (f->now_ms >= f->tls_rate_until_ms) {
        f->tls_rate_until_ms = f->now_ms + RATE_MS;
        f->tls_rate_count = 0;
    }
    return f->tls_rate_count++ >= x->rate_limit;
}

/* Nothing of TLS has been said on this connection, and nothing will be. */
static void go_plain(struct frontend *f, struct client *c) {
    bool owes_info = c->tls->owes_info;
    forget(c);
    if (owes_info)
        accept_info(f, c);
    if (c->state < CLIENT_ENDING) {
        ping_restart(f, c, false);
        login_clock(f, c);
    }
}

static void throttle(struct frontend *f, struct client *c) {
    if (c->tls)
        go_plain(f, c);
    client_error(f, c, NATS_ERR_THROTTLED, "Maximum Connections Exceeded");
    c->write_due_ms = f->now_ms + LINGER_MS;
    timer_update(f, c);
}

void tls_accept(struct frontend *f, struct client *c) {
    bool looks = f->tls->allow_non_tls || (f->tls->first && f->tls->first_after_ms > 0);
    if (!f->tls->first)
        accept_info(f, c);
    struct tls *t = calloc(1, sizeof *t);
    if (!t) {
        client_no_memory(f, c);
        return;
    }
    t->client = c;
    t->context = f->tls;
    t->context->references++;
    t->fd = c->fd;
    t->phase = looks ? TLS_LOOK : TLS_HANDSHAKE;
    t->owes_info = f->tls->first;
    c->tls = t;
    if (!looks && is_throttled(f, t->context))
        throttle(f, c);
    else
        set_due(f, c,
                f->now_ms + (t->owes_info && looks && t->context->first_after_ms < t->context->timeout_ms
                                 ? t->context->first_after_ms
                                 : t->context->timeout_ms));
}

/* The first byte decides. */
static void decide(struct frontend *f, struct client *c, char first) {
    if (first != HANDSHAKE_RECORD && c->tls->context->allow_non_tls) {
        go_plain(f, c);
        return;
    }
    c->tls->phase = TLS_HANDSHAKE;
    if (is_throttled(f, c->tls->context))
        throttle(f, c);
}

/* ---- the handshake ---- */

static void fail(struct frontend *f, struct client *c, const char *text) {
    counter_add(f->counters, COUNTER_HANDSHAKES, 1);
    counter_add(f->counters, COUNTER_HANDSHAKES_FAILED, 1);
    client_log(c, LOG_ERROR, "TLS handshake error: %s", text);
    c->tls->phase = TLS_BROKEN;
    client_fail(f, c, "TLS Handshake Failure");
}

/* The words of nats-server where OpenSSL has others. */
static const char *reason_text(unsigned long e) {
    static const struct {
        int reason;
        const char *text;
    } words[] = {
        {SSL_R_WRONG_VERSION_NUMBER, "first record does not look like a TLS handshake"},
        {SSL_R_HTTP_REQUEST, "first record does not look like a TLS handshake"},
        {SSL_R_HTTPS_PROXY_REQUEST, "first record does not look like a TLS handshake"},
        {SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, "client didn't provide a certificate"},
        {SSL_R_UNSUPPORTED_PROTOCOL, "client offered only unsupported versions"},
    };
    for (size_t i = 0; ERR_GET_LIB(e) == ERR_LIB_SSL && i < sizeof words / sizeof *words; i++) {
        if (words[i].reason == ERR_GET_REASON(e))
            return words[i].text;
    }
    return ERR_reason_error_string(e);
}

static const char *verify_text(long result) {
    switch (result) {
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        return "certificate signed by unknown authority";
    case X509_V_ERR_CERT_HAS_EXPIRED:
    case X509_V_ERR_CERT_NOT_YET_VALID:
        return "certificate has expired or is not yet valid";
    case X509_V_ERR_INVALID_PURPOSE:
        return "certificate specifies an incompatible key usage";
    case X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION:
        return "unhandled critical extension";
    default:
        return X509_verify_cert_error_string(result);
    }
}

static void fail_with_reason(struct frontend *f, struct client *c, int why, int error) {
    const struct tls *t = c->tls;
    unsigned long e = ERR_peek_error();
    const char *reason = reason_text(e);
    char text[256];
    if (t->too_long)
        snprintf(text, sizeof text, "tls: the hello is longer than %d bytes", TLS_HELLO_BYTES);
    else if (ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        snprintf(text, sizeof text, "tls: failed to verify client certificate: x509: %s",
                 verify_text(SSL_get_verify_result(t->ssl)));
    else if (why == SSL_ERROR_SSL && reason)
        snprintf(text, sizeof text, "tls: %s", reason);
    else
        snprintf(text, sizeof text, "%s", t->eof ? "EOF" : error ? strerror(error) : "closed");
    fail(f, c, text);
}

static bool is_pinned(const struct tls *t) {
    if (t->context->pin_count == 0)
        return true;
    X509 *x = SSL_get0_peer_certificate(t->ssl);
    unsigned char *key = NULL, sum[TLS_PIN_BYTES];
    int len = x ? i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &key) : 0;
    bool summed = len > 0 && EVP_Digest(key, (size_t)len, sum, NULL, EVP_sha256(), NULL);
    OPENSSL_free(key);
    for (uint32_t i = 0; summed && i < t->context->pin_count; i++) {
        if (memcmp(t->context->pin[i], sum, TLS_PIN_BYTES) == 0)
            return true;
    }
    return false;
}

static bool keep_certificate(struct tls *t) {
    X509 *x = SSL_get0_peer_certificate(t->ssl);
    if (!t->context->map || !x)
        return true;
    int len = i2d_X509(x, &t->certificate);
    t->certificate_len = len > 0 ? (uint32_t)len : 0;
    return len > 0;
}

/* So its owner replaces it before it is refused. */
static void warn_of_weak_key(const struct client *c) {
    X509 *x = c->tls->context->verify ? SSL_get0_peer_certificate(c->tls->ssl) : NULL;
    int bits = x ? tls_verify_weak_bits(x) : 0;
    if (bits)
        client_log(c, LOG_WARN, "The client's certificate has an RSA key of %d bits, which is accepted but weak", bits);
}

/* False: the connection has ended. */
static bool finish(struct frontend *f, struct client *c) {
    struct tls *t = c->tls;
    if (!is_pinned(t)) {
        fail(f, c, "certificate not pinned");
        return false;
    }
    if (!keep_certificate(t)) {
        fail(f, c, "no memory for the certificate");
        return false;
    }
    counter_add(f->counters, COUNTER_HANDSHAKES, 1);
    warn_of_weak_key(c);
    client_log(c, LOG_DEBUG, "TLS handshake complete");
    client_log(c, LOG_DEBUG, "TLS version %s, cipher suite %s", SSL_version(t->ssl) == TLS1_3_VERSION ? "1.3" : "1.2",
               SSL_get_cipher_name(t->ssl));
    SSL_clear_mode(t->ssl, SSL_MODE_ASYNC);
    t->phase = TLS_OPEN;
    t->due_ms = 0;
    set_events(f, c, 0);
    ping_restart(f, c, false);
    login_clock(f, c);
    if (t->owes_info)
        accept_info(f, c);
    return c->state < CLIENT_ENDING;
}

/* A connection accepted before a reload whose handshake begins after it uses the new context: the signer forgets old keys. */
static void use_what_holds(struct frontend *f, struct tls *t) {
    if (!f->tls || f->tls == t->context)
        return;
    tls_context_drop(t->context);
    t->context = f->tls;
    t->context->references++;
}

static bool make_ssl(struct frontend *f, struct client *c) {
    struct tls *t = c->tls;
    use_what_holds(f, t);
    t->ssl = SSL_new(t->context->ssl);
    BIO *in = t->ssl ? tls_record_source(t) : NULL, *out = in ? BIO_new_socket(c->fd, BIO_NOCLOSE) : NULL;
    if (!out) {
        BIO_free(in);
        client_no_memory(f, c);
        return false;
    }
    client_log(c, LOG_DEBUG, "Starting TLS client connection handshake");
    SSL_set0_rbio(t->ssl, in);
    SSL_set0_wbio(t->ssl, out);
    SSL_set_accept_state(t->ssl);
    return true;
}

/* Goes on as far as it can. True: it is done. */
static bool handshake(struct frontend *f, struct client *c) {
    struct tls *t = c->tls;
    if (!t->ssl && (!tls_record_is_there(t) || !make_ssl(f, c)))
        return false;
    ERR_clear_error();
    errno = 0;
    tls_record_begin(t);
    tls_now = c;
    int done = SSL_do_handshake(t->ssl);
    tls_now = NULL;
    int error = errno, why = SSL_get_error(t->ssl, done);
    if (!tls_record_end(t)) {
        client_no_memory(f, c);
        return false;
    }
    switch (why) {
    case SSL_ERROR_NONE:
        return finish(f, c);
    case SSL_ERROR_WANT_READ:
        set_events(f, c, 0);
        return false;
    case SSL_ERROR_WANT_WRITE:
        t->wants_write = true;
        set_events(f, c, CLIENT_DISARMED | CLIENT_BLOCKED);
        return false;
    case SSL_ERROR_WANT_ASYNC:
        wait_for_us(f, c);
        tls_sign_start(f, c);
        return false;
    case SSL_ERROR_WANT_ASYNC_JOB:
        wait_for_us(f, c);
        tls_sign_wait_for_job(f, c);
        return false;
    default:
        fail_with_reason(f, c, why, error);
        return false;
    }
}

void tls_due(struct frontend *f, struct client *c) {
    struct tls *t = c->tls;
    if (c->flags & CLIENT_WANTS_PLACE) { /* it waits for us */
        set_due(f, c, f->now_ms + t->context->timeout_ms);
    } else if (t->phase == TLS_LOOK && t->owes_info && t->context->first_after_ms > 0) {
        t->owes_info = false;
        t->phase = t->context->allow_non_tls ? TLS_LOOK : TLS_HANDSHAKE;
        set_due(f, c, f->now_ms + t->context->timeout_ms);
        accept_info(f, c);
    } else if (t->phase == TLS_LOOK && t->context->allow_non_tls) {
        go_plain(f, c);
    } else {
        counter_add(f->counters, COUNTER_HANDSHAKES, 1);
        counter_add(f->counters, COUNTER_HANDSHAKES_FAILED, 1);
        client_log(c, LOG_ERROR,
                   t->waits ? "TLS handshake timeout: the signer has not answered" : "TLS handshake timeout");
        client_fail(f, c, "TLS Handshake Failure");
    }
}

/* ---- reading and writing ---- */

static ssize_t nothing_yet(void) {
    errno = EAGAIN;
    return -1;
}

/* What came before an end or an error is returned first; the end comes again with the next call. */
static ssize_t read_end(struct frontend *f, struct client *c, size_t got, int why) {
    struct tls *t = c->tls;
    if (why == SSL_ERROR_WANT_WRITE) {
        t->wants_write = true;
        set_events(f, c, CLIENT_DISARMED | CLIENT_BLOCKED);
    }
    t->more = why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE;
    if (got > 0)
        return (ssize_t)got;
    if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE)
        return nothing_yet();
    t->more = false;
    if (why == SSL_ERROR_ZERO_RETURN)
        return 0;
    t->phase = TLS_BROKEN;
    if (why == SSL_ERROR_SSL)
        errno = EPROTO;
    return -1;
}

static ssize_t read_open(struct frontend *f, struct client *c, char *at, size_t cap) {
    struct tls *t = c->tls;
    size_t got = 0;
    int why = SSL_ERROR_NONE;
    check(cap >= TLS_RECORD);
    tls_record_begin(t);
    while (why == SSL_ERROR_NONE && cap - got >= TLS_RECORD) {
        ERR_clear_error();
        errno = 0;
        int n = SSL_read(t->ssl, at + got, TLS_RECORD);
        if (n > 0)
            got += (size_t)n;
        else
            why = SSL_get_error(t->ssl, n);
    }
    int error = errno;
    if (!tls_record_end(t)) {
        errno = ENOMEM;
        return -1;
    }
    errno = error;
    if (why != SSL_ERROR_NONE)
        return read_end(f, c, got, why);
    t->more = t->raw_len > 0;
    return (ssize_t)got;
}

ssize_t tls_read(struct frontend *f, struct client *c, char *at, size_t cap) {
    struct tls *t = c->tls;
    if (t->phase == TLS_OPEN)
        return read_open(f, c, at, cap);
    if (t->waits || t->wants_write) {
        set_events(f, c, CLIENT_DISARMED | (c->flags & CLIENT_BLOCKED));
        return nothing_yet();
    }
    if (t->phase == TLS_LOOK) {
        char first;
        ssize_t n = recv(c->fd, &first, 1, MSG_PEEK);
        if (n <= 0)
            return n;
        decide(f, c, first);
        if (c->state >= CLIENT_ENDING)
            return nothing_yet();
        if (!c->tls)
            return recv(c->fd, at, cap, 0);
    }
    return handshake(f, c) ? read_open(f, c, at, cap) : nothing_yet();
}

bool tls_more(const struct tls *t) {
    return t->more;
}

bool tls_has_begun(const struct tls *t) {
    return t->ssl != NULL;
}

ssize_t tls_write(struct client *c, const char *at, size_t len) {
    struct tls *t = c->tls;
    if (t->phase != TLS_OPEN) {
        errno = EPROTO; /* in the middle of a handshake, or after it broke, there is nobody to talk to */
        return -1;
    }
    ERR_clear_error();
    int n = SSL_write(t->ssl, at, (int)len);
    if (n > 0)
        return n;
    int why = SSL_get_error(t->ssl, n);
    if (why == SSL_ERROR_WANT_WRITE || why == SSL_ERROR_WANT_READ) {
        errno = EAGAIN;
        return -1;
    }
    t->phase = TLS_BROKEN;
    errno = EPIPE;
    return -1;
}

bool tls_wants_write(const struct tls *t) {
    return t->wants_write;
}

void tls_writable(struct frontend *f, struct client *c) {
    c->tls->wants_write = false;
    set_events(f, c, 0);
    if (c->tls->phase == TLS_OPEN)
        out_flush(f, c);
    input_read(f, c);
}

/* ---- the end ---- */

/* A paused job has to come to its end, or its stack is lost. */
static void end_job(struct client *c) {
    struct tls *t = c->tls;
    tls_sign_give_up(c);
    tls_record_begin(t);
    tls_now = c;
    ERR_clear_error();
    int done = SSL_do_handshake(t->ssl);
    check(SSL_get_error(t->ssl, done) != SSL_ERROR_WANT_ASYNC);
    tls_now = NULL;
    tls_record_end(t);
}

void tls_end(struct client *c, bool polite) {
    struct tls *t = c->tls;
    if (t->waits == TLS_WAITS_SIGNER)
        end_job(c);
    list_remove(&t->jobless);
    if (polite && t->phase == TLS_OPEN && SSL_is_init_finished(t->ssl))
        SSL_shutdown(t->ssl);
    ERR_clear_error();
    forget(c);
}

struct view tls_certificate(const struct client *c) {
    if (!c->tls)
        return view_of(NULL, 0);
    return view_of((const char *)c->tls->certificate, c->tls->certificate_len);
}
