/* SPDX-License-Identifier: Apache-2.0 */
/* What clients hold in this process: subscriptions, bytes that were read and not used, output that was not written.
 *
 *   subscriptions of one client beyond `memory connection`:  the next one is refused
 *   all of it beyond `memory frontend`:                      the client that holds most is closed, and so on until the rest
 *                                                            fits
 *
 * The other bounds of one client are its output (`max_pending`) and its input (`max_payload` and `max_control_line`). A
 * subscription has a price, which is given back when it ends, at the router's SLOT_FREE or CONN_FREE. As in the router, a
 * quarter more may be held by texts that are free amid others: beyond it subscriptions are refused and clients closed one at a
 * time, by the most that they ever had.
 */
#include "base/log.h"
#include "frontend/frontend.h"

enum { NEXT_MS = 100 };

static bool exceeds(uint64_t bytes, uint64_t limit) {
    return limit != 0 && bytes > limit;
}

static uint64_t used(const struct frontend *f) {
    return f->sub_bytes + input_held() + out_held();
}

static uint64_t held(const struct frontend *f) {
    return used(f) + f->texts.bytes - f->texts.used;
}

/* Without what is about to go. */
static uint64_t staying(const struct frontend *f) {
    uint64_t going = f->leaving_bytes + f->failing_bytes;
    return used(f) > going ? used(f) - going : 0;
}

static uint64_t holes_limit(const struct frontend *f) {
    return f->settings.frontend_bytes + f->settings.frontend_bytes / 4;
}

bool memory_refuses(const struct frontend *f, const struct client *c, uint64_t price) {
    return exceeds(c->sub_bytes + price, f->settings.conn_bytes) || exceeds(held(f) + price, holes_limit(f));
}

void memory_leaves(struct frontend *f, struct client *c) {
    f->leaving_bytes += c->sub_bytes;
}

static uint64_t held_by(const struct client *c, uint64_t sub_bytes) {
    return sub_bytes + c->in_cap + c->fence_cap + out_held_by(c);
}

static struct client *largest(const struct frontend *f) {
    struct client *found = NULL;
    uint64_t most = 0;
    for (uint32_t n = 0; n < f->number_high; n++) {
        struct client *c = f->by_number[n];
        uint64_t bytes = c && c->state < CLIENT_FAILED ? held_by(c, c->sub_bytes_most) : 0;
        if (bytes > most) {
            most = bytes;
            found = c;
        }
    }
    return found;
}

/* False: nobody holds anything. */
static bool close_largest(struct frontend *f) {
    struct client *c = largest(f);
    if (!c)
        return false;
    client_log(
        c, LOG_ERROR,
        "Out Of Memory: clients hold %llu bytes in this frontend, more than the option `memory frontend` allows, and "
        "this one holds most: subscriptions %llu (at most %llu), input %u, output %llu",
        (unsigned long long)held(f), (unsigned long long)c->sub_bytes, (unsigned long long)c->sub_bytes_most, c->in_cap,
        (unsigned long long)out_held_by(c));
    counter_add(f->counters, COUNTER_MEMORY_KICKED, 1);
    f->failing_bytes += held_by(c, c->sub_bytes);
    client_fail(f, c, "Out Of Memory");
    return true;
}

void memory_watch(struct frontend *f) {
    counter_set(f->counters, COUNTER_MEMORY, held(f));
    while (unlikely(exceeds(staying(f), f->settings.frontend_bytes)))
        if (!close_largest(f))
            return;
    if (likely(!exceeds(held(f), holes_limit(f))) || f->leaving_bytes + f->failing_bytes != 0 ||
        f->now_ms < f->memory_next_ms)
        return;
    f->memory_next_ms = f->now_ms + NEXT_MS;
    close_largest(f);
}
