/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of shm/replies.c: rights against a naive list, turns that are committed or not, routers that die at any store, and who
 * has to go when a bucket is full. */
#include "shm/replies.h"

#include <check.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/unit.h"

static struct replies_table *table;
static struct replies now_open;
static struct replies *const r = &now_open;
static uint32_t *place; /* no two messages have the same, over the death of processes */
static const struct binding_key key = {.number = 1, .key = {1, 2, 3}};

static void setup(void) {
    ck_assert_int_ge(sodium_init(), 0);
    table = mmap(NULL, sizeof *table, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(table, MAP_FAILED);
    place = mmap(NULL, sizeof *place, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(place, MAP_FAILED);
    replies_open(r, table, &key);
}

static void teardown(void) {
    munmap(table, sizeof *table);
}

static struct replies_owner owner(uint32_t conn) {
    return replies_owner(r, 1, 2, conn, 1, 1, 5);
}

static struct replies_right right(uint32_t left, uint64_t until) {
    return (struct replies_right){until, left, 0};
}

static void give(uint32_t conn, const char *reply, uint32_t left, uint64_t until, uint64_t now, uint64_t turn) {
    struct replies_owner o = owner(conn);
    replies_give(r, &o, view_text(reply), right(left, until), now, turn);
}

static bool spend(uint32_t conn, const char *reply, uint64_t now, uint64_t turn) {
    struct replies_owner o = owner(conn);
    return replies_spend(r, &o, view_text(reply), ++*place, now, turn);
}

START_TEST(test_counts_and_times) {
    ck_assert(!spend(1, "r", 1, 1));
    give(1, "r", 2, 100, 1, 1);
    ck_assert(!spend(1, "R", 1, 1));
    ck_assert(!spend(2, "r", 1, 1));
    ck_assert(spend(1, "r", 50, 1));
    ck_assert(spend(1, "r", 100, 1));
    ck_assert(!spend(1, "r", 50, 2));
    give(1, "r", 2, 100, 1, 2);
    ck_assert(!spend(1, "r", 101, 2));
    give(1, "e", REPLIES_UNLIMITED, UINT64_MAX, 1, 2);
    for (int i = 0; i < 1000; i++)
        ck_assert(spend(1, "e", UINT64_MAX - 1, 3));
}
END_TEST

/* Each part of what a connection is makes another owner; so does another key. */
START_TEST(test_owners) {
    give(1, "r", REPLIES_UNLIMITED, UINT64_MAX, 1, 1);
    const struct replies_owner others[] = {replies_owner(r, 2, 2, 1, 1, 1, 5), replies_owner(r, 1, 3, 1, 1, 1, 5),
                                           replies_owner(r, 1, 2, 2, 1, 1, 5), replies_owner(r, 1, 2, 1, 2, 1, 5),
                                           replies_owner(r, 1, 2, 1, 1, 2, 5), replies_owner(r, 1, 2, 1, 1, 1, 6)};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        ck_assert(!replies_spend(r, &others[i], VIEW("r"), 1, 1, 1));
    struct binding_key other_key = {.number = 1, .key = {1, 2, 4}};
    replies_open(r, table, &other_key);
    ck_assert(!spend(1, "r", 1, 1));
    replies_open(r, table, &key); /* and the same key finds it again */
    ck_assert(spend(1, "r", 1, 1));
}
END_TEST

START_TEST(test_same_message) {
    struct replies_owner o = owner(1);
    give(1, "r", 1, UINT64_MAX, 1, 1);
    for (int i = 0; i < 3; i++)
        ck_assert(replies_spend(r, &o, VIEW("r"), 7, 1, 1 + (uint64_t)i));
    ck_assert(!replies_spend(r, &o, VIEW("r"), 9, 1, 4));
    ck_assert(replies_spend(r, &o, VIEW("r"), 7, 1, 4)); /* it still waits for room */
    replies_recover(r, 4);
    ck_assert(replies_spend(r, &o, VIEW("r"), 7, 1, 5));
}
END_TEST

/* ---- against a list ---- */

enum { NAMES = 40, CONNS = 4 };

struct model {
    uint32_t left[CONNS][NAMES];
    uint64_t until[CONNS][NAMES];
};

static uint64_t state;

static uint32_t below(uint32_t n) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % n;
}

/* One step on both. */
static void step(struct model *m, uint64_t now, uint64_t turn, bool judge) {
    uint32_t conn = below(CONNS), name = below(NAMES);
    char reply[16];
    snprintf(reply, sizeof reply, "_INBOX.%u", name);
    if (below(2)) {
        m->left[conn][name] = 1 + below(3);
        m->until[conn][name] = below(3) ? now + below(20) : UINT64_MAX;
        give(conn, reply, m->left[conn][name], m->until[conn][name], now, turn);
        return;
    }
    bool want = m->left[conn][name] > 0 && m->until[conn][name] >= now;
    m->left[conn][name] -= want;
    bool got = spend(conn, reply, now, turn);
    if (judge) /* a child that is killed may not write to the test's own pipe */
        ck_assert_msg(got == want, "turn %llu: connection %u, %s", (unsigned long long)turn, conn, reply);
}

/* Every turn is committed or lost with its router. */
START_TEST(test_turns) {
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct model kept = {0}, m;
        memset(table, 0, sizeof *table);
        state = seed;
        uint64_t commit_no = 0, now = 1;
        for (int turn = 0; turn < 400; turn++, now += below(3)) {
            m = kept;
            for (uint32_t n = below(12); n > 0; n--)
                step(&m, now, commit_no + 1, true);
            if (below(3)) {
                commit_no++;
                kept = m;
            } else {
                for (uint32_t n = below(2); n < 2; n++)
                    replies_recover(r, commit_no);
            }
        }
    }
}
END_TEST

/* A child that writes is killed at any moment; what its last turn has changed is undone, and nothing else. */
START_TEST(test_killed) {
    struct shared {
        _Atomic uint64_t commit_no;
        struct model kept[2];
    } *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(s, MAP_FAILED);
    uint64_t turns = 0;
    for (uint64_t life = 1; life <= 150; life++) {
        state = life;
        pid_t pid = fork();
        if (pid == 0) {
            for (;;) {
                uint64_t no = s->commit_no;
                struct model m = s->kept[no & 1];
                for (uint32_t n = 1 + below(30); n > 0; n--)
                    step(&m, no, no + 1, false);
                s->kept[(no + 1) & 1] = m;
                s->commit_no = no + 1;
            }
        }
        ck_assert_int_gt(pid, 0);
        usleep(below(3000));
        kill(pid, SIGKILL);
        ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
        uint64_t no = s->commit_no;
        turns = no;
        replies_recover(r, no);
        /* Every right is asked once, in a turn that is then lost. */
        const struct model *m = &s->kept[no & 1];
        for (uint32_t conn = 0; conn < CONNS; conn++) {
            for (uint32_t name = 0; name < NAMES; name++) {
                char reply[16];
                snprintf(reply, sizeof reply, "_INBOX.%u", name);
                uint32_t got = 0;
                while (spend(conn, reply, no, no + 1))
                    got++;
                uint32_t want = m->until[conn][name] >= no ? m->left[conn][name] : 0;
                ck_assert_msg(got == want, "life %llu, connection %u, %s: %u, not %u", (unsigned long long)life, conn,
                              reply, got, want);
            }
        }
        replies_recover(r, no);
    }
    ck_assert_uint_gt(turns, 1000);
    munmap(s, sizeof *s);
}
END_TEST

/* ---- bounds ---- */

static uint32_t count_of(uint32_t conn, uint32_t names) {
    uint32_t found = 0;
    for (uint32_t i = 0; i < names; i++) {
        char reply[32];
        snprintf(reply, sizeof reply, "of.%u.%u", conn, i);
        found += spend(conn, reply, 1, 1000000);
    }
    return found;
}

static void give_many(uint32_t conn, uint32_t first, uint32_t count, uint64_t turn) {
    for (uint32_t i = first; i < first + count; i++) {
        char reply[32];
        snprintf(reply, sizeof reply, "of.%u.%u", conn, i);
        give(conn, reply, 5, UINT64_MAX, 1, turn + i);
    }
}

START_TEST(test_room_of_one) {
    give_many(1, 0, 4096, 1);
    ck_assert_uint_ge(count_of(1, 4096), 4090);
    give_many(1, 4096, 100000, 1);
    uint32_t left = count_of(1, 4096 + 100000);
    ck_assert_uint_le(left, REPLIES_WINDOW * REPLIES_WAYS);
    ck_assert_uint_ge(left, REPLIES_WINDOW * REPLIES_WAYS / 2);
    char newest[32];
    snprintf(newest, sizeof newest, "of.1.%u", 4096 + 100000 - 1);
    ck_assert(spend(1, newest, 1, 2000000));
}
END_TEST

/* One that floods the table, from every place of it, drives nobody out who has few. */
START_TEST(test_flood) {
    for (uint32_t conn = 100; conn < 140; conn++)
        give_many(conn, 0, 50, 1);
    for (uint32_t conn = 1; conn <= 16; conn++)
        give_many(conn, 0, 20000, 100);
    for (uint32_t conn = 100; conn < 140; conn++)
        ck_assert_uint_ge(count_of(conn, 50), 49);
}
END_TEST

/* What is used up or too old makes room first. */
START_TEST(test_reuse) {
    give_many(1, 0, 3000, 1);
    for (uint32_t round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < 3000; i++) {
            char reply[32];
            snprintf(reply, sizeof reply, "once.%u.%u", round, i);
            give(1, reply, 1, UINT64_MAX, 1, 10000 + round);
            ck_assert(spend(1, reply, 1, 10000 + round));
        }
    }
    ck_assert_uint_ge(count_of(1, 3000), 2990);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("replies");
    TCase *c = tcase_create("replies");
    tcase_set_timeout(c, 300);
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, test_counts_and_times);
    tcase_add_test(c, test_owners);
    tcase_add_test(c, test_same_message);
    tcase_add_test(c, test_turns);
    tcase_add_test(c, test_killed);
    tcase_add_test(c, test_room_of_one);
    tcase_add_test(c, test_flood);
    tcase_add_test(c, test_reuse);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
