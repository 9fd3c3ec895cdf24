/* SPDX-License-Identifier: Apache-2.0 */
/* load: loads any server that speaks the NATS client protocol and prints what it saw as one line of JSON.
 *
 *   load MODE [options]
 *
 *   pub      -n publishers, nobody wants the messages
 *   fan      -n publishers, -c subscribers of one subject; -q: they are one queue group
 *   pairs    -n publishers with a subscriber each
 *   request  -n requesters with one request out each, one responder
 *   flood    one requester: latency alone, then beside -f publish | subscribe | wildcards | slow_reader
 *   slow     -n publishers, a fast reader, and one that reads -r bytes a second (0: none); who is closed is not a failure
 *   storm    one requester: latency alone, then while -k clients log in as fast as they can, from -n threads
 *   conns    -k idle connections with one subscription each: memory
 *   subs     -k distinct subscriptions: memory, rate; then messages to random ones of them
 *   connect  new connections, one after the other on each of -n threads
 *   login    new connections, at most -c under way on each of -n threads
 *   idle     nothing: CPU and memory of each process
 *   probe    one connection: does the server serve?
 *   nkeys    no server: the public keys for -N -k
 *
 * Options: -a HOST (127.0.0.1) -p PORT -P PID of the server's first process -t SECONDS -s PAYLOAD BYTES and those
 * above. Every connection: -T uses TLS, -u USER:PASSWORD logs in so, -N COUNT logs in with one of that many nkeys.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "tests/bench/load.h"

void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

void *take(size_t bytes) {
    void *at = calloc(1, bytes);
    if (!at)
        die("no memory");
    return at;
}

uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double own_cpu_s(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

/* ---- the line ---- */

static const char *separator = "{";

void put_number(const char *name, double value) {
    printf("%s\"%s\": %.6g", separator, name, value);
    separator = ", ";
}

void put_text(const char *name, const char *value) {
    printf("%s\"%s\": \"%s\"", separator, name, value);
    separator = ", ";
}

/* ---- modes ---- */

static void mode_pub(const struct options *o) {
    struct options none = *o;
    none.subs = 0;
    mode_flow(&none, false);
}

static void mode_fan(const struct options *o) {
    mode_flow(o, false);
}

static void mode_pairs(const struct options *o) {
    mode_flow(o, true);
}

static void mode_probe(const struct options *o) {
    net_open(o);
}

static const struct {
    const char *name;
    void (*run)(const struct options *o);
} modes[] = {
    {"pub", mode_pub},         {"fan", mode_fan},     {"pairs", mode_pairs}, {"request", mode_request},
    {"flood", mode_flood},     {"storm", mode_storm}, {"conns", mode_conns}, {"subs", mode_subs},
    {"connect", mode_connect}, {"login", mode_login}, {"idle", mode_idle},   {"probe", mode_probe},
    {"nkeys", mode_nkeys},     {"slow", mode_slow},
};

static void read_user(struct options *o, char *text) {
    char *colon = strchr(text, ':');
    if (!colon)
        die("-u is USER:PASSWORD");
    *colon = 0;
    o->user = text;
    o->password = colon + 1;
}

static void read_options(struct options *o, int argc, char **argv) {
    int letter;
    while ((letter = getopt(argc, argv, "a:p:P:t:s:n:c:k:f:r:qTu:N:")) > 0) {
        switch (letter) {
        case 'a':
            o->host = optarg;
            break;
        case 'p':
            o->port = (uint16_t)atoi(optarg);
            break;
        case 'P':
            o->pid = atoi(optarg);
            break;
        case 't':
            o->seconds = atof(optarg);
            break;
        case 's':
            o->size = (uint32_t)atoi(optarg);
            break;
        case 'n':
            o->pubs = (uint32_t)atoi(optarg);
            break;
        case 'c':
            o->subs = (uint32_t)atoi(optarg);
            break;
        case 'k':
            o->count = (uint32_t)atoi(optarg);
            break;
        case 'f':
            o->flood = optarg;
            break;
        case 'r':
            o->bytes_per_s = atof(optarg);
            break;
        case 'q':
            o->queue = true;
            break;
        case 'T':
            o->tls = true;
            break;
        case 'u':
            read_user(o, optarg);
            break;
        case 'N':
            o->nkeys = (uint32_t)atoi(optarg);
            break;
        default:
            exit(2);
        }
    }
}

static void raise_descriptor_limit(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv) {
    struct options o = {
        .host = "127.0.0.1", .port = 4222, .seconds = 2, .size = 16, .pubs = 1, .subs = 1, .count = 1000};
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    for (size_t i = 0; argc > 1 && i < sizeof modes / sizeof *modes; i++) {
        if (strcmp(argv[1], modes[i].name) != 0)
            continue;
        read_options(&o, argc - 1, argv + 1);
        if (o.pubs == 0 || o.count == 0)
            die("-n and -k count from 1");
        net_prepare(&o);
        identity_open(&o);
        put_text("mode", argv[1]);
        modes[i].run(&o);
        puts("}");
        return 0;
    }
    fputs("usage: load MODE [options]; see the top of tests/bench/load.c\n", stderr);
    return 2;
}
