/* SPDX-License-Identifier: Apache-2.0 */
/* The supervisor's own lines, and logd.
 *
 * From the first moment descriptor 2 is a pipe like that of every child. If logd runs, it reads the pipe; if the server
 * ends before logd could start, or without it, the supervisor writes its lines to the original stderr itself, in the
 * same form.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "supervisor/logd.h"
#include "supervisor/supervisor.h"

enum { LAST_WORDS_MS = 2000, SYSLOG_RETRY_MS = 1000, SYSLOG_LOOK_MS = 20 };

static struct supervisor *exiting;

static void write_last_words(void *owner, const char *line, size_t len) {
    const struct supervisor *s = owner;
    char out[LOGD_OUT_MAX];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    bool file = s->sink.is_file && s->sink.fd >= 0;
    struct logd_style style = {.colour = !file && isatty(s->stderr_fd)};
    struct logd_origin self = {.pid = getpid()};
    size_t n = logd_format(out, &style, &self, &now, line, len);
    if (write(file ? s->sink.fd : s->stderr_fd, out, n) < 0)
        return;
}

void logging_finish(struct supervisor *s) {
    if (s->stderr_fd < 0)
        return;
    struct child *logd = child_of(s, BULKHEAD__ROLE__ROLE_LOGD, 0);
    dup2(s->spawner.null_fd >= 0 ? s->spawner.null_fd : s->stderr_fd, STDERR_FILENO); /* closes the writing end */
    if (logd->pid) {
        struct pollfd gone = {.fd = logd->pidfd, .events = POLLIN};
        if (poll(&gone, 1, LAST_WORDS_MS) == 0)
            child_signal(logd, SIGKILL); /* nobody takes its lines */
    } else {
        static struct logd_source source;
        char bytes[65536];
        ssize_t n;
        while ((n = read(s->own_log_fd, bytes, sizeof bytes)) > 0)
            logd_take(&source, bytes, (size_t)n, write_last_words, s);
        logd_end(&source, write_last_words, s);
    }
    close(s->stderr_fd);
    s->stderr_fd = -1;
}

/* ---- the sink ---- */

void logging_send_sink(struct supervisor *s) {
    const struct options *o = &s->config.options;
    char host[256] = "localhost";
    gethostname(host, sizeof host - 1);
#define TEXT(t) ((ProtobufCBinaryData){strlen(t), (uint8_t *)(uintptr_t)(t)})
    Bulkhead__Sink m = BULKHEAD__SINK__INIT;
    m.kind = s->sink.kind;
    m.logtime = o->logtime;
    m.utc = o->logtime_utc;
    m.colour = !s->sink.is_file && isatty(s->sink.fd);
    m.size = s->sink.size;
    m.limit = s->sink.is_file ? s->sink_limit : 0;
    m.tag = TEXT(supervisor_name(s));
    m.host = TEXT(host);
    m.first = TEXT(s->sink_first);
    m.debug = o->debug;
    m.trace = o->trace;
#undef TEXT
    child_send(s, child_of(s, BULKHEAD__ROLE__ROLE_LOGD, 0), MESSAGE_SINK, &m.base, &s->sink.fd, 1);
    s->sink_first[0] = '\0';
}

static void rotate(struct supervisor *s) {
    char backup[OPTION_PATH_MAX + 256];
    if (sink_reopen(&s->sink, true, backup, sizeof backup, s->config.options.log_max_num) != ERR_OK) {
        s->sink_limit *= 2;
        log_error("The log file cannot be rotated (%s): tried again at %llu bytes", strerror(errno),
                  (unsigned long long)s->sink_limit);
        return;
    }
    s->sink_limit = (uint64_t)s->config.options.log_size_limit;
    snprintf(s->sink_first, sizeof s->sink_first, "IRotated log, backup saved as \"%s\"", backup);
}

static void rotate_and_send(struct supervisor *s) {
    rotate(s);
    logging_send_sink(s);
}

enum err logging_open_sink(struct supervisor *s, const struct options *o, char *why, size_t cap) {
    struct sink made;
    enum err e = sink_open(&made, o, s->stderr_fd, why, cap);
    if (e != ERR_OK)
        return e;
    sink_close(&s->sink, s->stderr_fd);
    s->sink = made;
    s->sink_limit = o->log_size_limit > 0 ? (uint64_t)o->log_size_limit : 0;
    s->sink_restart_ms = 0;
    return ERR_OK;
}

void logging_reopen(struct supervisor *s) {
    if (!s->sink.is_file) {
        log_info("File log re-open ignored, not a file logger");
        return;
    }
    if (sink_reopen(&s->sink, false, NULL, 0, 0) != ERR_OK) {
        log_error("The log file cannot be opened again (%s): lines go on into the old one", strerror(errno));
        return;
    }
    logging_send_sink(s);
    log_info("File log re-opened");
}

void logging_on_note(struct supervisor *s, struct child *c, const struct note *note) {
    if (note->type == NOTE_READY)
        c->ready = true;
    else if (note->type == NOTE_LOG_FULL && s->sink.is_file && s->sink_limit)
        rotate_and_send(s);
    else if (note->type == NOTE_LOG_LOST && s->sink.kind != LOGD_STREAM)
        s->sink_restart_ms = s->sink_restart_ms ? s->sink_restart_ms : s->now_ms + SYSLOG_RETRY_MS;
    else
        child_blame(c, "sent a note that its role may not send");
}

uint64_t logging_tick(struct supervisor *s) {
    if (!s->sink_restart_ms || s->now_ms < s->sink_restart_ms)
        return s->sink_restart_ms;
    enum err e = sink_retry(&s->sink);
    s->sink_restart_ms = e == ERR_OK ? 0 : s->now_ms + (e == ERR_AGAIN ? SYSLOG_LOOK_MS : SYSLOG_RETRY_MS);
    if (e == ERR_OK)
        logging_send_sink(s);
    return s->sink_restart_ms;
}

/* ---- start and end ---- */

static void finish_at_exit(void) {
    logging_finish(exiting);
}

/* What was closed by whoever started the server would be the next file to be opened. */
static void open_standard_fds(void) {
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    close(fd);
}

void logging_open(struct supervisor *s) {
    int ends[2];
    open_standard_fds();
    s->stderr_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 16);
    if (s->stderr_fd < 0 || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        fprintf(stderr, "bulkhead: no log: %s\n", strerror(errno));
        exit(1);
    }
    s->own_log_fd = ends[0];
    s->sink.fd = s->sink.folder_fd = s->sink.pending_fd = -1;
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    exiting = s;
    atexit(finish_at_exit);
}

/* A new logd gets all log pipes, the supervisor's first. */
void logging_start(struct supervisor *s, struct child *c) {
    if (s->stop || c->pid)
        return;
    if (s->sink.is_file && s->sink_limit && s->sink.size > s->sink_limit) {
        log_info("Rotating logfile...");
        rotate(s);
    }
    if (child_start(s, c) != ERR_OK)
        return;
    logging_send_sink(s);
    child_send_log_pipe(s, NULL);
    for (uint32_t i = 0; i < FAMILY_UIDS; i++) {
        if (s->child[i].pid && s->child[i].log_fd >= 0)
            child_send_log_pipe(s, &s->child[i]);
    }
}
