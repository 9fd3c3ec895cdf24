/* SPDX-License-Identifier: Apache-2.0 */
/* nats/connect.h: the JSON of CONNECT.
 *
 * A CONNECT may come more than once: keys that are present overwrite, absent ones (and null) keep what was. Key case is
 * ignored, of a key that comes twice the last wins, unknown keys are passed over, a wrong type refuses the whole line.
 */
#ifndef NATS_CONNECT_H
#define NATS_CONNECT_H

#include <stdint.h>

#include "base/err.h"
#include "base/view.h"

enum { CONNECT_TEXT_COUNT = 12 };

enum connect_text {
    CONNECT_USER,
    CONNECT_PASS,
    CONNECT_AUTH_TOKEN,
    CONNECT_NKEY,
    CONNECT_JWT,
    CONNECT_SIG,
    CONNECT_NAME,
    CONNECT_LANG,
    CONNECT_VERSION,
    CONNECT_ACCOUNT,
};

struct connect {
    bool verbose;       /* default true */
    bool pedantic;      /* default true */
    bool echo;          /* default true */
    bool headers;       /* default false */
    bool no_responders; /* default false */
    bool tls_required;  /* ignored */
    bool new_account;   /* refused if true */
    int protocol;       /* default 0; checked by the caller, after authentication; beyond int: INT_MIN or INT_MAX */
    /* Owned copies, NUL-terminated (NUL bytes inside are dropped with what follows); null: absent or empty. */
    char *text[CONNECT_TEXT_COUNT];
};

/* The values that hold when no CONNECT is sent. */
void connect_init(struct connect *c);

/* Merges json into *c. ERR_SYNTAX: not a JSON object, or a key of the wrong type; *c is then unchanged. ERR_NOMEM. Empty
 * json is ERR_SYNTAX; `null` is an empty object. Bytes that are not UTF-8 are accepted. */
enum err connect_parse(struct connect *c, struct view json);

/* True if json is an object or `null`, as INFO from a client must be. */
bool connect_is_object(struct view json);

/* Wipes and frees all texts that are credentials (user to sig); the name, lang, version stay. */
void connect_wipe(struct connect *c);

/* Wipes and frees everything. */
void connect_free(struct connect *c);

#endif
