/* SPDX-License-Identifier: Apache-2.0 */
/* record_take against a second table of what each type may have, written down on its own, with sums in 128 bits. */
#include "shm/record.h"

#include <check.h>

#include "tests/unit/shm/shm_testing.h"
#include "tests/unit/unit.h"

enum { TARGETS = 1, SUBJECT = 2, REPLY = 4, PAYLOAD = 8, TEXTS = SUBJECT | REPLY };

/* docs/protocol.md, the table of records. */
static const struct kind {
    const char *name;
    enum record_type type;
    enum record_direction direction;
    uint32_t fixed;
    unsigned parts;
    bool has_header_block; /* aux counts bytes of the payload */
} kinds[] = {
    {"BIND", RECORD_BIND, RECORD_TO_ROUTER, 0, PAYLOAD, false},
    {"OPTIONS", RECORD_OPTIONS, RECORD_TO_ROUTER, 0, 0, false},
    {"SUB", RECORD_SUB, RECORD_TO_ROUTER, 16, TEXTS, false},
    {"UNSUB", RECORD_UNSUB, RECORD_TO_ROUTER, 8, 0, false},
    {"PUB", RECORD_PUB, RECORD_TO_ROUTER, 0, TEXTS | PAYLOAD, true},
    {"GATE", RECORD_GATE, RECORD_TO_ROUTER, 0, 0, false},
    {"CLOSE", RECORD_CLOSE, RECORD_TO_ROUTER, 0, 0, false},
    {"REPLAY_BEGIN", RECORD_REPLAY_BEGIN, RECORD_TO_ROUTER, 0, 0, false},
    {"REPLAY_END", RECORD_REPLAY_END, RECORD_TO_ROUTER, 0, 0, false},
    {"DELIVER", RECORD_DELIVER, RECORD_TO_EDGE, 0, TARGETS | TEXTS | PAYLOAD, true},
    {"DELIVER_MORE", RECORD_DELIVER_MORE, RECORD_TO_EDGE, 0, TARGETS, false},
    {"OK", RECORD_OK, RECORD_TO_EDGE, 0, 0, false},
    {"DENY", RECORD_DENY, RECORD_TO_EDGE, 0, TARGETS | TEXTS, false},
    {"KICK", RECORD_KICK, RECORD_TO_EDGE, 0, 0, false},
    {"STALL", RECORD_STALL, RECORD_TO_EDGE, 0, 0, false},
    {"RESUME", RECORD_RESUME, RECORD_TO_EDGE, 0, 0, false},
    {"SLOT_FREE", RECORD_SLOT_FREE, RECORD_TO_EDGE, 0, 0, false},
    {"CONN_FREE", RECORD_CONN_FREE, RECORD_TO_EDGE, 0, 0, false},
    {"EPOCH", RECORD_EPOCH, RECORD_TO_EDGE, 0, 0, false},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static const struct kind *kind_of(uint8_t type, enum record_direction direction) {
    for (int i = 0; i < KINDS; i++)
        if (kinds[i].type == type)
            return kinds[i].direction == direction ? &kinds[i] : NULL;
    return NULL;
}

/* What record_take must say. */
static bool may_pass(const struct record *r, uint64_t ready, enum record_direction direction) {
    const struct kind *k = ready < 24 ? NULL : kind_of(r->type, direction);
    if (!k || r->target_count > 4096)
        return false;
    unsigned parts = (r->target_count ? TARGETS : 0u) | (r->subject_len ? SUBJECT : 0u) | (r->reply_len ? REPLY : 0u) |
                     (r->payload_len ? PAYLOAD : 0u);
    unsigned __int128 sum = (unsigned __int128)24 + k->fixed + 8u * (unsigned __int128)r->target_count +
                            r->subject_len + r->reply_len + r->payload_len;
    return (parts & ~k->parts) == 0 && sum == r->len && sum <= ready &&
           (!k->has_header_block || r->aux <= r->payload_len);
}

/* The parts of a record that was taken lie one behind the other and end where it ends. */
static bool parts_fit(const struct record *r, const struct record_parts *p, uint64_t ready,
                      enum record_direction direction) {
    const struct kind *k = kind_of(r->type, direction);
    return k && p->targets == 24 + k->fixed && p->subject == p->targets + 8u * r->target_count &&
           p->reply == p->subject + r->subject_len && p->payload == p->reply + r->reply_len &&
           r->len == (uint64_t)p->payload + r->payload_len && r->len <= ready && p->payload >= p->reply &&
           p->reply >= p->subject && p->subject >= p->targets;
}

/* A header at the very end of readable memory: a look beyond its 24 bytes, or at less, would fault. */
static uint8_t *edge_of_memory;

static void make_edge(void) {
    uint8_t *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(page != MAP_FAILED && mprotect(page + 4096, 4096, PROT_NONE) == 0);
    edge_of_memory = page + 4096;
}

static enum err take(const struct record *r, struct record *copy, struct record_parts *parts, uint64_t ready,
                     enum record_direction direction) {
    uint8_t *at = edge_of_memory - sizeof *r;
    memcpy(at, r, sizeof *r);
    return record_take(copy, parts, at, ready, direction);
}

/* Takes it and compares with the oracle. */
static enum err take_both(const char *name, const struct record *r, uint64_t ready, enum record_direction direction) {
    struct record copy;
    struct record_parts parts;
    enum err e = take(r, &copy, &parts, ready, direction);
    if ((e == ERR_OK) != may_pass(r, ready, direction) || (e != ERR_OK && e != ERR_HOSTILE))
        ck_abort_msg("%s: type %u len %u targets %u subject %u reply %u payload %u aux %u, ready %llu: %s", name,
                     r->type, r->len, r->target_count, r->subject_len, r->reply_len, r->payload_len, r->aux,
                     (unsigned long long)ready, err_text(e));
    if (e == ERR_OK && (!parts_fit(&copy, &parts, ready, direction) || memcmp(&copy, r, sizeof copy) != 0))
        ck_abort_msg("%s: type %u: parts %u %u %u %u of %u", name, r->type, parts.targets, parts.subject, parts.reply,
                     parts.payload, r->len);
    return e;
}

/* A sound record of a kind with the given parts. */
static struct record make(const struct kind *k, unsigned parts) {
    struct record r = {.type = (uint8_t)k->type, .conn = 7};
    r.target_count = parts & TARGETS ? 3 : 0;
    r.subject_len = parts & SUBJECT ? 11 : 0;
    r.reply_len = parts & REPLY ? 5 : 0;
    r.payload_len = parts & PAYLOAD ? 1000 : 0;
    r.len = (uint32_t)record_len(k->fixed, r.target_count, r.subject_len, r.reply_len, r.payload_len);
    return r;
}

static void expect(enum err e, bool ok, const char *kind, const char *name) {
    if ((e == ERR_OK) != ok)
        ck_abort_msg("%s, %s: %s", kind, name, err_text(e));
}

START_TEST(test_types_and_directions) {
    make_edge();
    for (int direction = RECORD_TO_ROUTER; direction <= RECORD_TO_EDGE; direction++) {
        int passed = 0;
        for (int type = 0; type < 256; type++)
            for (uint32_t fixed = 0; fixed <= 32; fixed += 8) {
                struct record r = {.type = (uint8_t)type, .len = 24 + fixed};
                passed += take_both("bare", &r, 4096, (enum record_direction)direction) == ERR_OK;
            }
        ck_assert_int_eq(passed, direction == RECORD_TO_ROUTER ? 9 : 10); /* kinds that go each way */
    }
}
END_TEST

START_TEST(test_parts) {
    make_edge();
    const struct kind *k = &kinds[_i];
    enum record_direction other = k->direction == RECORD_TO_EDGE ? RECORD_TO_ROUTER : RECORD_TO_EDGE;
    for (unsigned parts = 0; parts < 16; parts++) {
        struct record r = make(k, parts);
        expect(take_both(k->name, &r, 1 << 20, k->direction), (parts & ~k->parts) == 0, k->name, "a set of parts");
        expect(take_both(k->name, &r, 1 << 20, other), false, k->name, "the other direction");
    }
}
END_TEST

/* Each length off by one, and by the alignment; and what is ready is just enough or just not. */
START_TEST(test_lengths) {
    make_edge();
    const struct kind *k = &kinds[_i];
    static const int offs[] = {1, -1, 8, -8, 24, -24, 65536};
    struct record r = make(k, k->parts);
    uint32_t len = r.len;
    expect(take_both(k->name, &r, len, k->direction), true, k->name, "just enough ready");
    for (uint64_t ready = 0; ready < len; ready++)
        expect(take_both(k->name, &r, ready, k->direction), false, k->name, "less ready");
    expect(take_both(k->name, &r, UINT64_MAX, k->direction), true, k->name, "all ready");
    for (size_t i = 0; i < sizeof offs / sizeof *offs; i++) {
        struct record x = r;
        x.len = len + (uint32_t)offs[i];
        expect(take_both(k->name, &x, 1 << 20, k->direction), false, k->name, "len off");
        x = r;
        x.subject_len = (uint16_t)(x.subject_len + offs[i]);
        expect(take_both(k->name, &x, 1 << 20, k->direction), x.subject_len == r.subject_len, k->name,
               "subject_len off");
        x = r;
        x.reply_len = (uint16_t)(x.reply_len + offs[i]);
        expect(take_both(k->name, &x, 1 << 20, k->direction), x.reply_len == r.reply_len, k->name, "reply_len off");
        x = r;
        x.payload_len += (uint32_t)offs[i];
        expect(take_both(k->name, &x, 1 << 20, k->direction), false, k->name, "payload_len off");
        x = r;
        x.target_count = (uint16_t)(x.target_count + offs[i]);
        expect(take_both(k->name, &x, 1 << 20, k->direction), x.target_count == r.target_count, k->name,
               "target_count off");
    }
    static const uint32_t wrong[] = {0, 1, 8, 23, 24, 25, UINT32_MAX, UINT32_MAX - 7, (uint32_t)1 << 31};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct record x = r;
        x.len = wrong[i];
        expect(take_both(k->name, &x, UINT64_MAX, k->direction), wrong[i] == len, k->name, "an odd len");
    }
}
END_TEST

/* Lengths whose sum in 32 bits is small: the true one is beyond any ring. */
START_TEST(test_sums_that_overflow) {
    make_edge();
    for (int i = 0; i < KINDS; i++) {
        const struct kind *k = &kinds[i];
        for (uint32_t back = 0; back < 200000; back += 977) {
            struct record r = {.type = (uint8_t)k->type, .payload_len = UINT32_MAX - back};
            r.subject_len = k->parts & SUBJECT ? 65535 : 0;
            r.reply_len = k->parts & REPLY ? 65535 : 0;
            r.target_count = k->parts & TARGETS ? 4096 : 0;
            uint64_t sum = record_len(k->fixed, r.target_count, r.subject_len, r.reply_len, r.payload_len);
            r.len = (uint32_t)sum;
            take_both(k->name, &r, UINT64_MAX, k->direction);
            if (sum > UINT32_MAX)
                expect(take_both(k->name, &r, (uint64_t)1 << 33, k->direction), false, k->name, "a sum of 33 bits");
        }
    }
}
END_TEST

static const struct targets {
    const char *name;
    uint16_t count;
    bool ok;
} target_counts[] = {
    {"none", 0, true},         {"one", 1, true},       {"the most", 4096, true},
    {"one more", 4097, false}, {"twice", 8192, false}, {"all", 65535, false},
};

START_TEST(test_target_counts) {
    make_edge();
    const struct targets *t = &target_counts[_i];
    static const enum record_type types[] = {RECORD_DELIVER, RECORD_DELIVER_MORE};
    for (int i = 0; i < 2; i++) {
        struct record r = {.type = (uint8_t)types[i], .target_count = t->count, .len = 24 + 8u * t->count};
        expect(take_both("targets", &r, 1 << 20, RECORD_TO_EDGE), t->ok, t->name, "with all of them");
        r.len = 24;
        expect(take_both("targets", &r, 1 << 20, RECORD_TO_EDGE), t->count == 0, t->name, "without them");
    }
}
END_TEST

static const struct block {
    const char *name;
    uint32_t aux, payload_len;
    bool ok;
} blocks[] = {
    {"none", 0, 100, true},        {"some", 12, 100, true},     {"all", 100, 100, true},
    {"one more", 101, 100, false}, {"no payload", 1, 0, false}, {"huge", UINT32_MAX, 100, false},
};

START_TEST(test_header_blocks) {
    make_edge();
    const struct block *b = &blocks[_i];
    for (int i = 0; i < KINDS; i++) {
        const struct kind *k = &kinds[i];
        if (!(k->parts & PAYLOAD) && b->payload_len > 0)
            continue;
        struct record r = {.type = (uint8_t)k->type, .aux = b->aux, .payload_len = b->payload_len};
        r.len = (uint32_t)record_len(k->fixed, 0, 0, 0, r.payload_len);
        expect(take_both(k->name, &r, 1 << 20, k->direction), b->ok || !k->has_header_block, k->name, b->name);
    }
}
END_TEST

/* With less than a header ready not one byte is read. */
START_TEST(test_reads_nothing_too_early) {
    make_edge();
    struct record copy;
    struct record_parts parts;
    for (uint64_t ready = 0; ready < RECORD_HEADER; ready++)
        ck_assert(record_take(&copy, &parts, edge_of_memory, ready, RECORD_TO_ROUTER) == ERR_HOSTILE);
}
END_TEST

START_TEST(test_random_headers) {
    make_edge();
    uint64_t seed = testing_seed("record_test random_headers");
    uint32_t passed = 0;
    for (int i = 0; i < 3000000 / TESTING_SLOWNESS; i++) {
        struct record r;
        uint64_t words[3] = {random_next(&seed), random_next(&seed), random_next(&seed)};
        memcpy(&r, words, sizeof r);
        uint64_t how = random_next(&seed), ready = how >> 32;
        if (how & 1)
            r.type = (uint8_t)kinds[(how >> 8) % KINDS].type;
        const struct kind *k = kind_of(r.type, RECORD_TO_ROUTER);
        k = k ? k : kind_of(r.type, RECORD_TO_EDGE);
        if (k && how & 2) { /* mostly sound */
            r.target_count = k->parts & TARGETS ? r.target_count % 4200 : 0;
            r.subject_len = k->parts & SUBJECT ? r.subject_len : 0;
            r.reply_len = k->parts & REPLY ? r.reply_len : 0;
            r.payload_len = k->parts & PAYLOAD ? r.payload_len >> (how >> 16) % 32 : 0;
            r.aux >>= (how >> 24) % 32;
        }
        if (k && how & 4)
            r.len = (uint32_t)record_len(k->fixed, r.target_count, r.subject_len, r.reply_len, r.payload_len);
        if (how & 8)
            ready = r.len + (how >> 40) % 3 - 1;
        for (int direction = RECORD_TO_ROUTER; direction <= RECORD_TO_EDGE; direction++)
            passed += take_both("random", &r, ready, (enum record_direction)direction) == ERR_OK;
    }
    ck_assert_uint_gt(passed, 1000); /* else the test looks at refusals alone */
}
END_TEST

int main(void) {
    Suite *suite = suite_create("record");
    TCase *c = tcase_create("record");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, test_types_and_directions);
    tcase_add_loop_test(c, test_parts, 0, KINDS);
    tcase_add_loop_test(c, test_lengths, 0, KINDS);
    tcase_add_test(c, test_sums_that_overflow);
    tcase_add_loop_test(c, test_target_counts, 0, sizeof target_counts / sizeof *target_counts);
    tcase_add_loop_test(c, test_header_blocks, 0, sizeof blocks / sizeof *blocks);
    tcase_add_test(c, test_reads_nothing_too_early);
    tcase_add_test(c, test_random_headers);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
