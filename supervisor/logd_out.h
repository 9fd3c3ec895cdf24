/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/logd_out.h: where logd's lines leave.
 *
 * A regular file takes everything. A pipe, a socket or a terminal is written to only while it has room, whether its open file
 * is in non-blocking mode or not: another process may hold it too, so the mode is not ours to set. A reader that is slow is
 * waited for, as long as it takes something in LOGD_OUT_PATIENCE_MS. Then it is stuck: until it takes something again,
 * lines that find the buffer full are lost and counted, always whole ones.
 */
#ifndef SUPERVISOR_LOGD_OUT_H
#define SUPERVISOR_LOGD_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "supervisor/logd.h"

enum { LOGD_OUT_PATIENCE_MS = 1000 };

struct logd_out {
    int fd;       /* not ours to close */
    int room_fd;  /* an epoll of fd alone: readable when fd can be written to */
    bool is_file; /* has room always */
    bool stuck;
    size_t at, len;         /* of the bytes that wait */
    uint64_t lost, written; /* lines, bytes, since they were asked for */
    char bytes[16 * LOGD_OUT_MAX];
};

/* Makes room_fd; there is no fd yet. ERR_SYSTEM. */
enum err logd_out_open(struct logd_out *out);

/* Lines go to fd from now on; -1: nowhere. What still waits for the fd before is lost. */
enum err logd_out_set(struct logd_out *out, int fd);

/* LOGD_OUT_MAX bytes for a line, to be filled and put; may wait for them. NULL: it is lost. */
char *logd_out_room(struct logd_out *out);
void logd_out_put(struct logd_out *out, size_t len);

/* Writes what can be written now. */
void logd_out_flush(struct logd_out *out);

/* How many bytes were written since this was asked last. */
uint64_t logd_out_written(struct logd_out *out);

/* True while something waits for room. */
bool logd_out_waits(const struct logd_out *out);

/* Waits for room, timeout_ms at most. */
void logd_out_wait(const struct logd_out *out, int timeout_ms);

/* How many lines were lost since this was asked last. */
uint64_t logd_out_lost(struct logd_out *out);

#endif
