/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of supervisor/reader.c with readers that go wrong in every way: this program plays them too, as
 * `bulkhead-config`. What a reader does is the first word of the command line that it is given. */
#include "supervisor/reader.h"

#include <check.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "ipc/settings.h"
#include "supervisor/spawn.h"
#include "tests/unit/unit.h"

static const uint8_t key[RELOAD_KEY_BYTES];
static struct spawner spawner;
static struct reader_result result;
static struct secrets secrets;

/* ---- the reader ---- */

static struct {
    struct reader_task head;
    char words[READER_WORDS_MAX];
} task;
static int parts[READER_PARTS + 1];

static void take_task(void) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof parts)];
    } control;
    struct iovec part = {&task, sizeof task};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    if (recvmsg(CONTROL_FD, &m, 0) < (ssize_t)sizeof task.head)
        exit(9);
    if (m.msg_controllen)
        memcpy(parts, CMSG_DATA(&control.header), control.header.cmsg_len - CMSG_LEN(0));
}

static void say(const void *packet, size_t len) {
    if (send(CONTROL_FD, packet, len, MSG_NOSIGNAL) != (ssize_t)len)
        exit(9);
}

/* Returns the errno; the text lies in answer. */
static char answer[READER_TEXT_MAX + 100];
static int ask(uint32_t question, const char *name) {
    static struct reader_ask packet;
    struct reader_answer head;
    packet.question = question;
    strcpy(packet.name, name);
    say(&packet, sizeof packet);
    ssize_t n = recv(CONTROL_FD, answer, sizeof answer - 1, 0);
    if (n < (ssize_t)sizeof head)
        exit(9);
    memcpy(&head, answer, sizeof head);
    memmove(answer, answer + sizeof head, (size_t)n - sizeof head);
    answer[n - (ssize_t)sizeof head] = '\0';
    return head.number;
}

static void put(enum reader_part part, const char *text) {
    if (write(parts[part], text, strlen(text)) != (ssize_t)strlen(text))
        exit(9);
}

/* Somebody outlives the reader and can still write. */
static void leave_a_map(void) {
    int ready[2];
    char byte = 0;
    put(READER_KEYS, "x");
    if (pipe(ready) != 0)
        exit(9);
    if (fork() == 0) {
        char *at = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, parts[READER_KEYS], 0);
        close(2);
        close(CONTROL_FD);
        byte = write(ready[1], at, 1) == 1;
        sleep(5);
        _exit(!byte);
    }
    if (read(ready[0], &byte, 1) != 1)
        exit(9);
}

static void fill_options(void) {
    for (size_t i = 0; i < option_count; i++) {
        if (option_table[i].size > sizeof(int64_t))
            memset(option_place(&option_table[i], &result.state.options), 'x', option_table[i].size);
    }
}

static int play_reader(void) {
    const char *word = task.words;
    take_task();
    char said[64] = "";
    if (task.head.memory && read(parts[READER_PARTS], said, sizeof said - 1) > 0)
        word = said;
    result.valid = 1;
#define IS(w) (strcmp(word, w) == 0)
    if (IS("dies"))
        raise(SIGKILL);
    if (IS("ends"))
        return 0;
    if (IS("hangs"))
        pause();
    if (IS("asks what there is not"))
        ask(77, "x");
    if (IS("asks for ever"))
        for (;;)
            ask(READER_PROBE, "/");
    if (IS("says half"))
        say(&result, sizeof result - 1);
    if (IS("has no end in a text"))
        fill_options();
    if (IS("has a truth that is none"))
        memset(&result.state.options.debug, 2, 1);
    if (IS("has too many pins"))
        result.tls.pin_count = TLS_PINS_MAX + 1;
    if (IS("has no end in ciphers"))
        memset(result.tls.ciphers, 'x', sizeof result.tls.ciphers);
    if (IS("is very valid"))
        result.valid = 2;
    if (IS("has no end in its message"))
        memset(result.message, 'x', sizeof result.message);
    if (IS("leaves a map"))
        leave_a_map();
    if (IS("writes too much") && (ftruncate(parts[READER_AUTH], READER_PART_MAX + 1) != 0 || write(2, "", 0) != 0))
        return 9;
    if (IS("says no")) {
        strcpy(result.message, "no");
        result.valid = 0;
    }
    if (IS("is good") || IS("says no")) {
        if (ask(READER_VARIABLE, "READER_TEST") != 0 || strcmp(answer, "canary") != 0)
            return 9;
    }
    if (!task.head.test) {
        put(READER_AUTH, "auth");
        put(READER_MEMORY, "remembers");
    }
    say(&result, sizeof result);
    if (IS("says all and hangs"))
        pause();
    return IS("says all and fails") ? 1 : 0;
}

/* ---- the tests ---- */

/* True if fd can be read in time. */
static bool wait_for(int fd, uint64_t until_ms) {
    uint64_t now_ms = clock_mono_ms();
    return poll(&(struct pollfd){fd, POLLIN, 0}, 1, now_ms < until_ms ? (int)(until_ms - now_ms) : 0) > 0;
}

/* One reading, from the start of the process to its end. */
static void run(const char *word, bool test, int memory_fd) {
    char *argv[] = {(char *)(uintptr_t)word, NULL};
    struct reading what = {.argc = 1, .argv = argv, .key = key, .test = test, .memory_fd = memory_fd};
    const struct family_role *role = family_role(BULKHEAD__ROLE__ROLE_CONFIG);
    uint64_t until_ms = clock_mono_ms() + (strstr(word, "hang") ? 200 : READER_MS);
    struct reader reader;
    int ends[2], pidfd, status = 0;
    pid_t pid;
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    ck_assert_int_eq(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    ck_assert_int_eq(spawn_child(&spawner, role, role->uid_offset, STDERR_FILENO, ends[1], &pid, &pidfd), ERR_OK);
    close(ends[1]);
    enum err e = reader_begin(&reader, ends[0], &what, &result);
    for (e = e == ERR_OK ? ERR_AGAIN : e; e == ERR_AGAIN && wait_for(ends[0], until_ms);)
        e = reader_on_packets(&reader);
    bool late = (e == ERR_AGAIN || e == ERR_OK) && !wait_for(pidfd, until_ms);
    if (late || e != ERR_OK)
        kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    reader_end(&reader, status == 0, late, &secrets);
    close(ends[0]);
    close(pidfd);
}

static bool has_secrets(void) {
    for (int i = 0; i < READER_PARTS; i++) {
        if (secrets.fd[i] >= 0)
            return true;
    }
    return false;
}

static void check_part(enum reader_part part, const char *text) {
    char bytes[64] = "";
    int fd;
    ck_assert_int_eq(secrets_reader(&fd, &secrets, part), ERR_OK);
    ck_assert_int_eq(read(fd, bytes, sizeof bytes), (ssize_t)strlen(text));
    ck_assert_str_eq(bytes, text);
    ck_assert_int_lt(write(fd, "x", 1), 0);
    close(fd);
}

START_TEST(test_good) {
    setenv("READER_TEST", "canary", 1);
    const char *lies = getenv("READER_TEST");
    run("is good", false, -1);
    ck_assert_msg(result.valid, "%s", result.message);
    check_part(READER_AUTH, "auth");
    check_part(READER_KEYS, "");
    check_part(READER_MEMORY, "remembers");
    for (int i = 0; i < READER_PARTS; i++) {
        struct stat st;
        ck_assert_int_eq(fcntl(secrets.fd[i], F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
        ck_assert_int_eq(fstat(secrets.fd[i], &st), 0);
        ck_assert_uint_eq(st.st_mode & 0777, 0400);
        ck_assert_int_lt(write(secrets.fd[i], "x", 1), 0);
        ck_assert_ptr_eq(mmap(NULL, 1, PROT_WRITE, MAP_SHARED, secrets.fd[i], 0), MAP_FAILED);
    }
    ck_assert_ptr_null(getenv("READER_TEST"));
    ck_assert_str_eq(lies, "");
    /* the next one gets what this one wrote */
    int fd;
    ck_assert_int_eq(secrets_reader(&fd, &secrets, READER_MEMORY), ERR_OK);
    secrets_close(&secrets);
    run("not given", false, fd);
    ck_assert_msg(result.valid, "%s", result.message);
    secrets_close(&secrets);
    close(fd);
}
END_TEST

/* Nothing is wiped, and nothing kept. */
START_TEST(test_no) {
    setenv("READER_TEST", "canary", 1);
    run("says no", false, -1);
    ck_assert(!result.valid && !has_secrets());
    ck_assert_str_eq(result.message, "no");
    ck_assert_str_eq(getenv("READER_TEST"), "canary");
}
END_TEST

START_TEST(test_only_a_test) {
    run("only tests", true, -1);
    ck_assert(result.valid && !has_secrets());
}
END_TEST

#define CANNOT "the configuration cannot be read: its reader "
static const struct {
    const char *word, *message;
} faults[] = {{"dies", CANNOT "died"},
              {"ends", CANNOT "died"},
              {"hangs", CANNOT "does not come to an end"},
              {"says all and hangs", CANNOT "does not come to an end"},
              {"says all and fails", CANNOT "died"},
              {"asks what there is not", CANNOT "broke a rule"},
              {"asks for ever", CANNOT "does not come to an end"},
              {"says half", CANNOT "broke a rule"},
              {"has no end in a text", CANNOT "answered what cannot be"},
              {"has a truth that is none", CANNOT "answered what cannot be"},
              {"has too many pins", CANNOT "answered what cannot be"},
              {"has no end in ciphers", CANNOT "answered what cannot be"},
              {"has no end in its message", CANNOT "answered what cannot be"},
              {"is very valid", CANNOT "answered what cannot be"},
              {"leaves a map", CANNOT "left what cannot be sealed"},
              {"writes too much", CANNOT "died"}};

START_TEST(test_faults) {
    run(faults[_i].word, false, -1);
    ck_assert_msg(!result.valid && strcmp(result.message, faults[_i].message) == 0, "%s: %s", faults[_i].word,
                  result.message);
    ck_assert_msg(!has_secrets(), "%s", faults[_i].word);
}
END_TEST

/* A memory that somebody has mapped for writing. */
START_TEST(test_mapped) {
    ck_assert_int_eq(secrets_make(&secrets), ERR_OK);
    ck_assert_int_eq(ftruncate(secrets.fd[READER_TLS], 1), 0);
    void *at = mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, secrets.fd[READER_TLS], 0);
    ck_assert_ptr_ne(at, MAP_FAILED);
    ck_assert_int_eq(secrets_seal(&secrets), ERR_SYSTEM);
    munmap(at, 1);
    secrets_close(&secrets);
    ck_assert_int_eq(secrets_make(&secrets), ERR_OK);
    ck_assert_int_eq(ftruncate(secrets.fd[READER_TLS], READER_PART_MAX + 1), 0);
    ck_assert_int_eq(secrets_seal(&secrets), ERR_RANGE);
    secrets_close(&secrets);
}
END_TEST

static void open_spawner(void) {
    spawner = (struct spawner){.files_max = 1024};
    for (int role = 0; role < FAMILY_ROLE_END; role++)
        spawner.executable_fd[role] = -1;
    spawner.null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    spawner.executable_fd[BULKHEAD__ROLE__ROLE_CONFIG] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
}

int main(int argc, char **argv) {
    if (argc == 1 && strcmp(argv[0], "bulkhead-config") == 0)
        return play_reader();
    open_spawner();
    Suite *suite = suite_create("reader");
    TCase *tc = tcase_create("reader");
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, test_good);
    tcase_add_test(tc, test_no);
    tcase_add_test(tc, test_only_a_test);
    tcase_add_loop_test(tc, test_faults, 0, sizeof faults / sizeof *faults);
    tcase_add_test(tc, test_mapped);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
