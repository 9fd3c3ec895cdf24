/* tests/bench/load.h: the load generator's parts.
 *
 *   load.c         options, modes, the line that a run prints
 *   load_net.c     connections to the server
 *   load_proc.c    CPU and memory of the server's process tree
 *   load_flow.c    messages at full speed: publishers and subscribers
 *   load_request.c requests and their latencies, alone and beside a flood
 *   load_hold.c    what is held: idle connections, subscriptions, nothing at all; new connections
 *
 * It does as little as it can for each message: blocks of prepared lines go out in one write, subscribers count bytes
 * that the kernel throws away for them. So a figure says more about the server than about its client. Whatever goes
 * wrong ends the program with a message and status 1: a run that lost a byte has no figure.
 */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

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
};

/* ---- load.c ---- */
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));
void *take(size_t bytes); /* zeroed memory, never null */
uint64_t now_ns(void);
/* One `"name": value` of the run's line. */
void put_number(const char *name, double value);
void put_text(const char *name, const char *value);

/* ---- load_net.c ---- */
int net_open(const struct options *o); /* connected, INFO read, CONNECT and PING answered; blocking */
void net_write(int fd, const void *bytes, size_t n);
bool net_try_write(int fd, const void *bytes, size_t n); /* false: the server has closed, or shutdown was called */
void net_printf(int fd, const char *format, ...) __attribute__((format(printf, 2, 3)));
void net_flush(int fd); /* PING, and everything up to its PONG is thrown away */

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
    int fd;
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
    const int *sub_fd;
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

/* ---- load_hold.c ---- */
void mode_conns(const struct options *o);
void mode_subs(const struct options *o);
void mode_connect(const struct options *o);
void mode_idle(const struct options *o);

#endif
