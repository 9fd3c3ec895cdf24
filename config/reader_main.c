/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead-config: reads the configuration once, and ends.
 *
 * It opens nothing: the supervisor hands it each file (config/reader.h). What it says is a struct of a fixed size, and
 * what is secret goes into memories that the supervisor does not read. A file that makes it go wrong makes the start,
 * or the reload, fail, and nothing else.
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
#include "nats/json.h"

static const struct sandbox_call allowed_calls[] = {
    SANDBOX_CALL(recvmsg), SANDBOX_CALL_ARGS(sendto, SANDBOX_ARG(4, ~UINT64_C(0), 0)),
    SANDBOX_CALL(fstat),   SANDBOX_CALL(newfstatat),
    SANDBOX_CALL(sysinfo), /* qsort asks how much memory there is */
};

enum { FDS_MAX = READER_PARTS + 1 };

static char variable[READER_TEXT_MAX + 1];
static struct arena kept;
static struct text variables = {.arena = &kept}; /* those that were used, now and before, as READER_MEMORY has them */

/* One packet, perhaps with descriptors; those that are missing become -1. */
static size_t receive(void *packet, size_t cap, int *fds, size_t fd_cap) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control;
    struct iovec part = {packet, cap};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n;
    do
        n = recvmsg(CONTROL_FD, &m, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    if (n <= 0 || m.msg_flags & MSG_TRUNC)
        exit(1); /* the supervisor has gone */
    for (size_t i = 0; i < fd_cap; i++)
        fds[i] = -1;
    const struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (c && c->cmsg_type == SCM_RIGHTS && c->cmsg_len <= CMSG_LEN(fd_cap * sizeof *fds))
        memcpy(fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
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
    size_t len = receive(&answer, sizeof answer, &given, 1);
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

/* The text of a variable that was used before; NULL: it was not. */
static const char *recall(const char *name) {
    size_t len = strlen(name);
    for (size_t at = 0; at < variables.len; at += strlen(variables.at + at) + 1) {
        if (strncmp(variables.at + at, name, len) == 0 && variables.at[at + len] == '=')
            return variables.at + at + len + 1;
    }
    return NULL;
}

static const char *far_environment(void *owner, const char *name) {
    (void)owner;
    const char *text = recall(name);
    if (!text && ask(READER_VARIABLE, name, NULL) == 0) {
        text = variable;
        text_add_format(&variables, "%s=%s", name, variable);
        text_add_byte(&variables, '\0');
    }
    return text;
}

static struct source far_source = {NULL,           far_open,     far_probe, far_folder, far_environment,
                                   tls_check_pair, tls_check_ca, false};

/* ---- the parts ---- */

static bool read_fully(int fd, void *bytes, size_t len) {
    ssize_t n = 0;
    for (size_t at = 0; at < len; at += (size_t)n) {
        n = read(fd, (char *)bytes + at, len - at);
        if (n <= 0)
            return false;
    }
    return true;
}

/* The words of the command line, out of the memory of the last reading. */
static char *remember(int fd, uint32_t *words_bytes) {
    struct reader_memory head;
    if (!read_fully(fd, &head, sizeof head) || head.words_bytes > READER_WORDS_MAX ||
        head.variables_bytes > READER_PART_MAX)
        exit(1);
    char *words = arena_take(&kept, head.words_bytes + 1), *rest = arena_take(&kept, head.variables_bytes + 1);
    if (!read_fully(fd, words, head.words_bytes) || !read_fully(fd, rest, head.variables_bytes))
        exit(1);
    text_add(&variables, view_of(rest, head.variables_bytes));
    *words_bytes = head.words_bytes;
    return words;
}

/* Of a test (fd is -1) only the size counts. */
static enum err write_part(int fd, const struct text *part, size_t most, const char *what, struct text *why) {
    ssize_t n = 0;
    if (part->len > most) {
        text_add_format(why, "%s take more than %d bytes", what, (int64_t)most);
        return ERR_LONG;
    }
    for (size_t at = 0; at < part->len && fd >= 0; at += (size_t)n) {
        n = write(fd, part->at + at, part->len - at);
        if (n <= 0) {
            text_add_format(why, "%s cannot be handed on: ", what);
            text_add_errno(why, errno);
            return ERR_SYSTEM;
        }
    }
    return ERR_OK;
}

static enum err write_memory(int fd, const char *words, uint32_t words_bytes, struct text *why) {
    struct text t = {.arena = &kept};
    struct reader_memory head = {words_bytes, (uint32_t)variables.len};
    text_add(&t, view_of((const char *)&head, sizeof head));
    text_add(&t, view_of(words, words_bytes));
    text_add(&t, text_view(&variables));
    return write_part(fd, &t, READER_PART_MAX, "the command line and the variables of the environment", why);
}

/* All parts but the memory. */
static enum err write_parts(const int *fds, const struct config *c, struct tls_options *tls, struct text *certificates,
                            struct text *why) {
    struct text auth = {.arena = &kept}, keys = {.arena = &kept};
    text_add_byte(&auth, '\n');
    config_print(c, PART_AUTH, &auth);
    tls_take(tls, c);
    const struct value *block = config_find(c, "tls");
    if (block && block->file)
        text_add_format(why, "%s:%d:%d: ", block->file, (int64_t)block->line, (int64_t)block->column);
    enum err e = tls->given ? tls_files_write(tls, c, certificates, &keys, why) : ERR_OK;
    if (e == ERR_OK)
        e = write_part(fds[READER_TLS], certificates, TLS_CERTIFICATES_MAX, "tls: the certificates", why);
    if (e == ERR_OK)
        e = write_part(fds[READER_KEYS], &keys, READER_PART_MAX, "tls: the private keys", why);
    if (e == ERR_OK) {
        why->len = 0;
        e = write_part(fds[READER_AUTH], &auth, READER_PART_MAX, "all options, variables written out,", why);
    }
    return e;
}

/* The words of the command line as argv; they stay where they are. */
static char **split_words(char *words, size_t bytes, int *argc) {
    char **argv = arena_take(&kept, (bytes + 1) * sizeof *argv);
    *argc = 0;
    if (!bytes || words[bytes - 1])
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

static void load(struct reader_result *result, struct flags *flags, const struct reader_task *task, const int *fds,
                 const char *words, uint32_t words_bytes) {
    static struct config config;
    config_open(&config, &far_source);
    struct text message = {.arena = &config.arena}, why = {.arena = &config.arena}, certificates = {.arena = &kept};
    far_source.shows_included = task->shows_included;
    if (task->test) {
        result->valid = flags_check(flags, &config, &message) &&
                        write_parts(fds, &config, &result->tls, &certificates, &why) == ERR_OK;
        result->state.options = config.options;
    } else if (flags_load(flags, &config, &message) == ERR_OK) {
        result->valid = write_parts(fds, &config, &result->tls, &certificates, &why) == ERR_OK &&
                        write_memory(fds[READER_MEMORY], words, words_bytes, &why) == ERR_OK;
        reload_keep(&result->state, &config, text_view(&certificates), task->key);
    }
    take_message(result, why.len ? &why : &message);
}

int main(void) {
    static struct {
        struct reader_task head;
        char words[READER_WORDS_MAX];
    } task;
    static struct reader_result result;
    static struct flags flags;
    int fds[FDS_MAX], argc;
    sandbox_start();
    size_t len = receive(&task, sizeof task, fds, FDS_MAX);
    tls_files_prepare();
    json_prepare();
    if (sodium_init() < 0 || len < sizeof task.head || task.head.bytes != len - sizeof task.head ||
        sandbox_enter(allowed_calls, sizeof allowed_calls / sizeof *allowed_calls) != ERR_OK)
        return 1;
    uint32_t bytes = task.head.bytes;
    char *words = task.head.memory ? remember(fds[READER_PARTS], &bytes) : task.words;
    char **argv = split_words(words, bytes, &argc);
    flags_read(&flags, argc, argv); /* the supervisor has read them before: nothing is printed */
    load(&result, &flags, &task.head, fds, words, bytes);
    say(&result, sizeof result);
    return 0;
}
