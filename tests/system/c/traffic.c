/* SPDX-License-Identifier: Apache-2.0 */
/* tests/system/c/traffic.c: traffic of all kinds that notices every fault of the server.
 *
 * Arguments: port, clients, subscriptions of each, batches that each publisher has under way, milliseconds that it waits
 * before each of them (0: without pause). It goes on until it is told otherwise by lines on stdin:
 *
 *   mark   every loop below shall complete one more cycle that begins after this; then `flows: longest fence N us, longest
 *          login N us` is printed, of all that ended since the mark before
 *   stop   the publishers stop, everything is counted, sums are printed, and `ok`
 *
 * Prints `ready` at the start. Any connection that ends, any -ERR, any message that is lost, doubled, out of order, or of
 * somebody else ends the program with a line about it.
 *
 *   publishers  PUBLISHERS of the clients publish p.K, in batches, each followed by PING; message number S of one has
 *               subject K = (S * STEP + p) mod SUBJECTS and is the S / SUBJECTS-th there
 *   clients     subscriptions t.P.K, t.*.K, t.P.*, t.P.> and queue members of t.P.K and t.*.K
 *   probes      A publishes and flushes, then B flushes and must have the message: fences
 *   counted     SUB, UNSUB with a maximum, one message after the other until there are more: exactly that many come
 *   cutoffs     SUB, one message, UNSUB, one message: exactly one comes
 *   asks        requests to responders that are always there are never answered by 503; to nobody always
 *   comers      connect, subscribe, publish to themselves, close
 */
#include "wire.h"

enum {
    PUBLISHERS = 8,
    SUBJECTS = 251,
    STEP = 97,
    GROUPS = 300,
    BATCH = 20,
    N_MAX = 1 << 16, /* messages on one subject */
    PROBES = 6,
    COUNTED = 12,
    CUTOFFS = 6,
    ASKS = 4,
    COMERS = 3,
    MAXIMUM = 20, /* of the counted ones */
    RESPONDERS = 2,
};

enum sub_kind { SUB_LITERAL, SUB_ANY_P, SUB_ANY_K, SUB_REST, SUB_QUEUE };

struct sub {
    enum sub_kind kind;
    uint32_t p, k, group;
    uint32_t next[PUBLISHERS]; /* by publisher: the next number; for a queue member the lowest that may come */
};

struct group {
    uint32_t p, k;
    bool any_p;
    uint8_t *got[PUBLISHERS]; /* bitmap by number */
    uint32_t count[PUBLISHERS];
};

/* A state machine over one or two connections. */
struct loop {
    void (*on_message)(struct loop *l, struct wire *w, const struct wire_msg *m);
    void (*on_pong)(struct loop *l, struct wire *w);
    const char *name;
    struct wire a, b;
    uint32_t index, state, cycle, got, rounds;
    uint32_t owed;              /* cycles that the mark waits for */
    uint64_t began, moved, due; /* due: when the next batch of a publisher is to be sent; 0: not by time */
};

static int port, epoll;
static uint32_t client_count, subs_each, window, interval_us;
static struct sub *sub;
static struct loop *client;
static struct group group[GROUPS];
static uint32_t sequence[PUBLISHERS], outstanding[PUBLISHERS];
static bool stopping, started;
static uint64_t deliveries, longest_fence, longest_login;
static struct loop probe[PROBES], counted[COUNTED], cutoff[CUTOFFS], ask[ASKS], comer[COMERS], responder[RESPONDERS];
static uint64_t cycles_probe, cycles_counted, cycles_cutoff, cycles_ask, cycles_comer;
static struct {
    struct loop *at;
    uint32_t count;
} const all_loops[] = {{probe, PROBES}, {counted, COUNTED}, {cutoff, CUTOFFS}, {ask, ASKS}, {comer, COMERS}};
enum { LOOP_KINDS = sizeof all_loops / sizeof *all_loops };

static void completed(struct loop *l, uint64_t *cycles) {
    ++*cycles;
    l->cycle++;
    if (l->owed > 0)
        l->owed--;
}

static void expect_got(struct loop *l, uint32_t wanted, const char *when) {
    if (l->got != wanted)
        fail("%s %u, cycle %u: %u messages %s, expected %u", l->name, l->index, l->cycle, l->got, when, wanted);
}

/* ---- clients and publishers ---- */

static uint32_t subject_of(uint32_t p, uint32_t s) {
    return (uint32_t)(((uint64_t)s * STEP + p) % SUBJECTS);
}

static uint32_t published(uint32_t p, uint32_t k) {
    uint32_t rest = 0;
    for (uint32_t s = sequence[p] - sequence[p] % SUBJECTS; s < sequence[p]; s++)
        rest += subject_of(p, s) == k;
    return sequence[p] / SUBJECTS + rest;
}

static void publish_batch(uint32_t p) {
    static char filler[2048];
    struct wire *w = &client[p].a;
    if (!filler[0])
        memset(filler, 'f', sizeof filler - 1);
    for (uint32_t i = 0; i < BATCH; i++) {
        uint32_t s = sequence[p]++, k = subject_of(p, s), fill = s % 16 == 0 ? 2000 : 8;
        char text[64];
        if (s / SUBJECTS >= N_MAX)
            fail("too many messages for one run");
        int len = snprintf(text, sizeof text, "%u %u %u ", p, s, s / SUBJECTS);
        wire_print(w, "PUB t.%u.%u %u\r\n%s%.*s\r\n", p, k, (uint32_t)len + fill, text, (int)fill, filler);
    }
    wire_print(w, "PING\r\n");
    outstanding[p]++;
}

static void group_take(struct group *g, uint32_t p, uint32_t n) {
    if (!g->got[p]) {
        g->got[p] = calloc(N_MAX / 8, 1);
        if (!g->got[p])
            fail("no memory");
    }
    uint8_t bit = (uint8_t)(1u << (n % 8));
    if (g->got[p][n / 8] & bit)
        fail("queue group %u got message %u of publisher %u a second time", (uint32_t)(g - group), n, p);
    g->got[p][n / 8] |= bit;
    g->count[p]++;
}

static void client_message(struct loop *l, struct wire *w, const struct wire_msg *m) {
    uint32_t p, s, n, k, told_p;
    char subject[64], text[64];
    (void)w;
    if (m->subject.len >= sizeof subject || m->payload.len < 8 || m->sid < 1 || m->sid > subs_each)
        fail("client %u: a message of somebody else: %.*s", l->index, (int)m->line.len, m->line.at);
    snprintf(subject, sizeof subject, "%.*s", (int)m->subject.len, m->subject.at);
    snprintf(text, sizeof text, "%.*s", (int)(m->payload.len < 40 ? m->payload.len : 40), m->payload.at);
    if (sscanf(subject, "t.%u.%u", &told_p, &k) != 2 || sscanf(text, "%u %u %u ", &p, &s, &n) != 3 || p >= PUBLISHERS ||
        told_p != p || k != subject_of(p, s) || n != s / SUBJECTS || s >= sequence[p])
        fail("client %u: not a message that was published: %.*s %s", l->index, (int)m->line.len, m->line.at, text);
    struct sub *b = &sub[l->index * subs_each + m->sid - 1];
    bool any_p = b->kind == SUB_ANY_P || (b->kind == SUB_QUEUE && group[b->group].any_p);
    bool any_k = b->kind == SUB_ANY_K || b->kind == SUB_REST;
    if ((!any_p && p != b->p) || (!any_k && k != b->k))
        fail("client %u sid %u: %s does not match", l->index, m->sid, subject);
    uint32_t number = any_k ? s : n;
    if (b->kind == SUB_QUEUE ? number < b->next[p] : number != b->next[p])
        fail("client %u sid %u (%s): message %u of publisher %u on %s, expected %u%s", l->index, m->sid,
             b->kind == SUB_QUEUE ? "queue"
             : any_p || any_k     ? "wildcard"
                                  : "literal",
             number, p, subject, b->next[p], number < b->next[p] ? ": doubled or out of order" : ": some are lost");
    b->next[p] = number + 1;
    if (b->kind == SUB_QUEUE)
        group_take(&group[b->group], p, n);
    deliveries++;
}

static void client_pong(struct loop *l, struct wire *w) {
    (void)w;
    l->state++;
    if (l->index >= PUBLISHERS || !started)
        return;
    if (outstanding[l->index] > 0)
        outstanding[l->index]--;
    l->moved = now_us();
    if (l->owed > 0)
        l->owed--;
    l->due = l->moved + interval_us;
}

static void publish_due(void) {
    uint64_t now = now_us();
    for (uint32_t p = 0; p < PUBLISHERS && !stopping; p++) {
        while (outstanding[p] < window && now >= client[p].due) {
            publish_batch(p);
            wire_flush(&client[p].a);
        }
    }
}

static void client_subscribe(struct loop *l) {
    for (uint32_t j = 0; j < subs_each; j++) {
        struct sub *b = &sub[l->index * subs_each + j];
        *b = (struct sub){.p = (uint32_t)rand() % PUBLISHERS, .k = (uint32_t)rand() % SUBJECTS};
        b->kind = j % 10 < 5 ? SUB_LITERAL : j % 10 == 5 ? SUB_ANY_P : j % 10 < 9 ? SUB_QUEUE : SUB_LITERAL;
        if (j == 9)
            b->kind = l->index < 2 * PUBLISHERS ? SUB_REST : l->index < 4 * PUBLISHERS ? SUB_ANY_K : SUB_LITERAL;
        char p[16], k[16], queue[16] = "";
        if (b->kind == SUB_QUEUE) {
            b->group = (uint32_t)rand() % GROUPS;
            b->p = group[b->group].p;
            b->k = group[b->group].k;
            snprintf(queue, sizeof queue, "q%u ", b->group);
        }
        snprintf(p, sizeof p, "%u", b->p);
        snprintf(k, sizeof k, "%u", b->k);
        bool any_p = b->kind == SUB_ANY_P || (b->kind == SUB_QUEUE && group[b->group].any_p);
        wire_print(&l->a, "SUB t.%s.%s %s%u\r\n", any_p ? "*" : p,
                   b->kind == SUB_ANY_K  ? "*"
                   : b->kind == SUB_REST ? ">"
                                         : k,
                   queue, j + 1);
    }
    wire_print(&l->a, "PING\r\n");
}

static void check_counts(void) {
    uint64_t members[GROUPS] = {0};
    for (uint32_t i = 0; i < client_count * subs_each; i++) {
        const struct sub *b = &sub[i];
        if (b->kind == SUB_QUEUE) {
            members[b->group]++;
            continue;
        }
        for (uint32_t p = 0; p < PUBLISHERS; p++) {
            if (b->kind != SUB_ANY_P && p != b->p)
                continue;
            uint32_t wanted = b->kind == SUB_ANY_K || b->kind == SUB_REST ? sequence[p] : published(p, b->k);
            if (b->next[p] != wanted)
                fail("client %u sid %u: has %u messages of publisher %u, %u were published", i / subs_each,
                     i % subs_each + 1, b->next[p], p, wanted);
        }
    }
    for (uint32_t g = 0; g < GROUPS; g++) {
        for (uint32_t p = 0; members[g] > 0 && p < PUBLISHERS; p++) {
            if (!group[g].any_p && p != group[g].p)
                continue;
            if (group[g].count[p] != published(p, group[g].k))
                fail("queue group %u: has %u messages of publisher %u, %u were published", g, group[g].count[p], p,
                     published(p, group[g].k));
        }
    }
}

/* ---- probes ---- */

static void probe_begin(struct loop *l) {
    l->began = now_us();
    l->got = 0;
    wire_print(&l->a, "PUB probe.%u %d\r\n%05u\r\nPING\r\n", l->index, 5, l->cycle % 100000);
}

static void probe_message(struct loop *l, struct wire *w, const struct wire_msg *m) {
    char text[16];
    (void)w;
    snprintf(text, sizeof text, "%05u", l->cycle % 100000);
    if (!part_is(m->payload, text))
        fail("probe %u: received %.*s in cycle %s", l->index, (int)m->payload.len, m->payload.at, text);
    l->got++;
}

static void probe_pong(struct loop *l, struct wire *w) {
    if (w == &l->a) {
        wire_print(&l->b, "PING\r\n");
        return;
    }
    if (l->state++ > 0) {
        expect_got(l, 1, "before the PONG of the second connection");
        uint64_t took = now_us() - l->began;
        longest_fence = took > longest_fence ? took : longest_fence;
        completed(l, &cycles_probe);
    }
    probe_begin(l);
}

/* ---- counted: a subscribes, b publishes; for odd ones a itself publishes ---- */

static struct wire *counted_publisher(struct loop *l) {
    return l->index % 2 ? &l->a : &l->b;
}

static void counted_begin(struct loop *l) {
    l->got = l->rounds = l->state = 0;
    wire_print(&l->a, "SUB counted.%u.%u %u\r\nUNSUB %u %d\r\nPING\r\n", l->index, l->cycle, l->cycle + 1, l->cycle + 1,
               MAXIMUM);
}

static void counted_message(struct loop *l, struct wire *w, const struct wire_msg *m) {
    (void)w;
    if (m->sid != l->cycle + 1)
        fail("counted %u: a message for sid %u in cycle %u", l->index, m->sid, l->cycle);
    l->got++;
}

static void counted_pong(struct loop *l, struct wire *w) {
    if (l->state == 0 && w == &l->b)
        return; /* the greeting */
    l->state = 1;
    if (l->rounds++ < MAXIMUM + 10) {
        wire_print(counted_publisher(l), "PUB counted.%u.%u 1\r\nx\r\nPING\r\n", l->index, l->cycle);
    } else if (l->rounds == MAXIMUM + 12) {
        expect_got(l, MAXIMUM, "of a subscription with a maximum");
        completed(l, &cycles_counted);
        counted_begin(l);
    } else {
        wire_print(&l->a, "PING\r\n");
    }
}

/* ---- cutoffs: a subscribes, b publishes ---- */

static void cutoff_step(struct loop *l) {
    switch (l->state) {
    case 0:
        l->got = 0;
        wire_print(&l->a, "SUB cutoff.%u %u\r\nPING\r\n", l->index, l->cycle + 1);
        break;
    case 2:
        wire_print(&l->a, "UNSUB %u\r\nPING\r\n", l->cycle + 1);
        break;
    case 4:
        wire_print(&l->a, "PING\r\n");
        break;
    default:
        wire_print(&l->b, "PUB cutoff.%u 1\r\nx\r\nPING\r\n", l->index);
    }
}

static void cutoff_message(struct loop *l, struct wire *w, const struct wire_msg *m) {
    (void)w;
    if (m->sid != l->cycle + 1 || l->state > 2)
        fail("cutoff %u: a message for sid %u in cycle %u, after UNSUB: %d", l->index, m->sid, l->cycle, l->state > 2);
    l->got++;
}

static void cutoff_pong(struct loop *l, struct wire *w) {
    (void)w;
    if (l->state == 2)
        expect_got(l, 1, "before UNSUB");
    if (++l->state == 5) {
        expect_got(l, 1, "at the end");
        completed(l, &cycles_cutoff);
        l->state = 0;
    }
    cutoff_step(l);
}

/* ---- asks ---- */

static void responder_message(struct loop *l, struct wire *w, const struct wire_msg *m) {
    (void)l;
    wire_print(w, "PUB %.*s 6\r\nanswer\r\n", (int)m->reply.len, m->reply.at);
}

static void ignore_pong(struct loop *l, struct wire *w) {
    (void)w;
    l->state++;
}

static void ask_begin(struct loop *l) {
    l->began = now_us();
    l->state = l->cycle % 8 == 7; /* 1: nobody is there */
    wire_print(&l->a, "PUB %s.%u inbox.%u.%u 4\r\nhelp\r\n", l->state ? "nobody" : "somebody", l->index % 2, l->index,
               l->cycle);
}

static void ask_message(struct loop *l, struct wire *w, const struct wire_msg *m) {
    (void)w;
    char subject[64];
    snprintf(subject, sizeof subject, "inbox.%u.%u", l->index, l->cycle);
    bool none = m->header.len >= 12 && memcmp(m->header.at, "NATS/1.0 503", 12) == 0;
    if (!part_is(m->subject, subject))
        fail("ask %u: %.*s came instead of %s", l->index, (int)m->subject.len, m->subject.at, subject);
    if (none != (l->state == 1))
        fail("ask %u cycle %u: %s", l->index, l->cycle, none ? "503 though somebody is there" : "an answer of nobody");
    completed(l, &cycles_ask);
    ask_begin(l);
}

static void ask_pong(struct loop *l, struct wire *w) {
    (void)w;
    ask_begin(l);
}

/* ---- comers ---- */

static void greet(struct wire *w);

static void comer_begin(struct loop *l) {
    l->began = now_us();
    l->got = 0;
    wire_open(&l->a, port, epoll, l);
    greet(&l->a);
    wire_print(&l->a, "SUB comer.%u 7\r\nPUB comer.%u 3\r\nyes\r\n%sPING\r\n", l->index, l->index,
               l->cycle % 2 ? "UNSUB 7\r\n" : "");
    wire_flush(&l->a);
}

static void comer_message(struct loop *l, struct wire *w, const struct wire_msg *m) {
    (void)w;
    if (!part_is(m->payload, "yes") || m->sid != 7)
        fail("comer %u: received %.*s", l->index, (int)m->line.len, m->line.at);
    l->got++;
}

static void comer_pong(struct loop *l, struct wire *w) {
    (void)w;
    expect_got(l, 1, "of its own");
    uint64_t took = now_us() - l->began;
    longest_login = took > longest_login ? took : longest_login;
    completed(l, &cycles_comer);
    l->state = 1; /* to be closed when its input has been handled */
}

/* ---- all ---- */

static void greet(struct wire *w) {
    wire_print(w, QUIET);
}

static void handle(struct wire *w) {
    struct loop *l = w->owner;
    struct wire_msg m;
    wire_flush(w);
    for (int i = 0; i < 16 && wire_read(w); i++) {
        while (wire_next(w, &m)) {
            l->moved = now_us();
            if (m.type == WIRE_ERR)
                fail("%s %u: received %.*s", l->name, l->index, (int)m.line.len, m.line.at);
            if (m.type == WIRE_PING)
                wire_print(w, "PONG\r\n");
            if (m.type == WIRE_MSG)
                l->on_message(l, w, &m);
            if (m.type == WIRE_PONG)
                l->on_pong(l, w);
        }
        if (w->in_len < 32768)
            break;
    }
    if (w->ended)
        fail("%s %u was disconnected", l->name, l->index);
    if (l->a.fd >= 0)
        wire_flush(&l->a);
    if (l->b.fd >= 0)
        wire_flush(&l->b);
    if (l->on_pong == comer_pong && l->state == 1) {
        l->state = 0;
        wire_close(&l->a);
        comer_begin(l);
    }
}

static void turn(void) {
    struct epoll_event events[256];
    static uint64_t looked;
    int count = epoll_wait(epoll, events, 256, started && interval_us ? 1 : 100);
    for (int i = 0; i < count; i++) {
        struct wire *w = events[i].data.ptr;
        if (w && w->fd >= 0)
            handle(w);
    }
    if (started)
        publish_due();
    uint64_t now = now_us();
    if (!started || now - looked < 500000)
        return;
    looked = now;
    for (uint32_t kind = 0; kind < LOOP_KINDS; kind++) {
        for (uint32_t i = 0; i < all_loops[kind].count; i++) {
            const struct loop *l = &all_loops[kind].at[i];
            if (now - l->moved > deadline_us())
                fail("%s %u: nothing moves (state %u, cycle %u, got %u)", l->name, l->index, l->state, l->cycle,
                     l->got);
        }
    }
    for (uint32_t p = 0; p < PUBLISHERS; p++)
        if (outstanding[p] > 0 && now - client[p].moved > deadline_us())
            fail("publisher %u: no PONG comes", p);
}

static void open_loop(struct loop *l, const char *name, uint32_t index, bool two,
                      void (*on_message)(struct loop *, struct wire *, const struct wire_msg *),
                      void (*on_pong)(struct loop *, struct wire *)) {
    *l = (struct loop){.name = name, .index = index, .on_message = on_message, .on_pong = on_pong, .moved = now_us()};
    l->b.fd = -1;
    wire_open(&l->a, port, epoll, l);
    greet(&l->a);
    if (two) {
        wire_open(&l->b, port, epoll, l);
        greet(&l->b);
    }
}

/* All clients have had so many PONGs. */
static void wait_clients(uint32_t state) {
    uint64_t until = now_us() + deadline_us();
    for (uint32_t i = 0; i < client_count;) {
        if (client[i].state >= state) {
            i++;
            continue;
        }
        if (now_us() > until)
            fail("client %u has no PONG", i);
        turn();
    }
}

static void start(void) {
    for (uint32_t g = 0; g < GROUPS; g++)
        group[g] = (struct group){(uint32_t)rand() % PUBLISHERS, (uint32_t)rand() % SUBJECTS, rand() % 2, {0}, {0}};
    for (uint32_t i = 0; i < client_count; i++) {
        open_loop(&client[i], "client", i, false, client_message, client_pong);
        client_subscribe(&client[i]);
        wire_flush(&client[i].a);
    }
    for (uint32_t i = 0; i < RESPONDERS; i++) {
        open_loop(&responder[i], "responder", i, false, responder_message, ignore_pong);
        wire_print(&responder[i].a, "SUB somebody.%u 1\r\nPING\r\n", i);
        wire_flush(&responder[i].a);
    }
    wait_clients(1);
    while (!responder[0].state || !responder[1].state)
        turn();
    started = true;
    publish_due();
    for (uint32_t i = 0; i < PROBES; i++) {
        open_loop(&probe[i], "probe", i, true, probe_message, probe_pong);
        wire_print(&probe[i].b, "SUB probe.%u 1\r\nPING\r\n", i);
        wire_flush(&probe[i].b);
        wire_flush(&probe[i].a);
    }
    for (uint32_t i = 0; i < COUNTED; i++) {
        open_loop(&counted[i], "counted", i, true, counted_message, counted_pong);
        counted_begin(&counted[i]);
        wire_flush(&counted[i].a);
        wire_flush(&counted[i].b);
    }
    for (uint32_t i = 0; i < CUTOFFS; i++) {
        open_loop(&cutoff[i], "cutoff", i, true, cutoff_message, cutoff_pong);
        cutoff_step(&cutoff[i]);
        wire_flush(&cutoff[i].a);
        wire_flush(&cutoff[i].b);
    }
    for (uint32_t i = 0; i < ASKS; i++) {
        open_loop(&ask[i], "ask", i, false, ask_message, ask_pong);
        wire_print(&ask[i].a, "SUB inbox.%u.* 1\r\nPING\r\n", i);
        wire_flush(&ask[i].a);
    }
    for (uint32_t i = 0; i < COMERS; i++) {
        comer[i] = (struct loop){.name = "comer", .index = i, .on_message = comer_message, .on_pong = comer_pong};
        comer[i].moved = now_us();
        comer[i].b.fd = -1;
        comer_begin(&comer[i]);
    }
}

/* Cycles that begin after the mark are the second ones from now; of a publisher as many batches as are under way. */
static void wait_mark(void) {
    for (uint32_t kind = 0; kind < LOOP_KINDS; kind++)
        for (uint32_t i = 0; i < all_loops[kind].count; i++)
            all_loops[kind].at[i].owed = 2;
    for (uint32_t p = 0; p < PUBLISHERS; p++)
        client[p].owed = window + 1;
    uint64_t until = now_us() + deadline_us();
    for (bool all = false; !all;) {
        turn();
        all = true;
        for (uint32_t kind = 0; kind < LOOP_KINDS; kind++) {
            for (uint32_t i = 0; i < all_loops[kind].count; i++) {
                const struct loop *l = &all_loops[kind].at[i];
                all &= l->owed == 0;
                if (l->owed > 0 && now_us() > until)
                    fail("%s %u does not go on (state %u, got %u)", l->name, i, l->state, l->got);
            }
        }
        for (uint32_t p = 0; p < PUBLISHERS; p++) {
            all &= client[p].owed == 0;
            if (client[p].owed > 0 && now_us() > until)
                fail("publisher %u does not go on", p);
        }
    }
    printf("flows: longest fence %llu us, longest login %llu us\n", (unsigned long long)longest_fence,
           (unsigned long long)longest_login);
    fflush(stdout);
    longest_fence = longest_login = 0;
}

static void wait_end(void) {
    uint64_t until = now_us() + deadline_us();
    stopping = true;
    for (uint32_t p = 0; p < PUBLISHERS;) {
        if (outstanding[p] == 0)
            p++;
        else if (now_us() > until)
            fail("publisher %u: no PONG comes", p);
        else
            turn();
    }
    /* The fences of the publishers are down: one of its own, and each client has all. */
    for (uint32_t i = 0; i < client_count; i++) {
        client[i].state = 0;
        wire_print(&client[i].a, "PING\r\n");
        wire_flush(&client[i].a);
    }
    wait_clients(1);
    check_counts();
}

int main(int argc, char **argv) {
    if (argc != 6)
        fail("arguments: port, clients, subscriptions of each, batches under way, milliseconds between them");
    port = atoi(argv[1]);
    client_count = (uint32_t)atoi(argv[2]);
    subs_each = (uint32_t)atoi(argv[3]);
    window = (uint32_t)atoi(argv[4]);
    interval_us = (uint32_t)atoi(argv[5]) * 1000;
    if (client_count < PUBLISHERS || subs_each < 1)
        fail("too few clients");
    unsigned seed = (unsigned)time(NULL);
    srand(seed);
    raise_files_limit();
    epoll = epoll_create1(EPOLL_CLOEXEC);
    client = calloc(client_count, sizeof *client);
    sub = calloc((size_t)client_count * subs_each, sizeof *sub);
    if (!client || !sub)
        fail("no memory");
    start();
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &event) != 0)
        fail("stdin cannot be watched");
    fcntl(0, F_SETFL, O_NONBLOCK);
    printf("ready: seed %u\n", seed);
    fflush(stdout);
    char command[64];
    for (bool stop = false; !stop;) {
        turn();
        ssize_t len = read(0, command, sizeof command - 1);
        if (len == 0)
            fail("stdin has ended");
        if (len < 0)
            continue;
        command[len] = '\0';
        if (strncmp(command, "mark", 4) == 0)
            wait_mark();
        stop = strstr(command, "stop") != NULL;
    }
    wait_end();
    uint64_t messages = 0;
    for (uint32_t p = 0; p < PUBLISHERS; p++)
        messages += sequence[p];
    printf("messages %llu, deliveries %llu, cycles: fence %llu, counted %llu, cutoff %llu, ask %llu, login %llu\nok\n",
           (unsigned long long)messages, (unsigned long long)deliveries, (unsigned long long)cycles_probe,
           (unsigned long long)cycles_counted, (unsigned long long)cycles_cutoff, (unsigned long long)cycles_ask,
           (unsigned long long)cycles_comer);
    return 0;
}
