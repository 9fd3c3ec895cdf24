/* SPDX-License-Identifier: Apache-2.0 */
/* From the socket to OpenSSL, whole records at a time.
 *
 * Sockets are read into one buffer of the process, and OpenSSL gets a record only once all of it is there. So it holds
 * no buffer of 16 KB for a connection that has sent a few bytes; these few are kept here, in as many bytes. Bytes
 * that begin no TLS record are handed on at once: OpenSSL names the fault.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "frontend/tls.h"

enum { HEADER = 5, STAGE_BYTES = 64 * 1024, HELLO_HEADER = 4 };

/* What was read for the connection at work. */
static struct {
    size_t at, end;
    bool empty; /* the socket had no more */
    char bytes[STAGE_BYTES];
} stage;

static void keep_border(void) {
    if (stage.at == 0)
        return;
    memmove(stage.bytes, stage.bytes + stage.at, stage.end - stage.at);
    stage.end -= stage.at;
    stage.at = 0;
}

/* Bytes of the record at the stage's start, 0: unknown yet. What looks like no record is as long as it is. */
static size_t record_bytes(void) {
    const unsigned char *h = (const unsigned char *)stage.bytes + stage.at;
    size_t there = stage.end - stage.at;
    if (there > 0 && (h[0] < 20 || h[0] > 23))
        return there;
    if (there > 1 && h[1] != 3)
        return there;
    if (there < HEADER)
        return 0;
    size_t bytes = HEADER + (size_t)(h[3] << 8 | h[4]);
    return bytes > HEADER + TLS_RECORD_WIRE ? there : bytes;
}

/* Reads once. False: nothing came. */
static bool fill(struct tls *t) {
    if (stage.empty || t->eof)
        return false;
    keep_border();
    ssize_t n = recv(t->fd, stage.bytes + stage.end, STAGE_BYTES - stage.end, 0);
    if (n == 0)
        t->eof = true;
    if (n <= 0) {
        stage.empty = n < 0 && (errno == EAGAIN || errno == EINTR);
        return false;
    }
    stage.empty = (size_t)n < STAGE_BYTES - stage.end;
    stage.end += (size_t)n;
    return true;
}

/* A whole record is there. */
static bool have_record(struct tls *t) {
    for (;;) {
        size_t need = record_bytes();
        if (need > 0 && stage.end - stage.at >= need) {
            t->record_left = (uint32_t)need;
            return true;
        }
        if (!fill(t))
            return false;
    }
}

/* The first message tells its length: OpenSSL would make room for it at once. */
static bool hello_fits(struct tls *t, const char *at, size_t len) {
    for (size_t i = 0; i < len && t->hello_at < HEADER + HELLO_HEADER; i++, t->hello_at++) {
        if (t->hello_at > HEADER)
            t->hello_bytes = t->hello_bytes << 8 | (unsigned char)at[i];
    }
    t->too_long = t->hello_at == HEADER + HELLO_HEADER && t->hello_bytes > TLS_HELLO_BYTES;
    return !t->too_long;
}

static int source_read(BIO *bio, char *out, int cap) {
    struct tls *t = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    if (t->record_left == 0 && !have_record(t)) {
        if (!t->eof && stage.empty)
            BIO_set_retry_read(bio);
        return t->eof ? 0 : -1;
    }
    size_t n = (size_t)cap < t->record_left ? (size_t)cap : t->record_left;
    if (t->hello_at < HEADER + HELLO_HEADER && !hello_fits(t, stage.bytes + stage.at, n))
        return -1;
    memcpy(out, stage.bytes + stage.at, n);
    stage.at += n;
    t->record_left -= (uint32_t)n;
    return (int)n;
}

static long source_control(BIO *bio, int what, long number, void *at) {
    (void)number, (void)at;
    const struct tls *t = BIO_get_data(bio);
    return what == BIO_CTRL_EOF ? t->eof : what == BIO_CTRL_FLUSH;
}

BIO *tls_record_source(struct tls *t) {
    static BIO_METHOD *method;
    if (!method) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "records");
        if (!method || !BIO_meth_set_read(method, source_read) || !BIO_meth_set_ctrl(method, source_control))
            return NULL;
    }
    BIO *bio = BIO_new(method);
    if (!bio)
        return NULL;
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    return bio;
}

bool tls_record_is_there(struct tls *t) {
    tls_record_begin(t);
    bool there = have_record(t) || t->eof || !stage.empty;
    t->record_left = 0;
    return tls_record_end(t) && there;
}

void tls_record_begin(struct tls *t) {
    stage.at = 0;
    stage.end = t->raw_len;
    stage.empty = false;
    if (t->raw_len > 0)
        memcpy(stage.bytes, t->raw, t->raw_len);
    free(t->raw);
    t->raw = NULL;
    t->raw_len = 0;
}

bool tls_record_end(struct tls *t) {
    size_t left = stage.end - stage.at;
    if (left == 0)
        return true;
    t->raw = malloc(left);
    if (!t->raw)
        return false;
    memcpy(t->raw, stage.bytes + stage.at, left);
    t->raw_len = (uint32_t)left;
    return true;
}
