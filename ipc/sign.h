/* SPDX-License-Identifier: Apache-2.0 */
/* ipc/sign.h: how a frontend asks the signer for the signature of one TLS handshake.
 *
 * Both ends of a SOCK_SEQPACKET socket: a packet is one struct sign_request, or one struct sign_answer the other way.
 * The signer gets content, not a digest, and builds the signed bytes itself, so nothing but a TLS server's handshake
 * can be signed: for TLS 1.3 the content is the transcript hash alone; for TLS 1.2 client random, server random and the
 * ServerECDHParams of a named curve. There is no other form, no client role and no decrypt.
 *
 * A packet of another size, or one with bytes set behind its content, ends the conversation; a request that cannot be
 * granted is answered with SIGN_REFUSED. Answers come in the order of the requests.
 *
 * The keys reach the signer in a sealed memfd (message Keys of ipc/control.proto), all numbers little-endian, no
 * padding: u32 count, then for each key u32 number, u32 bytes, and so many bytes of PEM.
 */
#ifndef IPC_SIGN_H
#define IPC_SIGN_H

#include <stdint.h>

#include "shm/binding.h"

enum {
    SIGN_CONTENT_MAX = 32 + 32 + 4 + 133, /* TLS 1.2 with an uncompressed point of P-521 */
    SIGN_SIGNATURE_MAX = 1024,            /* RSA with 8192 bits */
    SIGN_RANDOMS = 64,
    SIGN_KEYS_MAX = 64,            /* in one generation */
    SIGN_KEYS_BYTES_MAX = 1 << 20, /* of the memfd */
};

/* A key's number says which edges may use it: the upper 16 bits are their enum link_kind; 0 is LINK_FRONTEND
 * too. */
static inline uint32_t sign_key_kind(uint32_t number) {
    return number >> 16 ? number >> 16 : LINK_FRONTEND;
}

enum sign_form {
    SIGN_TLS13 = 1, /* content: transcript hash, 32 or 48 bytes */
    SIGN_TLS12,     /* content: client random, server random, 3, named curve (16 bits, network order), length, point */
};

/* TLS SignatureScheme (RFC 8446, 4.2.3). With TLS 1.2 an ECDSA scheme says nothing about the curve. */
enum sign_scheme {
    SIGN_RSA_PKCS1_SHA256 = 0x0401, /* TLS 1.2 only, as the next two */
    SIGN_RSA_PKCS1_SHA384 = 0x0501,
    SIGN_RSA_PKCS1_SHA512 = 0x0601,
    SIGN_ECDSA_SHA256 = 0x0403,
    SIGN_ECDSA_SHA384 = 0x0503,
    SIGN_ECDSA_SHA512 = 0x0603,
    SIGN_RSA_PSS_SHA256 = 0x0804,
    SIGN_RSA_PSS_SHA384 = 0x0805,
    SIGN_RSA_PSS_SHA512 = 0x0806,
    SIGN_ED25519 = 0x0807,
};

struct sign_request {
    uint64_t id;         /* chosen by the edge; the answer has the same */
    uint32_t generation; /* of the message Tls that named the key */
    uint32_t key;        /* its number */
    uint16_t form;       /* enum sign_form */
    uint16_t scheme;     /* enum sign_scheme */
    uint16_t content_len;
    uint8_t content[SIGN_CONTENT_MAX]; /* zero behind content_len */
    uint8_t zero;
};
_Static_assert(sizeof(struct sign_request) == 224, "a request has a fixed size");

enum sign_status { SIGN_DONE = 1, SIGN_REFUSED };

struct sign_answer {
    uint64_t id;
    uint32_t status; /* enum sign_status */
    uint32_t len;    /* of the signature; 0 if refused */
    uint8_t signature[SIGN_SIGNATURE_MAX];
};
_Static_assert(sizeof(struct sign_answer) == 1040, "an answer has a fixed size");

/* What stands before the transcript hash in TLS 1.3, after 64 blanks; the final NUL belongs to it (RFC 8446, 4.4.3). */
#define SIGN_CONTEXT "TLS 1.3, server CertificateVerify"
enum { SIGN_BLANKS = 64, SIGN_CONTEXT_LEN = sizeof SIGN_CONTEXT };

#endif
