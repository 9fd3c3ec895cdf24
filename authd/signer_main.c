/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead-signer: holds the private keys of TLS, and signs handshakes.
 *
 * An edge sends requests of a fixed size over a socket of its own (ipc/sign.h), this process answers them one after the
 * other: one of each edge in turn, so a flood from one makes no other wait. An edge that has not read
 * its answer is not read further. A request that no handshake makes is refused, counted and logged; a
 * packet that is none ends that conversation, and with it the handshakes of that edge.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "authd/signer.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "ipc/channel.h"
#include "ipc/control.pb-c.h"
#include "ipc/note.h"
#include "ipc/settings.h"
#include "shm/commit.h"
#include "shm/counters.h"
#include "shm/memfd.h"

static const struct sandbox_call allowed_calls[] = {
    SANDBOX_CALL(epoll_wait),
    SANDBOX_CALL(epoll_ctl),
    SANDBOX_CALL(recvmsg),
    SANDBOX_CALL(recvfrom),
    SANDBOX_CALL(fstat),
    SANDBOX_CALL(newfstatat),
    SANDBOX_CALL_ARGS(sendto, SANDBOX_ARG(3, MSG_FASTOPEN, 0), SANDBOX_ARG(4, UINT64_MAX, 0)),
    SANDBOX_CALL_ARGS(fcntl, SANDBOX_ARG(1, UINT32_MAX, F_GETFL)),
};

enum { STATE_NEW = 0, STATE_SET, STATE_SERVING };
#define IN(state) (1u << (state))
#define IN_ALL    (IN(STATE_NEW) | IN(STATE_SET) | IN(STATE_SERVING))

enum {
    EVENT_CONTROL = 1,
    EVENT_EDGE = 100,
    PACKETS_PER_TURN = 16,
    SECURE_BYTES = 1 << 20,
    REFUSALS_LOGGED = 10,
    REFUSALS_MS = 10000
};

struct edge {
    int fd;          /* -1: none */
    uint32_t kind;   /* enum link_kind */
    uint32_t polled; /* epoll events; 0: not polled */
    bool waits;      /* its answer found no room */
    bool readable;   /* may have a request */
    struct sign_answer answer;
};

struct process {
    int epoll;
    struct channel control;
    struct settings settings;
    struct settings_change change; /* prepared, not yet in force */
    struct counters *counters;
    struct signer signer;
    bool staged_bad; /* the staged keys could not be read */
    uint32_t staged_generation;
    uint64_t refusals_ms; /* since when refusals are counted for the log */
    uint32_t refusals;
    struct edge edge[LINKS_MAX];
};

static struct process process;

/* ---- edges ---- */

static void poll_edge(struct process *p, uint32_t link, uint32_t events) {
    struct edge *edge = &p->edge[link];
    if (events == edge->polled)
        return;
    struct epoll_event event = {.events = events, .data.u64 = EVENT_EDGE + link};
    epoll_ctl(p->epoll, !edge->polled ? EPOLL_CTL_ADD : !events ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, edge->fd, &event);
    edge->polled = events;
}

static void close_edge(struct process *p, uint32_t link) {
    struct edge *edge = &p->edge[link];
    if (edge->fd < 0)
        return;
    poll_edge(p, link, 0);
    close(edge->fd);
    *edge = (struct edge){.fd = -1};
}

/* Says who asked for what, but never more than a few lines in ten seconds. */
static void refused(struct process *p, uint32_t link, const char *what) {
    counter_add(p->counters, COUNTER_SIGNATURES_REFUSED, 1);
    uint64_t now = clock_mono_ms();
    if (now - p->refusals_ms > REFUSALS_MS) {
        if (p->refusals > REFUSALS_LOGGED)
            log_warn("%u more requests for signatures were refused", p->refusals - REFUSALS_LOGGED);
        p->refusals_ms = now;
        p->refusals = 0;
    }
    if (p->refusals++ < REFUSALS_LOGGED)
        log_warn("The edge with link %u asked for a signature that no handshake needs: %s; it was refused", link, what);
}

/* False: no room; it goes out later. */
static bool send_answer(struct process *p, uint32_t link) {
    struct edge *edge = &p->edge[link];
    ssize_t n = send(edge->fd, &edge->answer, sizeof edge->answer, MSG_DONTWAIT | MSG_NOSIGNAL);
    edge->waits = n < 0 && (errno == EAGAIN || errno == EINTR);
    if (n < 0 && !edge->waits)
        close_edge(p, link);
    else
        poll_edge(p, link, edge->waits ? EPOLLOUT : EPOLLIN);
    return n > 0;
}

static void handle(struct process *p, uint32_t link, const struct sign_request *request) {
    struct edge *edge = &p->edge[link];
    const char *why = signer_sign(&p->signer, edge->kind, request, &edge->answer);
    if (why)
        refused(p, link, why);
    else
        counter_add(p->counters, COUNTER_SIGNATURES, 1);
    send_answer(p, link);
}

/* One request of one edge. */
static void serve(struct process *p, uint32_t link) {
    struct edge *edge = &p->edge[link];
    struct sign_request request;
    ssize_t n = recv(edge->fd, &request, sizeof request, MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        edge->readable = false;
    } else if (n == sizeof request && signer_is_whole(&request)) {
        handle(p, link, &request);
    } else {
        if (n > 0)
            refused(p, link, "a packet that is no request; its conversation ends");
        close_edge(p, link);
    }
}

/* One request of each edge that has any, in turn, a few times. */
static void serve_edges(struct process *p) {
    bool any = true;
    for (int round = 0; any && round < PACKETS_PER_TURN; round++) {
        any = false;
        for (uint32_t i = 0; i < LINKS_MAX; i++) {
            if (p->edge[i].fd >= 0 && p->edge[i].readable && !p->edge[i].waits) {
                serve(p, i);
                any = true;
            }
        }
    }
}

static enum err open_edge(struct process *p, const Bulkhead__Peer *peer, int fd) {
    if (peer->link >= LINKS_MAX || peer->kind < LINK_FRONTEND || peer->kind > LINK_SYSACCT)
        return ERR_RANGE;
    close_edge(p, peer->link);
    p->edge[peer->link] = (struct edge){.fd = fd, .kind = peer->kind};
    poll_edge(p, peer->link, EPOLLIN);
    return ERR_OK;
}

/* ---- supervisor ---- */

static enum err on_settings(struct channel *c, void *owner, const void *message, const int *fds) {
    struct process *p = owner;
    void *counters = NULL;
    enum err e = settings_take(&p->settings, message);
    if (e == ERR_OK)
        e = memfd_map(&counters, fds[0], memfd_round(sizeof(struct counters)), 1);
    close(fds[0]);
    if (e != ERR_OK)
        return e;
    p->counters = counters;
    log_set(p->settings.debug, p->settings.trace);
    c->state = STATE_SET;
    return ERR_OK;
}

static enum err read_keys(struct signer_keys *keys, uint32_t generation, int fd, const char **why) {
    size_t bytes;
    void *at;
    *why = "their memory cannot be read";
    enum err e = memfd_size(fd, &bytes);
    if (e == ERR_OK && (bytes == 0 || bytes > SIGN_KEYS_BYTES_MAX))
        e = ERR_LONG;
    if (e == ERR_OK)
        e = memfd_map(&at, fd, bytes, 0);
    if (e != ERR_OK)
        return e;
    e = signer_keys_read(keys, generation, at, bytes, why);
    munmap(at, bytes);
    return e;
}

/* The first keys must do. Later ones that cannot be read make Prepare fail. */
static enum err on_keys(struct channel *c, void *owner, const void *message, const int *fds) {
    struct process *p = owner;
    uint32_t generation = ((const Bulkhead__Keys *)message)->generation;
    bool first = c->state == STATE_SET;
    struct signer_keys keys;
    const char *why;
    enum err e = read_keys(&keys, generation, fds[0], &why);
    close(fds[0]);
    if (e != ERR_OK)
        log_error("The TLS keys of generation %u are refused: %s", generation, why);
    p->staged_bad = e != ERR_OK;
    p->staged_generation = generation;
    if (e == ERR_OK)
        signer_take(&p->signer, &keys, first);
    if (!first)
        return ERR_OK;
    if (e != ERR_OK)
        return e;
    c->state = STATE_SERVING;
    return note_send(c, NOTE_READY, 0, 0);
}

static enum err on_prepare(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)fds;
    struct process *p = owner;
    const Bulkhead__Settings *m = message;
    if (p->staged_bad && p->staged_generation == m->generation) {
        p->change.prepared = false;
        return note_send(c, NOTE_PREPARED, m->generation, SETTINGS_BAD);
    }
    return settings_prepare(&p->change, c, m, UINT64_MAX);
}

static enum err on_commit(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)fds;
    struct process *p = owner;
    enum err e = settings_commit(&p->settings, &p->change, message);
    if (e != ERR_OK)
        return e;
    signer_commit(&p->signer, p->settings.generation);
    log_set(p->settings.debug, p->settings.trace);
    return note_send(c, NOTE_APPLIED, p->settings.generation, 0);
}

static enum err on_peer(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c;
    const Bulkhead__Peer *peer = message;
    enum err e = peer->role == BULKHEAD__ROLE__ROLE_FRONTEND ? open_edge(owner, peer, fds[0]) : ERR_STATE;
    if (e != ERR_OK)
        close(fds[0]);
    return e;
}

static enum err on_poke(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)message, (void)fds;
    counter_add(((struct process *)owner)->counters, COUNTER_HEARTBEAT, 1);
    return ERR_OK;
}

static enum err on_stop(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)owner, (void)message, (void)fds;
    _exit(0); /* nothing to tidy up, and no key is touched again */
}

static const struct channel_rule control_rules[] = {
    {MESSAGE_SETTINGS, 1, IN(STATE_NEW), 4096, &bulkhead__settings__descriptor, on_settings},
    {MESSAGE_KEYS, 1, IN(STATE_SET) | IN(STATE_SERVING), 64, &bulkhead__keys__descriptor, on_keys},
    {MESSAGE_PREPARE, 0, IN(STATE_SET) | IN(STATE_SERVING), 4096, &bulkhead__settings__descriptor, on_prepare},
    {MESSAGE_COMMIT, 0, IN(STATE_SET) | IN(STATE_SERVING), 64, &bulkhead__commit__descriptor, on_commit},
    {MESSAGE_PEER, 1, IN(STATE_SERVING), 64, &bulkhead__peer__descriptor, on_peer},
    {MESSAGE_POKE, 0, IN(STATE_SET) | IN(STATE_SERVING), 0, &bulkhead__poke__descriptor, on_poke},
    {MESSAGE_STOP, 0, IN_ALL, 64, &bulkhead__stop__descriptor, on_stop},
};

/* ---- the loop ---- */

static void on_event(struct process *p, uint64_t what, uint32_t events) {
    if (what >= EVENT_EDGE) {
        struct edge *edge = &p->edge[what - EVENT_EDGE];
        if (edge->fd >= 0 && edge->waits && events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
            send_answer(p, (uint32_t)(what - EVENT_EDGE));
        if (edge->fd >= 0)
            edge->readable = true;
        return;
    }
    enum err e = channel_receive(&p->control, PACKETS_PER_TURN);
    if (e == ERR_END)
        _exit(0); /* the supervisor has gone, and the family with it */
    if (e != ERR_OK)
        log_die("The signer cannot go on: the supervisor's message was refused: %s", err_text(e));
}

/* All that OpenSSL loads or opens comes before the filter; keys lie in memory that is neither swapped nor dumped. */
static void prepare_crypto(void) {
    if (!OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_ADD_ALL_CIPHERS | OPENSSL_INIT_ADD_ALL_DIGESTS,
                             NULL) ||
        RAND_status() != 1)
        log_die("The signer cannot prepare OpenSSL");
    int secure = CRYPTO_secure_malloc_init(SECURE_BYTES, 64);
    if (secure == 0)
        log_die("The signer has no memory for keys");
    if (secure == 2)
        log_warn("The memory of TLS keys cannot be locked: it may reach the swap space");
}

int main(void) {
    sandbox_start();
    struct process *p = &process;
    for (uint32_t i = 0; i < LINKS_MAX; i++)
        p->edge[i].fd = -1;
    prepare_crypto();
    p->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (p->epoll < 0 || channel_open(&p->control, CONTROL_FD, "supervisor", control_rules,
                                     sizeof control_rules / sizeof *control_rules, p, 1) != ERR_OK)
        log_die("The signer has no control socket");
    if (channel_watch(&p->control, p->epoll, (union epoll_data){.u64 = EVENT_CONTROL}) != ERR_OK ||
        sandbox_enter(allowed_calls, sizeof allowed_calls / sizeof *allowed_calls) != ERR_OK)
        log_die("The sandbox was refused");
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(p->epoll, events, 64, -1);
        for (int i = 0; i < count; i++)
            on_event(p, events[i].data.u64, events[i].events);
        serve_edges(p);
        if (p->counters) {
            counter_add(p->counters, COUNTER_HEARTBEAT, 1);
            counter_set(p->counters, COUNTER_LOG_DROPPED, log_dropped());
        }
    }
}
