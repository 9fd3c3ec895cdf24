/* SPDX-License-Identifier: Apache-2.0 */
/* The edges, and the memory of their links.
 *
 *   DOWN --start--> MAPPING --it has mapped, sealed--> MAPPED --router at work--> LINKING --router has mapped, Go--> GOING
 *    ^                                                                               |                                 |
 *    +------- the router has taken leave of it, or has died itself --- LEAVING <-----+------------- it dies -----------+
 *
 * Nothing of a dead edge is used again but its number, its listener and what its counters page counted: memory and
 * incarnation are new.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "config/networks.h"
#include "shm/counters.h"
#include "shm/memfd.h"
#include "supervisor/supervisor.h"

enum {
    CID_BLOCK = 1024,
    REST_MS = 60000,      /* longest rest in a crash loop, while other frontends serve clients */
    REST_ALONE_MS = 1000, /* the same if there is no other */
    QUEUE_MS = 1000,      /* a shorter rest new connections wait out in the listener's queue */
};

/* ---- counters ---- */

static void carry_counters(int to_fd, int from_fd) {
    void *to, *from;
    size_t bytes = memfd_round(sizeof(struct counters));
    if (memfd_map(&from, from_fd, bytes, 0) != ERR_OK)
        return;
    if (memfd_map(&to, to_fd, bytes, 1) == ERR_OK) {
        memcpy(to, from, sizeof(struct counters));
        static const enum counter of_one_life[] = {COUNTER_CONNS, COUNTER_SUBS, COUNTER_PEER_HIGH, COUNTER_PEER_LOW};
        for (size_t i = 0; i < sizeof of_one_life / sizeof *of_one_life; i++)
            counter_set(to, of_one_life[i], 0);
        munmap(to, bytes);
    }
    munmap(from, bytes);
}

/* A page that was sealed cannot be mapped for writing again, so a successor gets a new one with the old counts. */
static enum err renew_counters(struct edge *edge) {
    int fresh;
    enum err e = memfd_make(&fresh, "counters", sizeof(struct counters), 1);
    if (e != ERR_OK)
        return e;
    if (edge->counters_fd >= 0) {
        carry_counters(fresh, edge->counters_fd);
        close(edge->counters_fd);
    }
    edge->counters_fd = fresh;
    return ERR_OK;
}

static enum err seal_counters(struct edge *edge) {
    int reader;
    enum err e = memfd_reader(&reader, edge->counters_fd);
    if (e == ERR_OK)
        e = memfd_seal_writer(edge->counters_fd);
    if (e == ERR_OK) {
        close(edge->counters_fd);
        edge->counters_fd = reader;
    }
    return e;
}

/* ---- addresses that frontends died of ---- */

static void send_delay(struct supervisor *s, struct child *c, const struct culprit *culprit) {
    Bulkhead__Delay delay = BULKHEAD__DELAY__INIT;
    delay.source = (ProtobufCBinaryData){sizeof culprit->source, (uint8_t *)(uintptr_t)&culprit->source};
    delay.wait_ms = culprit->wait_ms;
    delay.lasts_ms = (uint32_t)culprits_lasts_ms(culprit, s->now_ms);
    if (delay.lasts_ms)
        child_send(s, c, MESSAGE_DELAY, &delay.base, NULL, 0);
}

/* To a frontend that begins. */
static void send_delays(struct supervisor *s, struct child *c) {
    for (uint32_t i = 0; i < s->culprits.count; i++)
        send_delay(s, c, &s->culprits.at[i]);
}

/* Whose bytes it was working on when it died. */
static bool read_peer(const struct edge *edge, struct in6_addr *peer) {
    static const struct in6_addr nobody;
    _Static_assert(COUNTER_PEER_LOW == COUNTER_PEER_HIGH + 1, "one address, read at once");
    off_t at = COUNTER_PEER_HIGH * (off_t)sizeof(uint64_t);
    return pread(edge->counters_fd, peer, sizeof *peer, at) == sizeof *peer && memcmp(peer, &nobody, sizeof *peer) != 0;
}

static void note_culprit(struct supervisor *s, const struct edge *died) {
    struct in6_addr peer;
    char text[CULPRITS_TEXT];
    if (!read_peer(died, &peer) || networks_hold(view_text(s->config.options.crash_exempt), &peer))
        return;
    const struct culprit *culprit = culprits_note(&s->culprits, &peer, s->now_ms);
    culprits_text(culprit, text);
    if (!culprit->wait_ms) {
        log_warn("%s %u died of what came from %s", died->child->role->name, died->child->index, text);
        return;
    }
    log_warn("%s %u died of what came from %s, as others before it: new connections from there wait %u ms",
             died->child->role->name, died->child->index, text, culprit->wait_ms);
    for (struct edge *e = edges_next(s, NULL); e; e = edges_next(s, e)) {
        if (e->state == EDGE_GOING && e != died && e->child->role == died->child->role)
            send_delay(s, e->child, culprit);
    }
}

/* ---- listeners ---- */

/* True if another process of its kind has a listener and is ready. */
static bool others_serve(struct supervisor *s, const struct edge *edge) {
    for (struct edge *e = edges_next(s, NULL); e; e = edges_next(s, e)) {
        if (e != edge && e->listener >= 0 && e->child->ready && e->child->role == edge->child->role)
            return true;
    }
    return false;
}

/* The kernel gives a listener its share of the new connections whether anybody accepts them or not. So while a frontend
 * rests for long its listener is closed, and the others get that share. The last one stays open. */
static void rest_listener(struct supervisor *s, struct edge *edge, uint32_t rest_ms) {
    if (rest_ms < QUEUE_MS || edge->listener < 0 || !others_serve(s, edge))
        return;
    close(edge->listener);
    edge->listener = -1;
    log_warn("%s %u rests for %u ms: new connections go to the others", edge->child->role->name, edge->child->index,
             rest_ms);
}

/* ERR_SYSTEM with errno. */
static enum err open_listener(struct supervisor *s, struct edge *edge) {
    if (edge->listener >= 0 || !(edge->child->role->gifts & GIFT_LISTENER))
        return ERR_OK;
    for (struct edge *e = edges_next(s, NULL); e; e = edges_next(s, e)) {
        if (e->listener >= 0 && e->child->role == edge->child->role)
            return listeners_join(&edge->listener, e->listener);
    }
    errno = ENOTCONN;
    return ERR_SYSTEM;
}

/* ---- a life ---- */

static void send_link(struct supervisor *s, struct child *to, const struct edge *edge, bool fresh, const int *fds,
                      int fd_count) {
    Bulkhead__Link message = BULKHEAD__LINK__INIT;
    message.link = edge->child->link;
    message.kind = edge->child->role->kind;
    message.incarnation = edge->incarnation;
    message.fresh = fresh;
    child_send(s, to, MESSAGE_LINK, &message.base, fds, fd_count);
}

static void tell_edge(struct supervisor *s, const struct edge *edge) {
    int fds[LINK_EDGE_FDS];
    links_edge_fds(&edge->memory, fds);
    send_link(s, edge->child, edge, true, fds, LINK_EDGE_FDS);
}

/* The one at work. */
static void tell_router(struct supervisor *s, const struct edge *edge, bool fresh) {
    int fds[LINK_ROUTER_FDS];
    links_router_fds(&edge->memory, fds);
    send_link(s, &s->child[s->router], edge, fresh, fds, LINK_ROUTER_FDS);
}

static enum err make_memory(const struct supervisor *s, struct edge *edge) {
    enum err e = renew_counters(edge);
    return e != ERR_OK ? e
                       : links_make(&edge->memory, s->payload_most, s->control_line_most,
                                    (uint64_t)s->config.options.ring_bytes, s->settings.spill_bytes);
}

static void try_later(struct supervisor *s, struct child *c, const char *missing) {
    log_error("No %s %s %u: %s; tried again in a second", missing, c->role->name, c->index, strerror(errno));
    c->restart_ms = s->now_ms + 1000;
}

void edges_start(struct supervisor *s, struct child *c) {
    struct edge *edge = c->link != LINK_NONE ? &s->edge[c->link] : NULL;
    if (s->lame)
        c->restart_ms = 0; /* never again */
    if (s->stop || s->lame || c->pid || !edge || edge->child != c || edge->state != EDGE_DOWN)
        return;
    if (open_listener(s, edge) != ERR_OK) {
        try_later(s, c, "listener for");
        return;
    }
    if (make_memory(s, edge) != ERR_OK) {
        try_later(s, c, "memory for the link of");
        return;
    }
    edge->incarnation = s->next_incarnation++;
    if (child_start(s, c) != ERR_OK) {
        links_close(&edge->memory);
        return;
    }
    edge->state = EDGE_MAPPING;
    edge->replay_owed = false;
    parts_send(s, c, &s->parts, s->settings.generation);
    tell_edge(s, edge);
    if (c->role->gifts & GIFT_LISTENER)
        places_join(&s->places, c->link);
}

void edges_router_begins(struct supervisor *s) {
    for (struct edge *e = edges_next(s, NULL); e; e = edges_next(s, e)) {
        if (e->state == EDGE_MAPPED)
            e->state = EDGE_LINKING;
        if (e->state != EDGE_LINKING && e->state != EDGE_GOING)
            continue;
        e->replay_owed = e->state == EDGE_GOING;
        tell_router(s, e, !e->replay_owed);
    }
}

void edges_link_waiting(struct supervisor *s) {
    for (struct edge *e = edges_next(s, NULL); e; e = edges_next(s, e)) {
        if (e->state == EDGE_MAPPED && s->router_state == ROUTER_READY) {
            e->state = EDGE_LINKING;
            tell_router(s, e, true);
        }
    }
}

static void on_edge_mapped(struct supervisor *s, struct edge *edge) {
    struct child *c = edge->child;
    if (edge->state != EDGE_MAPPING) {
        child_blame(c, "mapped out of turn");
        return;
    }
    if (links_seal_edge(&edge->memory) != ERR_OK || seal_counters(edge) != ERR_OK) {
        log_error("The memory of %s %u cannot be sealed: %s", c->role->name, c->index, strerror(errno));
        child_blame(c, "has a link that cannot be trusted");
        return;
    }
    edge->state = EDGE_MAPPED;
    edges_link_waiting(s);
}

static void send_cids(struct supervisor *s, struct child *c) {
    Bulkhead__Cids cids = BULKHEAD__CIDS__INIT;
    cids.first = s->next_cid;
    cids.count = CID_BLOCK;
    s->next_cid += CID_BLOCK;
    child_send(s, c, MESSAGE_CIDS, &cids.base, NULL, 0);
}

void edges_router_mapped(struct supervisor *s, struct edge *edge) {
    struct child *c = edge->child;
    if (edge->state != EDGE_LINKING)
        return; /* it was going before this router came, or has died meanwhile */
    edge->state = EDGE_GOING;
    child_meet(s, c);
    send_cids(s, c);
    if (c->role->gifts & GIFT_LISTENER) {
        send_delays(s, c);
        child_send(s, c, MESSAGE_LISTENER, NULL, &edge->listener, 1);
    }
    child_send(s, c, MESSAGE_GO, NULL, NULL, 0);
}

void edges_on_note(struct supervisor *s, struct child *c, const struct note *note) {
    struct edge *edge = &s->edge[c->link];
    switch (note->type) {
    case NOTE_MAPPED:
        on_edge_mapped(s, edge);
        break;
    case NOTE_READY:
        if (edge->state != EDGE_GOING)
            child_blame(c, "was ready out of turn");
        else
            c->ready = true;
        break;
    case NOTE_WANT_CIDS:
        send_cids(s, c);
        break;
    case NOTE_WANT_PLACES:
        places_want(&s->places, c->link, s->now_ms);
        break;
    case NOTE_PLACES_BACK:
        if (places_back(&s->places, c->link, note->number, s->now_ms) != ERR_OK)
            child_blame(c, "gave back more places than it had");
        break;
    case NOTE_LAME_DONE:
        if (s->lame)
            lame_on_done(s, edge);
        else
            child_blame(c, "is no lame duck");
        break;
    default:
        child_blame(c, "sent a note that its role may not send");
    }
}

/* ---- deaths ---- */

/* Nothing of the old life is left: a new one, now or after the delay. */
static void renew(struct supervisor *s, struct edge *edge) {
    edge->state = EDGE_DOWN;
    if (edge->child->restart_ms <= s->now_ms)
        edges_start(s, edge->child);
}

void edges_on_exit(struct supervisor *s, struct child *c, const struct death *death) {
    struct edge *edge = &s->edge[c->link];
    c->ready = false;
    if (death->caused)
        note_culprit(s, edge);
    uint32_t rest_ms = child_rest(s, c, death->fault, others_serve(s, edge) ? REST_MS : REST_ALONE_MS);
    rest_listener(s, edge, rest_ms);
    links_close(&edge->memory);
    if (c->role->gifts & GIFT_LISTENER)
        places_leave(&s->places, c->link, s->now_ms);
    if (s->lame)
        lame_on_done(s, edge);
    bool router_knows = s->router && (edge->state == EDGE_LINKING || edge->state == EDGE_GOING);
    if (!router_knows) {
        renew(s, edge);
        return;
    }
    edge->state = EDGE_LEAVING;
    Bulkhead__LinkDown down = BULKHEAD__LINK_DOWN__INIT;
    down.link = c->link;
    down.incarnation = edge->incarnation;
    child_send(s, &s->child[s->router], MESSAGE_LINK_DOWN, &down.base, NULL, 0);
}

void edges_router_gone(struct supervisor *s, struct edge *edge, uint64_t incarnation) {
    if (edge->state == EDGE_LEAVING && edge->incarnation == incarnation)
        renew(s, edge);
}

void edges_router_bad(struct edge *edge, uint64_t incarnation) {
    if ((edge->state == EDGE_LINKING || edge->state == EDGE_GOING) && edge->incarnation == incarnation)
        child_blame(edge->child, "broke a rule of its link or makes no progress");
}

void edges_router_recovered(struct supervisor *s) {
    Bulkhead__Replay replay = BULKHEAD__REPLAY__INIT;
    replay.epoch = s->epoch;
    for (struct edge *e = edges_next(s, NULL); e; e = edges_next(s, e)) {
        if (e->state == EDGE_GOING && e->replay_owed)
            child_send(s, e->child, MESSAGE_REPLAY, &replay.base, NULL, 0);
        e->replay_owed = false;
    }
}

void edges_router_died(struct supervisor *s) {
    for (struct edge *e = edges_next(s, NULL); e; e = edges_next(s, e)) {
        if (e->state == EDGE_LINKING)
            e->state = EDGE_MAPPED;
        if (e->state == EDGE_LEAVING)
            renew(s, e);
    }
}
