/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/sink.h: where log lines go: a file, a syslog, or stderr. The supervisor opens it, logd writes.
 *
 * A file is opened and renamed relative to the descriptor of its folder, and never through a link in the place of the
 * file itself. Each time it is opened again its folder is looked up anew: it may have been replaced.
 */
#ifndef SUPERVISOR_SINK_H
#define SUPERVISOR_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "base/err.h"
#include "config/options.h"
#include "supervisor/logd.h"

struct sink {
    enum logd_kind kind;
    bool is_file;
    int fd;        /* not the sink's to close if it is stderr */
    int folder_fd; /* of a file, else -1 */
    uint64_t size; /* of a file, when it was opened */
    char path[OPTION_PATH_MAX + 1];
    /* of a syslog: where it was found, and a connection that is on its way there (-1: none), asked for so often */
    struct sockaddr_storage address;
    socklen_t address_len;
    int type, pending_fd, looks;
};

/* Opens what the options ask for: the first of log_file, remote_syslog, syslog; else stderr_fd. ERR_SYSTEM: why (cap
 * bytes) says what is wrong, and the sink is as it was. */
enum err sink_open(struct sink *k, const struct options *o, int stderr_fd, char *why, size_t cap);

/* Opens the file anew under its name; renamed: it becomes a backup before, whose name goes to backup (cap bytes). Of
 * the backups keep stay, 0: all. ERR_SYSTEM with errno: the old one stays. */
enum err sink_reopen(struct sink *k, bool rename, char *backup, size_t cap, int64_t keep);

/* Connects a lost syslog again, at the address where it was, without a wait. ERR_AGAIN: to be called again soon;
 * ERR_SYSTEM: it is not there. */
enum err sink_retry(struct sink *k);

void sink_close(struct sink *k, int stderr_fd);

#endif
