/* SPDX-License-Identifier: Apache-2.0 */
/* tests/support/oracle.h: what a permission set allows, told naively.
 *
 * Written from the table of rules alone, one rule after the other and token by token; it shares no code with the router. A set is
 * a list of lines as world_rules takes them.
 */
#ifndef TESTS_SUPPORT_ORACLE_H
#define TESTS_SUPPORT_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/support/edge.h"

enum { ORACLE_LINES_MAX = 24, ORACLE_LINE_MAX = 64 };

struct oracle_set {
    char line[ORACLE_LINES_MAX][ORACLE_LINE_MAX];
    const char *lines[ORACLE_LINES_MAX];
    uint32_t count;
    uint32_t responses_max;
    uint64_t responses_ms;
};

void oracle_add(struct oracle_set *o, const char *kind, const char *subject, const char *queue);
void oracle_print(const struct oracle_set *o);

bool oracle_publish(const struct oracle_set *o, const char *subject);
bool oracle_subscribe(const struct oracle_set *o, const char *pattern, const char *queue); /* queue may be null */
/* A deny rule keeps that message from a subscription with that queue. */
bool oracle_withheld(const struct oracle_set *o, const char *subject, const char *queue);
/* Does the pattern match that subject, whose wildcard tokens are literal text? Nothing matches a text with an empty token. */
bool oracle_matches(const char *pattern, const char *text);

/* Random ones over a small alphabet, so that they meet. */
void oracle_random_set(struct rnd *r, struct oracle_set *o);
void oracle_random_pattern(struct rnd *r, char *out, bool valid); /* 32 bytes of room each */
void oracle_random_subject(struct rnd *r, char *out, bool wild);  /* wild: perhaps tokens of wildcards, as text */
const char *oracle_random_queue(struct rnd *r);                   /* or null */

#endif
