/* SPDX-License-Identifier: Apache-2.0 */
/* shm/counters.h: a process's counters page.
 *
 * One memory per role, written by the process that plays the role, readable by the supervisor and sysacct. It belongs to the
 * role: a successor goes on counting in it. The table of names below is the only one.
 */
#ifndef SHM_COUNTERS_H
#define SHM_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

#include "shm/commit.h"

#define COUNTER_TABLE(X)                                                                                               \
    X(HEARTBEAT, "turns of the main loop")                                                                             \
    X(HEARTBEAT_SPARE, "turns of the spare router's loop")                                                             \
    X(IN_MSGS, "messages from connections")                                                                            \
    X(IN_BYTES, "payload bytes of them")                                                                               \
    X(OUT_MSGS, "messages to connections")                                                                             \
    X(OUT_BYTES, "payload bytes of them")                                                                              \
    X(CONNS, "live connections")                                                                                       \
    X(CONNS_TOTAL, "connections since start")                                                                          \
    X(SUBS, "live subscriptions")                                                                                      \
    X(SLOW_CONSUMERS, "connections closed because they did not read")                                                  \
    X(STALE, "connections closed because they did not answer PING")                                                    \
    X(PROTOCOL_ERRORS, "connections closed for what they sent")                                                        \
    X(BINDINGS, "bindings accepted or sealed")                                                                         \
    X(BINDINGS_REFUSED, "bindings refused")                                                                            \
    X(RECORDS_IGNORED, "records for connections or slots that had ended")                                              \
    X(LINKS_ENDED, "links ended because their edge broke a rule or made no progress")                                  \
    X(POISONED, "records skipped because a router died of them")                                                       \
    X(SPILLED, "records that went through an overflow")                                                                \
    X(STALLS, "publishers stalled")                                                                                    \
    X(LOST, "deliveries that an edge had not taken when it ended")                                                     \
    X(SERIAL_HIGH, "highest binding serial given out")                                                                 \
    X(PEER_HIGH, "address of the connection being worked on, upper half")                                              \
    X(PEER_LOW, "the same, lower half")                                                                                \
    X(LOG_DROPPED, "log lines that found no room")                                                                     \
    X(LOGINS, "logins decided")                                                                                        \
    X(LOGINS_REFUSED, "of them, refused")                                                                              \
    X(DENIED, "records refused by a permission")                                                                       \
    X(HANDSHAKES, "TLS handshakes that came to an end")                                                                \
    X(HANDSHAKES_FAILED, "of them, failed")                                                                            \
    X(SIGNATURES, "handshake signatures made")                                                                         \
    X(SIGNATURES_REFUSED, "requests for a signature that no honest frontend makes")                                    \
    X(MEMORY, "bytes that connections and subscriptions take")                                                         \
    X(MEMORY_REFUSED, "subscriptions refused because of the memory that they take")                                    \
    X(MEMORY_KICKED, "connections closed because the process had reached its memory limit, or had none")               \
    X(UNDELIVERED, "messages whose delivery failed, and the connection with it")                                       \
    X(MATCHES_CUT, "messages whose subject met too many patterns or queue groups to look at all of them")              \
    X(FAILED, "messages lost for want of memory in the router")                                                        \
    X(TURN_UNITS, "work units of the dearest turn so far")

enum counter {
#define X(name, text) COUNTER_##name,
    COUNTER_TABLE(X)
#undef X
        COUNTER_COUNT
};

struct counters {
    _Atomic uint64_t value[COUNTER_COUNT];
    _Atomic uint64_t link_conns[LINKS_MAX]; /* of the router: live connections by link, together CONNS */
};

/* There is one writer, so a load and a store do; no locked instruction. */
static inline void counter_add(struct counters *c, enum counter which, uint64_t n) {
    uint64_t v = atomic_load_explicit(&c->value[which], memory_order_relaxed);
    atomic_store_explicit(&c->value[which], v + n, memory_order_relaxed);
}

static inline void counter_set(struct counters *c, enum counter which, uint64_t v) {
    atomic_store_explicit(&c->value[which], v, memory_order_relaxed);
}

static inline uint64_t counter_get(const struct counters *c, enum counter which) {
    return atomic_load_explicit(&c->value[which], memory_order_relaxed);
}

#endif
