/* SPDX-License-Identifier: Apache-2.0 */
/* The wake-up of shm/ring.h, looked at in every interleaving.
 *
 * A model: two sides that take the steps of shm/ring.h under the names that they have there, a memory, and between each
 * side and the memory its delayed stores. docs/models/wakeup.md says what the model leaves out and why that is enough.
 * The search visits every state that can be reached. Lost is a state in which a side sleeps without a bell in its pipe
 * although what it waits for is there, and the other side is not on its way to look at the number of that sleep.
 *
 * A model that finds nothing proves little unless it finds what is there to be found: so each broken variant, with one
 * fence, one look or one number left out, has to lose a wake-up.
 */
#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "tests/unit/unit.h"

/* Records in all, and how many the ring holds. A broken variant shows itself in less. */
struct size {
    unsigned records, cap;
};
static const struct size proof_size = {6, 3}, variant_size = {4, 2};
static struct size size;

enum step {
    /* producer and consumer: ring_writer_refresh and ring_reader_refresh, … */
    REFRESH,     /* load the other side's position; without work go to SLEEPS */
    WORK,        /* ring_publish or ring_release: store the own position */
    FENCE,       /* ring_fence behind it */
    MUST_RING,   /* ring_writer_must_ring or ring_reader_must_ring: look at the other side's sleep number */
    BELL,        /* write into the pipe */
    SLEEPS,      /* ring_reader_sleeps or ring_writer_sleeps: store a new number */
    SLEEP_FENCE, /* ring_fence behind it */
    LOOK_AGAIN,  /* load the other side's position once more */
    SLEEP,       /* read the pipe: blocks while it is empty, takes all bells */
    DONE,
    STEPS
};

enum { PRODUCER, CONSUMER };

static const char *const step_names[2][STEPS] = {
    {"ring_writer_refresh", "ring_publish", "ring_fence", "ring_writer_must_ring", "bell", "ring_writer_sleeps",
     "ring_fence (sleep)", "ring_writer_refresh (again)", "sleep", "done"},
    {"ring_reader_refresh", "ring_release", "ring_fence", "ring_reader_must_ring", "bell", "ring_reader_sleeps",
     "ring_fence (sleep)", "ring_reader_refresh (again)", "sleep", "done"},
};

/* What is left out of the protocol. */
enum { NO_FENCE = 1, NO_SLEEP_FENCE = 2, NO_SECOND_LOOK = 4, NO_NEW_NUMBER = 8, NUMBER_TOO_LATE = 16 };

/* One side: where it stands, its own two words as it stored them and as the memory has them, what it knows. */
struct side {
    unsigned step : 4;
    unsigned pos : 4, pos_mem : 4; /* produced_pos or consumed_pos */
    unsigned no : 4, no_mem : 4;   /* room_no or sleep_no */
    unsigned seen : 4;             /* last look at the other side's position */
    unsigned rung : 4;             /* rung_no */
    unsigned bells : 4;            /* in the pipe on which this side sleeps */
};

union state {
    struct side side[2];
    uint64_t key;
};
_Static_assert(sizeof(union state) == sizeof(uint64_t), "a state is one word");

/* ---- the set of states seen ---- */

enum { SET_BITS = 20 };

static struct seen { uint64_t key, from; } * set;
static uint64_t *queue;
static size_t queue_first, queue_last;

static struct seen *find(uint64_t key) {
    uint64_t at = key * 0x9e3779b97f4a7c15u >> (64 - SET_BITS);
    while (set[at].key != 0 && set[at].key != key)
        at = (at + 1) & (((uint64_t)1 << SET_BITS) - 1);
    return &set[at];
}

/* The state of the beginning is 0; keys are stored plus one. */
static void reach(union state s, uint64_t from) {
    struct seen *at = find(s.key + 1);
    if (at->key != 0)
        return;
    check(queue_last < (size_t)1 << (SET_BITS - 1));
    *at = (struct seen){s.key + 1, from + 1};
    queue[queue_last++] = s.key;
}

static void print_state(uint64_t key) {
    union state s = {.key = key};
    for (int i = 0; i < 2; i++) {
        const struct side *x = &s.side[i];
        printf("%s at %-28s pos %u/%u no %u/%u seen %u rung %u bells %u%s", i ? "  consumer" : "producer",
               step_names[i][x->step], x->pos, x->pos_mem, x->no, x->no_mem, x->seen, x->rung, x->bells,
               i ? "\n" : " |");
    }
}

static void print_way(uint64_t key) {
    uint64_t way[256];
    int count = 0;
    for (; key != 0 && count < 256; key = find(key + 1)->from - 1)
        way[count++] = key;
    while (count-- > 0)
        print_state(way[count]);
}

/* ---- the protocol ---- */

/* What a side can do now, by its last look: records it may publish, or records it may release. */
static unsigned work_of(const union state *s, int who) {
    const struct side *x = &s->side[who];
    if (who == CONSUMER)
        return x->seen - x->pos;
    unsigned room = size.cap - (x->pos - x->seen), left = size.records - x->pos;
    return room < left ? room : left;
}

/* The same with what has truly happened, not by the last look. */
static unsigned work_true(const union state *s, int who) {
    union state now = *s;
    now.side[who].seen = s->side[!who].pos;
    return work_of(&now, who);
}

static void drain_stores(struct side *x) {
    x->pos_mem = x->pos;
    x->no_mem = x->no;
}

static enum step after_ring(const struct side *x) {
    return x->pos == size.records ? DONE : REFRESH;
}

/* Every step that `who` can take from s. */
static void advance(union state s, int who, unsigned broken) {
    uint64_t from = s.key;
    struct side *x = &s.side[who], *other = &s.side[!who];
    switch ((enum step)x->step) {
    case REFRESH:
        x->seen = other->pos_mem;
        x->step = work_of(&s, who) ? WORK : broken & NUMBER_TOO_LATE ? LOOK_AGAIN : SLEEPS;
        break;
    case WORK: { /* any batch */
        unsigned most = work_of(&s, who), pos = x->pos;
        x->step = broken & NO_FENCE ? MUST_RING : FENCE;
        for (unsigned n = 1; n < most; n++) {
            x->pos = (pos + n) & 15;
            reach(s, from);
        }
        x->pos = (pos + most) & 15;
        break;
    }
    case FENCE:
        drain_stores(x);
        x->step = MUST_RING;
        break;
    case MUST_RING:
        if (x->rung != other->no_mem) {
            x->rung = other->no_mem;
            x->step = BELL;
        } else {
            x->step = after_ring(x) & 15;
        }
        break;
    case BELL:
        check(other->bells < 15);
        other->bells++;
        x->step = after_ring(x) & 15;
        break;
    case SLEEPS:
        check(x->no < 15);
        x->no += broken & NO_NEW_NUMBER && x->no > 0 ? 0 : 1;
        x->step = broken & NO_SLEEP_FENCE ? LOOK_AGAIN : broken & NUMBER_TOO_LATE ? SLEEP : SLEEP_FENCE;
        break;
    case SLEEP_FENCE:
        drain_stores(x);
        x->step = broken & NO_SECOND_LOOK ? SLEEP : LOOK_AGAIN;
        break;
    case LOOK_AGAIN:
        x->seen = other->pos_mem;
        x->step = work_of(&s, who) ? WORK : broken & NUMBER_TOO_LATE ? SLEEPS : SLEEP;
        break;
    case SLEEP:
        if (x->bells == 0)
            return;
        x->bells = 0;
        x->step = REFRESH;
        break;
    case DONE:
    case STEPS:
        return;
    }
    reach(s, from);
}

/* A delayed store arrives, each word on its own: weaker than any machine's order. */
static void arrive(union state s, int who) {
    uint64_t from = s.key;
    union state t = s;
    if (s.side[who].pos != s.side[who].pos_mem) {
        t.side[who].pos_mem = s.side[who].pos;
        reach(t, from);
        t = s;
    }
    if (s.side[who].no != s.side[who].no_mem) {
        t.side[who].no_mem = s.side[who].no;
        reach(t, from);
    }
}

static bool is_lost(const union state *s, int who) {
    const struct side *x = &s->side[who];
    enum step theirs = (enum step)s->side[!who].step;
    bool comes = theirs == FENCE || theirs == MUST_RING || theirs == BELL;
    return x->step == SLEEP && x->bells == 0 && !comes && work_true(s, who) > 0;
}

struct result {
    size_t states, lost[2];
    uint64_t first_lost[2];
    bool stuck, ends;
    bool slept[2], woken[2]; /* the interesting things have happened at all */
};

static struct result explore(struct size how_large, unsigned producer_broken, unsigned consumer_broken) {
    struct result r = {0};
    size = how_large;
    set = calloc((size_t)1 << SET_BITS, sizeof *set);
    queue = malloc(((size_t)1 << (SET_BITS - 1)) * sizeof *queue);
    check(set && queue);
    queue_first = queue_last = 0;
    reach((union state){.key = 0}, UINT64_MAX - 1);
    while (queue_first < queue_last) {
        union state s = {.key = queue[queue_first++]};
        for (int who = 0; who < 2; who++) {
            if (is_lost(&s, who) && r.lost[who]++ == 0)
                r.first_lost[who] = s.key;
            r.slept[who] |= s.side[who].step == SLEEP && s.side[who].bells == 0;
            r.woken[who] |= s.side[who].step == SLEEP && s.side[who].bells > 0 && s.side[who].no > 1;
        }
        size_t before = queue_last;
        bool moves = false;
        for (int who = 0; who < 2; who++) {
            const struct side *x = &s.side[who];
            moves |= x->pos != x->pos_mem || x->no != x->no_mem;
            moves |= x->step != DONE && (x->step != SLEEP || x->bells > 0);
            arrive(s, who);
            advance(s, who, who == PRODUCER ? producer_broken : consumer_broken);
        }
        check(moves || before == queue_last);
        bool done = s.side[PRODUCER].step == DONE && s.side[CONSUMER].step == DONE;
        r.stuck |= !moves && !done;
        r.ends |= done;
    }
    r.states = queue_last;
    return r;
}

static void forget(void) {
    free(set);
    free(queue);
}

/* ---- the tests ---- */

START_TEST(test_no_wakeup_is_lost) {
    struct result r = explore(proof_size, 0, 0);
    printf("wakeup_model_test: %zu states\n", r.states);
    for (int who = 0; who < 2; who++) {
        if (r.lost[who] > 0) {
            print_way(r.first_lost[who]);
            ck_abort_msg("the %s loses a wake-up", who ? "consumer" : "producer");
        }
        ck_assert(r.slept[who] && r.woken[who]);
    }
    ck_assert(!r.stuck);
    ck_assert(r.ends);
    forget();
}
END_TEST

/* What is left out, and who has to lose a wake-up for it: the publish's fence guards the consumer's sleep, as the
 * consumer's own fence and second look do; and the other way round. */
static const struct variant {
    const char *name;
    unsigned producer, consumer;
    int loser;
} variants[] = {
    {"no fence behind ring_publish", NO_FENCE, 0, CONSUMER},
    {"no fence behind ring_reader_sleeps", 0, NO_SLEEP_FENCE, CONSUMER},
    {"no second look of the consumer", 0, NO_SECOND_LOOK, CONSUMER},
    {"the consumer's second look before its number", 0, NUMBER_TOO_LATE, CONSUMER},
    {"the consumer sleeps again under its old number", 0, NO_NEW_NUMBER, CONSUMER},
    {"no fence behind ring_release", 0, NO_FENCE, PRODUCER},
    {"no fence behind ring_writer_sleeps", NO_SLEEP_FENCE, 0, PRODUCER},
    {"no second look of the producer", NO_SECOND_LOOK, 0, PRODUCER},
    {"the producer's second look before its number", NUMBER_TOO_LATE, 0, PRODUCER},
    {"the producer sleeps again under its old number", NO_NEW_NUMBER, 0, PRODUCER},
};

START_TEST(test_a_variant_loses) {
    const struct variant *v = &variants[_i];
    struct result r = explore(variant_size, v->producer, v->consumer);
    if (r.lost[v->loser] == 0)
        ck_abort_msg("%s: no wake-up is lost in %zu states", v->name, r.states);
    if (r.lost[!v->loser] != 0)
        ck_abort_msg("%s: the other side loses one too", v->name);
    forget();
}
END_TEST

int main(int argc, char **argv) {
    if (argc == 2) { /* the number of a variant: print the shortest way into its loss */
        unsigned long i = strtoul(argv[1], NULL, 10) % (sizeof variants / sizeof *variants);
        printf("%s:\n", variants[i].name);
        print_way(explore(variant_size, variants[i].producer, variants[i].consumer).first_lost[variants[i].loser]);
        return EXIT_SUCCESS;
    }
    Suite *suite = suite_create("wakeup model");
    TCase *c = tcase_create("wakeup model");
    tcase_set_timeout(c, 120);
    tcase_add_test(c, test_no_wakeup_is_lost);
    tcase_add_loop_test(c, test_a_variant_loses, 0, sizeof variants / sizeof *variants);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
