/* SPDX-License-Identifier: Apache-2.0 */
/* tests/support/front.h: a hand-made world around the frontend's code.
 *
 * The frontend runs in this process, turn by turn, at a time that is the test's own. The other side of each of its conversations is
 * played by hand: a supervisor that lets everything happen, an authd whose answers the test chooses, and a model of a router that
 * takes records when the test says so, keeps the state that a router has, and holds every replay against it. Clients are sockets.
 *
 * What the model finds wrong ends the program with check(). Nothing here is a hook in the product.
 */
#ifndef TESTS_SUPPORT_FRONT_H
#define TESTS_SUPPORT_FRONT_H

#include "frontend/frontend.h"
#include "ipc/auth.pb-c.h"

enum {
    FRONT_CONNS = 4096,
    FRONT_SLOTS = 65536,
    FRONT_SUBJECT = 64,
    FRONT_LOGINS = 512,
    FRONT_PAYLOAD_MAX = 32 * 1024,
    FRONT_LINE_MAX = 1024,
    FRONT_PENDING_MAX = 256 * 1024,
    FRONT_RING = 512 * 1024,
};

struct front_conn {
    bool bound, closed, gate;
    bool has_options; /* the OPTIONS that follows its BIND has come */
    uint8_t options;
};

struct front_slot {
    bool used;
    uint8_t subject_len;
    uint32_t conn, delivered, max;
    char subject[FRONT_SUBJECT];
};

struct front_login {
    uint32_t id, generation;
    bool ahead;
    uint32_t principal; /* of what was asked: the same credentials, the same user */
};

/* A client's end. Its output is looked at as it comes: lines and payloads as long as they say. */
struct front_client {
    int fd; /* -1: none */
    char *unread;
    size_t unread_len;
    uint64_t infos, pongs, oks, errors, messages;
};

struct front {
    struct frontend f;
    int control, listener; /* the supervisor's end; the address that clients connect to */
    struct ring_reader ingress, replay;
    struct ring_writer egress;
    struct channel authd;
    bool authd_open;
    struct front_login login[FRONT_LOGINS]; /* without an answer, oldest first */
    uint32_t login_count;
    uint64_t serial;
    struct front_conn conn[FRONT_CONNS];
    struct front_slot slot[FRONT_SLOTS];
    uint32_t conn_high, slot_high; /* numbers below have been used */
    bool keeps_closed;             /* CONN_FREE is withheld */
    uint32_t epoch;
};

/* Once. The supervisor's socket becomes descriptor CONTROL_FD. */
void front_open(struct front *w);
/* A new authd that says so of logins; what the one before was asked for never comes. */
void front_authd_new(struct front *w, bool login, bool anonymous, bool nonce);
/* Reads what authd is asked; logins ahead are answered at once. */
void front_authd_read(struct front *w);
/* Answers the oldest login: lets it in as `principal` (0: as what it brought), or with refusal. */
void front_authd_bind(struct front *w, uint32_t principal, uint32_t payload_max);
void front_authd_refuse(struct front *w, Bulkhead__RefusalReason why);

/* A connection that the frontend has not accepted yet. */
void front_client_open(struct front *w, struct front_client *c);
void front_client_close(struct front_client *c);
/* Returns how many bytes the socket took. */
size_t front_client_send(struct front_client *c, const void *bytes, size_t len);
void front_client_read(struct front_client *c); /* all that there is */

/* Events, then a turn. */
void front_turn(struct front *w);
void front_pass(struct front *w, uint64_t ms);

/* The router takes so many records at most, and answers them; what one publishes goes to the slots of exactly its subject. */
void front_router(struct front *w, uint32_t most);
/* One record of its own, if there is room in the ring. */
void front_router_small(struct front *w, enum record_type type, uint32_t conn, uint32_t aux);
/* A message for that slot and the used ones behind it, target_count at most; in several records if split. */
void front_router_deliver(struct front *w, uint32_t slot, uint32_t target_count, uint32_t payload_len,
                          uint32_t header_len, bool split);
void front_router_end_slot(struct front *w, uint32_t slot); /* SLOT_FREE, if it is used */
/* Dies and is followed by one to which the frontend replays; what comes is held against what the first one knew. */
void front_router_dies(struct front *w);
/* An open connection at or behind that number; NO_NUMBER: there is none. */
uint32_t front_conn_at(const struct front *w, uint32_t from);
uint32_t front_slot_at(const struct front *w, uint32_t from);

/* Turns and the router until nothing moves. */
void front_settle(struct front *w);
/* TLS beside plain clients; connections that begin it wait for a signer that does not answer. */
struct tls_context *front_tls(struct front *w);
/* A self-signed certificate, PEM; the caller's to free. */
char *front_certificate(void);

/* Every client has been closed: checks that nothing of any of them is left. */
void front_check_empty(struct front *w);

#endif
