/* SPDX-License-Identifier: Apache-2.0 */
#include "authd/signature.h"

#include <sodium.h>

enum err signature_read(uint8_t signature[static SIGNATURE_BYTES], struct view text) {
    static const int variants[] = {sodium_base64_VARIANT_URLSAFE_NO_PADDING, sodium_base64_VARIANT_ORIGINAL};
    for (size_t i = 0; i < sizeof variants / sizeof *variants && text.len; i++) {
        size_t len;
        if (sodium_base642bin(signature, SIGNATURE_BYTES, text.at, text.len, "\r\n", &len, NULL, variants[i]) == 0 &&
            len == SIGNATURE_BYTES)
            return ERR_OK;
    }
    return ERR_SYNTAX;
}

bool signature_is_good(const uint8_t key[static NKEY_BYTES], struct view text,
                       const uint8_t signature[static SIGNATURE_BYTES]) {
    return crypto_sign_verify_detached(signature, (const unsigned char *)text.at, text.len, key) == 0;
}
