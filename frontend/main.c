/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead-frontend: client sockets.
 *
 * It accepts clients on a listener of its own, parses what they send, hands it to the router through its link and writes what
 * the router hands back. It is exposed to the network and must be taken for lost: it holds no credential, cannot say who its
 * clients are (they come with sealed bindings), opens no file and no connection. When it dies, its own clients reconnect.
 *
 * It never waits on a client's socket, and always drains its egress ring, whatever its ingress ring does.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/idle.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "frontend/frontend.h"
#include "frontend/secrets.h"
#include "ipc/note.h"
#include "nats/json.h"

/* All that a frontend may ask of the kernel, beside the common calls of base/sandbox.c. No address in sendto and no
 * MSG_FASTOPEN: else a listener could be made to connect out. */
static const struct sandbox_call frontend_calls[] = {
    SANDBOX_CALL(epoll_wait),
    SANDBOX_CALL(epoll_ctl),
    SANDBOX_CALL(accept4),
    SANDBOX_CALL(writev),
    SANDBOX_CALL(recvfrom),
    SANDBOX_CALL(recvmsg),
    SANDBOX_CALL_ARGS(sendto, SANDBOX_ARG(3, MSG_FASTOPEN, 0), SANDBOX_ARG(4, UINT64_MAX, 0)),
    SANDBOX_CALL_ARGS(fcntl, SANDBOX_ARG(1, UINT32_MAX, F_GETFL)),
    SANDBOX_CALL(fstat),
    SANDBOX_CALL(newfstatat),
    SANDBOX_CALL(sched_yield),
    SANDBOX_CALL(poll),
};

enum { EVENTS = 512, LOOK_NS = 2000, STOP_MS = 2000 };

static struct frontend frontend; /* one per process; large, so not on the stack */

/* ---- events ---- */

static void read_clock(struct frontend *f) {
    f->now_ns = clock_mono_ns();
    f->now_ms = f->now_ns / 1000000;
}

static bool poll_events(struct frontend *f, int timeout_ms) {
    static struct epoll_event events[EVENTS];
    int n = epoll_wait(f->epoll, events, EVENTS, timeout_ms);
    if (n > 0)
        read_clock(f);
    for (int i = 0; i < n; i++)
        turn_event(f, &events[i]);
    return n > 0;
}

/* With a full ring no client is read, so the wait is for the router, the supervisor and authd alone. */
static void poll_link(struct frontend *f, int timeout_ms) {
    short control = f->control.backlog ? POLLIN | POLLOUT : POLLIN;
    struct pollfd fds[3] = {{.fd = f->link.bell_in, .events = POLLIN}, {.fd = f->control.fd, .events = control}};
    nfds_t count = 2;
    if (f->authd_open)
        fds[count++] = (struct pollfd){.fd = f->authd.fd, .events = POLLIN};
    if (poll(fds, count, timeout_ms) <= 0)
        return;
    char bells[256];
    if (fds[0].revents && read(f->link.bell_in, bells, sizeof bells) == 0)
        log_die("The router's doorbell has gone");
    if (fds[1].revents)
        control_events(f);
    if (count == 3 && fds[2].revents)
        login_events(f);
}

/* ---- waiting ---- */

/* Something moves on when the router has consumed more. */
static bool waits_for_router(const struct frontend *f) {
    return f->link.ring_full || !list_is_empty(&f->fenced) || !list_is_empty(&f->deferred) || !list_is_empty(&f->owing);
}

static bool has_work(struct frontend *f) {
    struct ring_reader *r = &f->link.egress;
    if (ring_ready(r) > 0 || !ring_reader_refresh(r) || ring_ready(r) > 0 || f->again || !list_is_empty(&f->ended) || !list_is_empty(&f->freed))
        return true;
    if (!f->link.ring_full && (!list_is_empty(&f->ready) || !list_is_empty(&f->admitted)))
        return true;
    if (waits_for_router(f) || edge_replay_pending(&f->replay)) {
        return !ring_writer_refresh(&f->link.ingress) || f->link.ingress.consumed_pos != f->link.consumed_acted;
    }
    return false;
}

/* Numbers of this sleep for the router: it rings for records, and for room when something waits for what it consumes. */
static void announce_sleep(struct frontend *f) {
    edge_link_sleeps(&f->link, waits_for_router(f), edge_replay_pending(&f->replay));
}

/* True if events were handled: the next turn need not look for them again. */
static bool wait_for_work(struct frontend *f, struct idle *idle) {
    uint64_t now = clock_mono_ns(), looked = now;
    if (idle->since_ns == 0)
        idle->since_ns = now;
    if (!f->go)
        return poll_events(f, -1);
    if (idle_spins(idle)) {
        while (now - idle->since_ns < IDLE_SPIN_NS) {
            if (has_work(f))
                return false;
            if (now - looked > LOOK_NS) {
                looked = now;
                if (!f->link.ring_full && poll_events(f, 0))
                    return true;
            }
            sched_yield();
            now = clock_mono_ns();
        }
    }
    if (f->read_left > 0)
        input_wipe(f);
    announce_sleep(f);
    if (has_work(f))
        return false;
    int timeout = timers_wait_ms(f);
    if (!f->link.ring_full)
        return poll_events(f, timeout);
    poll_link(f, timeout < 0 || timeout > 10 ? 10 : timeout);
    return false;
}

/* ---- the loop ---- */

/* The end was asked for: what is in hand goes out, then every connection is closed without a word. */
static void stop(struct frontend *f) {
    uint64_t until = clock_mono_ms() + STOP_MS;
    accept_disarm(f);
    bool waits = true;
    while (waits && clock_mono_ms() < until) {
        read_clock(f);
        turn_once(f);
        waits = f->link.ingress.consumed_pos != f->link.ingress.head_pos || ring_ready(&f->link.egress) > 0;
        for (uint32_t n = 0; n < f->number_high && !waits; n++)
            waits = f->by_number[n] && f->by_number[n]->out_bytes > 0;
        if (waits)
            poll_events(f, 1);
    }
    for (uint32_t n = 0; n < f->number_high; n++) {
        if (f->by_number[n] && f->by_number[n]->state != CLIENT_GONE)
            client_log(f->by_number[n], LOG_DEBUG, "Client connection closed: Server Shutdown");
    }
    exit(0);
}

static void run(struct frontend *f) {
    struct idle idle = {0};
    uint64_t looked = 0;
    bool events = false;
    for (;;) {
        uint64_t before = f->link.ingress.produced_pos + f->link.egress.tail_pos;
        if (!events && !f->link.ring_full)
            events = poll_events(f, 0);
        if (f->go) {
            read_clock(f);
            turn_once(f);
            accept_arm(f);
        }
        if (f->stopping)
            stop(f);
        if (f->link.ring_full && f->now_ns - looked > 1000000) {
            looked = f->now_ns;
            poll_link(f, 0);
        }
        uint64_t moved = f->link.ingress.produced_pos + f->link.egress.tail_pos - before;
        if (events || moved != 0) {
            idle_end(&idle, f->now_ns, moved);
            events = false;
        } else {
            events = wait_for_work(f, &idle);
        }
    }
}

int main(void) {
    sandbox_start();
    struct frontend *f = &frontend;
    if (frontend_open(f) != ERR_OK)
        log_die("No memory at start");
    json_prepare();
    secrets_prepare();
    if (tls_prepare() != ERR_OK)
        log_die("OpenSSL cannot be prepared");
    accept_prepare(f);
    f->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (f->epoll < 0 || control_open(f) != ERR_OK)
        log_die("No control socket");
    if (sandbox_enter(frontend_calls, sizeof frontend_calls / sizeof *frontend_calls) != ERR_OK)
        log_die("The sandbox was refused");
    run(f);
}
