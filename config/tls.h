/* SPDX-License-Identifier: Apache-2.0 */
/* config/tls.h: the TLS of the listener for clients, as frontends and signer get it.
 *
 * What is no secret is a struct of fixed size, for the message Tls (ipc/control.proto). Certificates and private keys
 * are read, checked and written out by the reader alone; OpenSSL is in no other process because of this file.
 */
#ifndef CONFIG_TLS_H
#define CONFIG_TLS_H

#include "config/config.h"

enum { TLS_CERTIFICATES_MAX = 1 << 20 }; /* bytes of chain and CA certificates: what a frontend takes */
enum { TLS_NAMES_MAX = 1024, TLS_PINS_MAX = 128, TLS_PIN_BYTES = 32, TLS_KEY_NUMBER = 1 };

struct tls_options {
    bool given; /* false: no TLS, and nothing else means anything */
    bool verify, map, allow_non_tls;
    bool first;              /* the handshake comes before INFO */
    uint32_t first_after_ms; /* with first: INFO in plain text after so long without a hello; 0: never */
    uint32_t timeout_ms;
    uint32_t rate_limit;            /* handshakes a second, 0: no limit */
    uint32_t chain_bytes, ca_bytes; /* of the part for frontends */
    char ciphers[TLS_NAMES_MAX];    /* of TLS 1.2, OpenSSL's names joined by ':'; empty: the default */
    char groups[TLS_NAMES_MAX];     /* the same of curves */
    uint32_t pin_count;
    uint8_t pins[TLS_PINS_MAX][TLS_PIN_BYTES];
};

/* OpenSSL's name of a suite that is offered under TLS 1.2; NULL: it is accepted in a configuration and not offered. */
const char *tls_cipher_offered(struct view name);

/* Takes what the checked tree says, with flags and defaults; chain_bytes and ca_bytes stay. What does not fit has been
 * refused by config_check_start. */
void tls_take(struct tls_options *t, const struct config *c);

/* ---- tls_files.c: with OpenSSL, for the reader and tools that check a file ---- */

/* Looks at the content of cert_file and key_file, and of ca_file, as struct source asks it. ERR_SYNTAX: the words of
 * nats-server are appended to why. */
enum err tls_check_pair(struct view cert, struct view key, struct text *why);
enum err tls_check_ca(struct view ca, struct text *why);

/* Appends what frontends get: the chain and the CA certificates as PEM, without anything else that stood in the files;
 * sets chain_bytes and ca_bytes. Appends what the signer gets: u32 count, then for each key u32 number, u32 bytes, then
 * so many bytes of PEM; little-endian, without padding. There is one key, TLS_KEY_NUMBER. ERR_*: why says it in
 * words for people. */
enum err tls_files_write(struct tls_options *t, const struct config *c, struct text *certificates, struct text *keys,
                         struct text *why);

/* Before a system call filter closes: OpenSSL would look for a configuration of its own. */
void tls_files_prepare(void);

#endif
