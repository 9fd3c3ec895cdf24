/* SPDX-License-Identifier: Apache-2.0 */
/* What the signer signs, and what it never does: first its rules, then the real process with edges that lie, flood and
 * break off.
 */
#include <check.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "authd/signer.h"
#include "ipc/channel.h"
#include "ipc/control.pb-c.h"
#include "ipc/note.h"
#include "ipc/settings.h"
#include "shm/counters.h"
#include "shm/memfd.h"
#include "tests/unit/unit.h"

enum {
    KEY_P256 = 1,
    KEY_RSA = 2,
    KEY_ED25519 = 3,
    KEY_P384 = 4,
    KEY_SLOW = 5,
    KEY_LEAF = LINK_LEAFD << 16 | 1,
    WAIT_MS = 20000
};

static EVP_PKEY *keys[6];     /* by number */
static uint8_t memory[32768]; /* the layout of ipc/sign.h */
static size_t memory_len;

static void put_u32(uint32_t n) {
    for (int i = 0; i < 4; i++)
        memory[memory_len++] = (uint8_t)(n >> 8 * i);
}

static void put_key(uint32_t number, EVP_PKEY *key) {
    BIO *bio = BIO_new(BIO_s_mem());
    if (!PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL))
        abort();
    char *pem;
    long len = BIO_get_mem_data(bio, &pem);
    put_u32(number);
    put_u32((uint32_t)len);
    memcpy(memory + memory_len, pem, (size_t)len);
    memory_len += (size_t)len;
    BIO_free(bio);
}

/* Before anything forks. */
static void make_keys(void) {
    keys[KEY_P256] = EVP_EC_gen("P-256");
    keys[KEY_RSA] = EVP_RSA_gen(2048);
    keys[KEY_ED25519] = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    keys[KEY_P384] = EVP_EC_gen("P-384");
    keys[KEY_SLOW] = EVP_RSA_gen(3072);
    put_u32(6);
    for (uint32_t i = 1; i <= 5; i++)
        put_key(i, keys[i]);
    put_key(KEY_LEAF, keys[KEY_P256]);
}

static struct signer signer;

static void setup(void) {
    struct signer_keys read;
    const char *why;
    ck_assert_int_eq(signer_keys_read(&read, 7, memory, memory_len, &why), ERR_OK);
    signer_take(&signer, &read, true);
}

static void teardown(void) {
    signer_keys_free(&signer.now);
    signer_keys_free(&signer.before);
    signer_keys_free(&signer.staged);
}

static struct sign_request request13(uint32_t key, uint16_t scheme, uint16_t len) {
    struct sign_request r = {
        .id = 99, .generation = 7, .key = key, .form = SIGN_TLS13, .scheme = scheme, .content_len = len};
    for (uint16_t i = 0; i < len && i < SIGN_CONTENT_MAX; i++)
        r.content[i] = (uint8_t)(i + 1);
    return r;
}

static struct sign_request request12(uint32_t key, uint16_t scheme, uint16_t curve, uint8_t point) {
    struct sign_request r = {.id = 99,
                             .generation = 7,
                             .key = key,
                             .form = SIGN_TLS12,
                             .scheme = scheme,
                             .content_len = (uint16_t)(SIGN_RANDOMS + 4 + point)};
    memset(r.content, 0x5a, r.content_len);
    uint8_t *block = r.content + SIGN_RANDOMS;
    block[0] = 3;
    block[1] = (uint8_t)(curve >> 8);
    block[2] = (uint8_t)curve;
    block[3] = point;
    block[4] = 4;
    return r;
}

/* The signature is one of that key over exactly these bytes. */
static bool verifies(EVP_PKEY *key, const char *digest, int padding, const struct sign_answer *a, const uint8_t *bytes,
                     size_t len) {
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    EVP_PKEY_CTX *pkey_ctx;
    ck_assert(EVP_DigestVerifyInit_ex(ctx, &pkey_ctx, digest, NULL, NULL, key, NULL) > 0);
    if (padding)
        ck_assert(EVP_PKEY_CTX_set_rsa_padding(pkey_ctx, padding) > 0);
    bool ok = EVP_DigestVerify(ctx, a->signature, a->len, bytes, len) == 1;
    EVP_MD_CTX_free(ctx);
    return ok;
}

/* ---- the rules ---- */

static const struct {
    uint32_t key;
    uint16_t scheme;
    const char *digest;
    int padding;
    bool tls13;
} good[] = {
    {KEY_P256, SIGN_ECDSA_SHA256, "SHA256", 0, true},
    {KEY_P384, SIGN_ECDSA_SHA384, "SHA384", 0, true},
    {KEY_ED25519, SIGN_ED25519, NULL, 0, true},
    {KEY_RSA, SIGN_RSA_PSS_SHA256, "SHA256", RSA_PKCS1_PSS_PADDING, true},
    {KEY_RSA, SIGN_RSA_PSS_SHA384, "SHA384", RSA_PKCS1_PSS_PADDING, true},
    {KEY_RSA, SIGN_RSA_PSS_SHA512, "SHA512", RSA_PKCS1_PSS_PADDING, true},
    {KEY_RSA, SIGN_RSA_PKCS1_SHA256, "SHA256", RSA_PKCS1_PADDING, false},
    {KEY_RSA, SIGN_RSA_PKCS1_SHA384, "SHA384", RSA_PKCS1_PADDING, false},
    {KEY_RSA, SIGN_RSA_PKCS1_SHA512, "SHA512", RSA_PKCS1_PADDING, false},
    {KEY_P256, SIGN_ECDSA_SHA384, "SHA384", 0, false},
    {KEY_P384, SIGN_ECDSA_SHA256, "SHA256", 0, false},
};

START_TEST(test_signs_handshakes) {
    struct sign_answer a;
    uint8_t bytes[SIGN_BLANKS + SIGN_CONTEXT_LEN + 48];
    struct sign_request r = request13(good[_i].key, good[_i].scheme, 48);
    const char *why = signer_sign(&signer, LINK_FRONTEND, &r, &a);
    if (good[_i].tls13) {
        ck_assert_msg(!why, "case %d: %s", _i, why);
        memset(bytes, ' ', SIGN_BLANKS);
        memcpy(bytes + SIGN_BLANKS, "TLS 1.3, server CertificateVerify", SIGN_CONTEXT_LEN);
        memcpy(bytes + SIGN_BLANKS + SIGN_CONTEXT_LEN, r.content, 48);
        ck_assert(a.status == SIGN_DONE && a.id == 99);
        ck_assert(verifies(keys[good[_i].key], good[_i].digest, good[_i].padding, &a, bytes, sizeof bytes));
        ck_assert(!verifies(keys[good[_i].key], good[_i].digest, good[_i].padding, &a, r.content, 48));
    } else {
        ck_assert_ptr_nonnull(why);
    }
    r = request12(good[_i].key, good[_i].scheme, 23, 65);
    ck_assert_ptr_null(signer_sign(&signer, LINK_FRONTEND, &r, &a));
    ck_assert(verifies(keys[good[_i].key], good[_i].digest, good[_i].padding, &a, r.content, r.content_len));
}
END_TEST

/* Each is refused and brings no byte of a signature. */
static void check_refused(const char *name, struct sign_request r, uint32_t kind) {
    struct sign_answer a;
    const char *why = signer_sign(&signer, kind, &r, &a);
    static const uint8_t none[SIGN_SIGNATURE_MAX];
    ck_assert_msg(why && a.status == SIGN_REFUSED && a.len == 0 && a.id == 99 &&
                      memcmp(a.signature, none, sizeof none) == 0,
                  "%s was not refused", name);
}

START_TEST(test_refuses_content) {
    check_refused("32 raw bytes as TLS 1.2", ({
                      struct sign_request r = request13(KEY_P256, SIGN_ECDSA_SHA256, 32);
                      r.form = SIGN_TLS12;
                      r;
                  }),
                  LINK_FRONTEND);
    static const uint16_t lengths[] = {0, 1, 20, 31, 33, 47, 49, 64, 98, 130, 146, 201, 202, 65535};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        check_refused("a wrong length of a hash", request13(KEY_P256, SIGN_ECDSA_SHA256, lengths[i]), LINK_FRONTEND);
    static const char *const contexts[] = {"TLS 1.3, client CertificateVerify", "TLS 1.3, server CertificateVerify"};
    for (int i = 0; i < 2; i++) {
        struct sign_request r = request13(KEY_P256, SIGN_ECDSA_SHA256, SIGN_BLANKS + SIGN_CONTEXT_LEN + 32);
        memset(r.content, ' ', SIGN_BLANKS);
        memcpy(r.content + SIGN_BLANKS, contexts[i], SIGN_CONTEXT_LEN);
        check_refused("a context string of the edge's, TLS 1.3", r, LINK_FRONTEND);
        r.form = SIGN_TLS12;
        check_refused("the same as TLS 1.2", r, LINK_FRONTEND);
    }
    static const uint16_t forms[] = {0, 3, 4, 0x8000, 65535};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        struct sign_request r = request13(KEY_P256, SIGN_ECDSA_SHA256, 32);
        r.form = forms[i];
        check_refused("a form that is none: the client role, a decrypt", r, LINK_FRONTEND);
    }
}
END_TEST

START_TEST(test_refuses_blocks) {
    static const struct {
        const char *name;
        uint16_t curve;
        uint8_t point, at, value; /* one byte of the block that is wrong */
        int16_t longer;
    } cases[] = {
        {"an explicit curve", 23, 65, 0, 1, 0},    {"a characteristic-2 curve", 23, 65, 0, 2, 0},
        {"an unknown curve", 22, 65, 0, 3, 0},     {"X448", 30, 56, 0, 3, 0},
        {"another point length", 23, 97, 0, 3, 0}, {"a length that lies", 23, 65, 3, 64, 0},
        {"a compressed point", 23, 65, 4, 2, 0},   {"a point at infinity", 23, 65, 4, 0, 0},
        {"a block that is cut", 23, 65, 0, 3, -1}, {"a block and more", 23, 65, 0, 3, 1},
        {"randoms alone", 23, 65, 0, 3, -69},      {"a block of one byte", 23, 65, 0, 3, -68},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct sign_request r = request12(KEY_P256, SIGN_ECDSA_SHA256, cases[i].curve, cases[i].point);
        r.content[SIGN_RANDOMS + cases[i].at] = cases[i].value;
        r.content_len = (uint16_t)(r.content_len + cases[i].longer);
        check_refused(cases[i].name, r, LINK_FRONTEND);
    }
}
END_TEST

START_TEST(test_refuses_keys) {
    check_refused("a key that is not there", request13(17, SIGN_ECDSA_SHA256, 32), LINK_FRONTEND);
    check_refused("another listener's key", request13(KEY_LEAF, SIGN_ECDSA_SHA256, 32), LINK_FRONTEND);
    check_refused("the frontends' key for another kind of edge", request13(KEY_P256, SIGN_ECDSA_SHA256, 32),
                  LINK_LEAFD);
    struct sign_answer a;
    struct sign_request r = request13(KEY_LEAF, SIGN_ECDSA_SHA256, 32);
    ck_assert_ptr_null(signer_sign(&signer, LINK_LEAFD, &r, &a));
    r = request13(KEY_P256, SIGN_ECDSA_SHA256, 32);
    r.generation = 6;
    check_refused("another generation", r, LINK_FRONTEND);
    static const struct {
        uint32_t key;
        uint16_t scheme;
    } bad[] = {
        {KEY_P256, SIGN_RSA_PSS_SHA256},
        {KEY_P256, SIGN_ED25519},
        {KEY_P256, SIGN_ECDSA_SHA384},
        {KEY_P384, SIGN_ECDSA_SHA256},
        {KEY_RSA, SIGN_RSA_PKCS1_SHA256},
        {KEY_RSA, SIGN_ECDSA_SHA256},
        {KEY_RSA, 0x0201},
        {KEY_RSA, 0x0809},
        {KEY_ED25519, SIGN_ECDSA_SHA256},
        {KEY_ED25519, 0x0808},
        {KEY_P256, 0x0203},
        {KEY_P256, 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        check_refused("a scheme that does not fit", request13(bad[i].key, bad[i].scheme, 32), LINK_FRONTEND);
}
END_TEST

START_TEST(test_generations) {
    struct sign_answer a;
    const char *why;
    for (uint32_t generation = 8; generation <= 9; generation++) {
        struct signer_keys next;
        ck_assert_int_eq(signer_keys_read(&next, generation, memory, memory_len, &why), ERR_OK);
        signer_take(&signer, &next, false);
        signer_commit(&signer, generation + 100);
        ck_assert(signer.staged.used);
        signer_commit(&signer, generation);
        ck_assert(!signer.staged.used);
        for (uint32_t asked = 6; asked <= 10; asked++) {
            struct sign_request r = request13(KEY_P256, SIGN_ECDSA_SHA256, 32);
            r.generation = asked;
            bool held = asked == generation || asked == generation - 1;
            ck_assert_int_eq(!signer_sign(&signer, LINK_FRONTEND, &r, &a), held);
        }
    }
}
END_TEST

START_TEST(test_refuses_bad_memory) {
    struct signer_keys read;
    const char *why;
    for (size_t len = 0; len < memory_len; len += len < 600 ? 1 : 97)
        ck_assert_int_eq(signer_keys_read(&read, 1, memory, len, &why), ERR_SYNTAX);
    static uint8_t copy[sizeof memory];
    memcpy(copy, memory, memory_len);
    copy[0] = SIGN_KEYS_MAX + 1;
    ck_assert_int_eq(signer_keys_read(&read, 1, copy, memory_len, &why), ERR_SYNTAX);
    memcpy(copy, memory, memory_len);
    memset(copy + 8, 0xff, 4);
    ck_assert_int_eq(signer_keys_read(&read, 1, copy, memory_len, &why), ERR_SYNTAX);
    memcpy(copy, memory, memory_len);
    copy[60] ^= 1;
    ck_assert_int_eq(signer_keys_read(&read, 1, copy, memory_len, &why), ERR_SYNTAX);
    EVP_PKEY *weak = EVP_RSA_gen(1024);
    memory_len = 0;
    put_u32(1);
    put_key(1, weak);
    ck_assert_int_eq(signer_keys_read(&read, 1, memory, memory_len, &why), ERR_SYNTAX);
    EVP_PKEY_free(weak);
}
END_TEST

START_TEST(test_whole) {
    struct sign_request r = request13(KEY_P256, SIGN_ECDSA_SHA256, 32);
    ck_assert(signer_is_whole(&r));
    r.content[32] = 1;
    ck_assert(!signer_is_whole(&r));
    r = request13(KEY_P256, SIGN_ECDSA_SHA256, SIGN_CONTENT_MAX + 1);
    ck_assert(!signer_is_whole(&r));
    r = request13(KEY_P256, SIGN_ECDSA_SHA256, 32);
    r.zero = 1;
    ck_assert(!signer_is_whole(&r));
}
END_TEST

/* ---- the process ---- */

static struct {
    pid_t pid;
    struct channel control;
    struct counters *counters;
} process;

static void tell(enum message_type type, const void *message, int fd) {
    ck_assert_int_eq(channel_send(&process.control, type, message, &fd, fd >= 0), ERR_OK);
    if (fd >= 0)
        close(fd);
}

static void wait_note(enum note_type type) {
    struct note n;
    struct pollfd p = {.fd = process.control.fd, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
    ck_assert_int_eq(note_receive(process.control.fd, &n), ERR_OK);
    ck_assert_int_eq(n.type, type);
}

static int introduce(uint32_t link, uint32_t kind) {
    int ends[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    Bulkhead__Peer m = BULKHEAD__PEER__INIT;
    m.role = BULKHEAD__ROLE__ROLE_FRONTEND;
    m.link = link;
    m.kind = kind;
    tell(MESSAGE_PEER, &m, ends[1]);
    return ends[0];
}

static void process_start(void) {
    char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);
    ck_assert(n > 0);
    path[n] = '\0';
    for (int i = 0; i < 4; i++) /* tests/unit/authd/NAME */
        *strrchr(path, '/') = '\0';
    strcat(path, "/bulkhead-signer");
    int ends[2], counters_fd, keys_fd;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    process.pid = fork();
    if (process.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(ends[1], CONTROL_FD);
        execl(path, "bulkhead-signer", NULL);
        _exit(127);
    }
    close(ends[1]);
    ck_assert_int_eq(channel_open(&process.control, ends[0], "signer", NULL, 0, NULL, 0), ERR_OK);
    void *at;
    ck_assert_int_eq(memfd_make(&counters_fd, "counters", sizeof(struct counters), 0), ERR_OK);
    ck_assert_int_eq(memfd_map(&at, counters_fd, sizeof(struct counters), 1), ERR_OK);
    process.counters = at;
    struct settings s = {.max_payload = 1, .max_control_line = 1, .max_pending = 1, .server_id = "N"};
    Bulkhead__Settings settings;
    settings_fill(&settings, &s);
    tell(MESSAGE_SETTINGS, &settings, counters_fd);
    ck_assert_int_eq(memfd_make(&keys_fd, "keys", memory_len, 0), ERR_OK);
    ck_assert_int_eq(pwrite(keys_fd, memory, memory_len, 0), (ssize_t)memory_len);
    Bulkhead__Keys m = BULKHEAD__KEYS__INIT;
    m.generation = 7;
    tell(MESSAGE_KEYS, &m, keys_fd);
    wait_note(NOTE_READY);
}

static void process_stop(void) {
    int status;
    Bulkhead__Stop stop = BULKHEAD__STOP__INIT;
    tell(MESSAGE_STOP, &stop, -1);
    ck_assert_int_eq(waitpid(process.pid, &status, 0), process.pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %x", status);
    channel_close(&process.control);
}

static void ask(int fd, const void *packet, size_t len) {
    ck_assert_int_eq(send(fd, packet, len, MSG_NOSIGNAL), (ssize_t)len);
}

static bool answered(int fd, struct sign_answer *a) {
    struct pollfd p = {.fd = fd, .events = POLLIN};
    ck_assert_int_eq(poll(&p, 1, WAIT_MS), 1);
    return recv(fd, a, sizeof *a, 0) == sizeof *a;
}

/* A plain mistake is answered and counted, and the conversation goes on; what is no request ends it, and no other one.
 */
START_TEST(test_process_attacked) {
    struct sign_answer a;
    struct sign_request r = request13(KEY_LEAF, SIGN_ECDSA_SHA256, 32),
                        fine = request13(KEY_P256, SIGN_ECDSA_SHA256, 32);
    int honest = introduce(0, LINK_FRONTEND);
    static const uint8_t raw[2 * sizeof(struct sign_request)];
    static const size_t sizes[] = {1, 32, sizeof r - 1, sizeof r + 1, sizeof raw};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int fd = introduce(1, LINK_FRONTEND);
        ask(fd, &r, sizeof r);
        ck_assert(answered(fd, &a) && a.status == SIGN_REFUSED && a.id == 99);
        ask(fd, &fine, sizeof fine);
        ck_assert(answered(fd, &a) && a.status == SIGN_DONE);
        ask(fd, raw, sizes[i]);
        ck_assert(!answered(fd, &a));
        ask(honest, &fine, sizeof fine);
        ck_assert(answered(honest, &a) && a.status == SIGN_DONE);
        close(fd);
    }
    struct sign_request padded = fine;
    padded.content[100] = 1;
    int fd = introduce(1, LINK_FRONTEND);
    ask(fd, &padded, sizeof padded);
    ck_assert(!answered(fd, &a));
    close(fd);
    ck_assert_uint_eq(counter_get(process.counters, COUNTER_SIGNATURES_REFUSED), 2 * sizeof sizes / sizeof *sizes + 1);
    ck_assert_uint_eq(counter_get(process.counters, COUNTER_SIGNATURES), 2 * sizeof sizes / sizeof *sizes);
    close(honest);
}
END_TEST

/* One edge's full queue makes another one wait for one request of it, not for all. */
START_TEST(test_process_flooded) {
    struct sign_answer a;
    struct sign_request slow = request13(KEY_SLOW, SIGN_RSA_PSS_SHA256, 32),
                        fine = request13(KEY_P256, SIGN_ECDSA_SHA256, 32);
    int flood = introduce(0, LINK_FRONTEND), calm = introduce(1, LINK_FRONTEND), deaf = introduce(2, LINK_FRONTEND);
    while (send(deaf, &slow, sizeof slow, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) /* it reads no answer */
        continue;
    uint32_t sent = 0;
    while (send(flood, &slow, sizeof slow, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
        sent++;
    ck_assert_uint_gt(sent, 50);
    ask(calm, &fine, sizeof fine);
    ck_assert(answered(calm, &a) && a.status == SIGN_DONE);
    ck_assert_uint_lt(counter_get(process.counters, COUNTER_SIGNATURES), sent / 2); /* of a second's work */
    for (uint32_t i = 0; i < sent; i++)
        ck_assert(answered(flood, &a) && a.status == SIGN_DONE);
    close(flood);
    close(calm);
    close(deaf);
}
END_TEST

START_TEST(test_process_dies_without_supervisor) {
    channel_close(&process.control);
    int status;
    ck_assert_int_eq(waitpid(process.pid, &status, 0), process.pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
END_TEST

int main(void) {
    make_keys();
    Suite *suite = suite_create("signer");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 120);
    tcase_add_checked_fixture(rules, setup, teardown);
    tcase_add_loop_test(rules, test_signs_handshakes, 0, sizeof good / sizeof *good);
    tcase_add_test(rules, test_refuses_content);
    tcase_add_test(rules, test_refuses_blocks);
    tcase_add_test(rules, test_refuses_keys);
    tcase_add_test(rules, test_generations);
    tcase_add_test(rules, test_refuses_bad_memory);
    tcase_add_test(rules, test_whole);
    suite_add_tcase(suite, rules);
    TCase *real = tcase_create("process");
    tcase_set_timeout(real, 120);
    tcase_add_checked_fixture(real, process_start, process_stop);
    tcase_add_test(real, test_process_attacked);
    tcase_add_test(real, test_process_flooded);
    suite_add_tcase(suite, real);
    TCase *orphan = tcase_create("orphan");
    tcase_add_checked_fixture(orphan, process_start, NULL);
    tcase_add_test(orphan, test_process_dies_without_supervisor);
    suite_add_tcase(suite, orphan);
    return unit_run(suite);
}
