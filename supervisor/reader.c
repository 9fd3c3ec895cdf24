/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/wipe.h"

enum { VARIABLES_MAX = 1000, FDS_MAX = READER_PARTS + 1, PACKETS_PER_TURN = 256 };

/* Environment variables that this reading has used: NAME=TEXT, where the environment has them. */
static struct {
    char *at[VARIABLES_MAX];
    size_t count;
} used;

static bool ends(const char *text, size_t cap) {
    return memchr(text, '\0', cap) != NULL;
}

void reader_fail(struct reader_result *result, const char *why) {
    result->valid = 0;
    snprintf(result->message, sizeof result->message, "the configuration cannot be read: %s", why);
}

/* ---- questions ---- */

/* Regular files alone, and never a wait for one. */
static int open_file(const char *path, int *fd) {
    struct stat status;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (*fd < 0)
        return errno;
    int number = fstat(*fd, &status) != 0  ? errno
                 : S_ISDIR(status.st_mode) ? EISDIR
                 : S_ISREG(status.st_mode) ? 0
                                           : EINVAL;
    if (number) {
        close(*fd);
        *fd = -1;
    }
    return number;
}

static int probe_file(const char *path) {
    int fd, number = open_file(path, &fd);
    if (fd >= 0)
        close(fd);
    return number == EISDIR ? 0 : number;
}

static int look_at_folder(const char *path) {
    struct stat status;
    if (stat(path, &status) != 0)
        return 0;
    return !S_ISDIR(status.st_mode) ? ENOTDIR : !(status.st_mode & S_IWUSR) ? EACCES : 0;
}

/* One packet of two pieces, with descriptors. */
static enum err send_packet(int socket, const void *head, size_t head_bytes, const void *text, size_t text_bytes,
                            const int *fds, size_t fd_count) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control = {0};
    struct iovec parts[2] = {{(void *)(uintptr_t)head, head_bytes}, {(void *)(uintptr_t)text, text_bytes}};
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = text_bytes ? 2 : 1};
    if (fd_count) {
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(fd_count * sizeof *fds);
        control.header = (struct cmsghdr){CMSG_LEN(fd_count * sizeof *fds), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), fds, fd_count * sizeof *fds);
    }
    return sendmsg(socket, &m, MSG_NOSIGNAL) == (ssize_t)(head_bytes + text_bytes) ? ERR_OK : ERR_SYSTEM;
}

/* A variable's text in the environment; null: there is none, or too many were asked for. */
static const char *look_up(const char *name) {
    char *text = used.count < VARIABLES_MAX ? getenv(name) : NULL;
    if (text)
        used.at[used.count++] = text - strlen(name) - 1;
    return text;
}

/* What /proc shows of the environment is this very memory. */
static void wipe_variables(void) {
    for (size_t i = 0; i < used.count; i++) {
        char **entry = environ;
        while (*entry && *entry != used.at[i])
            entry++;
        for (; *entry; entry++)
            entry[0] = entry[1];
        wipe(used.at[i], strlen(used.at[i]));
    }
}

static enum err answer(int socket, const struct reader_ask *ask) {
    int fd = -1, number = EINVAL;
    const char *text = NULL;
    switch (ask->question) {
    case READER_OPEN:
        number = open_file(ask->name, &fd);
        break;
    case READER_PROBE:
        number = probe_file(ask->name);
        break;
    case READER_FOLDER:
        number = look_at_folder(ask->name);
        break;
    case READER_VARIABLE:
        text = look_up(ask->name);
        number = !text ? ENOENT : strlen(text) > READER_TEXT_MAX ? E2BIG : 0;
        text = number ? NULL : text;
        break;
    default:
        return ERR_HOSTILE;
    }
    struct reader_answer head = {number, text ? (uint32_t)strlen(text) : 0};
    enum err e = send_packet(socket, &head, sizeof head, text, head.bytes, &fd, fd >= 0);
    if (fd >= 0)
        close(fd);
    return e;
}

/* ---- the conversation ---- */

/* True if whoever reads what a test says may read the files too: they are opened with his own rights. Root's may be those of
 * a service, whose log others read, or lent by sudo for this one command. */
static bool may_see_files(void) {
    return geteuid() != 0 || (isatty(STDERR_FILENO) && !getenv("SUDO_UID"));
}

static enum err send_task(int socket, const struct reading *r, const struct secrets *secrets) {
    static char words[READER_WORDS_MAX];
    struct reader_task head = {
        .test = r->test, .shows_included = r->test && may_see_files(), .memory = r->memory_fd >= 0};
    int fds[FDS_MAX];
    size_t fd_count = 0;
    memcpy(head.key, r->key, RELOAD_KEY_BYTES);
    for (int i = 0; i < r->argc && !head.memory; i++) {
        size_t len = strlen(r->argv[i]) + 1;
        if (len > sizeof words - head.bytes)
            return ERR_LONG;
        memcpy(words + head.bytes, r->argv[i], len);
        head.bytes += (uint32_t)len;
    }
    for (int i = 0; i < READER_PARTS && !r->test; i++)
        fds[fd_count++] = secrets->fd[i];
    if (head.memory)
        fds[fd_count++] = r->memory_fd;
    enum err e = send_packet(socket, &head, sizeof head, words, head.bytes, fds, fd_count);
    wipe(words, sizeof words);
    return e;
}

static bool is_sound_tls(const struct tls_options *t) {
    const unsigned char *truths[] = {(const void *)&t->given, (const void *)&t->verify, (const void *)&t->map,
                                     (const void *)&t->allow_non_tls, (const void *)&t->first};
    for (size_t i = 0; i < sizeof truths / sizeof *truths; i++) {
        if (*truths[i] > 1)
            return false;
    }
    return ends(t->ciphers, sizeof t->ciphers) && ends(t->groups, sizeof t->groups) && t->pin_count <= TLS_PINS_MAX;
}

/* A result is of foreign origin. */
static bool is_sound(const struct reader_result *result) {
    if (result->valid > 1 || !ends(result->message, sizeof result->message) || !is_sound_tls(&result->tls))
        return false;
    for (size_t i = 0; i < option_count; i++) {
        const struct option *row = &option_table[i];
        const unsigned char *place = option_place_const(row, &result->state.options);
        if (row->size > sizeof(int64_t) && !ends((const char *)place, row->size))
            return false;
        if (row->size == sizeof(bool) && *place > 1)
            return false;
    }
    for (int i = 0; i < OPTION_PROCESSES; i++) {
        const struct process_ids *ids = &result->state.options.process[i];
        if (!ends(ids->user, sizeof ids->user) || !ends(ids->group, sizeof ids->group))
            return false;
    }
    return ends(result->state.options.http_host, sizeof result->state.options.http_host);
}

/* A packet of the reader. ERR_AGAIN: it was a question, and is answered; ERR_OK: it was the answer. */
static enum err take_packet(struct reader *r, const void *packet, size_t len) {
    const struct reader_ask *ask = packet;
    if (len == sizeof *r->result) {
        *r->result = *(const struct reader_result *)packet;
        r->answered = true;
        r->why = is_sound(r->result) ? NULL : "its reader answered what cannot be";
        return r->why ? ERR_HOSTILE : ERR_OK;
    }
    if (len != sizeof *ask || !ends(ask->name, sizeof ask->name) || answer(r->socket, ask) != ERR_OK) {
        r->why = "its reader broke a rule";
        return ERR_HOSTILE;
    }
    if (++r->asked < READER_ASKS_MAX)
        return ERR_AGAIN;
    r->why = "its reader does not come to an end";
    return ERR_HOSTILE;
}

enum err reader_on_packets(struct reader *r) {
    static union {
        struct reader_ask ask;
        struct reader_result result;
    } packet;
    enum err e = r->why ? ERR_HOSTILE : r->answered ? ERR_OK : ERR_AGAIN;
    for (int i = 0; i < PACKETS_PER_TURN && e == ERR_AGAIN; i++) {
        ssize_t len = recv(r->socket, &packet, sizeof packet, MSG_DONTWAIT);
        if (len < 0 && (errno == EAGAIN || errno == EINTR))
            return ERR_AGAIN;
        if (len <= 0) {
            r->why = "its reader died";
            return ERR_END;
        }
        e = take_packet(r, &packet, (size_t)len);
    }
    return e;
}

/* ---- one reading ---- */

enum err reader_begin(struct reader *r, int socket, const struct reading *what, struct reader_result *result) {
    *r = (struct reader){.socket = socket, .test = what->test, .result = result, .secrets = SECRETS_NONE};
    memset(result, 0, sizeof *result);
    used.count = 0;
    if (!r->test && secrets_make(&r->secrets) != ERR_OK) {
        r->why = strerror(errno);
        return ERR_SYSTEM;
    }
    enum err e = send_task(socket, what, &r->secrets);
    if (e != ERR_OK)
        r->why = e == ERR_LONG ? "the command line is too long" : "its reader takes no task";
    return e;
}

void reader_end(struct reader *r, bool well, bool late, struct secrets *secrets) {
    if (!r->why && late)
        r->why = "its reader does not come to an end";
    else if (!r->why && (!well || !r->answered))
        r->why = "its reader died";
    /* A memory that is still mapped for writing, or too large, is none to rely on. */
    if (!r->why && !r->test && r->result->valid && secrets_seal(&r->secrets) != ERR_OK)
        r->why = "its reader left what cannot be sealed";
    if (r->why)
        reader_fail(r->result, r->why);
    if (!r->result->valid)
        secrets_close(&r->secrets);
    else if (!r->test)
        wipe_variables();
    *secrets = r->secrets;
    r->secrets = SECRETS_NONE;
}
