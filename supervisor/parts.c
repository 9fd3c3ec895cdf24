/* SPDX-License-Identifier: Apache-2.0 */
/* Hands each component its part of the configuration, without knowing what is in it (supervisor/secrets.h).
 *
 * A part comes before what it belongs to: at the start before the Book or the Link, at a reload before Prepare. Every
 * process gets a descriptor of its own, for reading alone.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "shm/memfd.h"
#include "supervisor/supervisor.h"

static struct child *reader_child(struct supervisor *s) {
    return child_of(s, BULKHEAD__ROLE__ROLE_CONFIG, 0);
}

void parts_read(struct supervisor *s, bool test, struct parts *p) {
    struct parts_reading *r = &s->reading;
    struct child *c = reader_child(s);
    struct reading what = {.argc = s->argc, .argv = s->argv, .key = s->reload_key, .test = test, .memory_fd = -1};
    r->parts = p;
    r->done = r->late = false;
    r->until_ms = s->now_ms + READER_MS;
    r->result.valid = 0;
    if ((s->memory_fd >= 0 && memfd_reader(&what.memory_fd, s->memory_fd) != ERR_OK) || child_start(s, c) != ERR_OK) {
        reader_fail(&r->result, strerror(errno));
        r->done = true;
    } else if (reader_begin(&r->reader, c->control.fd, &what, &r->result) != ERR_OK) {
        child_signal(c, SIGKILL);
    }
    if (what.memory_fd >= 0)
        close(what.memory_fd);
}

enum err parts_on_packets(struct supervisor *s, struct child *c) {
    (void)c;
    return reader_on_packets(&s->reading.reader);
}

void parts_on_exit(struct supervisor *s, struct child *c, const struct death *death) {
    struct parts_reading *r = &s->reading;
    struct parts *p = r->parts;
    (void)c;
    reader_end(&r->reader, death->well, r->late, &p->secrets);
    p->tls = r->result.tls;
    r->done = true;
    if (!r->result.valid || r->reader.test)
        return;
    if (s->memory_fd >= 0)
        close(s->memory_fd);
    s->memory_fd = p->secrets.fd[READER_MEMORY];
    p->secrets.fd[READER_MEMORY] = -1;
}

uint64_t parts_tick(struct supervisor *s) {
    struct parts_reading *r = &s->reading;
    struct child *c = reader_child(s);
    if (!c->pid || r->late)
        return 0;
    if (s->now_ms < r->until_ms && !s->stop && !s->lame)
        return r->until_ms;
    r->late = true;
    child_signal(c, SIGKILL);
    return 0;
}

static void send_part(struct supervisor *s, struct child *c, const struct parts *p, enum reader_part part,
                      enum message_type type, const void *message) {
    int fd;
    if (secrets_reader(&fd, &p->secrets, part) != ERR_OK) {
        child_blame(c, "cannot be given its part of the configuration");
        return;
    }
    child_send(s, c, type, message, &fd, 1);
    close(fd);
}

static void send_tls(struct supervisor *s, struct child *c, struct parts *p, uint32_t generation) {
    struct tls_options *t = &p->tls;
    if (!t->given && !c->told_tls)
        return;
    Bulkhead__Tls m = BULKHEAD__TLS__INIT;
    ProtobufCBinaryData pins[TLS_PINS_MAX];
    m.generation = generation;
    m.key = TLS_KEY_NUMBER;
    m.chain_bytes = t->given ? t->chain_bytes : 0;
    m.ca_bytes = t->given ? t->ca_bytes : 0;
    m.ciphers = (ProtobufCBinaryData){strlen(t->ciphers), (uint8_t *)t->ciphers};
    m.groups = (ProtobufCBinaryData){strlen(t->groups), (uint8_t *)t->groups};
    m.verify = t->verify;
    m.map = t->map;
    m.timeout_ms = t->timeout_ms;
    m.rate_limit =
        (uint32_t)(((uint64_t)t->rate_limit + s->frontend_count - 1) / s->frontend_count); /* each its share */
    m.allow_non_tls = t->allow_non_tls;
    m.first = t->first;
    m.first_after_ms = t->first_after_ms;
    for (uint32_t i = 0; i < t->pin_count; i++)
        pins[i] = (ProtobufCBinaryData){TLS_PIN_BYTES, t->pins[i]};
    m.n_pins = t->pin_count;
    m.pins = pins;
    send_part(s, c, p, READER_TLS, MESSAGE_TLS, &m.base);
    c->told_tls = true;
}

static void send_auth(struct supervisor *s, struct child *c, struct parts *p, uint32_t generation) {
    Bulkhead__AuthPart m = BULKHEAD__AUTH_PART__INIT;
    m.generation = generation;
    send_part(s, c, p, READER_AUTH, MESSAGE_AUTH_PART, &m.base);
}

static void send_keys(struct supervisor *s, struct child *c, struct parts *p, uint32_t generation) {
    Bulkhead__Keys m = BULKHEAD__KEYS__INIT;
    m.generation = generation;
    if (p->tls.given)
        send_part(s, c, p, READER_KEYS, MESSAGE_KEYS, &m.base);
}

void parts_send(struct supervisor *s, struct child *c, struct parts *p, uint32_t generation) {
    static void (*const senders[READER_PARTS])(struct supervisor *, struct child *, struct parts *, uint32_t) = {
        [READER_AUTH] = send_auth, [READER_TLS] = send_tls, [READER_KEYS] = send_keys};
    if (c->told == generation)
        return;
    c->told = generation;
    for (uint32_t part = 0; part < READER_PARTS; part++) {
        if (c->role->parts & 1u << part)
            senders[part](s, c, p, generation);
    }
}
