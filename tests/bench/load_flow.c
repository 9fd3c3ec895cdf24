/* SPDX-License-Identifier: Apache-2.0 */
/* Messages at full speed.
 *
 * One thread publishes, one receives, whatever the number of connections: two cores are shared with the server. A run
 * ends when all that was sent has been delivered to the last byte; without subscribers, when a PING behind it has been
 * answered. A subscriber does not look at what it gets: messages of a run have known lengths, so bytes say everything.
 * The server's own PING may be among them, which ends a run six bytes early.
 */
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/load.h"

enum { LOOK_MS = 20, STUCK_S = 20, THROWN_AT_ONCE = 1 << 20 };

static struct {
    atomic_bool stop;      /* publishers end with the block they are in */
    atomic_bool sent;      /* they have; want is final */
    atomic_ullong want;    /* bytes for all subscribers */
    atomic_ullong last_ns; /* when the last of them came */
} run;

struct block block_of(const char *subject, uint32_t size, uint32_t copies) {
    char head[256], delivered[256];
    int head_len = snprintf(head, sizeof head, "PUB %s %u\r\n", subject, size);
    int delivered_len = snprintf(delivered, sizeof delivered, "MSG %s 1 %u\r\n", subject, size);
    size_t each = (size_t)head_len + size + 2;
    struct block b = {.messages = BLOCK_BYTES / each + 1};
    b.len = b.messages * each;
    b.out_bytes = b.messages * copies * ((size_t)delivered_len + size + 2);
    b.bytes = take(b.len);
    for (char *at = b.bytes; at < b.bytes + b.len; at += each) {
        memcpy(at, head, (size_t)head_len);
        memset(at + head_len, 'x', size);
        memcpy(at + head_len + size, "\r\n", 2);
    }
    return b;
}

/* ---- publishing ---- */

static void block_done(struct publisher *p) {
    p->messages += p->block[p->at].messages;
    p->out_bytes += p->block[p->at].out_bytes;
    p->at = (p->at + 1) % p->block_count;
    p->off = 0;
}

static void publish_one(struct publisher *p) {
    while (!atomic_load_explicit(&run.stop, memory_order_relaxed)) {
        net_write(p->conn, p->block[p->at].bytes, p->block[p->at].len);
        block_done(p);
    }
}

/* As much of the block as the socket takes. True when it is complete. */
static bool publish_some(struct publisher *p) {
    const struct block *b = &p->block[p->at];
    p->off += net_write_some(p->conn, b->bytes + p->off, b->len - p->off);
    if (p->off < b->len)
        return false;
    block_done(p);
    return true;
}

static void publish_many(struct flow *f) {
    struct pollfd *fds = take(f->pub_count * sizeof *fds);
    for (uint32_t i = 0; i < f->pub_count; i++) {
        net_set_blocking(f->pub[i].conn, false);
        fds[i] = (struct pollfd){.fd = f->pub[i].conn.fd, .events = POLLOUT};
    }
    for (uint32_t left = f->pub_count; left > 0;) {
        poll(fds, f->pub_count, LOOK_MS);
        bool stop = atomic_load(&run.stop);
        for (uint32_t i = 0; i < f->pub_count; i++) {
            struct publisher *p = &f->pub[i];
            if (fds[i].fd < 0)
                continue;
            if (fds[i].revents != 0)
                publish_some(p);
            if (stop && p->off == 0) {
                net_set_blocking(p->conn, true);
                fds[i].fd = -1;
                left--;
            }
        }
    }
}

static void *publish(void *arg) {
    struct flow *f = arg;
    if (f->pub_count == 1)
        publish_one(f->pub);
    else
        publish_many(f);
    uint64_t want = 0;
    for (uint32_t i = 0; i < f->pub_count; i++)
        want += f->pub[i].out_bytes;
    atomic_store(&run.want, want);
    atomic_store(&run.sent, true);
    return NULL;
}

/* ---- receiving ---- */

static uint64_t receive_some(struct conn c, bool wait) {
    ssize_t n = net_discard(c, THROWN_AT_ONCE, wait);
    if (n == 0)
        die("the server closed a subscriber");
    return n > 0 ? (uint64_t)n : 0;
}

static void *receive(void *arg) {
    const struct flow *f = arg;
    struct timeval patience = {.tv_usec = LOOK_MS * 1000};
    int poller = epoll_create1(0);
    for (uint32_t i = 0; i < f->sub_count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(poller, EPOLL_CTL_ADD, f->sub[i].fd, &event);
        setsockopt(f->sub[i].fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    }
    uint64_t got = 0, last = now_ns();
    while (!(atomic_load(&run.sent) && got >= atomic_load(&run.want))) {
        uint64_t before = got;
        struct epoll_event events[64];
        int n = f->sub_count == 1 ? 0 : epoll_wait(poller, events, 64, LOOK_MS);
        for (int i = 0; i < n; i++)
            got += receive_some(f->sub[events[i].data.u32], false);
        if (f->sub_count == 1)
            got += receive_some(f->sub[0], true);
        uint64_t now = now_ns();
        if (got != before)
            last = now;
        else if (now - last > (uint64_t)STUCK_S * 1000000000u)
            die("stuck: %llu of %llu bytes came", (unsigned long long)got, (unsigned long long)atomic_load(&run.want));
    }
    atomic_store(&run.last_ns, last);
    close(poller);
    return NULL;
}

/* ---- a run ---- */

void load_pause(const struct options *o, const struct tree *t, struct cpu begin) {
    uint64_t start = now_ns();
    for (;;) {
        usleep(10000);
        double gone = (double)(now_ns() - start) * 1e-9;
        if (gone < o->seconds)
            continue;
        struct cpu now = tree_cpu(t);
        double used = now.user_s + now.system_s - begin.user_s - begin.system_s;
        if (t->count == 0 || used * 10 >= CPU_SECONDS_MIN_TENTHS || gone >= LONGER_MAX * o->seconds)
            return;
    }
}

void flow_run(const struct options *o, struct flow *f) {
    struct tree tree;
    tree_find(&tree, o->pid);
    usleep(200000); /* what the preparation caused has settled */
    atomic_store(&run.stop, false);
    atomic_store(&run.sent, false);
    pthread_t publishing, receiving;
    struct cpu begin = tree_cpu(&tree);
    double own = own_cpu_s();
    uint64_t start = now_ns();
    if (f->sub_count > 0)
        pthread_create(&receiving, NULL, receive, f);
    pthread_create(&publishing, NULL, publish, f);
    load_pause(o, &tree, begin);
    atomic_store(&run.stop, true);
    pthread_join(publishing, NULL);
    if (f->sub_count > 0)
        pthread_join(receiving, NULL);
    for (uint32_t i = 0; f->sub_count == 0 && i < f->pub_count; i++)
        net_flush(f->pub[i].conn);
    uint64_t end = f->sub_count > 0 ? atomic_load(&run.last_ns) : now_ns();
    struct cpu used = tree_cpu(&tree);
    used.user_s -= begin.user_s;
    used.system_s -= begin.system_s;

    uint64_t messages = 0;
    for (uint32_t i = 0; i < f->pub_count; i++)
        messages += f->pub[i].messages;
    double seconds = (double)(end - start) * 1e-9;
    double handled = (double)(messages * (f->sub_count > 0 ? f->copies : 1));
    put_number("size", o->size);
    put_number("pubs", f->pub_count);
    put_number("subs", f->sub_count);
    put_number("seconds", seconds);
    put_number("published_per_s", (double)messages / seconds);
    put_number("rate", handled / seconds);
    put_number("mb_per_s", handled * o->size / seconds / 1e6);
    put_number("cpu_ns", (used.user_s + used.system_s) / handled * 1e9);
    put_number("user_ns", used.user_s / handled * 1e9);
    put_number("system_ns", used.system_s / handled * 1e9);
    put_number("cpu_s", used.user_s + used.system_s);
    put_number("client_cpu_ns", (own_cpu_s() - own) / handled * 1e9);
}

void mode_flow(const struct options *o, bool pairs) {
    struct flow f = {.pub_count = o->pubs, .sub_count = pairs ? o->pubs : o->subs};
    f.copies = pairs || o->queue ? 1 : f.sub_count;
    f.pub = take(f.pub_count * sizeof *f.pub);
    struct conn *subs = take((f.sub_count + 1) * sizeof *subs);
    f.sub = subs;
    char subject[64] = "load.subject";
    for (uint32_t i = 0; i < f.sub_count; i++) {
        subs[i] = net_open(o);
        if (pairs)
            snprintf(subject, sizeof subject, "load.pair%03u", i);
        net_printf(subs[i], "SUB %s %s1\r\n", subject, o->queue ? "workers " : "");
        net_flush(subs[i]);
        net_read_ahead(subs[i]);
    }
    for (uint32_t i = 0; i < f.pub_count; i++) {
        if (pairs)
            snprintf(subject, sizeof subject, "load.pair%03u", i);
        struct block *b = take(sizeof *b);
        *b = block_of(subject, o->size, (uint32_t)f.copies);
        f.pub[i] = (struct publisher){.conn = net_open(o), .block = b, .block_count = 1};
    }
    flow_run(o, &f);
}
