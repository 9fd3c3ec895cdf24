/* Bindings from authd.
 *
 * Where no authentication is configured a binding says the same for everybody, so a stock of them, for the next connection
 * numbers, is asked for ahead: a new client then costs no round trip to authd. A number is used in one generation after
 * another; none comes twice.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/check.h"
#include "base/log.h"
#include "frontend/frontend.h"
#include "ipc/auth.pb-c.h"

enum { STATE_POLICY = 0, STATE_OPEN };

static enum err on_policy(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)fds;
    const Bulkhead__Policy *m = message;
    if (m->login)
        log_die("authd asks for logins, which this frontend cannot carry yet");
    c->state = STATE_OPEN;
    login_refill(owner);
    return ERR_OK;
}

static void wake_waiting(struct frontend *f) {
    struct vector now = f->waiting;
    f->waiting = (struct vector){0};
    for (uint32_t i = 0; i < now.count; i++)
        client_wake(f, now.at[i]);
    free(now.at);
}

static enum err on_bound(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct frontend *f = owner;
    const Bulkhead__Bound *m = message;
    struct stock *s = &f->stock[f->stock_count];
    if (f->stock_count >= STOCK || f->stock_asked == 0 || m->sealed.len != sizeof s->binding)
        return ERR_STATE;
    memcpy(&s->binding, m->sealed.data, sizeof s->binding);
    s->number = m->id;
    if (s->number >= f->number_high || s->binding.conn != s->number)
        return ERR_STATE;
    s->generation = f->generation[s->number];
    f->stock_asked--;
    f->stock_count++;
    wake_waiting(f);
    return ERR_OK;
}

static enum err on_refusal(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct frontend *f = owner;
    const Bulkhead__Refusal *m = message;
    if (m->id >= f->number_high || f->stock_asked == 0)
        return ERR_STATE;
    f->stock_asked--;
    log_warn("authd refuses a binding for connection number %u; it is asked again in a new generation", m->id);
    login_number_free(f, m->id);
    return ERR_OK;
}

static const struct channel_rule rules[] = {
    {MESSAGE_POLICY, 0, 1u << STATE_POLICY, 64, &bulkhead__policy__descriptor, on_policy},
    {MESSAGE_BOUND, 0, 1u << STATE_OPEN, 256, &bulkhead__bound__descriptor, on_bound},
    {MESSAGE_REFUSAL, 0, 1u << STATE_OPEN, 64, &bulkhead__refusal__descriptor, on_refusal},
};

enum err login_open(struct frontend *f, int fd) {
    if (f->authd_open)
        channel_close(&f->authd);
    enum err e = channel_open(&f->authd, fd, "authd", rules, sizeof rules / sizeof *rules, f, 0);
    f->authd_open = e == ERR_OK;
    if (e != ERR_OK)
        return e;
    /* What the authd before was asked for never comes: those numbers go on in their next generation. */
    uint8_t *stocked = calloc(f->number_high + 1, 1);
    if (!stocked)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < f->stock_count; i++)
        stocked[f->stock[i].number] = 1;
    for (uint32_t i = 0; i < f->number_free_count; i++)
        stocked[f->number_free[i]] = 1;
    for (uint32_t n = 0; n < f->number_high; n++)
        if (!stocked[n] && !f->by_number[n])
            login_number_free(f, n);
    free(stocked);
    f->stock_asked = 0;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &f->authd};
    return epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? ERR_OK : ERR_SYSTEM;
}

void login_events(struct frontend *f) {
    if (f->authd_open && channel_receive(&f->authd, 256) != ERR_OK) {
        channel_close(&f->authd); /* logins wait until the supervisor brings a new authd */
        f->authd_open = false;
    }
}

/* ---- numbers ---- */

static uint32_t number_take(struct frontend *f) {
    if (f->number_free_count > 0)
        return f->number_free[--f->number_free_count];
    return f->number_high < SOFT_CONNS_MAX ? f->number_high++ : NO_NUMBER;
}

void login_number_free(struct frontend *f, uint32_t number) {
    f->number_free[f->number_free_count++] = number;
}

void login_refill(struct frontend *f) {
    if (!f->authd_open || f->authd.state != STATE_OPEN || f->stock_count + f->stock_asked > STOCK / 2)
        return;
    while (f->stock_count + f->stock_asked < STOCK) {
        uint32_t number = number_take(f);
        if (number == NO_NUMBER)
            return;
        Bulkhead__Login login = BULKHEAD__LOGIN__INIT;
        login.id = number;
        login.conn = number;
        login.generation = ++f->generation[number];
        login.ahead = true;
        if (channel_send(&f->authd, MESSAGE_LOGIN, &login.base, NULL, 0) != ERR_OK) {
            login_number_free(f, number);
            return;
        }
        f->stock_asked++;
    }
}

/* ---- BIND ---- */

static enum op_result wait_for_stock(struct frontend *f, struct client *c) {
    if (!vector_add(&f->waiting, c)) {
        client_error(f, c, NULL, "Out Of Memory");
        return OP_ENDED;
    }
    login_refill(f);
    return OP_PAUSE;
}

enum op_result login_bind(struct frontend *f, struct client *c) {
    if (f->stock_count == 0)
        return wait_for_stock(f, c);
    uint64_t bind_len = record_len(0, 0, 0, 0, sizeof(struct binding));
    if (!ring_has_room(&f->ingress, ring_round(bind_len) + RECORD_HEADER, 0)) {
        f->ring_full = true;
        return OP_PAUSE;
    }
    const struct stock *s = &f->stock[--f->stock_count];
    c->number = s->number;
    c->binding = s->binding;
    c->state = CLIENT_BOUND;
    f->by_number[c->number] = c;
    struct record rec = {
        .len = (uint32_t)bind_len, .type = RECORD_BIND, .conn = c->number, .payload_len = sizeof s->binding};
    uint8_t *at = link_claim(f, bind_len);
    memcpy(at, &rec, sizeof rec);
    memcpy(at + RECORD_HEADER, &c->binding, sizeof c->binding);
    link_put(f, c, bind_len);
    bool kept = link_journal(f, RECORD_BIND, c->number, 0, 0);
    kept &= link_small(f, c, RECORD_OPTIONS, c->options);
    login_refill(f);
    if (kept)
        return OP_DONE;
    client_error(f, c, NULL, "Out Of Memory");
    return OP_ENDED;
}
