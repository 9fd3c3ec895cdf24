/* Accounts come from the account book alone; a login is answered only after its account has been read here. */
#include <stdlib.h>

#include "base/log.h"
#include "router/router.h"

struct account *account_find(struct router *r, uint32_t number) {
    return number < r->account_high ? r->account[number] : NULL;
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

static void take_account(struct router *r, const struct book_account *entry) {
    struct account *a = account_make(r, entry->number);
    if (!a) {
        log_error("account %u: no memory or no number left; its logins are refused", entry->number);
        return;
    }
    a->conns_max = entry->conns_max;
    a->subs_max = entry->subs_max;
    memcpy(a->name, entry->name, entry->name_len);
    a->name[entry->name_len] = 0;
}

/* Where the principal's floor is, or where it would come. */
static uint32_t floor_place(const struct account *a, uint32_t principal) {
    uint32_t low = 0, high = a->floor_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (a->floors[middle].principal < principal)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint64_t account_floor(const struct account *a, uint32_t principal) {
    uint32_t at = floor_place(a, principal);
    bool own = at < a->floor_count && a->floors[at].principal == principal;
    return own && a->floors[at].serial > a->floor ? a->floors[at].serial : a->floor;
}

static bool floors_grow(struct account *a) {
    if (a->floor_count < a->floor_cap)
        return true;
    uint32_t cap = a->floor_cap ? 2 * a->floor_cap : 16;
    struct floor *grown = realloc(a->floors, cap * sizeof *grown);
    if (!grown)
        return false;
    a->floors = grown;
    a->floor_cap = cap;
    return true;
}

static void take_floor(struct account *a, const struct book_floor *entry) {
    uint32_t at = floor_place(a, entry->principal);
    if (entry->principal != 0 && at < a->floor_count && a->floors[at].principal == entry->principal) {
        if (entry->serial > a->floors[at].serial)
            a->floors[at].serial = entry->serial;
    } else if (entry->principal != 0 && floors_grow(a)) {
        memmove(a->floors + at + 1, a->floors + at, (a->floor_count++ - at) * sizeof *a->floors);
        a->floors[at] = (struct floor){entry->principal, entry->serial};
    } else if (entry->serial > a->floor) {
        if (entry->principal != 0)
            log_error("account %u: no memory for a floor of one user, it holds for all", a->number);
        a->floor = entry->serial;
    }
}

static void kick_below_floor(struct router *r, const struct book_floor *floor) {
    for (uint32_t i = 0; i < r->link_high; i++) {
        struct link *l = &r->link[i];
        if (l->state != LINK_LIVE && l->state != LINK_REPLAY)
            continue;
        for (uint32_t n = 0; n < l->conn_high; n++) {
            struct conn *c = link_conn(l, n);
            if (c && c->state == CONN_BOUND && c->account == floor->account &&
                (floor->principal == 0 || c->principal == floor->principal) && c->serial < floor->serial)
                admit_kick(r, l, n, RECORD_KICK_REVOKED);
        }
    }
}

void accounts_read(struct router *r) {
    struct book_entry entry;
    enum err e;
    while ((e = book_next(&r->book, &entry)) == ERR_OK) {
        if (entry.type == BOOK_ACCOUNT) {
            take_account(r, &entry.account);
        } else if (entry.type == BOOK_FLOOR) {
            struct account *a = account_find(r, entry.floor.account);
            if (a)
                take_floor(a, &entry.floor);
            kick_below_floor(r, &entry.floor);
        }
    }
    if (e == ERR_FORGED)
        log_error("the account book is damaged at byte %llu: accounts beyond are unknown",
                  (unsigned long long)r->book.pos);
}
