/* SPDX-License-Identifier: Apache-2.0 */
/* config/jwt.h: is a text a JWT as operators and accounts have them? */
#ifndef CONFIG_JWT_H
#define CONFIG_JWT_H

#include <stdbool.h>

#include "config/text.h"

/* Checks form, issuer and signature, nothing else: what it grants is for authd. type is "operator" or "account". On
 * ERR_SYNTAX the words of nats-server are appended to why. */
enum err jwt_check(struct view jwt, const char *type, struct text *why);

#endif
