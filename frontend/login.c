/* SPDX-License-Identifier: Apache-2.0 */
/* Who a connection is: the conversation with authd about logins.
 *
 *   CONNECT --login_ask--> asked --Bound--> bound (BIND, OPTIONS)
 *                            |--Refusal--> -ERR, the end
 *                            `--authd dies--> asked again, in a new generation, when the next one is there
 *
 * The connection's parser stands still meanwhile. Credentials lie in memory of secrets.c until the verdict; no time-out
 * of the client's fires while a verdict is out, unless authd itself is away.
 *
 * A login of a connection that is let in already gives it another identity, if the verdict says so: under a new number,
 * while the old number with all its subscriptions is closed as if its client had gone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/check.h"
#include "base/log.h"
#include "frontend/frontend.h"
#include "frontend/secrets.h"
#include "ipc/auth.pb-c.h"
#include "nats/errors.h"

enum {
    CREDENTIALS = CONNECT_SIG + 1,
    CREDENTIALS_MAX = 32 * 1024, /* all of them together: a message to authd holds no more */
    PATIENCE = 15,               /* authd may take PATIENCE times auth_timeout before a login is given up */
    AGAIN_MS = 100,              /* after which an authd that is busy is asked again, at first; then twice as long */
    AGAIN_MOST_MS = 1000,
};

/* A login without a verdict, or with one that waits for room in the ring. */
struct login {
    struct client *client;
    struct list_link link; /* on asking or admitted of struct frontend */
    char *secret; /* the credentials, one behind the other */
    size_t secret_len;
    uint16_t len[CREDENTIALS]; /* by enum connect_text */
    bool anonymous;            /* no CONNECT: the operation that came first waits behind it */
    uint64_t since_ms;         /* CONNECT was read */
    uint32_t again_ms;         /* authd was busy: so long it was left alone last; 0: it never was */
    bool waits;                /* it is being left alone */
    bool sent;
    bool admitted;          /* binding is the verdict, and its number is not in use yet */
    uint32_t number;        /* that it was asked for, if sent or admitted */
    struct connect connect; /* without credentials */
    struct binding binding;
};

/* ---- asking ---- */

static void drop(struct frontend *f, struct client *c) {
    list_remove(&c->login->link);
    if (c->login->admitted)
        number_free(f, c->login->number);
    secrets_give(c->login->secret, c->login->secret_len);
    connect_free(&c->login->connect);
    free(c->login);
    c->login = NULL;
    c->flags &= ~(uint32_t)CLIENT_CHECKED;
}

/* authd need not take the trouble; the number is free when the answer comes. */
static void cancel(struct frontend *f, uint32_t number) {
    Bulkhead__Cancel m = BULKHEAD__CANCEL__INIT;
    m.id = m.conn = number;
    m.generation = f->generation[number];
    f->asked[number].client = NULL;
    if (f->authd_open)
        channel_send(&f->authd, MESSAGE_CANCEL, &m.base, NULL, 0);
    login_poll(f);
}

void login_drop(struct frontend *f, struct client *c) {
    if (!c->login)
        return;
    if (c->login->sent)
        cancel(f, c->login->number);
    drop(f, c);
}

static ProtobufCBinaryData credential(const struct login *l, enum connect_text which) {
    size_t at = 0;
    for (int i = 0; i < (int)which; i++)
        at += l->len[i];
    return (ProtobufCBinaryData){l->len[which], (uint8_t *)l->secret + at};
}

/* What cannot be sent now waits for the next occasion: then false. */
static bool send_login(struct frontend *f, struct client *c) {
    struct login *l = c->login;
    uint32_t number = f->authd_open && f->authd.state == LOGIN_OPEN ? number_take(f, ASKED_LOGIN) : EDGE_NO_NUMBER;
    if (number == EDGE_NO_NUMBER)
        return false;
    Bulkhead__Login m = BULKHEAD__LOGIN__INIT;
    m.id = m.conn = number;
    m.generation = f->generation[number];
    m.has_user = m.has_pass = m.has_token = m.has_nkey = m.has_jwt = m.has_sig = m.has_nonce = m.has_address = true;
    m.user = credential(l, CONNECT_USER);
    m.pass = credential(l, CONNECT_PASS);
    m.token = credential(l, CONNECT_AUTH_TOKEN);
    m.nkey = credential(l, CONNECT_NKEY);
    m.jwt = credential(l, CONNECT_JWT);
    m.sig = credential(l, CONNECT_SIG);
    m.nonce = (ProtobufCBinaryData){strlen(c->nonce), (uint8_t *)c->nonce};
    m.address = (ProtobufCBinaryData){sizeof c->peer, (uint8_t *)&c->peer};
    struct view certificate = tls_certificate(c);
    m.has_certificate = certificate.len > 0;
    m.certificate = (ProtobufCBinaryData){certificate.len, (uint8_t *)(uintptr_t)certificate.at};
    m.has_type = true;
    m.type = BULKHEAD__CONNECTION_TYPE__TYPE_STANDARD;
    if (channel_send(&f->authd, MESSAGE_LOGIN, &m.base, NULL, 0) != ERR_OK) {
        number_free(f, number);
        return false;
    }
    l->sent = true;
    l->number = number;
    f->asked[number].client = c;
    return true;
}

void login_ask_again(struct frontend *f) {
    for (struct list_link *link = f->asking.head.next; link != &f->asking.head; link = link->next) {
        struct login *l = list_entry(link, struct login, link);
        l->sent = false;
        login_clock(f, l->client);
    }
}

void login_send_waiting(struct frontend *f) {
    for (struct list_link *link = f->asking.head.next; link != &f->asking.head; link = link->next) {
        const struct login *l = list_entry(link, struct login, link);
        if (!l->sent && !l->waits && l->client->state < CLIENT_ENDING && !send_login(f, l->client))
            break;
    }
    login_poll(f);
}

static size_t credentials_len(const struct connect *in) {
    size_t len = 0;
    for (int i = 0; i < CREDENTIALS; i++)
        len += in->text[i] ? strlen(in->text[i]) : 0;
    return len;
}

/* Moves the credentials of in, CREDENTIALS_MAX at most, to secret memory. */
static bool take_credentials(struct login *l, struct connect *in) {
    for (int i = 0; i < CREDENTIALS; i++)
        l->len[i] = in->text[i] ? (uint16_t)strlen(in->text[i]) : 0;
    l->secret_len = credentials_len(in);
    l->secret = secrets_take(l->secret_len + 1);
    if (!l->secret)
        return false;
    size_t at = 0;
    for (int i = 0; i < CREDENTIALS; i++) {
        if (l->len[i])
            memcpy(l->secret + at, in->text[i], l->len[i]);
        at += l->len[i];
    }
    l->secret_len++;
    connect_wipe(in);
    return true;
}

enum op_result login_ask(struct frontend *f, struct client *c, struct connect *in) {
    struct connect none;
    connect_init(&none);
    if (in && credentials_len(in) > CREDENTIALS_MAX) {
        login_refused(f, c, in->text[CONNECT_USER], in->text[CONNECT_NKEY]);
        return OP_ENDED;
    }
    struct login *l = calloc(1, sizeof *l);
    if (!l || !take_credentials(l, in ? in : &none)) {
        free(l);
        client_no_memory(f, c);
        return OP_ENDED;
    }
    l->client = c;
    list_add(&f->asking, &l->link);
    l->anonymous = !in;
    l->since_ms = f->now_ms;
    l->connect = in ? *in : none;
    if (in)
        connect_init(in);
    c->login = l;
    c->flags |= CLIENT_CHECKED;
    login_clock(f, c);
    send_login(f, c);
    login_poll(f);
    return OP_DONE;
}

bool login_gate(struct frontend *f, struct client *c, char first) {
    if (!f->policy.login || first == 'C' || first == 'c')
        return true;
    if (f->policy.anonymous)
        login_ask(f, c, NULL);
    else
        login_refused(f, c, NULL, NULL);
    return false;
}

/* ---- time ---- */

uint64_t login_due_ms(const struct frontend *f) {
    return f->policy.login ? f->now_ms + f->settings.auth_timeout_ms : 0;
}

void login_clock(struct frontend *f, struct client *c) {
    c->auth_due_ms = login_due_ms(f);
    timer_update(f, c);
}

void login_due(struct frontend *f, struct client *c) {
    c->auth_due_ms = 0;
    if (c->state >= CLIENT_ENDING || !f->policy.login || (c->state == CLIENT_BOUND && !c->login))
        return;
    struct login *l = c->login;
    bool patient = l && f->now_ms - l->since_ms < PATIENCE * (uint64_t)f->settings.auth_timeout_ms;
    if (patient && (l->sent || l->waits)) { /* it is us who take the time */
        l->waits = false;
        login_clock(f, c);
        login_send_waiting(f);
        return;
    }
    client_log(c, LOG_DEBUG, NATS_ERR_AUTH_TIMEOUT);
    client_error(f, c, NATS_ERR_AUTH_TIMEOUT, NATS_ERR_AUTH_TIMEOUT);
}

/* ---- verdicts ---- */

void login_refused(struct frontend *f, struct client *c, const char *user, const char *nkey) {
    switch (f->policy.log_form) {
    case BULKHEAD__LOG_FORM__LOG_NKEY:
        client_log(c, LOG_ERROR, "authentication error - Nkey \"%.80s\"", nkey ? nkey : "");
        break;
    case BULKHEAD__LOG_FORM__LOG_USER:
        client_log(c, LOG_ERROR, "authentication error - User \"%.120s\"", user ? user : "");
        break;
    default:
        client_log(c, LOG_ERROR, "authentication error");
    }
    client_error(f, c, NATS_ERR_AUTHORIZATION, "Authentication Failure");
}

bool login_is_new(const struct client *c, const struct login *l) {
    return c->binding.account != l->binding.account || c->binding.principal != l->binding.principal ||
           c->binding.permissions != l->binding.permissions;
}

/* The old identity goes on as a connection whose client has gone, and takes number and subscriptions with it. There is room for
 * its CLOSE. */
static void split_off(struct frontend *f, struct client *c, struct client *old) {
    old->fd = -1;
    old->state = CLIENT_GONE;
    old->cid = c->cid;
    old->peer = c->peer;
    old->peer_port = c->peer_port;
    old->edge.number = c->edge.number;
    old->binding = c->binding;
    old->options = c->options;
    old->first_sub = c->first_sub;
    old->sub_bytes = c->sub_bytes;
    memory_leaves(f, old);
    old->edge.last_pos = c->edge.last_pos;
    old->flags = (c->flags & CLIENT_GATE_TOLD) | CLIENT_CLOSE_TOLD;
    f->by_number[old->edge.number] = old;
    c->edge.number = EDGE_NO_NUMBER;
    c->first_sub = 0;
    c->sub_bytes = 0;
    c->flags &= ~(uint32_t)(CLIENT_GATED | CLIENT_GATE_TOLD | CLIENT_DRAINS);
    link_small(f, old, RECORD_CLOSE, 0);
    link_journal(f, RECORD_CLOSE, old->edge.number, 0, 0);
}

enum op_result identity_bind(struct frontend *f, struct client *c, uint32_t number, const struct binding *b) {
    uint64_t bind_len = record_len(0, 0, 0, 0, sizeof *b);
    if (!ring_has_room(&f->link.ingress, ring_round(bind_len) + 2 * RECORD_HEADER, 0)) {
        f->link.ring_full = true;
        return OP_PAUSE;
    }
    bool splits = c->edge.number != EDGE_NO_NUMBER;
    struct client *old = splits ? calloc(1, sizeof *old) : NULL;
    if ((splits && !old) || !edge_journal_reserve(&f->journal, 2)) {
        free(old);
        client_no_memory(f, c);
        return OP_ENDED;
    }
    if (splits)
        split_off(f, c, old);
    list_remove(&c->waits);
    c->edge.number = number;
    c->binding = *b;
    c->state = CLIENT_BOUND;
    c->auth_due_ms = 0;
    f->by_number[number] = c;
    struct record rec = {.len = (uint32_t)bind_len, .type = RECORD_BIND, .conn = number, .payload_len = sizeof *b};
    uint8_t *at = edge_link_claim(&f->link, bind_len);
    memcpy(at, &rec, sizeof rec);
    memcpy(at + RECORD_HEADER, b, sizeof *b);
    link_put(f, c, bind_len);
    link_journal(f, RECORD_BIND, number, 0, 0);
    link_small(f, c, RECORD_OPTIONS, c->options);
    return OP_DONE;
}

enum op_result login_bind(struct frontend *f, struct client *c, struct login *l) {
    enum op_result r = identity_bind(f, c, l->number, &l->binding);
    if (r == OP_DONE)
        l->admitted = false; /* the number is the connection's now */
    return r;
}

/* The verdict takes effect; false: the ring is full, later. */
static bool admit(struct frontend *f, struct client *c) {
    struct login *l = c->login;
    if (c->state >= CLIENT_ENDING)
        return true;
    enum op_result r = l->anonymous ? login_bind(f, c, l) : connect_take(f, c, &l->connect, l);
    if (r != OP_DONE)
        return r == OP_ENDED;
    drop(f, c);
    c->auth_due_ms = 0;
    timer_update(f, c);
    client_wake(f, c);
    return true;
}

void login_run(struct frontend *f) {
    for (struct list_link *link = f->admitted.head.next, *next; link != &f->admitted.head; link = next) {
        struct login *l = list_entry(link, struct login, link);
        next = link->next;
        if (!admit(f, l->client))
            return;
    }
}

/* Who it is, for log lines: a name is no secret. */
static void take_user(struct client *c, const struct login *l) {
    ProtobufCBinaryData nkey = credential(l, CONNECT_NKEY), user = credential(l, CONNECT_USER);
    ProtobufCBinaryData name = nkey.len ? nkey : user;
    char text[160];
    snprintf(text, sizeof text, "%s \"%.*s\"", nkey.len ? "Nkey" : "User", (int)(name.len < 128 ? name.len : 128),
             (const char *)name.data);
    free(c->user);
    c->user = name.len ? strdup(text) : NULL;
}

void login_verdict(struct frontend *f, struct client *c, const struct binding *b) {
    struct login *l = c->login;
    l->sent = false;
    list_remove(&l->link);
    take_user(c, l);
    secrets_give(l->secret, l->secret_len);
    l->secret = NULL;
    l->binding = *b;
    l->admitted = true;
    list_add(&f->admitted, &l->link);
    login_run(f);
}

void login_refusal(struct frontend *f, struct client *c, int why) {
    struct login *l = c->login;
    l->sent = false;
    if (c->state >= CLIENT_ENDING)
        return; /* its login ends with it */
    if (why == BULKHEAD__REFUSAL_REASON__REFUSAL_STALE) { /* another number and generation will do */
        send_login(f, c);
        return;
    }
    if (why == BULKHEAD__REFUSAL_REASON__REFUSAL_BUSY) {
        l->again_ms = l->again_ms == 0 ? AGAIN_MS : l->again_ms < AGAIN_MOST_MS / 2 ? 2 * l->again_ms : AGAIN_MOST_MS;
        l->waits = true;
        c->auth_due_ms = f->now_ms + l->again_ms;
        timer_update(f, c);
        return;
    }
    connect_name(c, &l->connect);
    char user[128] = "", nkey[128] = "";
    ProtobufCBinaryData name = credential(l, CONNECT_USER), key = credential(l, CONNECT_NKEY);
    memcpy(user, name.data, name.len < sizeof user - 1 ? name.len : sizeof user - 1);
    memcpy(nkey, key.data, key.len < sizeof nkey - 1 ? key.len : sizeof nkey - 1);
    if (why == BULKHEAD__REFUSAL_REASON__REFUSAL_ACCOUNT) {
        client_log(c, LOG_ERROR, NATS_ERR_REGISTRATION " - User \"%s\"", user);
        client_error(f, c, NATS_ERR_REGISTRATION, "Failed Account Registration");
    } else {
        login_refused(f, c, user, nkey);
    }
}
