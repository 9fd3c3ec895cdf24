/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of authd/identity.c and authd/ledger.c: what follows from a change of the configuration, over the deaths of
 * authd at every store, and nonces. */
#include "authd/identity.h"

#include <check.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/memfd.h"
#include "shm/record.h"
#include "tests/unit/unit.h"

enum { SERIAL = 1000, SUBS = 7 };

/* ---- death: the process ends before or after the store that the countdown reaches ---- */

static int stores_left = -1; /* -1: lives */

static void store_begins(void) {
    if (stores_left > 0 && --stores_left == 0)
        _exit(9);
}

#define WRAP(type, name, parameters, arguments)                                                                        \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters {                                                                                    \
        store_begins();                                                                                                \
        type result = __real_##name arguments;                                                                         \
        store_begins();                                                                                                \
        return result;                                                                                                 \
    }
WRAP(enum err, book_append, (struct book * b, enum book_type t, const void *f, uint32_t l), (b, t, f, l))
WRAP(uint32_t, ledger_new_principal, (struct ledger * l), (l))
WRAP(uint32_t, ledger_put, (struct ledger * l, const struct ledger_user *u, uint32_t replaced), (l, u, replaced))

/* ---- one life of authd ---- */

static int book_fd, ledger_fd;

static void make_memory(void) {
    ck_assert_int_eq(memfd_make(&book_fd, "book", BOOK_BYTES, 0), ERR_OK);
    ck_assert_int_eq(memfd_make(&ledger_fd, "ledger", LEDGER_BYTES, 0), ERR_OK);
}

static void drop_memory(void) {
    close(book_fd);
    close(ledger_fd);
}

static struct users *read_users(const struct identity *id, const char *text) {
    struct arena arena = {0};
    struct text why = {.arena = &arena};
    struct users *users = NULL;
    enum err e = users_read(&users, view_text(text), id->ledger.memory->key, &why);
    ck_assert_msg(e == ERR_OK, "%s: %.*s", text, (int)why.len, why.at ? why.at : "");
    arena_free(&arena);
    return users;
}

/* Applies a configuration; the table stays the caller's. */
static struct users *live(const char *text, uint64_t serial) {
    struct identity id;
    ck_assert_int_eq(identity_open(&id, book_fd, ledger_fd), ERR_OK);
    struct users *users = read_users(&id, text);
    ck_assert(identity_has_room(&id, users));
    ck_assert_int_eq(identity_apply(&id, users, serial, SUBS), ERR_OK);
    ck_assert_uint_eq(id.ledger.live, users->count);
    identity_close(&id);
    return users;
}

static uint64_t book_end(void) {
    struct book book;
    ck_assert_int_eq(book_open(&book, book_fd, true), ERR_OK);
    uint64_t end = book.pos;
    book_close(&book);
    return end;
}

/* What the book says of a principal's bindings with serials below SERIAL: 0 nothing, 'R' refused, 'M' moved, 'P' other
 * permissions. */
static char fate_of(uint32_t account, uint32_t principal, struct book_permit *permit) {
    struct book book;
    struct book_entry entry;
    char fate = 0;
    ck_assert_int_eq(book_open(&book, book_fd, false), ERR_OK);
    while (book_next(&book, &entry) == ERR_OK) {
        if (entry.type == BOOK_FLOOR && entry.floor.principal == principal && entry.floor.serial >= SERIAL) {
            ck_assert_uint_eq(entry.floor.account, account);
            fate = entry.floor.kick == RECORD_KICK_REFUSED ? 'R' : entry.floor.kick == RECORD_KICK_MOVED ? 'M' : '?';
        } else if (entry.type == BOOK_PERMIT && entry.permit.principal == principal && entry.permit.serial >= SERIAL) {
            ck_assert_uint_eq(entry.permit.account, account);
            fate = fate ? fate : 'P';
            *permit = entry.permit;
        }
    }
    book_close(&book);
    return fate;
}

static const struct user *find(const struct users *users, const char *name) {
    for (uint32_t i = 0; i < users->count; i++) {
        if (users->at[i].kind == (strcmp(name, "?") == 0     ? USER_ANYONE
                                  : strcmp(name, "(t)") == 0 ? USER_TOKEN
                                  : strcmp(name, "(u)") == 0 ? USER_UNNAMED
                                                             : users->at[i].kind) &&
            (strchr("?(", *name) || view_equal(users->at[i].name, view_text(name))))
            return &users->at[i];
    }
    return NULL;
}

/* ---- changes ---- */

#define A(users)   "accounts {A: {users: [" users "]}, B: {users: [{user: \"b\", pass: \"p\"}]}}"
#define U(users)   "authorization {users: [" users "]}"
#define HASH_ONE   "$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW"
#define HASH_OTHER "$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrX"
#define NKEY_U     "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK"

static const struct {
    const char *name, *before, *after, *user;
    char fate;
} changes[] = {
    {"nothing", U("{user: \"a\", pass: \"p\"}"), U("{user: \"a\", pass: \"p\"}"), "a", 0},
    {"another user", U("{user: \"a\", pass: \"p\"}"), U("{user: \"c\"}, {user: \"a\", pass: \"p\"}"), "a", 0},
    {"removed", U("{user: \"a\", pass: \"p\"}, {user: \"b\"}"), U("{user: \"b\"}"), "a", 'R'},
    {"password", U("{user: \"a\", pass: \"p\"}"), U("{user: \"a\", pass: \"q\"}"), "a", 'R'},
    {"plain to hash", U("{user: \"a\", pass: \"secret\"}"), U("{user: \"a\", pass: \"" HASH_ONE "\"}"), "a", 'R'},
    {"hash", U("{user: \"a\", pass: \"" HASH_ONE "\"}"), U("{user: \"a\", pass: \"" HASH_OTHER "\"}"), "a", 'R'},
    {"nkey removed", U("{nkey: \"" NKEY_U "\"}, {user: \"b\"}"), U("{user: \"b\"}"), NKEY_U, 'R'},
    {"nkey stays", U("{nkey: \"" NKEY_U "\"}, {user: \"b\"}"), U("{nkey: \"" NKEY_U "\"}"), NKEY_U, 0},
    {"moved", A("{user: \"a\", pass: \"p\"}"), "accounts {A: {}, B: {users: [{user: \"a\", pass: \"p\"}]}}", "a", 'M'},
    {"moved out of $G", U("{user: \"a\", pass: \"p\"}"), A("{user: \"a\", pass: \"p\"}"), "a", 'M'},
    {"account removed", A("{user: \"a\", pass: \"p\"}"), "accounts {B: {users: [{user: \"b\", pass: \"p\"}]}}", "a",
     'R'},
    {"narrowed", U("{user: \"a\"}"), U("{user: \"a\", permissions: {publish: {allow: [\"x\"]}}}"), "a", 'P'},
    {"widened", U("{user: \"a\", permissions: {publish: {allow: [\"x\"]}}}"), U("{user: \"a\"}"), "a", 'P'},
    {"same permissions in another order", U("{user: \"a\", permissions: {publish: {allow: [\"x\", \"y\"]}}}"),
     U("{user: \"a\", permissions: {publish: {allow: [\"y\", \"x\", \"y\"]}}}"), "a", 0},
    {"payload of the account", A("{user: \"a\"}"),
     "accounts {A: {users: [{user: \"a\"}], limits: {max_payload: 10}}, B: {users: [{user: \"b\", pass: \"p\"}]}}", "a",
     'P'},
    {"kinds narrowed", U("{user: \"a\"}"), U("{user: \"a\", allowed_connection_types: [\"MQTT\"]}"), "a", 'R'},
    {"kinds widened", U("{user: \"a\", allowed_connection_types: [\"MQTT\"]}"),
     U("{user: \"a\", allowed_connection_types: [\"MQTT\", \"STANDARD\"]}"), "a", 0},
    {"users to token", U("{user: \"a\"}"), "authorization {token: \"t\"}", "a", 'R'},
    {"users to another single user", U("{user: \"a\"}"), "authorization {user: \"s\", pass: \"p\"}", "a", 'R'},
    {"single user into an array", "authorization {user: \"a\", pass: \"p\"}", U("{user: \"a\", pass: \"p\"}"), "a", 0},
    {"token changed", "authorization {token: \"t\"}", "authorization {token: \"u\"}", "(t)", 'R'},
    {"authentication on", "", U("{user: \"a\"}"), "?", 'R'},
    {"authentication off", U("{user: \"a\"}"), "", "a", 'M'},
    {"certificates on", U("{user: \"a\"}"), "tls {verify_and_map: true}\n" U("{user: \"a\"}"), "a", 'R'},
    {"no_auth_user off", "no_auth_user: \"a\"\n" U("{user: \"a\"}"), U("{user: \"a\"}"), "(u)", 'R'},
    {"no_auth_user off, the user itself", "no_auth_user: \"a\"\n" U("{user: \"a\"}"), U("{user: \"a\"}"), "a", 0},
    {"password of no_auth_user", "no_auth_user: \"a\"\n" U("{user: \"a\"}"),
     "no_auth_user: \"a\"\n" U("{user: \"a\", pass: \"p\"}"), "(u)", 0},
};

/* The change's effect, and that the survivors keep their numbers and nobody else gets them. */
static void check_change(size_t i, int death, const struct users *before, const struct users *after) {
    const struct user *was = find(before, changes[i].user), *is = find(after, changes[i].user);
    struct book_permit permit = {0};
    ck_assert_ptr_nonnull(was);
    char fate = fate_of(was->account_number, was->principal, &permit);
    ck_assert_msg(fate == changes[i].fate, "%s, death %d: '%c'", changes[i].name, death, fate ? fate : '0');
    if (fate == 'P') {
        ck_assert_uint_eq(permit.permissions, is->permissions);
        ck_assert_uint_eq(permit.payload_max, is->payload_max);
    }
    if (!fate || fate == 'P')
        ck_assert_uint_eq(was->principal, is->principal);
    if (fate == 'M' && is)
        ck_assert_uint_ne(was->principal, is->principal);
    for (uint32_t k = 0; k < after->count; k++) {
        ck_assert_uint_ne(after->at[k].principal, 0);
        for (uint32_t m = 0; m < k; m++)
            ck_assert_uint_ne(after->at[k].principal, after->at[m].principal);
    }
}

START_TEST(test_changes) {
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        make_memory();
        struct users *before = live(changes[i].before, 1), *after = live(changes[i].after, SERIAL);
        check_change(i, -1, before, after);
        uint64_t end = book_end();
        users_free(live(changes[i].after, 2 * SERIAL)); /* the next authd finds nothing to do */
        ck_assert_msg(book_end() == end, "%s: written twice", changes[i].name);
        users_free(before);
        users_free(after);
        drop_memory();
    }
}
END_TEST

/* True if the child came to its end. */
static bool dies_at(const char *text, int store) {
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        stores_left = store;
        live(text, SERIAL);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && (WEXITSTATUS(status) == 9 || WEXITSTATUS(status) == 0));
    return WEXITSTATUS(status) == 0;
}

START_TEST(test_deaths) {
    int deaths = 0;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        bool lived = false;
        for (int store = 1; !lived; store++) {
            make_memory();
            struct users *before = live(changes[i].before, 1);
            lived = dies_at(changes[i].after, store);
            struct users *after = live(changes[i].after, SERIAL + 1);
            check_change(i, store, before, after);
            users_free(before);
            users_free(after);
            drop_memory();
            deaths += !lived;
        }
    }
    printf("identity_test deaths: %d\n", deaths);
    ck_assert_int_gt(deaths, 100);
}
END_TEST

/* ---- numbers ---- */

START_TEST(test_numbers) {
    make_memory();
    static const char text[] =
        "accounts {A: {users: [{user: \"a\", permissions: {publish: {deny: [\"x\"]}}}, {user: \"b\"}], "
        "limits: {max_payload: 99, max_subscriptions: 5, max_connections: 3}}, B: {users: [{user: "
        "\"c\", permissions: {publish: {deny: [\"x\"]}}}], limits: {max_payload: 9999}}, C: {users: [{user: \"d\"}]}}";
    struct users *first = live(text, 1), *second = live(text, SERIAL);
    const struct user *a = find(first, "a"), *b = find(first, "b"), *c = find(first, "c");
    ck_assert_uint_eq(a->account_number, b->account_number);
    ck_assert_uint_ne(a->account_number, c->account_number);
    ck_assert_uint_ne(a->permissions, 0);
    ck_assert_uint_eq(a->permissions, c->permissions);
    ck_assert_uint_eq(b->permissions, 0);
    ck_assert_uint_eq(a->payload_max, 99);
    ck_assert_uint_eq(c->payload_max, 9999);
    ck_assert_uint_eq(find(first, "d")->payload_max, 0);
    ck_assert_uint_eq(a->subs_max, 5);
    ck_assert_uint_eq(c->subs_max, SUBS);
    for (uint32_t i = 0; i < first->count; i++) {
        ck_assert_uint_eq(first->at[i].principal, second->at[i].principal);
        ck_assert_uint_eq(first->at[i].account_number, second->at[i].account_number);
        ck_assert_uint_eq(first->at[i].permissions, second->at[i].permissions);
    }
    users_free(first);
    users_free(second);
    drop_memory();
}
END_TEST

/* Limits of an account that change are written once, under its number. */
START_TEST(test_limits) {
    make_memory();
    users_free(live("accounts {A: {users: [{user: \"a\"}]}}", 1));
    uint64_t end = book_end();
    users_free(live("accounts {A: {users: [{user: \"a\"}], limits: {max_connections: 4}}}", 2));
    struct book book;
    struct book_entry entry;
    ck_assert_int_eq(book_open(&book, book_fd, false), ERR_OK);
    book.pos = end;
    ck_assert_int_eq(book_next(&book, &entry), ERR_OK);
    ck_assert_int_eq(entry.type, BOOK_ACCOUNT);
    ck_assert_uint_eq(entry.account.number, 2);
    ck_assert_uint_eq(entry.account.conns_max, 4);
    ck_assert_int_eq(book_next(&book, &entry), ERR_AGAIN);
    book_close(&book);
    drop_memory();
}
END_TEST

/* Reloads back and forth use the same entries again. */
START_TEST(test_many_reloads) {
    make_memory();
    uint32_t high = 0;
    for (int i = 0; i < 200; i++) {
        users_free(live(i % 2 ? U("{user: \"a\"}, {user: \"b\"}") : U("{user: \"b\", pass: \"x\"}, {user: \"c\"}"),
                        (uint64_t)i + 1));
        struct ledger ledger;
        ck_assert_int_eq(ledger_open(&ledger, ledger_fd), ERR_OK);
        high = atomic_load(&ledger.memory->entries_high);
        ledger_close(&ledger);
    }
    ck_assert_uint_le(high, 4);
    drop_memory();
}
END_TEST

/* A death between the new entry and the end of the old one. */
START_TEST(test_twins) {
    make_memory();
    struct ledger ledger;
    struct ledger_user user = {.name = "twin", .principal = 1};
    ck_assert_int_eq(ledger_open(&ledger, ledger_fd), ERR_OK);
    ledger_put(&ledger, &user, UINT32_MAX);
    user.principal = 2;
    ledger_put(&ledger, &user, UINT32_MAX);
    ledger_close(&ledger);
    ck_assert_int_eq(ledger_open(&ledger, ledger_fd), ERR_OK);
    ck_assert_uint_eq(ledger.live, 1);
    ck_assert_uint_eq(ledger.memory->entry[ledger_find(&ledger, user.name)].user.principal, 2);
    ledger_close(&ledger);
    drop_memory();
}
END_TEST

/* ---- nonces ---- */

static struct ledger nonce_ledger;

static void open_nonces(void) {
    make_memory();
    ck_assert_int_eq(ledger_open(&nonce_ledger, ledger_fd), ERR_OK);
    nonces_open_link(&nonce_ledger, 3, 77);
    nonces_open_link(&nonce_ledger, 4, 78);
}

static void close_nonces(void) {
    ledger_close(&nonce_ledger);
    drop_memory();
}

START_TEST(test_nonces) {
    char one[NONCE_CHARS], two[NONCE_CHARS], other[NONCE_CHARS];
    open_nonces();
    struct ledger *l = &nonce_ledger;
    nonces_give(l, 3, 1000, one);
    nonces_give(l, 3, 1000, two);
    ck_assert_mem_ne(one, two, NONCE_CHARS);
    ck_assert(!nonces_take(l, 4, 1000, one, NONCE_CHARS)); /* another link */
    ck_assert_int_eq(nonces_look(l, 4, 1000, one, NONCE_CHARS), NONCE_BAD);
    ck_assert_int_eq(nonces_look(l, 3, 1000, one, NONCE_CHARS), NONCE_GOOD);
    ck_assert(nonces_take(l, 3, 1000, one, NONCE_CHARS));
    ck_assert_int_eq(nonces_look(l, 3, 1000, one, NONCE_CHARS), NONCE_SPENT);
    ck_assert(!nonces_take(l, 3, 1000, one, NONCE_CHARS)); /* again */
    ck_assert(!nonces_take(l, 3, 1000, two, NONCE_CHARS - 1));
    ck_assert(!nonces_take(l, 3, 1000, "AAAAAAAAAAAAAAA", NONCE_CHARS));
    ck_assert(!nonces_take(l, 3, 1000, "!!!!!!!!!!!!!!!", NONCE_CHARS));
    memcpy(other, two, NONCE_CHARS);
    other[10] = other[10] == 'A' ? 'B' : 'A';
    ck_assert(!nonces_take(l, 3, 1000, other, NONCE_CHARS));
    /* The next authd: what was not used is good, what was used is not. */
    ledger_close(l);
    ck_assert_int_eq(ledger_open(l, ledger_fd), ERR_OK);
    nonces_open_link(l, 3, 77);
    ck_assert(!nonces_take(l, 3, 2000, one, NONCE_CHARS));
    ck_assert(nonces_take(l, 3, 2000, two, NONCE_CHARS));
    close_nonces();
}
END_TEST

START_TEST(test_old_nonces) {
    char text[NONCE_CHARS];
    open_nonces();
    nonces_give(&nonce_ledger, 3, 1000, text);
    ck_assert(nonces_take(&nonce_ledger, 3, 1000 + NONCE_MS, text, NONCE_CHARS));
    nonces_give(&nonce_ledger, 3, 1000, text);
    ck_assert(!nonces_take(&nonce_ledger, 3, 1001 + NONCE_MS, text, NONCE_CHARS));
    /* Another process at that link has never got it. */
    nonces_give(&nonce_ledger, 3, 1000, text);
    nonces_open_link(&nonce_ledger, 3, 79);
    ck_assert(!nonces_take(&nonce_ledger, 3, 1000, text, NONCE_CHARS));
    close_nonces();
}
END_TEST

/* A flood on one link pushes out its own nonces alone. */
START_TEST(test_nonce_flood) {
    char first[NONCE_CHARS], neighbour[NONCE_CHARS], text[NONCE_CHARS];
    open_nonces();
    nonces_give(&nonce_ledger, 4, 1000, neighbour);
    nonces_give(&nonce_ledger, 3, 1000, first);
    for (int i = 0; i < LEDGER_NONCES; i++)
        nonces_give(&nonce_ledger, 3, 1000, text);
    ck_assert(!nonces_take(&nonce_ledger, 3, 1000, first, NONCE_CHARS));
    ck_assert(nonces_take(&nonce_ledger, 3, 1000, text, NONCE_CHARS));
    ck_assert(nonces_take(&nonce_ledger, 4, 1000, neighbour, NONCE_CHARS));
    close_nonces();
}
END_TEST

int main(void) {
    if (sodium_init() < 0)
        return 1;
    Suite *suite = suite_create("identity");
    TCase *tcase = tcase_create("all");
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_changes);
    tcase_add_test(tcase, test_deaths);
    tcase_add_test(tcase, test_numbers);
    tcase_add_test(tcase, test_limits);
    tcase_add_test(tcase, test_many_reloads);
    tcase_add_test(tcase, test_twins);
    tcase_add_test(tcase, test_nonces);
    tcase_add_test(tcase, test_old_nonces);
    tcase_add_test(tcase, test_nonce_flood);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
