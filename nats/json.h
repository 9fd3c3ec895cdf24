/* SPDX-License-Identifier: Apache-2.0 */
/* nats/json.h: jansson, as every process of the family uses it. */
#ifndef NATS_JSON_H
#define NATS_JSON_H

#include <stdbool.h>

/* Once per process, before its sandbox closes: seeds jansson (which would open a file for that at its first object) and
 * makes it wipe what it frees. What uses jansson calls it again for itself; then it does nothing, or needs getrandom
 * alone. */
void json_prepare(void);

/* True if jansson has asked for memory that was not there since the last call of this; it does not always say so itself. */
bool json_ran_short(void);

/* Wipes and frees a piece of malloc; NULL is allowed. */
void json_wipe(void *piece);

#endif
