#include "authd/held.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

static bool before(const struct held_answer *a, const struct held_answer *b) {
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->number < b->number;
}

static void swap(struct held *h, uint32_t a, uint32_t b) {
    struct held_answer *kept = h->at[a];
    h->at[a] = h->at[b];
    h->at[b] = kept;
}

enum err held_put(struct held *h, const struct answer *answer, uint64_t due_ms) {
    check(answer->link < LINKS_MAX);
    if (h->of_link[answer->link] >= HELD_LINK_MAX)
        return ERR_LONG;
    if (h->count == h->cap) {
        uint32_t cap = h->cap ? 2 * h->cap : 64;
        struct held_answer **larger = realloc(h->at, cap * sizeof(struct held_answer *));
        if (!larger)
            return ERR_NOMEM;
        h->at = larger;
        h->cap = cap;
    }
    struct held_answer *one = malloc(sizeof *one);
    if (!one)
        return ERR_NOMEM;
    *one = (struct held_answer){due_ms, ++h->number, *answer};
    h->of_link[answer->link]++;
    uint32_t i = h->count++;
    h->at[i] = one;
    for (; i && before(h->at[i], h->at[(i - 1) / 2]); i = (i - 1) / 2)
        swap(h, i, (i - 1) / 2);
    return ERR_OK;
}

uint64_t held_due(const struct held *h) {
    return h->count ? h->at[0]->due_ms : UINT64_MAX;
}

void held_take(struct held *h, struct answer *answer) {
    check(h->count);
    struct held_answer *one = h->at[0];
    *answer = one->answer;
    h->of_link[answer->link]--;
    free(one);
    h->at[0] = h->at[--h->count];
    for (uint32_t i = 0;;) {
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

void held_free(struct held *h) {
    for (uint32_t i = 0; i < h->count; i++)
        free(h->at[i]);
    free(h->at);
    *h = (struct held){0};
}
