/* SPDX-License-Identifier: Apache-2.0 */
/* The conversation with the signer.
 *
 * Each handshake that needs a signature has a slot while it waits, and there are as many slots as OpenSSL has jobs: a
 * handshake that finds none waits for one. Requests that a dead signer has not answered are sent to the next one; the
 * client's handshake time stands still meanwhile.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "frontend/tls.h"

enum { ANSWERS_AT_ONCE = 64 };

struct slot {
    struct client *client; /* null: free */
    bool sent, answered;
    struct sign_request request;
    struct sign_answer answer;
};

struct tls_signer {
    int fd;       /* -1: none */
    bool blocked; /* EPOLLOUT is on */
    uint64_t asked;
    uint32_t free_count;
    uint8_t free[TLS_JOBS];
    struct slot slot[TLS_JOBS];
    struct list jobless; /* of struct tls: handshakes that found no job, oldest first */
};
_Static_assert(TLS_JOBS <= 256, "a slot's number fits into free[]");

static struct tls_signer *the_signer; /* for what OpenSSL calls */

static enum err make(struct frontend *f) {
    if (f->signer)
        return ERR_OK;
    struct tls_signer *s = calloc(1, sizeof *s); /* its pages come as they are touched */
    if (!s || !ASYNC_init_thread(TLS_JOBS, 0))
        return ERR_NOMEM;
    s->fd = -1;
    for (uint32_t i = 0; i < TLS_JOBS; i++)
        s->free[i] = (uint8_t)(TLS_JOBS - 1 - i);
    s->free_count = TLS_JOBS;
    list_init(&s->jobless);
    f->signer = the_signer = s;
    return ERR_OK;
}

/* ---- sending ---- */

static void drop_signer(struct tls_signer *s) {
    if (s->fd < 0)
        return;
    close(s->fd);
    s->fd = -1;
    s->blocked = false;
    for (uint32_t i = 0; i < TLS_JOBS; i++)
        s->slot[i].sent = false;
}

/* False: it has to wait. */
static bool send_slot(struct tls_signer *s, struct slot *slot) {
    if (s->fd < 0 || s->blocked)
        return false;
    ssize_t n = send(s->fd, &slot->request, sizeof slot->request, MSG_DONTWAIT | MSG_NOSIGNAL);
    slot->sent = n > 0;
    return slot->sent;
}

static void watch(struct frontend *f, bool blocked) {
    struct tls_signer *s = f->signer;
    if (s->fd < 0 || blocked == s->blocked)
        return;
    s->blocked = blocked;
    struct epoll_event event = {.events = EPOLLIN | (blocked ? EPOLLOUT : 0u), .data.ptr = s};
    epoll_ctl(f->epoll, EPOLL_CTL_MOD, s->fd, &event);
}

/* All that has not been sent; the rest when the socket has room. */
static void send_waiting(struct frontend *f) {
    struct tls_signer *s = f->signer;
    for (uint32_t i = 0; i < TLS_JOBS; i++) {
        struct slot *slot = &s->slot[i];
        if (slot->client && !slot->sent && !slot->answered && !send_slot(s, slot)) {
            watch(f, true);
            return;
        }
    }
}

void tls_sign_start(struct frontend *f, struct client *c) {
    if (!send_slot(f->signer, &f->signer->slot[c->tls->slot]))
        watch(f, true);
}

/* ---- asking ---- */

bool tls_sign_ask(struct sign_request *request, uint8_t *signature, size_t *len) {
    struct tls_signer *s = the_signer;
    struct client *c = tls_now;
    if (!c || s->free_count == 0 || !ASYNC_get_current_job())
        return false;
    uint32_t number = s->free[--s->free_count];
    struct slot *slot = &s->slot[number];
    request->id = ++s->asked * TLS_JOBS + number;
    slot->client = c;
    slot->request = *request;
    slot->sent = slot->answered = false;
    c->tls->slot = number;
    c->tls->waits = TLS_WAITS_SIGNER;
    while (!slot->answered && ASYNC_pause_job())
        continue;
    bool done = slot->answered && slot->answer.status == SIGN_DONE && slot->answer.len > 0 && slot->answer.len <= *len;
    if (done) {
        *len = slot->answer.len;
        memcpy(signature, slot->answer.signature, *len);
    }
    slot->client = NULL;
    s->free[s->free_count++] = (uint8_t)number;
    return done;
}

void tls_sign_give_up(struct client *c) {
    struct slot *slot = &the_signer->slot[c->tls->slot];
    slot->answered = true;
    slot->answer.status = SIGN_REFUSED;
}

void tls_sign_wait_for_job(struct frontend *f, struct client *c) {
    c->tls->waits = TLS_WAITS_JOB;
    list_add(&f->signer->jobless, &c->tls->jobless);
}

static void serve_jobless(struct frontend *f) {
    struct tls_signer *s = f->signer;
    const struct list_link *last = s->jobless.head.prev,
                           *link = NULL; /* a handshake that finds none again waits behind it */
    while (link != last && s->free_count > 0 && !list_is_empty(&s->jobless)) {
        struct list_link *longest = list_pop(&s->jobless);
        link = longest;
        tls_resume(f, list_entry(longest, struct tls, jobless)->client);
    }
}

/* ---- answers ---- */

static void take_answer(struct frontend *f, const struct sign_answer *answer) {
    struct tls_signer *s = f->signer;
    struct slot *slot = &s->slot[answer->id % TLS_JOBS];
    if (!slot->client || slot->request.id != answer->id || slot->answered)
        return; /* whose client has gone */
    slot->answered = true;
    slot->answer = *answer;
    tls_resume(f, slot->client);
}

void tls_signer_events(struct frontend *f, uint32_t events) {
    struct tls_signer *s = f->signer;
    for (int i = 0; i < ANSWERS_AT_ONCE && s->fd >= 0; i++) {
        struct sign_answer answer;
        ssize_t n = recv(s->fd, &answer, sizeof answer, MSG_DONTWAIT | MSG_TRUNC);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (n != sizeof answer)
            drop_signer(s); /* handshakes wait until the supervisor brings a new one */
        else
            take_answer(f, &answer);
    }
    if (events & EPOLLOUT) {
        watch(f, false);
        send_waiting(f);
    }
    serve_jobless(f);
}

enum err tls_signer_open(struct frontend *f, int fd) {
    enum err e = make(f);
    if (e != ERR_OK)
        return e;
    struct tls_signer *s = f->signer;
    drop_signer(s);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = s};
    if (epoll_ctl(f->epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        return ERR_SYSTEM;
    s->fd = fd;
    send_waiting(f);
    serve_jobless(f);
    return ERR_OK;
}
