/* SPDX-License-Identifier: Apache-2.0 */
/* nats/subject.h: subjects and wildcards.
 *
 * A subject is tokens joined by '.'. A pattern may also hold '*' (exactly one token) and a last '>' (one token or more).
 * A token is a wildcard only if it is exactly one of the two: `a*` is plain text. All functions take a view and never keep
 * it. None allocates. None cares whether the bytes are UTF-8.
 */
#ifndef NATS_SUBJECT_H
#define NATS_SUBJECT_H

#include "base/view.h"

/* True if no byte could end or split a protocol line: no blank, tab, CR, LF. Every formatter asks this again. */
bool subject_is_clean(struct view s);

/* True if s can be subscribed to: no empty token, '>' as a token only in the last place. */
bool subject_is_pattern(struct view s);

/* True if no token is empty; such a subject can match something. Tokens of '*' and '>' are allowed: they are literal text
 * when published. */
bool subject_has_tokens(struct view s);

/* True if s has no empty token and no token that is exactly '*' or '>': what pedantic mode asks of a published subject. */
bool subject_is_literal(struct view s);

/* True if one token of the pattern s is a wildcard. */
bool subject_has_wildcard(struct view s);

/* Dots + 1. */
size_t subject_token_count(struct view s);

/* True if pattern matches the literal subject. Both must have tokens. */
bool subject_matches(struct view pattern, struct view subject);

/* True if every subject that b matches is also matched by a. Both must be valid patterns. */
bool subject_covers(struct view a, struct view b);

/* True if some subject is matched by both a and b. Both must be valid patterns. */
bool subject_overlaps(struct view a, struct view b);

#endif
