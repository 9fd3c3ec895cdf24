/* SPDX-License-Identifier: Apache-2.0 */
/* Between links: the link with the least `spent` is served, and its `spent` grows by the item's price. A link that comes back
 * after a pause has saved nothing: its `spent` is raised to that of the others. */
#include "authd/fair.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

struct fair_source {
    struct fair_source *ring_next, *ring_prev, *bucket_next;
    struct source_address address;
    uint32_t link, items, bytes;
    struct fair_item *first, *last;
};

void fair_open(struct fair *f) {
    memset(f, 0, sizeof *f);
    hash_key_make(&f->key);
}

static struct fair_source **bucket_of(struct fair *f, uint32_t link, struct source_address source) {
    uint64_t hash = hash_bytes(&f->key, source.at, sizeof source.at) + link;
    return &f->bucket[hash % FAIR_BUCKETS];
}

static struct fair_source *find(struct fair *f, uint32_t link, struct source_address source) {
    struct fair_source *s = *bucket_of(f, link, source);
    while (s && (s->link != link || !source_equal(s->address, source)))
        s = s->bucket_next;
    return s;
}

/* A new source comes after all that wait. */
static struct fair_source *make_source(struct fair *f, uint32_t link, struct source_address address) {
    struct fair_source *s = malloc(sizeof *s), **bucket = bucket_of(f, link, address);
    struct fair_link *l = &f->link[link];
    if (!s)
        return NULL;
    *s = (struct fair_source){.address = address, .link = link, .bucket_next = *bucket};
    *bucket = s;
    s->ring_next = l->last ? l->last->ring_next : s;
    s->ring_prev = l->last ? l->last : s;
    s->ring_next->ring_prev = s->ring_prev->ring_next = s;
    l->last = s;
    return s;
}

static void drop_source(struct fair *f, struct fair_source *s) {
    struct fair_link *l = &f->link[s->link];
    struct fair_source **bucket = bucket_of(f, s->link, s->address);
    while (*bucket != s)
        bucket = &(*bucket)->bucket_next;
    *bucket = s->bucket_next;
    if (l->last == s)
        l->last = s->ring_prev == s ? NULL : s->ring_prev;
    s->ring_next->ring_prev = s->ring_prev;
    s->ring_prev->ring_next = s->ring_next;
    free(s);
}

static void append(struct fair *f, struct fair_source *s, struct fair_item *item) {
    item->of = s;
    item->next = NULL;
    item->prev = s->last;
    *(s->last ? &s->last->next : &s->first) = item;
    s->last = item;
    s->items++;
    s->bytes += item->bytes;
    f->link[s->link].items++;
    f->link[s->link].bytes += item->bytes;
}

bool fair_remove(struct fair *f, struct fair_item *item) {
    struct fair_source *s = item->of;
    if (!s)
        return false;
    *(item->prev ? &item->prev->next : &s->first) = item->next;
    *(item->next ? &item->next->prev : &s->last) = item->prev;
    s->items--;
    s->bytes -= item->bytes;
    f->link[s->link].items--;
    f->link[s->link].bytes -= item->bytes;
    item->of = NULL;
    item->next = item->prev = NULL;
    if (!s->items)
        drop_source(f, s);
    return true;
}

/* ---- room ---- */

static bool fits(uint32_t items, uint32_t bytes, uint32_t more, uint32_t share) {
    return items < FAIR_ITEMS_MAX / share && bytes + more <= FAIR_BYTES_MAX / share;
}

/* How much of a link that is, in bytes: an item is worth its part of them. */
static uint32_t load_of(uint32_t items, uint32_t bytes) {
    uint32_t worth = items * (FAIR_BYTES_MAX / FAIR_ITEMS_MAX);
    return worth > bytes ? worth : bytes;
}

static struct fair_source *largest_of(const struct fair_link *l) {
    struct fair_source *largest = l->last;
    for (struct fair_source *s = l->last->ring_next; s != l->last; s = s->ring_next) {
        if (load_of(s->items, s->bytes) > load_of(largest->items, largest->bytes))
            largest = s;
    }
    return largest;
}

/* False: the item's own source would have to make room. */
static bool make_room(struct fair *f, const struct fair_item *item, const struct fair_source *own,
                      struct fair_item **dropped) {
    const struct fair_link *l = &f->link[item->link];
    uint32_t load = own ? load_of(own->items + 1, own->bytes + item->bytes) : load_of(1, item->bytes);
    while (!fits(l->items, l->bytes, item->bytes, 1)) {
        const struct fair_source *largest = largest_of(l);
        if (load_of(largest->items, largest->bytes) <= load)
            return false;
        struct fair_item *newest = largest->last;
        fair_remove(f, newest);
        newest->next = *dropped;
        *dropped = newest;
    }
    return true;
}

enum err fair_put(struct fair *f, struct fair_item *item, struct fair_item **dropped) {
    check(item->link < LINKS_MAX && item->price && item->bytes <= FAIR_BYTES_MAX);
    struct fair_link *l = &f->link[item->link];
    struct fair_source *s = find(f, item->link, item->source);
    *dropped = NULL;
    if ((s && !fits(s->items, s->bytes, item->bytes, 2)) || !make_room(f, item, s, dropped))
        return ERR_LONG;
    if (!l->items && l->spent < f->spent)
        l->spent = f->spent;
    if (!s && !(s = make_source(f, item->link, item->source)))
        return ERR_NOMEM;
    append(f, s, item);
    return ERR_OK;
}

/* ---- turns ---- */

struct fair_item *fair_take_of(struct fair *f, uint32_t link) {
    struct fair_link *l = &f->link[link];
    if (!l->items)
        return NULL;
    struct fair_source *s = l->last->ring_next;
    struct fair_item *item = s->first;
    if (s->items > 1)
        l->last = s; /* the next source's turn */
    fair_remove(f, item);
    return item;
}

struct fair_item *fair_take(struct fair *f) {
    struct fair_link *least = NULL;
    for (uint32_t i = 0; i < LINKS_MAX; i++) {
        if (f->link[i].items && (!least || f->link[i].spent < least->spent))
            least = &f->link[i];
    }
    if (!least)
        return NULL;
    struct fair_item *item = fair_take_of(f, (uint32_t)(least - f->link));
    f->spent = least->spent;
    least->spent += item->price;
    return item;
}
