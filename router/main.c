/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead-router: the kernel of the family.
 *
 * It holds accounts and interest and carries every message from one ring to others. It has no socket to the outside, no
 * file, and no secret but the binding key. It starts as a spare: executed, locked in and keyed, it waits until the supervisor
 * hands it the rings of its predecessor (router/replay.c).
 *
 * It never waits for anybody: the only place where it sleeps is wait_for_work().
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/idle.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "ipc/book.pb-c.h"
#include "ipc/control.pb-c.h"
#include "ipc/note.h"
#include "router/router.h"
#include "shm/memfd.h"

/* All that the router may ask of the kernel, beside the common calls of base/sandbox.c. */
static const struct sandbox_call router_calls[] = {
    SANDBOX_CALL(epoll_wait),
    SANDBOX_CALL(epoll_ctl),
    SANDBOX_CALL(recvmsg),
    SANDBOX_CALL_ARGS(sendto, SANDBOX_ARG(3, MSG_FASTOPEN, 0), SANDBOX_ARG(4, UINT64_MAX, 0)),
    SANDBOX_CALL_ARGS(fcntl, SANDBOX_ARG(1, UINT32_MAX, F_GETFL)),
    SANDBOX_CALL(fstat),
    SANDBOX_CALL(newfstatat),
    SANDBOX_CALL(sched_yield),
    SANDBOX_CALL(sysinfo), /* qsort asks how much memory there is */
};

enum { STATE_NEW = 0, STATE_SPARE, STATE_SERVING };
#define IN_NEW     (1u << STATE_NEW)
#define IN_SPARE   (1u << STATE_SPARE)
#define IN_SERVING (1u << STATE_SERVING)
#define IN_ALL     (IN_NEW | IN_SPARE | IN_SERVING)

enum { FOLLOW_MS = 1000 }; /* a spare reads on in the account book */
enum { EVENT_CONTROL = 1, EVENT_AUTHD = 2, EVENT_BELL = 100 };

static struct router router; /* one per process; large, so not on the stack */

static void watch(struct router *r, struct channel *c, uint64_t what) {
    check(channel_watch(c, r->epoll, (union epoll_data){.u64 = what}) == ERR_OK);
}

/* ---- authd ---- */

/* A new authd will come; the book is here. */
static void close_authd(struct router *r) {
    channel_close(&r->authd);
    r->authd_open = false;
}

static enum err on_book_grown(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)message, (void)fds;
    struct router *r = owner;
    (void)c;
    accounts_read(r);
    r->book_read_due = true; /* told when what follows from it is done */
    return ERR_OK;
}

static void tell_book_read(struct router *r) {
    r->book_read_due = false;
    Bulkhead__BookRead read_to = BULKHEAD__BOOK_READ__INIT;
    read_to.read_pos = r->book.pos;
    if (r->authd_open && channel_send(&r->authd, MESSAGE_BOOK_READ, &read_to.base, NULL, 0) != ERR_OK)
        close_authd(r);
}

static const struct channel_rule authd_rules[] = {
    {MESSAGE_BOOK_GROWN, 0, 1, 64, &bulkhead__book_grown__descriptor, on_book_grown},
};

/* ---- supervisor ---- */

static enum err on_key(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct router *r = owner;
    const Bulkhead__Key *m = message;
    if (r->have_key || m->key.len != BINDING_KEY_BYTES || m->number > UINT16_MAX)
        return ERR_STATE;
    r->key.number = (uint16_t)m->number;
    memcpy(r->key.key, m->key.data, BINDING_KEY_BYTES);
    memset(m->key.data, 0, m->key.len);
    r->have_key = true;
    return ERR_OK;
}

static enum err on_settings(struct channel *c, void *owner, const void *message, const int *fds) {
    struct router *r = owner;
    void *counters;
    enum err e = settings_take(&r->settings, message);
    if (e == ERR_OK)
        e = memfd_map(&counters, fds[0], sizeof(struct counters), 1);
    close(fds[0]);
    if (e != ERR_OK || !r->have_key)
        return e != ERR_OK ? e : ERR_STATE;
    r->counters = counters;
    log_set(r->settings.debug, r->settings.trace);
    c->state = STATE_SPARE;
    return sandbox_enter(router_calls, sizeof router_calls / sizeof *router_calls);
}

static enum err on_prepare(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)fds;
    struct router *r = owner;
    uint64_t cap = UINT64_MAX;
    for (uint32_t i = 0; i < r->link_high; i++) {
        const struct link *l = &r->link[i];
        if (l->state != LINK_LIVE)
            continue;
        uint64_t spill =
            2 * (l->spill.cap - CONTROL_RESERVE); /* an overflow holds one of the largest records, a ring two */
        cap = l->ingress.cap < cap ? l->ingress.cap : cap;
        cap = spill < cap ? spill : cap;
    }
    return settings_prepare(&r->change, c, message, cap);
}

/* max_payload only grows: larger messages that were accepted before are still on the way, and edges hold the limit. */
static enum err on_commit(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)fds;
    struct router *r = owner;
    uint32_t payload = r->settings.max_payload;
    enum err e = settings_commit(&r->settings, &r->change, message);
    if (e != ERR_OK)
        return e;
    if (payload > r->settings.max_payload)
        r->settings.max_payload = payload;
    log_set(r->settings.debug, r->settings.trace);
    return note_send(c, NOTE_APPLIED, r->settings.generation, 0);
}

static enum err on_book(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)message;
    struct router *r = owner;
    enum err e = r->book.at ? ERR_STATE : book_open(&r->book, fds[0], false);
    close(fds[0]);
    if (e == ERR_OK)
        accounts_read(r);
    return e;
}

static enum err on_kernel(struct channel *c, void *owner, const void *message, const int *fds) {
    struct router *r = owner;
    const Bulkhead__Kernel *m = message;
    void *page, *replies;
    enum err e = memfd_map(&page, fds[0], sizeof(struct commit_page), 1);
    if (e == ERR_OK && !r->book.at)
        e = ERR_STATE;
    if (e == ERR_OK)
        e = memfd_map(&replies, fds[1], sizeof(struct replies_table), 1);
    for (int i = 0; i < 2; i++)
        close(fds[i]);
    if (e != ERR_OK)
        return e;
    poison_open(r, page);
    replies_open(&r->replies, replies, &r->key);
    r->epoch = m->epoch;
    r->died_signal = m->died_signal;
    accounts_read(r); /* what is new since the spare looked last */
    c->state = STATE_SERVING;
    return ERR_OK;
}

static enum err on_link(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c;
    struct router *r = owner;
    const Bulkhead__Link *m = message;
    if (m->link >= LINKS_MAX || m->kind > LINK_SYSACCT || m->kind == 0)
        return ERR_RANGE;
    enum err e = link_map(r, m->link, (uint8_t)m->kind, m->incarnation, fds);
    if (e != ERR_OK)
        return e;
    struct link *l = &r->link[m->link];
    if (!m->fresh)
        l->state = LINK_REPLAY;
    if (r->begun) {
        if (link_open(r, l) != ERR_OK)
            link_end(r, l, "the positions of its rings cannot be");
        else if (m->fresh)
            l->state = LINK_LIVE;
    }
    return note_send(&r->control, NOTE_MAPPED, m->link, m->incarnation);
}

static enum err on_begin(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)message, (void)fds;
    struct router *r = owner;
    if (r->begun)
        return ERR_STATE;
    r->now = clock_mono_ns(); /* a spare has slept long */
    r->wall = clock_wall_s();
    takeover_begin(r);
    return ERR_OK;
}

static enum err on_link_down(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct router *r = owner;
    const Bulkhead__LinkDown *m = message;
    if (m->link >= LINKS_MAX)
        return ERR_RANGE;
    struct link *l = &r->link[m->link];
    if (l->state == LINK_NONE || l->incarnation != m->incarnation)
        return note_send(&r->control, NOTE_LINK_GONE, m->link, m->incarnation);
    link_end(r, l, NULL);
    l->end_told = false;
    l->down = true;
    return ERR_OK;
}

static enum err on_peer(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c;
    struct router *r = owner;
    const Bulkhead__Peer *m = message;
    if (m->role != BULKHEAD__ROLE__ROLE_AUTHD) {
        close(fds[0]);
        return ERR_STATE;
    }
    if (r->authd_open)
        channel_close(&r->authd);
    enum err e = channel_open(&r->authd, fds[0], "authd", authd_rules, 1, r, 0);
    r->authd_open = e == ERR_OK;
    if (r->authd_open)
        watch(r, &r->authd, EVENT_AUTHD);
    return e;
}

static enum err on_poke(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)message, (void)fds;
    struct router *r = owner;
    counter_add(r->counters, c->state == STATE_SPARE ? COUNTER_HEARTBEAT_SPARE : COUNTER_HEARTBEAT, 1);
    return ERR_OK;
}

static enum err on_stop(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)owner, (void)message, (void)fds;
    exit(0);
}

static const struct channel_rule control_rules[] = {
    {MESSAGE_KEY, 0, IN_NEW, 128, &bulkhead__key__descriptor, on_key},
    {MESSAGE_SETTINGS, 1, IN_NEW, 4096, &bulkhead__settings__descriptor, on_settings},
    {MESSAGE_PREPARE, 0, IN_SPARE | IN_SERVING, 4096, &bulkhead__settings__descriptor, on_prepare},
    {MESSAGE_COMMIT, 0, IN_SPARE | IN_SERVING, 64, &bulkhead__commit__descriptor, on_commit},
    {MESSAGE_BOOK, 1, IN_SPARE, 0, &bulkhead__book__descriptor, on_book},
    {MESSAGE_KERNEL, 2, IN_SPARE, 64, &bulkhead__kernel__descriptor, on_kernel},
    {MESSAGE_LINK, 10, IN_SERVING, 64, &bulkhead__link__descriptor, on_link},
    {MESSAGE_BEGIN, 0, IN_SERVING, 64, &bulkhead__begin__descriptor, on_begin},
    {MESSAGE_LINK_DOWN, 0, IN_SERVING, 64, &bulkhead__link_down__descriptor, on_link_down},
    {MESSAGE_PEER, 1, IN_SERVING, 64, &bulkhead__peer__descriptor, on_peer},
    {MESSAGE_POKE, 0, IN_SPARE | IN_SERVING, 0, &bulkhead__poke__descriptor, on_poke},
    {MESSAGE_STOP, 0, IN_ALL, 64, &bulkhead__stop__descriptor, on_stop},
};

/* ---- the loop ---- */

static void handle_event(struct router *r, uint64_t what) {
    turn_works_on(r, WORK_CONTROL);
    if (what == EVENT_CONTROL) {
        enum err e = channel_receive(&r->control, 64);
        if (e == ERR_END)
            exit(0); /* the supervisor has gone, and the family with it */
        if (e != ERR_OK)
            log_die("the supervisor's conversation broke: %s", err_text(e));
    } else if (what == EVENT_AUTHD) {
        if (r->authd_open && channel_receive(&r->authd, 64) != ERR_OK) {
            close_authd(r);
        }
    } else if (what >= EVENT_BELL && what < EVENT_BELL + LINKS_MAX) {
        char bells[256];
        struct link *l = &r->link[what - EVENT_BELL];
        if (l->state != LINK_NONE && read(l->bell_in, bells, sizeof bells) == 0)
            epoll_ctl(r->epoll, EPOLL_CTL_DEL, l->bell_in, NULL);
    }
    turn_works_on(r, WORK_NONE);
}

static bool poll_events(struct router *r, int timeout_ms) {
    struct epoll_event events[16];
    int n = epoll_wait(r->epoll, events, 16, timeout_ms);
    for (int i = 0; i < n; i++)
        handle_event(r, events[i].data.u64);
    return n > 0;
}

static void announce_sleep(struct router *r) {
    for (uint32_t i = 0; i < r->link_high && r->begun; i++) { /* before Begin the rings are mapped but not open */
        struct link *l = &r->link[i];
        if (l->state == LINK_REPLAY)
            ring_reader_sleeps(&l->replay);
        if (l->state == LINK_REPLAY && l->spilling)
            ring_writer_sleeps(&l->egress);
        if (l->state != LINK_LIVE)
            continue;
        ring_reader_sleeps(&l->ingress);
        if (l->spilling || l->full_since != 0 || l->marked_count != 0 || l->epoch_due || l->recheck_room != 0)
            ring_writer_sleeps(&l->egress);
    }
    ring_fence();
}

static bool takeover_has_work(struct router *r) {
    if (!r->begun || r->running || !r->recovered)
        return false; /* an overflow that is drained waits for room */
    bool awaited = false;
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (l->state != LINK_REPLAY)
            continue;
        awaited = true;
        if (!ring_reader_refresh(&l->replay) || ring_ready(&l->replay) != 0)
            return true;
    }
    return !awaited;
}

static bool has_work(struct router *r) {
    return r->running ? turn_has_work(r) : takeover_has_work(r);
}

static int sleep_ms(const struct router *r) {
    if (r->begun && !r->running)
        return 5;
    if (!r->begun)
        return FOLLOW_MS;
    if (r->waiting_count != 0 || r->spilling_count != 0)
        return 1;
    return r->expiring ? 1000 : -1;
}

static void wait_for_work(struct router *r, struct idle *idle) {
    uint64_t now = clock_mono_ns();
    if (idle->since_ns == 0)
        idle->since_ns = now;
    if (idle_spins(idle) && r->running) {
        while (now - idle->since_ns < IDLE_SPIN_NS) {
            if (has_work(r))
                return;
            sched_yield();
            now = clock_mono_ns();
        }
    }
    announce_sleep(r);
    if (!has_work(r))
        poll_events(r, sleep_ms(r));
}

static void run(struct router *r) {
    struct idle idle = {0};
    uint64_t last_look = 0, last_expiry = 0, last_followed = 0;
    for (;;) {
        bool worked = false;
        r->now = clock_mono_ns();
        if (unlikely(r->changes.active)) {
            turn_works_on(r, WORK_CHANGES);
            worked = changes_step(r);
            turn_works_on(r, WORK_NONE);
        }
        if (unlikely(r->book_read_due && !r->changes.active))
            tell_book_read(r);
        if (r->running) {
            worked |= turn_run(r);
            if (unlikely(r->wary & WARY_DEAD))
                worked |= links_clear(r);
        } else if (r->begun) {
            worked |= takeover_step(r);
        }
        if (worked)
            idle_end(&idle, r->now, r->turn_bytes);
        else
            wait_for_work(r, &idle);
        if (r->now - last_look > 1000000) { /* a busy router still hears its supervisor, and still rings true time */
            last_look = r->now;
            r->wall = clock_wall_s();
            poll_events(r, 0);
        }
        if (!r->begun && r->book.at && r->now - last_followed > FOLLOW_MS * 1000000u) {
            last_followed = r->now;
            accounts_read(r); /* a spare: nobody tells it that the book has grown */
        }
        if (r->expiring && r->running && r->wall != last_expiry) {
            last_expiry = r->wall;
            turn_works_on(r, WORK_REMOVAL);
            admit_expire(r);
            turn_works_on(r, WORK_NONE);
        }
    }
}

int main(void) {
    sandbox_start();
    struct router *r = &router;
    hash_key_make(&r->hash);
    r->tools = (struct permissions_tools){.hash = &r->hash, .slab = &r->slab, .work = &r->work};
    r->random = clock_mono_ns() | 1;
    r->wall = clock_wall_s();
    r->sub_chunk = calloc(SLOT_CHUNKS_MAX, sizeof(struct sub *)); /* large, so its pages come as they are touched */
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!r->sub_chunk || r->epoll < 0)
        log_die("no memory at start");
    mlock(&r->key, sizeof r->key);
    if (channel_open(&r->control, CONTROL_FD, "supervisor", control_rules, sizeof control_rules / sizeof *control_rules,
                     r, 1) != ERR_OK)
        log_die("no control socket");
    watch(r, &r->control, EVENT_CONTROL);
    run(r);
}
