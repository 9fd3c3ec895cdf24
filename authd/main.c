/* bulkhead-authd: decides who a connection is.
 *
 * It answers each login with a sealed binding (authd/logins.c). It talks to the supervisor, to the router, which must
 * know an account before a login into it is answered, and to each edge. While the router has not acknowledged the
 * account, the edges' sockets are not read: logins wait there, and nothing is lost when a router or this process dies.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "authd/accounts.h"
#include "authd/logins.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "ipc/auth.pb-c.h"
#include "ipc/book.pb-c.h"
#include "ipc/channel.h"
#include "ipc/control.pb-c.h"
#include "ipc/note.h"
#include "ipc/settings.h"
#include "shm/memfd.h"

static const struct sandbox_call allowed_calls[] = {
    SANDBOX_CALL(epoll_wait),
    SANDBOX_CALL(epoll_ctl),
    SANDBOX_CALL(recvmsg),
    SANDBOX_CALL_ARGS(sendto, SANDBOX_ARG(3, MSG_FASTOPEN, 0), SANDBOX_ARG(4, UINT64_MAX, 0)),
    SANDBOX_CALL_ARGS(fcntl, SANDBOX_ARG(1, UINT32_MAX, F_GETFL)),
};

enum { STATE_NEW = 0, STATE_SETTINGS, STATE_BOOK, STATE_SERVING };
#define IN(state) (1u << (state))
#define IN_ALL    (IN(STATE_NEW) | IN(STATE_SETTINGS) | IN(STATE_BOOK) | IN(STATE_SERVING))

enum { EVENT_CONTROL = 1, EVENT_ROUTER = 2, EVENT_EDGE = 100, PACKETS_PER_TURN = 64 };

struct edge {
    struct channel channel; /* fd -1: none */
    uint32_t polled;        /* epoll events; 0: not polled */
    struct logins_edge *logins;
};

struct authd {
    int epoll;
    struct channel control, router;
    uint32_t router_polled;
    struct binding_key *key; /* in locked memory */
    struct settings settings;
    struct settings_change change; /* prepared, not yet in force */
    struct counters *counters;
    struct book book;
    uint64_t known_pos; /* a reader of the book who has come so far knows every account */
    uint64_t read_pos;  /* how far the router has come */
    bool ready_told;
    struct logins logins;
    struct edge edge[LINKS_MAX];
};

static struct authd authd;

/* ---- polling ---- */

static void poll_set(const struct authd *a, int fd, uint64_t what, uint32_t *polled, uint32_t events) {
    if (events == *polled)
        return;
    struct epoll_event event = {.events = events, .data.u64 = what};
    epoll_ctl(a->epoll, !*polled ? EPOLL_CTL_ADD : !events ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, fd, &event);
    *polled = events;
}

static bool is_open(const struct authd *a) {
    return a->router.fd >= 0 && a->read_pos >= a->known_pos;
}

static void poll_edge(struct authd *a, uint32_t link) {
    struct edge *edge = &a->edge[link];
    uint32_t events = (is_open(a) ? EPOLLIN : 0u) | (edge->channel.backlog ? EPOLLOUT : 0u);
    poll_set(a, edge->channel.fd, EVENT_EDGE + link, &edge->polled, events);
}

static void poll_edges(struct authd *a) {
    for (uint32_t i = 0; i < LINKS_MAX; i++) {
        if (a->edge[i].channel.fd >= 0)
            poll_edge(a, i);
    }
}

/* ---- edges ---- */

static void close_edge(struct authd *a, uint32_t link) {
    struct edge *edge = &a->edge[link];
    if (edge->channel.fd < 0)
        return;
    poll_set(a, edge->channel.fd, 0, &edge->polled, 0);
    channel_close(&edge->channel);
}

static enum err on_login(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)fds;
    struct edge *edge = owner;
    const Bulkhead__Login *login = message;
    struct binding binding;
    enum err e = logins_decide(&authd.logins, edge->logins, login->conn, login->generation, clock_wall_s(), &binding);
    if (e != ERR_OK) {
        Bulkhead__Refusal refusal = BULKHEAD__REFUSAL__INIT;
        refusal.id = login->id;
        refusal.reason = BULKHEAD__REFUSAL_REASON__REFUSAL_STALE;
        return channel_send(c, MESSAGE_REFUSAL, &refusal.base, NULL, 0);
    }
    Bulkhead__Bound bound = BULKHEAD__BOUND__INIT;
    bound.id = login->id;
    bound.sealed = (ProtobufCBinaryData){sizeof binding, (uint8_t *)&binding};
    bound.payload_max = binding.payload_max;
    return channel_send(c, MESSAGE_BOUND, &bound.base, NULL, 0);
}

static const struct channel_rule edge_rules[] = {
    {MESSAGE_LOGIN, 0, 1, 64, &bulkhead__login__descriptor, on_login},
};

/* The same process on a new socket keeps its generations; another one starts anew. */
static enum err remember_edge(struct edge *edge, const Bulkhead__Peer *peer) {
    if (!edge->logins)
        edge->logins = calloc(1, sizeof *edge->logins);
    else if (edge->logins->incarnation != peer->incarnation)
        memset(edge->logins, 0, sizeof *edge->logins);
    if (!edge->logins)
        return ERR_NOMEM;
    edge->logins->link = peer->link;
    edge->logins->incarnation = peer->incarnation;
    edge->logins->kind = (uint8_t)peer->kind;
    return ERR_OK;
}

static enum err open_edge(struct authd *a, const Bulkhead__Peer *peer, int fd) {
    if (peer->link >= LINKS_MAX || peer->kind < LINK_FRONTEND || peer->kind > LINK_SYSACCT)
        return ERR_RANGE;
    struct edge *edge = &a->edge[peer->link];
    close_edge(a, peer->link);
    enum err e = remember_edge(edge, peer);
    if (e == ERR_OK)
        e = channel_open(&edge->channel, fd, "an edge", edge_rules, 1, edge, 0);
    if (e != ERR_OK)
        return e;
    Bulkhead__Policy policy = BULKHEAD__POLICY__INIT;
    policy.auth_required = policy.login = policy.nonce = false;
    policy.anonymous = true;
    policy.log_form = BULKHEAD__LOG_FORM__LOG_PLAIN;
    if (channel_send(&edge->channel, MESSAGE_POLICY, &policy.base, NULL, 0) == ERR_OK)
        poll_edge(a, peer->link);
    else
        close_edge(a, peer->link);
    return ERR_OK;
}

/* ---- router ---- */

static void close_router(struct authd *a) {
    if (a->router.fd < 0)
        return;
    poll_set(a, a->router.fd, EVENT_ROUTER, &a->router_polled, 0);
    channel_close(&a->router);
    a->read_pos = 0;
    poll_edges(a);
}

static enum err on_book_read(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct authd *a = owner;
    a->read_pos = ((const Bulkhead__BookRead *)message)->read_pos;
    poll_edges(a);
    if (!is_open(a) || a->ready_told)
        return ERR_OK;
    a->ready_told = true;
    return note_send(a->control.fd, NOTE_READY, 0, 0);
}

static const struct channel_rule router_rules[] = {
    {MESSAGE_BOOK_READ, 0, 1, 64, &bulkhead__book_read__descriptor, on_book_read},
};

static enum err open_router(struct authd *a, int fd) {
    close_router(a);
    enum err e = channel_open(&a->router, fd, "router", router_rules, 1, a, 0);
    if (e != ERR_OK)
        return e;
    poll_set(a, fd, EVENT_ROUTER, &a->router_polled, EPOLLIN);
    Bulkhead__BookGrown grown = BULKHEAD__BOOK_GROWN__INIT;
    grown.written_pos = a->book.pos;
    if (channel_send(&a->router, MESSAGE_BOOK_GROWN, &grown.base, NULL, 0) != ERR_OK)
        close_router(a); /* it has died already; the next one will come */
    return ERR_OK;
}

/* ---- supervisor ---- */

static enum err on_key(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)fds;
    struct authd *a = owner;
    const Bulkhead__Key *key = message;
    if (key->key.len != BINDING_KEY_BYTES || key->number > UINT16_MAX)
        return ERR_RANGE;
    a->key->number = (uint16_t)key->number;
    memcpy(a->key->key, key->key.data, BINDING_KEY_BYTES);
    c->state = STATE_SETTINGS;
    return ERR_OK;
}

static enum err on_settings(struct channel *c, void *owner, const void *message, const int *fds) {
    struct authd *a = owner;
    void *counters = NULL;
    enum err e = settings_take(&a->settings, message);
    if (e == ERR_OK)
        e = memfd_map(&counters, fds[0], memfd_round(sizeof(struct counters)), 1);
    close(fds[0]);
    if (e != ERR_OK)
        return e;
    a->counters = counters;
    log_set(a->settings.debug, a->settings.trace);
    logins_open(&a->logins, a->key, a->counters, a->settings.max_payload, a->settings.max_subscriptions,
                clock_wall_ns());
    c->state = STATE_BOOK;
    return ERR_OK;
}

static enum err on_prepare(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)fds;
    return settings_prepare(&((struct authd *)owner)->change, c->fd, message, UINT64_MAX);
}

static enum err on_commit(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)fds;
    struct authd *a = owner;
    enum err e = settings_commit(&a->settings, &a->change, message);
    if (e != ERR_OK)
        return e;
    a->logins.payload_max = a->settings.max_payload;
    a->logins.subs_max = a->settings.max_subscriptions;
    log_set(a->settings.debug, a->settings.trace);
    return note_send(c->fd, NOTE_APPLIED, a->settings.generation, 0);
}

static enum err on_auth_part(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)owner, (void)message;
    close(fds[0]);
    return ERR_OK;
}

/* The last thing that needs more than the filter allows. */
static enum err on_book(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)message;
    struct authd *a = owner;
    enum err e = accounts_open(&a->book, fds[0], &a->known_pos);
    close(fds[0]);
    if (e != ERR_OK)
        return e;
    c->state = STATE_SERVING;
    return sandbox_enter(allowed_calls, sizeof allowed_calls / sizeof *allowed_calls);
}

static enum err on_peer(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c;
    struct authd *a = owner;
    const Bulkhead__Peer *peer = message;
    enum err e = peer->role == BULKHEAD__ROLE__ROLE_ROUTER     ? open_router(a, fds[0])
                 : peer->role == BULKHEAD__ROLE__ROLE_FRONTEND ? open_edge(a, peer, fds[0])
                                                               : ERR_STATE;
    if (e != ERR_OK)
        close(fds[0]);
    return e;
}

static enum err on_stop(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)owner, (void)message, (void)fds;
    exit(0);
}

static const struct channel_rule control_rules[] = {
    {MESSAGE_KEY, 0, IN(STATE_NEW), 128, &bulkhead__key__descriptor, on_key},
    {MESSAGE_SETTINGS, 1, IN(STATE_SETTINGS), 4096, &bulkhead__settings__descriptor, on_settings},
    {MESSAGE_AUTH_PART, 1, IN(STATE_BOOK) | IN(STATE_SERVING), 64, &bulkhead__auth_part__descriptor, on_auth_part},
    {MESSAGE_BOOK, 1, IN(STATE_BOOK), 0, &bulkhead__book__descriptor, on_book},
    {MESSAGE_PREPARE, 0, IN(STATE_BOOK) | IN(STATE_SERVING), 4096, &bulkhead__settings__descriptor, on_prepare},
    {MESSAGE_COMMIT, 0, IN(STATE_BOOK) | IN(STATE_SERVING), 64, &bulkhead__commit__descriptor, on_commit},
    {MESSAGE_PEER, 1, IN(STATE_SERVING), 64, &bulkhead__peer__descriptor, on_peer},
    {MESSAGE_STOP, 0, IN_ALL, 0, &bulkhead__stop__descriptor, on_stop},
};

/* ---- the loop ---- */

static void on_edge_event(struct authd *a, uint32_t link, uint32_t events) {
    struct edge *edge = &a->edge[link];
    if (edge->channel.fd < 0)
        return;
    if (events & EPOLLOUT)
        channel_flush(&edge->channel);
    /* An answer may wait, but then the next login does too: who does not read is not read. */
    enum err e = ERR_OK;
    if (is_open(a) && !edge->channel.backlog)
        e = channel_receive(&edge->channel, PACKETS_PER_TURN);
    if (e != ERR_OK)
        close_edge(a, link);
    else
        poll_edge(a, link);
}

static void on_event(struct authd *a, uint64_t what, uint32_t events) {
    if (what >= EVENT_EDGE) {
        on_edge_event(a, (uint32_t)(what - EVENT_EDGE), events);
    } else if (what == EVENT_ROUTER) {
        if (a->router.fd >= 0 && channel_receive(&a->router, PACKETS_PER_TURN) != ERR_OK)
            close_router(a);
    } else {
        enum err e = channel_receive(&a->control, PACKETS_PER_TURN);
        if (e == ERR_END)
            exit(0); /* the supervisor has gone, and the family with it */
        if (e != ERR_OK)
            log_die("authd cannot go on: the supervisor's message was refused: %s", err_text(e));
    }
}

static struct binding_key *lock_key_page(void) {
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        log_die("authd has no memory for the binding key");
    if (mlock(page, 4096) != 0)
        log_warn("The binding key of authd cannot be locked into memory: it may reach the swap space");
    madvise(page, 4096, MADV_DONTDUMP);
    return page;
}

int main(void) {
    sandbox_start();
    struct authd *a = &authd;
    a->key = lock_key_page();
    a->epoll = epoll_create1(EPOLL_CLOEXEC);
    a->router.fd = -1;
    for (uint32_t i = 0; i < LINKS_MAX; i++)
        a->edge[i].channel.fd = -1;
    uint32_t control_polled = 0;
    if (a->epoll < 0 || channel_open(&a->control, CONTROL_FD, "supervisor", control_rules,
                                     sizeof control_rules / sizeof *control_rules, a, 1) != ERR_OK)
        log_die("authd has no control socket");
    poll_set(a, CONTROL_FD, EVENT_CONTROL, &control_polled, EPOLLIN);
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(a->epoll, events, 64, -1);
        for (int i = 0; i < count; i++)
            on_event(a, events[i].data.u64, events[i].events);
        if (a->counters)
            counter_add(a->counters, COUNTER_HEARTBEAT, 1);
    }
}
