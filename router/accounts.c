/* SPDX-License-Identifier: Apache-2.0 */
/* Accounts, permission sets, floors and permits come from the account book alone; a login is answered only after its
 * account has been read here. New entries are read to the end of the book; changes.c applies them to connections.
 */
#include <stdlib.h>

#include "base/log.h"
#include "router/router.h"
#include "shm/limit.h"

struct account *account_find(struct router *r, uint32_t number) {
    return number < r->account_high ? r->account[number] : NULL;
}

bool account_is_crowded(const struct account *a) {
    return !limit_allows(a->conns_max, a->conn_count);
}

static struct account *account_make(struct router *r, uint32_t number) {
    if (number >= ACCOUNTS_MAX)
        return NULL;
    if (number >= r->account_high) {
        uint32_t high = (number / CHUNK + 1) * CHUNK;
        struct account **grown = realloc(r->account, high * sizeof(struct account *));
        if (!grown)
            return NULL;
        memset(grown + r->account_high, 0, (high - r->account_high) * sizeof(struct account *));
        r->account = grown;
        r->account_high = high;
    }
    if (r->account[number])
        return r->account[number];
    struct account *a = calloc(1, sizeof *a);
    struct sublist *list = sublist_new(&r->hash, &r->slab);
    if (!a || !list) {
        free(a);
        if (list)
            sublist_free(list);
        return NULL;
    }
    a->number = number;
    a->sublist = list;
    r->account[number] = a;
    return a;
}

/* True if it has more connections than it may have now. */
static bool take_account(struct router *r, const struct book_account *entry) {
    struct account *a = account_make(r, entry->number);
    if (!a) {
        log_error("account %u: no memory or no number left; its logins are refused", entry->number);
        return false;
    }
    a->conns_max = entry->conns_max;
    a->subs_max = entry->subs_max;
    memcpy(a->name, entry->name, entry->name_len);
    a->name[entry->name_len] = 0;
    return account_is_crowded(a);
}

/* ---- permission sets ---- */

struct permissions *account_set(struct router *r, uint32_t number) {
    return number < r->set_high ? r->set[number] : NULL;
}

static bool sets_grow(struct router *r, uint32_t number) {
    if (number < r->set_high)
        return true;
    if (number >= SETS_MAX)
        return false;
    uint32_t high = (number / CHUNK + 1) * CHUNK;
    high = high < 2 * r->set_high ? 2 * r->set_high : high;
    struct permissions **grown = realloc(r->set, high * sizeof *grown);
    if (!grown)
        return false;
    memset(grown + r->set_high, 0, (high - r->set_high) * sizeof *grown);
    r->set = grown;
    r->set_high = high;
    return true;
}

static void take_rules(struct router *r, const struct book_entry *entry) {
    uint32_t number = entry->rules.number;
    if (!sets_grow(r, number)) {
        log_error("permission set %u: no memory or no number left; its logins are refused", number);
        return;
    }
    if (!r->set[number])
        r->set[number] = permissions_new(&r->tools, &entry->rules, entry->pos);
}

/* ---- floors and permits ---- */

/* Binary search in a->standing: the principal's index, or where to insert it. */
static uint32_t standing_place(const struct account *a, uint32_t principal) {
    uint32_t low = 0, high = a->standing_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (a->standing[middle].principal < principal)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct standing *account_standing(const struct account *a, uint32_t principal) {
    uint32_t at = standing_place(a, principal);
    return at < a->standing_count && a->standing[at].principal == principal ? &a->standing[at] : NULL;
}

uint64_t account_floor(const struct account *a, uint32_t principal) {
    const struct standing *s = account_standing(a, principal);
    return s && s->floor > a->floor ? s->floor : a->floor;
}

/* Null: no memory. */
static struct standing *standing_make(struct account *a, uint32_t principal) {
    uint32_t at = standing_place(a, principal);
    if (at < a->standing_count && a->standing[at].principal == principal)
        return &a->standing[at];
    if (a->standing_count == a->standing_cap) {
        uint32_t cap = a->standing_cap ? 2 * a->standing_cap : 16;
        struct standing *grown = realloc(a->standing, cap * sizeof *grown);
        if (!grown)
            return NULL;
        a->standing = grown;
        a->standing_cap = cap;
    }
    memmove(a->standing + at + 1, a->standing + at, (a->standing_count++ - at) * sizeof *a->standing);
    a->standing[at] = (struct standing){.principal = principal};
    return &a->standing[at];
}

/* Out of memory for one user's entry: its floor then holds for the whole account, so connections end whose permissions could not
 * be changed. */
static void floor_all(struct account *a, uint64_t serial, uint32_t kick) {
    if (serial <= a->floor)
        return;
    a->floor = serial;
    a->floor_kick = kick;
}

static void take_floor(struct account *a, const struct book_floor *entry) {
    uint32_t kick = entry->kick > 0 && entry->kick < RECORD_KICK_END ? entry->kick : RECORD_KICK_REVOKED;
    struct standing *s = entry->principal != 0 ? standing_make(a, entry->principal) : NULL;
    if (s && entry->serial > s->floor) {
        s->floor = entry->serial;
        s->kick = kick;
    } else if (!s) {
        if (entry->principal != 0)
            log_error("account %u: no memory for a floor of one user, it holds for all", a->number);
        floor_all(a, entry->serial, kick);
    }
}

static void take_permit(struct router *r, struct account *a, const struct book_permit *entry) {
    struct standing *s = standing_make(a, entry->principal);
    if (!s || (entry->permissions != 0 && !account_set(r, entry->permissions))) {
        log_error("account %u user %u: its changed permissions cannot be had, its connections end", a->number,
                  entry->principal);
        if (!s)
            floor_all(a, entry->serial, RECORD_KICK_REVOKED);
        else if (entry->serial > s->floor)
            s->floor = entry->serial, s->kick = RECORD_KICK_REVOKED;
        return;
    }
    if (entry->serial < s->permit)
        return;
    s->permit = entry->serial;
    s->permissions = entry->permissions;
    s->payload_max = entry->payload_max;
}

/* True if connections may be concerned. */
static bool take_entry(struct router *r, const struct book_entry *entry) {
    struct account *a;
    switch (entry->type) {
    case BOOK_ACCOUNT:
        return take_account(r, &entry->account);
    case BOOK_RULES:
        take_rules(r, entry);
        return false;
    case BOOK_FLOOR:
        a = account_find(r, entry->floor.account);
        if (a)
            take_floor(a, &entry->floor);
        break;
    case BOOK_PERMIT:
        a = account_find(r, entry->permit.account);
        if (a)
            take_permit(r, a, &entry->permit);
        break;
    default:
        return false;
    }
    if (a)
        a->changed = true;
    return a != NULL;
}

void accounts_read(struct router *r) {
    struct book_entry entry;
    bool changed = false;
    enum err e;
    while ((e = book_next(&r->book, &entry)) == ERR_OK)
        changed |= take_entry(r, &entry);
    free(book_keep(&r->book)); /* of the last set; it is copied again when it is compiled */
    if (changed)
        changes_begin(r);
    if (e != ERR_AGAIN)
        log_error("the account book cannot be read at byte %llu: accounts beyond are unknown: %s",
                  (unsigned long long)r->book.pos, err_text(e));
}
