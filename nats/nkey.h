/* SPDX-License-Identifier: Apache-2.0 */
/* nats/nkey.h: public keys as text: prefix byte, 32 bytes, CRC-16 (XMODEM, little endian), base32 without padding. */
#ifndef NATS_NKEY_H
#define NATS_NKEY_H

#include <stdint.h>

#include "base/err.h"
#include "base/view.h"

enum { NKEY_TEXT_LEN = 56, NKEY_BYTES = 32 };

enum nkey_kind { NKEY_SERVER = 'N', NKEY_CLUSTER = 'C', NKEY_OPERATOR = 'O', NKEY_ACCOUNT = 'A', NKEY_USER = 'U' };

/* Writes NKEY_TEXT_LEN characters and a NUL. */
void nkey_format(char out[static NKEY_TEXT_LEN + 1], enum nkey_kind kind, const uint8_t key[static NKEY_BYTES]);

/* ERR_SYNTAX: not 56 characters of base32, a wrong checksum or another kind. */
enum err nkey_parse(uint8_t key[static NKEY_BYTES], enum nkey_kind kind, struct view text);

#endif
