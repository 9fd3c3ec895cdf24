/* SPDX-License-Identifier: Apache-2.0 */
/* The ring at every fill level and border, with both sides in one process. What two processes do to it at the same time
 * is in stress_test.c, death_test.c and hostile_test.c.
 */
#include "shm/ring.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>

#include "tests/unit/shm/shm_testing.h"
#include "tests/unit/unit.h"

/* Multiples of the page, most of them no powers of two. */
static const uint64_t caps[] = {4096, 3 * 4096, 5 * 4096, 7 * 4096, 8 * 4096, 13 * 4096};
enum { CAPS = sizeof caps / sizeof *caps };

/* Where positions begin: the places at which 32 bits, the sign of 64 and the digits of a double end. */
static const struct start {
    const char *name;
    uint64_t pos;
} starts[] = {
    {"zero", 0},
    {"2^32", (uint64_t)1 << 32},
    {"2^53", (uint64_t)1 << 53},
    {"2^63", (uint64_t)1 << 63},
};
enum { STARTS = sizeof starts / sizeof *starts };

/* Up to eight bytes of what lies at position pos, which is a multiple of 8. */
static void word_at(uint8_t word[8], uint64_t pos) {
    uint64_t w = mix(pos);
    memcpy(word, &w, 8);
}

static void fill(struct ring_writer *w, uint64_t len) {
    uint8_t *at = ring_head(w), word[8];
    for (uint64_t i = 0; i < len; i += 8) {
        word_at(word, w->head_pos + i);
        memcpy(at + i, word, len - i < 8 ? len - i : 8);
    }
}

static bool holds(const struct ring_reader *r, uint64_t len) {
    const uint8_t *at = ring_tail(r);
    uint8_t word[8];
    for (uint64_t i = 0; i < len; i += 8) {
        word_at(word, r->tail_pos + i);
        if (memcmp(at + i, word, len - i < 8 ? len - i : 8) != 0)
            return false;
    }
    return true;
}

/* A check that names its case. */
static void expect(bool ok, const char *name, uint64_t cap, uint64_t pos, uint64_t len, const char *what) {
    if (!ok)
        ck_abort_msg("%s: cap %llu, position %llu, %llu bytes: %s", name, (unsigned long long)cap,
                     (unsigned long long)pos, (unsigned long long)len, what);
}

/* ---- levels and sizes ---- */

/* Fills the ring to `level` in one piece, empties it, and looks at every number on the way. */
static void fill_and_empty(struct pair *p, const char *name, uint64_t level) {
    struct ring_writer *w = &p->w;
    struct ring_reader *r = &p->r;
    uint64_t pos = w->head_pos, cap = p->cap;
    expect(ring_room(w) == cap, name, cap, pos, level, "an empty ring has room for its capacity");
    expect(ring_has_room(w, level, cap - level), name, cap, pos, level, "the rest is spare");
    expect(!ring_has_room(w, level, cap - level + 1), name, cap, pos, level, "more than the rest is not");
    fill(w, level);
    ring_advance(w, level);
    expect(ring_room(w) == cap - level, name, cap, pos, level, "room is what is left");
    expect(!ring_has_room(w, cap - level + 8, 0), name, cap, pos, level, "no room beyond the capacity");
    expect(ring_reader_refresh(r) && ring_ready(r) == 0, name, cap, pos, level,
           "nothing is visible before the publish");
    ring_publish(w);
    expect(ring_ready(r) == 0, name, cap, pos, level, "nor before the look");
    expect(ring_reader_refresh(r) && ring_ready(r) == level, name, cap, pos, level, "all is ready");
    expect(holds(r, level), name, cap, pos, level, "the bytes are the same and contiguous");
    ring_skip(r, level);
    expect(ring_ready(r) == 0, name, cap, pos, level, "nothing is left");
    expect(ring_writer_refresh(w) && ring_room(w) == cap - level, name, cap, pos, level, "no room before the release");
    ring_release(r);
    expect(ring_writer_refresh(w) && ring_room(w) == cap, name, cap, pos, level, "all room after it");
    expect(w->head_off == w->head_pos % cap || pos > UINT64_MAX - 2 * cap, name, cap, pos, level, "writer's offset");
    expect(w->head_off == r->tail_off && w->head_pos == r->tail_pos, name, cap, pos, level, "both stand at one place");
}

/* Every multiple of 8 in one page, from begins all around the wrap; for larger areas the levels around the borders. */
START_TEST(test_fill_levels) {
    const struct start *s = &starts[_i];
    for (int c = 0; c < CAPS; c++) {
        struct pair p;
        pair_map(&p, caps[c]);
        uint64_t base = s->pos - s->pos % caps[c] + caps[c]; /* a wrap beside the start */
        for (uint64_t begin = base - 64; begin <= base + 64; begin += 8 * (TESTING_SLOWNESS > 1 ? 5 : 1)) {
            for (uint64_t level = 0; level <= caps[c]; level += 8) {
                bool is_border = level < 128 || level % 4096 < 24 || level % 4096 > 4072 || level + 128 > caps[c];
                if (!is_border && (caps[c] > 4096 || level % 64 != begin % 64))
                    continue;
                pair_open(&p, begin);
                fill_and_empty(&p, s->name, level);
            }
        }
        pair_free(&p);
    }
}
END_TEST

/* All levels of one page, from every offset of it. */
START_TEST(test_every_level_of_a_page) {
    struct pair p;
    pair_make(&p, 4096, 0);
    for (uint64_t level = 8; level <= 4096; level += 8)
        fill_and_empty(&p, "one after the other", level);
    for (uint64_t begin = 0; begin < 4096; begin += 8) {
        pair_open(&p, begin);
        fill_and_empty(&p, "to the brim", 4096);
        fill_and_empty(&p, "up to the end of the area", 4096 - begin);
    }
    pair_free(&p);
}
END_TEST

/* Each length in bytes, aligned or not, one behind the other, so that all of them meet the wrap sooner or later. */
START_TEST(test_every_size) {
    const struct start *s = &starts[_i];
    struct pair p;
    pair_make(&p, 5 * 4096, s->pos - 8);
    for (uint64_t len = 1; len <= p.cap; len += len > 600 && len + 64 < p.cap ? 13 : 1) {
        uint64_t pos = p.w.head_pos;
        expect(ring_has_room(&p.w, ring_round(len), 0), s->name, p.cap, pos, len, "room");
        fill(&p.w, len);
        ring_advance(&p.w, len);
        ring_publish(&p.w);
        expect(ring_reader_refresh(&p.r) && ring_ready(&p.r) == ring_round(len), s->name, p.cap, pos, len, "ready");
        expect(holds(&p.r, len), s->name, p.cap, pos, len, "bytes");
        expect(ring_tail(&p.r) + len <= p.r.area + 2 * p.cap, s->name, p.cap, pos, len, "within the mapping");
        ring_skip(&p.r, len);
        ring_release(&p.r);
        expect(p.r.tail_pos % 8 == 0 && p.r.tail_off < p.cap, s->name, p.cap, pos, len, "border");
    }
    pair_free(&p);
}
END_TEST

START_TEST(test_batch) {
    struct pair p;
    pair_make(&p, 3 * 4096, 3 * 4096 - 40);
    for (int i = 0; i < 5; i++) {
        fill(&p.w, 30);
        ring_advance(&p.w, 30);
    }
    ck_assert_uint_eq(atomic_load(&pair_data(&p)->produced_pos), 3 * 4096 - 40);
    ring_publish(&p.w);
    ck_assert_uint_eq(atomic_load(&pair_data(&p)->produced_pos), 3 * 4096 - 40 + 5 * 32);
    ck_assert(ring_reader_refresh(&p.r));
    for (int i = 0; i < 5; i++) {
        ck_assert_uint_eq(ring_ready(&p.r), (uint64_t)(5 - i) * 32);
        ck_assert(holds(&p.r, 30));
        ring_skip(&p.r, 30);
        ck_assert(ring_writer_refresh(&p.w));
        ck_assert_uint_eq(ring_room(&p.w), p.cap - 160);
    }
    ring_release(&p.r);
    ck_assert(ring_writer_refresh(&p.w));
    ck_assert_uint_eq(ring_room(&p.w), p.cap);
    pair_free(&p);
}
END_TEST

/* A publish or release of nothing stores nothing: the page of a sleeping side stays in its cache. */
START_TEST(test_nothing_new_stores_nothing) {
    struct pair p;
    pair_make(&p, 4096, 4096);
    pair_set(&p, 1, 2); /* would be seen if it were overwritten */
    ring_publish(&p.w);
    ring_release(&p.r);
    ck_assert_uint_eq(atomic_load(&pair_data(&p)->produced_pos), 1);
    ck_assert_uint_eq(atomic_load(&pair_credit(&p)->consumed_pos), 2);
    pair_free(&p);
}
END_TEST

/* The other side is looked at only when the last look does not suffice. */
START_TEST(test_room_looks_only_when_it_must) {
    struct pair p;
    pair_make(&p, 4096, 0);
    atomic_store(&pair_credit(&p)->consumed_pos, 12345); /* impossible, if it were looked at */
    ck_assert(ring_has_room(&p.w, 4096, 0));
    ck_assert(!p.w.broken);
    ck_assert(!ring_has_room(&p.w, 4096, 8));
    ck_assert(p.w.broken);
    pair_free(&p);
}
END_TEST

/* ---- against an oracle ---- */

START_TEST(test_random_traffic) {
    uint64_t seed = testing_seed("ring_test random_traffic") + (uint64_t)_i;
    const struct start *s = &starts[_i % STARTS];
    struct pair p;
    uint64_t before = 8 * random_below(&seed, 2048);
    pair_make(&p, caps[_i % CAPS], s->pos > before ? s->pos - before : before);
    enum { QUEUE = 16384 };
    static uint64_t lens[QUEUE]; /* of the records between tail and head; the oracle */
    uint64_t first = 0, shown = 0, last = 0, held = 0;
    for (int op = 0; op < (TESTING_SLOWNESS > 1 ? 40000 : 200000); op++) {
        switch (random_below(&seed, 6)) {
        case 0:
        case 1: {
            uint64_t len = 1 + random_below(&seed, random_below(&seed, 8) ? 200 : p.cap);
            bool fits = held + ring_round(len) <= p.cap;
            if (ring_has_room(&p.w, ring_round(len), 0) && !fits)
                ck_abort_msg("operation %d: room for more than the capacity", op);
            if (!fits || ring_room(&p.w) < ring_round(len))
                break;
            fill(&p.w, len);
            ring_advance(&p.w, len);
            lens[last++ % QUEUE] = len;
            held += ring_round(len);
            break;
        }
        case 2:
            ring_publish(&p.w);
            shown = last;
            break;
        case 3:
            ck_assert(ring_reader_refresh(&p.r));
            break;
        case 4:
            if (ring_ready(&p.r) == 0)
                break;
            ck_assert(first < shown);
            if (!holds(&p.r, lens[first % QUEUE]))
                ck_abort_msg("operation %d: a record of %llu bytes", op, (unsigned long long)lens[first % QUEUE]);
            ring_skip(&p.r, lens[first++ % QUEUE]);
            break;
        default:
            held -= p.r.tail_pos - p.r.consumed_pos;
            ring_release(&p.r);
            break;
        }
        if (p.w.head_off >= p.cap || p.r.tail_off >= p.cap || p.w.head_off != p.w.head_pos % p.cap ||
            p.r.tail_off != p.r.tail_pos % p.cap)
            ck_abort_msg("operation %d: an offset", op);
    }
    ck_assert(!p.w.broken && !p.r.broken);
    pair_free(&p);
}
END_TEST

/* ---- opening ---- */

static const struct opening {
    const char *name;
    uint64_t produced, consumed;
    enum err writer, reader;
} openings[] = {
    {"new", 0, 0, ERR_OK, ERR_OK},
    {"full", 4096, 0, ERR_OK, ERR_OK},
    {"more than full", 4104, 0, ERR_HOSTILE, ERR_HOSTILE},
    {"consumed ahead", 0, 8, ERR_HOSTILE, ERR_HOSTILE},
    {"consumed far ahead", 8, UINT64_MAX - 7, ERR_OK, ERR_OK}, /* 16 bytes, over the end of 64 bits */
    {"produced unaligned", 4, 0, ERR_HOSTILE, ERR_HOSTILE},
    {"consumed unaligned", 8, 4, ERR_HOSTILE, ERR_HOSTILE},
    {"both unaligned", 12, 4, ERR_HOSTILE, ERR_HOSTILE},
    {"beyond 2^32", 0x100000010, 0xfffffff8, ERR_OK, ERR_OK},
    {"beyond 2^63", 0x8000000000000010, 0x7ffffffffffffff8, ERR_OK, ERR_OK},
    {"half of all apart", 0x8000000000000000, 0, ERR_HOSTILE, ERR_HOSTILE},
    {"all apart", UINT64_MAX - 7, 0, ERR_HOSTILE, ERR_HOSTILE},
};

START_TEST(test_open) {
    const struct opening *o = &openings[_i];
    struct pair p;
    pair_map(&p, 4096);
    pair_set(&p, o->produced, o->consumed);
    enum err e = ring_writer_open(&p.w, &p.producer);
    if (e != o->writer)
        ck_abort_msg("%s: the writer says: %s", o->name, err_text(e));
    if (e == ERR_OK && (p.w.head_pos != o->produced || ring_room(&p.w) != 4096 - (o->produced - o->consumed)))
        ck_abort_msg("%s: the writer's positions", o->name);
    e = ring_reader_open(&p.r, &p.consumer);
    if (e != o->reader)
        ck_abort_msg("%s: the reader says: %s", o->name, err_text(e));
    if (e == ERR_OK && (p.r.tail_pos != o->consumed || ring_ready(&p.r) != o->produced - o->consumed))
        ck_abort_msg("%s: the reader's positions", o->name);
    pair_free(&p);
}
END_TEST

/* A successor goes on where the memory says: what was not published never was, what was not released comes again. */
START_TEST(test_reopen) {
    const struct start *s = &starts[_i];
    struct pair p;
    pair_make(&p, 7 * 4096, s->pos + 7 * 4096 - 104);
    for (int i = 0; i < 10; i++) {
        if (i == 6)
            ring_publish(&p.w);
        fill(&p.w, 50);
        ring_advance(&p.w, 50);
    }
    ck_assert(ring_reader_refresh(&p.r));
    for (int i = 0; i < 4; i++) {
        if (i == 2)
            ring_release(&p.r);
        ring_skip(&p.r, 50);
    }
    uint64_t begin = s->pos + 7 * 4096 - 104;
    ck_assert(ring_writer_open(&p.w, &p.producer) == ERR_OK && ring_reader_open(&p.r, &p.consumer) == ERR_OK);
    ck_assert_uint_eq(p.w.head_pos, begin + 6 * 56);
    ck_assert_uint_eq(p.r.tail_pos, begin + 2 * 56);
    ck_assert_uint_eq(p.w.head_off, p.w.head_pos % p.cap);
    ck_assert_uint_eq(p.r.tail_off, p.r.tail_pos % p.cap);
    for (int i = 2; i < 6; i++) {
        ck_assert(holds(&p.r, 50));
        ring_skip(&p.r, 50);
    }
    ck_assert_uint_eq(ring_ready(&p.r), 0);
    pair_free(&p);
}
END_TEST

/* ---- impossible positions ---- */

/* A ring of 8192 bytes with positions relative to its start: produced, consumed, and what the other side then claims.
 */
static const struct claim {
    const char *name;
    uint64_t produced, consumed, claimed;
    bool ok;
} reader_claims[] =
    {
        {"the same", 800, 400, 800, true},
        {"on by a record", 800, 400, 808, true},
        {"full", 800, 400, 400 + 8192, true},
        {"beyond the capacity", 800, 400, 400 + 8200, false},
        {"far beyond", 800, 400, 800 + ((uint64_t)1 << 32), false},
        {"half of all", 800, 400, 800 + ((uint64_t)1 << 63), false},
        {"back by a record", 800, 400, 792, false},
        {"back to consumed", 800, 400, 400, false},
        {"before consumed", 800, 400, 392, false},
        {"back by the capacity", 800, 400, 800 - 8192, false},
        {"unaligned by 1", 800, 400, 801, false},
        {"unaligned by 4", 800, 400, 804, false},
        {"unaligned and full", 800, 400, 400 + 8191, false},
        {"empty, on", 400, 400, 408, true},
        {"empty, back", 400, 400, 392, false},
        {"full, the same", 8592, 400, 8592, true},
        {"full, on", 8592, 400, 8600, false},
        {"full, back", 8592, 400, 8584, false},
},
  writer_claims[] = {
      {"the same", 800, 400, 400, true},
      {"on by a record", 800, 400, 408, true},
      {"all", 800, 400, 800, true},
      {"ahead of produced", 800, 400, 808, false},
      {"far ahead", 800, 400, 800 + ((uint64_t)1 << 32), false},
      {"half of all", 800, 400, 400 + ((uint64_t)1 << 63), false},
      {"back by a record", 800, 400, 392, false},
      {"back by the capacity", 800, 400, 400 - 8192, false},
      {"unaligned by 1", 800, 400, 401, false},
      {"unaligned by 4", 800, 400, 404, false},
      {"empty, the same", 400, 400, 400, true},
      {"empty, on", 400, 400, 408, false},
      {"full, all", 8592, 400, 8592, true},
      {"full, ahead", 8592, 400, 8600, false},
};
enum {
    READER_CLAIMS = sizeof reader_claims / sizeof *reader_claims,
    WRITER_CLAIMS = sizeof writer_claims / sizeof *writer_claims
};

START_TEST(test_reader_refuses) {
    const struct claim *c = &reader_claims[_i];
    for (int s = 0; s < STARTS; s++) {
        struct pair p;
        uint64_t base = starts[s].pos - 504; /* so that some cases cross the border */
        pair_map(&p, 8192);
        pair_set(&p, base + c->produced, base + c->consumed);
        ck_assert(ring_reader_open(&p.r, &p.consumer) == ERR_OK);
        atomic_store(&pair_data(&p)->produced_pos, base + c->claimed);
        bool ok = ring_reader_refresh(&p.r);
        if (ok != c->ok || p.r.broken == c->ok)
            ck_abort_msg("%s at %s: %d, broken %d", c->name, starts[s].name, ok, p.r.broken);
        if (p.r.produced_pos != base + (c->ok ? c->claimed : c->produced))
            ck_abort_msg("%s at %s: position", c->name, starts[s].name);
        pair_free(&p);
    }
}
END_TEST

START_TEST(test_writer_refuses) {
    const struct claim *c = &writer_claims[_i];
    for (int s = 0; s < STARTS; s++) {
        struct pair p;
        uint64_t base = starts[s].pos - 504;
        pair_map(&p, 8192);
        pair_set(&p, base + c->produced, base + c->consumed);
        ck_assert(ring_writer_open(&p.w, &p.producer) == ERR_OK);
        atomic_store(&pair_credit(&p)->consumed_pos, base + c->claimed);
        bool ok = ring_writer_refresh(&p.w);
        if (ok != c->ok || p.w.broken == c->ok)
            ck_abort_msg("%s at %s: %d, broken %d", c->name, starts[s].name, ok, p.w.broken);
        if (p.w.consumed_pos != base + (c->ok ? c->claimed : c->consumed))
            ck_abort_msg("%s at %s: position", c->name, starts[s].name);
        pair_free(&p);
    }
}
END_TEST

/* A consumer cannot have consumed what is complete but not published. */
START_TEST(test_writer_refuses_unpublished) {
    struct pair p;
    pair_make(&p, 4096, 0);
    ring_advance(&p.w, 64);
    ring_publish(&p.w);
    ring_advance(&p.w, 64);
    atomic_store(&pair_credit(&p)->consumed_pos, 128);
    ck_assert(!ring_writer_refresh(&p.w));
    ck_assert(p.w.broken);
    pair_free(&p);
}
END_TEST

/* A reader that is in the middle of what it was shown: positions count from what it released. */
START_TEST(test_reader_between_releases) {
    struct pair p;
    pair_make(&p, 4096, 0);
    ring_advance(&p.w, 4096);
    ring_publish(&p.w);
    ck_assert(ring_reader_refresh(&p.r));
    ring_skip(&p.r, 2048);
    atomic_store(&pair_data(&p)->produced_pos, 4096 + 2048); /* over what was read, but not given back */
    ck_assert(!ring_reader_refresh(&p.r));
    ck_assert_uint_eq(ring_ready(&p.r), 2048);
    pair_free(&p);
}
END_TEST

/* ---- bells ---- */

START_TEST(test_bells) {
    struct pair p;
    pair_make(&p, 4096, 0);
    ck_assert(!ring_writer_must_ring(&p.w) && !ring_reader_must_ring(&p.r)); /* nobody has slept */
    for (int i = 0; i < 3; i++) {
        ring_reader_sleeps(&p.r);
        ck_assert(ring_writer_must_ring(&p.w));
        ck_assert(!ring_writer_must_ring(&p.w));
        ck_assert(!ring_reader_must_ring(&p.r));
        ring_writer_sleeps(&p.w);
        ck_assert(ring_reader_must_ring(&p.r));
        ck_assert(!ring_reader_must_ring(&p.r));
        ck_assert(!ring_writer_must_ring(&p.w));
    }
    for (int i = 0; i < 5; i++) /* several sleeps between two looks */
        ring_reader_sleeps(&p.r);
    ck_assert(ring_writer_must_ring(&p.w));
    ck_assert(!ring_writer_must_ring(&p.w));
    ck_assert_uint_eq(atomic_load(&pair_credit(&p)->sleep_no), 8);
    ck_assert_uint_eq(atomic_load(&pair_data(&p)->room_no), 3);
    pair_free(&p);
}
END_TEST

/* After a restart of either side a sleeper is rung for, at the cost of at most one bell too many. */
START_TEST(test_bells_of_a_successor) {
    struct pair p;
    pair_make(&p, 4096, 0);
    ring_reader_sleeps(&p.r);
    ck_assert(ring_writer_must_ring(&p.w));
    ring_reader_sleeps(&p.r); /* sleeps when the writer dies */
    ck_assert(ring_writer_open(&p.w, &p.producer) == ERR_OK);
    ck_assert(ring_writer_must_ring(&p.w));
    ck_assert(!ring_writer_must_ring(&p.w));
    ck_assert(ring_reader_open(&p.r, &p.consumer) == ERR_OK);
    ring_reader_sleeps(&p.r); /* the numbers go on */
    ck_assert(ring_writer_must_ring(&p.w));
    pair_free(&p);
}
END_TEST

/* ---- mapping ---- */

static const struct sizes {
    const char *name;
    off_t data, credit;
    enum err result;
} sizes[] = {
    {"smallest", 8192, 4096, ERR_OK},
    {"odd count of pages", 7 * 4096, 4096, ERR_OK},
    {"no area", 4096, 4096, ERR_HOSTILE},
    {"nothing", 0, 4096, ERR_HOSTILE},
    {"half a page more", 8192 + 2048, 4096, ERR_HOSTILE},
    {"a byte less", 8191, 4096, ERR_HOSTILE},
    {"no credit", 8192, 0, ERR_HOSTILE},
    {"credit too large", 8192, 8192, ERR_HOSTILE},
    {"credit too small", 8192, 4095, ERR_HOSTILE},
};

START_TEST(test_map_sizes) {
    const struct sizes *s = &sizes[_i];
    int data = memfd_create("data", MFD_CLOEXEC), credit = memfd_create("credit", MFD_CLOEXEC);
    ck_assert(data >= 0 && credit >= 0 && ftruncate(data, s->data) == 0 && ftruncate(credit, s->credit) == 0);
    for (int producer = 0; producer < 2; producer++) {
        struct ring_map map = {0};
        enum err e = ring_map(&map, data, credit, producer);
        if (e != s->result)
            ck_abort_msg("%s: %s", s->name, err_text(e));
        if (e == ERR_OK && map.cap != (uint64_t)s->data - 4096)
            ck_abort_msg("%s: capacity", s->name);
        ring_unmap(&map);
        ring_unmap(&map); /* twice does no harm */
    }
    close(data);
    close(credit);
}
END_TEST

/* True if the kernel can write a byte to `at` for us; asks it instead of faulting. */
static bool is_writable(void *at) {
    int ends[2];
    ck_assert(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
    bool written = read(ends[0], at, 1) == 1;
    if (!written)
        ck_assert_int_eq(errno, EFAULT);
    close(ends[0]);
    close(ends[1]);
    return written;
}

START_TEST(test_map_rights) {
    struct pair p;
    pair_map(&p, 3 * 4096);
    uint8_t *written = p.producer.data, *read = p.consumer.data;
    ck_assert(is_writable(written) && is_writable(written + 4096) && is_writable(written + 4 * 4096));
    ck_assert(!is_writable(read) && !is_writable(read + 4096) && !is_writable(read + 4 * 4096));
    ck_assert(is_writable(p.consumer.credit));
    ck_assert(!is_writable(p.producer.credit));
    memcpy(written + 4096 + 3 * 4096 - 4, "abcdefgh", 8); /* over the wrap */
    ck_assert_mem_eq(written + 4096, "efgh", 4);
    ck_assert_mem_eq(read + 4096, "efgh", 4);
    ck_assert_mem_eq(read + 4096 + 3 * 4096 - 4, "abcdefgh", 8);
    int reader;
    ck_assert(memfd_reader(&reader, p.data_fd) == ERR_OK);
    struct ring_map map;
    ck_assert(ring_map(&map, reader, p.credit_fd, true) == ERR_SYSTEM); /* a producer that may only read */
    ck_assert(ring_map(&map, reader, p.credit_fd, false) == ERR_OK);
    ring_unmap(&map);
    ck_assert(memfd_reader(&reader, p.credit_fd) == ERR_OK);
    ck_assert(ring_map(&map, p.data_fd, reader, false) == ERR_SYSTEM);
    pair_free(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("ring");
    TCase *c = tcase_create("ring");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, test_fill_levels, 0, STARTS);
    tcase_add_test(c, test_every_level_of_a_page);
    tcase_add_loop_test(c, test_every_size, 0, STARTS);
    tcase_add_test(c, test_batch);
    tcase_add_test(c, test_nothing_new_stores_nothing);
    tcase_add_test(c, test_room_looks_only_when_it_must);
    tcase_add_loop_test(c, test_random_traffic, 0, 12);
    tcase_add_loop_test(c, test_open, 0, sizeof openings / sizeof *openings);
    tcase_add_loop_test(c, test_reopen, 0, STARTS);
    tcase_add_loop_test(c, test_reader_refuses, 0, READER_CLAIMS);
    tcase_add_loop_test(c, test_writer_refuses, 0, WRITER_CLAIMS);
    tcase_add_test(c, test_writer_refuses_unpublished);
    tcase_add_test(c, test_reader_between_releases);
    tcase_add_test(c, test_bells);
    tcase_add_test(c, test_bells_of_a_successor);
    tcase_add_loop_test(c, test_map_sizes, 0, sizeof sizes / sizeof *sizes);
    tcase_add_test(c, test_map_rights);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
