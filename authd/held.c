/* SPDX-License-Identifier: Apache-2.0 */
#include "authd/held.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static bool before(const struct held_answer *a, const struct held_answer *b) {
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->number < b->number;
}

static void place(struct held *h, uint32_t i, struct held_answer *one) {
    h->at[i] = one;
    one->place = i;
}

static void swap(struct held *h, uint32_t a, uint32_t b) {
    struct held_answer *kept = h->at[a];
    place(h, a, h->at[b]);
    place(h, b, kept);
}

static void rise(struct held *h, uint32_t i) {
    for (; i && before(h->at[i], h->at[(i - 1) / 2]); i = (i - 1) / 2)
        swap(h, i, (i - 1) / 2);
}

static void sink(struct held *h, uint32_t i) {
    for (;;) {
        uint32_t first = i;
        for (uint32_t child = 2 * i + 1; child <= 2 * i + 2 && child < h->count; child++) {
            if (before(h->at[child], h->at[first]))
                first = child;
        }
        if (first == i)
            return;
        swap(h, i, first);
        i = first;
    }
}

static bool make_room(struct held *h) {
    if (h->count < h->cap)
        return true;
    uint32_t cap = h->cap ? 2 * h->cap : 64;
    struct held_answer **larger = realloc(h->at, cap * sizeof(struct held_answer *));
    if (!larger)
        return false;
    h->at = larger;
    h->cap = cap;
    return true;
}

struct held_answer *held_put(struct held *h, const struct answer *answer, uint64_t due_ms) {
    check(answer->link < LINKS_MAX);
    if (h->of_link[answer->link] >= HELD_LINK_MAX || !make_room(h))
        return NULL;
    struct held_answer *one = malloc(sizeof *one);
    if (!one)
        return NULL;
    *one = (struct held_answer){.due_ms = due_ms, .number = ++h->number, .answer = *answer};
    h->of_link[answer->link]++;
    place(h, h->count++, one);
    rise(h, one->place);
    return one;
}

struct held_answer *held_first(const struct held *h) {
    return h->count ? h->at[0] : NULL;
}

void held_take(struct held *h, struct held_answer *one, struct answer *answer) {
    uint32_t i = one->place;
    check(i < h->count && h->at[i] == one);
    *answer = one->answer;
    h->of_link[answer->link]--;
    free(one);
    if (i == --h->count)
        return;
    place(h, i, h->at[h->count]);
    rise(h, i);
    sink(h, i);
}

void held_free(struct held *h) {
    for (uint32_t i = 0; i < h->count; i++)
        free(h->at[i]);
    free(h->at);
    *h = (struct held){0};
}
