/* SPDX-License-Identifier: Apache-2.0 */
/* The router's stages: a router of two links in this process, whose edges are played by hand.
 *
 *   ring      one record through a ring: write, publish, check, take
 *   match_*   one look into a sublist
 *   route_*   from a PUB in the ingress ring to committed DELIVERs: turn_run() until nothing is left. allowed: the publisher has a
 *             permission set, and one subject; allowed_random: many subjects; filtered: the subscriber has deny rules; answer: the
 *             subscriber has the right to answer
 */
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "router/router.h"
#include "tests/bench/stages.h"

enum { LINKS = 2, MANY = 20000, HELD = 1000, ALL = 512, FEW = 32 };

struct edge {
    struct ring_writer ingress;
    struct ring_reader egress;
    uint32_t slots; /* used */
};

static struct router router;
static struct edge edges[LINKS];
static char payload[16384];
static uint64_t random_state = 88172645463325252u;

static uint32_t random_below(uint32_t n) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % n;
}

/* ---- a router and its edges ---- */

enum { SET_PUBLISH = 1, SET_SUBSCRIBE, SET_ANSWER };
static uint32_t publisher_set, subscriber_set;

static void add_set(struct book *writer, uint32_t number, enum book_rule_kind allow, enum book_rule_kind deny,
                    uint32_t responses) {
    static struct {
        struct book_rules head;
        uint8_t rules[4096];
    } set;
    set.head = (struct book_rules){.number = number, .responses_max = responses, .responses_ms = 120000};
    static const char *const allowed[] = {"load.>", "status", "jobs.*.done", "_INBOX.>"};
    static const char *const denied[] = {"load.secret.>", "load.*.admin", "audit.>"};
    for (size_t i = 0; i < 4; i++)
        check(book_rules_add(&set.head, sizeof set.rules, allow, view_text(allowed[i]), (struct view){0}) == ERR_OK);
    for (size_t i = 0; i < 3; i++)
        check(book_rules_add(&set.head, sizeof set.rules, deny, view_text(denied[i]), (struct view){0}) == ERR_OK);
    check(book_append(writer, BOOK_RULES, &set, (uint32_t)sizeof set.head + set.head.bytes) == ERR_OK);
}

static void give_account(struct router *r) {
    struct book writer;
    struct book_account account = {.number = 1, .name_len = 1, .name = "A"};
    int fd;
    check(memfd_make(&fd, "book", BOOK_BYTES, 0) == ERR_OK);
    check(book_open(&writer, fd, true) == ERR_OK &&
          book_append(&writer, BOOK_ACCOUNT, &account, sizeof account) == ERR_OK);
    add_set(&writer, SET_PUBLISH, BOOK_PUB_ALLOW, BOOK_PUB_DENY, 0);
    add_set(&writer, SET_SUBSCRIBE, BOOK_SUB_ALLOW, BOOK_SUB_DENY, 0);
    add_set(&writer, SET_ANSWER, BOOK_SUB_ALLOW, BOOK_PUB_DENY, 1);
    check(book_open(&r->book, fd, false) == ERR_OK);
    accounts_read(r);
}

static void give_link(struct router *r, uint32_t number) {
    int fds[10], bells[2], bells_back[2], spill, soft;
    for (int i = 0; i < 6; i += 2)
        stage_ring_make(&fds[i]);
    check(memfd_make(&spill, "spill", STAGE_RING_BYTES, 0) == ERR_OK);
    check(memfd_make(&soft, "soft", memfd_round(sizeof(struct soft_link)), 0) == ERR_OK);
    check(pipe2(bells, O_NONBLOCK) == 0 && pipe2(bells_back, O_NONBLOCK) == 0);
    stage_writer_open(&edges[number].ingress, &fds[0]);
    stage_reader_open(&edges[number].egress, &fds[2]);
    fds[6] = spill, fds[7] = soft, fds[8] = bells[0], fds[9] = bells_back[1];
    check(link_map(r, number, LINK_FRONTEND, number + 1, fds) == ERR_OK);
}

static void turns(void) {
    while (turn_run(&router)) {
    }
}

static void bind_conn(uint32_t link, uint32_t conn) {
    static uint64_t serial;
    struct binding b = {.kind = LINK_FRONTEND,
                        .link = link,
                        .incarnation = link + 1,
                        .conn = conn,
                        .generation = 1,
                        .serial = ++serial,
                        .account = 1,
                        .permissions = link == 0 && conn == 0   ? publisher_set
                                       : link == 1 && conn == 1 ? subscriber_set
                                                                : 0};
    binding_seal(&b, &router.key);
    stage_put(&edges[link].ingress, (struct record){.type = RECORD_BIND, .conn = conn, .payload_len = sizeof b}, NULL,
              0, "", "", &b);
}

static void subscribe(uint32_t link, uint32_t conn, const char *subject, const char *queue) {
    struct record_sub sub = {.slot = edges[link].slots++, .after = RECORD_NO_SLOT};
    stage_put(&edges[link].ingress, (struct record){.type = RECORD_SUB, .conn = conn}, &sub, sizeof sub, subject, queue,
              NULL);
    ring_publish(&edges[link].ingress);
    if (edges[link].slots % 1024 == 0)
        turns();
}

/* Link 0 has the publisher, connection 0; connections 1 to 4 of both links subscribe. */
static void open_router(void) {
    struct router *r = &router;
    int control[2];
    hash_key_make(&r->hash);
    r->random = 1;
    r->settings = (struct settings){.max_payload = 1 << 20,
                                    .max_control_line = 4096,
                                    .source_wait_ms = 20,
                                    .source_share_ms = 100,
                                    .edge_dead_ms = 1000,
                                    .replay_ms = 100};
    r->sub_chunk = mmap(NULL, SLOT_CHUNKS_MAX * sizeof(struct sub *), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    r->epoll = epoll_create1(0);
    r->tools = (struct permissions_tools){.hash = &r->hash, .slab = &r->slab, .work = &r->work};
    r->counters = calloc(1, sizeof *r->counters);
    r->page = aligned_alloc(64, sizeof *r->page);
    check(r->sub_chunk != MAP_FAILED && r->counters && r->page);
    memset(r->page, 0, sizeof *r->page);
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, control) == 0);
    struct replies_table *replies =
        mmap(NULL, sizeof *replies, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(replies != MAP_FAILED);
    replies_open(&r->replies, replies, &r->key);
    check(channel_open(&r->control, control[0], "supervisor", NULL, 0, r, 1) == ERR_OK);
    r->epoch = 1;
    give_account(r);
    for (uint32_t i = 0; i < LINKS; i++)
        give_link(r, i);
    takeover_begin(r);
    check(takeover_step(r) && r->running);
    for (uint32_t link = 0; link < LINKS; link++) {
        for (uint32_t conn = 0; conn <= 4; conn++)
            bind_conn(link, conn);
        ring_publish(&edges[link].ingress);
    }
    turns();
}

static void open_none(void) {
    open_router();
}

static void open_one(void) {
    open_router();
    subscribe(1, 1, "load.subject", "");
    turns();
}

static void open_allowed(void) {
    publisher_set = SET_PUBLISH;
    open_one();
}

static void open_filtered(void) {
    subscriber_set = SET_SUBSCRIBE;
    open_router();
    subscribe(1, 1, "load.>", "");
    turns();
    check(router.filtered_count == 1);
}

static void open_answer(void) {
    subscriber_set = SET_ANSWER;
    open_one();
}

static void open_four(void) {
    open_router();
    for (uint32_t i = 0; i < 4; i++)
        subscribe(i % LINKS, 1 + i, "load.subject", "");
    turns();
}

static void open_queue(void) {
    open_router();
    for (uint32_t i = 0; i < 4; i++)
        subscribe(i % LINKS, 1 + i, "load.subject", "workers");
    turns();
}

static void open_many(void) {
    open_router();
    for (uint32_t i = 0; i < MANY; i++) {
        char subject[64];
        snprintf(subject, sizeof subject, "load.a%u.c%07u", i % 100, i);
        subscribe(1, 1, subject, "");
    }
    turns();
}

static void open_many_allowed(void) {
    publisher_set = SET_PUBLISH;
    open_many();
}

static void open_wildcards(void) {
    open_one();
    for (uint32_t i = 0; i < HELD; i++) {
        char subject[64];
        snprintf(subject, sizeof subject, i % 2 ? "load.*.w%u.>" : "*.w%u.>", i);
        subscribe(1, 2, subject, "");
    }
    turns();
}

/* ---- route ---- */

static uint32_t messages, size;
static const char *reply_to = "";
static bool to_random;

static void fill(void) {
    struct ring_writer *w = &edges[0].ingress;
    for (uint32_t i = 0; i < messages; i++) {
        char subject[64] = "load.subject";
        if (to_random) {
            uint32_t n = random_below(MANY);
            snprintf(subject, sizeof subject, "load.a%u.c%07u", n % 100, n);
        }
        stage_put(w, (struct record){.type = RECORD_PUB, .payload_len = size}, NULL, 0, subject, reply_to, payload);
    }
    ring_publish(w);
}

static void fill_16(void) {
    messages = ALL, size = 16;
    fill();
}

static void fill_128(void) {
    messages = ALL, size = 128;
    fill();
}

static void fill_16k(void) {
    messages = FEW, size = 16384;
    fill();
}

static void fill_request(void) {
    reply_to = "_INBOX.load0000.0000000";
    fill_16();
}

static void fill_random(void) {
    to_random = true;
    fill_16();
}

static uint32_t taken; /* DELIVERs of all links, whatever the number of their targets */

static void drain(void) {
    taken = 0;
    check(router.link[0].state == LINK_LIVE && router.link[0].ingress.consumed_pos == edges[0].ingress.produced_pos);
    for (uint32_t i = 0; i < LINKS; i++)
        taken += stage_take_all(&edges[i].egress, RECORD_DELIVER);
}

static void drain_none(void) {
    drain();
    check(taken == 0);
}

static void drain_one(void) {
    drain();
    check(taken == messages);
}

static void drain_two(void) {
    drain();
    check(taken == LINKS * messages);
}

/* ---- ring ---- */

static struct ring_writer own_writer;
static struct ring_reader own_reader;

static void open_ring(void) {
    int fds[2];
    stage_ring_make(fds);
    stage_writer_open(&own_writer, fds);
    stage_reader_open(&own_reader, fds);
}

static void nothing(void) {
}

static void pass_ring(void) {
    struct record out = {.type = RECORD_PUB, .subject_len = 12, .payload_len = 16, .len = RECORD_HEADER + 12 + 16}, in;
    struct record_parts parts;
    for (uint32_t i = 0; i < ALL; i++) {
        check(ring_has_room(&own_writer, ring_round(out.len), 0));
        uint8_t *at = ring_head(&own_writer);
        memcpy(at, &out, sizeof out);
        memcpy(at + sizeof out, "load.subject", 12);
        memcpy(at + sizeof out + 12, payload, 16);
        ring_advance(&own_writer, out.len);
    }
    ring_publish(&own_writer);
    check(ring_reader_refresh(&own_reader));
    while (ring_ready(&own_reader) > 0) {
        check(record_take(&in, &parts, ring_tail(&own_reader), ring_ready(&own_reader), RECORD_TO_ROUTER) == ERR_OK);
        ring_skip(&own_reader, in.len);
    }
    ring_release(&own_reader);
}

/* ---- match ---- */

static char subjects[ALL][32];

static void fill_subjects(void) {
    for (uint32_t i = 0; i < ALL; i++)
        strcpy(subjects[i], "load.subject");
}

static void fill_subjects_random(void) {
    for (uint32_t i = 0; i < ALL; i++) {
        uint32_t n = random_below(MANY);
        snprintf(subjects[i], sizeof subjects[i], "load.a%u.c%07u", n % 100, n);
    }
}

static void match_all(void) {
    struct account *a = account_find(&router, 1);
    for (uint32_t i = 0; i < ALL; i++) {
        check(sublist_match(a->sublist, view_of(subjects[i], strlen(subjects[i])), &router.match, NULL) == ERR_OK);
        check(router.match.plain_total > 0);
    }
}

static const struct stage stages[] = {
    {"ring", ALL, open_ring, nothing, pass_ring, nothing},
    {"match_hot", ALL, open_one, fill_subjects, match_all, nothing},
    {"match_random", ALL, open_many, fill_subjects_random, match_all, nothing},
    {"match_wildcards", ALL, open_wildcards, fill_subjects, match_all, nothing},
    {"route_pub_16", ALL, open_none, fill_16, turns, drain_none},
    {"route_1:1_16", ALL, open_one, fill_16, turns, drain_one},
    {"route_1:1_128", ALL, open_one, fill_128, turns, drain_one},
    {"route_1:1_16K", FEW, open_one, fill_16k, turns, drain_one},
    {"route_1:4_128", ALL, open_four, fill_128, turns, drain_two},
    {"route_queue_1:4_128", ALL, open_queue, fill_128, turns, drain_one},
    {"route_request", ALL, open_one, fill_request, turns, drain_one},
    {"route_random", ALL, open_many, fill_random, turns, drain_one},
    {"route_allowed_16", ALL, open_allowed, fill_16, turns, drain_one},
    {"route_allowed_random", ALL, open_many_allowed, fill_random, turns, drain_one},
    {"route_filtered_16", ALL, open_filtered, fill_16, turns, drain_one},
    {"route_answer", ALL, open_answer, fill_request, turns, drain_one},
};

int main(int argc, char **argv) {
    return stage_main(stages, sizeof stages / sizeof *stages, argc, argv);
}
