/* SPDX-License-Identifier: Apache-2.0 */
/* Subscriptions as the frontend must know them: to find a sid, to write a delivery, to tell a new router.
 *
 * Slots count from 1 here, so that 0 can mean none; records carry slot - 1. A slot is taken at SUB and free at SLOT_FREE, or at the CONN_FREE of its connection. Several slots of one
 * connection may have the same sid for a moment: the router alone decides when one has ended.
 *
 * The index from (connection, sid) to slots is a hash with linear hashing: it grows by one bucket per insertion, so no
 * insertion is dear.
 */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "frontend/frontend.h"

static struct fsub *at(const struct frontend *f, uint32_t slot) {
    return &f->sub_chunk[(slot - 1) / CHUNK][(slot - 1) % CHUNK];
}

const struct fsub *sub_hint(const struct frontend *f, uint32_t slot) {
    return slot == 0 || slot > f->sub_high ? NULL : at(f, slot);
}

struct fsub *sub_at(const struct frontend *f, uint32_t slot) {
    if (slot == 0 || slot > f->sub_high)
        return NULL;
    struct fsub *s = at(f, slot);
    return s->number == EDGE_NO_NUMBER ? NULL : s;
}

/* ---- the index ---- */

static uint32_t *bucket(const struct frontend *f, uint32_t n) {
    return &f->sid_chunk[n / CHUNK][n % CHUNK];
}

/* Buckets [0, sid_buckets) exist; sid_mask + 1 is the power of two at or above. */
static uint32_t bucket_of(const struct frontend *f, uint32_t number, struct view sid) {
    uint32_t n = (uint32_t)hash_pair(&f->hash, hash_bytes(&f->hash, sid.at, sid.len), number) & f->sid_mask;
    return n < f->sid_buckets ? n : n & (f->sid_mask >> 1);
}

static bool index_grow(struct frontend *f) {
    uint32_t fresh = f->sid_buckets;
    if (fresh >= SLOTS_MAX)
        return true;
    if (!f->sid_chunk && !(f->sid_chunk = calloc(SLOTS_MAX / CHUNK, sizeof *f->sid_chunk)))
        return false;
    if (!f->sid_chunk[fresh / CHUNK] && !(f->sid_chunk[fresh / CHUNK] = calloc(CHUNK, sizeof(uint32_t))))
        return false;
    *bucket(f, fresh) = 0;
    f->sid_buckets++;
    if (fresh > f->sid_mask)
        f->sid_mask = 2 * f->sid_mask + 1;
    if (fresh == 0)
        return true;
    /* Split the bucket that held what belongs into the fresh one. */
    uint32_t *from = bucket(f, fresh & (f->sid_mask >> 1));
    uint32_t slot = *from;
    *from = 0;
    uint32_t *tails[2] = {from, bucket(f, fresh)};
    while (slot) {
        struct fsub *s = at(f, slot);
        uint32_t next = s->sid_next;
        uint32_t **tail = &tails[bucket_of(f, s->number, sub_sid(f, s)) == fresh];
        **tail = slot;
        s->sid_next = 0;
        *tail = &s->sid_next;
        slot = next;
    }
    return true;
}

static void index_remove(struct frontend *f, uint32_t slot) {
    struct fsub *s = at(f, slot);
    uint32_t *link = bucket(f, bucket_of(f, s->number, sub_sid(f, s)));
    while (*link != slot)
        link = &at(f, *link)->sid_next;
    *link = s->sid_next;
}

uint32_t sub_find(const struct frontend *f, uint32_t number, struct view sid, uint32_t after) {
    uint32_t slot = after ? at(f, after)->sid_next : f->sid_buckets ? *bucket(f, bucket_of(f, number, sid)) : 0;
    while (slot && !(at(f, slot)->number == number && view_equal(sub_sid(f, at(f, slot)), sid)))
        slot = at(f, slot)->sid_next;
    return slot;
}

/* ---- slots ---- */

static uint32_t slot_take(struct frontend *f) {
    uint32_t slot = f->sub_free;
    if (slot) {
        f->sub_free = at(f, slot)->conn_next;
        return slot;
    }
    if (f->sub_high >= SLOTS_MAX)
        return 0;
    if (!f->sub_chunk && !(f->sub_chunk = calloc(SLOTS_MAX / CHUNK, sizeof *f->sub_chunk)))
        return 0;
    uint32_t chunk = f->sub_high / CHUNK;
    if (!f->sub_chunk[chunk] && !(f->sub_chunk[chunk] = calloc(CHUNK, sizeof(struct fsub))))
        return 0;
    return ++f->sub_high;
}

static void slot_give(struct frontend *f, uint32_t slot) {
    *at(f, slot) = (struct fsub){.number = EDGE_NO_NUMBER, .conn_next = f->sub_free};
    f->sub_free = slot;
}

/* ---- texts ---- */

/* Null: no memory. */
static char *text_take(struct frontend *f, size_t len, uint32_t *ref) {
    bool inside = len <= POOL_PIECE_MAX;
    char *piece = pool_take(&f->texts, inside ? (len > 0 ? len : 1) : sizeof piece, ref);
    if (!piece || inside)
        return piece;
    char *text = malloc(len);
    if (!text) {
        pool_give(&f->texts, *ref);
        return NULL;
    }
    memcpy(piece, &text, sizeof text);
    return text;
}

static void text_give(struct frontend *f, size_t len, uint32_t ref) {
    char *text;
    if (len > POOL_PIECE_MAX) {
        memcpy(&text, pool_at(&f->texts, ref), sizeof text);
        free(text);
    }
    pool_give(&f->texts, ref);
}

/* A slot, its share of the index, which may be twice as large as it must, and a text that is rounded up. */
uint64_t sub_price(size_t text_len) {
    return sizeof(struct fsub) + 2 * sizeof(uint32_t) + text_len + text_len / 8 + POOL_UNIT;
}

static size_t text_len(const struct fsub *s) {
    return (size_t)s->sid_len + s->subject_len + s->queue_len;
}

uint32_t sub_make(struct frontend *f, struct client *c, const struct parse_line *line) {
    size_t len = line->sid.len + line->subject.len + line->queue.len;
    uint32_t slot = slot_take(f);
    if (slot == 0)
        return 0;
    struct fsub *s = at(f, slot);
    s->number = EDGE_NO_NUMBER;
    uint32_t ref;
    char *text = text_take(f, len, &ref);
    if (!text || (f->sid_buckets <= f->sub_count && !index_grow(f))) {
        if (text)
            text_give(f, len, ref);
        slot_give(f, slot);
        return 0;
    }
    *s = (struct fsub){
        .number = c->edge.number,
        .conn_next = c->first_sub,
        .subject_len = (uint16_t)line->subject.len,
        .queue_len = (uint16_t)line->queue.len,
        .sid_len = (uint16_t)line->sid.len,
        .outside = len > POOL_PIECE_MAX,
        .text = ref,
    };
    memcpy(text, line->sid.at, line->sid.len);
    memcpy(text + line->sid.len, line->subject.at, line->subject.len);
    if (line->queue.len > 0)
        memcpy(text + line->sid.len + line->subject.len, line->queue.at, line->queue.len);
    uint32_t *head = bucket(f, bucket_of(f, c->edge.number, sub_sid(f, s)));
    s->sid_next = *head;
    *head = slot;
    if (c->first_sub)
        at(f, c->first_sub)->conn_prev = slot;
    c->first_sub = slot;
    f->sub_count++;
    f->sub_bytes += sub_price(len);
    c->sub_bytes += sub_price(len);
    if (c->sub_bytes > c->sub_bytes_most)
        c->sub_bytes_most = c->sub_bytes;
    return slot;
}

static void drop(struct frontend *f, struct client *c, uint32_t slot) {
    struct fsub *s = at(f, slot);
    index_remove(f, slot);
    if (s->conn_prev)
        at(f, s->conn_prev)->conn_next = s->conn_next;
    else
        c->first_sub = s->conn_next;
    if (s->conn_next)
        at(f, s->conn_next)->conn_prev = s->conn_prev;
    uint64_t price = sub_price(text_len(s));
    text_give(f, text_len(s), s->text);
    f->sub_count--;
    f->sub_bytes -= price;
    c->sub_bytes -= price;
    if (c->state == CLIENT_GONE)
        f->leaving_bytes -= price;
    slot_give(f, slot);
}

void sub_drop(struct frontend *f, uint32_t slot) {
    drop(f, f->by_number[at(f, slot)->number], slot);
}

bool sub_drop_some(struct frontend *f, struct client *c, uint32_t *most) {
    for (; c->first_sub && *most > 0; (*most)--)
        drop(f, c, c->first_sub);
    return c->first_sub == 0;
}
