/* SPDX-License-Identifier: Apache-2.0 */
/* authd's part of the configuration as arbitrary text. What must hold: a refused one leaves nothing behind; in an
 * accepted one every user is found by its name, and the account book takes every permission set. */
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>

#include "authd/users.h"
#include "authd/verdict.h"
#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_rules(const struct rules *r) {
    const uint8_t *at = r->bytes, *end = at + r->head.bytes;
    for (uint32_t i = 0; i < r->head.count; i++) {
        struct book_rule rule;
        check((size_t)(end - at) >= sizeof rule);
        memcpy(&rule, at, sizeof rule);
        at += sizeof rule;
        check(rule.kind >= BOOK_PUB_ALLOW && rule.kind <= BOOK_SUB_DENY);
        check((size_t)(end - at) >= (size_t)rule.subject_len + rule.queue_len);
        check(rule.subject_len || rule.kind == BOOK_PUB_ALLOW);
        at += rule.subject_len + rule.queue_len;
    }
    check(at == end);
}

static void check_users(const struct users *u) {
    for (uint32_t i = 0; i < u->count; i++) {
        const struct user *user = &u->at[i], *found = users_find(u, user->kind, user->name);
        check(found && view_equal(found->name, user->name));
        check(user->account < u->account_count);
        check(user->rules == USERS_ALL || user->rules < u->rules_count);
        check(!user->dn.len || users_find_dn(u, user->dn));
    }
    for (uint32_t i = 0; i < u->rules_count; i++)
        check_rules(&u->rules[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint8_t key[USERS_KEY_BYTES] = {7};
    struct arena arena = {0};
    struct text why = {.arena = &arena};
    struct users *users = NULL;
    check(sodium_init() >= 0);
    char *text = malloc(size + 1); /* of exactly its size, for the sanitizer */
    check(text);
    memcpy(text, data, size);
    enum err e = users_read(&users, view_of(text, size), key, &why);
    free(text);
    check((e == ERR_OK) == (users != NULL));
    if (users)
        check_users(users);
    users_free(users);
    arena_free(&arena);
    return 0;
}
