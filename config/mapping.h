/* SPDX-License-Identifier: Apache-2.0 */
/* config/mapping.h: may a subject be mapped to another? */
#ifndef CONFIG_MAPPING_H
#define CONFIG_MAPPING_H

#include "config/text.h"

/* ERR_SYNTAX: not, and the words of nats-server are appended to why. Source and destination as in `mappings`. */
enum err mapping_check(struct view source, struct view destination, struct text *why);

/* Appends the subject with its wildcards replaced by $1, $2 and so on. */
void mapping_number_wildcards(struct text *t, struct view subject);

/* Takes the first token from a subject; false at the end. Start with *rest = the subject and *more = true. */
bool subject_next_token(struct view *token, struct view *rest, bool *more);

#endif
