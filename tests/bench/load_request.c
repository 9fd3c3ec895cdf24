/* SPDX-License-Identifier: Apache-2.0 */
/* Requests: one responder, requesters with one request out each, and the time until each answer.
 *
 * All texts have fixed lengths, so neither side parses: the reply subject stands at a known place of a known length. A
 * lone requester writes and reads; many share one thread and an epoll set.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "tests/bench/load.h"

#define SERVICE     "load.service"
#define INBOX       "_INBOX.load0000.0000000"
#define SERVER_PING "PING\r\n"

enum { INBOX_LEN = sizeof INBOX - 1, IN_BYTES = 65536 };

/* Lines of one size of payload. */
struct texts {
    size_t request_len, reply_at;   /* PUB load.service INBOX 16 */
    size_t delivered_len, inbox_at; /* MSG load.service 1 INBOX 16 */
    size_t answer_len;              /* PUB INBOX 16 */
    size_t answered_len;            /* MSG INBOX 1 16 */
    char request[128], answer[128]; /* lines without payload */
    size_t request_line, answer_line;
    uint32_t size;
};

static void texts_make(struct texts *t, uint32_t size) {
    char digits[16];
    size_t number = (size_t)snprintf(digits, sizeof digits, "%u", size);
    t->size = size;
    t->request_line = (size_t)snprintf(t->request, sizeof t->request, "PUB " SERVICE " " INBOX " %u\r\n", size);
    t->answer_line = (size_t)snprintf(t->answer, sizeof t->answer, "PUB " INBOX " %u\r\n", size);
    t->reply_at = sizeof "PUB " SERVICE " " - 1;
    t->inbox_at = sizeof "MSG " SERVICE " 1 " - 1;
    t->request_len = t->request_line + size + 2;
    t->answer_len = t->answer_line + size + 2;
    t->delivered_len = t->inbox_at + INBOX_LEN + 1 + number + 2 + size + 2;
    t->answered_len = sizeof "MSG " INBOX " 1 " - 1 + number + 2 + size + 2;
}

static void message_fill(char *at, const char *line, size_t line_len, uint32_t size) {
    memcpy(at, line, line_len);
    memset(at + line_len, 'r', size);
    memcpy(at + line_len + size, "\r\n", 2);
}

/* ---- the responder ---- */

struct responder {
    struct conn conn;
    const struct texts *texts;
};

/* Answers whole requests in at[0..len), returns the bytes used. *out_len grows by the answers at out. */
static size_t answer_all(const struct texts *t, const char *at, size_t len, char *out, size_t *out_len) {
    size_t used = 0;
    while (used < len) {
        size_t whole = at[used] == 'P' ? sizeof SERVER_PING - 1 : t->delivered_len;
        if (len - used < whole)
            break;
        if (at[used] != 'P') {
            message_fill(out + *out_len, t->answer, t->answer_line, t->size);
            memcpy(out + *out_len + 4, at + used + t->inbox_at, INBOX_LEN);
            *out_len += t->answer_len;
        }
        used += whole;
    }
    return used;
}

static void *respond(void *arg) {
    struct responder *r = arg;
    char *in = take(IN_BYTES), *out = take(2 * IN_BYTES);
    size_t have = 0;
    for (;;) {
        ssize_t n = net_read(r->conn, in + have, IN_BYTES - have);
        if (n <= 0)
            return NULL;
        have += (size_t)n;
        size_t out_len = 0, used = answer_all(r->texts, in, have, out, &out_len);
        memmove(in, in + used, have - used);
        have -= used;
        if (out_len > 0 && !net_try_write(r->conn, out, out_len))
            return NULL;
    }
}

/* ---- requesters ---- */

struct requester {
    struct conn conn;
    char *message;
    uint32_t number;
    uint64_t sent_ns;
    size_t have; /* bytes of an answer that is coming in */
};

struct latencies {
    uint32_t *ns;
    size_t count, cap;
};

static void latency_add(struct latencies *l, uint64_t ns) {
    if (l->count == l->cap) {
        l->cap = l->cap ? 2 * l->cap : 1 << 16;
        l->ns = realloc(l->ns, l->cap * sizeof *l->ns);
        if (!l->ns)
            die("no memory");
    }
    l->ns[l->count++] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

static int compare_ns(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void latencies_sort(struct latencies *l) {
    qsort(l->ns, l->count, sizeof *l->ns, compare_ns);
}

static double percentile_us(const struct latencies *l, double part) {
    return l->count ? l->ns[(size_t)((double)(l->count - 1) * part)] / 1000.0 : 0;
}

static void request_send(const struct texts *t, struct requester *q) {
    uint32_t n = q->number++;
    char *last = q->message + t->reply_at + INBOX_LEN - 1;
    for (int i = 0; i < 7; i++, n /= 10)
        last[-i] = (char)('0' + n % 10);
    q->sent_ns = now_ns();
    net_write(q->conn, q->message, t->request_len);
}

/* Reads what is there; true when the answer is complete. */
static bool answer_read(const struct texts *t, struct requester *q) {
    char in[IN_BYTES];
    ssize_t n = net_read(q->conn, in, sizeof in);
    if (n <= 0)
        die("the server closed a requester");
    size_t len = (size_t)n, ping = sizeof SERVER_PING - 1;
    if (q->have == 0 && in[0] == 'P') /* the server's own PING comes whole, before or behind an answer */
        len = len >= ping ? len - ping : 0;
    q->have += len;
    if (q->have < t->answered_len)
        return false;
    if (q->have != t->answered_len && q->have != t->answered_len + ping)
        die("an answer has another length than expected");
    q->have = 0;
    return true;
}

struct service {
    struct texts texts;
    struct responder responder;
    struct requester *requester;
    uint32_t count;
    int poller;
};

static void service_open(const struct options *o, struct service *s, uint32_t count) {
    pthread_t thread;
    texts_make(&s->texts, o->size);
    if (s->texts.delivered_len * count > IN_BYTES)
        die("too many requesters for that size");
    s->responder = (struct responder){net_open(o), &s->texts};
    net_printf(s->responder.conn, "SUB " SERVICE " workers 1\r\n");
    net_flush(s->responder.conn);
    pthread_create(&thread, NULL, respond, &s->responder);
    s->requester = take(count * sizeof *s->requester);
    s->count = count;
    s->poller = epoll_create1(0);
    for (uint32_t i = 0; i < count; i++) {
        struct requester *q = &s->requester[i];
        char name[16];
        q->conn = net_open(o);
        snprintf(name, sizeof name, "%04u", i % 10000);
        q->message = take(s->texts.request_len);
        message_fill(q->message, s->texts.request, s->texts.request_line, o->size);
        memcpy(q->message + s->texts.reply_at + sizeof "_INBOX.load" - 1, name, 4);
        net_printf(q->conn, "SUB _INBOX.load%s.* 1\r\n", name);
        net_flush(q->conn);
        struct epoll_event event = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(s->poller, EPOLL_CTL_ADD, q->conn.fd, &event);
    }
}

/* One answer has come, or nothing for a while. */
static void turn_one(struct service *s, struct latencies *l) {
    struct requester *q = s->requester;
    request_send(&s->texts, q);
    while (!answer_read(&s->texts, q)) {
    }
    latency_add(l, now_ns() - q->sent_ns);
}

static uint32_t turn_many(struct service *s, struct latencies *l, bool send_more) {
    struct epoll_event events[64];
    uint32_t answered = 0;
    int n = epoll_wait(s->poller, events, 64, 10000);
    if (n <= 0)
        die("no answer for 10 s");
    for (int i = 0; i < n; i++) {
        struct requester *q = &s->requester[events[i].data.u32];
        if (!answer_read(&s->texts, q))
            continue;
        latency_add(l, now_ns() - q->sent_ns);
        answered++;
        if (send_more)
            request_send(&s->texts, q);
    }
    return answered;
}

/* Requests for that time, and all their latencies, sorted. Returns the seconds it took. */
static double service_run(struct service *s, struct latencies *l, double seconds) {
    uint64_t start = now_ns(), until = start + (uint64_t)(seconds * 1e9);
    l->count = 0;
    if (s->count == 1) {
        while (now_ns() < until)
            turn_one(s, l);
    } else {
        uint32_t out = s->count;
        for (uint32_t i = 0; i < s->count; i++)
            request_send(&s->texts, &s->requester[i]);
        while (now_ns() < until)
            turn_many(s, l, true);
        while (out > 0)
            out -= turn_many(s, l, false);
    }
    double took = (double)(now_ns() - start) * 1e-9;
    latencies_sort(l);
    return took;
}

void mode_request(const struct options *o) {
    struct service s;
    struct latencies l = {0};
    struct tree tree;
    service_open(o, &s, o->pubs);
    tree_find(&tree, o->pid);
    service_run(&s, &l, 0.2); /* tables and caches are warm, the CPU is awake */
    struct cpu begin = tree_cpu(&tree);
    double took = service_run(&s, &l, o->seconds);
    struct cpu end = tree_cpu(&tree);
    put_number("clients", o->pubs);
    put_number("size", o->size);
    put_number("rate", (double)l.count / took);
    put_number("p50_us", percentile_us(&l, 0.5));
    put_number("p99_us", percentile_us(&l, 0.99));
    put_number("p999_us", percentile_us(&l, 0.999));
    put_number("cpu_ns", (end.user_s + end.system_s - begin.user_s - begin.system_s) / (double)l.count * 1e9);
}

/* ---- floods ---- */

static atomic_bool flood_over;

struct flood {
    struct conn conn, reader;
    struct block block;
    atomic_bool closed; /* the server has closed the slow reader */
};

static void *flood_write(void *arg) {
    struct flood *f = arg;
    while (!atomic_load_explicit(&flood_over, memory_order_relaxed) &&
           net_try_write(f->conn, f->block.bytes, f->block.len)) {
    }
    return NULL;
}

/* Reads 8 MB/s: 80,000 bytes each 10 ms, by the clock, so that a late wake-up is made good. */
static void *flood_read(void *arg) {
    struct flood *f = arg;
    uint64_t start = now_ns(), got = 0;
    while (!atomic_load(&flood_over)) {
        uint64_t due = (now_ns() - start) / 1000 * 8;
        if (due <= got + 80000) {
            usleep(1000);
            continue;
        }
        ssize_t n = net_discard(f->reader, 80000, true);
        if (n <= 0) {
            atomic_store(&f->closed, true);
            return NULL;
        }
        got += (uint64_t)n;
    }
    return NULL;
}

static struct block subscribing_block(void) {
    enum { LINES = 1000, LINE_MAX = 64 };
    struct block b = {.bytes = take((size_t)LINES * LINE_MAX)};
    for (int i = 0; i < LINES; i++)
        b.len += (size_t)sprintf(b.bytes + b.len, "SUB flood.room%03d.x 7%03d\r\nUNSUB 7%03d\r\n", i, i, i);
    return b;
}

static void hold_wildcards(struct conn c, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) /* half begin like the requests' subjects, half could match anything */
        net_printf(c, i % 2 ? "SUB load.*.w%u.> %u\r\n" : "SUB *.w%u.> %u\r\n", i, i + 10);
    net_flush(c);
}

static void flood_begin(const struct options *o, struct flood *f) {
    pthread_t thread;
    *f = (struct flood){.conn = net_open(o)};
    if (!strcmp(o->flood, "publish")) {
        f->block = block_of("flood.subject", 16, 0);
    } else if (!strcmp(o->flood, "subscribe")) {
        f->block = subscribing_block();
    } else if (!strcmp(o->flood, "wildcards")) {
        hold_wildcards(f->conn, 10000);
        return;
    } else if (!strcmp(o->flood, "slow_reader")) {
        f->block = block_of("flood.subject", 128, 1);
        f->reader = net_open(o);
        net_printf(f->reader, "SUB flood.subject 1\r\n");
        net_flush(f->reader);
        pthread_create(&thread, NULL, flood_read, f);
    } else {
        die("-f is publish, subscribe, wildcards or slow_reader");
    }
    pthread_create(&thread, NULL, flood_write, f);
}

void mode_flood(const struct options *o) {
    struct service s;
    struct latencies l = {0};
    struct flood f;
    if (!o->flood)
        die("-f is missing");
    service_open(o, &s, 1);
    service_run(&s, &l, 0.2);
    double took = service_run(&s, &l, o->seconds);
    put_text("flood", o->flood);
    put_number("idle_rate", (double)l.count / took);
    put_number("idle_p50_us", percentile_us(&l, 0.5));
    put_number("idle_p99_us", percentile_us(&l, 0.99));
    double idle_us = percentile_us(&l, 0.99);
    flood_begin(o, &f);
    service_run(&s, &l, 0.3);
    took = service_run(&s, &l, o->seconds);
    put_number("rate", (double)l.count / took);
    put_number("p50_us", percentile_us(&l, 0.5));
    put_number("p99_us", percentile_us(&l, 0.99));
    put_number("p99_times", percentile_us(&l, 0.99) / idle_us);
    put_number("reader_closed", atomic_load(&f.closed));
    atomic_store(&flood_over, true); /* its threads end with the process */
}

/* ---- logins ---- */

enum { STORM_THREADS_MAX = 16, STORM_NICE = 19 };

static atomic_uint storm_threads;

/* The clients of a storm would be on other machines: here their threads give way to the requester's, which is on this
 * one too, and to the server. */
static void *storm_run(void *logins) {
    setpriority(PRIO_PROCESS, (id_t)gettid(), STORM_NICE);
    logins_run(logins);
    atomic_fetch_sub(&storm_threads, 1);
    return NULL;
}

static void storm_begin(const struct options *o, struct logins *logins, uint32_t threads, atomic_bool *stop) {
    pthread_t thread;
    atomic_store(&storm_threads, threads);
    for (uint32_t i = 0; i < threads; i++) {
        uint32_t share = o->count / threads + (i < o->count % threads);
        logins[i] = (struct logins){.options = o, .at_a_time = share, .total = share, .hold = true, .stop = stop};
        pthread_create(&thread, NULL, storm_run, &logins[i]);
        pthread_detach(thread);
    }
}

static void storm_report(const struct logins *logins, uint32_t threads, double took) {
    uint64_t done = 0, failed = 0, slowest = 0;
    uint32_t most = 0;
    for (uint32_t i = 0; i < threads; i++) {
        done += logins[i].done;
        failed += logins[i].failed;
        most += logins[i].most_under_way;
        slowest = logins[i].slowest_ns > slowest ? logins[i].slowest_ns : slowest;
    }
    put_number("login_rate", (double)done / took);
    put_number("failed", (double)failed);
    put_number("most_under_way", most);
    put_number("slowest_ms", (double)slowest * 1e-6);
}

void mode_storm(const struct options *o) {
    struct service s;
    struct latencies l = {0};
    struct logins logins[STORM_THREADS_MAX];
    atomic_bool stop = false;
    uint32_t threads = o->pubs < STORM_THREADS_MAX ? o->pubs : STORM_THREADS_MAX;
    service_open(o, &s, 1);
    service_run(&s, &l, 0.2);
    service_run(&s, &l, o->seconds);
    double idle_us = percentile_us(&l, 0.99);
    put_number("idle_p50_us", percentile_us(&l, 0.5));
    put_number("idle_p99_us", idle_us);
    l.count = 0;
    uint64_t start = now_ns();
    storm_begin(o, logins, threads, &stop);
    while (atomic_load(&storm_threads) > 0)
        turn_one(&s, &l);
    double took = (double)(now_ns() - start) * 1e-9;
    latencies_sort(&l);
    put_number("requests", (double)l.count);
    put_number("p50_us", percentile_us(&l, 0.5));
    put_number("p99_us", percentile_us(&l, 0.99));
    put_number("p999_us", percentile_us(&l, 0.999));
    put_number("p99_times", percentile_us(&l, 0.99) / idle_us);
    storm_report(logins, threads, took);
}
