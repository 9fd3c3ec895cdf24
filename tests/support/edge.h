/* SPDX-License-Identifier: Apache-2.0 */
/* tests/support/edge.h: a hand-made world around the router's code.
 *
 * A world has the memories that the supervisor would make (commit page, account book, soft state, links), a binding
 * key, and a router: in this process (world_start), where time is the test's own, or in a child (world_fork), which can
 * be killed at any instruction. Each edge is a model of what an honest edge process does: it takes numbers and slots,
 * keeps tombstones and the journal, checks every record that it reads, and replays its state as of `consumed` exactly
 * like edge/replay.c.
 *
 * What the model finds wrong ends the test with check(). Nothing here is a hook in the product.
 */
#ifndef TESTS_SUPPORT_EDGE_H
#define TESTS_SUPPORT_EDGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/view.h"
#include "router/router.h"

enum { EDGES_MAX = 4, EDGE_CONNS_MAX = 16384, SEEN_MAX = 64, EDGE_TEXT_MAX = 200 };

struct edge_conn {
    bool used, closed, gate;
    uint8_t options;
    uint32_t uid;              /* the test's */
    uint32_t generation;       /* last one used of this number */
    uint32_t kick_count, kick; /* KICKs received, and why the last one */
    uint32_t ok_count, deny_count, stall_count, resume_count;
    uint64_t stalled_until; /* ns, as the last STALL and RESUME say */
    uint64_t last_pos;      /* behind its last record */
    struct binding binding;
};

struct edge_sub {
    bool used, ended;
    uint8_t subject_len, queue_len;
    uint32_t uid; /* the test's */
    uint32_t conn, delivered, max;
    char *text; /* subject, queue */
};

struct edge_journal {
    uint64_t end_pos;
    uint32_t id, old_max;
    uint8_t type, old_flag;
};

/* One record that was read, in short. */
struct seen {
    uint8_t type, flags;
    uint32_t conn, aux, slot; /* slot: the first target's */
    char subject[64], reply[64];
    uint32_t payload_len;
};

struct edge;
/* One delivery to one slot that is in use. */
typedef void edge_delivered(struct edge *e, uint32_t slot, const struct record *rec, struct view subject,
                            struct view reply, const uint8_t *payload);

struct edge {
    struct world *world;
    uint32_t number;
    uint8_t kind;
    uint64_t incarnation;
    int fds[8]; /* in the order of link_map */
    int bell_to_router[2], bell_to_edge[2];
    struct ring_map ingress_map, egress_map, replay_map;
    struct ring_writer ingress, replay;
    struct ring_reader egress;
    bool fresh;        /* no router has seen it yet */
    bool bad;          /* NOTE_LINK_BAD has come */
    bool gone;         /* NOTE_LINK_GONE has come */
    bool paused;       /* world_step does not let it read */
    bool hostile;      /* what it reads is not held against its tables */
    bool silent;       /* does not replay by itself */
    uint64_t owed_pos; /* of the last edge_read, as edge_link_look */
    uint32_t read_max; /* at most about so many records at a time; 0: all */

    struct edge_conn *conn;
    uint32_t conn_high;
    uint32_t conn_used_below; /* all numbers below are in use */
    struct edge_sub *sub;
    uint32_t sub_high, sub_cap;
    uint32_t *slot_free;
    uint32_t slot_free_count;
    struct edge_journal *journal;
    uint32_t journal_at, journal_count, journal_cap;
    uint8_t *snapshot;
    uint64_t snapshot_len, snapshot_at, snapshot_cap;
    uint32_t replayed_epoch;

    edge_delivered *delivered;
    uint64_t delivered_count, slot_free_total, conn_free_total, kick_total, uncounted_total;
    struct seen seen[SEEN_MAX]; /* the newest records, oldest first */
    uint32_t seen_count;
    uint8_t names[2 * (RECORD_TEXT_MAX + 1)];
};

struct world {
    struct settings settings;
    struct binding_key key;
    uint64_t ring_bytes, replay_bytes, spill_bytes;
    int page_fd, book_fd, counters_fd, replies_fd;
    struct commit_page *page;
    struct book book;
    struct counters *counters;
    struct edge edge[EDGES_MAX];
    uint32_t edge_count;
    uint64_t serial, incarnation;
    uint32_t epoch;
    int died_signal; /* what the next router is told */
    int control[2];  /* ours, the router's */
    bool recovered, ready;
    struct router *router; /* in this process, or null */
    pid_t child;           /* or 0 */
    uint64_t now;          /* ns; the in-process router's time */
    uint64_t wall;
};

/* ---- the world ---- */
/* edge_count links of ring_bytes each; account 1 is in the book. Settings may be changed before a router starts. */
void world_make(struct world *w, uint32_t edge_count, uint64_t ring_bytes, uint64_t spill_bytes);
void world_free(struct world *w);
void world_account(struct world *w, uint32_t number, uint32_t conns_max, uint32_t subs_max);
void world_floor(struct world *w, uint32_t account, uint32_t principal, uint64_t serial);
void world_kick_floor(struct world *w, uint32_t account, uint32_t principal, uint64_t serial, enum record_kick kick);
/* A permission set of lines "KIND SUBJECT [QUEUE]", KIND one of +pub -pub +sub -sub; a subject of "" is not written. */
void world_rules(struct world *w, uint32_t number, const char *const *lines, uint32_t count, uint32_t responses_max,
                 uint64_t responses_ms);
/* All bindings of that principal that were made before this have that set and limit. */
void world_permit(struct world *w, uint32_t account, uint32_t principal, uint32_t permissions, uint32_t payload_max);

int world_memory(size_t bytes); /* a descriptor */

/* A router in this process; world_begin takes over and lets the edges replay until traffic runs. */
void world_start(struct world *w);
void world_begin(struct world *w);
/* A router that was killed between two of our calls: nothing is committed. */
void world_die(struct world *w);
/* A router in a child; traced: it is stopped before takeover_begin, and again before its first turn. */
void world_fork(struct world *w, bool traced);
void world_kill(struct world *w);
/* What the child does; also for a caller that forks by itself. */
_Noreturn void world_child(struct world *w, bool traced);

/* One turn (or step of the takeover), the notes, and the reading of every edge that is not paused. True if anything
 * moved. */
bool world_step(struct world *w);
bool world_router_step(struct world *w); /* the in-process router alone */
bool world_edges_step(struct world *w);  /* the same without the router */
/* Until nothing moves, all edges that are not paused have read all, and all their records are consumed. */
void world_settle(struct world *w);
void world_pass(struct world *w, uint64_t ms); /* in-process time goes on */
/* The supervisor tells the in-process router that an edge is gone, and a new one comes in its place. */
void world_edge_down(struct world *w, struct edge *e);
void world_edge_new(struct world *w, uint32_t number, uint8_t kind);

/* ---- an honest edge ---- */
void edge_make(struct world *w, uint32_t number, uint8_t kind); /* the world's: a fresh link */
void edge_free(struct edge *e);
uint32_t edge_number(struct edge *e); /* a free connection number, with a new generation */
/* A good binding for that number; changed ones need binding_seal again. */
struct binding edge_binding(struct edge *e, uint32_t number, uint32_t account);
void edge_bind(struct edge *e, uint32_t number, const struct binding *b);
void edge_options(struct edge *e, uint32_t number, uint8_t options);
uint32_t edge_connect(struct edge *e, uint32_t account, uint8_t options); /* number, BIND and OPTIONS */
uint32_t edge_subscribe(struct edge *e, uint32_t conn, const char *subject, const char *queue, uint32_t after,
                        uint8_t flags);
void edge_unsub(struct edge *e, uint32_t conn, uint32_t slot, uint32_t max, uint8_t flags);
void edge_pub(struct edge *e, uint32_t conn, const char *subject, const char *reply, const void *payload, uint32_t len,
              uint8_t flags);
void edge_gate(struct edge *e, uint32_t conn, bool on);
bool edge_stalled(const struct edge *e, uint32_t conn); /* an honest edge does not read it now */
void edge_drains(struct edge *e, uint32_t conn);        /* it is gated, and takes what it gets */
void edge_close(struct edge *e, uint32_t conn);
void edge_publish(struct edge *e); /* makes all records visible; the calls above do not, but when the ring is full */
/* After an edge_read: would a line of the edge's own pass now? As frontend/link.c for one that was added just before. */
bool edge_fence_passes(const struct edge *e, uint32_t conn);
bool edge_read(struct edge *e); /* drains the egress ring; true if there was something */
void edge_replay(struct edge *e, uint32_t epoch);
bool edge_replay_more(struct edge *e); /* true if something was written */

/* Any record; makes room by letting the world go on. */
void edge_put(struct edge *e, const struct record *rec, const void *fixed, uint32_t fixed_len, struct view subject,
              struct view reply, const void *payload);
/* The same for a hand-made one with arbitrary lengths. */
void edge_put_raw(struct edge *e, const void *bytes, uint32_t len);

/* The newest seen record of that type, or null. */
const struct seen *edge_seen(const struct edge *e, uint8_t type);
void edge_forget_seen(struct edge *e);

/* ---- random numbers that a seed repeats ---- */
struct rnd {
    uint64_t state;
};
uint64_t rnd_next(struct rnd *r);
uint32_t rnd_below(struct rnd *r, uint32_t n);
/* NAME of the environment as a number, or what is given. */
uint64_t env_number(const char *name, uint64_t otherwise);

#endif
