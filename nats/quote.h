/* SPDX-License-Identifier: Apache-2.0 */
/* nats/quote.h: texts inside error messages and log lines. */
#ifndef NATS_QUOTE_H
#define NATS_QUOTE_H

#include <stddef.h>

#include "base/view.h"

/* Writes v to out as it stands between double quotes: a backslash before " and \, \a \b \f \n \r \t \v, other control and
 * invalid bytes as \x01, non-printing runes as \u2028 or \U0001f… , printable UTF-8 as it is. At most cap bytes, never half
 * an escape or rune; no NUL. Returns the length. 10 bytes of room for each byte of v are always enough. */
size_t quote_text(char *out, size_t cap, struct view v);

#endif
