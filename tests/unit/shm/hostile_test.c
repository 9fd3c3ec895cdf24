/* SPDX-License-Identifier: Apache-2.0 */
/* The hostile peer: a thread, or a process, that writes to every shared word and byte which it may write, while the
 * side under test works as the router does. There is never a fault, nothing is looked at outside the mapping, and each
 * rule that is broken ends the link: then both sides begin a new one on the same memory, which the attacker still
 * holds.
 */
#include <check.h>
#include <pthread.h>
#include <sched.h>

#include "shm/record.h"
#include "tests/unit/shm/shm_testing.h"
#include "tests/unit/unit.h"

enum { CAP = 7 * 4096, LINKS_MOST = 20000, TIME_MS = 700, TIME_MOST_MS = 40000 };

/* Both the thread and the process look here for the end. */
struct told {
    _Atomic bool stop;
    _Atomic uint64_t rounds;
};

struct attack {
    struct ring_map map; /* writable for the attacker: data or credit */
    struct told *told;
    uint64_t seed;
    enum record_direction direction;
};

static struct told *told_make(void) {
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(at != MAP_FAILED);
    return at;
}

/* A position near one that is sound, or one that has a name. */
static uint64_t odd_position(uint64_t *seed, uint64_t near) {
    switch (random_below(seed, 12)) {
    case 0:
        return random_next(seed);
    case 1:
        return 0;
    case 2:
        return UINT64_MAX;
    case 3:
        return UINT64_MAX - 7;
    case 4:
        return (uint64_t)1 << 63;
    case 5:
        return (uint64_t)1 << 32;
    case 6:
        return near + CAP;
    case 7:
        return near + CAP + 8;
    case 8:
        return near - 8;
    case 9:
        return near - CAP;
    case 10:
        return near + 1 + random_below(seed, 7);
    default:
        return near + 8 * random_below(seed, CAP / 8);
    }
}

/* ---- the hostile producer ---- */

static const uint8_t types[2][5] = {{RECORD_BIND, RECORD_SUB, RECORD_UNSUB, RECORD_PUB, RECORD_GATE},
                                    {RECORD_DELIVER, RECORD_DELIVER_MORE, RECORD_DENY, RECORD_KICK, RECORD_EPOCH}};

/* A header as an honest peer might write it. */
static struct record some_header(uint64_t *seed, enum record_direction direction) {
    struct record r = {.type = types[direction][random_below(seed, 5)], .conn = (uint32_t)random_next(seed)};
    uint64_t fixed = r.type == RECORD_SUB ? 16 : r.type == RECORD_UNSUB ? 8 : 0;
    bool texts = r.type == RECORD_SUB || r.type == RECORD_PUB || r.type == RECORD_DELIVER || r.type == RECORD_DENY;
    if (texts) {
        r.subject_len = (uint16_t)random_below(seed, 64);
        r.reply_len = (uint16_t)random_below(seed, 2) ? 0 : (uint16_t)random_below(seed, 64);
    }
    if (r.type == RECORD_PUB || r.type == RECORD_DELIVER || r.type == RECORD_BIND)
        r.payload_len = (uint32_t)random_below(seed, random_below(seed, 10) ? 300 : CAP / 2);
    if (r.type == RECORD_DELIVER || r.type == RECORD_DELIVER_MORE)
        r.target_count = (uint16_t)random_below(seed, 20);
    r.len = (uint32_t)record_len(fixed, r.target_count, r.subject_len, r.reply_len, r.payload_len);
    return r;
}

static void attack_consumer(struct attack *a) {
    struct ring_data *data = a->map.data;
    uint8_t *area = (uint8_t *)a->map.data + RING_PAGE;
    const struct ring_credit *credit = a->map.credit;
    uint64_t seed = a->seed, near = 0;
    while (!atomic_load_explicit(&a->told->stop, memory_order_relaxed)) {
        atomic_fetch_add_explicit(&a->told->rounds, 1, memory_order_relaxed);
        uint64_t consumed = atomic_load_explicit(&credit->consumed_pos, memory_order_relaxed);
        if (near - consumed > CAP) /* a link has begun anew */
            near = consumed;
        /* Mostly honest, so that something is read at all; a full ring is a matter of the reader's speed. */
        bool full = near - consumed > CAP / 2;
        switch (random_below(&seed, full ? 20000 : 200)) {
        case 0:
            atomic_store(&data->produced_pos, odd_position(&seed, near));
            break;
        case 1:
            atomic_store(&data->room_no, random_next(&seed));
            break;
        case 2: { /* bytes anywhere, over the wrap too */
            uint64_t at = random_below(&seed, CAP), len = 1 + random_below(&seed, 64);
            for (uint64_t i = 0; i < len; i++)
                area[at + i] = (uint8_t)random_next(&seed);
            break;
        }
        case 3: { /* one word of a header that may be read just now */
            uint32_t word = random_below(&seed, 2) ? (uint32_t)random_next(&seed) : UINT32_MAX;
            memcpy(area + consumed % CAP + 4 * random_below(&seed, 6), &word, 4);
            break;
        }
        case 4:
            memset(area + consumed % CAP, (int)random_next(&seed), 4096);
            break;
        default: {
            struct record r = some_header(&seed, a->direction);
            if (full || near - consumed + ring_round(r.len) > CAP)
                break;
            memcpy(area + near % CAP, &r, sizeof r);
            near += ring_round(r.len);
            atomic_store_explicit(&data->produced_pos, near, memory_order_release);
            break;
        }
        }
    }
}

/* Some time, and on a busy machine longer until everything has happened once. */
static bool goes_on(uint64_t begin_ns, bool enough) {
    uint64_t ms = (now_ns() - begin_ns) / 1000000;
    return ms < TIME_MS || (!enough && ms < TIME_MOST_MS);
}

struct counts {
    uint64_t links, records, positions, hostile, openings, bells;
};

static uint8_t names[2 * RECORD_TEXT_MAX];
static uint8_t ring_of_target[CAP];
static volatile uint64_t sink; /* what was read counts as used */

/* What the router does with a record: names into its own memory, the payload straight on. Everything lies within what
 * was ready, so within the mapping. */
static void use(const struct ring_reader *r, const struct record *rec, const struct record_parts *parts,
                const uint8_t *at, enum record_direction direction) {
    uint64_t ready = ring_ready(r);
    check(rec->len <= ready && ready <= CAP && at + rec->len <= r->area + 2 * CAP && at >= r->area);
    check(parts->targets >= RECORD_HEADER && parts->subject == parts->targets + 8u * rec->target_count);
    check(parts->reply == parts->subject + rec->subject_len && parts->payload == parts->reply + rec->reply_len);
    check(rec->len == (uint64_t)parts->payload + rec->payload_len);
    memcpy(names, at + parts->subject, (size_t)rec->subject_len + rec->reply_len);
    memcpy(ring_of_target, at + parts->payload, rec->payload_len);
    uint64_t sum = names[0] + ring_of_target[0];
    if (direction == RECORD_TO_EDGE)
        for (uint32_t i = 0; i < rec->target_count; i++) {
            struct record_target t;
            memcpy(&t, at + parts->targets + 8 * (size_t)i, sizeof t);
            sum += t.slot;
        }
    if (rec->type == RECORD_PUB || rec->type == RECORD_DELIVER)
        check(rec->aux <= rec->payload_len);
    sink += sum;
}

/* One link, until a rule is broken or some records have been handled. */
static void consume_link(struct ring_reader *r, struct counts *n, enum record_direction direction, uint64_t *seed) {
    uint64_t until = now_ns() + 2000000;
    uint64_t most = 1 + random_below(seed, 2000);
    while (most-- > 0 && now_ns() < until) {
        if (ring_ready(r) == 0) {
            if (!ring_reader_refresh(r)) {
                check(r->broken);
                n->positions++;
                return;
            }
            check(r->produced_pos - r->consumed_pos <= CAP && !r->broken);
            if (ring_ready(r) == 0) {
                ring_release(r);
                sched_yield();
                continue;
            }
        }
        struct record rec;
        struct record_parts parts;
        const uint8_t *at = ring_tail(r);
        check(r->tail_off < CAP && r->tail_off == r->tail_pos % CAP);
        if (record_take(&rec, &parts, at, ring_ready(r), direction) != ERR_OK) {
            n->hostile++;
            return;
        }
        use(r, &rec, &parts, at, direction);
        ring_skip(r, rec.len);
        n->records++;
        if (random_below(seed, 8) == 0) {
            ring_release(r);
            ring_fence();
            bool rings = ring_reader_must_ring(r);
            n->bells += rings;
        }
    }
    ring_release(r);
}

static struct counts consume_all(const struct pair *p, struct told *told, uint64_t seed,
                                 enum record_direction direction) {
    struct counts n = {0};
    uint64_t begin = now_ns(), pos = 0;
    bool enough = false;
    while ((n.links < LINKS_MOST || !enough) && goes_on(begin, enough)) {
        enough = n.records > 0 && n.hostile > 0 && n.positions + n.openings > 0;
        struct ring_reader r;
        /* A new link: new positions. What the attacker's word is then is up to him; at most the opening is refused. */
        pos = (pos + CAP) & ~(uint64_t)7;
        if (random_below(&seed, 4) != 0)
            atomic_store(&pair_data(p)->produced_pos, pos);
        atomic_store(&pair_credit(p)->consumed_pos, pos);
        if (ring_reader_open(&r, &p->consumer) != ERR_OK) {
            n.openings++;
            sched_yield();
            continue;
        }
        n.links++;
        consume_link(&r, &n, direction, &seed);
        if (r.tail_pos > pos)
            pos = r.tail_pos & ~(uint64_t)7;
        if (pos > (uint64_t)1 << 62)
            pos = 0;
    }
    atomic_store(&told->stop, true);
    printf("%llu links, %llu records; refused: %llu openings, %llu positions, %llu records; %llu attacks\n",
           (unsigned long long)n.links, (unsigned long long)n.records, (unsigned long long)n.openings,
           (unsigned long long)n.positions, (unsigned long long)n.hostile,
           (unsigned long long)atomic_load(&told->rounds));
    return n;
}

static void consumer_was_attacked(const struct counts *n) {
    ck_assert_uint_gt(n->links, 0);
    ck_assert_uint_gt(n->records, 0);
    ck_assert_uint_gt(n->positions + n->openings, 0);
    ck_assert_uint_gt(n->hostile, 0);
}

static void *attack_consumer_thread(void *arg) {
    attack_consumer(arg);
    return NULL;
}

START_TEST(test_consumer_against_thread) {
    uint64_t seed = testing_seed("hostile_test consumer_against_thread");
    struct pair p;
    pair_map(&p, CAP);
    struct attack a = {p.producer, told_make(), seed, (enum record_direction)_i};
    pthread_t thread;
    ck_assert(pthread_create(&thread, NULL, attack_consumer_thread, &a) == 0);
    struct counts n = consume_all(&p, a.told, ~seed, a.direction);
    ck_assert(pthread_join(thread, NULL) == 0);
    consumer_was_attacked(&n);
    pair_free(&p);
}
END_TEST

START_TEST(test_consumer_against_process) {
    uint64_t seed = testing_seed("hostile_test consumer_against_process");
    struct pair p;
    pair_map(&p, CAP);
    struct attack a = {p.producer, told_make(), seed, (enum record_direction)_i};
    pid_t child = testing_fork();
    if (child == 0) {
        attack_consumer(&a);
        _exit(0);
    }
    struct counts n = consume_all(&p, a.told, ~seed, a.direction);
    ck_assert_int_eq(testing_wait(child), 0);
    consumer_was_attacked(&n);
    pair_free(&p);
}
END_TEST

/* ---- the hostile consumer ---- */

static void linger(uint64_t turns) {
    for (volatile uint64_t i = 0; i < turns; i = i + 1)
        ;
}

static void attack_producer(struct attack *a) {
    struct ring_credit *credit = a->map.credit;
    const struct ring_data *data = a->map.data;
    uint64_t seed = a->seed;
    while (!atomic_load_explicit(&a->told->stop, memory_order_relaxed)) {
        atomic_fetch_add_explicit(&a->told->rounds, 1, memory_order_relaxed);
        uint64_t produced = atomic_load(&data->produced_pos);
        switch (random_below(&seed, 2000)) {
        case 0:
            atomic_store(&credit->consumed_pos, odd_position(&seed, produced));
            linger(random_below(&seed, 20000)); /* long enough to be looked at */
            break;
        case 1:
            atomic_store(&credit->sleep_no, random_next(&seed));
            break;
        case 2:
        case 3:
            atomic_fetch_add(&credit->sleep_no, 1);
            break;
        default: /* honest, for once: all of it, or some */
            atomic_store(&credit->consumed_pos, produced);
            break;
        }
    }
}

static void produce_link(struct ring_writer *w, struct counts *n, uint64_t *seed) {
    uint64_t until = now_ns() + 2000000, most = 1 + random_below(seed, 2000);
    while (most-- > 0 && now_ns() < until) {
        uint64_t len = ring_round(RECORD_HEADER + random_below(seed, random_below(seed, 10) ? 300 : CAP / 4));
        bool fits = ring_has_room(w, len, random_below(seed, 2) ? 0 : 512);
        if (w->broken) {
            n->positions++;
            check(!fits);
            return;
        }
        /* Never more room than there is, and what is not published is never free. */
        check(ring_room(w) <= CAP && w->head_pos - w->consumed_pos <= CAP);
        check(w->produced_pos - w->consumed_pos <= w->head_pos - w->consumed_pos);
        if (!fits) {
            ring_publish(w);
            ring_writer_sleeps(w);
            ring_fence();
            sched_yield();
            continue;
        }
        check(w->head_off < CAP && w->head_off == w->head_pos % CAP && len <= CAP);
        memset(ring_head(w), (int)len, len);
        ring_advance(w, len);
        n->records++;
        if (random_below(seed, 8) == 0) {
            ring_publish(w);
            ring_fence();
            bool rings = ring_writer_must_ring(w); /* at most one bell for a look */
            n->bells += rings;
        }
    }
    ring_publish(w);
}

static struct counts produce_all(const struct pair *p, struct told *told, uint64_t seed) {
    struct counts n = {0};
    uint64_t begin = now_ns(), pos = 0;
    bool enough = false;
    while ((n.links < LINKS_MOST || !enough) && goes_on(begin, enough)) {
        enough = n.records > 0 && n.bells > 0 && n.positions + n.openings > 0;
        struct ring_writer w;
        atomic_store(&pair_data(p)->produced_pos, pos);
        if (random_below(&seed, 4) != 0)
            atomic_store(&pair_credit(p)->consumed_pos, pos);
        if (ring_writer_open(&w, &p->producer) != ERR_OK) {
            n.openings++;
            sched_yield();
            continue;
        }
        n.links++;
        check(w.head_pos == pos && ring_room(&w) <= CAP);
        produce_link(&w, &n, &seed);
        pos = w.head_pos > (uint64_t)1 << 62 ? 0 : w.head_pos;
    }
    atomic_store(&told->stop, true);
    printf("%llu links, %llu records; refused: %llu openings, %llu positions; %llu bells; %llu attacks\n",
           (unsigned long long)n.links, (unsigned long long)n.records, (unsigned long long)n.openings,
           (unsigned long long)n.positions, (unsigned long long)n.bells,
           (unsigned long long)atomic_load(&told->rounds));
    return n;
}

static void producer_was_attacked(const struct counts *n) {
    ck_assert_uint_gt(n->links, 0);
    ck_assert_uint_gt(n->records, 0);
    ck_assert_uint_gt(n->positions + n->openings, 0);
    ck_assert_uint_gt(n->bells, 0);
}

static void *attack_producer_thread(void *arg) {
    attack_producer(arg);
    return NULL;
}

START_TEST(test_producer_against_thread) {
    uint64_t seed = testing_seed("hostile_test producer_against_thread");
    struct pair p;
    pair_map(&p, CAP);
    struct attack a = {.map = p.consumer, .told = told_make(), .seed = seed};
    pthread_t thread;
    ck_assert(pthread_create(&thread, NULL, attack_producer_thread, &a) == 0);
    struct counts n = produce_all(&p, a.told, ~seed);
    ck_assert(pthread_join(thread, NULL) == 0);
    producer_was_attacked(&n);
    pair_free(&p);
}
END_TEST

START_TEST(test_producer_against_process) {
    uint64_t seed = testing_seed("hostile_test producer_against_process");
    struct pair p;
    pair_map(&p, CAP);
    struct attack a = {.map = p.consumer, .told = told_make(), .seed = seed};
    pid_t child = testing_fork();
    if (child == 0) {
        attack_producer(&a);
        _exit(0);
    }
    struct counts n = produce_all(&p, a.told, ~seed);
    ck_assert_int_eq(testing_wait(child), 0);
    producer_was_attacked(&n);
    pair_free(&p);
}
END_TEST

/* ---- a header that changes under the reader ---- */

/* Two sound headers that share no length. What a reader sees may be either or any mixture; what it uses must be one of
 * them, the same for the check and for the use. */
static const struct record flips[2] = {
    {.len = 24 + 5 + 100, .type = RECORD_PUB, .subject_len = 5, .conn = 1, .payload_len = 100, .aux = 90},
    {.len = 24 + 900 + 77 + 3000,
     .type = RECORD_PUB,
     .subject_len = 900,
     .reply_len = 77,
     .conn = 2,
     .payload_len = 3000},
};

static void *flip_header(void *arg) {
    struct attack *a = arg;
    uint8_t *area = (uint8_t *)a->map.data + RING_PAGE;
    for (uint64_t i = 0; !atomic_load_explicit(&a->told->stop, memory_order_relaxed); i++) {
        memcpy(area, &flips[i & 1], sizeof *flips);
        for (volatile unsigned wait = 0; wait < (i >> 1) % 32; wait = wait + 1)
            ;
        atomic_fetch_add_explicit(&a->told->rounds, 1, memory_order_relaxed);
    }
    return NULL;
}

/* Header and parts tell the same story. */
static bool is_consistent(const struct record *r, const struct record_parts *p) {
    return p->targets == 24 && p->subject == 24 && p->reply == 24u + r->subject_len &&
           p->payload == p->reply + r->reply_len && r->len == p->payload + r->payload_len && r->aux <= r->payload_len;
}

/* What record_take must not be: it checks the memory and then copies from it again. */
static enum err take_twice(struct record *copy, struct record_parts *parts, const uint8_t *at, uint64_t ready,
                           enum record_direction direction) {
    enum err e = record_take(copy, parts, at, ready, direction);
    sched_yield();
    memcpy(copy, at, sizeof *copy);
    return e;
}

START_TEST(test_flipping_header) {
    struct pair p;
    pair_map(&p, CAP);
    struct attack a = {.map = p.producer, .told = told_make()};
    memcpy((uint8_t *)p.producer.data + RING_PAGE, &flips[0], sizeof *flips);
    pthread_t thread;
    ck_assert(pthread_create(&thread, NULL, flip_header, &a) == 0);
    const uint8_t *at = (const uint8_t *)p.consumer.data + RING_PAGE;
    uint64_t until = now_ns() + 1000000000u, taken[2] = {0}, refused = 0, other = 0;
    bool caught = false;
    for (uint64_t i = 0; now_ns() < until || !caught; i++) {
        struct record copy;
        struct record_parts parts;
        if (record_take(&copy, &parts, at, CAP, RECORD_TO_ROUTER) == ERR_OK) {
            if (!is_consistent(&copy, &parts))
                ck_abort_msg("try %llu: a header of %u bytes with parts at %u %u %u", (unsigned long long)i, copy.len,
                             parts.subject, parts.reply, parts.payload);
            if (memcmp(&copy, &flips[0], sizeof copy) == 0)
                taken[0]++;
            else if (memcmp(&copy, &flips[1], sizeof copy) == 0)
                taken[1]++;
            else
                other++; /* a mixture that is sound: a sound record of that peer, no more */
        } else {
            refused++;
        }
        /* The same test does find a reader that looks twice. */
        if (!caught && take_twice(&copy, &parts, at, CAP, RECORD_TO_ROUTER) == ERR_OK)
            caught = !is_consistent(&copy, &parts);
        if (i % 1024 == 0)
            sched_yield();
    }
    atomic_store(&a.told->stop, true);
    ck_assert(pthread_join(thread, NULL) == 0);
    printf("first %llu, second %llu, mixtures taken %llu, refused %llu\n", (unsigned long long)taken[0],
           (unsigned long long)taken[1], (unsigned long long)other, (unsigned long long)refused);
    ck_assert(taken[0] > 0 && taken[1] > 0);
    pair_free(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("hostile");
    TCase *c = tcase_create("hostile");
    tcase_set_timeout(c, 120);
    tcase_add_loop_test(c, test_consumer_against_thread, RECORD_TO_ROUTER, RECORD_TO_EDGE + 1);
    tcase_add_loop_test(c, test_consumer_against_process, RECORD_TO_ROUTER, RECORD_TO_EDGE + 1);
    tcase_add_test(c, test_producer_against_thread);
    tcase_add_test(c, test_producer_against_process);
    tcase_add_test(c, test_flipping_header);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
