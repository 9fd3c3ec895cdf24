/* SPDX-License-Identifier: Apache-2.0 */
/* The edges' conversations: how connections begin, nonces, logins and their answers.
 *
 * A login is decided at once (authd/verdict.h), or after a hash that the workers make. Each verdict becomes one answer;
 * one for a source with too many failures is held back. A socket that was closed takes its logins with it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "authd/authd.h"
#include "authd/verdict.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "base/wipe.h"

/* Few packets a turn: one link that floods delays the others by what these cost. */
enum { LOGIN_BYTES_MAX = CHANNEL_FRAME_MAX - 4, EDGE_PACKETS_PER_TURN = 16, BACKLOG_RETRY_MS = 20 };

/* A login that waits for a hash, with a copy of what it sent. */
struct waiting {
    struct hash_job job; /* first */
    struct answer answer;
    uint32_t table;          /* of users, that was in force */
    const struct user *user; /* of that table */
    const char *why;
    bool cancelled; /* while the hash was being made */
    struct credentials c;
    size_t bytes; /* of all of this */
    char text[];
};

static struct pending *pending_of(struct authd *a, const struct answer *answer) {
    return &a->edge[answer->link].pending[answer->conn];
}

static void waiting_free(struct authd *a, struct waiting *w) {
    struct pending *pending = pending_of(a, &w->answer);
    if (pending->waiting == w)
        pending->waiting = NULL;
    wipe(w, w->bytes);
    free(w);
}

/* An edge that does not read its answers is not read. */
static void edge_poll(struct authd *a, uint32_t link) {
    struct edge *edge = &a->edge[link];
    uint32_t events = edge->channel.backlog ? EPOLLOUT : authd_is_open(a) ? EPOLLIN : 0u;
    authd_poll(a, edge->channel.fd, EVENT_EDGE + link, &edge->polled, events);
}

void edges_poll(struct authd *a) {
    for (uint32_t i = 0; i < LINKS_MAX; i++) {
        if (a->edge[i].channel.fd >= 0)
            edge_poll(a, i);
    }
}

static void edge_close(struct authd *a, uint32_t link) {
    struct edge *edge = &a->edge[link];
    if (edge->channel.fd < 0)
        return;
    authd_poll(a, edge->channel.fd, 0, &edge->polled, 0);
    channel_close(&edge->channel);
    edge->session++;
    for (struct hash_job *job = hashing_drop(&a->hashing, link), *next; job; job = next) {
        next = job->next;
        waiting_free(a, (struct waiting *)(void *)job);
    }
}

static struct edge *edge_of(struct channel *c) {
    return (struct edge *)(void *)((char *)c - offsetof(struct edge, channel));
}

/* ---- answers ---- */

static enum err send_refusal(struct authd *a, const struct answer *answer, int reason, const char *why) {
    Bulkhead__Refusal refusal = BULKHEAD__REFUSAL__INIT;
    refusal.id = answer->id;
    refusal.reason = (Bulkhead__RefusalReason)reason;
    if (why) {
        refusal.has_why = true;
        refusal.why = (ProtobufCBinaryData){strlen(why), (uint8_t *)(uintptr_t)why};
    }
    return channel_send(&a->edge[answer->link].channel, MESSAGE_REFUSAL, &refusal.base, NULL, 0);
}

static enum err send_bound(struct authd *a, const struct answer *answer) {
    struct edge *edge = &a->edge[answer->link];
    struct binding binding;
    Bulkhead__Bound bound = BULKHEAD__BOUND__INIT;
    logins_seal(&a->logins, edge->logins, answer->conn, answer->generation, answer->user, clock_wall_s(), &binding);
    bound.id = answer->id;
    bound.sealed = (ProtobufCBinaryData){sizeof binding, (uint8_t *)&binding};
    bound.payload_max = binding.payload_max;
    return channel_send(&edge->channel, MESSAGE_BOUND, &bound.base, NULL, 0);
}

/* Only where a login was asked for it counts as one. */
static void count_refused(struct authd *a) {
    if (a->users->required)
        counter_add(a->counters, COUNTER_LOGINS_REFUSED, 1);
}

/* A good verdict by a table of users that is no longer in force. The credentials have been wiped here; the edge has them and asks
 * again, and the time that this verdict has waited counts for the next one. */
static enum err send_outdated(struct authd *a, const struct answer *answer) {
    penalties_serve(&a->penalties, answer->link, answer->source);
    return send_refusal(a, answer, BULKHEAD__REFUSAL_REASON__REFUSAL_STALE, "The configuration has changed");
}

/* The nonce is taken first: after a death between the two it is not good a second time. */
static enum err send_answer(struct authd *a, const struct answer *answer) {
    if (answer->user && answer->table != a->table)
        return send_outdated(a, answer);
    bool taken = answer->has_nonce &&
                 nonces_take(&a->identity.ledger, answer->link, answer->nonce_ms, answer->nonce, sizeof answer->nonce);
    if (!answer->user)
        return send_refusal(a, answer, answer->reason, answer->why);
    if (!answer->has_nonce || taken)
        return send_bound(a, answer);
    count_refused(a);
    return send_refusal(a, answer, BULKHEAD__REFUSAL_REASON__REFUSAL_AUTHORIZATION, "The nonce was used already");
}

/* The client has gone, and nobody may come with its nonce. */
static enum err send_cancelled(struct authd *a, const struct answer *answer) {
    if (answer->has_nonce)
        nonces_take(&a->identity.ledger, answer->link, answer->nonce_ms, answer->nonce, sizeof answer->nonce);
    return send_refusal(a, answer, BULKHEAD__REFUSAL_REASON__REFUSAL_STALE, NULL);
}

/* Sends an answer, or has it wait. With a nonce a good one waits for an edge that does not read, too: in the channel's
 * backlog it would die with this process while the nonce is used up. */
static enum err give_answer(struct authd *a, const struct answer *answer, uint32_t delay_ms) {
    if (answer->user && answer->has_nonce && !delay_ms && a->edge[answer->link].channel.backlog)
        delay_ms = BACKLOG_RETRY_MS;
    struct held_answer *held = delay_ms ? held_put(&a->held, answer, clock_mono_ms() + delay_ms) : NULL;
    if (!held)
        return send_answer(a, answer);
    pending_of(a, answer)->held = held;
    if (answer->counted)
        penalties_hold(&a->penalties, answer->link, answer->source);
    return ERR_OK;
}

static void take_held(struct authd *a, struct held_answer *held, struct answer *answer) {
    held_take(&a->held, held, answer);
    struct pending *pending = pending_of(a, answer);
    if (pending->held == held)
        pending->held = NULL;
    if (answer->counted)
        penalties_release(&a->penalties, answer->link, answer->source);
    answer->counted = false;
}

static enum err refuse(struct authd *a, struct answer *answer, int reason, const char *why, uint32_t delay_ms) {
    count_refused(a);
    answer->user = NULL;
    answer->reason = reason;
    answer->why = why;
    return give_answer(a, answer, delay_ms);
}

/* ---- logins ---- */

static enum err bind_user(struct authd *a, struct answer *answer, const struct user *user, uint32_t delay_ms) {
    answer->user = user;
    answer->table = a->table;
    return give_answer(a, answer, delay_ms);
}

/* user NULL: refused, and why. */
static enum err settle(struct authd *a, struct answer *answer, const struct user *user, const char *why, bool counts) {
    uint64_t now_ms = clock_mono_ms();
    uint32_t delay_ms =
        penalties_delay(&a->penalties, &a->users->penalties, answer->link, answer->source, now_ms, user != NULL);
    if (user)
        return bind_user(a, answer, user, delay_ms);
    if (counts)
        penalties_count(&a->penalties, answer->link, answer->source, now_ms);
    answer->counted = true;
    return refuse(a, answer, BULKHEAD__REFUSAL_REASON__REFUSAL_AUTHORIZATION, why, delay_ms);
}

/* A copy of the credentials behind the rest. */
static struct waiting *waiting_make(const struct authd *a, const struct answer *answer, const struct credentials *c) {
    const struct view from[] = {c->user, c->pass, c->token, c->nkey, c->sig, c->nonce, c->certificate};
    size_t bytes = sizeof(struct waiting);
    for (size_t i = 0; i < sizeof from / sizeof *from; i++)
        bytes += from[i].len;
    struct waiting *w = calloc(1, bytes);
    if (!w)
        return NULL;
    *w = (struct waiting){.answer = *answer, .table = a->table, .c = *c, .bytes = bytes};
    struct view *const to[] = {&w->c.user, &w->c.pass,  &w->c.token,      &w->c.nkey,
                               &w->c.sig,  &w->c.nonce, &w->c.certificate};
    char *at = w->text;
    for (size_t i = 0; i < sizeof from / sizeof *from; at += from[i++].len) {
        *to[i] = view_of(at, from[i].len);
        if (from[i].len)
            memcpy(at, from[i].at, from[i].len);
    }
    w->job.item.link = answer->link;
    w->job.item.source = answer->source;
    w->job.item.bytes = (uint32_t)bytes;
    return w;
}

/* Its nonce, if it has one, stays good. */
static enum err refuse_busy(struct authd *a, struct answer *answer) {
    answer->has_nonce = false;
    return refuse(a, answer, BULKHEAD__REFUSAL_REASON__REFUSAL_BUSY, "Too many logins wait for a hash", 0);
}

static enum err drop_busy(struct authd *a, struct waiting *w) {
    enum err e = refuse_busy(a, &w->answer);
    waiting_free(a, w);
    return e;
}

/* The verdict's password is one of the copied credentials. Takes w. */
static enum err hash(struct authd *a, struct waiting *w, const struct verdict *v) {
    w->table = a->table;
    w->user = v->user;
    w->why = v->why;
    w->job.password = v->password;
    memcpy(w->job.hash, v->hash, sizeof w->job.hash);
    struct hash_job *dropped, *next;
    enum err e = ERR_OK;
    pending_of(a, &w->answer)->waiting = w;
    if (hashing_submit(&a->hashing, &w->job, &dropped) != ERR_OK)
        e = drop_busy(a, w);
    for (; dropped; dropped = next) {
        next = dropped->next;
        enum err sent = drop_busy(a, (struct waiting *)(void *)dropped);
        e = e == ERR_OK ? sent : e;
    }
    return e;
}

static enum err decide(struct authd *a, struct answer *answer, const struct credentials *c) {
    struct verdict v;
    verdict_make(&v, a->users, c);
    if (v.kind != VERDICT_HASH)
        return settle(a, answer, v.user, v.why, !v.nonce_spent);
    struct waiting *w = waiting_make(a, answer, c);
    if (!w) {
        wipe(v.hash, sizeof v.hash);
        return refuse_busy(a, answer);
    }
    v.password = v.password.at == c->token.at ? w->c.token : w->c.pass;
    enum err e = hash(a, w, &v);
    wipe(v.hash, sizeof v.hash);
    return e;
}

/* A hash is there. Under another table than the one it was asked for the login is decided anew. */
static enum err on_hash(struct authd *a, struct waiting *w) {
    enum err e = w->cancelled           ? send_cancelled(a, &w->answer)
                 : w->table != a->table ? decide(a, &w->answer, &w->c)
                                        : settle(a, &w->answer, w->job.matches ? w->user : NULL, w->why, true);
    waiting_free(a, w);
    return e;
}

static void on_hashes(struct authd *a) {
    for (struct hash_job *job = hashing_collect(&a->hashing), *next; job; job = next) {
        struct waiting *w = (struct waiting *)(void *)job;
        uint32_t link = w->answer.link;
        next = job->next;
        if (a->edge[link].session != w->answer.session)
            waiting_free(a, w);
        else if (on_hash(a, w) != ERR_OK)
            edge_close(a, link);
        else
            edge_poll(a, link);
    }
}

static enum err lock_in(void) {
    return sandbox_enter(NULL, 0);
}

enum err edges_start(struct authd *a) {
    return hashing_open(&a->hashing, lock_in);
}

#define FIELD(m, name) ((m)->has_##name ? view_of((m)->name.data, (m)->name.len) : view_of("", 0))

static void read_credentials(const Bulkhead__Login *m, struct credentials *c) {
    *c = (struct credentials){.user = FIELD(m, user),
                              .pass = FIELD(m, pass),
                              .token = FIELD(m, token),
                              .nkey = FIELD(m, nkey),
                              .sig = FIELD(m, sig),
                              .nonce = FIELD(m, nonce),
                              .certificate = FIELD(m, certificate),
                              .type = m->has_type ? (uint8_t)m->type : BULKHEAD__CONNECTION_TYPE__TYPE_STANDARD};
}

static void look_at_nonce(struct authd *a, struct answer *answer, struct credentials *c) {
    if (!a->users->has_nkeys || !c->nkey.len || c->nonce.len != NONCE_CHARS)
        return;
    answer->has_nonce = true;
    answer->nonce_ms = clock_mono_ms();
    memcpy(answer->nonce, c->nonce.at, NONCE_CHARS);
    enum nonce_look look = nonces_look(&a->identity.ledger, answer->link, answer->nonce_ms, c->nonce.at, c->nonce.len);
    c->nonce_good = look == NONCE_GOOD;
    c->nonce_spent = look == NONCE_SPENT;
}

static enum err on_login(struct channel *channel, void *owner, const void *message, const int *fds) {
    (void)fds;
    struct authd *a = owner;
    struct edge *edge = edge_of(channel);
    const Bulkhead__Login *m = message;
    struct answer answer = {.link = edge->logins->link,
                            .session = edge->session,
                            .id = m->id,
                            .conn = m->conn,
                            .generation = m->generation,
                            .source = source_of(FIELD(m, address))};
    struct credentials c;
    if (a->users->required)
        counter_add(a->counters, COUNTER_LOGINS, 1);
    if (logins_admit(&a->logins, edge->logins, m->conn, m->generation) != ERR_OK)
        return refuse(a, &answer, BULKHEAD__REFUSAL_REASON__REFUSAL_STALE, NULL, 0);
    if (!a->users->required)
        return bind_user(a, &answer, &a->users->at[0], 0);
    if (m->ahead)
        return refuse(a, &answer, BULKHEAD__REFUSAL_REASON__REFUSAL_AUTHORIZATION, "A login is asked for", 0);
    read_credentials(m, &c);
    look_at_nonce(a, &answer, &c);
    return decide(a, &answer, &c);
}

static bool is_of(const struct answer *answer, const struct edge *edge, const Bulkhead__Cancel *m) {
    return answer->session == edge->session && answer->id == m->id && answer->generation == m->generation;
}

/* A hash that a worker has begun is finished. A login that is not found has had its answer. */
static enum err on_cancel(struct channel *channel, void *owner, const void *message, const int *fds) {
    (void)fds;
    struct authd *a = owner;
    struct edge *edge = edge_of(channel);
    const Bulkhead__Cancel *m = message;
    if (m->conn >= SOFT_CONNS_MAX)
        return ERR_RANGE;
    struct pending *pending = &edge->pending[m->conn];
    struct waiting *w = pending->waiting;
    struct answer answer;
    if (pending->held && is_of(&pending->held->answer, edge, m)) {
        take_held(a, pending->held, &answer);
        return send_cancelled(a, &answer);
    }
    if (!w || !is_of(&w->answer, edge, m))
        return ERR_OK;
    w->cancelled = true;
    if (!hashing_withdraw(&a->hashing, &w->job))
        return ERR_OK;
    enum err e = send_cancelled(a, &w->answer);
    waiting_free(a, w);
    return e;
}

/* ---- nonces ---- */

static enum err on_want_nonces(struct channel *channel, void *owner, const void *message, const int *fds) {
    (void)fds;
    struct authd *a = owner;
    char text[NONCE_ASK_MAX * NONCE_CHARS];
    uint32_t count = ((const Bulkhead__WantNonces *)message)->count, link = edge_of(channel)->logins->link;
    if (count == 0 || count > NONCE_ASK_MAX)
        return ERR_RANGE;
    for (uint32_t i = 0; i < count; i++)
        nonces_give(&a->identity.ledger, link, clock_mono_ms(), text + i * NONCE_CHARS);
    Bulkhead__Nonces nonces = BULKHEAD__NONCES__INIT;
    nonces.text = (ProtobufCBinaryData){count * NONCE_CHARS, (uint8_t *)text};
    return channel_send(channel, MESSAGE_NONCES, &nonces.base, NULL, 0);
}

/* ---- policy ---- */

static bool is_every_interface(const char *host) {
    return !*host || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

void edges_set_policy(struct authd *a) {
    const struct users *u = a->users;
    Bulkhead__Policy policy = BULKHEAD__POLICY__INIT;
    policy.login = u->required;
    policy.auth_required = u->required && !u->unnamed;
    policy.nonce = u->has_nkeys;
    policy.anonymous = !u->required || u->unnamed;
    policy.log_form = u->has_nkeys   ? BULKHEAD__LOG_FORM__LOG_NKEY
                      : u->has_array ? BULKHEAD__LOG_FORM__LOG_USER
                                     : BULKHEAD__LOG_FORM__LOG_PLAIN;
    const Bulkhead__Policy *was = &a->policy;
    if (was->base.descriptor && was->login == policy.login && was->auth_required == policy.auth_required &&
        was->nonce == policy.nonce && was->anonymous == policy.anonymous && was->log_form == policy.log_form)
        return;
    a->policy = policy;
    if (policy.anonymous && is_every_interface(a->settings.host))
        log_warn(
            "Anybody who reaches port %u may publish and subscribe: all interfaces are served without authentication; set "
            "`authorization`, or `host` to 127.0.0.1",
            a->settings.port);
    for (uint32_t i = 0; i < LINKS_MAX; i++) {
        struct channel *c = &a->edge[i].channel;
        if (c->fd >= 0 && channel_send(c, MESSAGE_POLICY, &a->policy.base, NULL, 0) != ERR_OK)
            edge_close(a, i);
    }
}

/* ---- opening, events ---- */

static const struct channel_rule edge_rules[] = {
    {MESSAGE_LOGIN, 0, 1, LOGIN_BYTES_MAX, &bulkhead__login__descriptor, on_login},
    {MESSAGE_WANT_NONCES, 0, 1, 64, &bulkhead__want_nonces__descriptor, on_want_nonces},
    {MESSAGE_CANCEL, 0, 1, 64, &bulkhead__cancel__descriptor, on_cancel},
};

/* The same process on a new socket keeps its generations; another one starts anew. */
static enum err remember_edge(struct edge *edge, const Bulkhead__Peer *peer) {
    if (!edge->logins)
        edge->logins = calloc(1, sizeof *edge->logins);
    else if (edge->logins->incarnation != peer->incarnation)
        memset(edge->logins, 0, sizeof *edge->logins);
    if (!edge->pending)
        edge->pending = calloc(SOFT_CONNS_MAX, sizeof *edge->pending);
    if (!edge->logins || !edge->pending)
        return ERR_NOMEM;
    edge->logins->link = peer->link;
    edge->logins->incarnation = peer->incarnation;
    edge->logins->kind = (uint8_t)peer->kind;
    return ERR_OK;
}

enum err edge_open(struct authd *a, const Bulkhead__Peer *peer, int fd) {
    if (peer->link >= LINKS_MAX || peer->kind < LINK_FRONTEND || peer->kind > LINK_SYSACCT)
        return ERR_RANGE;
    struct edge *edge = &a->edge[peer->link];
    edge_close(a, peer->link);
    enum err e = remember_edge(edge, peer);
    if (e == ERR_OK)
        e = channel_open(&edge->channel, fd, "an edge", edge_rules, sizeof edge_rules / sizeof *edge_rules, a, 0);
    if (e != ERR_OK)
        return e;
    nonces_open_link(&a->identity.ledger, peer->link, peer->incarnation);
    if (channel_send(&edge->channel, MESSAGE_POLICY, &a->policy.base, NULL, 0) == ERR_OK)
        edge_poll(a, peer->link);
    else
        edge_close(a, peer->link);
    return ERR_OK;
}

void edge_on_event(struct authd *a, uint32_t link, uint32_t events) {
    struct edge *edge = &a->edge[link];
    if (edge->channel.fd < 0)
        return;
    if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
        channel_flush(&edge->channel);
    enum err e = ERR_OK;
    if (authd_is_open(a) && !edge->channel.backlog)
        e = channel_receive(&edge->channel, EDGE_PACKETS_PER_TURN);
    if (e != ERR_OK)
        edge_close(a, link);
    else
        edge_poll(a, link);
}

static void give_held(struct authd *a, struct held_answer *held) {
    struct answer answer;
    take_held(a, held, &answer);
    if (a->edge[answer.link].session != answer.session)
        return;
    if (give_answer(a, &answer, 0) != ERR_OK)
        edge_close(a, answer.link);
    else
        edge_poll(a, answer.link);
}

int edges_turn(struct authd *a) {
    if (!authd_is_open(a))
        return -1;
    on_hashes(a);
    struct held_answer *held;
    uint64_t now_ms = clock_mono_ms();
    while ((held = held_first(&a->held)) && held->due_ms <= now_ms)
        give_held(a, held);
    return !held ? -1 : held->due_ms - now_ms > 60000 ? 60000 : (int)(held->due_ms - now_ms);
}
