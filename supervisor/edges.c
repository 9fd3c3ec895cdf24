/* SPDX-License-Identifier: Apache-2.0 */
/* The edges, and the memory of their links.
 *
 *   DOWN --start--> MAPPING --it has mapped, sealed--> MAPPED --router at work--> LINKING --router has mapped, Go-->
 * GOING ^                                                                              | |
 *     +------- the router has taken leave of it, or has died itself --- LEAVING <----+----------- it dies ------------+
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

static struct child *edge_child(struct supervisor *s, uint32_t link) {
    return child_of(s, BULKHEAD__ROLE__ROLE_FRONTEND, link);
}

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

static void note_culprit(struct supervisor *s, uint32_t link) {
    struct in6_addr peer;
    char text[CULPRITS_TEXT];
    if (!read_peer(&s->edge[link], &peer) || networks_hold(view_text(s->config.options.crash_exempt), &peer))
        return;
    const struct culprit *culprit = culprits_note(&s->culprits, &peer, s->now_ms);
    culprits_text(culprit, text);
    if (!culprit->wait_ms) {
        log_warn("frontend %u died of what came from %s", link, text);
        return;
    }
    log_warn("frontend %u died of what came from %s, as others before it: new connections from there wait %u ms", link,
             text, culprit->wait_ms);
    for (uint32_t i = 0; i < s->edge_count; i++) {
        if (s->edge[i].state == EDGE_GOING && i != link)
            send_delay(s, edge_child(s, i), culprit);
    }
}

/* ---- listeners ---- */

/* The listener of another frontend that serves clients; -1: there is none. */
static int other_listener(struct supervisor *s, uint32_t link) {
    for (uint32_t i = 0; i < s->edge_count; i++) {
        if (i != link && s->edge[i].listener >= 0 && edge_child(s, i)->ready)
            return s->edge[i].listener;
    }
    return -1;
}

/* The kernel gives a listener its share of the new connections whether anybody accepts them or not. So while a frontend
 * rests for long its listener is closed, and the others get that share. The last one stays open. */
static void rest_listener(struct supervisor *s, uint32_t link, uint32_t rest_ms) {
    struct edge *edge = &s->edge[link];
    if (rest_ms < QUEUE_MS || edge->listener < 0 || other_listener(s, link) < 0)
        return;
    close(edge->listener);
    edge->listener = -1;
    log_warn("frontend %u rests for %u ms: new connections go to the others", link, rest_ms);
}

/* ERR_SYSTEM with errno. */
static enum err open_listener(struct supervisor *s, uint32_t link) {
    if (s->edge[link].listener >= 0)
        return ERR_OK;
    for (uint32_t i = 0; i < s->edge_count; i++) {
        if (s->edge[i].listener >= 0)
            return listeners_join(&s->edge[link].listener, s->edge[i].listener);
    }
    errno = ENOTCONN;
    return ERR_SYSTEM;
}

/* ---- a life ---- */

static void send_edge_link(struct supervisor *s, uint32_t link) {
    int fds[LINK_EDGE_FDS];
    links_edge_fds(&s->edge[link].memory, fds);
    Bulkhead__Link message = BULKHEAD__LINK__INIT;
    message.link = link;
    message.kind = LINK_FRONTEND;
    message.incarnation = s->edge[link].incarnation;
    message.fresh = true;
    child_send(s, edge_child(s, link), MESSAGE_LINK, &message.base, fds, LINK_EDGE_FDS);
}

void edges_start(struct supervisor *s, uint32_t link) {
    struct edge *edge = &s->edge[link];
    struct child *c = edge_child(s, link);
    if (s->lame)
        c->restart_ms = 0; /* never again */
    if (s->stop || s->lame || c->pid || edge->state != EDGE_DOWN)
        return;
    if (open_listener(s, link) != ERR_OK) {
        log_error("No listener for frontend %u: %s; tried again in a second", link, strerror(errno));
        c->restart_ms = s->now_ms + 1000;
        return;
    }
    enum err e = renew_counters(edge);
    if (e == ERR_OK)
        e = links_make(&edge->memory, s->payload_most, s->control_line_most,
                       (uint64_t)s->config.options.ring_bytes, s->settings.spill_bytes);
    if (e != ERR_OK) {
        log_error("No memory for the link of frontend %u: %s; tried again in a second", link, strerror(errno));
        c->restart_ms = s->now_ms + 1000;
        return;
    }
    edge->incarnation = s->next_incarnation++;
    if (child_start(s, c, edge->counters_fd) != ERR_OK) {
        links_close(&edge->memory);
        return;
    }
    edge->state = EDGE_MAPPING;
    edge->replay_owed = false;
    parts_send(s, c, &s->parts, s->settings.generation);
    send_edge_link(s, link);
    places_join(&s->places, link);
}

void edges_link_waiting(struct supervisor *s) {
    for (uint32_t i = 0; i < s->edge_count; i++) {
        if (s->edge[i].state == EDGE_MAPPED && s->router_state == ROUTER_READY) {
            s->edge[i].state = EDGE_LINKING;
            routers_link(s, i, true);
        }
    }
}

static void on_edge_mapped(struct supervisor *s, struct child *c, uint32_t link) {
    struct edge *edge = &s->edge[link];
    if (edge->state != EDGE_MAPPING) {
        child_blame(c, "mapped out of turn");
        return;
    }
    if (links_seal_edge(&edge->memory) != ERR_OK || seal_counters(edge) != ERR_OK) {
        log_error("The memory of frontend %u cannot be sealed: %s", link, strerror(errno));
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

void edges_router_mapped(struct supervisor *s, uint32_t link) {
    struct edge *edge = &s->edge[link];
    struct child *c = edge_child(s, link);
    if (edge->state != EDGE_LINKING)
        return; /* it was going before this router came, or has died meanwhile */
    edge->state = EDGE_GOING;
    child_introduce(s, child_of(s, BULKHEAD__ROLE__ROLE_AUTHD, 0), c);
    child_introduce(s, child_of(s, BULKHEAD__ROLE__ROLE_SIGNER, 0), c);
    send_cids(s, c);
    send_delays(s, c);
    child_send(s, c, MESSAGE_LISTENER, NULL, &edge->listener, 1);
    child_send(s, c, MESSAGE_GO, NULL, NULL, 0);
}

static void on_edge_ready(struct supervisor *s, struct child *c) {
    c->ready = true;
    for (uint32_t i = 0; i < s->edge_count; i++) {
        if (!edge_child(s, i)->ready)
            return;
    }
    if (!s->announced)
        supervisor_announce(s);
}

void edges_on_note(struct supervisor *s, struct child *c, const struct note *note) {
    uint32_t link = child_link(c);
    switch (note->type) {
    case NOTE_MAPPED:
        on_edge_mapped(s, c, link);
        break;
    case NOTE_READY:
        if (s->edge[link].state != EDGE_GOING)
            child_blame(c, "was ready out of turn");
        else
            on_edge_ready(s, c);
        break;
    case NOTE_WANT_CIDS:
        send_cids(s, c);
        break;
    case NOTE_WANT_PLACES:
        places_want(&s->places, link, s->now_ms);
        break;
    case NOTE_PLACES_BACK:
        if (places_back(&s->places, link, note->number, s->now_ms) != ERR_OK)
            child_blame(c, "gave back more places than it had");
        break;
    case NOTE_LAME_DONE:
        if (s->lame)
            lame_on_done(s, link);
        else
            child_blame(c, "is no lame duck");
        break;
    default:
        child_blame(c, "sent a note that its role may not send");
    }
}

/* ---- deaths ---- */

/* Nothing of the old life is left: a new one, now or after the delay. */
static void renew(struct supervisor *s, uint32_t link) {
    s->edge[link].state = EDGE_DOWN;
    struct child *c = edge_child(s, link);
    if (c->restart_ms <= s->now_ms)
        edges_start(s, link);
}

void edges_on_exit(struct supervisor *s, struct child *c, bool fault, bool caused) {
    uint32_t link = child_link(c);
    struct edge *edge = &s->edge[link];
    c->ready = false;
    if (caused)
        note_culprit(s, link);
    uint32_t most_ms = other_listener(s, link) < 0 ? REST_ALONE_MS : REST_MS;
    uint32_t delay_ms = child_restart_delay(s, c, &edge->restarts, fault, most_ms);
    c->restart_ms = s->now_ms + delay_ms;
    rest_listener(s, link, delay_ms);
    links_close(&edge->memory);
    places_leave(&s->places, link, s->now_ms);
    if (s->lame)
        lame_on_done(s, link);
    bool router_knows = s->router && (edge->state == EDGE_LINKING || edge->state == EDGE_GOING);
    if (!router_knows) {
        renew(s, link);
        return;
    }
    edge->state = EDGE_LEAVING;
    Bulkhead__LinkDown down = BULKHEAD__LINK_DOWN__INIT;
    down.link = link;
    down.incarnation = edge->incarnation;
    child_send(s, &s->child[s->router], MESSAGE_LINK_DOWN, &down.base, NULL, 0);
}

void edges_router_gone(struct supervisor *s, uint32_t link, uint64_t incarnation) {
    if (s->edge[link].state == EDGE_LEAVING && s->edge[link].incarnation == incarnation)
        renew(s, link);
}

void edges_router_bad(struct supervisor *s, uint32_t link, uint64_t incarnation) {
    struct edge *edge = &s->edge[link];
    if ((edge->state == EDGE_LINKING || edge->state == EDGE_GOING) && edge->incarnation == incarnation)
        child_blame(edge_child(s, link), "broke a rule of its link or makes no progress");
}

void edges_router_recovered(struct supervisor *s) {
    Bulkhead__Replay replay = BULKHEAD__REPLAY__INIT;
    replay.epoch = s->epoch;
    for (uint32_t i = 0; i < s->edge_count; i++) {
        if (s->edge[i].state == EDGE_GOING && s->edge[i].replay_owed)
            child_send(s, edge_child(s, i), MESSAGE_REPLAY, &replay.base, NULL, 0);
        s->edge[i].replay_owed = false;
    }
}

void edges_router_died(struct supervisor *s) {
    for (uint32_t i = 0; i < s->edge_count; i++) {
        if (s->edge[i].state == EDGE_LINKING)
            s->edge[i].state = EDGE_MAPPED;
        if (s->edge[i].state == EDGE_LEAVING)
            renew(s, i);
    }
}
