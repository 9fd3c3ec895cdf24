/* SPDX-License-Identifier: Apache-2.0 */
/* shm/commit.h: the router's commit page, which makes one router turn one step.
 *
 * The memory is the supervisor's; the living router alone writes it. During a turn the router stores no position anywhere.
 * At its end it
 *
 *   1. fills turn[(commit_no + 1) & 1] with the new positions of every link,
 *   2. stores commit_no + 1 (release),
 *   3. stores every ring's owed and produced position, then every ring's consumed position,
 *   4. stores done_no = commit_no.
 *
 * A router that starts and finds commit_no != done_no does steps 3 and 4 again: they are plain stores of known values. Records
 * of a turn that was not committed were never visible to anybody. Two turn areas alternate, so that a half-written turn is
 * never the last committed one.
 *
 * box says what the router is doing, so that a record that kills routers can be found: a record (its link and ring position),
 * a replayed record (its link and connection), or other work, for which no record is to blame (enum commit_work).
 */
#ifndef SHM_COMMIT_H
#define SHM_COMMIT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { LINKS_MAX = 64, FRONTENDS_MAX = 60 /* links 0 to 59; the others are kept for edges of other kinds */ };

enum commit_cursor {
    CURSOR_NONE = 0,
    CURSOR_BEGUN,  /* queue members have been served, no plain target yet */
    CURSOR_SERVED, /* also all plain targets up to cursor_link and cursor_slot */
};

/* One link's positions at the end of a turn. */
struct commit_link {
    uint64_t incarnation; /* of the edge whose positions these are; 0: no link */
    uint64_t egress_produced;
    uint64_t ingress_consumed;
    uint64_t spill_produced; /* overflow of this link's egress (docs/protocol.md, section 6) */
    uint64_t spill_consumed;
    /* The fan-out that stands at ingress_consumed: enum commit_cursor. Targets are served in the order of (link, slot). */
    uint32_t cursor;
    uint32_t cursor_link;
    uint32_t cursor_slot;
    uint32_t
        ended; /* 1: the router has ended this link; its positions mean nothing, and no later router serves it; else 0 */
};

struct commit_turn {
    struct commit_link link[LINKS_MAX];
};

enum { POISON_KEPT = 16 };

/* A record that a router died of. */
struct commit_poison {
    uint64_t wall_s;      /* when its successor found it, seconds since 1970 */
    uint64_t incarnation; /* of the link's edge */
    uint32_t link;
    uint32_t conn;
};

struct commit_page {
    _Alignas(64) _Atomic uint64_t commit_no;
    _Atomic uint64_t done_no;
    _Alignas(64) _Atomic uint64_t box;
    _Alignas(64) struct commit_turn turn[2];
    struct commit_poison poison[POISON_KEPT]; /* newest at poison_count - 1, modulo */
    uint64_t poison_count;                    /* of all that were ever found; the page keeps the last POISON_KEPT */
    _Atomic uint64_t lost_count;              /* records skipped as poison, for the life of the server */
};

/* The box for a record of link at ring position pos. */
static inline uint64_t commit_box(uint32_t link, uint64_t pos) {
    return (uint64_t)(link + 1) << 56 | (pos & 0x00ffffffffffffffu);
}

/* The box for a replayed record. It holds the connection instead of a position, because in the next replay the same record has
 * another position. */
#define BOX_REPLAY ((uint64_t)0x80 << 56)
static inline uint64_t commit_box_replay(uint32_t link, uint32_t conn) {
    return commit_box(link, conn) | BOX_REPLAY;
}

/* What the box holds while the router handles no record. */
enum commit_work {
    WORK_NONE = 0, /* between two pieces of work */
    WORK_CONTROL,  /* a message of the supervisor or of authd */
    WORK_CHANGES,  /* new entries of the account book, applied to connections */
    WORK_TAKEOVER, /* the state that the dead router left, before the first replayed record */
    WORK_REMOVAL,  /* removes subscriptions of connections and links that have ended */
    WORK_RECHECK,  /* checks subscriptions against changed permissions */
    WORK_EGRESS,   /* overflows, marks, the pace of edges */
    WORK_COMMIT,
    WORK_END
};

/* The soft state of one connection number. An entry of a turn that was not committed counts as one generation less. */
struct soft_conn {
    uint32_t closed_generation; /* the highest that was closed; 0: none */
    uint32_t turn;              /* commit number of the turn that closed it, low 32 bits */
};

enum { SOFT_CONNS_MAX = 65536 }; /* connection numbers of one link */

/* One link's soft state, in a memory of its own that the supervisor makes with the link. */
struct soft_link {
    struct soft_conn conn[SOFT_CONNS_MAX];
};

#endif
