/* SPDX-License-Identifier: Apache-2.0 */
/* A hostile edge against a router in this process, with one honest edge beside it.
 *
 * The bytes are a program: a byte says what to write next (a record with good or bad parts, whose numbers come from the
 * bytes; raw bytes; a position; a turn; changed permissions; a router's death). Valid bindings are to be had, each with a
 * permission set. What must hold: no crash, the honest edge's link lives, its records are well-formed (its model checks them), it
 * goes on getting its own messages, and gets nothing on the subject that no set allows to publish to (but as an answer, in inputs
 * whose sets allow answers).
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "tests/support/edge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t *at;
static size_t left;

static uint32_t byte(void) {
    if (left == 0)
        return 0;
    left--;
    return *at++;
}

static uint32_t number(void) {
    uint32_t b = byte();
    return b < 250    ? b % 8
           : b == 250 ? 65535
           : b == 251 ? 65536
           : b == 252 ? 16777215
           : b == 253 ? 16777216
                      : UINT32_MAX;
}

/* A text of the input, or one that means something. */
static struct view text(void) {
    static const char *const known[] = {"a", "a.b", ">", "a.*", "a..b", "_R_.x", "_GR_.x", "_sys_", "q", "*"};
    uint32_t b = byte();
    if (b < 160)
        return view_of(known[b % 10], strlen(known[b % 10]));
    size_t len = b - 160;
    if (len > left)
        len = left;
    struct view v = view_of((const char *)at, len);
    at += len;
    left -= len;
    return v;
}

static bool has_room(const struct edge *e) {
    return e->ingress.cap - (e->ingress.head_pos - e->ingress.consumed_pos) > 4096;
}

static void hostile_record(struct edge *e) {
    static const uint8_t payload[512];
    struct record rec = {.conn = number(), .flags = (uint8_t)(byte() & 1)};
    switch (byte() % 12) {
    case 0:
    case 1: {
        uint32_t generation = byte() % 32, account = byte() % 4;
        struct binding b = edge_binding(e, rec.conn, account);
        b.generation = generation;
        b.permissions = 1 + generation % 2;
        b.principal = 9;
        b.expires_s = byte() % 8 == 0 ? e->world->wall + 1 : 0;
        binding_seal(&b, &e->world->key);
        if (byte() % 8 == 0)
            ((uint8_t *)&b)[byte() % sizeof b] ^= 1;
        rec.type = RECORD_BIND;
        rec.payload_len = sizeof b;
        edge_put(e, &rec, NULL, 0, (struct view){0}, (struct view){0}, &b);
        return;
    }
    case 2:
    case 3: {
        struct record_sub fixed = {number(), number(), byte(), byte()};
        rec.type = RECORD_SUB;
        struct view subject = text(), queue = byte() % 2 ? text() : (struct view){0};
        edge_put(e, &rec, &fixed, sizeof fixed, subject, queue, NULL);
        return;
    }
    case 4: {
        struct record_unsub fixed = {number(), byte() % 4};
        rec.type = RECORD_UNSUB;
        edge_put(e, &rec, &fixed, sizeof fixed, (struct view){0}, (struct view){0}, NULL);
        return;
    }
    case 5:
    case 6:
    case 7: {
        rec.type = RECORD_PUB;
        rec.payload_len = byte() * 2;
        rec.aux = byte() % 4 ? 0 : byte();
        struct view subject = text(), reply = byte() % 2 ? text() : (struct view){0};
        edge_put(e, &rec, NULL, 0, subject, reply, payload);
        return;
    }
    case 8:
        rec.type = RECORD_OPTIONS;
        rec.aux = byte();
        break;
    case 9:
        rec.type = RECORD_GATE;
        rec.aux = byte() & 1;
        break;
    case 10:
        rec.type = RECORD_CLOSE;
        break;
    default:
        rec.type = (uint8_t)byte();
        rec.aux = byte();
    }
    edge_put(e, &rec, NULL, 0, (struct view){0}, (struct view){0}, NULL);
}

static void raw_bytes(struct edge *e) {
    uint8_t bytes[256] = {0};
    uint32_t len = 8 + byte() % 31 * 8;
    for (uint32_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)byte();
    edge_put_raw(e, bytes, len);
}

/* The hostile edge's own replay: what lies in the input, as records of its replay ring. */
static void hostile_replay(struct world *w, struct edge *e) {
    struct edge shadow = *e; /* its ingress ring is the replay ring for a moment */
    shadow.ingress = e->replay;
    shadow.journal = NULL;
    shadow.journal_count = shadow.journal_cap = shadow.journal_at = 0;
    struct record begin = {.type = RECORD_REPLAY_BEGIN, .aux = w->epoch};
    edge_put(&shadow, &begin, NULL, 0, (struct view){0}, (struct view){0}, NULL);
    for (uint32_t n = byte() % 16; n > 0 && has_room(&shadow); n--)
        hostile_record(&shadow);
    struct record end = {.type = RECORD_REPLAY_END, .aux = w->epoch};
    if (byte() % 8)
        edge_put(&shadow, &end, NULL, 0, (struct view){0}, (struct view){0}, NULL);
    edge_publish(&shadow);
    e->replay = shadow.ingress;
}

/* Two sets, neither of which allows "a.b". */
static void make_sets(struct world *w, uint32_t responses) {
    static const char *const first[] = {"-pub a.b", "-sub a.*", "+sub > q", "+sub a.>"};
    static const char *const second[] = {"+pub a", "+pub *", "+pub own.>", "-sub own"};
    world_rules(w, 1, first, 4, responses, 0);
    world_rules(w, 2, second, 4, responses, 1000);
}

static void new_router(struct world *w, struct edge *lost) {
    world_die(w);
    world_start(w);
    while (!w->recovered)
        world_edges_step(w);
    if (!lost->bad)
        hostile_replay(w, lost);
    for (int i = 0; i < 20 && !w->ready; i++)
        world_step(w);
    while (!w->ready) {                               /* it never ends its replay */
        world_pass(w, w->settings.replay_ms / 8 + 1); /* less than what a machine that stood still would excuse */
        world_step(w);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct world w;
    at = data;
    left = size;
    world_make(&w, 2, 128 * 1024, 64 * 1024);
    world_account(&w, 2, 2, 3);
    w.settings.max_sub_tokens = 8;
    w.settings.max_payload = 400;
    struct edge *lost = &w.edge[0], *honest = &w.edge[1];
    lost->hostile = lost->silent = true;
    uint32_t responses = byte() % 4;
    make_sets(&w, responses);
    world_begin(&w);
    uint32_t conn = edge_connect(honest, 1, RECORD_ECHO | RECORD_NO_RESPONDERS);
    edge_subscribe(honest, conn, ">", NULL, RECORD_NO_SLOT, 0);
    uint32_t own = edge_subscribe(honest, conn, "own", NULL, RECORD_NO_SLOT, 0);
    uint32_t closed = edge_subscribe(honest, conn, "a.b", NULL, RECORD_NO_SLOT, 0);
    lost->conn_high = 8;
    world_settle(&w);
    uint32_t sent = 0;
    while (left > 0 && !honest->bad) {
        uint32_t what = byte();
        if (lost->bad) {
            world_edge_down(&w, lost);
            world_edge_new(&w, 0, LINK_FRONTEND);
            lost->hostile = lost->silent = true;
            lost->conn_high = 8;
        }
        if (what < 190 && has_room(lost))
            hostile_record(lost);
        else if (what < 200 && has_room(lost))
            raw_bytes(lost);
        else if (what < 204)
            atomic_store(&lost->ingress.data->produced_pos,
                         lost->ingress.produced_pos + ((uint64_t)byte() << byte() % 64));
        else if (what < 208)
            atomic_store(&((struct ring_credit *)lost->egress_map.credit)->consumed_pos, (uint64_t)byte()
                                                                                             << byte() % 64);
        else if (what < 212)
            lost->paused = byte() & 1;
        else if (what < 216)
            world_pass(&w, byte() * 8);
        else if (what < 219)
            new_router(&w, lost);
        else if (what < 221)
            world_permit(&w, 1 + byte() % 2, 9, 1 + byte() % 2, byte() % 2 ? 100 : 0);
        else {
            edge_publish(lost);
            if (what & 1) {
                edge_pub(honest, conn, "own", NULL, "1", 1, 0);
                edge_publish(honest);
                sent++;
            }
            world_step(&w);
        }
    }
    check(!honest->bad);
    edge_publish(honest);
    for (int i = 0; i < 200 && honest->sub[own].delivered < sent; i++) {
        world_step(&w);
        w.now += 5000000;
    }
    check(!honest->bad && honest->sub[own].delivered >= sent);
    check(honest->conn[conn].kick_count == 0);
    check(responses != 0 || honest->sub[closed].delivered == 0);
    world_free(&w);
    return 0;
}
