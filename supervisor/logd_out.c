/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/logd_out.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { CHUNK = 4096 }; /* PIPE_BUF: a pipe that has room at all takes so much without a wait */

enum err logd_out_open(struct logd_out *out) {
    out->fd = -1;
    out->room_fd = epoll_create1(EPOLL_CLOEXEC);
    return out->room_fd >= 0 ? ERR_OK : ERR_SYSTEM;
}

static void lose_all(struct logd_out *out) {
    for (size_t i = out->at; i < out->len; i++)
        out->lost += out->bytes[i] == '\n';
    out->at = out->len = 0;
}

enum err logd_out_set(struct logd_out *out, int fd) {
    struct epoll_event event = {.events = EPOLLOUT};
    lose_all(out);
    out->stuck = false;
    if (out->fd >= 0 && !out->is_file)
        epoll_ctl(out->room_fd, EPOLL_CTL_DEL, out->fd, NULL);
    out->fd = fd;
    out->is_file = fd >= 0 && epoll_ctl(out->room_fd, EPOLL_CTL_ADD, fd, &event) != 0;
    return out->is_file && errno != EPERM ? ERR_SYSTEM : ERR_OK;
}

void logd_out_put(struct logd_out *out, size_t len) {
    out->len += len;
}

static bool has_room(const struct logd_out *out) {
    struct epoll_event event;
    return out->is_file || epoll_wait(out->room_fd, &event, 1, 0) > 0;
}

void logd_out_flush(struct logd_out *out) {
    while (out->at < out->len && has_room(out)) {
        size_t left = out->len - out->at;
        ssize_t n = write(out->fd, out->bytes + out->at, out->is_file || left < CHUNK ? left : CHUNK);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) { /* a full disk, or nobody reads it any more */
            lose_all(out);
            break;
        }
        out->at += (size_t)n;
        out->written += (size_t)n;
        out->stuck = false;
    }
    if (out->at == out->len)
        out->at = out->len = 0;
}

/* Moves what waits to the front, if that makes room for a line. */
static bool make_room(struct logd_out *out) {
    if (sizeof out->bytes - out->len < LOGD_OUT_MAX) {
        logd_out_flush(out);
        memmove(out->bytes, out->bytes + out->at, out->len - out->at);
        out->len -= out->at;
        out->at = 0;
    }
    return sizeof out->bytes - out->len >= LOGD_OUT_MAX;
}

char *logd_out_room(struct logd_out *out) {
    while (!make_room(out) && !out->stuck) {
        uint64_t before = out->written;
        logd_out_wait(out, LOGD_OUT_PATIENCE_MS);
        logd_out_flush(out);
        out->stuck = out->written == before && logd_out_waits(out);
    }
    if (make_room(out))
        return out->bytes + out->len;
    out->lost++;
    return NULL;
}

bool logd_out_waits(const struct logd_out *out) {
    return out->at < out->len;
}

void logd_out_wait(const struct logd_out *out, int timeout_ms) {
    struct epoll_event event;
    if (!out->is_file)
        epoll_wait(out->room_fd, &event, 1, timeout_ms);
}

uint64_t logd_out_lost(struct logd_out *out) {
    uint64_t lost = out->lost;
    out->lost = 0;
    return lost;
}

uint64_t logd_out_written(struct logd_out *out) {
    uint64_t written = out->written;
    out->written = 0;
    return written;
}
