/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/family.h: the roles: which processes are started, as which user, and which may talk to which.
 *
 * The table in family.c is the security policy of the whole server: a socket pair or a link that it does not grant is
 * never made. What the supervisor does for a role stands in a second table (supervisor/roles.h).
 */
#ifndef SUPERVISOR_FAMILY_H
#define SUPERVISOR_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/control.pb-c.h"
#include "shm/binding.h"

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
    GIFT_LINKS = 1 << 4,    /* the other end of every link */
    GIFT_LISTENER = 1 << 5, /* a listening socket */
    GIFT_STDERR = 1 << 6,   /* the server's own stderr instead of a log pipe, and the read end of every log pipe */
    GIFT_FILES = 1 << 7,    /* as many descriptors as the system allows */
    GIFT_BRIEF = 1 << 8,    /* nothing: it ends by itself, and its packets are no notes */
    GIFT_KEYS = 1 << 9,     /* the private keys of TLS */
};

/* The stages of a reload, in this order (supervisor/reload.c). Each of the last three is where the roles apply the new
 * settings whose row names it. */
enum reload_stage {
    RELOAD_IDLE, /* in a row: the role is told of no reload */
    RELOAD_WAITING,
    RELOAD_READING,
    RELOAD_PREPARING,
    RELOAD_ROUTERS,
    RELOAD_AUTH, /* who has to say yes: without its answer a reload is refused */
    RELOAD_EDGES /* these are not asked; one that refuses is killed */
};

struct family_role {
    Bulkhead__Role role;
    const char *name;         /* in log lines */
    const char *executable;   /* in the folder of executables */
    uint32_t uid_offset;      /* of the first process, from uid_base; each further one has the next id */
    uint32_t most;            /* processes at a time */
    uint32_t gifts;           /* enum family_gift */
    uint32_t peers;           /* 1 << role for each role that it has a socket to */
    uint32_t without;         /* enum wall: walls that it cannot work behind, also where they are granted; 0: it has all */
    enum link_kind kind;      /* of an edge: each process has a link of this kind; 0: it is no edge */
    uint32_t first_link;      /* the number of the first process's link; each further one has the next number */
    enum reload_stage reload; /* where it applies new settings */
    uint32_t parts;           /* 1 << enum reader_part for each part of the configuration that it is given */
    uint32_t start;           /* its turn when the server starts, from 1; 0: it is started when there is a use for it */
    uint32_t work;            /* longest honest work in one go, in units of patience { hang } (supervisor/hangs.h) */
    const char *death;        /* what follows from its death, for the log line */
};

/* The row of a role; null if there is none. */
const struct family_role *family_role(Bulkhead__Role role);

/* True if the table allows a socket between the two, in both rows. */
bool family_may_talk(Bulkhead__Role a, Bulkhead__Role b);

#endif
