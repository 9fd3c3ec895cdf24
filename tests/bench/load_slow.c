/* SPDX-License-Identifier: Apache-2.0 */
/* A slow reader beside a fast one.
 *
 * Publishers at full speed, one subscriber that reads as fast as it can, and one that reads so many bytes a second by the
 * clock. Either may be closed by the server meanwhile; the run goes on with who is left. When, and who it was, the server's
 * log says by the client's port: a slow reader itself sees its end only behind all that its kernel still holds.
 */
#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/load.h"

enum { READ_AT_ONCE = 64 * 1024, LOOK_US = 1000 };

static atomic_bool over;

struct reader {
    struct conn conn;
    double bytes_per_s; /* 0: as fast as it can */
    atomic_ullong got;
};

struct writer {
    struct conn conn;
    struct block block;
    atomic_ullong messages;
    uint64_t longest_ns; /* of one write of a block */
};

static void *read_on(void *arg) {
    struct reader *r = arg;
    uint64_t start = now_ns();
    while (!atomic_load(&over)) {
        uint64_t at_most = 16 * READ_AT_ONCE;
        if (r->bytes_per_s > 0) {
            double due = r->bytes_per_s * (double)(now_ns() - start) * 1e-9 - (double)atomic_load(&r->got);
            if (due < 1) {
                usleep(LOOK_US);
                continue;
            }
            at_most = due < READ_AT_ONCE ? (uint64_t)due : READ_AT_ONCE;
        }
        ssize_t n = net_discard(r->conn, at_most, true);
        if (n == 0)
            return NULL;
        atomic_fetch_add(&r->got, n > 0 ? (uint64_t)n : 0);
    }
    return NULL;
}

static void *write_on(void *arg) {
    struct writer *w = arg;
    while (!atomic_load(&over)) {
        uint64_t begun = now_ns();
        if (!net_try_write(w->conn, w->block.bytes, w->block.len))
            return NULL;
        uint64_t took = now_ns() - begun;
        w->longest_ns = took > w->longest_ns ? took : w->longest_ns;
        atomic_fetch_add(&w->messages, w->block.messages);
    }
    return NULL;
}

static void reader_begin(const struct options *o, struct reader *r, pthread_t *thread) {
    struct timeval patience = {.tv_usec = 100000};
    r->conn = net_open(o);
    net_printf(r->conn, "SUB load.subject 1\r\n");
    net_flush(r->conn);
    setsockopt(r->conn.fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    pthread_create(thread, NULL, read_on, r);
}

static uint16_t own_port(struct conn c) {
    struct sockaddr_in own = {0};
    socklen_t len = sizeof own;
    getsockname(c.fd, (struct sockaddr *)&own, &len);
    return ntohs(own.sin_port);
}

void mode_slow(const struct options *o) {
    static struct reader fast, slow;
    struct writer *w = take(o->pubs * sizeof *w);
    pthread_t *writing = take(o->pubs * sizeof *writing), reading[2];
    struct block block = block_of("load.subject", o->size, 1);
    reader_begin(o, &fast, &reading[0]);
    slow.bytes_per_s = o->bytes_per_s;
    if (slow.bytes_per_s > 0)
        reader_begin(o, &slow, &reading[1]);
    for (uint32_t i = 0; i < o->pubs; i++)
        w[i] = (struct writer){.conn = net_open(o), .block = block};
    uint64_t start = now_ns();
    for (uint32_t i = 0; i < o->pubs; i++)
        pthread_create(&writing[i], NULL, write_on, &w[i]);
    usleep((useconds_t)(o->seconds * 1e6));
    double took = (double)(now_ns() - start) * 1e-9, messages = 0;
    for (uint32_t i = 0; i < o->pubs; i++)
        messages += (double)atomic_load(&w[i].messages);
    put_number("mb_per_s", messages * o->size / took / 1e6);
    put_number("fast_bytes_per_s", (double)atomic_load(&fast.got) / took);
    put_number("slow_bytes_per_s", (double)atomic_load(&slow.got) / took);
    put_number("fast_port", own_port(fast.conn));
    put_number("slow_port", slow.bytes_per_s > 0 ? own_port(slow.conn) : 0);
    atomic_store(&over, true);
    uint64_t longest_ns = 0;
    for (uint32_t i = 0; i < o->pubs; i++) {
        shutdown(w[i].conn.fd, SHUT_RDWR);
        pthread_join(writing[i], NULL);
        longest_ns = w[i].longest_ns > longest_ns ? w[i].longest_ns : longest_ns;
    }
    pthread_join(reading[0], NULL);
    if (slow.bytes_per_s > 0)
        pthread_join(reading[1], NULL);
    put_number("longest_write_ms", (double)longest_ns * 1e-6);
}
