/* SPDX-License-Identifier: Apache-2.0 */
/* A router that dies, at any instruction, loses and doubles nothing.
 *
 * Random streams (tests/support/stream.h) run over three links: uncut; with a new router after every record; and with a
 * router in a child that is traced: it runs to a breakpoint in one of its functions, is stepped a random number of
 * instructions further, and killed. What the subscriptions got must be what the oracle says, each time. The same with rights to
 * answer, which must be neither lost nor had twice, and with permissions that change.
 *
 * ROUTER_DEATH_SEED and ROUTER_DEATH_SECONDS set the first seed and the time of the last one.
 */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "ipc/note.h"
#include "tests/support/stream.h"
#include "tests/unit/unit.h"

enum { LINKS = 3, BATCHES = 40 };

static struct world w;
static struct run run;
static uint64_t seed;

static void begin(const struct stream *s, struct rnd *r) {
    world_make(&w, LINKS, 160 * 1024, 1 << 20);
    w.settings.source_wait_ms = 10000; /* nothing here waits for long but a busy machine */
    w.settings.source_share_ms = 10000;
    w.settings.edge_dead_ms = 20000;
    if (rnd_below(r, 2))
        w.replay_bytes = 4096 * (1 + rnd_below(r, 4));
    run_begin(&run, s, &w);
}

static void end(const char *what) {
    const char *wrong = run_judge(&run);
    ck_assert_msg(wrong == NULL, "seed %llu %s: %s", (unsigned long long)seed, what, wrong);
    run_end(&run);
    world_free(&w);
}

START_TEST(test_uncut) {
    for (seed = env_number("ROUTER_DEATH_SEED", 1); seed < env_number("ROUTER_DEATH_SEED", 1) + 40; seed++) {
        struct stream *s = stream_make(seed, LINKS, BATCHES);
        struct rnd r = {seed};
        begin(s, &r);
        world_begin(&w);
        for (uint32_t i = 0; i < s->batch_count; i++) {
            for (uint32_t k = 0; k < s->batch[i].count; k++)
                run_op(&run, &s->op[s->batch[i].first + k]);
            run_publish(&run);
            world_settle(&w);
        }
        end("uncut");
        stream_free(s);
    }
}
END_TEST

/* A new router after each record; others lie unread in the rings, above and below. */
START_TEST(test_death_at_every_record) {
    for (seed = env_number("ROUTER_DEATH_SEED", 1); seed < env_number("ROUTER_DEATH_SEED", 1) + 4; seed++) {
        struct stream *s = stream_make(seed, LINKS, BATCHES);
        struct rnd r = {seed};
        begin(s, &r);
        world_begin(&w);
        for (uint32_t i = 0; i < s->batch_count; i++) {
            for (uint32_t k = 0; k < s->batch[i].count; k++) {
                run_op(&run, &s->op[s->batch[i].first + k]);
                if (rnd_below(&r, 2))
                    run_publish(&run);
                for (uint32_t n = 0; n < LINKS; n++)
                    w.edge[n].paused = rnd_below(&r, 3) == 0;
                for (uint32_t n = rnd_below(&r, 3); n > 0; n--)
                    world_step(&w);
                world_die(&w);
                if (rnd_below(&r, 8) == 0) { /* and again, in the middle of its takeover */
                    world_start(&w);
                    for (uint32_t n = rnd_below(&r, 4); n > 0; n--)
                        world_step(&w);
                    world_die(&w);
                }
                world_begin(&w);
            }
            for (uint32_t n = 0; n < LINKS; n++)
                w.edge[n].paused = false;
            run_publish(&run);
            world_settle(&w);
        }
        end("cut at every record");
        stream_free(s);
    }
}
END_TEST

#if defined(__x86_64__)

/* ---- a child under ptrace ---- */

static uint64_t lives, deaths_in_takeover, deaths_in_turns, deaths_idle;

#define POINT(f, hits, steps)                                                                                          \
    { #f, (const void *)(uintptr_t)(f), hits, steps }
struct point {
    const char *name;
    const void *at;
    uint32_t hits;  /* at the first to this time that it comes here */
    uint32_t steps; /* at most so many instructions further */
};
static const struct point points[] = {
    POINT(turn_commit, 2, 60),      POINT(turn_commit, 4, 500),    POINT(turn_commit, 3, 250),
    POINT(turn_run, 3, 3000),       POINT(record_handle, 30, 500), POINT(publish, 20, 1000),
    POINT(interest_sub, 8, 1500),   POINT(interest_unsub, 3, 800), POINT(interest_drop, 4, 400),
    POINT(admit_bind, 3, 2000),     POINT(admit_close, 2, 600),    POINT(egress_marks_write, 2, 300),
    POINT(takeover_begin, 1, 6000), POINT(takeover_step, 3, 4000), POINT(note_send, 2, 60),
    POINT(rights_publish, 8, 800),  POINT(rights_deliver, 8, 800),
};
static const struct point rights_points[] = {
    POINT(replies_give, 20, 500), POINT(replies_spend, 30, 500),  POINT(replies_recover, 1, 3000),
    POINT(turn_commit, 4, 300),   POINT(rights_publish, 30, 900), POINT(rights_recheck_step, 2, 5000),
    POINT(interest_drop, 8, 600), POINT(publish, 30, 900),        POINT(record_deny_sub, 8, 300),
};
static const struct point *points_now;
static uint32_t points_count;

static void write_word(const void *at, long word) {
    check(ptrace(PTRACE_POKETEXT, w.child, (void *)(uintptr_t)at, (void *)word) == 0);
}

static long read_word(const void *at) {
    return ptrace(PTRACE_PEEKTEXT, w.child, (void *)(uintptr_t)at, NULL);
}

static long with_trap(long word) {
    return (long)(((unsigned long)word & ~0xfful) | 0xcc);
}

static void go(void) {
    check(ptrace(PTRACE_CONT, w.child, NULL, NULL) == 0);
}

static void fail_if_dead(int status) {
    if (WIFSTOPPED(status) && (WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP))
        return;
    ck_abort_msg("seed %llu: the router died by itself (status %x)", (unsigned long long)seed, status);
}

static int wait_stop(void) {
    int status;
    check(waitpid(w.child, &status, 0) == w.child);
    fail_if_dead(status);
    return WSTOPSIG(status);
}

static void fork_stopped(void) {
    world_fork(&w, true);
    check(wait_stop() == SIGSTOP); /* before takeover_begin */
    lives++;
}

/* The child stands at the trap that it ran into; it goes back to the instruction that was there. */
static void step_back(const void *at, long word) {
    struct user_regs_struct regs;
    write_word(at, word);
    check(ptrace(PTRACE_GETREGS, w.child, NULL, &regs) == 0);
    check(regs.rip == (uintptr_t)at + 1);
    regs.rip--;
    check(ptrace(PTRACE_SETREGS, w.child, NULL, &regs) == 0);
}

static bool single_step(void) {
    check(ptrace(PTRACE_SINGLESTEP, w.child, NULL, NULL) == 0);
    return wait_stop() == SIGTRAP;
}

static bool at_rest(void) {
    if (!w.ready)
        return false;
    for (uint32_t i = 0; i < LINKS; i++) {
        struct edge *e = &w.edge[i];
        check(ring_writer_refresh(&e->ingress));
        if (e->ingress.consumed_pos != e->ingress.head_pos)
            return false;
    }
    return true;
}

_Noreturn static void give_up(void) {
    for (uint32_t i = 0; i < LINKS; i++) {
        const struct edge *e = &w.edge[i];
        printf("link %u%s: ingress %llu of %llu consumed, egress %llu of %llu read, replay %llu of %llu\n", i,
               e->bad ? " (bad)" : "", (unsigned long long)e->ingress.consumed_pos,
               (unsigned long long)e->ingress.head_pos, (unsigned long long)e->egress.tail_pos,
               (unsigned long long)e->egress.produced_pos, (unsigned long long)e->snapshot_at,
               (unsigned long long)e->snapshot_len);
    }
    char command[64];
    snprintf(command, sizeof command, "head -3 /proc/%d/status", (int)w.child);
    fflush(stdout);
    (void)!system(command);
    ck_abort_msg("seed %llu: the world does not come to rest (%s, %s)", (unsigned long long)seed,
                 w.recovered ? "recovered" : "not recovered", w.ready ? "ready" : "not ready");
}

/* From a stopped child: lets it run, the edges too, until the point was met `hits` times (true; it stands there) or all is
 * done (false; it runs, without the trap). */
static bool run_to(const struct point *p, uint32_t hits) {
    long word = p ? read_word(p->at) : 0;
    if (p)
        write_word(p->at, with_trap(word));
    go();
    uint64_t until = clock_mono_ms() + 20000;
    for (uint32_t quiet = 0;;) {
        int status;
        if (waitpid(w.child, &status, WNOHANG) == w.child) {
            fail_if_dead(status);
            if (WSTOPSIG(status) == SIGSTOP) { /* before its first turn */
                go();
                continue;
            }
            step_back(p->at, word);
            if (--hits == 0)
                return true;
            single_step();
            write_word(p->at, with_trap(word));
            go();
            continue;
        }
        bool moved = world_edges_step(&w);
        quiet = !moved && at_rest() ? quiet + 1 : 0;
        if (quiet > 20)
            break;
        if (!moved)
            usleep(50);
        if (clock_mono_ms() > until) {
            printf("%s hits %u quiet %u moved %d rest %d\n", p ? p->name : "", hits, quiet, moved, at_rest());
            give_up();
        }
    }
    if (!p)
        return false;
    kill(w.child, SIGSTOP);
    if (wait_stop() == SIGTRAP) {
        step_back(p->at, word);
        return true;
    }
    write_word(p->at, word);
    go();
    return false;
}

/* A child that runs is stopped where it is. */
static void stop(void) {
    kill(w.child, SIGSTOP);
    wait_stop();
}

/* One life, from stopped to dead. False: there was nothing left to do. */
static bool live_and_die(struct rnd *r) {
    bool idle = false;
    uint32_t dice = rnd_below(r, 10);
    if (dice == 0) { /* at any moment of its own time */
        go();
        uint64_t until = clock_mono_ns() + rnd_below(r, 2000000);
        while (clock_mono_ns() < until) {
            int status;
            if (waitpid(w.child, &status, WNOHANG) == w.child) {
                fail_if_dead(status);
                go();
            }
            world_edges_step(&w);
        }
    } else {
        const struct point *p = &points_now[rnd_below(r, points_count)];
        if (run_to(p, 1 + rnd_below(r, p->hits))) {
            for (uint32_t n = rnd_below(r, 1 + p->steps); n > 0; n--) {
                single_step();
                if (rnd_below(r, 200) == 0)
                    world_edges_step(&w);
            }
        } else {
            idle = true;
        }
    }
    deaths_idle += idle;
    if (w.ready)
        deaths_in_turns++;
    else
        deaths_in_takeover++;
    world_kill(&w);
    return !idle;
}

/* Until everything is consumed by a router that lives. */
static void settle(void) {
    run_to(NULL, 0);
    stop();
}

START_TEST(test_death_at_any_instruction) {
    uint64_t until = clock_mono_ms() + 1000 * env_number("ROUTER_DEATH_SECONDS", 8);
    points_now = points, points_count = sizeof points / sizeof *points;
    for (seed = env_number("ROUTER_DEATH_SEED", 1); clock_mono_ms() < until; seed++) {
        struct stream *s = stream_make(seed, LINKS, BATCHES);
        struct rnd r = {seed ^ 0xdead};
        begin(s, &r);
        fork_stopped();
        for (uint32_t i = 0; i < s->batch_count; i++) {
            for (uint32_t k = 0; k < s->batch[i].count; k++)
                run_op(&run, &s->op[s->batch[i].first + k]);
            run_publish(&run);
            for (bool more = true; more && rnd_below(&r, 4) != 0;) {
                for (uint32_t n = 0; n < LINKS; n++)
                    w.edge[n].paused = rnd_below(&r, 4) == 0;
                for (uint32_t n = 0; n < LINKS; n++)
                    w.edge[n].paused &= rnd_below(&r, 4) == 0;
                more = live_and_die(&r);
                for (uint32_t n = 0; n < LINKS; n++)
                    w.edge[n].paused = false;
                fork_stopped();
            }
            settle();
        }
        end("cut at any instruction");
        stream_free(s);
    }
    printf("%llu seeds, %llu routers; deaths: %llu in a takeover, %llu in traffic, %llu of them idle\n",
           (unsigned long long)(seed - env_number("ROUTER_DEATH_SEED", 1)), (unsigned long long)lives,
           (unsigned long long)deaths_in_takeover, (unsigned long long)deaths_in_turns,
           (unsigned long long)deaths_idle);
}
END_TEST

/* ---- rights ---- */

enum { ASKED = 24, ANSWERS = 3, ALLOWED = 2, SUBS = 40, ROUNDS = 6 };

static uint32_t answered[ASKED];

static void count_answer(struct edge *e, uint32_t slot, const struct record *rec, struct view subject,
                         struct view reply, const uint8_t *payload) {
    (void)e, (void)slot, (void)rec, (void)reply, (void)payload;
    char name[16];
    snprintf(name, sizeof name, "%.*s", (int)subject.len, subject.at);
    answered[strtoul(name + 2, NULL, 10) % ASKED]++;
}

static uint32_t join(struct edge *e, uint32_t principal, uint32_t permissions) {
    uint32_t n = edge_number(e);
    struct binding b = edge_binding(e, n, 1);
    b.principal = principal;
    b.permissions = permissions;
    binding_seal(&b, &w.key);
    edge_bind(e, n, &b);
    return n;
}

/* Everything that was published is handled, by however many routers. */
static void live_through(struct rnd *r) {
    for (uint32_t i = 0; i < LINKS; i++)
        edge_publish(&w.edge[i]);
    for (bool more = true; more && rnd_below(r, 5) != 0;) {
        more = live_and_die(r);
        fork_stopped();
    }
    settle();
}

static void round_of_answers(struct rnd *r, uint32_t client, uint32_t service, uint32_t round) {
    char reply[16];
    memset(answered, 0, sizeof answered);
    uint32_t denied = w.edge[1].conn[service].deny_count;
    for (uint32_t i = 0; i < ASKED; i++) {
        snprintf(reply, sizeof reply, "r.%u", round * ASKED + i);
        edge_pub(&w.edge[0], client, "ask", reply, "x", 1, 0);
    }
    live_through(r);
    for (uint32_t i = 0; i < ASKED * ANSWERS; i++) {
        snprintf(reply, sizeof reply, "r.%u", round * ASKED + i % ASKED);
        edge_pub(&w.edge[1], service, reply, NULL, "x", 1, 0);
    }
    live_through(r);
    for (uint32_t i = 0; i < ASKED; i++)
        ck_assert_msg(answered[i] == ALLOWED, "seed %llu round %u: %u answers, not %u", (unsigned long long)seed, round,
                      answered[i], ALLOWED);
    ck_assert_uint_eq(w.edge[1].conn[service].deny_count - denied, ASKED * (ANSWERS - ALLOWED));
}

/* Half of the subscriptions are taken away and told of once each, whoever does it. */
static void round_of_removals(struct rnd *r, uint32_t user, uint32_t round) {
    struct edge *e = &w.edge[2];
    uint32_t slots[SUBS], denied = e->conn[user].deny_count;
    world_permit(&w, 1, 3, 0, 0);
    world_kill(&w);
    fork_stopped();
    for (uint32_t i = 0; i < SUBS; i++) {
        char subject[32];
        snprintf(subject, sizeof subject, "%s.%u.%u", i % 2 ? "lost" : "keep", round, i);
        slots[i] = edge_subscribe(e, user, subject, i % 3 ? NULL : "q", RECORD_NO_SLOT, 0);
    }
    live_through(r);
    world_permit(&w, 1, 3, 2, 0);
    world_kill(&w);
    fork_stopped();
    live_through(r);
    uint64_t until = clock_mono_ms() + 20000; /* no record of the edge waits for it, so rest is not the end of it */
    while (e->conn[user].deny_count - denied < SUBS / 2 && clock_mono_ms() < until)
        settle();
    ck_assert_uint_eq(e->conn[user].deny_count - denied, SUBS / 2);
    for (uint32_t i = 0; i < SUBS; i++)
        ck_assert_msg(e->sub[slots[i]].used == (i % 2 == 0), "seed %llu round %u: subscription %u",
                      (unsigned long long)seed, round, i);
    for (uint32_t i = 0; i < SUBS; i += 2)
        edge_unsub(e, user, slots[i], 0, 0);
}

START_TEST(test_rights_at_any_instruction) {
    uint64_t until = clock_mono_ms() + 1000 * env_number("ROUTER_DEATH_SECONDS", 8);
    points_now = rights_points, points_count = sizeof rights_points / sizeof *rights_points;
    for (seed = env_number("ROUTER_DEATH_SEED", 1); clock_mono_ms() < until; seed++) {
        struct rnd r = {seed ^ 0xa11};
        world_make(&w, LINKS, 160 * 1024, 1 << 20);
        w.settings.source_wait_ms = w.settings.source_share_ms = 10000;
        w.settings.edge_dead_ms = 20000;
        world_rules(&w, 1, (const char *const[]){"+pub", "-pub r.>"}, 2, ALLOWED, 0);
        world_rules(&w, 2, (const char *const[]){"+sub keep.>", "-pub x"}, 2, 0, 0);
        w.edge[0].delivered = count_answer;
        fork_stopped();
        uint32_t client = join(&w.edge[0], 1, 0), service = join(&w.edge[1], 2, 1), user = join(&w.edge[2], 3, 0);
        edge_subscribe(&w.edge[0], client, "r.>", NULL, RECORD_NO_SLOT, 0);
        edge_subscribe(&w.edge[1], service, "ask", NULL, RECORD_NO_SLOT, 0);
        live_through(&r);
        for (uint32_t round = 0; round < ROUNDS; round++) {
            round_of_answers(&r, client, service, round);
            round_of_removals(&r, user, round);
        }
        for (uint32_t i = 0; i < LINKS; i++)
            ck_assert(!w.edge[i].bad);
        world_free(&w);
    }
    printf("rights: %llu seeds, %llu routers; deaths: %llu in a takeover, %llu in traffic, %llu of them idle\n",
           (unsigned long long)(seed - env_number("ROUTER_DEATH_SEED", 1)), (unsigned long long)lives,
           (unsigned long long)deaths_in_takeover, (unsigned long long)deaths_in_turns,
           (unsigned long long)deaths_idle);
}
END_TEST

#endif

int main(void) {
    Suite *suite = suite_create("router death");
    TCase *c = tcase_create("death");
    tcase_set_timeout(c, 3600);
    tcase_add_test(c, test_uncut);
    tcase_add_test(c, test_death_at_every_record);
#if defined(__x86_64__)
    tcase_add_test(c, test_death_at_any_instruction);
    tcase_add_test(c, test_rights_at_any_instruction);
#endif
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
