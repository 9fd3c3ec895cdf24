/* SPDX-License-Identifier: Apache-2.0 */
/* CONNECT: what a client says of itself, once or several times.
 *
 * Where logins are asked for, the line goes to authd (frontend/login.c) and its effects wait for the verdict; the parser stands
 * still meanwhile. A CONNECT on a connection that is let in is a login again if it brings credentials, else a change of options.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "frontend/frontend.h"
#include "nats/errors.h"

static enum op_result end(struct frontend *f, struct client *c, const char *text, const char *reason) {
    client_log(c, LOG_ERROR, "%s", text);
    client_error(f, c, text, reason);
    return OP_ENDED;
}

void connect_name(struct client *c, const struct connect *in) {
    const char *lang = in->text[CONNECT_LANG], *version = in->text[CONNECT_VERSION], *name = in->text[CONNECT_NAME];
    if (!lang && !version && !name)
        return;
    char text[256];
    int n = 0;
    if (version)
        n += snprintf(text + n, sizeof text - (size_t)n, "v%.60s", version);
    if (lang)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%.60s", n ? ":" : "", lang);
    if (name)
        snprintf(text + n, sizeof text - (size_t)n, "%s%.100s", n ? ":" : "", name);
    free(c->who);
    c->who = strdup(text);
}

static uint8_t options_of(const struct connect *in) {
    return (uint8_t)((in->echo ? RECORD_ECHO : 0) | (in->headers ? RECORD_HEADERS : 0) |
                     (in->no_responders ? RECORD_NO_RESPONDERS : 0) | (in->verbose ? RECORD_VERBOSE : 0) |
                     (in->pedantic ? RECORD_PEDANTIC : 0));
}

static void begin_from(struct connect *in, const struct client *c) {
    connect_init(in);
    if (!(c->flags & CLIENT_CONNECTED))
        return;
    in->echo = c->options & RECORD_ECHO;
    in->headers = c->options & RECORD_HEADERS;
    in->no_responders = c->options & RECORD_NO_RESPONDERS;
    in->verbose = c->options & RECORD_VERBOSE;
    in->pedantic = c->options & RECORD_PEDANTIC;
    in->protocol = c->protocol;
}

/* Options of a connection that is already bound. */
static enum op_result change_options(struct frontend *f, struct client *c, uint8_t options) {
    uint8_t old = c->options;
    if (options == old)
        return OP_DONE;
    if (!edge_journal_reserve(&f->journal, 1)) {
        client_no_memory(f, c);
        return OP_ENDED;
    }
    if (!link_small(f, c, RECORD_OPTIONS, options))
        return OP_PAUSE;
    link_journal(f, RECORD_OPTIONS, c->edge.number, old, 0);
    c->options = options;
    return OP_DONE;
}

/* Takes the options: those of a bound connection change, another one is bound with them. */
static enum op_result take_options(struct frontend *f, struct client *c, uint8_t options, struct login *login) {
    if (c->state == CLIENT_BOUND && !(login && login_is_new(c, login)))
        return change_options(f, c, options);
    uint8_t old = c->options;
    c->options = options;
    enum op_result r = login ? login_bind(f, c, login) : login_stock_bind(f, c);
    if (r == OP_PAUSE)
        c->options = old;
    return r;
}

enum op_result connect_take(struct frontend *f, struct client *c, struct connect *in, struct login *login) {
    in->headers = in->headers && !f->settings.no_headers;
    if (in->protocol < 0 || in->protocol > 1)
        return end(f, c, NATS_ERR_CLIENT_PROTOCOL, "Bad Client Protocol Version");
    if (in->no_responders && !in->headers)
        return end(f, c, NATS_ERR_NO_RESPONDERS, "No Responders Requires Headers");
    enum op_result r = take_options(f, c, options_of(in), login);
    if (r != OP_DONE)
        return r;
    c->flags |= CLIENT_CONNECTED;
    c->protocol = (uint8_t)in->protocol;
    connect_name(c, in);
    c->activity_ms = f->now_ms;
    c->ping_out = 0;
    ping_restart(f, c, true);
    if (c->options & RECORD_VERBOSE)
        fence_add(f, c, "+OK\r\n", 5);
    return c->state < CLIENT_ENDING ? OP_DONE : OP_ENDED;
}

static bool brings_credentials(const struct connect *in) {
    for (int i = CONNECT_USER; i <= CONNECT_SIG; i++) {
        if (in->text[i])
            return true;
    }
    return false;
}

static enum op_result decide(struct frontend *f, struct client *c, struct connect *in) {
    if (in->text[CONNECT_ACCOUNT] || in->new_account) {
        connect_name(c, in);
        login_refused(f, c, in->text[CONNECT_USER], in->text[CONNECT_NKEY]);
        return OP_ENDED;
    }
    if (f->policy.login && (c->state != CLIENT_BOUND || brings_credentials(in)))
        return login_ask(f, c, in);
    return connect_take(f, c, in, NULL);
}

enum op_result connect_run(struct frontend *f, struct client *c, struct view json) {
    if (list_has(&c->fenced))
        return OP_PAUSE;
    struct connect in;
    begin_from(&in, c);
    enum err e = connect_parse(&in, json);
    if (e != ERR_OK) {
        if (e == ERR_NOMEM)
            client_no_memory(f, c);
        else
            fault_operation(f, c, "CONNECT is no JSON object, or one of its values has the wrong type");
        return OP_ENDED;
    }
    enum op_result r = decide(f, c, &in);
    connect_free(&in);
    return r == OP_DONE ? OP_SECRET : r;
}
