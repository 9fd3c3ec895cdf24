/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/places.h"

#include <string.h>

#include "base/check.h"

void places_open(struct places *p, uint32_t count, void *owner, void (*send_places)(void *, uint32_t, uint32_t),
                 void (*send_recall)(void *, uint32_t)) {
    *p = (struct places){.free = count,
                         .total = count,
                         .each_max = UINT32_MAX,
                         .owner = owner,
                         .send_places = send_places,
                         .send_recall = send_recall};
}

static uint32_t count_present(const struct places *p) {
    uint32_t present = 0;
    for (uint32_t i = 0; i < LINKS_MAX; i++)
        present += p->present[i];
    return present ? present : 1;
}

static uint32_t clamp_block(uint32_t block) {
    return block < 1 ? 1 : block > PLACES_BLOCK_MAX ? PLACES_BLOCK_MAX : block;
}

/* How many places a frontend holds beyond its due. */
static uint32_t excess_of(const struct places *p, uint32_t frontend) {
    uint32_t share = p->total / count_present(p);
    uint64_t due = (uint64_t)p->count_bound(p->owner, frontend) + clamp_block(share / 4);
    due = due > share ? due : share;
    return p->leased[frontend] > due ? p->leased[frontend] - (uint32_t)due : 0;
}

static uint32_t room_of(const struct places *p, uint32_t frontend) {
    return p->leased[frontend] < p->each_max ? p->each_max - p->leased[frontend] : 0;
}

/* Large while there is plenty, one near the bound; 0: that frontend has all that it may have. */
static uint32_t block_size(const struct places *p, uint32_t frontend) {
    uint32_t block = clamp_block(p->free / (4 * count_present(p)));
    return block < room_of(p, frontend) ? block : room_of(p, frontend);
}

static void queue_remove(struct places *p, uint32_t at) {
    p->asking[p->queue[at]] = false;
    memmove(p->queue + at, p->queue + at + 1, p->queue_len - at - 1);
    p->queue_len--;
}

static void answer_first(struct places *p, uint32_t count) {
    uint32_t frontend = p->queue[0];
    queue_remove(p, 0);
    p->stage = PLACES_REST;
    p->free -= count;
    p->leased[frontend] += count;
    p->send_places(p->owner, frontend, count);
}

static bool answers_owed(const struct places *p) {
    for (uint32_t i = 0; i < LINKS_MAX; i++) {
        if (p->recalled[i] && i != p->queue[0])
            return true;
    }
    return false;
}

static void begin_stage(struct places *p, enum places_stage stage, uint64_t now_ms) {
    p->stage = stage;
    p->stage_ends_ms = now_ms + PLACES_WAIT_MS;
}

static void recall_others(struct places *p, uint64_t now_ms) {
    begin_stage(p, PLACES_RECALL, now_ms);
    for (uint32_t i = 0; i < LINKS_MAX; i++) {
        if (p->present[i] && !p->recalled[i] && i != p->queue[0]) {
            p->recalled[i] = true;
            p->send_recall(p->owner, i);
        }
    }
}

/* What is free goes to what is owed. */
static void pay(struct places *p) {
    uint32_t paid = p->free < p->owed ? p->free : p->owed;
    p->free -= paid;
    p->owed -= paid;
}

/* Every idle place is back: the rest is in use, and each frontend closes its share. */
static void shed(struct places *p) {
    uint64_t leased = 0, left = p->owed;
    p->resizing = false;
    for (uint32_t i = 0; i < LINKS_MAX; i++)
        leased += p->leased[i];
    for (uint32_t i = 0; i < LINKS_MAX && left; i++) {
        uint64_t share = leased ? (p->owed * (uint64_t)p->leased[i] + leased - 1) / leased : 0;
        share = share < left ? share : left;
        share = share < p->leased[i] ? share : p->leased[i];
        left -= share;
        if (share && p->send_shed)
            p->send_shed(p->owner, i, (uint32_t)share, false);
    }
}

static void go_on_resizing(struct places *p) {
    pay(p);
    if (!p->resizing)
        return;
    for (uint32_t i = 0; i < LINKS_MAX; i++) {
        if (p->owed && p->recalled[i])
            return;
    }
    shed(p);
}

/* False: nobody holds more than is due to it. */
static bool shed_excess(struct places *p, uint64_t now_ms) {
    uint32_t most = 0;
    for (uint32_t i = 0; i < LINKS_MAX && p->count_bound; i++) {
        uint32_t excess = p->present[i] && i != p->queue[0] ? excess_of(p, i) : 0;
        if (excess > most) {
            most = excess;
            p->shedding = i;
        }
    }
    if (!most)
        return false;
    uint32_t step = clamp_block(p->total / count_present(p) / 16);
    begin_stage(p, PLACES_SHED, now_ms);
    p->send_shed(p->owner, p->shedding, most < step ? most : step, true);
    return true;
}

/* Answers who can be answered, from the first in the queue. */
static void serve(struct places *p, uint64_t now_ms) {
    go_on_resizing(p);
    while (p->queue_len) {
        if (p->free || !room_of(p, p->queue[0])) {
            answer_first(p, block_size(p, p->queue[0]));
            continue;
        }
        if (p->stage == PLACES_REST)
            recall_others(p, now_ms);
        if (p->stage != PLACES_RECALL || answers_owed(p) || shed_excess(p, now_ms))
            return;
        answer_first(p, 0);
    }
}

/* The time of a stage is over. Returns true if somebody was ended for it: then its places are waited for. */
static bool end_guilty(struct places *p) {
    bool ended = false;
    for (uint32_t i = 0; i < LINKS_MAX; i++) {
        bool silent = p->stage == PLACES_RECALL && p->recalled[i] && i != p->queue[0];
        bool keeps = p->stage == PLACES_SHED && i == p->shedding && p->present[i] && excess_of(p, i);
        if ((silent || keeps) && p->end) {
            p->end(p->owner, i,
                   silent ? "does not say which places for connections it does not use"
                          : "keeps places for connections that it does not have");
            ended = true;
        }
    }
    return ended;
}

void places_join(struct places *p, uint32_t frontend) {
    check(frontend < LINKS_MAX && !p->present[frontend]);
    p->present[frontend] = true;
}

void places_leave(struct places *p, uint32_t frontend, uint64_t now_ms) {
    if (!p->present[frontend])
        return;
    p->free += p->leased[frontend];
    p->leased[frontend] = 0;
    p->present[frontend] = p->recalled[frontend] = false;
    for (uint32_t i = 0; i < p->queue_len; i++) {
        if (p->queue[i] == frontend) {
            p->stage = i == 0 ? PLACES_REST : p->stage;
            queue_remove(p, i);
            break;
        }
    }
    serve(p, now_ms);
}

void places_want(struct places *p, uint32_t frontend, uint64_t now_ms) {
    if (!p->present[frontend] || p->asking[frontend])
        return;
    p->asking[frontend] = true;
    p->queue[p->queue_len++] = (uint8_t)frontend;
    serve(p, now_ms);
}

enum err places_back(struct places *p, uint32_t frontend, uint32_t count, uint64_t now_ms) {
    if (!p->present[frontend] || count > p->leased[frontend])
        return ERR_HOSTILE;
    p->leased[frontend] -= count;
    p->free += count;
    p->recalled[frontend] = false;
    serve(p, now_ms);
    return ERR_OK;
}

void places_resize(struct places *p, uint32_t total, uint64_t now_ms) {
    if (total >= p->total) {
        uint32_t more = total - p->total, paid = more < p->owed ? more : p->owed;
        p->owed -= paid;
        p->free += more - paid;
    } else {
        p->owed += p->total - total;
        pay(p);
    }
    p->total = total;
    p->resizing = p->owed != 0;
    for (uint32_t i = 0; i < LINKS_MAX && p->owed; i++) {
        if (p->present[i] && !p->recalled[i]) {
            p->recalled[i] = true;
            p->send_recall(p->owner, i);
        }
    }
    p->resize_ends_ms = now_ms + PLACES_WAIT_MS;
    serve(p, now_ms);
}

static uint64_t earlier(uint64_t a, uint64_t b) {
    return !a || (b && b < a) ? b : a;
}

uint64_t places_tick(struct places *p, uint64_t now_ms) {
    if (p->resizing && now_ms >= p->resize_ends_ms)
        shed(p);
    if (p->stage != PLACES_REST && now_ms >= p->stage_ends_ms) {
        bool ended = end_guilty(p);
        memset(p->recalled, 0, sizeof p->recalled); /* too late an answer still counts as places given back */
        if (ended)
            begin_stage(p, PLACES_END, now_ms);
        else
            answer_first(p, 0);
        serve(p, now_ms);
    }
    return earlier(p->resizing ? p->resize_ends_ms : 0, p->stage != PLACES_REST ? p->stage_ends_ms : 0);
}

void places_forgive(struct places *p, uint64_t ms) {
    p->stage_ends_ms += ms;
    p->resize_ends_ms += ms;
}
