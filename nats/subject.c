/* SPDX-License-Identifier: Apache-2.0 */
/* Validity is asked for every message, so it looks at 64 bytes at a time: a token is empty where two dots, or a dot and
 * an edge, are neighbours in the mask. Matching and covering walk token by token; the router's sublist does the
 * matching that is hot. */
#include "nats/subject.h"

#include "nats/scan.h"

/* Length of the block that starts at pos. */
static size_t block_len(struct view s, size_t pos) {
    return s.len - pos < SCAN_BLOCK ? s.len - pos : SCAN_BLOCK;
}

static bool is_delimiter(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

/* True if the byte at pos is a token of its own. */
static bool stands_alone(struct view s, size_t pos) {
    return (pos == 0 || s.at[pos - 1] == '.') && (pos + 1 == s.len || s.at[pos + 1] == '.');
}

/* Cuts the first token off *rest; false if that was the last one. */
static bool token_cut(struct view *rest, struct view *token) {
    const char *dot = rest->len > 0 ? memchr(rest->at, '.', rest->len) : NULL;
    if (dot == NULL) {
        *token = *rest;
        return false;
    }
    *token = view_of(rest->at, (size_t)(dot - rest->at));
    *rest = view_of(dot + 1, rest->len - token->len - 1);
    return true;
}

static bool token_is(struct view token, char c) {
    return token.len == 1 && token.at[0] == c;
}

bool subject_is_clean(struct view s) {
    for (size_t pos = 0; pos < s.len; pos += SCAN_BLOCK) {
        for (uint64_t low = scan_low(s.at + pos, block_len(s, pos)); low != 0; low &= low - 1) {
            if (is_delimiter(s.at[pos + (size_t)__builtin_ctzll(low)]))
                return false;
        }
    }
    return true;
}

bool subject_is_pattern(struct view s) {
    if (!subject_has_tokens(s))
        return false;
    const char *wild = memchr(s.at, '>', s.len - 1);
    while (wild != NULL) {
        size_t pos = (size_t)(wild - s.at);
        if (stands_alone(s, pos))
            return false;
        wild = memchr(wild + 1, '>', s.len - 1 - (pos + 1));
    }
    return true;
}

bool subject_has_tokens(struct view s) {
    uint64_t after_dot = 1; /* the start counts as the place behind a dot */
    for (size_t pos = 0; pos < s.len; pos += SCAN_BLOCK) {
        uint64_t dots = scan_byte(s.at + pos, block_len(s, pos), '.');
        if ((dots & (dots << 1 | after_dot)) != 0)
            return false;
        after_dot = dots >> (SCAN_BLOCK - 1);
    }
    return s.len > 0 && s.at[s.len - 1] != '.';
}

bool subject_is_literal(struct view s) {
    return subject_has_tokens(s) && !subject_has_wildcard(s);
}

bool subject_has_wildcard(struct view s) {
    for (size_t pos = 0; pos < s.len; pos += SCAN_BLOCK) {
        size_t len = block_len(s, pos);
        uint64_t wild = scan_byte(s.at + pos, len, '*') | scan_byte(s.at + pos, len, '>');
        for (; wild != 0; wild &= wild - 1) {
            if (stands_alone(s, pos + (size_t)__builtin_ctzll(wild)))
                return true;
        }
    }
    return false;
}

size_t subject_token_count(struct view s) {
    size_t count = 1;
    for (size_t pos = 0; pos < s.len; pos += SCAN_BLOCK)
        count += (size_t)__builtin_popcountll(scan_byte(s.at + pos, block_len(s, pos), '.'));
    return count;
}

bool subject_matches(struct view pattern, struct view subject) {
    for (;;) {
        struct view wanted, token;
        bool pattern_more = token_cut(&pattern, &wanted);
        bool subject_more = token_cut(&subject, &token);
        if (!pattern_more && token_is(wanted, '>'))
            return true;
        if (!token_is(wanted, '*') && !view_equal(wanted, token))
            return false;
        if (!pattern_more || !subject_more)
            return pattern_more == subject_more;
    }
}

bool subject_covers(struct view a, struct view b) {
    for (;;) {
        struct view a_token, b_token;
        bool a_more = token_cut(&a, &a_token);
        bool b_more = token_cut(&b, &b_token);
        if (token_is(a_token, '>'))
            return true;
        if (token_is(b_token, '>'))
            return false;
        if (!token_is(a_token, '*') && !view_equal(a_token, b_token))
            return false;
        if (!a_more || !b_more)
            return a_more == b_more;
    }
}

bool subject_overlaps(struct view a, struct view b) {
    for (;;) {
        struct view a_token, b_token;
        bool a_more = token_cut(&a, &a_token);
        bool b_more = token_cut(&b, &b_token);
        if (token_is(a_token, '>') || token_is(b_token, '>'))
            return true;
        if (!token_is(a_token, '*') && !token_is(b_token, '*') && !view_equal(a_token, b_token))
            return false;
        if (!a_more || !b_more)
            return a_more == b_more;
    }
}
