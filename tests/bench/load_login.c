/* SPDX-License-Identifier: Apache-2.0 */
/* Many logins at a time from one thread: non-blocking sockets and handshakes in one epoll set.
 *
 * The cores are shared with the server, so the client's side is kept small: TLS objects are used again for the next
 * client. It counts what the server did wrong towards it as a failure; a client that could not even connect ends the
 * program.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/bench/load.h"

enum { THREADS_MAX = 64, IN_BYTES = 2048, EVENTS = 64, STUCK_MS = 20000 };

/*             INFO came           handshake done         PONG came
 *   INFO --------------> HANDSHAKE ------------> LOGIN ------------> (free)
 *         plain: ----------------------------->                     */
enum state { STATE_INFO, STATE_HANDSHAKE, STATE_LOGIN };

struct client {
    struct client *next; /* of the free ones */
    struct conn conn;    /* .tls stays for the next one in this place */
    enum state state;
    uint64_t begun_ns;
    size_t have;
    char in[IN_BYTES]; /* what came since the last step, a string */
    size_t hello_len;
    char hello[CONNECT_MAX];
};

struct run {
    struct logins *l;
    int poller;
    uint32_t under_way;
    uint64_t started;
    struct client *free;
};

/* ---- one client ---- */

enum progress { WAITS, MOVED, IN, FAILED };

/* Reads what is there. False: closed, or too much. */
static bool read_more(struct client *c, struct conn from, const char *until, bool *came) {
    *came = false;
    for (;;) {
        ssize_t n = net_read(from, c->in + c->have, IN_BYTES - 1 - c->have);
        if (n <= 0)
            return n < 0;
        c->have += (size_t)n;
        c->in[c->have] = 0;
        if (strstr(c->in, until)) {
            *came = true;
            return true;
        }
    }
}

static enum progress hello(struct client *c) {
    c->have = 0;
    c->state = STATE_LOGIN;
    return net_try_write(c->conn, c->hello, c->hello_len) ? WAITS : FAILED;
}

static void tls_begin(struct client *c) {
    if (!c->conn.tls) {
        c->conn.tls = net_tls();
        SSL_set_fd(c->conn.tls, c->conn.fd);
    }
    BIO_set_fd(SSL_get_rbio(c->conn.tls), c->conn.fd, BIO_NOCLOSE);
    SSL_set_connect_state(c->conn.tls);
}

static enum progress take_info(const struct options *o, struct client *c) {
    bool came;
    if (!read_more(c, (struct conn){.fd = c->conn.fd}, "\r\n", &came))
        return FAILED;
    if (!came)
        return WAITS;
    c->hello_len = identity_connect(o, c->in, c->hello);
    if (!o->tls)
        return hello(c);
    tls_begin(c);
    c->state = STATE_HANDSHAKE;
    return MOVED;
}

static enum progress take_handshake(struct client *c) {
    int n = SSL_do_handshake(c->conn.tls);
    if (n == 1)
        return hello(c);
    return SSL_get_error(c->conn.tls, n) == SSL_ERROR_WANT_READ ? WAITS : FAILED;
}

static enum progress take_pong(struct client *c) {
    bool came;
    if (!read_more(c, c->conn, "PONG\r\n", &came) || strstr(c->in, "-ERR"))
        return FAILED;
    if (came && c->conn.tls && SSL_session_reused(c->conn.tls))
        die("a session was resumed");
    return came ? IN : WAITS;
}

static enum progress step(const struct options *o, struct client *c) {
    switch (c->state) {
    case STATE_INFO:
        return take_info(o, c);
    case STATE_HANDSHAKE:
        return take_handshake(c);
    case STATE_LOGIN:
        return take_pong(c);
    }
    return FAILED;
}

/* ---- all of them ---- */

static void start_one(struct run *r) {
    struct client *c = r->free;
    r->free = c->next;
    c->state = STATE_INFO;
    c->have = 0;
    c->begun_ns = now_ns();
    c->conn.fd = net_dial(r->l->options);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(r->poller, EPOLL_CTL_ADD, c->conn.fd, &event);
    r->started++;
    if (++r->under_way > r->l->most_under_way)
        r->l->most_under_way = r->under_way;
}

/* The place is free for another client. A TLS object that failed is not used again. */
static void end_one(struct run *r, struct client *c, bool keep_open) {
    if (keep_open)
        epoll_ctl(r->poller, EPOLL_CTL_DEL, c->conn.fd, NULL);
    else
        close(c->conn.fd);
    if (c->conn.tls && (SSL_clear(c->conn.tls) != 1 || SSL_set_session(c->conn.tls, NULL) != 1)) {
        SSL_free(c->conn.tls);
        c->conn.tls = NULL;
    }
    c->next = r->free;
    r->free = c;
    r->under_way--;
}

static void fail_one(struct run *r, struct client *c) {
    const char *error = strstr(c->in, "-ERR");
    if (!r->l->hold)
        die("a login failed in step %d after %.0f ms: %s", c->state, (double)(now_ns() - c->begun_ns) * 1e-6,
            error && c->have ? error : "closed");
    ERR_clear_error();
    SSL_free(c->conn.tls);
    c->conn.tls = NULL;
    r->l->failed++;
    end_one(r, c, false);
}

static void serve(struct run *r, struct client *c) {
    enum progress p;
    while ((p = step(r->l->options, c)) == MOVED) {
    }
    if (p == FAILED) {
        fail_one(r, c);
    } else if (p == IN) {
        uint64_t took = now_ns() - c->begun_ns;
        if (took > r->l->slowest_ns)
            r->l->slowest_ns = took;
        r->l->done++;
        end_one(r, c, r->l->hold);
    }
}

static bool wants_more(const struct run *r) {
    return r->free && !atomic_load_explicit(r->l->stop, memory_order_relaxed) &&
           (r->l->total == 0 || r->started < r->l->total);
}

void *logins_run(void *logins) {
    struct run r = {.l = logins, .poller = epoll_create1(0)};
    struct client *clients = take(r.l->at_a_time * sizeof *clients);
    for (uint32_t i = 0; i < r.l->at_a_time; i++) {
        clients[i].next = r.free;
        r.free = &clients[i];
    }
    for (;;) {
        bool more = wants_more(&r);
        if (!more && r.under_way == 0)
            break;
        struct epoll_event events[EVENTS];
        int n = epoll_wait(r.poller, events, EVENTS, more ? 0 : STUCK_MS);
        for (int i = 0; i < n; i++)
            serve(&r, events[i].data.ptr);
        if (n == 0 && more)
            start_one(&r);
        else if (n == 0 || (n < 0 && errno != EINTR))
            die("stuck: %u logins under way", r.under_way);
    }
    for (uint32_t i = 0; i < r.l->at_a_time; i++)
        SSL_free(clients[i].conn.tls);
    free(clients);
    close(r.poller);
    return NULL;
}

/* ---- the mode ---- */

void mode_login(const struct options *o) {
    pthread_t thread[THREADS_MAX];
    struct logins logins[THREADS_MAX];
    atomic_bool stop = false;
    struct tree tree;
    uint32_t threads = o->pubs < THREADS_MAX ? o->pubs : THREADS_MAX;
    tree_find(&tree, o->pid);
    struct cpu begin = tree_cpu(&tree);
    double own = own_cpu_s();
    uint64_t start = now_ns(), slowest = 0;
    for (uint32_t i = 0; i < threads; i++) {
        logins[i] = (struct logins){.options = o, .at_a_time = o->subs, .stop = &stop};
        pthread_create(&thread[i], NULL, logins_run, &logins[i]);
    }
    load_pause(o, &tree, begin);
    atomic_store(&stop, true);
    double count = 0;
    for (uint32_t i = 0; i < threads; i++) {
        pthread_join(thread[i], NULL);
        count += (double)logins[i].done;
        slowest = logins[i].slowest_ns > slowest ? logins[i].slowest_ns : slowest;
    }
    double took = (double)(now_ns() - start) * 1e-9;
    struct cpu end = tree_cpu(&tree);
    put_number("threads", threads);
    put_number("rate", count / took);
    put_number("cpu_ns", (end.user_s + end.system_s - begin.user_s - begin.system_s) / count * 1e9);
    put_number("user_ns", (end.user_s - begin.user_s) / count * 1e9);
    put_number("slowest_ms", (double)slowest * 1e-6);
    put_number("client_cpu_ns", (own_cpu_s() - own) / count * 1e9);
}
