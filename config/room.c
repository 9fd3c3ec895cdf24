/* SPDX-License-Identifier: Apache-2.0 */
/* Whether the tables of the processes behind the reader hold what the configuration names: what authd could not take at a
 * start is a fault of the file, with its place. */
#include <string.h>

#include "config/checker.h"
#include "config/room.h"
#include "shm/book.h"
#include "shm/record.h"

enum {
    ENTRY_HEAD = 32,        /* of an entry of the account book, with padding */
    BOOK_RESERVE = 1 << 20, /* for what changes while the server runs */
};

struct room {
    struct checker *checker;
    struct value *sets;  /* a map of the permission sets so far, by their text: equal ones are kept once */
    uint64_t book_bytes; /* of accounts and sets */
    size_t user_count;
};

/* The text is `subject` or `subject queue`, which is shorter as two views. */
static uint64_t list_bytes(struct room *r, const struct value *list) {
    uint64_t bytes = 0;
    for (size_t i = 0; list && i < list->array->count; i++) {
        const struct value *v = list->array->at[i];
        if (v->text.len > RECORD_TEXT_MAX)
            problem_at(r->checker, v, "a subject of permissions is longer than %d bytes", (int64_t)RECORD_TEXT_MAX);
        bytes += sizeof(struct book_rule) + v->text.len;
    }
    return bytes;
}

static uint64_t side_bytes(struct room *r, const struct value *permissions, const char *name) {
    const struct value *side = value_find(permissions, view_text(name));
    if (!side)
        return 0;
    return list_bytes(r, value_find(side, VIEW("allow"))) + list_bytes(r, value_find(side, VIEW("deny")));
}

static void count_permissions(struct room *r, const struct value *block, const char *name) {
    const struct value *permissions = block ? value_find(block, view_text(name)) : NULL;
    if (!permissions)
        return;
    uint64_t bytes = side_bytes(r, permissions, "publish") + side_bytes(r, permissions, "subscribe");
    if (bytes > BOOK_RULES_BYTES_MAX)
        problem_at(r->checker, permissions, "the subjects of one user's permissions take more than %d bytes",
                   (int64_t)BOOK_RULES_BYTES_MAX);
    struct text text = {.arena = r->checker->arena};
    value_print(&text, permissions, false);
    if (value_find(r->sets, text_view(&text)))
        return;
    value_put(r->checker->arena, r->sets, text_view(&text), value_make(r->checker->arena, VALUE_BOOL));
    r->book_bytes += ENTRY_HEAD + sizeof(struct book_rules) + bytes;
}

static void count_users(struct room *r, const struct value *block) {
    const struct value *users = block ? value_find(block, VIEW("users")) : NULL;
    for (size_t i = 0; users && i < users->array->count; i++)
        count_permissions(r, users->array->at[i], "permissions");
    r->user_count += users ? users->array->count : 0;
    count_permissions(r, block, "default_permissions");
}

static void check_account(struct room *r, const struct value_entry *account) {
    if (account->key.len < 1 || account->key.len > BOOK_NAME_MAX)
        problem_at(r->checker, account->value, "the name of an account has 1 to %d bytes in this server",
                   (int64_t)BOOK_NAME_MAX);
    r->book_bytes += ENTRY_HEAD + sizeof(struct book_account);
    count_users(r, account->value);
}

void check_room(struct checker *c) {
    const struct value *accounts = config_find(c->config, "accounts");
    const struct value *authorization = config_find(c->config, "authorization");
    const struct value *at = accounts ? accounts : authorization;
    struct room r = {.checker = c, .sets = value_make(c->arena, VALUE_MAP)};
    count_users(&r, authorization);
    for (size_t i = 0; accounts && i < accounts->map->count; i++)
        check_account(&r, &accounts->map->at[i]);
    if (accounts && accounts->map->count >= BOOK_ACCOUNTS_MAX)
        problem_at(c, accounts, "there are more than %d accounts", (int64_t)BOOK_ACCOUNTS_MAX - 1);
    if (r.user_count > BOOK_USERS_MAX - 2)
        problem_at(c, at, "there are more than %d users", (int64_t)BOOK_USERS_MAX - 2);
    if (r.book_bytes > BOOK_BYTES - BOOK_RESERVE)
        problem_at(c, at, "accounts and permissions take %d bytes, and %d is the most", (int64_t)r.book_bytes,
                   (int64_t)BOOK_BYTES - BOOK_RESERVE);
}
