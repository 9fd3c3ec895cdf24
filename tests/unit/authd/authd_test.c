/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead-authd itself: what it answers, in which order, and what outlives it. */
#define ERR_STATE openssl_err_state
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#undef ERR_STATE

#include "tests/unit/authd/authd_world.h"
#include "tests/unit/unit.h"

#define HASH_SLOW  "$2a$10$abcdefghijklmnopqrstuuqflPDzB6gcMhKa1rZqKiun2YGL5sa2u"
#define HASH_QUICK "$2a$06$abcdefghijklmnopqrstuuxLa0AkDDSrQ9VwNnETzOsObiucpMYgC"
#define NKEY_U     "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK"

static const char part_users[] =
    "authorization {users: [{user: \"a\", pass: \"p\", permissions: {publish: {deny: [\"x\"]}}}, "
    "{user: \"b\", pass: \"p\"}]}";

/* ---- tests ---- */

START_TEST(test_no_auth) {
    start_all(NULL);
    struct peer_edge *e = &f.edge[0];
    ck_assert(!e->policy.auth_required && !e->policy.login && !e->policy.nonce && e->policy.anonymous);
    Bulkhead__Login m = new_login(e);
    m.ahead = true;
    const struct reply *r = wait_reply(e, send_login(e, &m));
    ck_assert(r->bound);
    ck_assert_uint_eq(r->binding.account, 1);
    ck_assert_uint_eq(r->binding.link, 0);
    ck_assert_uint_eq(r->binding.incarnation, 100);
    ck_assert_uint_eq(r->binding.permissions, 0);
    ck_assert_uint_eq(r->payload_max, 0);
    ck_assert(log_in(e, "whoever", "x")->bound);
}
END_TEST

START_TEST(test_users) {
    start_all(part_users);
    struct peer_edge *e = &f.edge[0];
    ck_assert(e->policy.auth_required && e->policy.login && !e->policy.nonce && !e->policy.anonymous);
    ck_assert_int_eq(e->policy.log_form, BULKHEAD__LOG_FORM__LOG_USER);
    const struct reply *a = log_in(e, "a", "p"), *b = log_in(&f.edge[1], "b", "p");
    ck_assert(a->bound && b->bound);
    ck_assert_uint_ne(a->binding.principal, b->binding.principal);
    ck_assert_uint_ne(a->binding.permissions, 0);
    ck_assert_uint_eq(b->binding.permissions, 0);
    ck_assert_uint_eq(b->binding.link, 1);
    const struct reply *r = log_in(e, "a", "q");
    ck_assert(!r->bound && r->reason == BULKHEAD__REFUSAL_REASON__REFUSAL_AUTHORIZATION);
    Bulkhead__Login m = new_login(e);
    m.ahead = true;
    r = wait_reply(e, send_login(e, &m));
    ck_assert(!r->bound && r->reason == BULKHEAD__REFUSAL_REASON__REFUSAL_AUTHORIZATION);
    m = new_login(e);
    m.generation = 1;
    r = wait_reply(e, send_login(e, &m));
    ck_assert(!r->bound && r->reason == BULKHEAD__REFUSAL_REASON__REFUSAL_STALE);
}
END_TEST

/* A login waits until the router knows the accounts. */
START_TEST(test_router_first) {
    f.acknowledges = false;
    start_authd(part_users);
    open_router();
    open_edge(0);
    uint32_t id = send_user(&f.edge[0], "a", "p");
    UNTIL(f.grown == 1 && f.edge[0].policies == 1);
    turn(50);
    ck_assert_ptr_null(find_reply(&f.edge[0], id));
    acknowledge();
    ck_assert(wait_reply(&f.edge[0], id)->bound);
    ck_assert_int_eq(next_note().type, NOTE_READY);
}
END_TEST

/* What needs no hash does not wait for one; two users' hashes come in any order, each right. */
START_TEST(test_hashes) {
    start_all("authorization {users: [{user: \"h\", pass: \"" HASH_SLOW "\"}, {user: \"a\", pass: \"p\"}]}");
    struct peer_edge *e = &f.edge[0];
    uint32_t good = send_user(e, "h", "secret"), bad = send_user(e, "h", "wrong"), unknown = send_user(e, "zz", "x");
    uint32_t plain = send_user(e, "a", "p"), wrong = send_user(e, "a", "q");
    ck_assert(wait_reply(e, plain)->bound);
    ck_assert_uint_eq(reply_at(e, 0)->id, plain);
    ck_assert(wait_reply(e, good)->bound);
    ck_assert(!wait_reply(e, bad)->bound);
    ck_assert(!wait_reply(e, unknown)->bound);
    ck_assert(!wait_reply(e, wrong)->bound);
    /* An edge that goes takes its logins with it. */
    for (int i = 0; i < 50; i++)
        send_user(&f.edge[1], "zz", "x");
    channel_close(&f.edge[1].channel);
    ck_assert(log_in(e, "h", "secret")->bound);
}
END_TEST

/* A reload while a hash is made: the login is decided by what is in force when it is there. */
START_TEST(test_hash_over_reload) {
    start_all("authorization {users: [{user: \"h\", pass: \"" HASH_SLOW "\"}, {user: \"a\", pass: \"p\"}]}");
    struct peer_edge *e = &f.edge[0];
    uint32_t first = send_user(e, "h", "secret"), plain = send_user(e, "a", "p");
    UNTIL(find_reply(e, plain));
    uint32_t answered = e->reply_count;
    ck_assert_uint_eq(reload(part_users, 2).value, 0);
    commit(2);
    ck_assert_int_eq(next_note().type, NOTE_APPLIED);
    const struct reply *r = wait_reply(e, first);
    if (answered == 1) /* it was not there before */
        ck_assert(!r->bound || r->binding.serial < log_in(e, "a", "p")->binding.serial);
}
END_TEST

START_TEST(test_nkeys) {
    static const char part[] = "authorization {users: [{nkey: \"" NKEY_U "\"}]}";
    char one[NONCE_CHARS], two[NONCE_CHARS], three[NONCE_CHARS];
    start_all(part);
    struct peer_edge *e = &f.edge[0];
    ck_assert(e->policy.nonce);
    ck_assert_int_eq(e->policy.log_form, BULKHEAD__LOG_FORM__LOG_NKEY);
    want_nonces(e, 3);
    memcpy(one, e->nonces, NONCE_CHARS);
    memcpy(two, e->nonces + NONCE_CHARS, NONCE_CHARS);
    memcpy(three, e->nonces + 2 * NONCE_CHARS, NONCE_CHARS);
    ck_assert(log_in_nkey(e, one, one)->bound);
    ck_assert(!log_in_nkey(e, one, one)->bound);          /* another connection shows the same */
    ck_assert(!log_in_nkey(&f.edge[1], two, two)->bound); /* another link */
    ck_assert(!log_in_nkey(e, three, two)->bound);
    end_authd(SIGKILL);
    start_all(part);
    ck_assert(!log_in_nkey(e, one, one)->bound); /* used before the death */
    ck_assert(!log_in_nkey(e, three, three)->bound);
    ck_assert(log_in_nkey(e, two, two)->bound); /* not used before */
    ck_assert(!log_in_nkey(e, two, two)->bound);
    want_nonces(e, NONCE_ASK_MAX);
}
END_TEST

static uint32_t floors_of(uint32_t principal, uint32_t kick) {
    struct book book;
    struct book_entry entry;
    uint32_t count = 0;
    ck_assert_int_eq(book_open(&book, f.book_fd, false), ERR_OK);
    while (book_next(&book, &entry) == ERR_OK)
        count += entry.type == BOOK_FLOOR && entry.floor.principal == principal && entry.floor.kick == kick;
    book_close(&book);
    return count;
}

START_TEST(test_reload) {
    struct note note;
    start_all(part_users);
    struct peer_edge *e = &f.edge[0];
    uint32_t a = log_in(e, "a", "p")->binding.principal, b = log_in(e, "b", "p")->binding.principal;
    f.acknowledges = false;
    uint32_t grown = f.grown;
    ck_assert_uint_eq(reload("no_auth_user: \"b\"\nauthorization {users: [{user: \"b\", pass: \"q\"}]}", 2).value, 0);
    ck_assert(log_in(e, "a", "p")->bound); /* nothing has changed yet */
    commit(2);
    UNTIL(f.grown > grown);
    ck_assert_int_eq(note_receive(f.control.fd, &note), ERR_AGAIN);
    uint32_t waits = send_user(e, "b", "q");
    turn(50);
    ck_assert_ptr_null(find_reply(e, waits));
    ck_assert_int_eq(note_receive(f.control.fd, &note), ERR_AGAIN); /* not before the router knows */
    f.acknowledges = true;
    acknowledge();
    note = next_note();
    ck_assert_int_eq(note.type, NOTE_APPLIED);
    ck_assert_uint_eq(note.number, 2);
    ck_assert(wait_reply(e, waits)->bound);
    ck_assert(!log_in(e, "a", "p")->bound);
    ck_assert(!log_in(e, "b", "p")->bound);
    UNTIL(e->policies == 2 && f.edge[1].policies == 2);
    ck_assert(e->policy.anonymous && !e->policy.auth_required && e->policy.login);
    ck_assert_uint_eq(floors_of(a, RECORD_KICK_REFUSED), 1);
    ck_assert_uint_eq(floors_of(b, RECORD_KICK_REFUSED), 1);
    /* A part that cannot be taken changes nothing. */
    ck_assert_uint_ne(reload("authorization {users: [{nkey: \"no key\"}]}", 3).value, 0);
    ck_assert(log_in(e, "b", "q")->bound);
    /* Settings alone. */
    f.settings.max_subscriptions = 9;
    ck_assert_uint_eq(reload(NULL, 4).value, 0);
    commit(4);
    ck_assert_int_eq(next_note().type, NOTE_APPLIED);
    ck_assert_uint_eq(log_in(e, "b", "q")->binding.subs_max, 9);
}
END_TEST

/* A reload that no authd saw to its end: the next one has the effect. */
START_TEST(test_reload_over_death) {
    start_all(part_users);
    uint32_t a = log_in(&f.edge[0], "a", "p")->binding.principal;
    end_authd(SIGKILL);
    f.settings.generation = 2;
    start_all("authorization {users: [{user: \"b\", pass: \"p\"}]}");
    ck_assert_uint_eq(floors_of(a, RECORD_KICK_REFUSED), 1);
    ck_assert(!log_in(&f.edge[0], "a", "p")->bound);
    /* Without a router there is nobody to wait for. */
    channel_close(&f.router);
    ck_assert_uint_eq(reload(part_users, 3).value, 0);
    commit(3);
    ck_assert_int_eq(next_note().type, NOTE_APPLIED);
    open_router();
    ck_assert(log_in(&f.edge[0], "a", "p")->bound);
}
END_TEST

/* The source that failed waits, its good logins too; others do not. */
START_TEST(test_penalties) {
    start_all(
        "logins {penalty: 300000000, penalty_after: 2, penalty_max: 300000000}\nauthorization {user: \"a\", pass: "
        "\"p\"}");
    struct peer_edge *e = &f.edge[0];
    e->address = 1;
    ck_assert(!log_in(e, "a", "x")->bound);
    ck_assert(!log_in(e, "a", "x")->bound);
    uint32_t bad = send_user(e, "a", "x"), good = send_user(e, "a", "p");
    e->address = 2;
    uint32_t other = send_user(e, "a", "p");
    ck_assert(wait_reply(e, other)->bound);
    ck_assert_ptr_null(find_reply(e, bad));
    ck_assert_ptr_null(find_reply(e, good));
    ck_assert(!wait_reply(e, bad)->bound);
    ck_assert(wait_reply(e, good)->bound);
}
END_TEST

/* Who guesses does not lock out those behind the same address: with no room to hold a bad verdict back, it is said at
 * once, and a good login is still looked at. Another link has failures of its own. */
START_TEST(test_penalties_lock_nobody_out) {
    enum { HELD_MAX = 64 };
    uint32_t bad[HELD_MAX];
    start_all("logins {penalty: 2000000000, penalty_after: 1, penalty_max: 2000000000}\nauthorization {user: \"a\", "
              "pass: \"p\"}");
    struct peer_edge *e = &f.edge[0];
    ck_assert(!log_in(e, "a", "x")->bound);
    for (int i = 0; i < HELD_MAX; i++)
        bad[i] = send_user(e, "a", "x");
    uint32_t good = send_user(e, "a", "p");
    for (int i = HELD_MAX; i < HELD_MAX + 10; i++) {
        const struct reply *r = log_in(e, "a", "x");
        ck_assert(!r->bound && r->reason == BULKHEAD__REFUSAL_REASON__REFUSAL_AUTHORIZATION);
    }
    ck_assert_ptr_null(find_reply(e, bad[0]));
    ck_assert_ptr_null(find_reply(e, good));
    ck_assert(log_in(&f.edge[1], "a", "p")->bound);
    ck_assert_ptr_null(find_reply(e, bad[0]));
    ck_assert(wait_reply(e, good)->bound);
    for (int i = 0; i < HELD_MAX; i++)
        ck_assert_int_eq(wait_reply(e, bad[i])->reason, BULKHEAD__REFUSAL_REASON__REFUSAL_AUTHORIZATION);
}
END_TEST

/* A nonce is used up by the answer: what dies in authd before it is said can be said again, and only once. */
START_TEST(test_nonce_of_held) {
    static const char part[] = "logins {penalty: 1000000000, penalty_after: 1, penalty_max: 1000000000}\n"
                               "authorization {users: [{nkey: \"" NKEY_U "\"}, {user: \"a\", pass: \"p\"}]}";
    char nonce[2][NONCE_CHARS];
    start_all(part);
    struct peer_edge *e = &f.edge[0];
    want_nonces(e, 2);
    memcpy(nonce, e->nonces, sizeof nonce);
    ck_assert(!log_in(e, "a", "x")->bound);
    uint32_t held = send_nkey(e, nonce[0], nonce[0]);
    turn(50);
    ck_assert_ptr_null(find_reply(e, held));
    end_authd(SIGKILL);
    start_all(part);
    ck_assert(log_in_nkey(e, nonce[0], nonce[0])->bound);
    ck_assert(!log_in_nkey(e, nonce[0], nonce[0])->bound);
    ck_assert(!log_in(e, "a", "x")->bound);
    uint32_t one = send_nkey(e, nonce[1], nonce[1]), two = send_nkey(e, nonce[1], nonce[1]);
    ck_assert(wait_reply(e, one)->bound);
    ck_assert(!wait_reply(e, two)->bound);
}
END_TEST

/* A login that comes again after its answer was lost is no guess. */
START_TEST(test_spent_nonce_is_no_failure) {
    start_all("logins {penalty: 300000000000, penalty_after: 1, penalty_max: 300000000000}\n"
              "authorization {users: [{nkey: \"" NKEY_U "\"}, {user: \"a\", pass: \"p\"}]}");
    struct peer_edge *e = &f.edge[0];
    want_nonces(e, 1);
    ck_assert(log_in_nkey(e, e->nonces, e->nonces)->bound);
    for (int i = 0; i < 5; i++)
        ck_assert(!log_in_nkey(e, e->nonces, e->nonces)->bound);
    ck_assert(log_in(e, "a", "p")->bound);
}
END_TEST

/* What is held gets its binding when it is sent; under another table the edge has to ask again. */
START_TEST(test_held_over_reload) {
#define HELD_PART(in_x, in_y)                                                                                          \
    "logins {penalty: 700000000, penalty_after: 1, penalty_max: 700000000}\naccounts {X: {users: [" in_x               \
    "]}, Y: {users: [" in_y "]}}"
#define USER_A "{user: \"a\", pass: \"p\"}"
#define USER_B "{user: \"b\", pass: \"p\"}"
    start_all(HELD_PART(USER_A, USER_B));
    struct peer_edge *e = &f.edge[0];
    const struct binding before = log_in(e, "a", "p")->binding;
    ck_assert(!log_in(e, "a", "x")->bound);
    uint32_t settings_alone = send_user(e, "a", "p");
    f.settings.max_subscriptions = 9;
    ck_assert_uint_eq(reload(NULL, 2).value, 0);
    commit(2);
    ck_assert_int_eq(next_note().type, NOTE_APPLIED);
    ck_assert_ptr_null(find_reply(e, settings_alone));
    const struct reply *r = wait_reply(e, settings_alone);
    ck_assert(r->bound && r->binding.subs_max == 9 && r->binding.account == before.account);
    uint32_t good = send_user(e, "a", "p"), bad = send_user(e, "a", "x");
    ck_assert_uint_eq(reload(HELD_PART(USER_B, USER_A), 3).value, 0);
    commit(3);
    ck_assert_int_eq(next_note().type, NOTE_APPLIED);
    ck_assert_ptr_null(find_reply(e, good));
    r = wait_reply(e, good);
    ck_assert(!r->bound && r->reason == BULKHEAD__REFUSAL_REASON__REFUSAL_STALE);
    ck_assert_int_eq(wait_reply(e, bad)->reason, BULKHEAD__REFUSAL_REASON__REFUSAL_AUTHORIZATION);
    uint64_t asked_ms = clock_mono_ms(); /* what was waited counts: not a second time */
    r = log_in(e, "a", "p");
    ck_assert(r->bound && r->binding.account != before.account && r->binding.principal != before.principal);
    ck_assert_uint_lt(clock_mono_ms() - asked_ms, 700);
    asked_ms = clock_mono_ms();
    ck_assert(log_in(e, "a", "p")->bound);
    ck_assert_uint_ge(clock_mono_ms() - asked_ms, 700);
}
END_TEST

static void cancel(struct peer_edge *e, uint32_t id, uint32_t conn, uint32_t generation) {
    Bulkhead__Cancel m = BULKHEAD__CANCEL__INIT;
    m.id = id;
    m.conn = conn;
    m.generation = generation;
    ck_assert_int_eq(channel_send(&e->channel, MESSAGE_CANCEL, &m.base, NULL, 0), ERR_OK);
}

static uint32_t count_replies(const struct peer_edge *e, uint32_t reason) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < e->reply_count; i++)
        count += !reply_at(e, i)->bound && reply_at(e, i)->reason == reason;
    return count;
}

/* On a connection number of its own. */
static uint32_t send_wrong(struct peer_edge *e, uint32_t conn) {
    Bulkhead__Login m = new_login(e);
    m.conn = conn;
    m.has_user = m.has_pass = true;
    m.user = bytes_of("h");
    m.pass = bytes_of("wrong");
    return send_login(e, &m);
}

/* Logins whose clients have gone cost no hash, but for those that were begun; each has one answer all the same. */
START_TEST(test_cancel) {
    enum { COUNT = 60, BEGUN_MAX = 20 };
    uint32_t id[COUNT];
    start_all("authorization {users: [{user: \"h\", pass: \"" HASH_SLOW "\"}]}");
    struct peer_edge *e = &f.edge[0];
    for (uint32_t i = 0; i < COUNT; i++)
        id[i] = send_wrong(e, 100 + i);
    cancel(&f.edge[1], id[COUNT - 1], 100 + COUNT - 1, id[COUNT - 1]); /* another link's is none of its */
    cancel(e, id[0], 100, id[0] + 1);
    cancel(e, id[0] + 1, 100, id[0]);
    for (uint32_t i = COUNT - 1; i > 0; i--)
        cancel(e, id[i], 100 + i, id[i]);
    UNTIL(e->reply_count == COUNT);
    ck_assert_int_eq(wait_reply(e, id[0])->reason, BULKHEAD__REFUSAL_REASON__REFUSAL_AUTHORIZATION);
    ck_assert_uint_ge(count_replies(e, BULKHEAD__REFUSAL_REASON__REFUSAL_STALE), COUNT - BEGUN_MAX);
    for (uint32_t i = 0; i < COUNT; i++)
        cancel(e, id[i], 100 + i, id[i]);
    ck_assert(log_in(e, "h", "secret")->bound);
    ck_assert_uint_eq(e->reply_count, COUNT + 1);
}
END_TEST

/* What is held back is dropped too, and its nonce is good for nobody. */
START_TEST(test_cancel_held) {
    char nonce[NONCE_CHARS];
    start_all("logins {penalty: 300000000000, penalty_after: 1, penalty_max: 300000000000}\n"
              "authorization {users: [{nkey: \"" NKEY_U "\"}, {user: \"a\", pass: \"p\"}]}");
    struct peer_edge *e = &f.edge[0];
    want_nonces(e, 1);
    memcpy(nonce, e->nonces, sizeof nonce);
    ck_assert(!log_in(e, "a", "x")->bound);
    uint32_t good = send_nkey(e, nonce, nonce);
    cancel(e, good, 5, good);
    ck_assert_int_eq(wait_reply(e, good)->reason, BULKHEAD__REFUSAL_REASON__REFUSAL_STALE);
    uint32_t bad = send_user(e, "a", "x");
    cancel(e, bad, 5, bad);
    ck_assert_int_eq(wait_reply(e, bad)->reason, BULKHEAD__REFUSAL_REASON__REFUSAL_STALE);
    e->address = 9;
    ck_assert_int_eq(log_in_nkey(e, nonce, nonce)->reason, BULKHEAD__REFUSAL_REASON__REFUSAL_AUTHORIZATION);
    cancel(e, 1, SOFT_CONNS_MAX, 1); /* no number that an edge can have */
    UNTIL(e->channel.fd < 0);
}
END_TEST

/* Three addresses fill the queue; a fourth one is let in all the same. */
START_TEST(test_full_queue) {
    enum { FLOOD = 8192 + 1000, FEW = 10 };
    uint32_t id[FEW];
    start_all("authorization {users: [{user: \"h\", pass: \"" HASH_QUICK "\"}]}");
    struct peer_edge *e = &f.edge[0];
    for (uint32_t i = 0; i < FLOOD; i++) {
        e->address = (uint8_t)(1 + i % 3);
        send_wrong(e, 100 + i);
        while (channel_flush(&e->channel))
            turn(1);
    }
    UNTIL(count_replies(e, BULKHEAD__REFUSAL_REASON__REFUSAL_BUSY) > 100);
    e->address = 4;
    for (int i = 0; i < FEW; i++)
        id[i] = send_user(e, "h", "secret");
    for (int i = 0; i < FEW; i++)
        ck_assert(wait_reply(e, id[i])->bound);
}
END_TEST

#ifndef BULKHEAD_SANITIZED

/* Each thread has the filter. */
START_TEST(test_walls) {
    char path[64], line[512];
    int threads = 0;
    start_all(part_users);
    snprintf(path, sizeof path, "/proc/%d/task", (int)f.pid);
    DIR *tasks = opendir(path);
    ck_assert_ptr_nonnull(tasks);
    for (struct dirent *task; (task = readdir(tasks));) {
        int seccomp = -1;
        if (*task->d_name == '.')
            continue;
        snprintf(line, sizeof line, "%s/%s/status", path, task->d_name);
        FILE *status = fopen(line, "r");
        ck_assert_ptr_nonnull(status);
        while (fgets(line, sizeof line, status))
            sscanf(line, "Seccomp: %d", &seccomp);
        fclose(status);
        ck_assert_msg(seccomp == 2, "thread %s has filter mode %d", task->d_name, seccomp);
        threads++;
    }
    closedir(tasks);
    ck_assert_int_ge(threads, 2);
}
END_TEST

#endif

/* ---- certificates ---- */

static size_t make_certificate(uint8_t **der, EVP_PKEY *key, const char *common_name, const char *alternative) {
    X509 *x = X509_new();
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME *name = X509_get_subject_name(x);
    if (common_name)
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)common_name, -1, -1, 0);
    X509_set_issuer_name(x, name);
    if (alternative) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alternative);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    bool plain = EVP_PKEY_get_id(key) != EVP_PKEY_ED25519;
    ck_assert_int_gt(X509_sign(x, key, plain ? EVP_sha256() : NULL), 0);
    *der = NULL;
    int len = i2d_X509(x, der);
    ck_assert_int_gt(len, 0);
    X509_free(x);
    return (size_t)len;
}

static const struct reply *log_in_certificate(struct peer_edge *e, const uint8_t *der, size_t len, const char *pass) {
    Bulkhead__Login m = new_login(e);
    m.has_certificate = true;
    m.certificate = (ProtobufCBinaryData){len, (uint8_t *)(uintptr_t)der};
    m.has_pass = pass != NULL;
    m.pass = bytes_of(pass);
    return wait_reply(e, send_login(e, &m));
}

/* Every kind of key, behind the walls. */
START_TEST(test_certificates) {
    EVP_PKEY *keys[] = {EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048), EVP_EC_gen("P-256"), EVP_EC_gen("P-521"),
                        EVP_PKEY_Q_keygen(NULL, NULL, "ED25519")};
    start_all(
        "tls {verify_and_map: true}\nauthorization {users: [{user: \"CN=fred\"}, {user: \"x@y.z\", pass: \"p\"}]}");
    struct peer_edge *e = &f.edge[0];
    uint8_t *der;
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size_t len = make_certificate(&der, keys[i], "fred", NULL);
        ck_assert(log_in_certificate(e, der, len, NULL)->bound);
        ck_assert(!log_in_certificate(e, der, len, "p")->bound);
        ck_assert(!log_in_certificate(e, der, len - 1, NULL)->bound);
        OPENSSL_free(der);
        len = make_certificate(&der, keys[i], "other", "email:x@y.z");
        ck_assert(log_in_certificate(e, der, len, "p")->bound);
        OPENSSL_free(der);
        EVP_PKEY_free(keys[i]);
    }
    ck_assert(!log_in(e, "CN=fred", NULL)->bound);
}
END_TEST

/* ---- bad input ---- */

/* What breaks the conversation costs the one who sent it; the others are served. */
START_TEST(test_hostile_edge) {
    static const struct {
        uint16_t type;
        const char *bytes;
        size_t len;
    } packets[] = {{MESSAGE_LOGIN, "\x08", 1},
                   {MESSAGE_LOGIN, "", 0},
                   {MESSAGE_WANT_NONCES, "\x08\x00", 2},
                   {MESSAGE_BOUND, "", 0},
                   {MESSAGE_KEY, "", 0},
                   {0xffff, "", 0},
                   {MESSAGE_WANT_NONCES, "\x08\x81\x08", 3}};
    start_all(part_users);
    for (size_t i = 0; i < sizeof packets / sizeof *packets; i++) {
        char packet[64] = {0};
        memcpy(packet, &packets[i].type, sizeof packets[i].type);
        memcpy(packet + 4, packets[i].bytes, packets[i].len);
        ck_assert_int_gt(send(f.edge[1].channel.fd, packet, 4 + packets[i].len, MSG_NOSIGNAL), 0);
        UNTIL(f.edge[1].channel.fd < 0);
        f.edge[1].incarnation += 10;
        f.edge[1].generation = 0;
        open_edge(1);
        UNTIL(f.edge[1].policies == 1);
        ck_assert(log_in(&f.edge[0], "a", "p")->bound);
    }
}
END_TEST

/* An edge that does not read costs nothing while it waits, and gets all of its answers when it reads again. */
START_TEST(test_edge_that_does_not_read) {
    enum { ASKED = 64, QUIET_MS = 300 };
    Bulkhead__WantNonces want = BULKHEAD__WANT_NONCES__INIT;
    want.count = NONCE_ASK_MAX;
    start_all(part_users);
    struct peer_edge *e = &f.edge[0];
    struct counters *counters;
    ck_assert_int_eq(memfd_map((void **)&counters, f.counters_fd, memfd_round(sizeof *counters), 0), ERR_OK);
    for (int i = 0; i < ASKED; i++)
        ck_assert_int_eq(channel_send(&e->channel, MESSAGE_WANT_NONCES, &want.base, NULL, 0), ERR_OK);
    int fd = e->channel.fd;
    e->channel.fd = -1; /* not read meanwhile */
    ck_assert(log_in(&f.edge[1], "a", "p")->bound);
    e->channel.fd = fd;
    uint64_t turns;
    do { /* until a while passes in which it sleeps */
        turns = counter_get(counters, COUNTER_HEARTBEAT);
        poll(NULL, 0, QUIET_MS);
        turns = counter_get(counters, COUNTER_HEARTBEAT) - turns;
    } while (turns > 0 && turns < ASKED);
    ck_assert_uint_eq(turns, 0);
    e->nonce_bytes = 0;
    for (uint32_t got = 0; got < ASKED * NONCE_ASK_MAX * NONCE_CHARS; got += e->nonce_bytes, e->nonce_bytes = 0) {
        struct pollfd ready = {e->channel.fd, POLLIN, 0};
        ck_assert_int_eq(poll(&ready, 1, DEADLINE_MS), 1);
        ck_assert_int_eq(channel_receive(&e->channel, 1), ERR_OK);
    }
    ck_assert(log_in(e, "a", "p")->bound);
    munmap(counters, memfd_round(sizeof *counters));
}
END_TEST

int main(void) {
    if (sodium_init() < 0)
        return 1;
    Suite *suite = suite_create("authd");
    TCase *tcase = tcase_create("all");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_add_test(tcase, test_no_auth);
    tcase_add_test(tcase, test_users);
    tcase_add_test(tcase, test_router_first);
    tcase_add_test(tcase, test_hashes);
    tcase_add_test(tcase, test_hash_over_reload);
    tcase_add_test(tcase, test_nkeys);
    tcase_add_test(tcase, test_reload);
    tcase_add_test(tcase, test_reload_over_death);
    tcase_add_test(tcase, test_penalties);
    tcase_add_test(tcase, test_penalties_lock_nobody_out);
    tcase_add_test(tcase, test_nonce_of_held);
    tcase_add_test(tcase, test_spent_nonce_is_no_failure);
    tcase_add_test(tcase, test_held_over_reload);
    tcase_add_test(tcase, test_cancel);
    tcase_add_test(tcase, test_cancel_held);
    tcase_add_test(tcase, test_full_queue);
#ifndef BULKHEAD_SANITIZED
    tcase_add_test(tcase, test_walls);
#endif
    tcase_add_test(tcase, test_certificates);
    tcase_add_test(tcase, test_hostile_edge);
    tcase_add_test(tcase, test_edge_that_does_not_read);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
