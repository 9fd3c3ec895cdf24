/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/family.h: the roles: which processes are started, as which user, and which may talk to which.
 *
 * The table in family.c is the security policy of the whole server: a socket pair or a link that it does not grant is
 * never made.
 */
#ifndef SUPERVISOR_FAMILY_H
#define SUPERVISOR_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/control.pb-c.h"

enum {
    FAMILY_UIDS = 80, /* ids from uid_base that belong to the family */
    FAMILY_ROLE_END = 16,
};

/* Gifts: what a process of a role is given beside its control socket and its log pipe. */
enum family_gift {
    GIFT_KEY = 1 << 0,      /* the binding key */
    GIFT_BOOK_W = 1 << 1,   /* the account book, to write */
    GIFT_BOOK_R = 1 << 2,   /* the account book, to read */
    GIFT_COMMIT = 1 << 3,   /* the commit page */
    GIFT_LINK = 1 << 4,     /* one link of its own, and so connections */
    GIFT_LINKS = 1 << 5,    /* the other end of every link */
    GIFT_LISTENER = 1 << 6, /* a listening socket */
    GIFT_STDERR = 1 << 7,   /* the server's own stderr instead of a log pipe, and the read end of every log pipe */
    GIFT_BRIEF = 1 << 9,    /* nothing: it ends by itself and is none of the children that are watched */
    GIFT_FILES = 1 << 8,    /* as many descriptors as the system allows */
    GIFT_KEYS = 1 << 10,    /* the private keys of TLS */
};

struct family_role {
    Bulkhead__Role role;
    const char *name;       /* in log lines */
    const char *executable; /* in the folder of executables */
    uint32_t uid_offset;    /* of the first process, from uid_base; each further one has the next id */
    uint32_t most;          /* processes at a time */
    uint32_t gifts;         /* enum family_gift */
    uint32_t peers;         /* 1 << role for each role that it has a socket to */
    uint32_t work;          /* longest honest work in one go, in units of patience { hang } (supervisor/hangs.h) */
    const char *death;      /* what follows from its death, for the log line */
};

/* The row of a role; null if there is none. */
const struct family_role *family_role(Bulkhead__Role role);

/* True if the table allows a socket between the two, in both rows. */
bool family_may_talk(Bulkhead__Role a, Bulkhead__Role b);

#endif
