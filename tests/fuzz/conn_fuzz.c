/* SPDX-License-Identifier: Apache-2.0 */
/* Connections of a frontend from their beginning to their end, all that they speak with played by hand (tests/support/front.h).
 *
 * The bytes are a program: a byte says what happens next. Clients send operations, good and bad ones, cut anywhere, read or do not
 * read, leave; the router takes records late or not at all, delivers, refuses, stalls, kicks, dies; authd lets in, refuses, is slow,
 * dies; time passes; allocations fail. What must hold: nothing breaks, each client gets well-formed lines, a new router is told exactly
 * what the dead one knew, and when all clients have gone nothing of them is left.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/check.h"
#include "base/log.h"
#include "tests/support/alloc.h"
#include "tests/support/front.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CLIENTS = 4, OUT_MAX = 256 * 1024, OPS_MAX = 400 };

static struct front world;
static struct tls_context *tls;

static struct peer {
    struct front_client client;
    char out[OUT_MAX]; /* not sent yet */
    size_t out_len;
} peers[CLIENTS];

static const uint8_t *at;
static size_t left;
static long alloc_before, alloc_failing; /* in the next turn */

static uint32_t byte(void) {
    if (left == 0)
        return 0;
    left--;
    return *at++;
}

/* ---- what clients send ---- */

static void add(struct peer *p, const void *bytes, size_t len) {
    if (len > OUT_MAX - p->out_len)
        return;
    memcpy(p->out + p->out_len, bytes, len);
    p->out_len += len;
}

static void add_text(struct peer *p, const char *text) {
    add(p, text, strlen(text));
}

static void add_connect(struct peer *p) {
    static const char *const options[] = {"",
                                          "\"verbose\":false,\"pedantic\":false",
                                          "\"verbose\":false",
                                          "\"verbose\":true",
                                          "\"verbose\":false,\"user\":\"a\",\"pass\":\"a\"",
                                          "\"user\":\"b\",\"pass\":\"b\"",
                                          "\"account\":\"x\"",
                                          "\"new_account\":true",
                                          "\"protocol\":7",
                                          "\"protocol\":1",
                                          "\"no_responders\":true",
                                          "\"headers\":true,\"no_responders\":true,\"verbose\":false",
                                          "\"pedantic\":true",
                                          "bad",
                                          "\"nkey\":\"UX\",\"sig\":\"a\"",
                                          "\"user\":\"c\",\"verbose\":false,\"echo\":false"};
    static const uint32_t pads[] = {0, 0, 10, 100, 500, 900, 960, 1100};
    char line[2048];
    const char *text = options[byte() % 16];
    add(p, line, (size_t)snprintf(line, sizeof line, "CONNECT {%s%*s}\r\n", text, (int)pads[byte() % 8], ""));
}

static void add_message(struct peer *p) {
    static const char *const subjects[] = {"a", "a.b", "no.x", "*", "a..b", "b", "c", "_INBOX.1"};
    static const uint32_t sizes[] = {0, 1, 5, 100, 5000, 17000, FRONT_PAYLOAD_MAX, FRONT_PAYLOAD_MAX + 1};
    static const char block[] = "NATS/1.0\r\nA: b\r\n\r\n";
    static char payload[FRONT_PAYLOAD_MAX + 8];
    char line[128];
    uint32_t kind = byte(), size = sizes[byte() % 8];
    const char *subject = subjects[kind % 8], *reply = kind & 8 ? "r.x " : "";
    memset(payload, 'p', sizeof payload);
    int n;
    if (kind & 16 && size >= sizeof block) {
        uint32_t header = kind & 32 ? size + 1 : (uint32_t)sizeof block - 1;
        memcpy(payload, block, sizeof block - 1);
        n = snprintf(line, sizeof line, "HPUB %s %s%u %u\r\n", subject, reply, header, size);
    } else {
        n = snprintf(line, sizeof line, "PUB %s %s%u\r\n", subject, reply, size);
    }
    add(p, line, (size_t)n);
    memcpy(payload + size, kind & 64 ? "xx" : "\r\n", 2);
    add(p, payload, size + 2);
}

static void add_operation(struct peer *p) {
    static const char *const lines[] = {
        "PING\r\n",       "PONG\r\n",       "SUB a 1\r\n",   "SUB a 2\r\n",     "SUB a.b q 3\r\n",
        "SUB no.x 4\r\n", "SUB b 1\r\n",    "UNSUB 1\r\n",   "UNSUB 1 3\r\n",   "UNSUB 2\r\n",
        "UNSUB 9\r\n",    "INFO {}\r\n",    "+OK\r\n",       "-ERR 'x'\r\n",    "\r\n",
        "GARBAGE\r\n",    "SUB a..b 5\r\n", "UNSUB 3 1\r\n", "SUB c q.q 6\r\n", "info x\r\n"};
    uint32_t kind = byte();
    if (kind < 64) {
        add_connect(p);
    } else if (kind < 128) {
        add_message(p);
    } else if (kind < 144) {
        for (uint32_t i = byte() * 32 + 1; i > 0; i--)
            add_text(p, "PING\r\n");
    } else if (kind < 150) {
        for (uint32_t i = byte() + 1; i > 0; i--)
            add_text(p, "PUB a 3\r\nabc\r\n");
    } else {
        add_text(p, lines[kind % 20]);
    }
}

static void add_raw(struct peer *p) {
    size_t len = byte();
    if (len > left)
        len = left;
    add(p, at, len);
    at += len;
    left -= len;
}

/* All but the last few bytes, as much as the socket takes. */
static void send_out(struct peer *p, size_t held) {
    size_t len = p->out_len > held ? p->out_len - held : 0;
    if (p->client.fd < 0 || len == 0)
        return;
    size_t n = front_client_send(&p->client, p->out, len);
    memmove(p->out, p->out + n, p->out_len - n);
    p->out_len -= n;
}

static void leave(struct peer *p) {
    front_client_close(&p->client);
    p->out_len = 0;
}

/* ---- what the others do ---- */

static void router_record(void) {
    uint32_t kind = byte(), conn = front_conn_at(&world, byte());
    if (conn == EDGE_NO_NUMBER)
        return;
    switch (kind % 5) {
    case 0:
        front_router_small(&world, RECORD_KICK, conn, 1 + kind / 5 % (RECORD_KICK_END - 1));
        break;
    case 1:
        front_router_small(&world, RECORD_STALL, conn, 0);
        break;
    case 2:
        front_router_small(&world, RECORD_RESUME, conn, 0);
        break;
    case 3:
        front_router_small(&world, RECORD_OK, conn, 0);
        break;
    case 4:
        if (front_slot_at(&world, kind) != RECORD_NO_SLOT)
            front_router_end_slot(&world, front_slot_at(&world, kind));
    }
}

static void router_message(void) {
    static const uint32_t sizes[] = {0, 10, 4097, 5000, 16 * 1024, 20000, FRONT_PAYLOAD_MAX, 200};
    uint32_t kind = byte(), size = sizes[kind % 8], slot = front_slot_at(&world, byte());
    if (slot != RECORD_NO_SLOT)
        front_router_deliver(&world, slot, 1 + kind / 8 % 4, size, kind & 64 && size > 8 ? 8 : 0, kind & 128);
}

static void authd(void) {
    uint32_t kind = byte();
    front_authd_read(&world);
    if (kind < 128)
        front_authd_bind(&world, kind & 64 ? 0 : kind % 3, kind & 32 ? 1000 : 0);
    else if (kind < 192)
        front_authd_refuse(&world, BULKHEAD__REFUSAL_REASON__REFUSAL_AUTHORIZATION + kind % 4);
    else if (kind < 200)
        front_authd_new(&world, kind & 1, kind & 2, kind & 4);
}

static void supervisor(void) {
    struct frontend *f = &world.f;
    uint32_t kind = byte();
    if (kind < 64)
        f->places = 0;
    else if (kind < 128)
        accept_places(f, f->places_asked ? kind % 2 : 0);
    else if (kind < 160)
        lame_shed(f, 1, kind & 1);
    else if (kind < 192)
        world.keeps_closed = kind & 1;
    else if (kind < 224)
        ring_owe(&world.egress, kind & 1 ? 64 : 0);
    else
        front_router_dies(&world);
}

static void step(uint32_t op, struct peer *p) {
    static const uint64_t waits[] = {1, 20, 100, 1000, 2000, 10000, 0, 50};
    switch (op) {
    case 0:
        leave(p);
        front_client_open(&world, &p->client);
        break;
    case 1:
        shutdown(p->client.fd, SHUT_WR);
        break;
    case 2:
        leave(p);
        break;
    case 3:
        if (p->client.fd >= 0)
            front_client_read(&p->client);
        break;
    case 4:
        front_router(&world, byte());
        break;
    case 5:
        router_record();
        break;
    case 6:
        router_message();
        break;
    case 7:
        authd();
        break;
    case 8:
        front_pass(&world, waits[byte() % 8]);
        break;
    case 9: {
        uint32_t before = byte();
        alloc_before = before % 16;
        alloc_failing = 1 + before / 64;
        break;
    }
    case 10:
        supervisor();
        break;
    case 11:
        add_raw(p);
        send_out(p, 0);
        break;
    default: {
        for (uint32_t i = 1 + op % 4; i > 0; i--)
            add_operation(p);
        uint32_t held = byte();
        send_out(p, held < 128 ? 0 : held - 127);
    }
    }
}

/* ---- an input ---- */

static void end(void) {
    struct frontend *f = &world.f;
    ring_owe(&world.egress, 0);
    for (int i = 0; i < CLIENTS; i++)
        leave(&peers[i]);
    f->places_asked = 0;
    accept_places(f, 1000000);
    for (int i = 0; i < 8; i++) {
        front_settle(&world);
        front_pass(&world, 3000); /* the longest of all deadlines */
    }
    while (world.login_count > 0)
        front_authd_refuse(&world, BULKHEAD__REFUSAL_REASON__REFUSAL_STALE);
    front_settle(&world);
    front_check_empty(&world);
    input_wipe(f);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    front_open(&world);
    for (int i = 0; i < CLIENTS; i++)
        peers[i].client.fd = -1;
    tls = front_tls(&world);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    at = data;
    left = size;
    uint32_t mode = byte();
    front_authd_new(&world, mode & 1, mode & 2, mode & 4);
    world.f.tls = mode & 8 ? tls : NULL;
    log_set((mode & 0x30) == 0x30, (mode & 0x30) == 0x30);
    front_settle(&world);
    for (uint32_t i = 0; i < OPS_MAX && left > 0; i++) {
        uint32_t op = byte();
        step(op & 15, &peers[op >> 4 & 3]);
        if (op & 64)
            continue; /* several things happen within a turn */
        allocs_arm(alloc_before, alloc_failing);
        front_turn(&world);
        allocs_disarm();
        alloc_failing = 0;
        front_authd_read(&world);
    }
    alloc_failing = 0;
    end();
    return 0;
}
