/* SPDX-License-Identifier: Apache-2.0 */
/* authd/authd.h: the state of authd, shared by its main files only.
 *
 * main.c has the supervisor's conversation and the loop; part.c the configuration in force; edges.c the edges'
 * conversations; routers.c the router's. Everything else in this folder decides or keeps something and speaks to
 * nobody.
 */
#ifndef AUTHD_AUTHD_H
#define AUTHD_AUTHD_H

#include "authd/hashing.h"
#include "authd/held.h"
#include "authd/identity.h"
#include "authd/logins.h"
#include "authd/penalties.h"
#include "ipc/auth.pb-c.h"
#include "ipc/channel.h"
#include "ipc/control.pb-c.h"
#include "ipc/settings.h"

enum { EVENT_CONTROL = 1, EVENT_ROUTER = 2, EVENT_HASHES = 3, EVENT_EDGE = 100, PACKETS_PER_TURN = 64 };

/* Where the login of one connection number waits; NULL: not there. */
struct pending {
    struct waiting *waiting; /* for a hash (authd/edges.c) */
    struct held_answer *held;
};

struct edge {
    struct channel channel; /* fd -1: none */
    uint32_t polled;        /* epoll events; 0: not polled */
    uint32_t session;       /* counts its sockets: an answer goes to the socket that asked, or nowhere */
    struct logins_edge *logins;
    struct pending *pending; /* by connection number */
};

struct authd {
    int epoll;
    struct channel control, router;
    uint32_t router_polled;
    struct binding_key *key; /* in locked memory */
    struct settings settings;
    struct settings_change change; /* prepared, not yet in force */
    struct counters *counters;
    struct identity identity;
    struct users *users;      /* in force */
    struct users *users_next; /* prepared; NULL: the ones in force stay */
    int part_fd;              /* an AuthPart that was not read yet; -1: none */
    uint32_t part_generation;
    uint32_t table;     /* counts the tables that have been in force */
    uint64_t known_pos; /* position of the book up to which all entries in force lie */
    uint64_t read_pos;  /* position up to which the router has read the book */
    bool ready_told, applied_owed;
    struct logins logins;
    struct penalties penalties;
    struct hashing hashing;
    struct held held; /* answers that wait for their time */
    Bulkhead__Policy policy;
    struct edge edge[LINKS_MAX];
};

/* ---- main.c ---- */

/* Polls fd for events instead of *polled; 0: not at all. */
void authd_poll(const struct authd *a, int fd, uint64_t what, uint32_t *polled, uint32_t events);

/* True while the router is there and has read the book up to known_pos: only then logins are read and answered. */
bool authd_is_open(const struct authd *a);

/* To be called when authd_is_open may have changed. */
void authd_on_book(struct authd *a);

/* ---- part.c ---- */

/* Keeps an AuthPart; takes fd. */
void part_stage(struct authd *a, int fd, uint32_t generation);

/* The first one comes into force, with the book and the ledger. */
enum err part_start(struct authd *a, int book_fd, int ledger_fd);

/* Reads what was staged for that generation, if anything was. False: it cannot be taken; a log line has said why. */
bool part_prepare(struct authd *a, uint32_t generation);

/* What was prepared comes into force, under the settings in force. Ends the process if that fails. */
void part_commit(struct authd *a);

/* ---- routers.c ---- */

enum err router_open(struct authd *a, int fd);
void router_on_event(struct authd *a);

/* Tells the router how far the book goes. */
void router_tell(struct authd *a);

/* ---- edges.c ---- */

/* Takes fd, if ERR_OK. */
enum err edge_open(struct authd *a, const Bulkhead__Peer *peer, int fd);
void edge_on_event(struct authd *a, uint32_t link, uint32_t events);

/* Starts the workers that make hashes, each locked in. */
enum err edges_start(struct authd *a);

/* Polls all edges as is right now. */
void edges_poll(struct authd *a);

/* Works out how connections begin; tells all edges if that has changed. */
void edges_set_policy(struct authd *a);

/* What is ready or due is answered. Returns the time in ms until the next answer is due; -1: none is held. */
int edges_turn(struct authd *a);

#endif
