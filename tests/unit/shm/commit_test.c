/* SPDX-License-Identifier: Apache-2.0 */
/* The commit protocol of shm/commit.h on its own: three links with real rings, and a router of a few lines that takes
 * records, passes them on and commits, one store at a time. It is cut after every store; a successor completes and goes
 * on (and is cut too); in the end each edge has got what it gets when nobody is cut.
 *
 * The wrong protocols at the end show that the comparison would find them.
 */
#include "shm/commit.h"

#include <check.h>
#include <setjmp.h>

#include "shm/record.h"
#include "tests/unit/shm/shm_testing.h"
#include "tests/unit/unit.h"

enum { LINKS = 3, CAP = 3 * 4096, RECORDS = 5, BUDGET = 2, GOT_MAX = 64, STORES_MAX = 1000 };
#define BEGIN_POS (((uint64_t)1 << 32) - 4096) /* a multiple of no capacity; the wrap comes soon */

/* What is left out or done in the wrong order. */
enum wrong {
    RIGHT,
    WRONG_ORDER,         /* consumed positions before produced ones */
    WRONG_NO_COMPLETION, /* the successor does not look at the page */
    WRONG_NO_PAGE,       /* the same, and the router commits nothing */
    WRONG_EARLY_NUMBER,  /* the number before the positions */
    WRONG_ONE_AREA,      /* turns do not alternate, and the page is filled while the last turn is not done */
    WRONG_COUNT
};

/* What outlives a router. The edges never die here. */
static struct world {
    struct pair ingress[LINKS], egress[LINKS];
    struct commit_page page;
    uint64_t incarnation[LINKS];
    uint32_t got[LINKS][GOT_MAX]; /* what each edge read, by number */
    uint32_t got_count[LINKS];
} world;

/* What dies with it. */
static struct router {
    struct ring_reader ingress[LINKS];
    struct ring_writer egress[LINKS];
    uint64_t commit_no;
    bool dirty[LINKS];
} router;

static jmp_buf death;
static uint32_t stores_left, stores_done;

/* Stands before each store to memory that outlives the router. */
static void store(void) {
    if (stores_left-- == 0)
        longjmp(death, 1);
    stores_done++;
}

/* ---- the router ---- */

static void pass_on(uint32_t to, const struct record *rec, const uint8_t *payload) {
    struct ring_writer *w = &router.egress[to];
    struct record out = *rec;
    out.type = RECORD_DELIVER;
    check(ring_has_room(w, ring_round(out.len), 0));
    store();
    memcpy(ring_head(w), &out, sizeof out);
    store();
    memcpy(ring_head(w) + RECORD_HEADER, payload, out.payload_len);
    ring_advance(w, out.len);
    router.dirty[to] = true;
}

/* One record goes to the next link; every third to all. */
static void handle(uint32_t from, const struct record *rec, const uint8_t *payload) {
    if (rec->conn % 3 == 0)
        for (uint32_t to = 0; to < LINKS; to++)
            pass_on(to, rec, payload);
    else
        pass_on((from + 1) % LINKS, rec, payload);
}

static void fill_entry(struct commit_link *e, uint32_t i) {
    store();
    e->incarnation = world.incarnation[i];
    store();
    e->egress_produced = router.egress[i].head_pos;
    store();
    e->ingress_consumed = router.ingress[i].tail_pos;
}

static void publish_all(void) {
    for (uint32_t i = 0; i < LINKS; i++)
        if (router.dirty[i]) {
            store();
            ring_publish(&router.egress[i]);
        }
}

static void release_all(void) {
    for (uint32_t i = 0; i < LINKS; i++)
        if (router.dirty[i]) {
            store();
            ring_release(&router.ingress[i]);
        }
}

static void commit(enum wrong wrong) {
    struct commit_page *p = &world.page;
    uint64_t no = router.commit_no + 1;
    struct commit_turn *turn = &p->turn[wrong == WRONG_ONE_AREA ? 0 : no & 1];
    if (wrong == WRONG_EARLY_NUMBER) {
        store();
        atomic_store_explicit(&p->commit_no, no, memory_order_release);
    }
    for (uint32_t i = 0; i < LINKS && wrong != WRONG_NO_PAGE; i++)
        fill_entry(&turn->link[i], i);
    if (wrong != WRONG_EARLY_NUMBER && wrong != WRONG_NO_PAGE) {
        store();
        atomic_store_explicit(&p->commit_no, no, memory_order_release);
    }
    router.commit_no = no;
    if (wrong == WRONG_ORDER) {
        release_all();
        publish_all();
    } else {
        publish_all();
        release_all();
    }
    if (wrong != WRONG_ONE_AREA) { /* that one forgets the done number, so its page is always completed */
        store();
        atomic_store_explicit(&p->done_no, no, memory_order_release);
    }
    memset(router.dirty, 0, sizeof router.dirty);
}

/* Steps 3 and 4 of the commit that is not done. */
static void complete(enum wrong wrong) {
    struct commit_page *p = &world.page;
    router.commit_no = atomic_load_explicit(&p->commit_no, memory_order_acquire);
    if (atomic_load_explicit(&p->done_no, memory_order_acquire) == router.commit_no || wrong == WRONG_NO_COMPLETION)
        return;
    const struct commit_turn *turn = &p->turn[wrong == WRONG_ONE_AREA ? 0 : router.commit_no & 1];
    for (uint32_t i = 0; i < LINKS; i++)
        if (turn->link[i].incarnation == world.incarnation[i]) {
            store();
            atomic_store_explicit(&pair_data(&world.egress[i])->produced_pos, turn->link[i].egress_produced,
                                  memory_order_release);
        }
    for (uint32_t i = 0; i < LINKS; i++)
        if (turn->link[i].incarnation == world.incarnation[i]) {
            store();
            atomic_store_explicit(&pair_credit(&world.ingress[i])->consumed_pos, turn->link[i].ingress_consumed,
                                  memory_order_release);
        }
    store();
    atomic_store_explicit(&p->done_no, router.commit_no, memory_order_release);
}

static bool open_rings(void) {
    for (uint32_t i = 0; i < LINKS; i++)
        if (ring_reader_open(&router.ingress[i], &world.ingress[i].consumer) != ERR_OK ||
            ring_writer_open(&router.egress[i], &world.egress[i].producer) != ERR_OK)
            return false;
    return true;
}

static bool take_some(uint32_t i) {
    struct ring_reader *r = &router.ingress[i];
    uint32_t taken = 0;
    for (; taken < BUDGET && ring_reader_refresh(r) && ring_ready(r) > 0; taken++) {
        struct record rec;
        struct record_parts parts;
        check(record_take(&rec, &parts, ring_tail(r), ring_ready(r), RECORD_TO_ROUTER) == ERR_OK);
        handle(i, &rec, ring_tail(r) + parts.payload);
        ring_skip(r, rec.len);
        router.dirty[i] = true;
    }
    return taken > 0;
}

/* One life of a router, cut after `stores` stores. True if it came to the end of its work. */
static bool live(uint32_t stores, enum wrong wrong) {
    memset(&router, 0, sizeof router);
    stores_left = stores;
    stores_done = 0;
    if (setjmp(death) != 0)
        return false;
    complete(wrong);
    if (!open_rings())
        return true; /* nobody can go on with these positions; the comparison will say so */
    bool worked;
    do {
        worked = false;
        for (uint32_t i = 0; i < LINKS; i++)
            worked |= take_some(i);
        if (worked)
            commit(wrong);
    } while (worked);
    return true;
}

/* ---- the edges ---- */

static void world_begin(void) {
    memset(&world.page, 0, sizeof world.page);
    memset(world.got_count, 0, sizeof world.got_count);
    for (uint32_t i = 0; i < LINKS; i++) {
        world.incarnation[i] = 100 + i;
        pair_open(&world.ingress[i], BEGIN_POS + 8 * i);
        pair_open(&world.egress[i], BEGIN_POS - 16 * i);
        struct ring_writer *w = &world.ingress[i].w;
        for (uint32_t n = 0; n < RECORDS; n++) {
            struct record rec = {.type = RECORD_PUB, .conn = i * RECORDS + n, .payload_len = 700 + 13 * n + i};
            rec.len = RECORD_HEADER + rec.payload_len;
            check(ring_has_room(w, ring_round(rec.len), 0));
            memcpy(ring_head(w), &rec, sizeof rec);
            memset(ring_head(w) + RECORD_HEADER, (int)(rec.conn + 1), rec.payload_len);
            ring_advance(w, rec.len);
        }
        ring_publish(w);
    }
}

/* An edge reads what it can see; false if that is not sound. */
static bool edge_reads(uint32_t i) {
    struct ring_reader *r = &world.egress[i].r;
    if (!ring_reader_refresh(r))
        return false;
    while (ring_ready(r) > 0) {
        struct record rec;
        struct record_parts parts;
        const uint8_t *at = ring_tail(r);
        if (record_take(&rec, &parts, at, ring_ready(r), RECORD_TO_EDGE) != ERR_OK || world.got_count[i] == GOT_MAX)
            return false;
        for (uint32_t n = 0; n < rec.payload_len; n++)
            if (at[parts.payload + n] != (uint8_t)(rec.conn + 1))
                return false;
        world.got[i][world.got_count[i]++] = rec.conn;
        ring_skip(r, rec.len);
    }
    ring_release(r);
    return true;
}

static bool edge_got(uint32_t i, uint32_t conn) {
    for (uint32_t n = 0; n < world.got_count[i]; n++)
        if (world.got[i][n] == conn)
            return true;
    return false;
}

/* What every edge may rely on at any instant: in the order of egress_run, who loads consumed and then drains finds all
 * that the consumed records caused. */
static bool edges_look(void) {
    uint64_t consumed[LINKS];
    for (uint32_t i = 0; i < LINKS; i++) {
        if (!ring_writer_refresh(&world.ingress[i].w))
            return false;
        consumed[i] = world.ingress[i].w.consumed_pos;
    }
    for (uint32_t i = 0; i < LINKS; i++)
        if (!edge_reads(i))
            return false;
    for (uint32_t i = 0; i < LINKS; i++) {
        uint64_t pos = BEGIN_POS + 8 * i;
        for (uint32_t n = 0; n < RECORDS; n++) {
            uint32_t conn = i * RECORDS + n;
            pos += ring_round(RECORD_HEADER + 700 + 13 * n + i);
            for (uint32_t to = 0; to < LINKS && pos <= consumed[i]; to++)
                if ((conn % 3 == 0 || to == (i + 1) % LINKS) && !edge_got(to, conn))
                    return false;
        }
    }
    return true;
}

/* ---- the comparison ---- */

static struct { uint32_t got[LINKS][GOT_MAX], got_count[LINKS], stores; } uncut;

static void make_worlds(void) {
    for (uint32_t i = 0; i < LINKS; i++) {
        pair_map(&world.ingress[i], CAP);
        pair_map(&world.egress[i], CAP);
    }
    world_begin();
    ck_assert(live(STORES_MAX, RIGHT));
    ck_assert(edges_look());
    uncut.stores = stores_done;
    memcpy(uncut.got, world.got, sizeof uncut.got);
    memcpy(uncut.got_count, world.got_count, sizeof uncut.got_count);
    uint32_t sum = 0;
    for (uint32_t i = 0; i < LINKS; i++)
        sum += uncut.got_count[i];
    ck_assert_uint_eq(sum, LINKS * RECORDS + (LINKS - 1) * ((LINKS * RECORDS + 2) / 3));
}

static bool same_as_uncut(void) {
    for (uint32_t i = 0; i < LINKS; i++)
        if (world.got_count[i] != uncut.got_count[i] ||
            memcmp(world.got[i], uncut.got[i], world.got_count[i] * sizeof **world.got) != 0 ||
            atomic_load(&pair_credit(&world.ingress[i])->consumed_pos) != world.ingress[i].w.produced_pos)
            return false;
    return true;
}

/* A run with up to two cuts; the edges look at each. */
static bool survives(uint32_t first, uint32_t second, enum wrong wrong) {
    world_begin();
    bool sound = true;
    if (!live(first, wrong)) {
        sound = edges_look();
        if (!live(second, wrong)) {
            sound = edges_look() && sound;
            check(live(STORES_MAX, wrong));
        }
    }
    return edges_look() && sound && same_as_uncut();
}

START_TEST(test_cut_after_every_store) {
    make_worlds();
    ck_assert_uint_gt(uncut.stores, 60);
    for (uint32_t cut = 0; cut <= uncut.stores; cut++)
        if (!survives(cut, STORES_MAX, RIGHT))
            ck_abort_msg("cut after %u of %u stores", cut, uncut.stores);
}
END_TEST

/* The successor dies too, wherever it is: completing is idempotent. */
START_TEST(test_cut_twice) {
    make_worlds();
    for (uint32_t cut = 0; cut <= uncut.stores; cut++)
        for (uint32_t again = 0; again <= uncut.stores; again += again < 40 ? 1 : 7)
            if (!survives(cut, again, RIGHT))
                ck_abort_msg("cut after %u of %u stores, and the successor after %u", cut, uncut.stores, again);
}
END_TEST

static const char *const wrong_names[WRONG_COUNT] = {
    [WRONG_ORDER] = "consumed before produced",
    [WRONG_NO_COMPLETION] = "no completion",
    [WRONG_NO_PAGE] = "no page",
    [WRONG_EARLY_NUMBER] = "the number before the positions",
    [WRONG_ONE_AREA] = "one area, filled while the last turn is not done",
};

START_TEST(test_wrong_protocols_are_found) {
    make_worlds();
    enum wrong wrong = (enum wrong)_i;
    uint32_t found = 0;
    for (uint32_t cut = 0; cut <= uncut.stores; cut++)
        found += !survives(cut, STORES_MAX, wrong);
    if (found == 0)
        ck_abort_msg("%s: no cut shows it", wrong_names[wrong]);
}
END_TEST

/* An entry of an edge that has gone is not applied to its successor on the same link. */
START_TEST(test_other_incarnation) {
    make_worlds();
    for (uint32_t cut = 0; cut <= uncut.stores; cut++) {
        world_begin();
        if (live(cut, RIGHT) || atomic_load(&world.page.commit_no) == atomic_load(&world.page.done_no))
            continue;
        world.incarnation[1]++; /* new memory, new positions */
        pair_open(&world.ingress[1], 4096);
        pair_open(&world.egress[1], 8192);
        stores_left = STORES_MAX;
        complete(RIGHT);
        if (atomic_load(&pair_data(&world.egress[1])->produced_pos) != 8192 ||
            atomic_load(&pair_credit(&world.ingress[1])->consumed_pos) != 4096)
            ck_abort_msg("cut after %u stores", cut);
        ck_assert_uint_eq(atomic_load(&world.page.done_no), atomic_load(&world.page.commit_no));
    }
}
END_TEST

START_TEST(test_box) {
    uint64_t positions[] = {0, 8, (uint64_t)1 << 32, ((uint64_t)1 << 56) - 8};
    for (uint32_t link = 0; link < LINKS_MAX; link++)
        for (int i = 0; i < 4; i++) {
            uint64_t box = commit_box(link, positions[i]), replay = commit_box_replay(link, 65535);
            ck_assert(box != 0 && !(box & BOX_REPLAY) && (replay & BOX_REPLAY));
            ck_assert_uint_eq((box >> 56) - 1, link);
            ck_assert_uint_eq(((replay & ~BOX_REPLAY) >> 56) - 1, link);
            ck_assert_uint_eq(box & 0x00ffffffffffffffu, positions[i]);
        }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("commit");
    TCase *c = tcase_create("commit");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, test_cut_after_every_store);
    tcase_add_test(c, test_cut_twice);
    tcase_add_loop_test(c, test_wrong_protocols_are_found, 1, WRONG_COUNT);
    tcase_add_test(c, test_other_incarnation);
    tcase_add_test(c, test_box);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
