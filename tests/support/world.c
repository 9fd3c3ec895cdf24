/* SPDX-License-Identifier: Apache-2.0 */
/* The world: the memories of the supervisor's, a router in this process or in a child, and the supervisor's part of a
 * takeover. */
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
#include "shm/memfd.h"

/* ---- memories ---- */

int world_memory(size_t bytes) {
    int fd;
    check(memfd_make(&fd, "test", bytes, 0) == ERR_OK);
    return fd;
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
    w->page_fd = world_memory(sizeof(struct commit_page));
    w->book_fd = world_memory(BOOK_BYTES);
    w->counters_fd = world_memory(sizeof(struct counters));
    w->replies_fd = world_memory(sizeof(struct replies_table));
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
    book_close(&w->book);
    close(w->page_fd);
    close(w->replies_fd);
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

void world_kick_floor(struct world *w, uint32_t account, uint32_t principal, uint64_t serial, enum record_kick kick) {
    struct book_floor f = {account, principal, serial, kick, 0};
    check(book_append(&w->book, BOOK_FLOOR, &f, sizeof f) == ERR_OK);
    if (w->router)
        accounts_read(w->router);
}

void world_floor(struct world *w, uint32_t account, uint32_t principal, uint64_t serial) {
    world_kick_floor(w, account, principal, serial, RECORD_KICK_REVOKED);
}

static enum book_rule_kind rule_kind(const char *line) {
    static const char *const names[] = {[BOOK_PUB_ALLOW] = "+pub", "-pub", "+sub", "-sub"};
    for (uint32_t kind = BOOK_PUB_ALLOW; kind <= BOOK_SUB_DENY; kind++)
        if (strncmp(line, names[kind], 4) == 0)
            return kind;
    check(!"a kind of rule");
    return 0;
}

void world_rules(struct world *w, uint32_t number, const char *const *lines, uint32_t count, uint32_t responses_max,
                 uint64_t responses_ms) {
    struct book_rules *rules = malloc(sizeof *rules + BOOK_RULES_BYTES_MAX);
    check(rules != NULL);
    *rules = (struct book_rules){.number = number, .responses_max = responses_max, .responses_ms = responses_ms};
    for (uint32_t i = 0; i < count; i++) {
        const char *subject = lines[i] + 4;
        subject += *subject == ' ';
        const char *queue = strchr(subject, ' ');
        struct view s = queue ? view_of(subject, (size_t)(queue - subject)) : view_text(subject);
        check(book_rules_add(rules, BOOK_RULES_BYTES_MAX, rule_kind(lines[i]), s,
                             queue ? view_text(queue + 1) : (struct view){0}) == ERR_OK);
    }
    check(book_append(&w->book, BOOK_RULES, rules, (uint32_t)sizeof *rules + rules->bytes) == ERR_OK);
    free(rules);
    if (w->router)
        accounts_read(w->router);
}

void world_permit(struct world *w, uint32_t account, uint32_t principal, uint32_t permissions, uint32_t payload_max) {
    struct book_permit p = {account, principal, w->serial + 1, permissions, payload_max};
    check(book_append(&w->book, BOOK_PERMIT, &p, sizeof p) == ERR_OK);
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
    r->tools = (struct permissions_tools){.hash = &r->hash, .slab = &r->slab, .work = &r->work};
    void *page, *counters, *replies;
    check(memfd_map(&page, w->page_fd, sizeof(struct commit_page), 1) == ERR_OK);
    check(memfd_map(&counters, w->counters_fd, sizeof(struct counters), 1) == ERR_OK);
    check(memfd_map(&replies, w->replies_fd, sizeof(struct replies_table), 1) == ERR_OK);
    replies_open(&r->replies, replies, &r->key);
    check(book_open(&r->book, w->book_fd, false) == ERR_OK);
    poison_open(r, page);
    r->counters = counters;
    r->epoch = w->epoch;
    r->died_signal = w->died_signal;
    check(channel_open(&r->control, dup(w->control[1]), "supervisor", NULL, 0, r, 0) == ERR_OK &&
          channel_watch(&r->control, r->epoll, (union epoll_data){.u64 = 0}) == ERR_OK);
    accounts_read(r);
    for (uint32_t i = 0; i < w->edge_count; i++)
        if (!w->edge[i].bad)
            router_link(r, &w->edge[i]);
    return r;
}

static void router_free(struct router *r) {
    channel_close(&r->control);
    for (uint32_t i = 0; i < r->link_high; i++)
        if (r->link[i].state != LINK_NONE)
            link_bury(r, &r->link[i]);
    for (uint32_t i = 0; i < r->account_high; i++)
        if (r->account[i]) {
            sublist_free(r->account[i]->sublist);
            free(r->account[i]->standing);
            free(r->account[i]);
        }
    free(r->account);
    for (uint32_t i = 0; i < r->set_high; i++)
        permissions_free(r->set[i]);
    free(r->set);
    free(r->recheck);
    changes_free(&r->changes);
    match_free(&r->tools.match);
    munmap(r->replies.table, sizeof(struct replies_table));
    slab_free(&r->slab);
    for (uint32_t i = 0; i < SLOT_CHUNKS_MAX && r->sub_chunk[i]; i++)
        free(r->sub_chunk[i]);
    munmap(r->sub_chunk, SLOT_CHUNKS_MAX * sizeof(struct sub *));
    match_free(&r->match);
    match_free(&r->match_reply);
    free(r->targets);
    munmap(r->page, sizeof(struct commit_page));
    munmap(r->counters, sizeof(struct counters));
    book_close(&r->book);
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

static bool router_step(struct router *r) {
    channel_flush(&r->control); /* router/main.c does so when there is room */
    bool worked = changes_step(r);
    if (!r->running)
        return takeover_step(r) || true;
    worked |= turn_run(r);
    if (r->wary & WARY_DEAD)
        worked |= links_clear(r);
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
    r->now = clock_mono_ns();
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

bool world_router_step(struct world *w) {
    w->router->now = w->now;
    w->router->wall = w->wall;
    w->now += 1000;
    return router_step(w->router);
}

bool world_step(struct world *w) {
    bool moved = false;
    if (w->router) {
        moved = world_router_step(w);
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
