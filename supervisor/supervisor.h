/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/supervisor.h: the state of the supervisor, shared by its own files only.
 *
 * main.c starts and stops the server and runs the loop; children.c starts single processes and notices their deaths;
 * routers.c, authd.c and edges.c each know one kind of child: what it is sent, what its notes mean, what follows from
 * its death. Every child has one number, its offset from uid_base.
 */
#ifndef SUPERVISOR_SUPERVISOR_H
#define SUPERVISOR_SUPERVISOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "config/flags.h"
#include "config/reload.h"
#include "ipc/channel.h"
#include "ipc/note.h"
#include "ipc/settings.h"
#include "shm/binding.h"
#include "supervisor/culprits.h"
#include "supervisor/family.h"
#include "supervisor/hangs.h"
#include "supervisor/links.h"
#include "supervisor/listeners.h"
#include "supervisor/places.h"
#include "supervisor/reader.h"
#include "supervisor/restarts.h"
#include "supervisor/roles.h"
#include "supervisor/secrets.h"
#include "supervisor/sink.h"
#include "supervisor/spawn.h"

enum { LINK_NONE = UINT32_MAX };

struct child {
    const struct family_role *role;
    const struct role_handlers *handlers;
    uint32_t number; /* in supervisor.child */
    uint32_t index;  /* among those of its role, for log lines */
    uint32_t link;   /* the number of an edge's link; else LINK_NONE */
    pid_t pid;       /* 0: not running */
    int pidfd;       /* readable when it has died */
    int log_fd;      /* read end of its log pipe, for a new logd; -1: none */
    struct channel control;
    uint32_t polled;               /* epoll events of the control socket */
    bool ready;                    /* has reported NOTE_READY */
    bool blamed;                   /* was killed for what it did */
    bool hung;                     /* was killed because it hung of itself */
    bool stopped;                  /* was killed because it stood stopped: that is no fault of its own */
    bool awaited;                  /* owes an answer to a reload */
    bool dismissed;                /* was told to end, and nobody follows it */
    bool replaces;                 /* the process before it has died: its start is news for the log */
    bool told_tls;                 /* has had a Tls, so every change must reach it */
    bool meets;                    /* has come so far that it may be given sockets to its peers */
    uint32_t generation, prepared; /* of the settings that it has; of those that it could take */
    uint32_t told;                 /* generation of the parts that it was sent last; UINT32_MAX: none */
    struct hangs hangs;
    struct restarts restarts; /* of the first of a role: for all that are no edges */
    uint64_t restart_ms;      /* not running: when to start it; 0: not by time */
};

/* How far an edge has come; what a new router is told follows from it. */
enum edge_state {
    EDGE_DOWN,    /* no process */
    EDGE_MAPPING, /* has its Link, must map it */
    EDGE_MAPPED,  /* its memory is sealed; waits for a router at work */
    EDGE_LINKING, /* the router was told of it and must map */
    EDGE_GOING,   /* has Go */
    EDGE_LEAVING, /* dead; the router takes leave of it */
};

struct edge {
    struct child *child; /* NULL: this link is nobody's */
    enum edge_state state;
    uint64_t incarnation;
    struct link_memory memory;
    int listener;    /* -1: closed while the frontend rests, or for good by a lame duck */
    int counters_fd; /* writable until the edge has mapped it, then for reading */
    bool lame_done;   /* a lame duck without clients */
    bool replay_owed; /* must be told to replay when the new router has recovered */
};

enum router_state {
    ROUTER_NONE,       /* nobody plays the router */
    ROUTER_RECOVERING, /* Begin was sent */
    ROUTER_REPLAYING,  /* waits for the edges' replays */
    ROUTER_READY,
};

/* What one reading of the configuration gave for others than the supervisor. */
struct parts {
    struct tls_options tls;
    struct secrets secrets;
};

/* The reading that goes on, or the last one. */
struct parts_reading {
    struct reader reader;
    struct parts *parts; /* of whoever wanted it */
    struct reader_result result;
    uint64_t until_ms;
    bool late; /* it was killed because it took too long, or nobody wants it any more */
    bool done;
};

struct reloading {
    enum reload_stage stage;
    bool again;        /* was asked for once more meanwhile */
    uint64_t until_ms; /* who has not answered by then is not waited for */
    struct reload_state next;
    struct parts parts;
    struct settings settings;
    struct arena arena; /* of the changes */
    struct reload_changes changes;
    bool has_sink; /* the log goes elsewhere */
    struct sink sink;
};

enum stop_state { STOP_NO, STOP_EDGES, STOP_REST };

struct supervisor {
    struct flags flags;
    int argc;
    char **argv;
    uint8_t reload_key[RELOAD_KEY_BYTES];
    struct reload_state config; /* what runs */
    struct parts parts;         /* the same */
    int memory_fd;              /* the READER_MEMORY of the last reading; -1: none */
    struct settings settings;
    uint32_t payload_most, control_line_most; /* largest limits since the start: rings may still hold such messages */
    uint32_t generation_count;                /* of all reloads, also of those that were refused */
    struct binding_key *key;                  /* in locked memory */
    struct spawner spawner;
    struct child child[FAMILY_UIDS];
    int epoll_fd;
    int signal_fd;
    uint64_t now_ms; /* of this turn of the loop */

    /* logd */
    int stderr_fd; /* the original one */
    struct sink sink;
    char sink_first[OPTION_PATH_MAX + 320]; /* a first line that the next logd, or this one, is to write */
    uint64_t sink_limit;                    /* bytes; doubles when a rotation fails */
    uint64_t sink_restart_ms;               /* when to look for the lost syslog again; 0: it is there */
    int own_log_fd;                         /* read end of the supervisor's own log pipe */

    /* router */
    uint32_t router; /* number of the child that plays it; 0: nobody */
    enum router_state router_state;
    uint32_t epoch;
    int32_t died_signal;
    uint64_t router_died_ms;
    int commit_fd, book_fd, book_reader_fd, replies_fd;
    int ledger_fd; /* authd's own, never mapped here */
    int counters_fd[FAMILY_ROLE_END]; /* of roles that are no edges */

    /* watch over hangs */
    uint32_t hang_ms;  /* patience { hang } */
    uint64_t watch_ms; /* the last look at all children */

    /* edges */
    uint32_t frontend_count;
    struct edge edge[LINKS_MAX];
    struct places places;
    uint32_t shed_count; /* connections that frontends were told to close in this turn */
    struct culprits culprits;
    uint64_t next_incarnation;
    uint64_t next_cid;

    struct parts_reading reading;
    struct reloading reload;
    bool lame;
    uint64_t lame_closing_ms; /* when clients are closed; 0: they are, or there is no lame duck */

    bool announced; /* "Server is ready" was said */
    char lost[128]; /* why the server cannot go on: it ends in this turn; empty: it can */
    enum stop_state stop;
    int stop_wanted; /* as if this signal had come; 0: go on */
    int stop_signal;
    uint64_t stop_edges_ms, stop_all_ms; /* until when the edges, and all, may take to end */
};

/* ---- settings.c ---- */

/* The last part of argv[0], for files and syslogs. */
const char *supervisor_name(const struct supervisor *s);

/* How many frontends there are. */
uint32_t settings_frontends(const struct options *o);

/* The settings that follow from options; id, bound port and generation stay as they are. */
void settings_fill_from(struct settings *t, const struct options *o);

/* s->settings are the server's from now on. */
void settings_hold(struct supervisor *s);

/* max_connections, or as many as there are descriptors for; a line says so. */
uint32_t settings_connections(const struct supervisor *s);

/* ---- children.c ---- */

struct child *child_of(struct supervisor *s, Bulkhead__Role role, uint32_t index);

/* Starts the process and sends what every child gets first: Key, Settings with its counters page; its log pipe goes to logd.
 * ERR_SYSTEM: a log line has said why, and it is tried again after a while. */
enum err child_start(struct supervisor *s, struct child *c);

/* The descriptor of its counters page. */
int child_counters(const struct supervisor *s, const struct child *c);

/* Gives logd the reading end of a child's log pipe, or (NULL) of the supervisor's. */
void child_send_log_pipe(struct supervisor *s, const struct child *c);

/* A child that cannot take a message is killed; its death is handled later. */
void child_send(struct supervisor *s, struct child *c, enum message_type type, const void *message, const int *fds,
                int fd_count);

/* Kills it for what it did: that counts as a fault of its own. */
void child_blame(struct child *c, const char *what);

void child_signal(const struct child *c, int signal_number);

/* True for that one of the routers that only waits. */
bool child_is_spare(const struct supervisor *s, const struct child *c);

/* From now on c has a socket to each running child of its peers' roles that meets others too: both get a new one, and are told
 * who is at the other end. */
void child_meet(struct supervisor *s, struct child *c);

/* Something happened to the child's control socket or to its process. */
void child_on_control(struct supervisor *s, struct child *c, uint32_t events);
/* True if it has died. */
bool child_on_exit(struct supervisor *s, struct child *c);

/* Longest pause before a new start of a process that is the only one of its kind: waiting longer helps nobody. */
enum { CHILD_REST_MS = 5000 };

/* Notes a death of c, sets when it is to be started again, and returns after how many milliseconds, most_ms at most. A crash
 * loop before the server was ever ready ends the server: something cannot work at all. */
uint32_t child_rest(struct supervisor *s, struct child *c, bool fault, uint32_t most_ms);

/* Handlers for roles that need no others: starts what gets nothing beyond its row; starts another one after a death. */
void child_begin(struct supervisor *s, struct child *c);
void child_replace(struct supervisor *s, struct child *c, const struct death *death);

/* ---- logging.c ---- */

/* From now on the supervisor's lines go into a pipe; they come out through logd, or, should logd never run, at the end.
 */
void logging_open(struct supervisor *s);
void logging_start(struct supervisor *s, struct child *c);

/* Opens what the options ask for. ERR_SYSTEM: why says it, and all is as it was. */
enum err logging_open_sink(struct supervisor *s, const struct options *o, char *why, size_t cap);
void logging_send_sink(struct supervisor *s); /* to logd, before it gets its pipes */
void logging_reopen(struct supervisor *s);
void logging_on_note(struct supervisor *s, struct child *c, const struct note *note);
uint64_t logging_tick(struct supervisor *s); /* returns when to call again, 0: no need */

/* Waits until logd has written everything. */
void logging_finish(struct supervisor *s);

/* ---- parts.c ---- */

/* Has the configuration read, with the command line and variables of the last time if there was one. It is over when
 * s->reading.done is set, at once or in a later turn of the loop; if s->reading.result.valid, *p is the caller's. */
void parts_read(struct supervisor *s, bool test, struct parts *p);
enum err parts_on_packets(struct supervisor *s, struct child *c);
void parts_on_exit(struct supervisor *s, struct child *c, const struct death *death);
uint64_t parts_tick(struct supervisor *s); /* returns when to call again, 0: no need */

/* Sends a child what it is to have out of p under that generation; most get nothing. */
void parts_send(struct supervisor *s, struct child *c, struct parts *p, uint32_t generation);

/* ---- watch.c ---- */

void watch_begin(struct supervisor *s);
uint64_t watch_tick(struct supervisor *s); /* returns when to call again, 0: no need */

/* ---- routers.c ---- */

void routers_start(struct supervisor *s, struct child *c);
void routers_on_note(struct supervisor *s, struct child *c, const struct note *note);
void routers_on_exit(struct supervisor *s, struct child *c, const struct death *death);

/* A router's max_payload never shrinks: what was let in before must pass, and the edges hold the limit. */
void routers_settings(const struct supervisor *s, struct settings *settings);

/* ---- authd.c ---- */

void authd_start(struct supervisor *s, struct child *c);

/* ---- signer.c ---- */

/* Starts it with these parts, if there is TLS in them and it does not run. */
void signer_start(struct supervisor *s, struct parts *p, uint32_t generation);
/* Sees that it runs exactly if there is TLS now. */
void signer_settle(struct supervisor *s, struct child *c);
void signer_on_exit(struct supervisor *s, struct child *c, const struct death *death);

/* ---- edges.c ---- */

void edges_start(struct supervisor *s, struct child *c);
void edges_on_note(struct supervisor *s, struct child *c, const struct note *note);
void edges_on_exit(struct supervisor *s, struct child *c, const struct death *death);

/* From edge to edge: for (struct edge *e = edges_next(s, NULL); e; e = edges_next(s, e)). */
static inline struct edge *edges_next(struct supervisor *s, struct edge *edge) {
    for (edge = edge ? edge + 1 : s->edge; edge < s->edge + LINKS_MAX; edge++) {
        if (edge->child)
            return edge;
    }
    return NULL;
}

/* The router begins: it is told of every link that is mapped. */
void edges_router_begins(struct supervisor *s);

/* The router is at work: links that wait for it are made. */
void edges_link_waiting(struct supervisor *s);

/* The router has mapped a link, has taken leave of one, says that one is bad, has recovered, has died. */
void edges_router_mapped(struct supervisor *s, struct edge *edge);
void edges_router_gone(struct supervisor *s, struct edge *edge, uint64_t incarnation);
void edges_router_bad(struct edge *edge, uint64_t incarnation);
void edges_router_recovered(struct supervisor *s);
void edges_router_died(struct supervisor *s);

/* ---- reload.c ---- */

void reload_begin(struct supervisor *s);
void reload_on_answer(struct supervisor *s, struct child *c, const struct note *note);
void reload_on_exit(struct supervisor *s, const struct child *c);
void reload_go_on(struct supervisor *s);    /* somebody who was awaited has gone */
uint64_t reload_tick(struct supervisor *s); /* returns when to call again, 0: no need */

/* ---- lame.c ---- */

void lame_begin(struct supervisor *s);
void lame_on_done(struct supervisor *s, struct edge *edge); /* it has no client left, or is dead */
uint64_t lame_tick(struct supervisor *s); /* returns when to call again, 0: no need */

#endif
