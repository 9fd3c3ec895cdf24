/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bench/load.h: the load generator's parts.
 *
 *   load.c          options, modes, the line that a run prints
 *   load_net.c      connections to the server, plain or over TLS
 *   load_identity.c who a client says it is: CONNECT lines, nkeys
 *   load_proc.c     CPU and memory of the server's process tree
 *   load_flow.c     messages at full speed: publishers and subscribers
 *   load_request.c  requests and their latencies, alone and beside a flood
 *   load_slow.c     a slow reader beside a fast one
 *   load_hold.c     what is held: idle connections, subscriptions, nothing at all; new connections
 *   load_login.c    many logins at a time from one thread
 *
 * It does as little as it can for each message: blocks of prepared lines go out in one write, subscribers count bytes
 * that the kernel throws away for them. So a figure says more about the server than about its client. Whatever goes
 * wrong ends the program with a message and status 1: a run that lost a byte has no figure.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct ssl_st; /* OpenSSL's SSL */

struct options {
    const char *host;
    uint16_t port;
    pid_t pid;      /* the server's first process; 0: its costs are not measured */
    double seconds; /* a run goes on beyond that until the server has used CPU_SECONDS_MIN, see load_pause */
    uint32_t size;  /* payload bytes */
    uint32_t pubs, subs;
    uint32_t count; /* connections, subscriptions: what the mode holds */
    bool queue;     /* the subscribers are one queue group */
    const char *flood;
    double bytes_per_s; /* of the slow reader; 0: there is none */
    bool tls;
    const char *user, *password; /* null: none */
    uint32_t nkeys;              /* clients log in with the first so many test keys in turn; 0: none do */
};

/* ---- load.c ---- */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *take(size_t bytes); /* zeroed memory, never null */
uint64_t now_ns(void);
double own_cpu_s(void); /* of this process, all threads */
/* One `"name": value` of the run's line. */
void put_number(const char *name, double value);
void put_text(const char *name, const char *value);

/* ---- load_net.c ---- */
struct conn {
    int fd;
    struct ssl_st *tls; /* null: plain */
};
void net_prepare(const struct options *o);     /* first, before there are threads */
struct ssl_st *net_tls(void);                  /* a client's side of TLS, without a socket yet */
struct conn net_open(const struct options *o); /* logged in: INFO read, CONNECT and PING answered; blocking */
int net_dial(const struct options *o);         /* a non-blocking socket that is connecting */
void net_close(struct conn c);
void net_set_blocking(struct conn c, bool blocking);
void net_write(struct conn c, const void *bytes, size_t n);
bool net_try_write(struct conn c, const void *bytes,
                   size_t n); /* false: the server has closed, or shutdown was called */
size_t net_write_some(struct conn c, const void *bytes, size_t n); /* as much as a non-blocking connection takes */
void net_printf(struct conn c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void net_flush(struct conn c);                         /* PING, and everything up to its PONG is thrown away */
ssize_t net_read(struct conn c, void *to, size_t cap); /* 0: closed; -1: nothing is there now */
/* Throws away what is there and counts it, as net_read does. wait: until something is, or SO_RCVTIMEO is over. */
ssize_t net_discard(struct conn c, size_t at_most, bool wait);
void net_read_ahead(struct conn c); /* for a connection that gets much */

/* ---- load_identity.c ---- */
enum { CONNECT_MAX = 512 };
void identity_open(const struct options *o); /* as net_prepare */
/* Writes CONNECT and PING for the next client, as options say, in answer to an INFO line (a string). Returns the
 * length. */
size_t identity_connect(const struct options *o, const char *info, char to[static CONNECT_MAX]);
void mode_nkeys(const struct options *o);

/* ---- load_proc.c ---- */
enum { PIDS_MAX = 128 };
struct tree {
    uint32_t count;
    pid_t pid[PIDS_MAX];
};
struct cpu {
    double user_s, system_s;
};
void tree_find(struct tree *t, pid_t first); /* empty when first is 0 */
struct cpu tree_cpu(const struct tree *t);   /* in steps of 10 ms for each process */
double tree_pss_kb(const struct tree *t);
double process_pss_kb(pid_t pid);
void process_name(pid_t pid, char *name, size_t cap);

/* ---- load_flow.c ---- */
enum { CPU_SECONDS_MIN_TENTHS = 5, LONGER_MAX = 4, BLOCK_BYTES = 65536 };

/* Prepared lines. */
struct block {
    char *bytes;
    size_t len;
    uint64_t messages;
    uint64_t out_bytes; /* what all subscribers together get for it */
};
/* A block of equal messages; copies: subscriptions that each reaches, all with sid 1. */
struct block block_of(const char *subject, uint32_t size, uint32_t copies);

struct publisher {
    struct conn conn;
    const struct block *block;
    uint32_t block_count;
    uint32_t at;       /* block being written */
    size_t off;        /* bytes of it that are written */
    uint64_t messages; /* of complete blocks */
    uint64_t out_bytes;
};
struct flow {
    struct publisher *pub;
    uint32_t pub_count;
    const struct conn *sub;
    uint32_t sub_count;
    uint64_t copies; /* deliveries for each message */
};
/* Runs it and puts its figures. */
void flow_run(const struct options *o, struct flow *f);
void mode_flow(const struct options *o, bool pairs);
/* Sleeps for a run's time; returns when it is over and the server has used CPU enough to be measured. */
void load_pause(const struct options *o, const struct tree *t, struct cpu begin);

/* ---- load_request.c ---- */
void mode_request(const struct options *o);
void mode_flood(const struct options *o);
void mode_storm(const struct options *o);

/* ---- load_slow.c ---- */
void mode_slow(const struct options *o);

/* ---- load_hold.c ---- */
void mode_conns(const struct options *o);
void mode_subs(const struct options *o);
void mode_connect(const struct options *o);
void mode_idle(const struct options *o);

/* ---- load_login.c ---- */
/* What one thread does, and what became of it. A new client comes only when none under way waits for the generator: so
 * the server never waits for a client in the middle of a login, and all the generator's spare time makes new ones. */
struct logins {
    const struct options *options;
    uint32_t at_a_time; /* most logins under way */
    uint32_t total;     /* 0: until stop */
    bool hold; /* the connections stay open, and a failure is counted; else each is closed, and failure ends all */
    atomic_bool *stop;       /* no new ones */
    uint64_t done, failed;   /* logged in; closed by the server before that */
    uint32_t most_under_way; /* at one time */
    uint64_t slowest_ns;     /* from connect() to PONG */
};
void *logins_run(void *logins);
void mode_login(const struct options *o);

#endif
