/* bulkhead-config: reads the configuration once, and ends.
 *
 * It opens nothing: the supervisor hands it each file (config/reader.h). What it says is a struct of a fixed size. A
 * file that makes it go wrong makes the start, or the reload, fail, and nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sandbox.h"
#include "config/flags.h"
#include "config/reader.h"
#include "ipc/settings.h"

static const struct sandbox_call allowed_calls[] = {
    SANDBOX_CALL(recvmsg), SANDBOX_CALL_ARGS(sendto, SANDBOX_ARG(4, ~UINT64_C(0), 0)),
    SANDBOX_CALL(fstat),   SANDBOX_CALL(newfstatat),
    SANDBOX_CALL(sysinfo), /* qsort asks how much memory there is */
};

static char variable[READER_TEXT_MAX + 1];

/* One packet, perhaps with a descriptor. */
static size_t receive(void *packet, size_t cap, int *fd) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {packet, cap};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n;
    do
        n = recvmsg(CONTROL_FD, &m, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0 || m.msg_flags & MSG_TRUNC)
        exit(1); /* the supervisor has gone */
    *fd = -1;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (c && c->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(c), sizeof *fd);
    return (size_t)n;
}

static void say(const void *packet, size_t len) {
    if (send(CONTROL_FD, packet, len, MSG_NOSIGNAL) != (ssize_t)len)
        exit(1);
}

/* The answer's number; the text of a variable lies in `variable`. */
static int ask(enum reader_question question, const char *name, int *fd) {
    static struct reader_ask packet;
    static struct {
        struct reader_answer head;
        char text[READER_TEXT_MAX];
    } answer;
    int given;
    if (strlen(name) >= sizeof packet.name)
        return ENAMETOOLONG;
    packet.question = question;
    memset(packet.name, 0, sizeof packet.name);
    strcpy(packet.name, name);
    say(&packet, sizeof packet);
    size_t len = receive(&answer, sizeof answer, &given);
    if (len < sizeof answer.head || answer.head.bytes != len - sizeof answer.head)
        exit(1);
    memcpy(variable, answer.text, answer.head.bytes);
    variable[answer.head.bytes] = '\0';
    if (fd)
        *fd = given;
    else if (given >= 0)
        close(given);
    return answer.head.number;
}

static int far_open(void *owner, const char *path) {
    (void)owner;
    int fd = -1, number = ask(READER_OPEN, path, &fd);
    return number ? -number : fd >= 0 ? fd : -EIO;
}

static int far_probe(void *owner, const char *path) {
    (void)owner;
    return ask(READER_PROBE, path, NULL);
}

static int far_folder(void *owner, const char *path) {
    (void)owner;
    return ask(READER_FOLDER, path, NULL);
}

static const char *far_environment(void *owner, const char *name) {
    (void)owner;
    return ask(READER_VARIABLE, name, NULL) == 0 ? variable : NULL;
}

static const struct source far_source = {NULL, far_open, far_probe, far_folder, far_environment};

/* The words of the command line as argv; they stay where they are. */
static char **split_words(char *words, size_t bytes, int *argc) {
    char **argv = calloc(bytes + 1, sizeof *argv);
    *argc = 0;
    if (!argv || !bytes || words[bytes - 1])
        exit(1);
    for (size_t at = 0; at < bytes; at += strlen(words + at) + 1)
        argv[(*argc)++] = words + at;
    return argv;
}

/* The packet's text ends with a NUL: those within become visible. */
static void take_message(struct reader_result *result, const struct text *t) {
    static const char more[] = "...\n", nul[] = "\\x00";
    size_t room = sizeof result->message - sizeof more - sizeof nul, len = 0;
    for (size_t i = 0; i < t->len && len < room; i++) {
        if (t->at[i])
            result->message[len++] = t->at[i];
        else
            len += (size_t)sprintf(result->message + len, "%s", nul);
    }
    strcpy(result->message + len, len < room ? "" : more);
}

int main(void) {
    static struct {
        struct reader_task head;
        char words[READER_WORDS_MAX];
    } task;
    static struct reader_result result;
    static struct flags flags;
    static struct config config;
    int fd, argc;
    sandbox_start();
    size_t len = receive(&task, sizeof task, &fd);
    if (sodium_init() < 0 || len < sizeof task.head || task.head.bytes != len - sizeof task.head ||
        sandbox_enter(allowed_calls, sizeof allowed_calls / sizeof *allowed_calls) != ERR_OK)
        return 1;
    char **argv = split_words(task.words, task.head.bytes, &argc);
    flags_read(&flags, argc, argv); /* the supervisor has read them before: nothing is printed */
    config_open(&config, &far_source);
    struct text message = {.arena = &config.arena};
    if (task.head.test) {
        result.valid = flags_check(&config, flags.config_path, &message);
    } else {
        result.valid = flags_load(&flags, &config, &message) == ERR_OK;
        if (result.valid)
            reload_keep(&result.state, &config, task.head.key);
    }
    take_message(&result, &message);
    say(&result, sizeof result);
    return 0;
}
