/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead-authd: decides who a connection is.
 *
 * It answers each login with a sealed binding or a refusal (authd/edges.c). It talks to the supervisor, to the router,
 * which must know all that is in force before a login is answered, and to each edge. While the router does not, the
 * edges' sockets are not read: logins wait there, and nothing is lost when a router or this process dies.
 */
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "authd/authd.h"
#include "authd/certificate.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "ipc/note.h"
#include "shm/memfd.h"

/* Locked memory for the credentials of a reload is made when the filter holds already. */
static const struct sandbox_call allowed_calls[] = {
    SANDBOX_CALL(epoll_wait),
    SANDBOX_CALL(epoll_ctl),
    SANDBOX_CALL(recvmsg),
    SANDBOX_CALL(fstat),
    SANDBOX_CALL(newfstatat),
    SANDBOX_CALL(mlock),
    SANDBOX_CALL(munlock),
    SANDBOX_CALL_ARGS(madvise, SANDBOX_ARG(2, UINT32_MAX, MADV_DONTDUMP)),
    SANDBOX_CALL_ARGS(madvise, SANDBOX_ARG(2, UINT32_MAX, MADV_DODUMP)),
    SANDBOX_CALL_ARGS(sendto, SANDBOX_ARG(3, MSG_FASTOPEN, 0), SANDBOX_ARG(4, UINT64_MAX, 0)),
    SANDBOX_CALL_ARGS(fcntl, SANDBOX_ARG(1, UINT32_MAX, F_GETFL)),
};

enum { STATE_NEW = 0, STATE_SETTINGS, STATE_BOOK, STATE_SERVING };
#define IN(state) (1u << (state))
#define IN_ALL    (IN(STATE_NEW) | IN(STATE_SETTINGS) | IN(STATE_BOOK) | IN(STATE_SERVING))

static struct authd authd;

/* ---- polling ---- */

void authd_poll(const struct authd *a, int fd, uint64_t what, uint32_t *polled, uint32_t events) {
    if (events == *polled)
        return;
    struct epoll_event event = {.events = events, .data.u64 = what};
    epoll_ctl(a->epoll, !*polled ? EPOLL_CTL_ADD : !events ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, fd, &event);
    *polled = events;
}

bool authd_is_open(const struct authd *a) {
    return a->router.fd >= 0 && a->read_pos >= a->known_pos;
}

/* A router that is not there reads the whole book when it comes. */
static void pay_applied(struct authd *a) {
    if (!a->applied_owed || (a->router.fd >= 0 && !authd_is_open(a)))
        return;
    a->applied_owed = false;
    note_send(&a->control, NOTE_APPLIED, a->settings.generation, 0);
}

void authd_on_book(struct authd *a) {
    edges_poll(a);
    pay_applied(a);
    if (!authd_is_open(a) || a->ready_told)
        return;
    a->ready_told = true;
    note_send(&a->control, NOTE_READY, 0, 0);
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
    logins_open(&a->logins, a->key, a->counters, clock_wall_ns());
    c->state = STATE_BOOK;
    return ERR_OK;
}

static enum err on_auth_part(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c;
    part_stage(owner, fds[0], ((const Bulkhead__AuthPart *)message)->generation);
    return ERR_OK;
}

static enum err on_prepare(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)fds;
    struct authd *a = owner;
    const Bulkhead__Settings *m = message;
    if (part_prepare(a, m->generation))
        return settings_prepare(&a->change, c, m, UINT64_MAX);
    a->change.prepared = false;
    return note_send(c, NOTE_PREPARED, m->generation, SETTINGS_BAD);
}

static enum err on_commit(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct authd *a = owner;
    enum err e = settings_commit(&a->settings, &a->change, message);
    if (e != ERR_OK)
        return e;
    log_set(a->settings.debug, a->settings.trace);
    part_commit(a);
    a->applied_owed = true;
    authd_on_book(a);
    return ERR_OK;
}

/* The last thing that needs more than the filter allows. */
static enum err on_book(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)message;
    struct authd *a = owner;
    uint32_t polled = 0;
    enum err e = part_start(a, fds[0], fds[1]);
    close(fds[0]);
    close(fds[1]);
    if (e == ERR_OK)
        e = edges_start(a);
    if (e != ERR_OK)
        return e;
    authd_poll(a, a->hashing.bell[0], EVENT_HASHES, &polled, EPOLLIN | EPOLLET);
    c->state = STATE_SERVING;
    return sandbox_enter(allowed_calls, sizeof allowed_calls / sizeof *allowed_calls);
}

static enum err on_peer(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c;
    struct authd *a = owner;
    const Bulkhead__Peer *peer = message;
    enum err e = peer->role == BULKHEAD__ROLE__ROLE_ROUTER     ? router_open(a, fds[0])
                 : peer->role == BULKHEAD__ROLE__ROLE_FRONTEND ? edge_open(a, peer, fds[0])
                                                               : ERR_STATE;
    if (e != ERR_OK)
        close(fds[0]);
    return e;
}

static enum err on_poke(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)message, (void)fds;
    counter_add(((struct authd *)owner)->counters, COUNTER_HEARTBEAT, 1);
    return ERR_OK;
}

static enum err on_stop(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)owner, (void)message, (void)fds;
    exit(0);
}

static const struct channel_rule control_rules[] = {
    {MESSAGE_KEY, 0, IN(STATE_NEW), 128, &bulkhead__key__descriptor, on_key},
    {MESSAGE_SETTINGS, 1, IN(STATE_SETTINGS), 4096, &bulkhead__settings__descriptor, on_settings},
    {MESSAGE_AUTH_PART, 1, IN(STATE_BOOK) | IN(STATE_SERVING), 64, &bulkhead__auth_part__descriptor, on_auth_part},
    {MESSAGE_BOOK, 2, IN(STATE_BOOK), 0, &bulkhead__book__descriptor, on_book},
    {MESSAGE_PREPARE, 0, IN(STATE_SERVING), 4096, &bulkhead__settings__descriptor, on_prepare},
    {MESSAGE_COMMIT, 0, IN(STATE_SERVING), 64, &bulkhead__commit__descriptor, on_commit},
    {MESSAGE_PEER, 1, IN(STATE_SERVING), 64, &bulkhead__peer__descriptor, on_peer},
    {MESSAGE_POKE, 0, IN(STATE_BOOK) | IN(STATE_SERVING), 0, &bulkhead__poke__descriptor, on_poke},
    {MESSAGE_STOP, 0, IN_ALL, 0, &bulkhead__stop__descriptor, on_stop},
};

/* ---- the loop ---- */

static void on_event(struct authd *a, uint64_t what, uint32_t events) {
    if (what >= EVENT_EDGE) {
        edge_on_event(a, (uint32_t)(what - EVENT_EDGE), events);
    } else if (what == EVENT_ROUTER) {
        router_on_event(a);
    } else if (what == EVENT_CONTROL) { /* a hash wakes the loop, that is all */
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
    if (sodium_init() < 0)
        log_die("authd has no random numbers");
    certificates_open();
    a->epoll = epoll_create1(EPOLL_CLOEXEC);
    a->router.fd = a->part_fd = -1;
    penalties_open(&a->penalties);
    for (uint32_t i = 0; i < LINKS_MAX; i++)
        a->edge[i].channel.fd = -1;
    if (a->epoll < 0 ||
        channel_open(&a->control, CONTROL_FD, "supervisor", control_rules, sizeof control_rules / sizeof *control_rules,
                     a, 1) != ERR_OK ||
        channel_watch(&a->control, a->epoll, (union epoll_data){.u64 = EVENT_CONTROL}) != ERR_OK)
        log_die("authd has no control socket");
    for (;;) {
        struct epoll_event events[64];
        int count = epoll_wait(a->epoll, events, 64, edges_turn(a));
        for (int i = 0; i < count; i++)
            on_event(a, events[i].data.u64, events[i].events);
        if (a->counters) {
            counter_add(a->counters, COUNTER_HEARTBEAT, 1);
            counter_set(a->counters, COUNTER_LOG_DROPPED, log_dropped());
        }
    }
}
