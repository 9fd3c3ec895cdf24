/* SPDX-License-Identifier: Apache-2.0 */
/* A key's text is 35 bytes in base32, which is 56 characters without a rest:
 *
 *     | prefix 1 | key 32 | crc 2, low byte first |
 *
 * The prefix has the kind's letter in its upper five bits, so the text begins with that letter. */
#include "nats/nkey.h"

enum { PREFIX_BYTES = 1, CRC_BYTES = 2, CRC_POS = PREFIX_BYTES + NKEY_BYTES, RAW_BYTES = CRC_POS + CRC_BYTES };

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/* CRC-16/XMODEM. */
static uint16_t crc16(const uint8_t *at, size_t len) {
    uint16_t crc = 0;
    for (size_t i = 0; i < len; i++) {
        crc ^= (uint16_t)(at[i] << 8);
        for (int bit = 0; bit < 8; bit++)
            crc = (uint16_t)(crc << 1 ^ (crc & 0x8000 ? 0x1021 : 0));
    }
    return crc;
}

static uint8_t prefix_of(enum nkey_kind kind) {
    return (uint8_t)((kind - 'A') << 3);
}

/* The value of a base32 character, -1 if it is none. */
static int digit_of(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    return c >= '2' && c <= '7' ? c - '2' + 26 : -1;
}

void nkey_format(char out[static NKEY_TEXT_LEN + 1], enum nkey_kind kind, const uint8_t key[static NKEY_BYTES]) {
    uint8_t raw[RAW_BYTES];
    raw[0] = prefix_of(kind);
    memcpy(raw + PREFIX_BYTES, key, NKEY_BYTES);
    uint16_t crc = crc16(raw, CRC_POS);
    raw[CRC_POS] = (uint8_t)crc;
    raw[CRC_POS + 1] = (uint8_t)(crc >> 8);

    uint32_t bits = 0;
    unsigned bit_count = 0;
    size_t len = 0;
    for (size_t i = 0; i < RAW_BYTES; i++) {
        bits = bits << 8 | raw[i];
        for (bit_count += 8; bit_count >= 5; bit_count -= 5)
            out[len++] = alphabet[bits >> (bit_count - 5) & 31];
    }
    out[len] = '\0';
}

enum err nkey_parse(uint8_t key[static NKEY_BYTES], enum nkey_kind kind, struct view text) {
    if (text.len != NKEY_TEXT_LEN)
        return ERR_SYNTAX;
    uint8_t raw[RAW_BYTES];
    uint32_t bits = 0;
    unsigned bit_count = 0;
    size_t len = 0;
    for (size_t i = 0; i < NKEY_TEXT_LEN; i++) {
        int digit = digit_of(text.at[i]);
        if (digit < 0)
            return ERR_SYNTAX;
        bits = bits << 5 | (uint32_t)digit;
        bit_count += 5;
        if (bit_count >= 8) {
            bit_count -= 8;
            raw[len++] = (uint8_t)(bits >> bit_count);
        }
    }
    uint16_t crc = (uint16_t)(raw[CRC_POS] | raw[CRC_POS + 1] << 8);
    if (raw[0] != prefix_of(kind) || crc != crc16(raw, CRC_POS))
        return ERR_SYNTAX;
    memcpy(key, raw + PREFIX_BYTES, NKEY_BYTES);
    return ERR_OK;
}
