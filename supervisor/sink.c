/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/sink.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CONNECT_S = 2, LOOKS_MAX = 100, STAMP_LEN = sizeof "2006.01.02.15.04.05.000000000" - 1 };

/* ---- files ---- */

static const char *base_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int open_folder(const char *path) {
    char folder[OPTION_PATH_MAX + 1];
    size_t len = (size_t)(base_of(path) - path);
    snprintf(folder, sizeof folder, "%.*s", len ? (int)len : 1, len ? path : ".");
    return open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int open_in(int folder_fd, const char *path, uint64_t *size) {
    struct stat status;
    int fd = openat(folder_fd, base_of(path),
                    O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0660);
    if (fd < 0)
        return -1;
    if (fstat(fd, &status) != 0 || (!S_ISREG(status.st_mode) && !S_ISCHR(status.st_mode))) {
        close(fd);
        errno = EINVAL;
        return -1;
    }
    *size = S_ISREG(status.st_mode) ? (uint64_t)status.st_size : 0;
    return fd;
}

static enum err open_file(struct sink *k, const char *path) {
    struct sink made = {.kind = LOGD_STREAM, .is_file = true, .fd = -1, .pending_fd = -1};
    made.folder_fd = open_folder(path);
    if (made.folder_fd >= 0)
        made.fd = open_in(made.folder_fd, path, &made.size);
    if (made.fd < 0) {
        int kept = errno;
        if (made.folder_fd >= 0)
            close(made.folder_fd);
        errno = kept;
        return ERR_SYSTEM;
    }
    snprintf(made.path, sizeof made.path, "%s", path);
    *k = made;
    return ERR_OK;
}

/* ---- backups ---- */

static void stamp(char *out, size_t cap) {
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    snprintf(out, cap, "%04d.%02d.%02d.%02d.%02d.%02d.%09ld", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
             tm.tm_min, tm.tm_sec, now.tv_nsec);
}

static bool is_stamp(const char *text) {
    for (size_t i = 0; i < STAMP_LEN; i++) {
        bool dot = i == 4 || i == 7 || i == 10 || i == 13 || i == 16 || i == 19;
        if (dot ? text[i] != '.' : text[i] < '0' || text[i] > '9')
            return false;
    }
    return !text[STAMP_LEN];
}

/* Their names sort by age, so the oldest goes until few enough are left. */
static void drop_backups(const struct sink *k, int64_t keep) {
    const char *base = base_of(k->path);
    size_t base_len = strlen(base);
    for (;;) {
        char oldest[256] = "";
        int64_t count = 0;
        int fd = openat(k->folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
        for (const struct dirent *entry; folder && (entry = readdir(folder));) {
            if (strncmp(entry->d_name, base, base_len) != 0 || entry->d_name[base_len] != '.' ||
                !is_stamp(entry->d_name + base_len + 1))
                continue;
            count++;
            if (!*oldest || strcmp(entry->d_name, oldest) < 0)
                snprintf(oldest, sizeof oldest, "%s", entry->d_name);
        }
        if (folder)
            closedir(folder);
        if (count <= keep || unlinkat(k->folder_fd, oldest, 0) != 0)
            return;
    }
}

enum err sink_reopen(struct sink *k, bool rename, char *backup, size_t cap, int64_t keep) {
    char to[OPTION_PATH_MAX + 256], when[128];
    uint64_t size;
    stamp(when, sizeof when);
    snprintf(to, sizeof to, "%s.%s", base_of(k->path), when);
    if (rename && renameat(k->folder_fd, base_of(k->path), k->folder_fd, to) != 0)
        return ERR_SYSTEM;
    int folder_fd = open_folder(k->path), fd = folder_fd >= 0 ? open_in(folder_fd, k->path, &size) : -1;
    if (fd < 0) {
        int kept = errno;
        if (folder_fd >= 0)
            close(folder_fd);
        errno = kept;
        return ERR_SYSTEM;
    }
    if (rename) {
        snprintf(backup, cap, "%s.%s", k->path, when);
        if (keep > 0)
            drop_backups(k, keep);
    }
    close(k->folder_fd);
    k->folder_fd = folder_fd;
    close(k->fd);
    k->fd = fd;
    k->size = size;
    return ERR_OK;
}

/* ---- syslog ---- */

static void keep_address(struct sink *k, const void *address, socklen_t len, int type) {
    memcpy(&k->address, address, len);
    k->address_len = len;
    k->type = type;
}

static int connect_unix(struct sink *k, const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    static const int types[] = {SOCK_DGRAM, SOCK_STREAM};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(address.sun_path, path);
    for (size_t i = 0; i < 2; i++) {
        int fd = socket(AF_UNIX, types[i] | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
            keep_address(k, &address, sizeof address, types[i]);
            return fd;
        }
        int kept = errno;
        if (fd >= 0)
            close(fd);
        errno = kept;
        if (errno != EPROTOTYPE)
            return -1;
    }
    return -1;
}

static void be_patient(int fd) {
    struct timeval patience = {.tv_sec = CONNECT_S};
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

static int connect_inet(struct sink *k, const char *where, int type, const char **why) {
    char host[OPTION_TEXT_MAX + 1];
    snprintf(host, sizeof host, "%s", where);
    char *colon = strrchr(host, ':'), *name = host;
    if (!colon) {
        *why = "missing port in address";
        return -1;
    }
    *colon = '\0';
    if (host[0] == '[' && colon > host && colon[-1] == ']') {
        colon[-1] = '\0';
        name++;
    }
    struct addrinfo hints = {.ai_socktype = type}, *found;
    int failed = getaddrinfo(*name ? name : "localhost", colon + 1, &hints, &found);
    if (failed) {
        *why = gai_strerror(failed);
        return -1;
    }
    int fd = socket(found->ai_family, type | SOCK_CLOEXEC, 0);
    be_patient(fd);
    if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) != 0) {
        *why = strerror(errno);
        close(fd);
        fd = -1;
    }
    keep_address(k, found->ai_addr, found->ai_addrlen, type);
    freeaddrinfo(found);
    return fd;
}

static int connect_local(struct sink *k) {
    static const char *const paths[] = {"/dev/log", "/var/run/syslog", "/var/run/log"};
    int fd = -1;
    for (size_t i = 0; i < 3 && fd < 0; i++)
        fd = connect_unix(k, paths[i]);
    return fd;
}

static enum err open_syslog(struct sink *k, const char *url, char *why, size_t cap) {
    const char *said = NULL;
    struct sink made = {
        .kind = *url ? LOGD_SYSLOG_REMOTE : LOGD_SYSLOG_LOCAL, .fd = -1, .folder_fd = -1, .pending_fd = -1};
    if (!*url)
        made.fd = connect_local(&made);
    else if (strncmp(url, "udp://", 6) == 0)
        made.fd = connect_inet(&made, url + 6, SOCK_DGRAM, &said);
    else if (strncmp(url, "tcp://", 6) == 0)
        made.fd = connect_inet(&made, url + 6, SOCK_STREAM, &said);
    else if (strncmp(url, "unix://", 7) == 0)
        made.fd = connect_unix(&made, url + 7);
    else
        said = "invalid network type";
    if (made.fd < 0) {
        snprintf(why, cap, "error connecting to syslog: \"%s\"", said ? said : strerror(errno));
        return ERR_SYSTEM;
    }
    *k = made;
    return ERR_OK;
}

static enum err begin_again(struct sink *k) {
    int fd = socket(k->address.ss_family, k->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int failed = fd < 0 || connect(fd, (struct sockaddr *)&k->address, k->address_len) != 0 ? errno : 0;
    if (failed && failed != EINPROGRESS) {
        if (fd >= 0)
            close(fd);
        return ERR_SYSTEM;
    }
    k->pending_fd = fd;
    k->looks = 0;
    return ERR_OK;
}

enum err sink_retry(struct sink *k) {
    if (k->pending_fd < 0 && begin_again(k) != ERR_OK)
        return ERR_SYSTEM;
    struct pollfd made = {k->pending_fd, POLLOUT, 0};
    int fault = 0;
    if (poll(&made, 1, 0) == 0 && ++k->looks < LOOKS_MAX)
        return ERR_AGAIN;
    if (!made.revents || getsockopt(k->pending_fd, SOL_SOCKET, SO_ERROR, &fault, &(socklen_t){sizeof fault}) != 0 ||
        fault) {
        close(k->pending_fd);
        k->pending_fd = -1;
        return ERR_SYSTEM;
    }
    fcntl(k->pending_fd, F_SETFL, fcntl(k->pending_fd, F_GETFL) & ~O_NONBLOCK);
    be_patient(k->pending_fd);
    close(k->fd);
    k->fd = k->pending_fd;
    k->pending_fd = -1;
    return ERR_OK;
}

/* ---- all ---- */

/* A file is never opened through a link, but these two names mean what the server was started with. */
static bool names_stream(const char *path, int stderr_fd, int *fd) {
    if (strcmp(path, "/dev/stderr") == 0)
        *fd = stderr_fd;
    else if (strcmp(path, "/dev/stdout") == 0)
        *fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    else
        return false;
    return *fd >= 0;
}

enum err sink_open(struct sink *k, const struct options *o, int stderr_fd, char *why, size_t cap) {
    int stream;
    if (names_stream(o->log_file, stderr_fd, &stream)) {
        *k = (struct sink){.kind = LOGD_STREAM, .fd = stream, .folder_fd = -1, .pending_fd = -1};
        return ERR_OK;
    }
    if (o->log_file[0]) {
        enum err e = open_file(k, o->log_file);
        if (e != ERR_OK)
            snprintf(why, cap, "error opening log file %s: %s", o->log_file, strerror(errno));
        return e;
    }
    if (o->remote_syslog[0] || o->syslog)
        return open_syslog(k, o->remote_syslog, why, cap);
    *k = (struct sink){.kind = LOGD_STREAM, .fd = stderr_fd, .folder_fd = -1, .pending_fd = -1};
    return ERR_OK;
}

void sink_close(struct sink *k, int stderr_fd) {
    if (k->folder_fd >= 0)
        close(k->folder_fd);
    if (k->fd >= 0 && k->fd != stderr_fd)
        close(k->fd);
    if (k->pending_fd >= 0)
        close(k->pending_fd);
    k->fd = k->folder_fd = k->pending_fd = -1;
}
