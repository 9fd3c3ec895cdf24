/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/authd/authd_world.h: a bulkhead-authd behind its walls, and the supervisor, the router and the edges that it
 * talks to, all played by the test. One world at a time: set_up, start_all, tear_down.
 */
#ifndef TESTS_AUTHD_WORLD_H
#define TESTS_AUTHD_WORLD_H

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <signal.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "ipc/auth.pb-c.h"
#include "ipc/book.pb-c.h"
#include "ipc/channel.h"
#include "ipc/control.pb-c.h"
#include "ipc/nonce.h"
#include "ipc/note.h"
#include "ipc/settings.h"
#include "nats/nkey.h"
#include "shm/binding.h"
#include "shm/book.h"
#include "shm/commit.h"
#include "shm/counters.h"
#include "shm/ledger.h"
#include "shm/memfd.h"
#include "shm/record.h"

enum { EDGES = 2, DEADLINE_MS = 30000, ANSWERS = 4096, ANSWER_BLOCKS = 256 };

/* ---- the family around it ---- */

struct reply {
    bool bound;
    uint32_t id, reason;
    struct binding binding;
    uint32_t payload_max;
};

struct peer_edge {
    struct channel channel;
    uint64_t incarnation;
    Bulkhead__Policy policy;
    uint32_t policies;
    struct reply *replies[ANSWER_BLOCKS]; /* see reply_at; they stay where they are, as more and more come */
    uint32_t reply_count, generation;
    char nonces[NONCE_ASK_MAX * NONCE_CHARS];
    uint32_t nonce_bytes;
    uint8_t address; /* last byte of the clients' address */
};

static struct {
    pid_t pid;
    struct channel control, router;
    bool acknowledges; /* the router does */
    uint64_t grown_pos;
    uint32_t grown;
    struct peer_edge edge[EDGES];
    struct binding_key key;
    struct settings settings;
    int book_fd, ledger_fd, counters_fd;
} f;

static void acknowledge(void) {
    Bulkhead__BookRead read = BULKHEAD__BOOK_READ__INIT;
    read.read_pos = f.grown_pos;
    ck_assert_int_eq(channel_send(&f.router, MESSAGE_BOOK_READ, &read.base, NULL, 0), ERR_OK);
}

static enum err on_grown(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)owner, (void)fds;
    f.grown_pos = ((const Bulkhead__BookGrown *)message)->written_pos;
    f.grown++;
    if (f.acknowledges)
        acknowledge();
    return ERR_OK;
}

static enum err on_policy(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct peer_edge *e = owner;
    e->policy = *(const Bulkhead__Policy *)message;
    e->policies++;
    return ERR_OK;
}

static struct reply *reply_at(const struct peer_edge *e, uint32_t i) {
    return &e->replies[i / ANSWERS][i % ANSWERS];
}

static struct reply *reply_new(struct peer_edge *e) {
    uint32_t block = e->reply_count / ANSWERS;
    ck_assert_uint_lt(block, ANSWER_BLOCKS);
    if (!e->replies[block])
        e->replies[block] = calloc(ANSWERS, sizeof(struct reply));
    ck_assert_ptr_nonnull(e->replies[block]);
    return reply_at(e, e->reply_count++);
}

static enum err on_bound(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct peer_edge *e = owner;
    const Bulkhead__Bound *m = message;
    struct reply *r = reply_new(e);
    *r = (struct reply){.bound = true, .id = m->id, .payload_max = m->payload_max};
    return binding_open(&r->binding, &f.key, m->sealed.data, (uint32_t)m->sealed.len);
}

static enum err on_refusal(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct peer_edge *e = owner;
    const Bulkhead__Refusal *m = message;
    *reply_new(e) = (struct reply){.id = m->id, .reason = m->reason};
    return ERR_OK;
}

static enum err on_nonces(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)fds;
    struct peer_edge *e = owner;
    const Bulkhead__Nonces *m = message;
    e->nonce_bytes = (uint32_t)m->text.len;
    memcpy(e->nonces, m->text.data, m->text.len);
    return ERR_OK;
}

static const struct channel_rule router_rules[] = {
    {MESSAGE_BOOK_GROWN, 0, 1, 64, &bulkhead__book_grown__descriptor, on_grown}};
static const struct channel_rule edge_rules[] = {
    {MESSAGE_POLICY, 0, 1, 64, &bulkhead__policy__descriptor, on_policy},
    {MESSAGE_BOUND, 0, 1, 256, &bulkhead__bound__descriptor, on_bound},
    {MESSAGE_REFUSAL, 0, 1, 256, &bulkhead__refusal__descriptor, on_refusal},
    {MESSAGE_NONCES, 0, 1, CHANNEL_FRAME_MAX, &bulkhead__nonces__descriptor, on_nonces},
};

/* Handles what comes for a while. */
static void turn(int ms) {
    struct pollfd fds[1 + EDGES] = {{f.router.fd, POLLIN, 0}};
    for (int i = 0; i < EDGES; i++)
        fds[1 + i] = (struct pollfd){f.edge[i].channel.fd, POLLIN, 0};
    poll(fds, 1 + EDGES, ms);
    if (f.router.fd >= 0)
        channel_receive(&f.router, 64);
    for (int i = 0; i < EDGES; i++) {
        if (f.edge[i].channel.fd >= 0 && channel_receive(&f.edge[i].channel, 64) == ERR_END)
            channel_close(&f.edge[i].channel);
    }
}

#define UNTIL(condition)                                                                                               \
    do {                                                                                                               \
        for (uint64_t end = clock_mono_ms() + DEADLINE_MS; !(condition);) {                                            \
            ck_assert_msg(clock_mono_ms() < end, "never: " #condition);                                                \
            turn(10);                                                                                                  \
        }                                                                                                              \
    } while (0)

static struct note next_note(void) {
    struct note note;
    for (uint64_t end = clock_mono_ms() + DEADLINE_MS; note_receive(f.control.fd, &note) != ERR_OK; turn(5))
        ck_assert_msg(clock_mono_ms() < end, "no note");
    return note;
}

static void send_part(uint32_t generation, const char *text) {
    int fd;
    void *at;
    size_t bytes;
    Bulkhead__AuthPart part = BULKHEAD__AUTH_PART__INIT;
    part.generation = generation;
    ck_assert_int_eq(memfd_make(&fd, "part", strlen(text) + 1, 1), ERR_OK);
    ck_assert_int_eq(memfd_size(fd, &bytes), ERR_OK);
    ck_assert_int_eq(memfd_map(&at, fd, bytes, 1), ERR_OK);
    memcpy(at, text, strlen(text));
    munmap(at, bytes);
    ck_assert_int_eq(channel_send(&f.control, MESSAGE_AUTH_PART, &part.base, &fd, 1), ERR_OK);
    close(fd);
}

static int introduce(Bulkhead__Role role, uint32_t link, uint64_t incarnation) {
    int ends[2];
    Bulkhead__Peer peer = BULKHEAD__PEER__INIT;
    peer.role = role;
    peer.link = link;
    peer.incarnation = incarnation;
    peer.kind = LINK_FRONTEND;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    ck_assert_int_eq(channel_send(&f.control, MESSAGE_PEER, &peer.base, &ends[0], 1), ERR_OK);
    close(ends[0]);
    return ends[1];
}

static void open_router(void) {
    int fd = introduce(BULKHEAD__ROLE__ROLE_ROUTER, 0, 0);
    ck_assert_int_eq(channel_open(&f.router, fd, "authd", router_rules, 1, NULL, 0), ERR_OK);
}

static void open_edge(int i) {
    struct peer_edge *e = &f.edge[i];
    int fd = introduce(BULKHEAD__ROLE__ROLE_FRONTEND, (uint32_t)i, e->incarnation);
    e->policies = 0;
    ck_assert_int_eq(channel_open(&e->channel, fd, "authd", edge_rules, 4, e, 0), ERR_OK);
}

static void execute(int control) {
    char path[4096] = {0};
    ck_assert_int_gt(readlink("/proc/self/exe", path, sizeof path - 64), 0);
    char *folder = dirname(path); /* build/tests/unit/authd */
    strcat(folder, "/../../../bulkhead-authd");
    signal(SIGPIPE, SIG_DFL);
    if (control != CONTROL_FD)
        dup2(control, CONTROL_FD);
    else
        fcntl(control, F_SETFD, 0);
    execl(folder, "bulkhead-authd", (char *)NULL);
    _exit(127);
}

static void start_process(void) {
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    f.pid = fork();
    if (f.pid == 0)
        execute(ends[1]);
    close(ends[1]);
    ck_assert_int_eq(channel_open(&f.control, ends[0], "authd", NULL, 0, NULL, 0), ERR_OK);
}

/* part: NULL for none. The router and the edges follow. */
static void start_authd(const char *part) {
    Bulkhead__Key key = BULKHEAD__KEY__INIT;
    Bulkhead__Settings settings;
    const int memory[] = {f.book_fd, f.ledger_fd};
    start_process();
    key.number = f.key.number;
    key.key = (ProtobufCBinaryData){sizeof f.key.key, f.key.key};
    channel_send(&f.control, MESSAGE_KEY, &key.base, NULL, 0);
    settings_fill(&settings, &f.settings);
    channel_send(&f.control, MESSAGE_SETTINGS, &settings.base, &f.counters_fd, 1);
    if (part)
        send_part(f.settings.generation, part);
    channel_send(&f.control, MESSAGE_BOOK, NULL, memory, 2);
}

static void start_all(const char *part) {
    start_authd(part);
    open_router();
    for (int i = 0; i < EDGES; i++)
        open_edge(i);
    ck_assert_int_eq(next_note().type, NOTE_READY);
    for (int i = 0; i < EDGES; i++)
        UNTIL(f.edge[i].policies == 1);
}

static void close_all(void) {
    channel_close(&f.control);
    channel_close(&f.router);
    for (int i = 0; i < EDGES; i++)
        channel_close(&f.edge[i].channel);
}

static int end_authd(int how) {
    int status;
    if (how)
        kill(f.pid, how);
    else
        channel_send(&f.control, MESSAGE_STOP, NULL, NULL, 0);
    ck_assert_int_eq(waitpid(f.pid, &status, 0), f.pid);
    close_all();
    return status;
}

static void set_up(void) {
    memset(&f, 0, sizeof f);
    signal(SIGPIPE, SIG_IGN);
    f.acknowledges = true;
    f.key.number = 3;
    randombytes_buf(f.key.key, sizeof f.key.key);
    f.settings = (struct settings){.server_id = "N",
                                   .server_name = "N",
                                   .host = "127.0.0.1",
                                   .port = 4222,
                                   .max_payload = 4096,
                                   .max_control_line = 4096,
                                   .max_pending = 1 << 20,
                                   .ping_interval_ms = 1000,
                                   .ping_max = 2,
                                   .write_deadline_ms = 1000,
                                   .auth_timeout_ms = 1000,
                                   .source_wait_ms = 20,
                                   .source_share_ms = 100,
                                   .edge_dead_ms = 1000,
                                   .replay_ms = 100,
                                   .spill_bytes = 1 << 20,
                                   .generation = 1};
    f.control.fd = f.router.fd = -1;
    for (uint32_t i = 0; i < EDGES; i++) {
        f.edge[i].incarnation = 100 + i;
        f.edge[i].channel.fd = -1;
    }
    ck_assert_int_eq(memfd_make(&f.book_fd, "book", BOOK_BYTES, 0), ERR_OK);
    ck_assert_int_eq(memfd_make(&f.ledger_fd, "ledger", LEDGER_BYTES, 0), ERR_OK);
    ck_assert_int_eq(memfd_make(&f.counters_fd, "counters", sizeof(struct counters), 1), ERR_OK);
}

static void tear_down(void) {
    int status = end_authd(0);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "authd ended with %x", status);
    close(f.book_fd);
    close(f.ledger_fd);
    close(f.counters_fd);
}

/* ---- logins ---- */

/* NULL: empty. */
static ProtobufCBinaryData bytes_of(const char *text) {
    return (ProtobufCBinaryData){text ? strlen(text) : 0, (uint8_t *)(uintptr_t)text};
}

static Bulkhead__Login new_login(struct peer_edge *e) {
    static uint8_t address[16] = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 0};
    Bulkhead__Login m = BULKHEAD__LOGIN__INIT;
    m.id = ++e->generation;
    m.conn = 5;
    m.generation = m.id;
    m.ahead = false;
    m.has_type = true;
    m.type = BULKHEAD__CONNECTION_TYPE__TYPE_STANDARD;
    address[15] = e->address;
    m.has_address = true;
    m.address = (ProtobufCBinaryData){16, address};
    return m;
}

static uint32_t send_login(struct peer_edge *e, const Bulkhead__Login *m) {
    ck_assert_int_eq(channel_send(&e->channel, MESSAGE_LOGIN, &m->base, NULL, 0), ERR_OK);
    return m->id;
}

static uint32_t send_user(struct peer_edge *e, const char *user, const char *pass) {
    Bulkhead__Login m = new_login(e);
    m.has_user = m.has_pass = true;
    m.user = bytes_of(user);
    m.pass = bytes_of(pass);
    return send_login(e, &m);
}

static const struct reply *find_reply(const struct peer_edge *e, uint32_t id) {
    for (uint32_t i = 0; i < e->reply_count; i++) {
        if (reply_at(e, i)->id == id)
            return reply_at(e, i);
    }
    return NULL;
}

static const struct reply *wait_reply(struct peer_edge *e, uint32_t id) {
    UNTIL(find_reply(e, id));
    return find_reply(e, id);
}

static const struct reply *log_in(struct peer_edge *e, const char *user, const char *pass) {
    return wait_reply(e, send_user(e, user, pass));
}

static uint32_t send_nkey(struct peer_edge *e, const char *nonce, const char *signed_nonce) {
    uint8_t seed[crypto_sign_SEEDBYTES], public[NKEY_BYTES], secret[crypto_sign_SECRETKEYBYTES], sig[64];
    char text[NKEY_TEXT_LEN + 1], encoded[128], nonce_text[NONCE_CHARS + 1] = {0};
    for (size_t i = 0; i < sizeof seed; i++)
        seed[i] = (uint8_t)i;
    crypto_sign_seed_keypair(public, secret, seed);
    nkey_format(text, NKEY_USER, public);
    crypto_sign_detached(sig, NULL, (const uint8_t *)signed_nonce, NONCE_CHARS, secret);
    sodium_bin2base64(encoded, sizeof encoded, sig, sizeof sig, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    memcpy(nonce_text, nonce, NONCE_CHARS);
    Bulkhead__Login m = new_login(e);
    m.has_nkey = m.has_sig = m.has_nonce = true;
    m.nkey = bytes_of(text);
    m.sig = bytes_of(encoded);
    m.nonce = bytes_of(nonce_text);
    return send_login(e, &m);
}

static const struct reply *log_in_nkey(struct peer_edge *e, const char *nonce, const char *signed_nonce) {
    return wait_reply(e, send_nkey(e, nonce, signed_nonce));
}

static void want_nonces(struct peer_edge *e, uint32_t count) {
    Bulkhead__WantNonces want = BULKHEAD__WANT_NONCES__INIT;
    want.count = count;
    e->nonce_bytes = 0;
    ck_assert_int_eq(channel_send(&e->channel, MESSAGE_WANT_NONCES, &want.base, NULL, 0), ERR_OK);
    UNTIL(e->nonce_bytes);
    ck_assert_uint_eq(e->nonce_bytes, count * NONCE_CHARS);
}

static struct note reload(const char *part, uint32_t generation) {
    Bulkhead__Settings settings;
    f.settings.generation = generation;
    if (part)
        send_part(generation, part);
    settings_fill(&settings, &f.settings);
    channel_send(&f.control, MESSAGE_PREPARE, &settings.base, NULL, 0);
    struct note note = next_note();
    ck_assert_int_eq(note.type, NOTE_PREPARED);
    ck_assert_uint_eq(note.number, generation);
    return note;
}

static void commit(uint32_t generation) {
    Bulkhead__Commit message = BULKHEAD__COMMIT__INIT;
    message.generation = generation;
    channel_send(&f.control, MESSAGE_COMMIT, &message.base, NULL, 0);
}

#endif
