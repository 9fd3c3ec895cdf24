/* SPDX-License-Identifier: Apache-2.0 */
/* What a server pays for what it holds, and for those who come and go. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/load.h"

enum { SETTLE_S = 2, SUB_CONNS = 16, RANDOM_BLOCKS = 256, IDLE_S = 5 };

/* ---- idle connections ---- */

void mode_conns(const struct options *o) {
    struct tree tree;
    for (int i = 0; i < 100; i++) { /* what the first ones cost is not the price of each */
        struct conn c = net_open(o);
        net_printf(c, "SUB warm.%d 1\r\n", i);
        net_flush(c);
    }
    tree_find(&tree, o->pid);
    sleep(SETTLE_S);
    double before = tree_pss_kb(&tree);
    for (uint32_t i = 0; i < o->count; i++)
        net_printf(net_open(o), "SUB idle.%u 1\r\n", i);
    sleep(SETTLE_S);
    put_number("count", o->count);
    put_number("before_kb", before);
    put_number("bytes_each", (tree_pss_kb(&tree) - before) * 1024 / o->count);
}

/* ---- many subscriptions ---- */

static int subject_of(char *to, size_t cap, uint32_t i) {
    return snprintf(to, cap, "load.a%u.b%u.c%07u", i % 100, i / 100 % 100, i);
}

/* Some megabytes that nobody wants, through every connection: buffers and rings that a server has anyway are in use
 * before memory is measured. */
static void warm_up(const struct conn *conn) {
    enum { LINES = 8000, SIZE = 1000 };
    char line[SIZE + 32];
    int len = sprintf(line, "PUB load.warm %d\r\n", SIZE);
    memset(line + len, 'x', SIZE);
    memcpy(line + len + SIZE, "\r\n", 2);
    for (uint32_t c = 0; c < SUB_CONNS; c++) {
        for (int i = 0; i < LINES / SUB_CONNS * 4; i++)
            net_write(conn[c], line, (size_t)len + SIZE + 2);
        net_flush(conn[c]);
    }
}

static void subscribe_all(const struct conn *conn, uint32_t count) {
    enum { LINE_MAX = 96 };
    char *text = take(BLOCK_BYTES + LINE_MAX);
    for (uint32_t c = 0; c < SUB_CONNS; c++) {
        size_t len = 0;
        for (uint32_t i = c; i < count; i += SUB_CONNS) {
            char subject[64];
            subject_of(subject, sizeof subject, i);
            len += (size_t)snprintf(text + len, LINE_MAX, "SUB %s %u\r\n", subject, i + 1);
            if (len >= BLOCK_BYTES) {
                net_write(conn[c], text, len);
                len = 0;
            }
        }
        net_write(conn[c], text, len);
    }
    for (uint32_t c = 0; c < SUB_CONNS; c++)
        net_flush(conn[c]);
}

/* Messages to random ones of the subscriptions: blocks that are written in turn. */
static struct block *random_blocks(uint32_t count, uint32_t size) {
    uint64_t random = 88172645463325252u;
    struct block *blocks = take(RANDOM_BLOCKS * sizeof *blocks);
    for (uint32_t b = 0; b < RANDOM_BLOCKS; b++) {
        blocks[b].bytes = take((size_t)BLOCK_BYTES + size + 256);
        while (blocks[b].len < BLOCK_BYTES) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            uint32_t i = (uint32_t)(random >> 33) % count;
            char subject[64], delivered[128];
            char *to = blocks[b].bytes + blocks[b].len;
            subject_of(subject, sizeof subject, i);
            int line = sprintf(to, "PUB %s %u\r\n", subject, size);
            memset(to + line, 'x', size);
            memcpy(to + line + size, "\r\n", 2);
            blocks[b].len += (size_t)line + size + 2;
            blocks[b].messages++;
            blocks[b].out_bytes +=
                (size_t)snprintf(delivered, sizeof delivered, "MSG %s %u %u\r\n", subject, i + 1, size) + size + 2;
        }
    }
    return blocks;
}

void mode_subs(const struct options *o) {
    struct tree tree;
    struct conn conn[SUB_CONNS];
    for (int i = 0; i < SUB_CONNS; i++)
        conn[i] = net_open(o);
    tree_find(&tree, o->pid);
    warm_up(conn);
    sleep(1);
    double before = tree_pss_kb(&tree);
    uint64_t start = now_ns();
    subscribe_all(conn, o->count);
    double took = (double)(now_ns() - start) * 1e-9;
    sleep(SETTLE_S);
    put_number("count", o->count);
    put_number("insert_rate", o->count / took);
    put_number("bytes_each", (tree_pss_kb(&tree) - before) * 1024 / o->count);
    struct publisher publisher = {
        .conn = net_open(o), .block = random_blocks(o->count, o->size), .block_count = RANDOM_BLOCKS};
    struct flow flow = {.pub = &publisher, .pub_count = 1, .sub = conn, .sub_count = SUB_CONNS, .copies = 1};
    flow_run(o, &flow);
}

/* ---- new connections ---- */

static atomic_bool connect_over;
static atomic_ullong connect_count;

static void *connect_again(void *arg) {
    while (!atomic_load(&connect_over)) {
        net_close(net_open(arg));
        atomic_fetch_add(&connect_count, 1);
    }
    return NULL;
}

void mode_connect(const struct options *o) {
    pthread_t thread[64];
    struct options shared = *o;
    struct tree tree;
    uint32_t threads = o->pubs < 64 ? o->pubs : 64;
    tree_find(&tree, o->pid);
    struct cpu begin = tree_cpu(&tree);
    uint64_t start = now_ns();
    for (uint32_t i = 0; i < threads; i++)
        pthread_create(&thread[i], NULL, connect_again, &shared);
    load_pause(o, &tree, begin);
    atomic_store(&connect_over, true);
    for (uint32_t i = 0; i < threads; i++)
        pthread_join(thread[i], NULL);
    double took = (double)(now_ns() - start) * 1e-9, count = (double)atomic_load(&connect_count);
    struct cpu end = tree_cpu(&tree);
    put_number("threads", threads);
    put_number("rate", count / took);
    put_number("cpu_ns", (end.user_s + end.system_s - begin.user_s - begin.system_s) / count * 1e9);
}

/* ---- nothing ---- */

void mode_idle(const struct options *o) {
    struct tree tree;
    tree_find(&tree, o->pid);
    sleep(SETTLE_S);
    struct cpu begin = tree_cpu(&tree);
    sleep(IDLE_S);
    struct cpu end = tree_cpu(&tree);
    put_number("cpu_ms", (end.user_s + end.system_s - begin.user_s - begin.system_s) * 1000);
    put_number("pss_kb", tree_pss_kb(&tree));
    for (uint32_t i = 0; i < tree.count; i++) {
        char name[64], field[96];
        process_name(tree.pid[i], name, sizeof name);
        snprintf(field, sizeof field, "pss_kb %s %u", name, i);
        put_number(field, process_pss_kb(tree.pid[i]));
    }
}
