/* SPDX-License-Identifier: Apache-2.0 */
/* router/router.h: the kernel's own state.
 *
 * One thread, one loop (router/main.c). A turn goes round the links (router/turn.c), takes records (router/records.c), and ends
 * with one commit. The files:
 *
 *   links.c     memory of a link, its tables of connections and slots
 *   leave.c     the end of a link
 *   admit.c     BIND, OPTIONS, CLOSE: the one way in and the one way out for a connection
 *   interest.c  SUB, UNSUB
 *   rights.c    what a connection may do: its permission set (permissions.c) and its open replies (shm/replies.h)
 *   publish.c   PUB: may it be published, and what follows when no subscription gets it
 *   plan.c      which subscriptions get a message, and is there room
 *   choose.c    one member of each queue group
 *   deliver.c   DELIVER records, and what a delivery means for a subscription
 *   fanout.c    messages for more targets than one step serves
 *   removal.c   subscriptions of connections and links that have ended
 *   changes.c   what a changed account book means for connections
 *   egress.c    everything that is written to an edge: ring, overflow, control marks
 *   memory.c    bounds of the memory of subscriptions, and the connections that are closed for it
 *   stall.c     publishers of connections that do not read
 *   accounts.c  accounts, permission sets, floors and permits, from the account book alone
 *   poison.c    the record, or other work, that the dead router was doing
 *   replay.c    what a new router learns from its edges
 *
 * Nothing here blocks, and nothing on the way of a message allocates.
 */
#ifndef ROUTER_ROUTER_H
#define ROUTER_ROUTER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "base/hash.h"
#include "base/list.h"
#include "base/slab.h"
#include "ipc/channel.h"
#include "ipc/settings.h"
#include "router/permissions.h"
#include "router/sublist.h"
#include "shm/binding.h"
#include "shm/book.h"
#include "shm/commit.h"
#include "shm/counters.h"
#include "shm/record.h"
#include "shm/replies.h"
#include "shm/ring.h"

enum {
    CHUNK = 1024, /* entries of one piece of a table */
    SLOT_CHUNKS_MAX = 16 * 1024,
    SLOTS_MAX = SLOT_CHUNKS_MAX * CHUNK, /* of one link */
    CONN_CHUNKS_MAX = SOFT_CONNS_MAX / CHUNK,
    ACCOUNTS_MAX = 64 * 1024,
    CONTROL_RESERVE = RECORD_RESERVE, /* bytes of an egress ring that messages leave to control records */
    SPREAD_SUBS = 32 * 1024,    /* subscriptions of one account from which on the next records are looked at ahead */
    SETS_MAX = 1 << 20,         /* permission sets */
    FANOUT_AT_ONCE = 16 * 1024, /* targets of a message that is planned and written in one step */
    FANOUT_WARY = 2 * 1024,     /* the same while each target has to be looked at */
    SCRATCH = 2 * (RECORD_TEXT_MAX + 1) + 64,
};

enum conn_state {
    CONN_FREE = 0,
    CONN_BOUND,
    CONN_KICKED,  /* refused or ended by the router: everything but CLOSE is ignored; subscriptions are being removed */
    CONN_CLOSING, /* CLOSE was taken, subscriptions are being removed */
};

/* Marks that become records when there is room. Each connection has at most one of each, so they are bounded. */
enum conn_mark { MARK_KICK = 1, MARK_STALL = 2, MARK_RESUME = 4, MARK_FREE = 8, MARK_QUEUED = 128 };

struct conn {
    uint8_t state;
    uint8_t options; /* enum record_options */
    uint8_t marks;   /* enum conn_mark */
    uint8_t kick;    /* enum record_kick, with MARK_KICK */
    bool limited;    /* not all that it publishes is allowed: rights_publish decides */
    bool rechecking; /* its permissions have changed: what it subscribes to is looked at again, from recheck_at on */
    bool responding; /* it has the right to answer (rights.c) */
    bool gated;      /* its output fills: connections that publish to it are stalled */
    bool leaving;    /* in its link's list of connections whose subscriptions are being removed */
    uint32_t generation;
    uint32_t account;
    uint32_t principal;
    uint32_t first_sub; /* head of the list over struct sub's conn_next; 0: none */
    uint32_t sub_count;
    uint32_t subs_max;     /* shm/limit.h */
    uint32_t recheck_at;   /* the next of its subscriptions; 0: none left */
    uint32_t leaving_next; /* number + 1 of the connection behind it in that list; 0: none */
    uint32_t permissions;  /* number of its set; 0: none, all is allowed */
    uint32_t payload_max;  /* bytes of one message; UINT32_MAX: no limit of its own */
    struct permissions *set;
    uint64_t serial;    /* the highest that this number was ever bound with */
    uint64_t expires_s; /* seconds since 1970; 0: never */
    /* As a slow reader (stall.c): */
    uint64_t gated_at;   /* ns, while gated: since when */
    uint64_t took_at;    /* ns, while gated: when it last took something, or was gated */
    struct list stalled; /* the publishers that are stalled for its sake */
    /* As a publisher: */
    struct list_link stalled_by;        /* on such a list, or on a link's */
    uint64_t stalled_until;             /* ns */
    uint64_t sub_bytes, sub_bytes_most; /* price of its subscriptions in bytes: now, and the most since BIND */
    uint64_t stall_window;              /* ns: start of the second in which stall_used counts */
    uint32_t stall_used;                /* ms in that second that it was stalled for the sake of links */
    uint32_t stalled_number;            /* its own connection number, while it is on a list */
    uint8_t stalled_link;
};

enum link_state {
    LINK_NONE = 0,
    LINK_MAPPED, /* memory is here; no traffic before the takeover has ended */
    LINK_REPLAY, /* its edge must replay, or does */
    LINK_LIVE,
    LINK_ENDING, /* its edge is gone or must go: nothing is read or written any more, its state is being removed */
};

/* The overflow of a link's egress: whole records in order, mapped twice like a ring; positions live in the commit page. */
struct spill {
    uint8_t *area;
    uint64_t cap;
    uint64_t head_pos, tail_pos;
};

/* A target that was pinned: the subscription in that slot, as long as it has that stamp. */
struct fanout_target {
    uint32_t link;
    uint32_t slot;
    uint32_t stamp;
};
enum fanout_phase {
    FANOUT_NONE,
    FANOUT_PINNING, /* targets are being put into the order of (link, slot); nothing has been delivered */
    FANOUT_SERVING, /* queue members have been served, plain targets are being served in that order */
};
struct fanout_pins; /* fanout.c; with FANOUT_PINNING alone */

/* A message for more targets than one step serves. It belongs to the source link, whose ring stands at that record. */
struct fanout {
    enum fanout_phase phase;
    bool served; /* at least one target has got it */
    uint32_t at, count, cap;
    struct fanout_target *target;
    struct fanout_pins *pins;
    struct record rec; /* as it was checked; only the payload is read from the ring again */
    struct record_parts parts;
    uint8_t *names; /* subject, reply */
    uint32_t names_cap;
};

/* A choice of queue members that goes on in the next turn (choose.c). It belongs to the source link likewise. */
struct chosen {
    struct sub *sub;
    uint32_t stamp;
};
struct choice {
    bool active;
    uint32_t queue; /* groups with lower numbers are done; of this group `looked` members were tried, from `first` on */
    uint32_t first, looked;
    struct chosen second; /* a member of this group that can take it, but its link spills */
    struct chosen *done;  /* the chosen members of the groups that are done */
    uint32_t count, cap;
};

struct link {
    uint8_t state; /* enum link_state */
    uint8_t number;
    uint8_t kind; /* enum link_kind */
    bool dirty;   /* positions changed in this turn */
    bool spilling;
    bool epoch_due; /* EPOCH has not found room yet */
    uint64_t incarnation;
    struct ring_map ingress_map, egress_map, replay_map;
    struct ring_reader ingress, replay;
    struct ring_writer egress;
    struct spill spill;
    struct soft_link *soft;
    int bell_in, bell_out; /* the edge rings bell_in, the router bell_out */

    uint32_t conn_high; /* numbers below have been used */
    struct conn *conn_chunk[CONN_CHUNKS_MAX];
    uint32_t slot_high;
    uint32_t **slot_chunk; /* SLOT_CHUNKS_MAX pointers; an entry is a sub's index, 0: no live subscription */
    uint32_t gated_count;
    uint32_t recheck_room; /* bytes of egress room that the next removal by recheck needs; 0: not known */

    /* Connections with marks, oldest first: a ring of numbers that grows. */
    uint32_t *marked;
    uint32_t marked_at, marked_count, marked_cap;

    const char *failed; /* why it is to end (link_fail); null: it is not */
    uint64_t work;      /* price of all its records so far, in units */

    /* This link as a source: the record at the head of its ring waits for room in wait_link's egress. */
    bool waiting;
    uint8_t wait_link;
    uint64_t wait_since; /* ns */
    struct fanout fanout;
    struct choice choice;
    struct commit_link resume; /* where the dead router stood; its cursor is for the first record alone */
    uint64_t poison_pos;       /* record to skip; UINT64_MAX: none */

    /* This link as a destination. */
    uint64_t waited_window;            /* ns: start of the second in which waited_ns counts */
    uint64_t waited_ns;                /* how long sources have waited for it in that second */
    uint64_t full_since;               /* ns: no progress since, while something waits; 0: it moves */
    uint64_t full_consumed;            /* its position at that time */
    bool lively;                       /* it spills, but has taken half of its ring in the last LIVELY_NS */
    uint64_t lively_since, lively_pos; /* start of the present LIVELY_NS, and its consumed_pos then */
    struct list stalled;               /* publishers that are stalled because it spills */
    uint32_t waiters, deaf_waiters;    /* sources that wait for it; of them, those whose publishers cannot be stalled */
    uint64_t held_at;                  /* ns: held_ns and deaf_held_ns are counted up to here */
    uint64_t held_window;              /* ns: start of the second that they are counted in */
    uint64_t held_ns, deaf_held_ns;    /* how long its full overflow has held waiters, deaf_waiters */

    uint32_t leaving_first, leaving_last; /* number + 1 of connections whose subscriptions are being removed; 0: none */
    uint32_t end_conn;                    /* LINK_ENDING: next connection to clear */
    bool end_told;                        /* NOTE_LINK_BAD was sent */
    bool down;                            /* the supervisor says that the edge is gone: unmap when empty */
    uint64_t heard_ns;                    /* takeover: when its overflow or its replay last made progress */
    bool replaying;                       /* REPLAY_BEGIN of this epoch has been seen */
};

/* One user's floor and permit, from the book. */
struct standing {
    uint32_t principal;
    uint32_t kick;   /* enum record_kick, for bindings below the floor */
    uint64_t floor;  /* lowest valid serial */
    uint64_t permit; /* bindings with a lower serial have these permissions and this payload_max; 0: no permit */
    uint32_t permissions;
    uint32_t payload_max;
};

struct account {
    uint32_t number;
    uint32_t conns_max, subs_max;
    uint32_t conn_count, sub_count;
    uint64_t used_bytes, held_bytes; /* of its subscriptions; held_bytes counts free pieces too (memory.c) */
    uint64_t leaving_bytes;          /* price of subscriptions that are being removed */
    uint64_t floor;                  /* lowest valid serial of any principal */
    uint32_t floor_kick;             /* enum record_kick */
    bool changed;                    /* floors and permits are not yet applied to its connections */
    struct standing *standing;       /* of single principals, by principal */
    uint32_t standing_count, standing_cap;
    struct sublist *sublist;
    char name[BOOK_NAME_MAX + 1];
};

/* A connection whose subscriptions are looked at again, step by step. */
struct rechecked {
    uint8_t link;
    uint32_t conn;
};

enum changes_phase {
    CHANGES_APPLY,   /* each connection is held against its account's floors and permits */
    CHANGES_COLLECT, /* connections of accounts that have more than they may are noted */
    CHANGES_THIN,    /* of those the newest end, one after the other */
};
struct changes_member; /* changes.c */

/* How far the changes of the account book have been applied to the connections (changes.c). */
struct changes {
    bool active;
    enum changes_phase phase;
    uint8_t link; /* the next to be looked at */
    uint32_t conn;
    struct changes_member *member; /* those that were noted, as a heap: the newest on top */
    uint32_t count, cap;
};

/* Reasons to look at each target of a message. */
enum wary {
    WARY_DEAD = 1,      /* some subscriptions belong to closing connections or ending links */
    WARY_FILTERS = 2,   /* some have SUB_FILTERED */
    WARY_RECHECKS = 4,  /* some connections are being rechecked */
    WARY_RESPONSES = 8, /* some connections have the right to answer */
};

/* struct sub's flags. */
enum { SUB_FILTERED = 1 }; /* messages may come to it that a deny rule keeps from it */

struct router {
    struct settings settings;
    struct settings_change change; /* prepared, not yet in force */
    struct hash_key hash;
    struct binding_key key;
    bool have_key, have_settings;
    struct counters *counters;
    struct commit_page *page;
    uint64_t commit_no;
    uint32_t epoch;
    int died_signal;   /* that the dead router died of; 0: none, or not by its own fault */
    uint64_t died_box; /* the dead router's box (shm/commit.h) */
    struct book book;
    bool recovered;                   /* the dead router's commits have reached the rings: edges may replay */
    bool running;                     /* the takeover has ended: records are taken */
    bool heard;                       /* some edge has begun to replay */
    uint64_t takeover_ns, stepped_ns; /* when the stage of the takeover began, when its last step was */
    bool begun;                       /* Begin has come */
    bool failing;                     /* some link is marked by link_fail */
    bool commit_due;                  /* a link has ended: the commit page must say so, whatever else the turn did */
    bool expiring;                    /* some binding has an expiry */
    bool spread; /* some account has more subjects than caches hold: the next records' subjects are prefetched */

    struct link link[LINKS_MAX];
    uint32_t link_high;
    uint32_t turn_first;      /* link that this turn begins with */
    uint64_t turn_bytes;      /* records taken in this turn */
    uint64_t turn_units_most; /* of one turn */
    uint64_t cut_logged;      /* ns: when a match that was cut was last logged */
    uint64_t work;            /* units of all that was ever done (router/cost.h); prices are differences */

    struct account **account; /* by number */
    uint32_t account_high;
    struct permissions **set; /* by number */
    uint32_t set_high;
    struct permissions_tools tools;
    struct replies replies;

    struct slab slab;
    struct sub **sub_chunk;      /* pool of subscriptions, by index */
    uint32_t sub_high, sub_free; /* free list over conn_next */
    uint32_t stamp;
    uint64_t sub_count;
    uint64_t used_bytes, held_bytes, leaving_bytes; /* sums over the accounts */
    uint64_t memory_next;                           /* ns: when memory_watch may close the next connection */

    uint32_t leaving_count; /* connections in the lists of all links */
    struct changes changes;
    bool book_read_due; /* authd is to hear how far the book was read */
    struct rechecked *recheck;
    uint32_t recheck_count, recheck_cap;
    uint32_t filtered_count, responding_count; /* subscriptions, connections */
    uint8_t wary;                              /* enum wary */
    uint64_t message_no;                       /* of the last message that was held against deny rules */
    uint32_t spilling_count;
    uint32_t waiting_count;

    /* Memory for plans of messages, used by one after the other (router/message.h). */
    struct match match, match_reply;
    struct sub **targets;
    uint32_t targets_cap;
    uint64_t random;
    uint64_t now;  /* ns, once per turn */
    uint64_t wall; /* s */
    uint8_t scratch[SCRATCH];
    char pattern[RECORD_TEXT_MAX]; /* of a subscription that is looked at again */

    struct channel control, authd;
    bool authd_open;
    int epoll;
};

enum step {
    STEP_DONE,
    STEP_KICK, /* done, and the record's connection is to end */
    STEP_WAIT, /* no room at a link: the record stays, nothing was written for it */
    STEP_BAD,  /* impossible for an honest edge: end the link */
    STEP_MORE, /* it goes on in the next turn; what was written may be committed */
    /* of a message's plan alone, within publish.c */
    STEP_LARGE, /* too much for one step */
    STEP_NOMEM, /* no memory: the message is lost, and its publisher ends */
};

/* What became of one record, and what its caller has to do. */
struct outcome {
    enum step step;
    enum record_kick kick;  /* with STEP_KICK: why */
    struct link *waits_for; /* with STEP_WAIT: the link that has no room; else null */
};

static inline struct outcome outcome_of(enum step step) {
    return (struct outcome){.step = step};
}

static inline struct outcome outcome_wait(struct link *l) {
    return (struct outcome){.step = STEP_WAIT, .waits_for = l};
}

static inline struct outcome outcome_kick(enum record_kick why) {
    return (struct outcome){.step = STEP_KICK, .kick = why};
}

/* ---- links.c ---- */
struct conn *link_conn(struct link *l, uint32_t number); /* null beyond the table */
/* The same for a number that may be the next new one. Null: beyond the table, or no memory. */
struct conn *link_conn_make(struct link *l, uint32_t number);
uint32_t link_slot(const struct link *l, uint32_t slot);
enum err link_slot_make(struct link *l, uint32_t slot); /* ERR_RANGE, ERR_NOMEM */
void link_slot_set(struct link *l, uint32_t slot, uint32_t sub);
struct sub *router_sub(const struct router *r, uint32_t index);
uint32_t router_sub_take(struct router *r); /* 0: no memory */
void router_sub_give(struct router *r, uint32_t index);
enum err link_map(struct router *r, uint32_t number, uint8_t kind, uint64_t incarnation, const int *fds);
enum err link_open(struct router *r, struct link *l); /* rings and overflow at the positions of the commit page */
void link_fail(struct router *r, struct link *l, const char *why); /* a mark: it is ended before the next commit */
void link_unmap(struct router *r, struct link *l);
void link_ring(struct link *l);

/* ---- leave.c ---- */
/* Nothing more is taken from it nor given to it. Not while a record is handled: link_fail. */
void link_end(struct router *r, struct link *l, const char *why);
void links_end_failed(struct router *r);          /* ends those that are marked */
void link_bury(struct router *r, struct link *l); /* forgets what was begun of its records, and its memory */
/* Links whose edge has gone, when nothing of them is left: buried, and NOTE_LINK_GONE sent. True if something was done. */
bool links_clear(struct router *r);

/* ---- egress.c ---- */
/* Room for len bytes of records now? Only asks; a link that is found to be broken, or full and slow, is marked (link_fail).
 * control: they may use the reserve. */
bool egress_has_room(struct router *r, struct link *l, uint64_t len, bool control);
uint8_t *egress_claim(struct link *l);
void egress_advance(struct router *r, struct link *l, uint64_t len);
/* A record without texts; room was made sure of. */
void egress_small(struct router *r, struct link *l, enum record_type type, uint32_t conn, uint32_t aux);
enum { SMALL = RECORD_HEADER };
void egress_mark(struct router *r, struct link *l, uint32_t number, enum conn_mark mark);
bool egress_marks_write(struct router *r, struct link *l);
bool egress_spill_deep(const struct link *l); /* so much lies in its overflow that its publishers must slow down */
bool egress_spill_write(struct router *r, struct link *l); /* overflow to ring; true if something moved */
/* A source cannot go on because l has no room: decides between waiting and spilling. True: try again at once. */
bool egress_wait(struct router *r, struct link *source, struct link *l);
void egress_wait_end(struct router *r, struct link *source);
/* Goes on counting what an ending link's edge has not taken (COUNTER_LOST); true when all is counted. */
bool egress_lost_step(struct router *r, struct link *l);
void egress_watch(struct router *r, struct link *l); /* marks the link of an edge that makes no progress */

/* ---- accounts.c ---- */
struct account *account_find(struct router *r, uint32_t number);     /* null: not in the book */
bool account_is_crowded(const struct account *a);                    /* it has more connections than it may */
void accounts_read(struct router *r);                                /* takes what is new in the book */
uint64_t account_floor(const struct account *a, uint32_t principal); /* lowest valid serial */
/* What there is to say of that principal, or null. */
const struct standing *account_standing(const struct account *a, uint32_t principal);
struct permissions *account_set(struct router *r, uint32_t number); /* null: not in the book */

/* ---- changes.c ---- */
void changes_begin(
    struct router *r); /* what the book says has changed: all connections are looked at from the first on */
bool changes_step(
    struct router *r); /* goes on with that; true if it did something. r->changes.active: it is not over */
void changes_free(struct changes *at);

/* ---- removal.c ---- */
/* Has the subscriptions of a connection that is kicked or closing removed: at once if they are few, else step by step. What
 * follows from the end of that (CONN_FREE) is done here. */
void removal_add(struct router *r, struct link *l, uint32_t number, struct conn *c);
void removal_queue(struct router *r, struct link *l, uint32_t number, struct conn *c); /* the same, nothing at once */
bool removal_step(struct router *r); /* goes on with removals, those of ending links too; true if it did something */
bool link_is_clear(const struct link *l);   /* of an ending link's connections nothing is left */
bool removal_waits(const struct router *r); /* there is something left to remove */

/* ---- admit.c ---- */
enum step admit_bind(struct router *r, struct link *l, const struct record *rec, const uint8_t *sealed, bool replay);
void admit_kick(struct router *r, struct link *l, uint32_t number, enum record_kick why);
/* more: 1, or -1, live connections of that link. */
void admit_count(struct router *r, const struct link *l, int more);

/* A BIND that killed a router: the connection is there, and ended. */
enum step admit_poisoned(struct router *r, struct link *l, uint32_t number);
void admit_close(struct router *r, struct link *l, uint32_t number, struct conn *c);
/* A record of it killed a router: as admit_close, or as admit_kick, but nothing that it has is touched before the turn of this
 * record has been committed. */
void admit_close_poisoned(struct router *r, struct link *l, uint32_t number, struct conn *c);
void admit_kick_poisoned(struct router *r, struct link *l, uint32_t number);
void admit_expire(struct router *r);
void admit_recover(struct router *r,
                   struct link *l); /* what was closed in a turn that was not committed is open again */

/* ---- interest.c ---- */
struct outcome interest_sub(struct router *r, struct link *l, struct conn *c, const struct record *rec,
                            const struct record_parts *parts, const uint8_t *at, bool replay);
struct outcome interest_unsub(struct router *r, struct link *l, struct conn *c, const struct record *rec,
                              const uint8_t *at);
/* Takes a subscription out of everything; the slot's number is free for the table, nothing is written. */
void interest_drop(struct router *r, struct link *l, struct conn *c, uint32_t index);

/* ---- rights.c ---- */
enum right {
    RIGHT_NO = 0,
    RIGHT_YES,
    RIGHT_LATER, /* the permissions are being compiled: STEP_MORE */
};
/* Gives a connection that is bound its permissions, and has what it subscribes to looked at again if it may have any of it.
 * permissions 0: all is allowed; payload_max 0: no limit. ERR_RANGE: there is no such set. ERR_NOMEM: the connection has to end. */
enum err rights_give(struct router *r, struct link *l, uint32_t number, struct conn *c, uint32_t permissions,
                     uint32_t payload_max);
/* Has all that it subscribes to looked at again. ERR_NOMEM: the connection has to end. */
enum err rights_recheck(struct router *r, struct link *l, uint32_t number, struct conn *c);
void rights_end(struct router *r, struct conn *c); /* the connection is bound no more */
/* May a limited connection publish this? A right to answer is spent by it once, however often the same record is asked about. */
enum right rights_publish(struct router *r, struct link *l, const struct conn *c, const struct record *rec,
                          struct view subject);
/* May it subscribe? *flags gets the subscription's. */
enum right rights_subscribe(struct router *r, struct conn *c, struct view subject, struct view queue, uint16_t *flags);
/* May a message of that subject go to s, which is filtered or whose connection is being rechecked? *message_no as
 * permissions_deliver; 0: it gets one. */
enum right rights_deliver(struct router *r, const struct sub *s, struct conn *c, struct view subject,
                          uint64_t *message_no);
/* These targets get a message with that reply: some may answer. */
void rights_delivered(struct router *r, struct sub *const *targets, uint32_t count, struct view reply);
void rights_sub_flags(struct router *r, struct sub *s, uint16_t flags);
bool rights_recheck_step(struct router *r);  /* goes on with rechecks; true if it did something */
bool rights_recheck_waits(struct router *r); /* there is none, or those that are left have no room */
void router_wary(struct router *r, enum wary why, bool on);

/* ---- memory.c ---- */
/* Would a subscription of that price be too much for the connection, its account or this process? */
bool memory_refuses(const struct router *r, const struct conn *c, const struct account *a, uint64_t price);
void memory_charge(struct router *r, struct conn *c, struct account *a, uint64_t price); /* it was inserted */
void memory_refund(struct router *r, struct conn *c, struct account *a, uint64_t price); /* it was removed */
void memory_leaves(struct router *r, struct conn *c); /* the connection is bound no more; what it has will be removed */
void memory_watch(struct router *r);                  /* beyond the process's limit: ends connections that have most */

/* ---- publish.c ---- */
struct outcome publish(struct router *r, struct link *l, struct conn *c, const struct record *rec,
                       const struct record_parts *parts, const uint8_t *at);
/* The record at the head of l is not handled further: forgets what was begun of it. */
void publish_drop(struct link *l);

/* ---- fanout.c ---- */
enum commit_cursor fanout_cursor(const struct fanout *f, const struct fanout_target **last); /* for the commit page */
void fanout_free(struct fanout *f);

/* ---- stall.c ---- */
/* The output of c, a connection of l, fills, or has drained: then its publishers go on. */
void stall_gate(struct router *r, struct link *l, struct conn *c, bool on);
/* That publisher, a connection of l, is told to stall, for the sake of a connection whose output fills, or of a whole link
 * that spills (STALL_FOR_LINK). */
#define STALL_FOR_LINK UINT32_MAX
void stall_publisher(struct router *r, struct link *l, struct conn *c, uint32_t number, uint8_t by_link,
                     uint32_t by_conn);
void stall_resume(struct router *r, struct list *stalled);        /* those in that list go on */
void stall_end(struct router *r, struct link *l, struct conn *c); /* c is bound no more: no gate, no stall */
uint32_t stall_ms(const struct router *r, const struct conn *c);  /* what is left of its stall, from 1 */

/* ---- records.c ---- */
/* What becomes of a record of that type, by the kind of the link that it comes from and the state of its connection. */
enum record_rule { RECORD_ENDS_LINK = 0, RECORD_IS_IGNORED, RECORD_IS_TAKEN };
enum record_rule record_rule(enum link_kind kind, enum record_type type, enum conn_state state);
struct outcome record_handle(struct router *r, struct link *l, const struct record *rec,
                             const struct record_parts *parts, const uint8_t *at);
/* A DENY on l for a message, with its subject or reply; room of DENY_BYTES was made sure of. */
void record_deny(struct router *r, struct link *l, uint32_t conn, enum record_deny why, struct view name);
#define DENY_BYTES(name_len) ring_round(record_len(0, 0, (name_len), 0, 0))
/* The same for a subscription that is refused, or taken away (RECORD_DENY_REMOVED); DENY_SUB_BYTES. */
void record_deny_sub(struct router *r, struct link *l, uint32_t conn, uint32_t slot, enum record_deny why,
                     struct view subject, struct view queue);
#define DENY_SUB_BYTES(subject_len, queue_len) ring_round(record_len(0, 1, (subject_len), (queue_len), 0))

/* ---- poison.c ---- */
/* From here on the commit page is this router's, and the box tells of it; what the one before died of is remembered. */
void poison_open(struct router *r, struct commit_page *page);
/* Once the links are open: finds the record that the router before died of, or says what else it was doing. */
void poison_find(struct router *r);
/* Instead of handling that record: it is counted, and its edge gets what it is owed. */
enum step poison_skip(struct router *r, struct link *l, const struct record *rec, const struct record_parts *parts,
                      const uint8_t *at);
/* A router has died of the replay of that connection within the last minute. */
bool poison_replays(const struct router *r, const struct link *l, uint32_t conn);

/* ---- turn.c ---- */
/* The box from here on: no record, but that work. */
static inline void turn_works_on(struct router *r, enum commit_work work) {
    if (likely(r->page != NULL)) /* a spare has none */
        atomic_store_explicit(&r->page->box, work, memory_order_relaxed);
}
bool turn_run(struct router *r); /* one turn; false if there was nothing to do */
void turn_commit(struct router *r);
bool turn_has_work(struct router *r); /* a look without side effects, for the moment before sleeping */

/* ---- replay.c ---- */
void takeover_begin(struct router *r);
bool takeover_step(struct router *r); /* until r->running; true if something moved. Goes by r->now and r->wall */

#endif
