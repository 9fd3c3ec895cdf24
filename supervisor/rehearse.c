/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/rehearse.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor/listeners.h"

struct lines {
    char *text;
    size_t len, cap;
};

static void add(struct lines *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct lines *l, const char *format, ...) {
    va_list list;
    va_start(list, format);
    int len = vsnprintf(l->text + l->len, l->cap - l->len, format, list);
    va_end(list);
    l->len += len > 0 && (size_t)len < l->cap - l->len ? (size_t)len : 0;
    if (l->len + 1 < l->cap)
        l->text[l->len++] = '\n';
    l->text[l->len] = '\0';
}

/* 0 if a file could be written there: it is one, or its folder may be written. */
static int look(const char *path) {
    char folder[OPTION_PATH_MAX + 2];
    struct stat status;
    if (lstat(path, &status) == 0)
        return S_ISLNK(status.st_mode) ? ELOOP : S_ISDIR(status.st_mode) ? EISDIR : access(path, W_OK) ? errno : 0;
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
    return access(folder, W_OK | X_OK) ? errno : 0;
}

static bool is_stream(const char *path) {
    return strcmp(path, "/dev/stdout") == 0 || strcmp(path, "/dev/stderr") == 0;
}

bool rehearse_start(struct spawner *sp, const struct options *o, uint32_t frontends, char *text, size_t cap) {
    struct lines l = {text, 0, cap};
    char why[512], address[512];
    uint16_t port;
    int fd, number;
    text[0] = '\0';
    if (spawn_configure(sp, o, frontends, why, sizeof why) != ERR_OK)
        add(&l, "%s", why);
    if (o->log_file[0] && !is_stream(o->log_file) && (number = look(o->log_file)) != 0)
        add(&l, "error opening log file %s: %s", o->log_file, strerror(number));
    if (o->pid_file[0] && (number = look(o->pid_file)) != 0)
        add(&l, "Could not write pidfile: %s: %s", o->pid_file, strerror(number));
    if (listeners_bind(&fd, 1, o->host, -1, &port, why, sizeof why) == ERR_OK) {
        close(fd);
    } else {
        listeners_address(address, sizeof address, o->host, (int32_t)o->port);
        add(&l, "Error listening on port: %s, \"%s\"", address, why);
    }
    return l.len == 0;
}
