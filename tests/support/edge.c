#include "tests/support/edge.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "ipc/note.h"
#include "nats/subject.h"
#include "shm/memfd.h"

/* ---- memories ---- */

static int memory(size_t bytes) {
    int fd;
    check(memfd_make(&fd, "test", bytes, 0) == ERR_OK);
    return fd;
}

static void bell(int ends[2]) {
    check(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
}

static void edge_make(struct world *w, uint32_t number, uint8_t kind) {
    struct edge *e = &w->edge[number];
    edge_delivered *delivered = e->delivered;
    *e = (struct edge){.world = w, .number = number, .kind = kind, .incarnation = ++w->incarnation, .fresh = true};
    e->delivered = delivered;
    const size_t bytes[8] = {ring_data_bytes(w->ring_bytes),   RING_PAGE, ring_data_bytes(w->ring_bytes), RING_PAGE,
                             ring_data_bytes(w->replay_bytes), RING_PAGE, w->spill_bytes, sizeof(struct soft_link)};
    for (int i = 0; i < 8; i++)
        e->fds[i] = memory(bytes[i]);
    bell(e->bell_to_router);
    bell(e->bell_to_edge);
    check(ring_map(&e->ingress_map, e->fds[0], e->fds[1], true) == ERR_OK);
    check(ring_map(&e->egress_map, e->fds[2], e->fds[3], false) == ERR_OK);
    check(ring_map(&e->replay_map, e->fds[4], e->fds[5], true) == ERR_OK);
    check(ring_writer_open(&e->ingress, &e->ingress_map) == ERR_OK);
    check(ring_reader_open(&e->egress, &e->egress_map) == ERR_OK);
    check(ring_writer_open(&e->replay, &e->replay_map) == ERR_OK);
    e->conn = calloc(EDGE_CONNS_MAX, sizeof *e->conn);
    check(e->conn != NULL);
}

static void edge_free(struct edge *e) {
    for (int i = 0; i < 8; i++)
        close(e->fds[i]);
    for (int i = 0; i < 2; i++) {
        close(e->bell_to_edge[i]);
        close(e->bell_to_router[i]);
    }
    ring_unmap(&e->ingress_map);
    ring_unmap(&e->egress_map);
    ring_unmap(&e->replay_map);
    for (uint32_t i = 0; i < e->sub_high; i++)
        free(e->sub[i].text);
    free(e->sub);
    free(e->slot_free);
    free(e->conn);
    free(e->journal);
    free(e->snapshot);
}

void world_make(struct world *w, uint32_t edge_count, uint64_t ring_bytes, uint64_t spill_bytes) {
    *w = (struct world){.ring_bytes = ring_bytes,
                        .replay_bytes = 64 * 1024,
                        .spill_bytes = memfd_round(spill_bytes ? spill_bytes : 1),
                        .edge_count = edge_count,
                        .now = clock_mono_ns(),
                        .wall = clock_wall_s()};
    w->settings = (struct settings){.max_payload = 1 << 20,
                                    .max_control_line = 4096,
                                    .source_wait_ms = 20,
                                    .source_share_ms = 100,
                                    .edge_dead_ms = 1000,
                                    .replay_ms = 20000,
                                    .spill_bytes = spill_bytes};
    w->key.number = 7;
    memset(w->key.key, 0x5a, sizeof w->key.key);
    w->page_fd = memory(sizeof(struct commit_page));
    w->book_fd = memory(BOOK_BYTES);
    w->counters_fd = memory(sizeof(struct counters));
    void *page, *counters;
    check(memfd_map(&page, w->page_fd, sizeof(struct commit_page), 1) == ERR_OK);
    check(memfd_map(&counters, w->counters_fd, sizeof(struct counters), 1) == ERR_OK);
    check(book_open(&w->book, w->book_fd, true) == ERR_OK);
    w->page = page;
    w->counters = counters;
    for (uint32_t i = 0; i < edge_count; i++)
        edge_make(w, i, LINK_FRONTEND);
    world_account(w, 1, 0, 0);
    w->control[0] = w->control[1] = -1;
}

void world_free(struct world *w) {
    world_die(w);
    world_kill(w);
    for (uint32_t i = 0; i < w->edge_count; i++)
        edge_free(&w->edge[i]);
    munmap(w->page, sizeof(struct commit_page));
    munmap(w->counters, sizeof(struct counters));
    munmap(w->book.at, w->book.bytes);
    close(w->page_fd);
    close(w->book_fd);
    close(w->counters_fd);
    if (w->control[0] >= 0) {
        close(w->control[0]);
        close(w->control[1]);
    }
}

void world_account(struct world *w, uint32_t number, uint32_t conns_max, uint32_t subs_max) {
    struct book_account a = {.number = number, .conns_max = conns_max, .subs_max = subs_max};
    a.name_len = (uint32_t)snprintf(a.name, sizeof a.name, number == 1 ? "$G" : "A%u", number);
    check(book_append(&w->book, BOOK_ACCOUNT, &a, sizeof a) == ERR_OK);
    if (w->router)
        accounts_read(w->router);
}

void world_floor(struct world *w, uint32_t account, uint32_t principal, uint64_t serial) {
    struct book_floor f = {account, principal, serial, RECORD_KICK_REVOKED, 0};
    check(book_append(&w->book, BOOK_FLOOR, &f, sizeof f) == ERR_OK);
    if (w->router)
        accounts_read(w->router);
}

/* ---- the router ---- */

static void router_link(struct router *r, struct edge *e) {
    int fds[10];
    for (int i = 0; i < 8; i++)
        fds[i] = dup(e->fds[i]);
    for (int i = 0; i < 6; i += 2) { /* what the edge writes, the router may only read */
        int edge_writes = i == 2 ? 3 : i;
        close(fds[edge_writes]);
        check(memfd_reader(&fds[edge_writes], e->fds[edge_writes]) == ERR_OK);
    }
    fds[8] = dup(e->bell_to_router[0]);
    fds[9] = dup(e->bell_to_edge[1]);
    check(link_map(r, e->number, e->kind, e->incarnation, fds) == ERR_OK);
    if (!e->fresh)
        r->link[e->number].state = LINK_REPLAY;
}

static struct router *router_make(struct world *w) {
    struct router *r = calloc(1, sizeof *r);
    check(r != NULL);
    hash_key_make(&r->hash);
    r->random = clock_mono_ns() | 1;
    r->now = w->now;
    r->wall = w->wall;
    r->sub_chunk = mmap(NULL, SLOT_CHUNKS_MAX * sizeof(struct sub *), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    check(r->sub_chunk != MAP_FAILED && r->epoll >= 0);
    r->settings = w->settings;
    r->key = w->key;
    r->have_key = r->have_settings = true;
    void *page, *counters;
    check(memfd_map(&page, w->page_fd, sizeof(struct commit_page), 1) == ERR_OK);
    check(memfd_map(&counters, w->counters_fd, sizeof(struct counters), 1) == ERR_OK);
    check(book_open(&r->book, w->book_fd, false) == ERR_OK);
    r->page = page;
    r->counters = counters;
    r->epoch = w->epoch;
    r->died_signal = w->died_signal;
    r->control.fd = w->control[1];
    accounts_read(r);
    for (uint32_t i = 0; i < w->edge_count; i++)
        if (!w->edge[i].bad)
            router_link(r, &w->edge[i]);
    return r;
}

static void router_free(struct router *r) {
    for (uint32_t i = 0; i < r->link_high; i++)
        if (r->link[i].state != LINK_NONE)
            link_unmap(r, &r->link[i]);
    for (uint32_t i = 0; i < r->account_high; i++)
        if (r->account[i]) {
            sublist_free(r->account[i]->sublist);
            free(r->account[i]->floors);
            free(r->account[i]);
        }
    free(r->account);
    slab_free(&r->slab);
    for (uint32_t i = 0; i < SLOT_CHUNKS_MAX && r->sub_chunk[i]; i++)
        free(r->sub_chunk[i]);
    munmap(r->sub_chunk, SLOT_CHUNKS_MAX * sizeof(struct sub *));
    match_free(&r->match);
    match_free(&r->match_reply);
    free(r->targets);
    free(r->closing);
    free(r->stalled);
    munmap(r->page, sizeof(struct commit_page));
    munmap(r->counters, sizeof(struct counters));
    munmap(r->book.at, r->book.bytes);
    close(r->epoll);
    free(r);
}

static void control_make(struct world *w) {
    if (w->control[0] >= 0) {
        close(w->control[0]);
        close(w->control[1]);
    }
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, w->control) == 0);
    w->recovered = w->ready = false;
    w->epoch++;
}

void world_start(struct world *w) {
    check(!w->router && !w->child);
    control_make(w);
    w->router = router_make(w);
    takeover_begin(w->router);
}

void world_begin(struct world *w) {
    world_start(w);
    while (!w->ready)
        world_step(w);
}

void world_die(struct world *w) {
    if (w->router)
        router_free(w->router);
    w->router = NULL;
}

/* As in router/main.c, which keeps it to itself. */
static bool clear_links(struct router *r) {
    bool worked = false;
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (l->state != LINK_ENDING || (l->end_conn >= l->conn_high && !l->down))
            continue;
        worked = true;
        if (!link_clear_step(r, l) || !l->down)
            continue;
        uint64_t incarnation = l->incarnation;
        link_unmap(r, l);
        note_send(r->control.fd, NOTE_LINK_GONE, i, incarnation);
    }
    return worked;
}

static bool router_step(struct router *r) {
    if (!r->running)
        return takeover_step(r) || true;
    bool worked = turn_run(r);
    if (r->has_dead)
        worked |= clear_links(r);
    if (r->expiring)
        admit_expire(r);
    return worked;
}

_Noreturn void world_child(struct world *w, bool traced) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    struct router *r = router_make(w);
    if (traced) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
    }
    takeover_begin(r);
    for (;;) {
        bool was_running = r->running;
        r->now = clock_mono_ns();
        r->wall = clock_wall_s();
        bool worked = router_step(r);
        if (traced && r->running && !was_running)
            raise(SIGSTOP);
        if (!worked || !was_running)
            usleep(100);
    }
}

void world_fork(struct world *w, bool traced) {
    check(!w->router && !w->child);
    control_make(w);
    fflush(stdout);
    pid_t pid = fork();
    check(pid >= 0);
    if (pid == 0)
        world_child(w, traced);
    w->child = pid;
}

void world_kill(struct world *w) {
    if (!w->child)
        return;
    kill(w->child, SIGKILL);
    int status;
    check(waitpid(w->child, &status, 0) == w->child);
    w->child = 0;
}

/* ---- the supervisor's part ---- */

static bool notes(struct world *w) {
    bool any = false;
    struct note n;
    while (w->control[0] >= 0 && note_receive(w->control[0], &n) == ERR_OK) {
        any = true;
        struct edge *e = n.number < w->edge_count ? &w->edge[n.number] : NULL;
        if (n.type == NOTE_RECOVERED) {
            check(n.number == w->epoch && !w->recovered);
            w->recovered = true;
            for (uint32_t i = 0; i < w->edge_count; i++)
                if (!w->edge[i].bad && !w->edge[i].fresh && !w->edge[i].silent)
                    edge_replay(&w->edge[i], w->epoch);
        } else if (n.type == NOTE_READY) {
            check(n.number == w->epoch && w->recovered);
            w->ready = true;
            for (uint32_t i = 0; i < w->edge_count; i++)
                w->edge[i].fresh = false;
        } else if (n.type == NOTE_LINK_BAD && e) {
            check(n.value == e->incarnation && !e->bad);
            e->bad = true;
        } else if (n.type == NOTE_LINK_GONE && e) {
            check(n.value == e->incarnation);
            e->gone = true;
        } else {
            check(!"a note that no router sends");
        }
    }
    return any;
}

void world_edge_down(struct world *w, struct edge *e) {
    struct link *l = &w->router->link[e->number];
    e->bad = true;
    link_end(w->router, l, NULL);
    l->end_told = false;
    l->down = true;
    while (!e->gone)
        world_step(w);
}

void world_edge_new(struct world *w, uint32_t number, uint8_t kind) {
    edge_free(&w->edge[number]);
    edge_make(w, number, kind);
    if (!w->router)
        return;
    router_link(w->router, &w->edge[number]);
    check(link_open(w->router, &w->router->link[number]) == ERR_OK);
    w->router->link[number].state = LINK_LIVE;
    w->edge[number].fresh = false;
}

bool world_edges_step(struct world *w) {
    bool moved = notes(w);
    for (uint32_t i = 0; i < w->edge_count; i++) {
        struct edge *e = &w->edge[i];
        if (e->bad)
            continue;
        moved |= edge_replay_more(e);
        if (!e->paused)
            moved |= edge_read(e);
    }
    return moved;
}

bool world_step(struct world *w) {
    bool moved = false;
    if (w->router) {
        w->router->now = w->now;
        w->router->wall = w->wall;
        moved = router_step(w->router);
        w->now += 1000;
    } else if (w->child) {
        int status;
        check(waitpid(w->child, &status, WNOHANG) == 0); /* the child does not end by itself */
    }
    moved |= world_edges_step(w);
    if (!moved && w->child)
        usleep(100);
    return moved;
}

static bool all_consumed(struct world *w) {
    for (uint32_t i = 0; i < w->edge_count; i++) {
        struct edge *e = &w->edge[i];
        if (e->bad)
            continue;
        check(ring_writer_refresh(&e->ingress));
        if (e->ingress.consumed_pos != e->ingress.head_pos || e->snapshot)
            return false;
    }
    return true;
}

void world_settle(struct world *w) {
    uint64_t until = clock_mono_ms() + 60000;
    for (uint32_t i = 0; i < w->edge_count; i++)
        edge_publish(&w->edge[i]);
    for (uint32_t quiet = 0; quiet < 4;) {
        bool moved = world_step(w);
        bool done = all_consumed(w) && w->ready;
        quiet = moved || !done ? 0 : quiet + 1;
        if (!done && !moved)
            w->now += 1000000; /* what waits, waits for time */
        if (clock_mono_ms() > until)
            check(!"the world does not come to rest");
    }
}

void world_pass(struct world *w, uint64_t ms) {
    w->now += ms * 1000000;
    w->wall = clock_wall_s() + (w->now - clock_mono_ns()) / 1000000000;
    if (w->router) {
        w->router->now = w->now;
        w->router->wall = w->wall;
    }
}

/* ---- numbers, slots, journal ---- */

static void journal(struct edge *e, enum record_type type, uint32_t id, uint8_t old_flag, uint32_t old_max) {
    if (e->journal_at + e->journal_count == e->journal_cap) {
        if (e->journal_at > 0 && e->journal_count > 0)
            memmove(e->journal, e->journal + e->journal_at, e->journal_count * sizeof *e->journal);
        e->journal_at = 0;
        if (e->journal_count * 2 >= e->journal_cap) {
            e->journal_cap = e->journal_cap ? 2 * e->journal_cap : 256;
            e->journal = realloc(e->journal, e->journal_cap * sizeof *e->journal);
            check(e->journal != NULL);
        }
    }
    e->journal[e->journal_at + e->journal_count++] =
        (struct edge_journal){e->ingress.head_pos, id, old_max, (uint8_t)type, old_flag};
}

static void journal_trim(struct edge *e, uint64_t consumed) {
    while (e->journal_count > 0 && e->journal[e->journal_at].end_pos <= consumed) {
        e->journal_at++;
        e->journal_count--;
    }
}

uint32_t edge_number(struct edge *e) {
    uint32_t n = e->conn_used_below;
    while (n < e->conn_high && e->conn[n].used)
        n++;
    e->conn_used_below = n;
    check(n < EDGE_CONNS_MAX);
    if (n == e->conn_high)
        e->conn_high++;
    struct edge_conn *c = &e->conn[n];
    *c = (struct edge_conn){.used = true, .generation = c->generation + 1};
    return n;
}

static uint32_t slot_take(struct edge *e) {
    if (e->slot_free_count > 0)
        return e->slot_free[--e->slot_free_count];
    if (e->sub_high == e->sub_cap) {
        e->sub_cap = e->sub_cap ? 2 * e->sub_cap : 256;
        e->sub = realloc(e->sub, e->sub_cap * sizeof *e->sub);
        e->slot_free = realloc(e->slot_free, e->sub_cap * sizeof *e->slot_free);
        check(e->sub && e->slot_free);
    }
    e->sub[e->sub_high] = (struct edge_sub){0};
    return e->sub_high++;
}

static void slot_give(struct edge *e, uint32_t slot) {
    free(e->sub[slot].text);
    e->sub[slot] = (struct edge_sub){0};
    e->slot_free[e->slot_free_count++] = slot;
}

static void conn_freed(struct edge *e, uint32_t number) {
    for (uint32_t i = 0; i < e->sub_high; i++)
        if (e->sub[i].used && e->sub[i].conn == number)
            slot_give(e, i);
    e->conn[number].used = false;
    if (number < e->conn_used_below)
        e->conn_used_below = number;
}

/* ---- writing ---- */

static uint8_t *claim(struct edge *e, uint64_t len) {
    uint64_t until = clock_mono_ms() + 60000;
    while (!ring_has_room(&e->ingress, ring_round(len), 0)) {
        check(!e->ingress.broken && clock_mono_ms() < until);
        edge_publish(e);
        if (!world_step(e->world))
            e->world->now += 1000000;
    }
    return ring_head(&e->ingress);
}

void edge_put_raw(struct edge *e, const void *bytes, uint32_t len) {
    memcpy(claim(e, len), bytes, len);
    ring_advance(&e->ingress, len);
}

void edge_put(struct edge *e, const struct record *rec, const void *fixed, uint32_t fixed_len, struct view subject,
              struct view reply, const void *payload) {
    struct record r = *rec;
    r.subject_len = (uint16_t)subject.len;
    r.reply_len = (uint16_t)reply.len;
    r.len = (uint32_t)record_len(fixed_len, r.target_count, subject.len, reply.len, r.payload_len);
    uint8_t *at = claim(e, r.len);
    memcpy(at, &r, sizeof r);
    at += sizeof r;
    if (fixed_len)
        memcpy(at, fixed, fixed_len);
    at += fixed_len;
    if (subject.len)
        memcpy(at, subject.at, subject.len);
    if (reply.len)
        memcpy(at + subject.len, reply.at, reply.len);
    if (r.payload_len)
        memcpy(at + subject.len + reply.len, payload, r.payload_len);
    ring_advance(&e->ingress, r.len);
    if (rec->conn < e->conn_high)
        e->conn[rec->conn].last_pos = e->ingress.head_pos;
}

static void put_small(struct edge *e, enum record_type type, uint32_t conn, uint32_t aux) {
    struct record rec = {.type = (uint8_t)type, .conn = conn, .aux = aux};
    edge_put(e, &rec, NULL, 0, (struct view){0}, (struct view){0}, NULL);
}

struct binding edge_binding(struct edge *e, uint32_t number, uint32_t account) {
    struct world *w = e->world;
    struct binding b = {.kind = e->kind,
                        .link = e->number,
                        .incarnation = e->incarnation,
                        .conn = number,
                        .generation = number < e->conn_high ? e->conn[number].generation : 1,
                        .serial = ++w->serial,
                        .issued_s = w->wall,
                        .account = account,
                        .principal = 1,
                        .payload_max = w->settings.max_payload};
    binding_seal(&b, &w->key);
    return b;
}

void edge_bind(struct edge *e, uint32_t number, const struct binding *b) {
    struct record rec = {.type = RECORD_BIND, .conn = number, .payload_len = sizeof *b};
    e->conn[number].binding = *b;
    edge_put(e, &rec, NULL, 0, (struct view){0}, (struct view){0}, b);
    journal(e, RECORD_BIND, number, 0, 0);
}

void edge_options(struct edge *e, uint32_t number, uint8_t options) {
    uint8_t old = e->conn[number].options;
    put_small(e, RECORD_OPTIONS, number, options);
    journal(e, RECORD_OPTIONS, number, old, 0);
    e->conn[number].options = options;
}

uint32_t edge_connect(struct edge *e, uint32_t account, uint8_t options) {
    uint32_t number = edge_number(e);
    struct binding b = edge_binding(e, number, account);
    edge_bind(e, number, &b);
    edge_options(e, number, options);
    return number;
}

uint32_t edge_subscribe(struct edge *e, uint32_t conn, const char *subject, const char *queue, uint32_t after, uint8_t flags) {
    uint32_t slot = slot_take(e);
    struct view s = view_of(subject, strlen(subject)), q = view_of(queue, queue ? strlen(queue) : 0);
    check(s.len + q.len <= EDGE_TEXT_MAX);
    e->sub[slot] = (struct edge_sub){
        .used = true, .conn = conn, .subject_len = (uint8_t)s.len, .queue_len = (uint8_t)q.len, .text = malloc(s.len + q.len + 1)};
    check(e->sub[slot].text != NULL);
    memcpy(e->sub[slot].text, s.at, s.len);
    if (q.len)
        memcpy(e->sub[slot].text + s.len, q.at, q.len);
    struct record rec = {.type = RECORD_SUB, .flags = flags, .conn = conn};
    struct record_sub fixed = {slot, after, 0, 0};
    edge_put(e, &rec, &fixed, sizeof fixed, s, q, NULL);
    journal(e, RECORD_SUB, slot, 0, 0);
    return slot;
}

void edge_unsub(struct edge *e, uint32_t conn, uint32_t slot, uint32_t max, uint8_t flags) {
    struct record rec = {.type = RECORD_UNSUB, .flags = flags, .conn = conn};
    struct record_unsub fixed = {slot, max};
    edge_put(e, &rec, &fixed, sizeof fixed, (struct view){0}, (struct view){0}, NULL);
    if (slot >= e->sub_high || !e->sub[slot].used)
        return;
    struct edge_sub *s = &e->sub[slot];
    journal(e, RECORD_UNSUB, slot, s->ended, s->max);
    s->max = max;
    s->ended |= max == 0;
}

void edge_pub(struct edge *e, uint32_t conn, const char *subject, const char *reply, const void *payload, uint32_t len,
              uint8_t flags) {
    struct record rec = {.type = RECORD_PUB, .flags = flags, .conn = conn, .payload_len = len};
    edge_put(e, &rec, NULL, 0, view_of(subject, strlen(subject)), view_of(reply, reply ? strlen(reply) : 0), payload);
}

void edge_gate(struct edge *e, uint32_t conn, bool on) {
    bool old = e->conn[conn].gate;
    put_small(e, RECORD_GATE, conn, on);
    journal(e, RECORD_GATE, conn, old, 0);
    e->conn[conn].gate = on;
}

void edge_drains(struct edge *e, uint32_t conn) {
    put_small(e, RECORD_GATE, conn, RECORD_GATE_DRAINS);
    journal(e, RECORD_GATE, conn, e->conn[conn].gate, 0);
}

void edge_close(struct edge *e, uint32_t conn) {
    put_small(e, RECORD_CLOSE, conn, 0);
    journal(e, RECORD_CLOSE, conn, 0, 0);
    e->conn[conn].closed = true;
}

void edge_publish(struct edge *e) {
    ring_publish(&e->ingress);
}

/* ---- reading ---- */

static void note_seen(struct edge *e, const struct record *rec, struct view subject, struct view reply, uint32_t slot) {
    if (e->seen_count == SEEN_MAX) {
        memmove(e->seen, e->seen + 1, (SEEN_MAX - 1) * sizeof e->seen[0]);
        e->seen_count--;
    }
    struct seen *s = &e->seen[e->seen_count++];
    *s = (struct seen){.type = rec->type,
                       .flags = rec->flags,
                       .conn = rec->conn,
                       .aux = rec->aux,
                       .slot = slot,
                       .payload_len = rec->payload_len};
    snprintf(s->subject, sizeof s->subject, "%.*s", (int)subject.len, subject.at ? subject.at : "");
    snprintf(s->reply, sizeof s->reply, "%.*s", (int)reply.len, reply.at ? reply.at : "");
}

const struct seen *edge_seen(const struct edge *e, uint8_t type) {
    for (uint32_t i = e->seen_count; i-- > 0;)
        if (e->seen[i].type == type)
            return &e->seen[i];
    return NULL;
}

void edge_forget_seen(struct edge *e) {
    e->seen_count = 0;
}

static void take_targets(struct edge *e, const struct record *rec, const struct record *message, const struct record_parts *parts,
                         const uint8_t *at, struct view subject, struct view reply, const uint8_t *payload) {
    check(rec->target_count > 0);
    for (uint32_t i = 0; i < rec->target_count; i++) {
        struct record_target t;
        memcpy(&t, at + parts->targets + 8 * (size_t)i, sizeof t);
        e->delivered_count++;
        if (e->hostile)
            continue;
        check(t.slot < e->sub_high && e->sub[t.slot].used && e->sub[t.slot].conn == t.conn);
        check(e->conn[t.conn].used);
        if (message->flags & RECORD_UNCOUNTED)
            e->uncounted_total++;
        else
            e->sub[t.slot].delivered++;
        if (e->delivered)
            e->delivered(e, t.slot, message, subject, reply, payload);
    }
}

static void take_answer(struct edge *e, const struct record *rec) {
    if (rec->type == RECORD_EPOCH || e->hostile)
        return;
    check(rec->conn < e->conn_high && e->conn[rec->conn].used);
    struct edge_conn *c = &e->conn[rec->conn];
    switch (rec->type) {
    case RECORD_SLOT_FREE:
        check(rec->aux < e->sub_high && e->sub[rec->aux].used && e->sub[rec->aux].conn == rec->conn);
        slot_give(e, rec->aux);
        e->slot_free_total++;
        break;
    case RECORD_CONN_FREE:
        check(c->closed);
        conn_freed(e, rec->conn);
        e->conn_free_total++;
        break;
    case RECORD_OK:
        c->ok_count++;
        break;
    case RECORD_DENY:
        check(rec->aux > 0 && rec->aux < RECORD_DENY_END);
        c->deny_count++;
        break;
    case RECORD_KICK:
        check(rec->aux > 0 && rec->aux < RECORD_KICK_END);
        c->kick_count++;
        c->kick = rec->aux;
        e->kick_total++;
        break;
    case RECORD_STALL:
        c->stall_count++;
        break;
    case RECORD_RESUME:
        c->resume_count++;
        break;
    default:
        check(!"a record that no router sends");
    }
}

static void drain(struct edge *e) {
    bool more = false;
    struct record message = {0};
    struct view subject = {0}, reply = {0};
    const uint8_t *payload = NULL;
    struct ring_reader *ring = &e->egress;
    uint32_t taken = 0;
    while (ring_ready(ring) > 0 && (more || e->read_max == 0 || taken++ < e->read_max)) {
        struct record rec;
        struct record_parts parts;
        const uint8_t *at = ring_tail(ring);
        check(record_take(&rec, &parts, at, ring_ready(ring), RECORD_TO_EDGE) == ERR_OK);
        check(more == (rec.type == RECORD_DELIVER_MORE));
        uint32_t slot = 0;
        if (rec.type != RECORD_DELIVER_MORE) {
            memcpy(e->names, at + parts.subject, (size_t)rec.subject_len + rec.reply_len);
            subject = view_of((const char *)e->names, rec.subject_len);
            reply = view_of((const char *)e->names + rec.subject_len, rec.reply_len);
            message = rec;
            payload = at + parts.payload;
        }
        if (rec.target_count > 0) {
            struct record_target t;
            memcpy(&t, at + parts.targets, sizeof t);
            slot = t.slot;
        }
        note_seen(e, &rec, subject, reply, slot);
        if (rec.type == RECORD_DELIVER || rec.type == RECORD_DELIVER_MORE) {
            check(subject.len > 0 && subject_is_clean(subject) && subject_is_clean(reply));
            take_targets(e, &rec, &message, &parts, at, subject, reply, payload);
            more = rec.flags & RECORD_MORE;
        } else {
            take_answer(e, &rec);
        }
        ring_skip(ring, rec.len);
    }
    check(!more);
    ring_release(ring);
}

bool edge_read(struct edge *e) {
    check(ring_writer_refresh(&e->ingress));
    check(ring_reader_refresh(&e->egress));
    uint64_t consumed = e->ingress.consumed_pos;
    bool any = ring_ready(&e->egress) > 0;
    if (any)
        drain(e);
    journal_trim(e, consumed);
    return any;
}

/* ---- replay: the same steps as frontend/replay.c ---- */

static void snap(struct edge *e, const struct record *rec, const void *a, size_t a_len, const void *b, size_t b_len) {
    uint64_t len = ring_round(rec->len);
    if (!e->snapshot || e->snapshot_len + len > e->snapshot_cap) {
        e->snapshot_cap = 2 * (e->snapshot_len + len) + 4096;
        e->snapshot = realloc(e->snapshot, e->snapshot_cap);
        check(e->snapshot != NULL);
    }
    uint8_t *at = e->snapshot + e->snapshot_len;
    memset(at, 0, len);
    memcpy(at, rec, sizeof *rec);
    if (a_len)
        memcpy(at + sizeof *rec, a, a_len);
    if (b_len)
        memcpy(at + sizeof *rec + a_len, b, b_len);
    e->snapshot_len += len;
}

static void snap_small(struct edge *e, enum record_type type, uint32_t conn, uint32_t aux) {
    struct record rec = {.len = RECORD_HEADER, .type = (uint8_t)type, .conn = conn, .aux = aux};
    snap(e, &rec, NULL, 0, NULL, 0);
}

struct undo {
    uint8_t *conn_out, *conn_option, *conn_gate, *sub_out, *sub_undone;
    uint32_t *sub_max;
};

static void undo_make(struct undo *u, const struct edge *e) {
    u->conn_out = calloc(e->conn_high + 1, 1);
    u->conn_option = calloc(e->conn_high + 1, 1);
    u->conn_gate = calloc(e->conn_high + 1, 1);
    u->sub_out = calloc(e->sub_high + 1, 1);
    u->sub_undone = calloc(e->sub_high + 1, 1);
    u->sub_max = calloc(e->sub_high + 1, sizeof *u->sub_max);
    for (uint32_t i = e->journal_count; i-- > 0;) {
        const struct edge_journal *j = &e->journal[e->journal_at + i];
        if (j->type == RECORD_BIND)
            u->conn_out[j->id] = 1;
        else if (j->type == RECORD_OPTIONS)
            u->conn_option[j->id] = (uint8_t)(j->old_flag + 1);
        else if (j->type == RECORD_GATE)
            u->conn_gate[j->id] = (uint8_t)(j->old_flag + 1);
        else if (j->type == RECORD_SUB)
            u->sub_out[j->id] = 1;
        else if (j->type == RECORD_UNSUB) {
            u->sub_undone[j->id] = 1;
            u->sub_max[j->id] = j->old_max;
        }
    }
}

static void undo_free(struct undo *u) {
    free(u->conn_out);
    free(u->conn_option);
    free(u->conn_gate);
    free(u->sub_out);
    free(u->sub_undone);
    free(u->sub_max);
}

static void snap_conn(struct edge *e, uint32_t n, const struct undo *u) {
    const struct edge_conn *c = &e->conn[n];
    struct record rec = {.len = (uint32_t)record_len(0, 0, 0, 0, sizeof c->binding),
                         .type = RECORD_BIND,
                         .conn = n,
                         .payload_len = sizeof c->binding};
    snap(e, &rec, &c->binding, sizeof c->binding, NULL, 0);
    snap_small(e, RECORD_OPTIONS, n, u->conn_option[n] ? u->conn_option[n] - 1u : c->options);
    if (u->conn_gate[n] ? u->conn_gate[n] - 1 : c->gate)
        snap_small(e, RECORD_GATE, n, 1);
    for (uint32_t slot = e->sub_high; slot-- > 0;) { /* newest first, as there */
        const struct edge_sub *s = &e->sub[slot];
        if (!s->used || s->conn != n || u->sub_out[slot])
            continue;
        struct record_sub fixed = {slot, RECORD_NO_SLOT, s->delivered, u->sub_undone[slot] ? u->sub_max[slot] : s->max};
        struct record sub = {.len = (uint32_t)record_len(sizeof fixed, 0, s->subject_len, s->queue_len, 0),
                             .type = RECORD_SUB,
                             .conn = n,
                             .subject_len = s->subject_len,
                             .reply_len = s->queue_len};
        snap(e, &sub, &fixed, sizeof fixed, s->text, (size_t)s->subject_len + s->queue_len);
    }
}

void edge_replay(struct edge *e, uint32_t epoch) {
    edge_read(e);
    for (uint32_t n = 0; n < e->conn_high; n++)
        if (e->conn[n].used && e->conn[n].closed && e->conn[n].last_pos <= e->ingress.consumed_pos)
            conn_freed(e, n);
    struct undo u;
    undo_make(&u, e);
    free(e->snapshot);
    e->snapshot = NULL;
    e->snapshot_len = e->snapshot_at = 0;
    snap_small(e, RECORD_REPLAY_BEGIN, 0, epoch);
    for (uint32_t n = 0; n < e->conn_high; n++)
        if (e->conn[n].used && !u.conn_out[n] && e->conn[n].last_pos != 0)
            snap_conn(e, n, &u);
    snap_small(e, RECORD_REPLAY_END, 0, epoch);
    undo_free(&u);
    e->replayed_epoch = epoch;
    edge_replay_more(e);
}

bool edge_replay_more(struct edge *e) {
    bool any = false;
    if (!e->snapshot)
        return false;
    while (e->snapshot_at < e->snapshot_len) {
        struct record rec;
        memcpy(&rec, e->snapshot + e->snapshot_at, sizeof rec);
        if (!ring_has_room(&e->replay, ring_round(rec.len), 0))
            break;
        memcpy(ring_head(&e->replay), e->snapshot + e->snapshot_at, rec.len);
        ring_advance(&e->replay, rec.len);
        e->snapshot_at += ring_round(rec.len);
        any = true;
    }
    check(!e->replay.broken);
    ring_publish(&e->replay);
    if (e->snapshot_at == e->snapshot_len) {
        free(e->snapshot);
        e->snapshot = NULL;
    }
    return any;
}

/* ---- random numbers ---- */

uint64_t rnd_next(struct rnd *r) {
    uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint32_t rnd_below(struct rnd *r, uint32_t n) {
    return (uint32_t)(((rnd_next(r) >> 32) * n) >> 32);
}

uint64_t env_number(const char *name, uint64_t otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 0) : otherwise;
}
