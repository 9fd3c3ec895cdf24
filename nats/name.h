/* SPDX-License-Identifier: Apache-2.0 */
/* nats/name.h: one quick look at a subject that was copied out of foreign memory.
 *
 * For the message path of router and frontends, inline; nats/subject.h has the full set of questions.
 */
#ifndef NATS_NAME_H
#define NATS_NAME_H

#include <stddef.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "nats/subject.h"

enum {
    NAME_PAD = 16,        /* bytes beyond the name that must be readable, whatever they hold */
    NAME_DIRTY = 1,       /* a byte could end or split a protocol line: blank, tab, CR, LF */
    NAME_EMPTY_TOKEN = 2, /* a token is empty: matches nothing */
};

/* NAME_DIRTY (then alone), NAME_EMPTY_TOKEN, or 0. An empty name is NAME_EMPTY_TOKEN. */
static inline unsigned name_look(const char *at, size_t len) {
    if (len == 0)
        return NAME_EMPTY_TOKEN;
#ifdef __SSE2__
    unsigned carry = 1; /* a dot at the start follows nothing */
    unsigned found = at[len - 1] == '.' ? NAME_EMPTY_TOKEN : 0;
    for (size_t i = 0; i < len; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(at + i));
        unsigned valid = len - i >= 16 ? 0xffffu : (1u << (len - i)) - 1;
        /* Nothing up to the blank: the usual answer, with one comparison. */
        __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(' ')), v);
        if (__builtin_expect((unsigned)_mm_movemask_epi8(low) & valid, 0)) {
            __m128i blank = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8(' ')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\t')));
            __m128i end = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('\r')), _mm_cmpeq_epi8(v, _mm_set1_epi8('\n')));
            if ((unsigned)_mm_movemask_epi8(_mm_or_si128(blank, end)) & valid)
                return NAME_DIRTY;
        }
        unsigned dots = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_set1_epi8('.'))) & valid;
        if (dots & ((dots << 1) | carry))
            found |= NAME_EMPTY_TOKEN;
        carry = dots >> 15;
    }
    return found;
#else
    if (!subject_is_clean(view_of(at, len)))
        return NAME_DIRTY;
    return subject_has_tokens(view_of(at, len)) ? 0 : NAME_EMPTY_TOKEN;
#endif
}

#endif
