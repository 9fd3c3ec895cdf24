/* SPDX-License-Identifier: Apache-2.0 */
/* The conversation with authd: policy, connection numbers, bindings and nonces in stock.
 *
 * A number is used in one generation after another; none comes twice. Where no login is asked for, a binding says the
 * same for everybody, so a stock of them, for the next numbers, is kept: a new client then costs no round trip. Where
 * an nkey may come, a stock of nonces is kept the same way. A dead authd's
 * open requests are never answered: their numbers go on in the next generation.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/check.h"
#include "base/log.h"
#include "frontend/frontend.h"
#include "ipc/auth.pb-c.h"

enum { NONCES_LOW = NONCES / 4 };

/* ---- numbers ---- */

uint32_t number_take(struct frontend *f, enum asked_for what) {
    uint32_t number = EDGE_NO_NUMBER;
    if (f->number_free_count > 0)
        number = f->number_free[--f->number_free_count];
    else if (f->number_high < SOFT_CONNS_MAX)
        number = f->number_high++;
    if (number != EDGE_NO_NUMBER) {
        f->generation[number]++;
        f->asked[number] = (struct asked){what, NULL};
    }
    return number;
}

void number_free(struct frontend *f, uint32_t number) {
    f->asked[number] = (struct asked){ASKED_NOTHING, NULL};
    f->number_free[f->number_free_count++] = number;
}

/* ---- bindings sealed ahead ---- */

static void wake_waiting(struct frontend *f) {
    for (struct list_link *link; (link = list_pop(&f->stockless));)
        client_wake(f, list_entry(link, struct client, waits));
}

static void stock_drop(struct frontend *f) {
    while (f->stock_count > 0)
        number_free(f, f->stock[--f->stock_count].number);
}

static void stock_refill(struct frontend *f) {
    if (f->policy.login || f->stock_count + f->stock_asked > STOCK / 2)
        return;
    while (f->stock_count + f->stock_asked < STOCK) {
        uint32_t number = number_take(f, ASKED_STOCK);
        if (number == EDGE_NO_NUMBER)
            return;
        Bulkhead__Login login = BULKHEAD__LOGIN__INIT;
        login.id = login.conn = number;
        login.generation = f->generation[number];
        login.ahead = true;
        if (channel_send(&f->authd, MESSAGE_LOGIN, &login.base, NULL, 0) != ERR_OK) {
            number_free(f, number);
            return;
        }
        f->stock_asked++;
    }
}

static enum op_result wait_for_stock(struct frontend *f, struct client *c) {
    list_add(&f->stockless, &c->waits);
    login_refill(f);
    return OP_PAUSE;
}

enum op_result login_stock_bind(struct frontend *f, struct client *c) {
    if (f->stock_count == 0)
        return wait_for_stock(f, c);
    const struct stock *s = &f->stock[f->stock_count - 1];
    enum op_result r = identity_bind(f, c, s->number, &s->binding);
    if (r != OP_PAUSE)
        f->stock_count--;
    login_refill(f);
    return r;
}

/* ---- nonces ---- */

static void nonces_expire(struct frontend *f) {
    uint32_t old = 0;
    while (old < f->nonce_count && f->nonces[old].until_ms <= f->now_ms)
        old++;
    f->nonce_count -= old;
    memmove(f->nonces, f->nonces + old, f->nonce_count * sizeof *f->nonces);
}

static void nonces_refill(struct frontend *f) {
    if (!f->policy.nonce || f->nonces_asked || f->nonce_count > NONCES_LOW)
        return;
    nonces_expire(f);
    Bulkhead__WantNonces want = BULKHEAD__WANT_NONCES__INIT;
    want.count = NONCES - f->nonce_count;
    f->nonces_asked = channel_send(&f->authd, MESSAGE_WANT_NONCES, &want.base, NULL, 0) == ERR_OK;
}

bool login_can_greet(struct frontend *f) {
    if (!f->policy.known || (!f->policy.login && f->stock_count == 0 && !f->listener_told))
        return false;
    if (!f->policy.nonce)
        return true;
    if (f->nonce_count > 0 && f->nonces[f->nonce_count - 1].until_ms > f->now_ms)
        return true;
    f->nonce_count = 0;
    login_refill(f);
    return false;
}

void login_greet(struct frontend *f, struct client *c) {
    if (f->policy.nonce && f->nonce_count > 0 && !c->nonce[0]) {
        memcpy(c->nonce, f->nonces[--f->nonce_count].text, NONCE_CHARS);
        nonces_refill(f);
    }
}

void login_refill(struct frontend *f) {
    if (!f->authd_open || f->authd.state != LOGIN_OPEN)
        return;
    stock_refill(f);
    nonces_refill(f);
    login_poll(f);
}

/* ---- what authd says ---- */

/* Logins are asked for from now on, or no more: the clients that nobody has let in yet must know. */
static void policy_changed(struct frontend *f) {
    if (f->policy.login)
        stock_drop(f);
    wake_waiting(f);
    for (uint32_t i = 0; i < f->heap_count; i++) {
        struct client *c = f->heap[i];
        if (c->state == CLIENT_OPEN && !c->login)
            c->auth_due_ms = login_due_ms(f);
    }
    timers_renew(f);
}

static enum err on_policy(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)fds;
    struct frontend *f = owner;
    const Bulkhead__Policy *m = message;
    bool changed = f->policy.known && f->policy.login != m->login;
    f->policy = (struct policy){.known = true,
                                .auth_required = m->auth_required,
                                .nonce = m->nonce,
                                .login = m->login,
                                .anonymous = m->anonymous,
                                .log_form = m->log_form};
    c->state = LOGIN_OPEN;
    if (changed)
        policy_changed(f);
    login_refill(f);
    login_send_waiting(f);
    return ERR_OK;
}

static enum err on_nonces(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct frontend *f = owner;
    const Bulkhead__Nonces *m = message;
    size_t count = m->text.len / NONCE_CHARS;
    if (!f->nonces_asked || m->text.len % NONCE_CHARS != 0 || count > NONCES - f->nonce_count)
        return ERR_STATE;
    f->nonces_asked = false;
    for (size_t i = 0; i < count; i++) {
        struct nonce *n = &f->nonces[f->nonce_count++];
        memcpy(n->text, m->text.data + i * NONCE_CHARS, NONCE_CHARS);
        n->until_ms = f->now_ms + NONCE_STOCK_MS;
    }
    return ERR_OK;
}

static enum err on_bound(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct frontend *f = owner;
    const Bulkhead__Bound *m = message;
    struct binding b;
    if (m->id >= f->number_high || f->asked[m->id].what == ASKED_NOTHING || m->sealed.len != sizeof b)
        return ERR_STATE;
    memcpy(&b, m->sealed.data, sizeof b);
    if (b.conn != m->id || b.generation != f->generation[m->id])
        return ERR_STATE;
    struct asked asked = f->asked[m->id];
    f->asked[m->id] = (struct asked){ASKED_NOTHING, NULL};
    f->stock_asked -= asked.what == ASKED_STOCK;
    if (asked.client) {
        login_verdict(f, asked.client, &b);
    } else if (asked.what == ASKED_LOGIN || f->policy.login) {
        number_free(f, m->id); /* nobody waits for it any more */
    } else {
        f->stock[f->stock_count++] = (struct stock){m->id, b};
        wake_waiting(f);
    }
    return ERR_OK;
}

static enum err on_refusal(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct frontend *f = owner;
    const Bulkhead__Refusal *m = message;
    if (m->id >= f->number_high || f->asked[m->id].what == ASKED_NOTHING)
        return ERR_STATE;
    struct asked asked = f->asked[m->id];
    f->stock_asked -= asked.what == ASKED_STOCK;
    number_free(f, m->id);
    if (asked.client) {
        if (m->has_why)
            client_log(asked.client, LOG_DEBUG, "%.*s", (int)m->why.len, (const char *)m->why.data);
        login_refusal(f, asked.client, m->reason);
    } else if (asked.what == ASKED_STOCK && !f->policy.login) {
        log_warn("authd refuses a binding for connection number %u; it is asked again in a new generation", m->id);
    }
    return ERR_OK;
}

static const struct channel_rule rules[] = {
    {MESSAGE_POLICY, 0, 1u << LOGIN_POLICY | 1u << LOGIN_OPEN, 64, &bulkhead__policy__descriptor, on_policy},
    {MESSAGE_NONCES, 0, 1u << LOGIN_OPEN, NONCE_ASK_MAX *NONCE_CHARS + 16, &bulkhead__nonces__descriptor, on_nonces},
    {MESSAGE_BOUND, 0, 1u << LOGIN_OPEN, 256, &bulkhead__bound__descriptor, on_bound},
    {MESSAGE_REFUSAL, 0, 1u << LOGIN_OPEN, 512, &bulkhead__refusal__descriptor, on_refusal},
};

/* ---- the socket ---- */

/* Logins wait until the supervisor brings a new authd; this one's open requests are never answered. */
static void close_authd(struct frontend *f) {
    channel_close(&f->authd);
    f->authd_open = false;
    f->authd_polled = 0;
    for (uint32_t n = 0; n < f->number_high; n++) {
        if (f->asked[n].what != ASKED_NOTHING)
            number_free(f, n);
    }
    f->stock_asked = 0;
    f->nonces_asked = false;
    login_ask_again(f);
}

enum err login_open(struct frontend *f, int fd) {
    if (f->authd_open) {
        /* A verdict that the dead authd has sent holds, and its nonce is used up. */
        channel_receive(&f->authd, INT_MAX);
        close_authd(f);
    }
    enum err e = channel_open(&f->authd, fd, "authd", rules, sizeof rules / sizeof *rules, f, 0);
    if (e != ERR_OK)
        return e;
    f->authd_open = true;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &f->authd};
    f->authd_polled = EPOLLIN;
    return epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? ERR_OK : ERR_SYSTEM;
}

void login_poll(struct frontend *f) {
    uint32_t events = EPOLLIN | (f->authd.backlog ? EPOLLOUT : 0u);
    if (!f->authd_open || events == f->authd_polled)
        return;
    struct epoll_event event = {.events = events, .data.ptr = &f->authd};
    epoll_ctl(f->epoll, EPOLL_CTL_MOD, f->authd.fd, &event);
    f->authd_polled = events;
}

void login_events(struct frontend *f) {
    if (!f->authd_open)
        return;
    if (f->authd.backlog)
        channel_flush(&f->authd);
    if (channel_receive(&f->authd, 256) != ERR_OK)
        close_authd(f);
    else
        login_send_waiting(f);
}
