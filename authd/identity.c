/* SPDX-License-Identifier: Apache-2.0 */
/* The order of the writes makes it safe to die at any point: an account and a set stand in the book before an entry of
 * the ledger names them; a floor or a permit stands in the book before the ledger forgets why; a principal is taken out
 * of the counter before anybody has it. */
#include "authd/identity.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "shm/limit.h"
#include "shm/record.h"

/* ---- what the book has, by a hash of the name or content ---- */

enum { INDEX_KEY_BYTES = 16 };

struct identity_entry {
    uint8_t key[INDEX_KEY_BYTES];
    uint32_t number; /* 0: free */
    uint32_t conns_max, subs_max;
};

struct identity_index {
    struct identity_entry *at;
    uint32_t cap, count, high; /* the highest number */
};

static struct identity_entry *index_slot(struct identity_entry *at, uint32_t cap, const uint8_t *key) {
    uint64_t i;
    memcpy(&i, key, sizeof i);
    while (at[i & (cap - 1)].number && memcmp(at[i & (cap - 1)].key, key, INDEX_KEY_BYTES) != 0)
        i++;
    return &at[i & (cap - 1)];
}

static struct identity_index *index_make(void) {
    struct identity_index *x = calloc(1, sizeof *x);
    struct identity_entry *at = calloc(64, sizeof *at);
    if (!x || !at) {
        free(x);
        free(at);
        return NULL;
    }
    *x = (struct identity_index){.at = at, .cap = 64};
    return x;
}

static void index_free(struct identity_index *x) {
    if (x)
        free(x->at);
    free(x);
}

/* The place of a key, free (number 0) if it is new; NULL: no memory. A caller that fills it raises count and high. */
static struct identity_entry *index_place(struct identity_index *x, const uint8_t *key) {
    if (x->count >= x->cap / 2) {
        struct identity_entry *larger = calloc(x->cap * 2, sizeof *larger);
        if (!larger)
            return NULL;
        for (uint32_t i = 0; i < x->cap; i++) {
            if (x->at[i].number)
                *index_slot(larger, x->cap * 2, x->at[i].key) = x->at[i];
        }
        free(x->at);
        x->at = larger;
        x->cap *= 2;
    }
    return index_slot(x->at, x->cap, key);
}

static void index_fill(struct identity_index *x, struct identity_entry *place, const uint8_t *key, uint32_t number) {
    memcpy(place->key, key, INDEX_KEY_BYTES);
    x->count += !place->number;
    place->number = number;
    if (number > x->high)
        x->high = number;
}

static void account_key(uint8_t key[static INDEX_KEY_BYTES], struct view name) {
    crypto_generichash(key, INDEX_KEY_BYTES, (const unsigned char *)name.at, name.len, NULL, 0);
}

/* ---- opening ---- */

static enum err learn_account(struct identity *id, const struct book_account *account) {
    uint8_t key[INDEX_KEY_BYTES];
    account_key(key, view_of(account->name, account->name_len));
    struct identity_entry *place = index_place(id->accounts, key);
    if (!place)
        return ERR_NOMEM;
    index_fill(id->accounts, place, key, account->number);
    place->conns_max = account->conns_max;
    place->subs_max = account->subs_max;
    return ERR_OK;
}

static enum err learn_rules(struct identity *id, const struct book_entry *entry) {
    uint8_t key[RULES_HASH_BYTES];
    rules_hash(key, &entry->rules, entry->rule);
    struct identity_entry *place = index_place(id->sets, key);
    if (place)
        index_fill(id->sets, place, key, entry->rules.number);
    return place ? ERR_OK : ERR_NOMEM;
}

static enum err learn_book(struct identity *id, int fd) {
    struct book book;
    struct book_entry entry;
    enum err e = book_open(&book, fd, false);
    if (e != ERR_OK)
        return e;
    while ((e = book_next(&book, &entry)) == ERR_OK) {
        enum err learnt = entry.type == BOOK_ACCOUNT ? learn_account(id, &entry.account)
                          : entry.type == BOOK_RULES ? learn_rules(id, &entry)
                                                     : ERR_OK;
        if (learnt != ERR_OK) {
            e = learnt;
            break;
        }
    }
    book_close(&book);
    return e == ERR_AGAIN ? ERR_OK : e;
}

enum err identity_open(struct identity *id, int book_fd, int ledger_fd) {
    *id = (struct identity){.accounts = index_make(), .sets = index_make()};
    enum err e = id->accounts && id->sets ? learn_book(id, book_fd) : ERR_NOMEM;
    if (e == ERR_OK)
        e = book_open(&id->book, book_fd, true);
    if (e == ERR_OK)
        e = ledger_open(&id->ledger, ledger_fd);
    if (e != ERR_OK)
        identity_close(id);
    return e;
}

void identity_close(struct identity *id) {
    if (id->book.at)
        book_close(&id->book);
    if (id->ledger.memory)
        ledger_close(&id->ledger);
    index_free(id->accounts);
    index_free(id->sets);
    *id = (struct identity){0};
}

bool identity_has_room(const struct identity *id, const struct users *users) {
    enum { HEAD = 32 }; /* of an entry, with padding */
    uint64_t bytes = users->account_count * (HEAD + sizeof(struct book_account));
    for (uint32_t i = 0; i < users->rules_count; i++)
        bytes += HEAD + sizeof(struct book_rules) + users->rules[i].head.bytes;
    bytes += (uint64_t)users->count * (HEAD + sizeof(struct book_permit));
    bytes += (uint64_t)id->ledger.live * (HEAD + sizeof(struct book_floor));
    return bytes <= id->book.bytes - id->book.pos && id->ledger.live + 2 * users->count < LEDGER_ENTRIES;
}

/* ---- accounts and sets ---- */

static enum err apply_account(struct identity *id, struct user_account *account) {
    uint8_t key[INDEX_KEY_BYTES];
    account_key(key, account->name);
    struct identity_entry *place = index_place(id->accounts, key);
    if (!place)
        return ERR_NOMEM;
    account->number = place->number ? place->number : id->accounts->high + 1;
    if (place->number && place->conns_max == account->conns_max && place->subs_max == account->subs_max)
        return ERR_OK;
    struct book_account entry = {.number = account->number,
                                 .name_len = (uint32_t)account->name.len,
                                 .conns_max = account->conns_max,
                                 .subs_max = account->subs_max};
    memcpy(entry.name, account->name.at, account->name.len);
    enum err e = book_append(&id->book, BOOK_ACCOUNT, &entry, sizeof entry);
    if (e != ERR_OK)
        return e;
    index_fill(id->accounts, place, key, account->number);
    place->conns_max = account->conns_max;
    place->subs_max = account->subs_max;
    return ERR_OK;
}

static enum err append_rules(struct book *book, const struct rules *rules) {
    uint32_t len = (uint32_t)sizeof rules->head + rules->head.bytes;
    uint8_t *fields = malloc(len);
    if (!fields)
        return ERR_NOMEM;
    memcpy(fields, &rules->head, sizeof rules->head);
    memcpy(fields + sizeof rules->head, rules->bytes, rules->head.bytes);
    enum err e = book_append(book, BOOK_RULES, fields, len);
    free(fields);
    return e;
}

static enum err apply_rules(struct identity *id, struct rules *rules) {
    struct identity_entry *place = index_place(id->sets, rules->hash);
    if (!place)
        return ERR_NOMEM;
    rules->head.number = place->number ? place->number : id->sets->high + 1;
    if (place->number)
        return ERR_OK;
    enum err e = append_rules(&id->book, rules);
    if (e == ERR_OK)
        index_fill(id->sets, place, rules->hash, rules->head.number);
    return e;
}

/* ---- users ---- */

/* How a credential is checked is part of its mark: where certificates decide a password alone is none. */
static void describe(struct ledger_user *d, const struct identity *id, const struct users *users,
                     const struct user *user) {
    const uint8_t *key = id->ledger.memory->key;
    uint8_t kind = (uint8_t)user->kind, mapped = users->maps_certificates && user->kind == USER_NAME;
    crypto_generichash_state state;
    *d = (struct ledger_user){.account = user->account_number,
                              .permissions = user->permissions,
                              .payload_max = user->payload_max,
                              .types = user->types};
    crypto_generichash_init(&state, key, LEDGER_KEY_BYTES, LEDGER_NAME_BYTES);
    crypto_generichash_update(&state, &kind, 1);
    crypto_generichash_update(&state, (const unsigned char *)user->name.at, user->name.len);
    crypto_generichash_final(&state, d->name, LEDGER_NAME_BYTES);
    crypto_generichash_init(&state, key, LEDGER_KEY_BYTES, LEDGER_MARK_BYTES);
    crypto_generichash_update(&state, &mapped, 1);
    if (user->secret)
        crypto_generichash_update(&state, user->secret->mark, USERS_MARK_BYTES);
    crypto_generichash_final(&state, d->mark, LEDGER_MARK_BYTES);
}

static enum err append_floor(struct identity *id, const struct ledger_user *was, uint64_t serial, uint32_t kick) {
    struct book_floor floor = {.account = was->account, .principal = was->principal, .serial = serial, .kick = kick};
    return book_append(&id->book, BOOK_FLOOR, &floor, sizeof floor);
}

static enum err append_permit(struct identity *id, const struct ledger_user *is, uint64_t serial) {
    struct book_permit permit = {.account = is->account,
                                 .principal = is->principal,
                                 .serial = serial,
                                 .permissions = is->permissions,
                                 .payload_max = is->payload_max};
    return book_append(&id->book, BOOK_PERMIT, &permit, sizeof permit);
}

/* True if a connection of a kind that was allowed may not be any more. */
static bool types_lost(uint32_t was, uint32_t is) {
    return is && (!was || was & ~is);
}

/* What follows from the difference of two descriptions of one user. */
static enum err append_change(struct identity *id, const struct ledger_user *was, struct ledger_user *is,
                              uint64_t serial) {
    is->principal = was->principal;
    if (was->account != is->account) {
        enum err e = append_floor(id, was, serial, RECORD_KICK_MOVED);
        is->principal = ledger_new_principal(&id->ledger);
        return e == ERR_OK && !is->principal ? ERR_LONG : e;
    }
    if (memcmp(was->mark, is->mark, LEDGER_MARK_BYTES) != 0 || types_lost(was->types, is->types))
        return append_floor(id, was, serial, RECORD_KICK_REFUSED);
    if (was->permissions != is->permissions || was->payload_max != is->payload_max)
        return append_permit(id, is, serial);
    return ERR_OK;
}

static enum err apply_user(struct identity *id, const struct users *users, struct user *user, uint32_t known,
                           uint64_t serial) {
    struct ledger_user is;
    describe(&is, id, users, user);
    enum err e = ERR_OK;
    if (known == UINT32_MAX) {
        is.principal = ledger_new_principal(&id->ledger);
        e = is.principal ? ERR_OK : ERR_LONG;
    } else {
        e = append_change(id, &id->ledger.memory->entry[known].user, &is, serial);
    }
    if (e != ERR_OK)
        return e;
    user->principal = is.principal;
    if (known != UINT32_MAX && memcmp(&id->ledger.memory->entry[known].user, &is, sizeof is) == 0)
        return ERR_OK;
    return ledger_put(&id->ledger, &is, known) == UINT32_MAX ? ERR_LONG : ERR_OK;
}

/* ---- the ledger as a table for one application ---- */

struct known {
    uint32_t *slot; /* entry number + 1 */
    uint32_t cap;
    uint8_t *seen; /* by entry number */
};

static uint32_t known_find(const struct known *k, const struct identity *id, const uint8_t *name) {
    uint64_t i;
    memcpy(&i, name, sizeof i);
    for (;; i++) {
        uint32_t slot = k->slot[i & (k->cap - 1)];
        if (!slot || memcmp(id->ledger.memory->entry[slot - 1].user.name, name, LEDGER_NAME_BYTES) == 0)
            return slot ? slot - 1 : UINT32_MAX;
    }
}

static enum err known_make(struct known *k, const struct identity *id) {
    uint32_t high = atomic_load(&id->ledger.memory->entries_high);
    k->cap = 64;
    while (k->cap < 2 * high)
        k->cap *= 2;
    k->slot = calloc(k->cap, sizeof *k->slot);
    k->seen = calloc(1, high + 1);
    for (uint32_t n = 0; k->slot && k->seen && n < high; n++) {
        const struct ledger_entry *entry = &id->ledger.memory->entry[n];
        uint64_t i;
        if (!atomic_load(&entry->version))
            continue;
        memcpy(&i, entry->user.name, sizeof i);
        while (k->slot[i & (k->cap - 1)])
            i++;
        k->slot[i & (k->cap - 1)] = n + 1;
    }
    return k->slot && k->seen ? ERR_OK : ERR_NOMEM;
}

static void known_free(struct known *k) {
    free(k->slot);
    free(k->seen);
}

/* Users of the ledger that are not in the table any more. Where logins are no longer asked for, their connections are not told that
 * they are refused: they reconnect without credentials. */
static enum err drop_others(struct identity *id, const struct known *k, const struct users *users, uint64_t serial) {
    uint32_t kick = users->required ? RECORD_KICK_REFUSED : RECORD_KICK_MOVED;
    for (uint32_t i = 0; i < k->cap; i++) {
        if (!k->slot[i] || k->seen[k->slot[i] - 1])
            continue;
        uint32_t number = k->slot[i] - 1;
        enum err e = append_floor(id, &id->ledger.memory->entry[number].user, serial, kick);
        if (e != ERR_OK)
            return e;
        ledger_free(&id->ledger, number);
    }
    return ERR_OK;
}

static void number_user(const struct users *users, struct user *user, uint32_t subs_max) {
    const struct user_account *account = &users->accounts[user->account];
    user->account_number = account->number;
    user->permissions = user->rules == USERS_ALL ? 0 : users->rules[user->rules].head.number;
    user->payload_max = account->payload_max;
    user->subs_max = limit_stricter(subs_max, account->subs_max);
}

/* Looks a user up before anything is changed: a replaced entry's number may be used again at once. */
static enum err apply_users(struct identity *id, struct known *k, struct users *users, uint64_t serial) {
    for (uint32_t i = 0; i < users->count; i++) {
        struct ledger_user is;
        describe(&is, id, users, &users->at[i]);
        users->at[i].principal = known_find(k, id, is.name);
        if (users->at[i].principal != UINT32_MAX)
            k->seen[users->at[i].principal] = 1;
    }
    enum err e = drop_others(id, k, users, serial);
    for (uint32_t i = 0; i < users->count && e == ERR_OK; i++)
        e = apply_user(id, users, &users->at[i], users->at[i].principal, serial);
    return e;
}

enum err identity_apply(struct identity *id, struct users *users, uint64_t serial, uint32_t subs_max) {
    struct known known = {0};
    enum err e = ERR_OK;
    for (uint32_t i = 0; i < users->account_count && e == ERR_OK; i++)
        e = apply_account(id, &users->accounts[i]);
    for (uint32_t i = 0; i < users->rules_count && e == ERR_OK; i++)
        e = apply_rules(id, &users->rules[i]);
    for (uint32_t i = 0; i < users->count && e == ERR_OK; i++)
        number_user(users, &users->at[i], subs_max);
    if (e == ERR_OK)
        e = known_make(&known, id);
    if (e == ERR_OK)
        e = apply_users(id, &known, users, serial);
    known_free(&known);
    return e;
}
