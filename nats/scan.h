/* SPDX-License-Identifier: Apache-2.0 */
/* nats/scan.h: where in a few bytes the interesting ones are, as a bit mask.
 *
 * Bit i of a mask stands for at[i]; bits from len on are 0. Lanes of 16 bytes with SSE2, of 8 bytes without; both give
 * the same masks. SCAN_PORTABLE asks for the second everywhere, which is how the tests compare them. Nothing is read
 * beyond at + len: the last lane of a block overlaps the one before it instead.
 */
#ifndef NATS_SCAN_H
#define NATS_SCAN_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined __SSE2__ && !defined SCAN_PORTABLE
#include <emmintrin.h>
#define SCAN_SSE2 1
#endif

enum { SCAN_BLOCK = 64 }; /* bytes that one mask can describe */

#ifdef SCAN_SSE2

enum { SCAN_LANE = 16 };

/* Bytes up to and including ' '. */
static inline uint64_t scan_lane_low(const char *at) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(' ')), bytes);
    return (uint64_t)(unsigned)_mm_movemask_epi8(low);
}

static inline uint64_t scan_lane_byte(const char *at, char wanted) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)at);
    return (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(wanted)));
}

#else

enum { SCAN_LANE = 8 };

#define SCAN_EVERY(byte) (0x0101010101010101u * (uint64_t)(unsigned char)(byte))

static inline uint64_t scan_load(const char *at) {
    uint64_t word;
    memcpy(&word, at, sizeof word);
    return le64toh(word); /* at[0] is the lowest byte */
}

/* The top bits of the eight bytes, side by side. */
static inline uint64_t scan_gather(uint64_t tops) {
    return ((tops & SCAN_EVERY(0x80)) >> 7) * 0x0102040810204080u >> 56;
}

/* Bytes up to and including ' '. The sum carries into a byte's top bit if its low seven bits are above ' ', never into
 * the next byte; a byte that had the top bit is above anyway. */
static inline uint64_t scan_lane_low(const char *at) {
    uint64_t word = scan_load(at);
    return scan_gather(~(((word & SCAN_EVERY(0x7f)) + SCAN_EVERY(0x7f - ' ')) | word));
}

static inline uint64_t scan_lane_byte(const char *at, char wanted) {
    uint64_t word = scan_load(at) ^ SCAN_EVERY(wanted);
    return scan_gather(~(((word & SCAN_EVERY(0x7f)) + SCAN_EVERY(0x7f)) | word));
}

#endif

/* Mask of the bytes up to and including ' ' in at[0..len), len at most SCAN_BLOCK. */
static inline uint64_t scan_low(const char *at, size_t len) {
    uint64_t mask = 0;
    if (len < SCAN_LANE) {
        for (size_t i = 0; i < len; i++)
            mask |= (uint64_t)((unsigned char)at[i] <= ' ') << i;
        return mask;
    }
    for (size_t i = 0; i + SCAN_LANE <= len; i += SCAN_LANE)
        mask |= scan_lane_low(at + i) << i;
    return mask | scan_lane_low(at + len - SCAN_LANE) << (len - SCAN_LANE);
}

/* Mask of the bytes that are wanted in at[0..len), len at most SCAN_BLOCK. */
static inline uint64_t scan_byte(const char *at, size_t len, char wanted) {
    uint64_t mask = 0;
    if (len < SCAN_LANE) {
        for (size_t i = 0; i < len; i++)
            mask |= (uint64_t)(at[i] == wanted) << i;
        return mask;
    }
    for (size_t i = 0; i + SCAN_LANE <= len; i += SCAN_LANE)
        mask |= scan_lane_byte(at + i, wanted) << i;
    return mask | scan_lane_byte(at + len - SCAN_LANE, wanted) << (len - SCAN_LANE);
}

#endif
