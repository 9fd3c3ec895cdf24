/* SPDX-License-Identifier: Apache-2.0 */
/* Order of stores in an entry: `was` is whole before `turn` says that it counts, and `turn` stands before `now`
 * changes. The reader is a later process, so it sees the stores of a dead one in the order in which they were made; the
 * fences only keep the compiler from changing it.
 *
 * An entry is put over another one only if that one is worth nothing (never used, used up, too old), but when both
 * buckets are full of rights that are worth something. Putting it there empties the place first: a death in between
 * leaves an empty place.
 */
#include "shm/replies.h"

#include <sodium.h>
#include <stdatomic.h>
#include <string.h>

#include "base/check.h"

static void order(void) {
    atomic_signal_fence(memory_order_seq_cst);
}

void replies_open(struct replies *r, struct replies_table *table, const struct binding_key *key) {
    static const char purpose[] = "bulkhead open replies";
    r->table = table;
    check(sizeof r->hash_key == crypto_shorthash_siphashx24_KEYBYTES);
    check(crypto_generichash(r->hash_key, sizeof r->hash_key, (const unsigned char *)purpose, sizeof purpose, key->key,
                             sizeof key->key) == 0);
}

static void recover_group(struct replies_table *t, uint32_t group, uint64_t commit_no) {
    for (uint32_t b = group * REPLIES_GROUP; b < (group + 1) * REPLIES_GROUP; b++) {
        for (uint32_t i = 0; i < REPLIES_WAYS; i++) {
            struct replies_entry *e = &t->entry[b][i];
            if (e->turn <= commit_no)
                continue;
            e->now = e->was;
            order();
            e->turn = 0; /* a death before that store, and the next router does the same again */
        }
    }
    order();
    t->group_turn[group] = 0;
}

void replies_recover(struct replies *r, uint64_t commit_no) {
    for (uint32_t group = 0; group < REPLIES_BUCKETS / REPLIES_GROUP; group++)
        if (r->table->group_turn[group] > commit_no)
            recover_group(r->table, group, commit_no);
}

struct replies_owner replies_owner(const struct replies *r, uint32_t link, uint64_t incarnation, uint32_t conn,
                                   uint32_t generation, uint32_t most, uint64_t for_ns) {
    const struct {
        uint64_t incarnation, for_ns;
        uint32_t link, conn, generation, most;
    } who = {incarnation, for_ns, link, conn, generation, most};
    struct replies_owner owner;
    crypto_shorthash_siphashx24((unsigned char *)owner.id, (const unsigned char *)&who, sizeof who, r->hash_key);
    return owner;
}

/* Key of the owner's reply, and its two buckets. */
struct place {
    uint64_t key[2];
    struct replies_entry *bucket[2];
};

static struct place place_of(struct replies *r, const struct replies_owner *owner, struct view reply) {
    struct place p;
    check(reply.len <= sizeof r->text - sizeof owner->id);
    memcpy(r->text, owner->id, sizeof owner->id);
    memcpy(r->text + sizeof owner->id, reply.at, reply.len);
    crypto_shorthash_siphashx24((unsigned char *)p.key, r->text, sizeof owner->id + reply.len, r->hash_key);
    for (int i = 0; i < 2; i++)
        p.bucket[i] = r->table->entry[(owner->id[1] + p.key[i] % REPLIES_WINDOW) & (REPLIES_BUCKETS - 1)];
    return p;
}

static struct replies_entry *find(const struct place *p) {
    for (int b = 0; b < 2; b++)
        for (uint32_t i = 0; i < REPLIES_WAYS; i++)
            if (p->bucket[b][i].key[0] == p->key[0] && p->bucket[b][i].key[1] == p->key[1])
                return &p->bucket[b][i];
    return NULL;
}

static bool worth(const struct replies_right *right, uint64_t now_ns) {
    return right->left != 0 && right->until_ns != 0 && right->until_ns >= now_ns;
}

/* Before anything of the entry changes. */
static void group_begin(struct replies_table *t, const struct replies_entry *e, uint64_t turn) {
    t->group_turn[(uint32_t)(e - t->entry[0]) / (REPLIES_GROUP * REPLIES_WAYS)] = turn;
    order();
}

/* What the turn that begins to change the entry owes to those that may come after its death. */
static void change_begin(struct replies_table *t, struct replies_entry *e, uint64_t turn) {
    if (e->turn == turn)
        return;
    group_begin(t, e, turn);
    e->was = e->now;
    order();
    e->turn = turn;
    order();
}

/* A place in the emptier bucket, or null. The one that was left alone for longest: a message that was taken from a
 * right may still wait for room. What this turn has used up is not free yet: its death would bring it back. */
static struct replies_entry *find_free(const struct place *p, uint64_t now_ns, uint64_t turn) {
    struct replies_entry *best = NULL;
    uint32_t most = 0;
    for (int b = 0; b < 2; b++) {
        struct replies_entry *oldest = NULL;
        uint32_t count = 0;
        for (uint32_t i = 0; i < REPLIES_WAYS; i++) {
            struct replies_entry *e = &p->bucket[b][i];
            if (worth(&e->now, now_ns) || (e->turn == turn && worth(&e->was, now_ns)))
                continue;
            count++;
            oldest = oldest && oldest->turn <= e->turn ? oldest : e;
        }
        if (count > most) {
            most = count;
            best = oldest;
        }
    }
    return best;
}

static uint32_t owned(const struct place *p, uint64_t owner) {
    uint32_t count = 0;
    for (int b = 0; b < 2; b++)
        for (uint32_t i = 0; i < REPLIES_WAYS; i++)
            count += p->bucket[b][i].owner == owner;
    return count;
}

/* The oldest entry of whoever has most here, the one that comes counted in. */
static struct replies_entry *find_victim(const struct place *p, uint64_t owner) {
    struct replies_entry *victim = NULL;
    uint32_t most = 0;
    for (int b = 0; b < 2; b++) {
        for (uint32_t i = 0; i < REPLIES_WAYS; i++) {
            struct replies_entry *e = &p->bucket[b][i];
            uint32_t count = owned(p, e->owner) + (e->owner == owner);
            if (count > most || (count == most && e->turn < victim->turn)) {
                most = count;
                victim = e;
            }
        }
    }
    return victim;
}

static void put(struct replies_table *t, struct replies_entry *e, const struct place *p, uint64_t owner,
                struct replies_right right, uint64_t turn) {
    group_begin(t, e, turn);
    e->now.until_ns = 0;
    order();
    e->was = (struct replies_right){0};
    order();
    e->turn = turn;
    order();
    e->key[0] = p->key[0];
    e->key[1] = p->key[1];
    e->owner = owner;
    order();
    e->now = right;
}

void replies_give(struct replies *r, const struct replies_owner *owner, struct view reply, struct replies_right right,
                  uint64_t now_ns, uint64_t turn) {
    struct place p = place_of(r, owner, reply);
    struct replies_entry *e = find(&p);
    if (e) {
        change_begin(r->table, e, turn);
        right.spent_at = e->now.spent_at;
        e->now = right;
        return;
    }
    e = find_free(&p, now_ns, turn);
    put(r->table, e ? e : find_victim(&p, owner->id[0]), &p, owner->id[0], right, turn);
}

bool replies_spend(struct replies *r, const struct replies_owner *owner, struct view reply, uint32_t place,
                   uint64_t now_ns, uint64_t turn) {
    struct place p = place_of(r, owner, reply);
    struct replies_entry *e = find(&p);
    if (e && e->now.until_ns != 0 && e->now.spent_at == place)
        return true;
    if (!e || !worth(&e->now, now_ns))
        return false;
    change_begin(r->table, e, turn);
    e->now.spent_at = place;
    if (e->now.left != REPLIES_UNLIMITED)
        e->now.left--;
    return true;
}
