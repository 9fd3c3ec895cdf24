#include "supervisor/reader.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#ifdef BULKHEAD_SANITIZED
enum { READER_MS = 60000 };
#else
enum { READER_MS = 10000 };
#endif
enum { MEANWHILE_MS = 20 };

static bool ends(const char *text, size_t cap) {
    return memchr(text, '\0', cap) != NULL;
}

static void fail(struct reader_result *result, const char *why) {
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

static enum err send_answer(int socket, int number, const char *text, int fd) {
    size_t bytes = text ? strlen(text) : 0;
    struct reader_answer head = {number, (uint32_t)bytes};
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec parts[2] = {{&head, sizeof head}, {(void *)(uintptr_t)text, bytes}};
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = text ? 2 : 1};
    if (fd >= 0) {
        m.msg_control = &control;
        m.msg_controllen = sizeof control;
        control.header = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    }
    return sendmsg(socket, &m, MSG_NOSIGNAL) == (ssize_t)(sizeof head + bytes) ? ERR_OK : ERR_SYSTEM;
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
        text = getenv(ask->name);
        number = !text ? ENOENT : strlen(text) > READER_TEXT_MAX ? E2BIG : 0;
        text = number ? NULL : text;
        break;
    default:
        return ERR_HOSTILE;
    }
    enum err e = send_answer(socket, number, text, fd);
    if (fd >= 0)
        close(fd);
    return e;
}

/* ---- the conversation ---- */

static enum err send_task(int socket, const struct reading *r) {
    static struct {
        struct reader_task head;
        char words[READER_WORDS_MAX];
    } task;
    task.head = (struct reader_task){.test = r->test};
    memcpy(task.head.key, r->key, RELOAD_KEY_BYTES);
    for (int i = 0; i < r->argc; i++) {
        size_t len = strlen(r->argv[i]) + 1;
        if (len > sizeof task.words - task.head.bytes)
            return ERR_LONG;
        memcpy(task.words + task.head.bytes, r->argv[i], len);
        task.head.bytes += (uint32_t)len;
    }
    size_t len = sizeof task.head + task.head.bytes;
    bool sent = send(socket, &task, len, MSG_NOSIGNAL) == (ssize_t)len;
    explicit_bzero(&task, sizeof task);
    return sent ? ERR_OK : ERR_SYSTEM;
}

/* The texts of a struct options of foreign origin. */
static bool is_sound(const struct reader_result *result) {
    if (result->valid > 1 || !ends(result->message, sizeof result->message))
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

/* True if the socket can be read; false: it has taken too long, or has no use any more. */
static bool wait_for_reader(int socket, const struct reading *r, uint64_t until) {
    struct pollfd waits[2] = {{socket, POLLIN, 0}, {r->meanwhile ? r->loop_fd : -1, POLLIN, 0}};
    for (uint64_t now; (now = clock_mono_ms()) < until;) {
        uint64_t left = until - now;
        int ready = poll(waits, 2, r->meanwhile && left > MEANWHILE_MS ? MEANWHILE_MS : (int)left);
        if (r->meanwhile && !r->meanwhile(r->owner))
            return false;
        if (ready > 0 && waits[0].revents)
            return true;
    }
    return false;
}

static const char *converse(int socket, const struct reading *r, struct reader_result *result) {
    static union {
        struct reader_ask ask;
        struct reader_result result;
    } packet;
    uint64_t until = clock_mono_ms() + READER_MS;
    if (send_task(socket, r) != ERR_OK)
        return "the command line is too long";
    for (int asked = 0; asked < READER_ASKS_MAX && wait_for_reader(socket, r, until);) {
        ssize_t len = recv(socket, &packet, sizeof packet, MSG_DONTWAIT);
        if (len == (ssize_t)sizeof packet.result) {
            *result = packet.result;
            return is_sound(result) ? NULL : "its reader answered what cannot be";
        }
        if (len != (ssize_t)sizeof packet.ask || !ends(packet.ask.name, sizeof packet.ask.name) ||
            answer(socket, &packet.ask) != ERR_OK)
            return len == 0 ? "its reader died" : "its reader broke a rule";
        asked++;
    }
    return "its reader does not come to an end";
}

void reader_run(const struct reading *r, struct reader_result *result) {
    const struct family_role *role = family_role(BULKHEAD__ROLE__ROLE_CONFIG);
    int ends_of_pair[2], pidfd;
    pid_t pid;
    memset(result, 0, sizeof *result);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends_of_pair) != 0) {
        fail(result, strerror(errno));
        return;
    }
    enum err e = spawn_child(r->spawner, role, role->uid_offset, STDERR_FILENO, ends_of_pair[1], &pid, &pidfd);
    close(ends_of_pair[1]);
    const char *why = e == ERR_OK ? converse(ends_of_pair[0], r, result) : strerror(errno);
    if (why)
        fail(result, why);
    close(ends_of_pair[0]);
    if (e != ERR_OK)
        return;
    kill(pid, SIGKILL); /* it may hang; it has not been waited for, so the number is still its own */
    waitpid(pid, NULL, 0);
    close(pidfd);
}
