/* SPDX-License-Identifier: Apache-2.0 */
/* shm/record.h: the records that travel on rings, byte by byte.
 *
 * A record is a header of 24 bytes, a fixed part that its type asks for, targets of 8 bytes each, then subject, reply and
 * payload without padding. Numbers are in the machine's byte order: both sides are the same machine. Each record starts at a
 * multiple of 8. docs/protocol.md has the meaning of each and the table of state, record, action.
 *
 *   0        4     5      6             8      12             16          18             20    24
 *   | len    | type| flags| subject_len | conn | payload_len  | reply_len | target_count | aux |
 *
 * A reader copies the header once (record_take) and checks that copy; subject, reply and queue names it copies too before it
 * looks at them. The payload alone is passed on as it lies.
 */
#ifndef SHM_RECORD_H
#define SHM_RECORD_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"

enum record_type {
    /* edge to router */
    RECORD_BIND = 1,     /* payload: a sealed binding (shm/binding.h). The first record of every connection */
    RECORD_OPTIONS,      /* aux: bits of enum record_options */
    RECORD_SUB,          /* fixed: struct record_sub; subject, reply = queue name */
    RECORD_UNSUB,        /* fixed: struct record_unsub */
    RECORD_PUB,          /* subject, reply, payload; aux: bytes of the payload that are the header block */
    RECORD_GATE,         /* aux: enum record_gate */
    RECORD_CLOSE,        /* the client has gone: the connection's last record */
    RECORD_REPLAY_BEGIN, /* replay ring only; aux: epoch that asked for it */
    RECORD_REPLAY_END,   /* replay ring only; aux: the same epoch */

    /* router to edge */
    RECORD_DELIVER = 32, /* targets, subject, reply, payload; aux: header block bytes */
    RECORD_DELIVER_MORE, /* targets; the message is that of the RECORD_DELIVER before it */
    RECORD_OK,           /* conn: answer to one record with RECORD_ANSWER */
    RECORD_DENY,         /* conn; aux: enum record_deny; subject, reply = queue name; of subscriptions one target */
    RECORD_KICK,         /* conn; aux: enum record_kick. Nothing of that connection is handled any more but its CLOSE */
    RECORD_STALL,        /* conn; aux: stop reading it for so many ms, RECORD_STALL_MS_MAX at most */
    RECORD_RESUME,       /* conn: go on earlier */
    RECORD_SLOT_FREE,    /* conn; aux: slot. Nothing for that slot follows */
    RECORD_CONN_FREE,    /* conn: nothing for it nor its slots follows */
    RECORD_EPOCH,        /* aux: epoch of the router whose records begin here */
    RECORD_TYPE_END
};

enum record_flags {
    RECORD_ANSWER = 1,    /* edge to router: write OK or DENY for this record before what it causes */
    RECORD_MORE = 2,      /* DELIVER(_MORE): a RECORD_DELIVER_MORE follows at once */
    RECORD_UNCOUNTED = 4, /* DELIVER: does not count as delivered (a 503) */
};

enum record_options {
    RECORD_ECHO = 1,          /* own messages come back */
    RECORD_HEADERS = 2,       /* header blocks are understood */
    RECORD_NO_RESPONDERS = 4, /* wants a 503 when nobody is there */
    RECORD_VERBOSE = 8,
    RECORD_PEDANTIC = 16,
    RECORD_OPTIONS_ALL = 31
};

/* What an edge says of a connection's output. */
enum record_gate {
    RECORD_GATE_OPEN = 0, /* it has drained */
    RECORD_GATE_FULL,     /* it fills */
    RECORD_GATE_DRAINS,   /* it is still full, but its client reads */
};

/* Why a record was refused. The connection goes on. */
enum record_deny {
    RECORD_DENY_PUBLISH = 1, /* subject */
    RECORD_DENY_REPLY,       /* subject holds the reply */
    RECORD_DENY_SUB,         /* subject, queue */
    RECORD_DENY_TOKENS,      /* subject */
    RECORD_DENY_MAX_SUBS,    /* the connection's or account's subscriptions are used up */
    RECORD_DENY_SUBJECT,     /* not a valid subject to subscribe to */
    RECORD_DENY_REMOVED,     /* subject, queue, target: changed permissions do not allow that subscription any more; its
                              * SLOT_FREE follows */
    RECORD_DENY_MEMORY,      /* the connection, the account or the router has no memory left for it */
    RECORD_DENY_END
};

/* Why the router ends a connection. */
enum record_kick {
    RECORD_KICK_BINDING = 1, /* the binding was refused */
    RECORD_KICK_EXPIRED,     /* the binding has expired */
    RECORD_KICK_REVOKED,     /* below a floor */
    RECORD_KICK_ACCOUNT_CONNS,
    RECORD_KICK_MEMORY,  /* no memory on its behalf */
    RECORD_KICK_POISON,  /* two routers died of its records */
    RECORD_KICK_REFUSED, /* its user is gone, or has other credentials now */
    RECORD_KICK_MOVED,   /* its user belongs to another account now: ended without a word */
    RECORD_KICK_PAYLOAD, /* a message beyond its payload limit, which may be lower than the edge knows */
    RECORD_KICK_END
};

struct record {
    uint32_t len; /* header, fixed part, targets, texts and payload; the next record begins at the next multiple of 8 */
    uint8_t type;
    uint8_t flags;
    uint16_t subject_len;
    uint32_t conn;
    uint32_t payload_len; /* header block included */
    uint16_t reply_len;
    uint16_t target_count;
    uint32_t aux;
};

struct record_sub {
    uint32_t slot;
    uint32_t after;     /* a slot of the same sid that must have ended, or RECORD_NO_SLOT */
    uint32_t delivered; /* messages since SUB; 0 except in a replay */
    uint32_t max;       /* 0 except in a replay */
};

struct record_unsub {
    uint32_t slot;
    uint32_t max; /* 0: now */
};

struct record_target {
    uint32_t conn;
    uint32_t slot;
};

enum {
    RECORD_HEADER = 24,
    RECORD_TARGETS_MAX = 4096,
    RECORD_TEXT_MAX = 65535, /* subject and reply each */
    RECORD_STALL_MS_MAX = 1000,
};
#define RECORD_NO_SLOT UINT32_MAX

_Static_assert(sizeof(struct record) == RECORD_HEADER, "a record's header has 24 bytes");

/* Bytes of the largest record for a payload limit. A ring must hold four of them. */
static inline uint64_t record_bytes_max(uint64_t payload_max, uint64_t control_line_max) {
    uint64_t texts = control_line_max < RECORD_TEXT_MAX ? control_line_max : RECORD_TEXT_MAX;
    return RECORD_HEADER + 8u * RECORD_TARGETS_MAX + 2 * texts + payload_max + 8;
}

enum { RECORD_RESERVE = 64 * 1024 }; /* bytes of an egress ring or overflow that messages leave to control records */

/* Least bytes of an overflow: with fewer the largest message would find no room even in an empty overflow. */
static inline uint64_t record_spill_least(uint64_t payload_max, uint64_t control_line_max) {
    return record_bytes_max(payload_max, control_line_max) + RECORD_RESERVE;
}

/* Where a record's parts lie, from its start. */
struct record_parts {
    uint32_t targets;
    uint32_t subject;
    uint32_t reply;
    uint32_t payload;
};

/* Copies the header that lies at `at` and checks the copy: a known type of that direction, the parts that the type may
 * have, lengths that add up to len exactly, and not more than `ready` bytes. ERR_HOSTILE otherwise. Reads the memory once.
 * Nothing beyond the header is looked at. */
enum record_direction { RECORD_TO_ROUTER, RECORD_TO_EDGE };
enum err record_take(struct record *copy, struct record_parts *parts, const uint8_t *at, uint64_t ready,
                     enum record_direction direction);

/* Bytes of a record with these parts, not rounded. */
static inline uint64_t record_len(uint64_t fixed, uint64_t targets, uint64_t subject, uint64_t reply,
                                  uint64_t payload) {
    return RECORD_HEADER + fixed + 8 * targets + subject + reply + payload;
}

#endif
