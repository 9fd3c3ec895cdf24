/* SPDX-License-Identifier: Apache-2.0 */
/* The table of state, record and action: what ends a link, what is ignored, what is answered, and in which order. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "nats/proto.h"
#include "tests/support/edge.h"
#include "tests/unit/unit.h"

static struct world w;
static struct edge *a, *b; /* b is the honest neighbour, whose link must live */
static uint32_t conn, other, b_conn;

static void setup(void) {
    world_make(&w, 2, 256 * 1024, 1 << 20);
    world_account(&w, 2, 0, 3);
    w.settings.max_sub_tokens = 4;
    world_begin(&w);
    a = &w.edge[0], b = &w.edge[1];
    conn = edge_connect(a, 1, RECORD_ECHO | RECORD_HEADERS | RECORD_NO_RESPONDERS);
    other = edge_connect(a, 1, RECORD_ECHO);
    b_conn = edge_connect(b, 1, RECORD_ECHO);
    world_settle(&w);
}

static void teardown(void) {
    world_free(&w);
}

static uint64_t counted(enum counter which) {
    return counter_get(w.counters, which);
}

/* ---- the impossible ---- */

static void raw(uint8_t type, uint32_t number, uint32_t aux, const void *fixed, uint32_t fixed_len, const char *subject,
                const char *reply, uint32_t payload_len) {
    struct record rec = {.type = type, .conn = number, .aux = aux, .payload_len = payload_len};
    static const uint8_t payload[4096];
    edge_put(a, &rec, fixed, fixed_len, view_of(subject, subject ? strlen(subject) : 0),
             view_of(reply, reply ? strlen(reply) : 0), payload);
}

static void raw_sub(uint32_t number, uint32_t slot, const char *subject, const char *queue) {
    struct record_sub fixed = {slot, RECORD_NO_SLOT, 0, 0};
    raw(RECORD_SUB, number, 0, &fixed, sizeof fixed, subject, queue, 0);
}

static void raw_unsub(uint32_t number, uint32_t slot, uint32_t max) {
    struct record_unsub fixed = {slot, max};
    raw(RECORD_UNSUB, number, 0, &fixed, sizeof fixed, NULL, NULL, 0);
}

/* clang-format off */
static void bad_pub_unknown(void) { raw(RECORD_PUB, 500, 0, NULL, 0, "x", NULL, 0); }
static void bad_pub_beyond(void) { raw(RECORD_PUB, UINT32_MAX, 0, NULL, 0, "x", NULL, 0); }
static void bad_bind_beyond(void) { raw(RECORD_BIND, SOFT_CONNS_MAX, 0, NULL, 0, NULL, NULL, sizeof(struct binding)); }
static void bad_sub_unknown(void) { raw_sub(500, 9, "x", NULL); }
static void bad_sub_beyond(void) { raw_sub(conn, UINT32_MAX, "x", NULL); }
static void bad_unsub_beyond(void) { raw_unsub(conn, UINT32_MAX, 0); }
static void bad_close_unknown(void) { raw(RECORD_CLOSE, 500, 0, NULL, 0, NULL, NULL, 0); }
static void bad_options_unknown(void) { raw(RECORD_OPTIONS, 500, 0, NULL, 0, NULL, NULL, 0); }
static void bad_gate_unknown(void) { raw(RECORD_GATE, 500, 1, NULL, 0, NULL, NULL, 0); }
static void bad_options_bits(void) { raw(RECORD_OPTIONS, conn, 32, NULL, 0, NULL, NULL, 0); }
/* clang-format on */
static void bad_after_close(void) {
    raw(RECORD_CLOSE, conn, 0, NULL, 0, NULL, NULL, 0);
    raw(RECORD_PUB, conn, 0, NULL, 0, "x", NULL, 0);
}
static void bad_second_close(void) {
    raw(RECORD_CLOSE, conn, 0, NULL, 0, NULL, NULL, 0);
    raw(RECORD_CLOSE, conn, 0, NULL, 0, NULL, NULL, 0);
}
static void bad_bind_after_close(void) { /* before the CONN_FREE was read */
    raw(RECORD_CLOSE, conn, 0, NULL, 0, NULL, NULL, 0);
    a->conn[conn].generation++;
    struct binding again = edge_binding(a, conn, 1);
    edge_bind(a, conn, &again);
}
static void bad_live_slot(void) {
    raw_sub(conn, 7, "x", NULL);
    raw_sub(conn, 7, "y", NULL);
}
static void bad_foreign_live_slot(void) {
    raw_sub(conn, 7, "x", NULL);
    raw_sub(other, 7, "y", NULL);
}
static void bad_foreign_unsub(void) {
    raw_sub(conn, 7, "x", NULL);
    raw_unsub(other, 7, 0);
}
static void bad_second_bind(void) {
    struct binding again = edge_binding(a, conn, 1);
    edge_bind(a, conn, &again);
}
/* clang-format off */
static void bad_replay_begin(void) { raw(RECORD_REPLAY_BEGIN, 0, w.epoch, NULL, 0, NULL, NULL, 0); }
static void bad_replay_end(void) { raw(RECORD_REPLAY_END, 0, w.epoch, NULL, 0, NULL, NULL, 0); }
static void bad_no_subject(void) { raw(RECORD_PUB, conn, 0, NULL, 0, NULL, NULL, 3); }
/* clang-format on */
static void bad_payload_max(void) {
    static uint8_t large[(1 << 20) + 8];
    struct record rec = {.type = RECORD_PUB, .conn = conn, .payload_len = (1 << 10) + 1};
    w.router->settings.max_payload = 1 << 10;
    edge_put(a, &rec, NULL, 0, VIEW("x"), (struct view){0}, large);
}
/* clang-format off */
static void bad_header_len(void) { raw(RECORD_PUB, conn, 9, NULL, 0, "x", NULL, 8); }
static void bad_deliver(void) { raw(RECORD_DELIVER, conn, 0, NULL, 0, "x", NULL, 8); }
static void bad_slot_free(void) { raw(RECORD_SLOT_FREE, conn, 0, NULL, 0, NULL, NULL, 0); }
static void bad_type_zero(void) { raw(0, conn, 0, NULL, 0, NULL, NULL, 0); }
static void bad_type_unknown(void) { raw(77, conn, 0, NULL, 0, NULL, NULL, 0); }
static void bad_type_255(void) { raw(255, conn, 0, NULL, 0, NULL, NULL, 0); }
static void bad_close_payload(void) { raw(RECORD_CLOSE, conn, 0, NULL, 0, NULL, NULL, 8); }
/* clang-format on */
static void bad_unsub_subject(void) {
    struct record_unsub fixed = {0, 0};
    raw(RECORD_UNSUB, conn, 0, &fixed, sizeof fixed, "x", NULL, 0);
}
/* clang-format off */
static void bad_unsub_short(void) { raw(RECORD_UNSUB, conn, 0, NULL, 0, NULL, NULL, 0); }
static void bad_sub_short(void) { raw(RECORD_SUB, conn, 0, NULL, 0, "x", NULL, 0); }
/* clang-format on */

static void raw_len(uint32_t len, uint32_t payload_len, uint16_t subject_len, uint16_t targets) {
    struct record rec = {.type = RECORD_PUB,
                         .conn = conn,
                         .len = len,
                         .subject_len = subject_len,
                         .payload_len = payload_len,
                         .target_count = targets};
    uint8_t bytes[64] = {0};
    memcpy(bytes, &rec, sizeof rec);
    bytes[sizeof rec] = 'x';
    edge_put_raw(a, bytes, sizeof bytes);
}
/* clang-format off */
static void bad_len_zero(void) { raw_len(0, 0, 1, 0); }
static void bad_len_short(void) { raw_len(24, 0, 1, 0); }
static void bad_len_long(void) { raw_len(26, 0, 1, 0); }
static void bad_len_beyond(void) { raw_len(25 + 100, 100, 1, 0); }
static void bad_len_huge(void) { raw_len(UINT32_MAX, UINT32_MAX - 25, 1, 0); }
static void bad_len_wraps(void) { raw_len(24, UINT32_MAX, 1, 0); }
static void bad_targets(void) { raw_len(33, 0, 1, 1); }
/* clang-format on */
static void bad_produced_back(void) {
    atomic_store(&a->ingress.data->produced_pos, a->ingress.produced_pos - 8);
}
static void bad_produced_beyond(void) {
    atomic_store(&a->ingress.data->produced_pos, a->ingress.produced_pos + 256 * 1024 + 8);
}
static void bad_produced_odd(void) {
    atomic_store(&a->ingress.data->produced_pos, a->ingress.produced_pos + 4);
}

static const struct {
    const char *name;
    void (*write)(void);
} impossible[] = {
#define BAD(f)                                                                                                         \
    { #f, f }
    BAD(bad_pub_unknown),      BAD(bad_pub_beyond),   BAD(bad_bind_beyond),       BAD(bad_sub_unknown),
    BAD(bad_sub_beyond),       BAD(bad_unsub_beyond), BAD(bad_close_unknown),     BAD(bad_options_unknown),
    BAD(bad_gate_unknown),     BAD(bad_options_bits), BAD(bad_after_close),       BAD(bad_second_close),
    BAD(bad_bind_after_close), BAD(bad_live_slot),    BAD(bad_foreign_live_slot), BAD(bad_foreign_unsub),
    BAD(bad_second_bind),      BAD(bad_replay_begin), BAD(bad_replay_end),        BAD(bad_no_subject),
    BAD(bad_payload_max),      BAD(bad_header_len),   BAD(bad_deliver),           BAD(bad_slot_free),
    BAD(bad_type_zero),        BAD(bad_type_unknown), BAD(bad_type_255),          BAD(bad_close_payload),
    BAD(bad_unsub_subject),    BAD(bad_unsub_short),  BAD(bad_sub_short),         BAD(bad_len_zero),
    BAD(bad_len_short),        BAD(bad_len_long),     BAD(bad_len_beyond),        BAD(bad_len_huge),
    BAD(bad_len_wraps),        BAD(bad_targets),      BAD(bad_produced_back),     BAD(bad_produced_beyond),
    BAD(bad_produced_odd),
#undef BAD
};

START_TEST(test_impossible) {
    setup();
    uint32_t slot = edge_subscribe(b, b_conn, ">", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    a->hostile = a->paused = true;
    impossible[_i].write();
    edge_publish(a);
    for (int i = 0; i < 10; i++)
        world_step(&w);
    ck_assert_msg(a->bad, "%s is taken", impossible[_i].name);
    ck_assert_msg(!b->bad, "%s ends another link", impossible[_i].name);
    ck_assert_uint_eq(counted(COUNTER_LINKS_ENDED), 1);
    /* The neighbour works on, and nothing of what was impossible came through. */
    ck_assert_uint_eq(b->sub[slot].delivered, 0);
    edge_pub(b, b_conn, "alive", NULL, "1", 1, 0);
    world_settle(&w);
    ck_assert_uint_eq(b->sub[slot].delivered, 1);
    world_edge_down(&w, a);
    ck_assert_uint_eq(counted(COUNTER_CONNS), 1);
    ck_assert_uint_eq(counted(COUNTER_SUBS), 1);
    ck_assert_uint_eq(w.router->account[1]->conn_count, 1);
    world_edge_new(&w, 0, LINK_FRONTEND);
    conn = edge_connect(a, 1, RECORD_ECHO);
    edge_pub(a, conn, "again", NULL, "1", 1, 0);
    world_settle(&w);
    ck_assert_uint_eq(b->sub[slot].delivered, 2);
    teardown();
}
END_TEST

/* Each dirty byte at each place of each kind of name. */
static const char dirty_bytes[] = {' ', '\t', '\r', '\n'};

START_TEST(test_dirty) {
    setup();
    char name[40] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    int place = _i / 16, byte = _i / 4 % 4, kind = _i % 4;
    static const int places[] = {0, 1, 15, 16, 38};
    name[places[place]] = dirty_bytes[byte];
    a->hostile = a->paused = true;
    if (kind == 0)
        raw(RECORD_PUB, conn, 0, NULL, 0, name, NULL, 0);
    else if (kind == 1)
        raw(RECORD_PUB, conn, 0, NULL, 0, "x", name, 0);
    else if (kind == 2)
        raw_sub(conn, 0, name, NULL);
    else
        raw_sub(conn, 0, "x", name);
    edge_publish(a);
    for (int i = 0; i < 5; i++)
        world_step(&w);
    ck_assert_msg(a->bad && !b->bad, "byte %d at %d of name %d is taken", dirty_bytes[byte], places[place], kind);
    teardown();
}
END_TEST

/* ---- races ---- */

START_TEST(test_kicked_connection) {
    setup();
    uint32_t slot = edge_subscribe(a, conn, "k", NULL, RECORD_NO_SLOT, 0);
    uint32_t watch = edge_subscribe(b, b_conn, ">", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    admit_kick(w.router, &w.router->link[0], conn, RECORD_KICK_REVOKED);
    uint64_t ignored = counted(COUNTER_RECORDS_IGNORED);
    edge_pub(a, conn, "x", NULL, "1", 1, RECORD_ANSWER);
    edge_unsub(a, conn, slot, 0, RECORD_ANSWER);
    edge_options(a, conn, 0);
    edge_gate(a, conn, true);
    edge_subscribe(a, conn, "late", NULL, RECORD_NO_SLOT, RECORD_ANSWER);
    world_settle(&w);
    ck_assert(!a->bad);
    ck_assert_uint_eq(a->conn[conn].kick_count, 1);
    ck_assert_uint_eq(a->conn[conn].kick, RECORD_KICK_REVOKED);
    ck_assert_uint_eq(a->conn[conn].ok_count, 0);
    ck_assert_uint_ge(counted(COUNTER_RECORDS_IGNORED), ignored + 3);
    ck_assert_uint_eq(b->sub[watch].delivered, 0);
    edge_pub(b, b_conn, "late", NULL, "1", 1, 0);
    world_settle(&w);
    edge_close(a, conn);
    world_settle(&w);
    ck_assert(!a->conn[conn].used);
    ck_assert_uint_eq(a->conn_free_total, 1);
    ck_assert_uint_eq(counted(COUNTER_CONNS), 2);
    ck_assert_uint_eq(w.router->account[1]->conn_count, 2);
    teardown();
}
END_TEST

START_TEST(test_unsub_of_ended_slot) {
    setup();
    uint32_t slot = edge_subscribe(a, conn, "m", NULL, RECORD_NO_SLOT, 0);
    edge_unsub(a, conn, slot, 2, 0);
    for (int i = 0; i < 3; i++)
        edge_pub(a, conn, "m", NULL, "1", 1, 0);
    edge_unsub(a, conn, slot, 0, 0); /* crosses the end */
    uint64_t ignored = counted(COUNTER_RECORDS_IGNORED);
    world_settle(&w);
    ck_assert(!a->bad && !a->sub[slot].used);
    ck_assert_uint_eq(a->slot_free_total, 1);
    ck_assert_uint_eq(a->delivered_count, 2);
    ck_assert_uint_eq(counted(COUNTER_RECORDS_IGNORED), ignored + 1);
    teardown();
}
END_TEST

/* The end crosses the UNSUB while the router is replaced: the new one has never heard of the slot. */
START_TEST(test_unsub_of_ended_slot_at_new_router) {
    setup();
    uint32_t slot = 0;
    for (int i = 0; i < (_i ? 3000 : 1); i++)
        slot = edge_subscribe(a, conn, "m", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    for (uint32_t i = 0; i <= slot; i++)
        edge_unsub(a, conn, i, 1, 0);
    edge_pub(a, conn, "m", NULL, "1", 1, 0);
    world_settle(&w);
    ck_assert_uint_eq(a->slot_free_total, slot + 1);
    world_die(&w);
    edge_unsub(a, conn, slot, 0, 0);
    edge_publish(a);
    world_begin(&w);
    world_settle(&w);
    ck_assert(!a->bad);
    teardown();
}
END_TEST

/* ---- slots and connections end once ---- */

START_TEST(test_every_sub_ends_once) {
    setup();
    uint32_t empty = edge_subscribe(a, conn, "a..b", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    ck_assert(!a->sub[empty].used);
    ck_assert_uint_eq(a->slot_free_total, 1);
    ck_assert_uint_eq(edge_seen(a, RECORD_DENY)->aux, RECORD_DENY_SUBJECT);
    enum { MANY = 1000 };
    for (int i = 0; i < MANY; i++) {
        char subject[32];
        snprintf(subject, sizeof subject, i % 3 ? "s.%d" : "s.*.%d", i);
        uint32_t slot = edge_subscribe(a, conn, subject, i % 5 ? NULL : "q", RECORD_NO_SLOT, 0);
        if (i % 4 == 0)
            edge_unsub(a, conn, slot, 0, 0);
    }
    world_settle(&w);
    ck_assert_uint_eq(a->slot_free_total, 1 + MANY / 4);
    ck_assert_uint_eq(counted(COUNTER_SUBS), MANY - MANY / 4);
    edge_close(a, conn); /* CONN_FREE takes the rest */
    world_settle(&w);
    ck_assert_uint_eq(a->slot_free_total, 1 + MANY / 4);
    ck_assert_uint_eq(a->conn_free_total, 1);
    ck_assert_uint_eq(counted(COUNTER_SUBS), 0);
    ck_assert_uint_eq(w.router->account[1]->sub_count, 0);
    struct sublist_stats stats;
    sublist_stats(w.router->account[1]->sublist, &stats);
    ck_assert_uint_eq(stats.bytes, 0);
    teardown();
}
END_TEST

START_TEST(test_after) {
    setup();
    uint32_t first = edge_subscribe(a, conn, "a", NULL, RECORD_NO_SLOT, 0);
    uint32_t second = edge_subscribe(a, conn, "b", NULL, first, 0); /* sid in use */
    world_settle(&w);
    ck_assert(a->sub[first].used && !a->sub[second].used);
    edge_unsub(a, conn, first, 1, 0);
    edge_pub(a, conn, "a", NULL, "1", 1, 0);
    uint32_t third = edge_subscribe(a, conn, "a", NULL, first, 0); /* the first has ended by then */
    edge_pub(a, conn, "a", NULL, "1", 1, 0);
    world_settle(&w);
    ck_assert(a->sub[third].used);
    ck_assert_uint_eq(a->sub[third].delivered, 1);
    /* A slot of that number that is another connection's now does not hold the sid. */
    uint32_t foreign = edge_subscribe(a, other, "z", NULL, RECORD_NO_SLOT, 0);
    uint32_t fourth = edge_subscribe(a, conn, "c", NULL, foreign, 0);
    world_settle(&w);
    ck_assert(a->sub[fourth].used);
    teardown();
}
END_TEST

START_TEST(test_unsub_max) {
    setup();
    uint32_t slot = edge_subscribe(a, conn, "m", NULL, RECORD_NO_SLOT, 0);
    for (int i = 0; i < 3; i++)
        edge_pub(a, conn, "m", NULL, "1", 1, 0);
    edge_unsub(a, conn, slot, 5, 0); /* counts all since SUB */
    for (int i = 0; i < 5; i++)
        edge_pub(a, conn, "m", NULL, "1", 1, 0);
    world_settle(&w);
    ck_assert_uint_eq(a->delivered_count, 5);
    ck_assert(!a->sub[slot].used);
    slot = edge_subscribe(a, conn, "m", NULL, RECORD_NO_SLOT, 0);
    for (int i = 0; i < 3; i++)
        edge_pub(a, conn, "m", NULL, "1", 1, 0);
    edge_unsub(a, conn, slot, 3, 0); /* reached already */
    world_settle(&w);
    ck_assert(!a->sub[slot].used);
    /* The count survives routers, several of them. */
    slot = edge_subscribe(a, conn, "m", NULL, RECORD_NO_SLOT, 0);
    edge_unsub(a, conn, slot, 4, 0);
    uint64_t before = a->delivered_count;
    for (int i = 0; i < 6; i++) {
        edge_pub(a, conn, "m", NULL, "1", 1, 0);
        world_settle(&w);
        world_die(&w);
        world_begin(&w);
    }
    ck_assert_uint_eq(a->delivered_count, before + 4);
    ck_assert(!a->sub[slot].used);
    teardown();
}
END_TEST

/* ---- answers ---- */

static const char *seen_text(const struct edge *e) {
    static char text[SEEN_MAX * 8];
    text[0] = 0;
    for (uint32_t i = 0; i < e->seen_count; i++) {
        uint8_t t = e->seen[i].type;
        const char *word = t == RECORD_OK          ? "OK "
                           : t == RECORD_DENY      ? "DENY "
                           : t == RECORD_DELIVER   ? "MSG "
                           : t == RECORD_SLOT_FREE ? "SLOT "
                           : t == RECORD_CONN_FREE ? "CONN "
                           : t == RECORD_KICK      ? "KICK "
                                                   : "? ";
        if (t != RECORD_EPOCH)
            strcat(text, word);
    }
    return text;
}

START_TEST(test_verbose_order) {
    setup();
    edge_forget_seen(a);
    uint32_t slot = edge_subscribe(a, conn, "v", NULL, RECORD_NO_SLOT, RECORD_ANSWER);
    edge_pub(a, conn, "v", NULL, "1", 1, RECORD_ANSWER);                   /* OK before its own MSG */
    edge_pub(a, conn, "v", "_R_.x", "1", 1, RECORD_ANSWER);                /* DENY */
    edge_pub(a, conn, "nobody", NULL, "1", 1, RECORD_ANSWER);              /* OK */
    edge_pub(a, conn, "a..b", NULL, "1", 1, RECORD_ANSWER);                /* OK */
    edge_subscribe(a, conn, "v.>.x", NULL, RECORD_NO_SLOT, RECORD_ANSWER); /* DENY SLOT */
    edge_unsub(a, conn, slot, 3, RECORD_ANSWER);                           /* OK */
    edge_pub(a, conn, "v", NULL, "1", 1, RECORD_ANSWER);                   /* OK MSG */
    edge_pub(a, conn, "v", NULL, "1", 1, RECORD_ANSWER);                   /* OK MSG SLOT */
    world_settle(&w);
    ck_assert_str_eq(seen_text(a), "OK OK MSG DENY OK OK DENY SLOT OK OK MSG OK MSG SLOT ");
    edge_forget_seen(a);
    /* Several targets, queue members too: one OK, and before any of them. */
    for (int i = 0; i < 3; i++)
        edge_subscribe(a, conn, "many", i ? NULL : "q", RECORD_NO_SLOT, 0);
    edge_subscribe(b, b_conn, "many", NULL, RECORD_NO_SLOT, 0);
    edge_pub(a, conn, "many", NULL, "1", 1, RECORD_ANSWER);
    world_settle(&w);
    ck_assert_str_eq(seen_text(a), "OK MSG ");
    edge_forget_seen(a);
    /* Only somebody else gets it: the OK all the same. */
    edge_subscribe(b, b_conn, "far", NULL, RECORD_NO_SLOT, 0);
    edge_subscribe(b, b_conn, "far", NULL, RECORD_NO_SLOT, 0);
    edge_pub(a, conn, "far", NULL, "1", 1, RECORD_ANSWER);
    world_settle(&w);
    ck_assert_str_eq(seen_text(a), "OK ");
    teardown();
}
END_TEST

START_TEST(test_no_responders) {
    setup();
    uint32_t slot = edge_subscribe(a, conn, "inbox.*", NULL, RECORD_NO_SLOT, 0);
    edge_pub(a, conn, "nobody", "inbox.1", "x", 1, 0);
    world_settle(&w);
    const struct seen *s = edge_seen(a, RECORD_DELIVER);
    ck_assert(s != NULL && s->slot == slot);
    ck_assert_str_eq(s->subject, "inbox.1");
    ck_assert_str_eq(s->reply, "");
    ck_assert_uint_eq(s->payload_len, sizeof PROTO_NO_RESPONDERS - 1);
    ck_assert_uint_eq(s->aux, sizeof PROTO_NO_RESPONDERS - 1);
    ck_assert_uint_eq(s->flags, RECORD_UNCOUNTED);
    ck_assert_uint_eq(a->sub[slot].delivered, 0);
    edge_forget_seen(a);
    edge_pub(a, conn, "nobody", NULL, "x", 1, 0);        /* no reply */
    edge_pub(a, conn, "nobody", "elsewhere", "x", 1, 0); /* no subscription for it */
    edge_pub(a, other, "nobody", "inbox.2", "x", 1, 0);  /* did not ask for it */
    edge_subscribe(b, b_conn, "there", NULL, RECORD_NO_SLOT, 0);
    edge_subscribe(b, b_conn, "group", "q", RECORD_NO_SLOT, 0);
    world_settle(&w);
    edge_pub(a, conn, "there", "inbox.3", "x", 1, 0); /* somebody is there */
    edge_pub(a, conn, "group", "inbox.4", "x", 1, 0);
    world_settle(&w);
    ck_assert_ptr_null(edge_seen(a, RECORD_DELIVER));
    /* Nobody but the publisher itself, who does not want its own. */
    edge_options(a, conn, RECORD_HEADERS | RECORD_NO_RESPONDERS);
    edge_subscribe(a, conn, "own", NULL, RECORD_NO_SLOT, 0);
    edge_subscribe(a, conn, "own2", "q", RECORD_NO_SLOT, 0);
    edge_pub(a, conn, "own", "inbox.5", "x", 1, 0);
    edge_pub(a, conn, "own2", "inbox.6", "x", 1, 0);
    world_settle(&w);
    ck_assert_uint_eq(a->uncounted_total, 3);
    /* Another connection's subscription gets no 503. */
    edge_subscribe(a, other, "theirs", NULL, RECORD_NO_SLOT, 0);
    edge_pub(a, conn, "nobody", "theirs", "x", 1, 0);
    world_settle(&w);
    ck_assert_uint_eq(a->uncounted_total, 3);
    teardown();
}
END_TEST

START_TEST(test_echo) {
    setup();
    uint32_t own = edge_subscribe(a, conn, "e", NULL, RECORD_NO_SLOT, 0);
    uint32_t theirs = edge_subscribe(a, other, "e", NULL, RECORD_NO_SLOT, 0);
    /* The same numbers on another link are another connection. */
    uint32_t far = edge_subscribe(b, b_conn, "e", NULL, RECORD_NO_SLOT, 0);
    edge_options(a, conn, 0);
    world_settle(&w);
    edge_pub(a, conn, "e", NULL, "1", 1, 0);
    edge_pub(a, other, "e", NULL, "1", 1, 0);
    edge_pub(b, b_conn, "e", NULL, "1", 1, 0);
    world_settle(&w);
    ck_assert_uint_eq(a->sub[own].delivered, 2);
    ck_assert_uint_eq(a->sub[theirs].delivered, 3);
    ck_assert_uint_eq(b->sub[far].delivered, 3);
    teardown();
}
END_TEST

/* ---- queue groups ---- */

START_TEST(test_queue_spread) {
    setup();
    enum { MEMBERS = 6, MESSAGES = 6000 };
    struct {
        struct edge *e;
        uint32_t slot;
    } member[MEMBERS];
    for (int i = 0; i < MEMBERS; i++) {
        member[i].e = i % 2 ? a : b;
        member[i].slot =
            edge_subscribe(member[i].e, i % 2 ? conn : b_conn, i < 3 ? "w.x" : "w.*", "g", RECORD_NO_SLOT, 0);
    }
    uint32_t second = edge_subscribe(a, conn, "w.x", "h", RECORD_NO_SLOT, 0);
    uint32_t plain = edge_subscribe(a, conn, "w.>", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    for (int i = 0; i < MESSAGES; i++)
        edge_pub(a, other, "w.x", NULL, "1", 1, 0);
    world_settle(&w);
    uint32_t sum = 0;
    for (int i = 0; i < MEMBERS; i++) {
        uint32_t n = member[i].e->sub[member[i].slot].delivered;
        sum += n;
        ck_assert_msg(n > MESSAGES / MEMBERS * 8 / 10 && n < MESSAGES / MEMBERS * 12 / 10, "member %d got %u", i, n);
    }
    ck_assert_uint_eq(sum, MESSAGES);
    ck_assert_uint_eq(a->sub[second].delivered, MESSAGES);
    ck_assert_uint_eq(a->sub[plain].delivered, MESSAGES);
    /* A member without echo is passed over for its own messages. */
    edge_options(a, conn, 0);
    uint32_t before = 0, after = 0;
    for (int i = 1; i < MEMBERS; i += 2)
        before += a->sub[member[i].slot].delivered;
    for (int i = 0; i < 100; i++)
        edge_pub(a, conn, "w.x", NULL, "1", 1, 0);
    world_settle(&w);
    sum = 0;
    for (int i = 0; i < MEMBERS; i++)
        sum += member[i].e->sub[member[i].slot].delivered;
    for (int i = 1; i < MEMBERS; i += 2)
        after += a->sub[member[i].slot].delivered;
    ck_assert_uint_eq(sum, MESSAGES + 100);
    ck_assert_uint_eq(after, before);
    teardown();
}
END_TEST

/* ---- limits ---- */

START_TEST(test_limits) {
    setup();
    uint32_t limited = edge_number(a);
    struct binding bound = edge_binding(a, limited, 1);
    bound.subs_max = 2;
    binding_seal(&bound, &w.key);
    edge_bind(a, limited, &bound);
    for (int i = 0; i < 2; i++)
        edge_subscribe(a, limited, "s", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    edge_forget_seen(a);
    edge_subscribe(a, limited, "t", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    ck_assert_str_eq(seen_text(a), "DENY SLOT ");
    ck_assert_uint_eq(a->seen[0].aux, RECORD_DENY_MAX_SUBS);
    /* What comes first: reserved queue, tokens, number, validity. */
    static const struct {
        const char *subject, *queue;
        uint32_t why;
    } order[] = {
        {"a.b.c.d.e..", PROTO_SYSTEM_QUEUE, RECORD_DENY_SUB},
        {"a.b.c.d.e..", "q", RECORD_DENY_TOKENS},
        {"a.b.c.d.e", NULL, RECORD_DENY_TOKENS},
        {"a..b", NULL, RECORD_DENY_MAX_SUBS},
    };
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        edge_forget_seen(a);
        edge_subscribe(a, limited, order[i].subject, order[i].queue, RECORD_NO_SLOT, RECORD_ANSWER);
        world_settle(&w);
        ck_assert_str_eq(seen_text(a), "DENY SLOT ");
        ck_assert_uint_eq(a->seen[0].aux, order[i].why);
        ck_assert_str_eq(a->seen[0].subject, order[i].subject);
        ck_assert_str_eq(a->seen[0].reply, order[i].queue ? order[i].queue : "");
    }
    /* An account's number is that of each connection. */
    uint32_t x = edge_connect(a, 2, RECORD_ECHO), y = edge_connect(b, 2, RECORD_ECHO);
    for (int i = 0; i < 3; i++)
        edge_subscribe(a, x, "1", NULL, RECORD_NO_SLOT, 0);
    uint32_t third = 0;
    for (int i = 0; i < 3; i++)
        third = edge_subscribe(b, y, "3", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    ck_assert_uint_eq(w.router->account[2]->sub_count, 6);
    edge_forget_seen(b);
    edge_subscribe(b, y, "4", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    ck_assert_uint_eq(edge_seen(b, RECORD_DENY)->aux, RECORD_DENY_MAX_SUBS);
    edge_unsub(b, y, third, 0, 0);
    uint32_t fits = edge_subscribe(b, y, "4", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    ck_assert(b->sub[fits].used);
    ck_assert_uint_eq(w.router->account[2]->sub_count, 6);
    teardown();
}
END_TEST

START_TEST(test_reserved) {
    setup();
    uint32_t slot = edge_subscribe(b, b_conn, ">", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    static const struct {
        const char *subject, *reply;
        uint32_t why;
    } names[] = {
        {"_GR_.x", NULL, RECORD_DENY_PUBLISH},
        {"_GR_.", NULL, 0},
        {"_GR_", NULL, 0},
        {"_R_.x", NULL, 0},
        {"x", "_R_.", RECORD_DENY_REPLY},
        {"x", "_R_.abc", RECORD_DENY_REPLY},
        {"x", "_GR_.a", RECORD_DENY_REPLY},
        {"x", "_GR_.", 0},
        {"x", "$JS.ACK.a", RECORD_DENY_REPLY},
        {"x", "$JS.ACK.", 0},
        {"x", "$JS.ACKx", 0},
        {"x", "_INBOX.1", 0},
        {"$SYS.x", NULL, 0},
        {"$JS.ACK.a", NULL, 0},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        edge_forget_seen(a);
        uint32_t before = b->sub[slot].delivered;
        edge_pub(a, conn, names[i].subject, names[i].reply, "1", 1, 0);
        world_settle(&w);
        const struct seen *deny = edge_seen(a, RECORD_DENY);
        ck_assert_msg((deny != NULL) == (names[i].why != 0), "%s %s", names[i].subject, names[i].reply);
        if (deny) {
            ck_assert_uint_eq(deny->aux, names[i].why);
            ck_assert_str_eq(deny->subject, names[i].why == RECORD_DENY_REPLY ? names[i].reply : names[i].subject);
            ck_assert_uint_eq(b->sub[slot].delivered, before);
        }
    }
    teardown();
}
END_TEST

/* Connection and slot numbers lie far apart when those before have ended; a new router meets them in any order. */
START_TEST(test_sparse_numbers_after_a_death) {
    setup();
    enum { CONNS = 3000 };
    static uint32_t conns[CONNS];
    for (int i = 0; i < CONNS; i++)
        conns[i] = edge_connect(a, 1, RECORD_ECHO);
    uint32_t last = 0;
    for (int i = 0; i < 5000; i++)
        last = edge_subscribe(a, conns[CONNS - 1], "deep", NULL, RECORD_NO_SLOT, 0);
    for (int i = 0; i < CONNS - 1; i++)
        edge_close(a, conns[i]);
    for (uint32_t i = 0; i < last; i++)
        edge_unsub(a, conns[CONNS - 1], i, 0, 0);
    world_settle(&w);
    world_die(&w);
    world_begin(&w);
    ck_assert(!a->bad);
    ck_assert_uint_eq(counted(COUNTER_CONNS), 4);
    ck_assert_uint_eq(counted(COUNTER_SUBS), 1);
    edge_pub(b, b_conn, "deep", NULL, "1", 1, 0);
    uint32_t slot = edge_subscribe(a, conns[CONNS - 1], "deep", NULL, RECORD_NO_SLOT, 0);
    world_settle(&w);
    ck_assert_uint_eq(a->sub[last].delivered, 1);
    ck_assert(a->sub[slot].used);
    teardown();
}
END_TEST

/* ---- docs/protocol.md, section 4 ---- */

static const char *const state_names[] = {
    [CONN_FREE] = "free", [CONN_BOUND] = "bound", [CONN_KICKED] = "kicked", [CONN_CLOSING] = "closing"};
static const char *const type_names[] = {
    [RECORD_BIND] = "BIND", [RECORD_OPTIONS] = "OPTIONS", [RECORD_SUB] = "SUB",    [RECORD_UNSUB] = "UNSUB",
    [RECORD_PUB] = "PUB",   [RECORD_GATE] = "GATE",       [RECORD_CLOSE] = "CLOSE"};

static bool names_type(const char *cell, const char *name) {
    for (const char *at = cell; (at = strstr(at, name)); at++)
        if ((at == cell || at[-1] == ' ') && !(at[strlen(name)] >= 'A' && at[strlen(name)] <= 'Z'))
            return true;
    return false;
}

static enum record_rule rule_of(const char *action) {
    return strncmp(action, "link ends", 9) == 0 ? RECORD_ENDS_LINK
           : strncmp(action, "ignored", 7) == 0 ? RECORD_IS_IGNORED
                                                : RECORD_IS_TAKEN;
}

/* A record is taken in a state if some row says so; a row that names it goes before `anything else`. */
START_TEST(test_table_is_documented) {
    enum record_rule named[4][RECORD_CLOSE + 1], rest[4] = {RECORD_ENDS_LINK};
    bool has_row[4][RECORD_CLOSE + 1] = {{false}};
    FILE *file = fopen("docs/protocol.md", "r");
    ck_assert_msg(file != NULL, "this test runs in the project's folder");
    char line[1024], state[16], cell[256], action[512];
    bool inside = false;
    uint32_t rows = 0;
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#')
            inside = strncmp(line, "## 4. ", 6) == 0;
        if (!inside || sscanf(line, "| %15[a-z] | %255[^|] | %511[^|] |", state, cell, action) != 3)
            continue;
        for (uint32_t s = 0; s < 4; s++) {
            if (strcmp(state, state_names[s]) != 0)
                continue;
            rows++;
            if (strncmp(cell, "anything", 8) == 0)
                rest[s] = rule_of(action);
            for (uint32_t t = RECORD_BIND; t <= RECORD_CLOSE; t++)
                if (names_type(cell, type_names[t]) && (!has_row[s][t] || named[s][t] < rule_of(action))) {
                    has_row[s][t] = true;
                    named[s][t] = rule_of(action);
                }
        }
    }
    fclose(file);
    ck_assert_uint_ge(rows, 15);
    for (uint32_t s = 0; s < 4; s++)
        for (uint32_t t = RECORD_BIND; t <= RECORD_REPLAY_END; t++) {
            enum record_rule told = t > RECORD_CLOSE ? RECORD_ENDS_LINK : has_row[s][t] ? named[s][t] : rest[s];
            ck_assert_msg(record_rule(LINK_FRONTEND, t, s) == told, "record %u in state %s", t, state_names[s]);
        }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("router records");
    TCase *c = tcase_create("records");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, test_impossible, 0, (int)(sizeof impossible / sizeof *impossible));
    tcase_add_loop_test(c, test_dirty, 0, 5 * 4 * 4);
    tcase_add_test(c, test_kicked_connection);
    tcase_add_test(c, test_unsub_of_ended_slot);
    tcase_add_loop_test(c, test_unsub_of_ended_slot_at_new_router, 0, 2);
    tcase_add_test(c, test_every_sub_ends_once);
    tcase_add_test(c, test_table_is_documented);
    tcase_add_test(c, test_after);
    tcase_add_test(c, test_unsub_max);
    tcase_add_test(c, test_verbose_order);
    tcase_add_test(c, test_no_responders);
    tcase_add_test(c, test_echo);
    tcase_add_test(c, test_queue_spread);
    tcase_add_test(c, test_limits);
    tcase_add_test(c, test_reserved);
    tcase_add_test(c, test_sparse_numbers_after_a_death);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
