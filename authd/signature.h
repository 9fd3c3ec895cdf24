/* SPDX-License-Identifier: Apache-2.0 */
/* authd/signature.h: the signature with which an nkey answers a nonce. */
#ifndef AUTHD_SIGNATURE_H
#define AUTHD_SIGNATURE_H

#include <stdint.h>

#include "base/err.h"
#include "base/view.h"
#include "nats/nkey.h"

enum { SIGNATURE_BYTES = 64 };

/* Reads base64: of URLs without padding, or the standard one with it; line ends in it do not count. ERR_SYNTAX:
 * neither, or not 64 bytes. */
enum err signature_read(uint8_t signature[static SIGNATURE_BYTES], struct view text);

/* True if key made that signature over the text. */
bool signature_is_good(const uint8_t key[static NKEY_BYTES], struct view text,
                       const uint8_t signature[static SIGNATURE_BYTES]);

#endif
