/* Between links: the one that least was spent on is served, and what was spent on it grows by the price. A link that
 * comes back after a pause does not get what it did not ask for: it begins where the others are. */
#include "authd/fair.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

struct fair_source {
    struct fair_source *ring_next, *bucket_next;
    struct source_address address;
    uint32_t link, items, bytes;
    struct fair_item *first, **end;
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
    s->end = &s->first;
    *bucket = s;
    s->ring_next = l->last ? l->last->ring_next : s;
    if (l->last)
        l->last->ring_next = s;
    l->last = s;
    return s;
}

/* Takes the first source out of its ring. */
static void drop_source(struct fair *f, struct fair_source *s) {
    struct fair_link *l = &f->link[s->link];
    struct fair_source **bucket = bucket_of(f, s->link, s->address);
    while (*bucket != s)
        bucket = &(*bucket)->bucket_next;
    *bucket = s->bucket_next;
    check(l->last->ring_next == s);
    if (l->last == s)
        l->last = NULL;
    else
        l->last->ring_next = s->ring_next;
    free(s);
}

static bool fits(uint32_t items, uint32_t bytes, uint32_t more, uint32_t share) {
    return items < FAIR_ITEMS_MAX / share && bytes + more <= FAIR_BYTES_MAX / share;
}

enum err fair_put(struct fair *f, struct fair_item *item) {
    check(item->link < LINKS_MAX && item->price && item->bytes <= FAIR_BYTES_MAX);
    struct fair_link *l = &f->link[item->link];
    struct fair_source *s = find(f, item->link, item->source);
    if (!fits(l->items, l->bytes, item->bytes, 1) || (s && !fits(s->items, s->bytes, item->bytes, 2)))
        return ERR_LONG;
    if (!l->items && l->spent < f->spent)
        l->spent = f->spent;
    if (!s && !(s = make_source(f, item->link, item->source)))
        return ERR_NOMEM;
    item->next = NULL;
    *s->end = item;
    s->end = &item->next;
    s->items++;
    s->bytes += item->bytes;
    l->items++;
    l->bytes += item->bytes;
    return ERR_OK;
}

struct fair_item *fair_take_of(struct fair *f, uint32_t link) {
    struct fair_link *l = &f->link[link];
    if (!l->items)
        return NULL;
    struct fair_source *s = l->last->ring_next;
    struct fair_item *item = s->first;
    s->first = item->next;
    if (!s->first)
        s->end = &s->first;
    s->items--;
    s->bytes -= item->bytes;
    l->items--;
    l->bytes -= item->bytes;
    if (s->items)
        l->last = s; /* the next source's turn */
    else
        drop_source(f, s);
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
