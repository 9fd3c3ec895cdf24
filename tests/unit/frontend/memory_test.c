/* SPDX-License-Identifier: Apache-2.0 */
/* Memory is short on one connection's behalf: each allocation that the frontend makes in a scene fails once. Whatever it was, the
 * process lives, the other connections go on, a connection that could not have what it needed is closed and counted, and one that
 * is not closed has got every message. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/alloc.h"
#include "tests/support/front.h"
#include "tests/unit/unit.h"

enum { CLIENTS = 4, ALLOCS_MAX = 2000 };

static struct front w;
static struct front_client honest, client[CLIENTS];
static uint64_t expected; /* messages for client[0], if it lives */
static long fail_at;      /* this allocation of the turns fails */
static long failed;

#define QUIET "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n"

/* A turn in which the allocation may fail. */
static void turn(void) {
    allocs_arm(fail_at, 1);
    front_turn(&w);
    fail_at = allocs.before;
    failed += allocs_disarm();
}

static void turns(void) {
    for (int i = 0; i < 6; i++) {
        turn();
        front_authd_read(&w);
        front_router(&w, UINT32_MAX);
    }
}

/* The same without the router. */
static void turns_held(void) {
    for (int i = 0; i < 3; i++)
        turn();
}

static void say(struct front_client *c, const char *text) {
    ck_assert(c->fd >= 0);
    front_client_send(c, text, strlen(text));
}

static void say_many(struct front_client *c, const char *text, int count) {
    for (int i = 0; i < count; i++)
        say(c, text);
}

static void join(struct front_client *c, const char *text) {
    front_client_open(&w, c);
    say(c, text);
    turns();
}

/* ---- scenes ---- */

static void scene_hello(void) {
    join(&client[0], QUIET "SUB a 1\r\nPUB a 2\r\nhi\r\nPING\r\n");
    expected = 1;
}

static void scene_lines(void) {
    join(&client[0], "CONNECT {\"verbose\":true,\"pedantic\":true}\r\nSUB a 1\r\n");
    say(&client[0], "PUB a..b 2\r\nhi\r\nUNSUB 9\r\nUNSUB 1 5\r\nPING\r\nCONNECT {\"echo\":true}\r\nPUB a 2\r\nhi\r\n");
    turns();
    expected = 1;
}

static void scene_cut(void) {
    static char large[20000];
    memset(large, 'x', sizeof large);
    join(&client[0], QUIET "SUB a 1\r\nPUB a 5\r\nhe");
    say(&client[0], "llo\r\nPUB a 20000\r\n");
    turns();
    front_client_send(&client[0], large, 9000);
    turns();
    front_client_send(&client[0], large, 11000);
    say(&client[0], "\r\nPI");
    turns();
    expected = 2;
}

static void scene_pings(void) {
    join(&client[0], QUIET "SUB a 1\r\n");
    say(&client[0], "PUB a 2\r\nhi\r\n");
    turns_held();
    say_many(&client[0], "PING\r\n", 5000);
    turns_held();
    for (int i = 0; i < 4; i++)
        turns();
    expected = 1;
}

static void scene_large(void) {
    for (int i = 0; i < 3; i++)
        join(&client[i], QUIET "SUB a 1\r\n");
    uint32_t slot = front_slot_at(&w, 0);
    if (slot == RECORD_NO_SLOT)
        return;
    uint32_t all = w.slot[slot].used + 3u;
    front_router_deliver(&w, slot, all, 20000, 8, true); /* shared */
    turns();
    for (int i = 0; i < 12; i++)
        front_router_deliver(&w, slot, 1, 20000, 0, false); /* borrowed, and kept when the socket is full */
    turns();
}

static void scene_subs(void) {
    char line[64];
    join(&client[0], QUIET);
    for (int i = 0; i < 1500; i++) {
        size_t len = (size_t)sprintf(line, "SUB subject.number.%d %d\r\n", i, i);
        front_client_send(&client[0], line, len);
    }
    turns();
    say_many(&client[0], "UNSUB 7\r\n", 2);
    turns();
}

static void scene_close(void) {
    join(&client[0], QUIET "SUB a 1\r\n");
    join(&client[1], QUIET "SUB a 1\r\n");
    front_client_close(&client[0]);
    say(&client[1], "GARBAGE\r\n");
    turns();
}

static void scene_crowd(void) {
    static struct front_client crowd[300];
    for (int i = 0; i < 300; i++)
        front_client_open(&w, &crowd[i]);
    for (int i = 0; i < 6; i++)
        turns();
    for (int i = 0; i < 300; i++)
        front_client_close(&crowd[i]);
    turns();
}

static void scene_login(void) {
    char text[1600];
    snprintf(text, sizeof text,
             "CONNECT {\"verbose\":false,\"user\":\"a\",\"name\":\"n\",\"pass\":\"%0800d\"}\r\nSUB a 1\r\n", 7);
    join(&client[0], text);
    front_authd_bind(&w, 0, 0);
    turns();
    say(&client[0], "PUB a 2\r\nhi\r\nCONNECT {\"verbose\":false,\"user\":\"b\",\"pass\":\"b\"}\r\nPING\r\n");
    turns();
    front_authd_bind(&w, 0, 0);
    turns();
    expected = 1;
    join(&client[1], "CONNECT {\"user\":\"b\",\"jwt\":\"j\"}\r\n");
    front_authd_refuse(&w, BULKHEAD__REFUSAL_REASON__REFUSAL_AUTHORIZATION);
    turns();
}

static void scene_tls(void) {
    static const char part[] = {0x16, 3, 1, 2, 0, 1, 0, 1};
    front_client_open(&w, &client[0]);
    turns();
    front_client_send(&client[0], part, sizeof part);
    turns();
    join(&client[1], QUIET "SUB a 1\r\nPUB a 2\r\nhi\r\n");
}

static const struct scene {
    const char *name;
    void (*run)(void);
    bool login, tls;
} scenes[] = {
    {"hello", scene_hello, false, false}, {"lines", scene_lines, false, false}, {"cut", scene_cut, false, false},
    {"pings", scene_pings, false, false}, {"large", scene_large, false, false}, {"subs", scene_subs, false, false},
    {"close", scene_close, false, false}, {"crowd", scene_crowd, false, false}, {"login", scene_login, true, false},
    {"tls", scene_tls, false, true},
};

/* ---- what must hold ---- */

static uint64_t counted(enum counter which) {
    return counter_get(w.f.counters, which);
}

static bool closed(struct front_client *c) {
    char byte;
    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void look_at_honest(const char *name, long at) {
    uint64_t before = honest.pongs;
    say(&honest, "PING\r\n");
    front_settle(&w);
    front_client_read(&honest);
    ck_assert_msg(honest.pongs == before + 1, "%s, allocation %ld: the others go on", name, at);
}

static void look_at_client(const char *name, long at, uint64_t kicked) {
    if (client[0].fd < 0 || expected == 0)
        return;
    front_client_read(&client[0]);
    bool gone = closed(&client[0]);
    uint64_t more = counted(COUNTER_MEMORY_KICKED) - kicked;
    ck_assert_msg(gone ? more == 1 || client[0].infos == 0 : client[0].messages == expected,
                  "%s, allocation %ld: closed %d, counted %lu, messages %lu of %lu", name, at, gone,
                  (unsigned long)more, (unsigned long)client[0].messages, (unsigned long)expected);
}

static void leave_all(void) {
    for (int i = 0; i < CLIENTS; i++)
        front_client_close(&client[i]);
    front_settle(&w);
    front_pass(&w, 3000);
    front_settle(&w);
    while (w.login_count > 0)
        front_authd_refuse(&w, BULKHEAD__REFUSAL_REASON__REFUSAL_STALE);
    front_settle(&w);
    ck_assert(w.f.client_count == 1 && w.f.heap_count == 1 && w.f.sub_count == 0);
}

START_TEST(test_each_allocation) {
    const struct scene *s = &scenes[_i];
    front_open(&w);
    struct tls_context *tls = s->tls ? front_tls(&w) : NULL;
    front_authd_new(&w, false, false, false);
    front_settle(&w);
    front_client_open(&w, &honest);
    say(&honest, QUIET);
    for (int i = 0; i < CLIENTS; i++)
        client[i].fd = -1;
    look_at_honest(s->name, -1);
    front_authd_new(&w, s->login, false, false);
    w.f.tls = tls;
    front_settle(&w);
    long at = 0;
    do {
        ck_assert_msg(at < ALLOCS_MAX, "%s ends", s->name);
        uint64_t kicked = counted(COUNTER_MEMORY_KICKED);
        failed = 0;
        expected = 0;
        fail_at = at;
        s->run();
        look_at_honest(s->name, at);
        look_at_client(s->name, at, kicked);
        leave_all();
        at++;
    } while (failed > 0);
    ck_assert_msg(at > 1, "%s allocates", s->name);
}
END_TEST

int main(void) {
    /* The supervisor's descriptor, before Check takes it. */
    int taken = open("/dev/null", O_RDONLY);
    while (taken >= 0 && taken < CONTROL_FD)
        taken = dup(taken);
    Suite *s = suite_create("memory");
    TCase *t = tcase_create("memory");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, test_each_allocation, 0, (int)(sizeof scenes / sizeof *scenes));
    suite_add_tcase(s, t);
    return unit_run(s);
}
