/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/secrets.h: memory for what a client must never have shown to anybody but authd.
 *
 * Pieces come from one locked region that is left out of core dumps; when it is used up, or for a piece that is too long,
 * from ordinary memory. Either is wiped when it is given back.
 */
#ifndef FRONTEND_SECRETS_H
#define FRONTEND_SECRETS_H

#include <stddef.h>

/* Once per process, before its sandbox closes. Says in the log if the region could not be locked. */
void secrets_prepare(void);

/* len bytes; null: no memory. */
void *secrets_take(size_t len);
void secrets_give(void *piece, size_t len); /* the length that was asked for; null is fine */

#endif
