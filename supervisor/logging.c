/* The supervisor's own lines, and logd.
 *
 * From the first moment descriptor 2 is a pipe like that of every child. If logd runs, it reads the pipe; if the server
 * ends before logd could start, or without it, the supervisor writes its lines to the original stderr itself, in the
 * same form.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "supervisor/logd.h"
#include "supervisor/supervisor.h"

enum { LAST_WORDS_MS = 2000 };

static struct supervisor *exiting;

static void write_last_words(void *owner, const char *line, size_t len) {
    const struct supervisor *s = owner;
    char out[LOGD_OUT_MAX];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct logd_style style = {.pid = getpid(), .colour = isatty(s->stderr_fd)};
    size_t n = logd_format(out, &style, &now, line, len);
    if (write(s->stderr_fd, out, n) < 0)
        return;
}

void logging_finish(struct supervisor *s) {
    if (s->stderr_fd < 0)
        return;
    struct child *logd = child_of(s, BULKHEAD__ROLE__ROLE_LOGD, 0);
    dup2(s->spawner.null_fd >= 0 ? s->spawner.null_fd : s->stderr_fd, STDERR_FILENO); /* closes the writing end */
    if (logd->pid) {
        struct pollfd gone = {.fd = logd->pidfd, .events = POLLIN};
        poll(&gone, 1, LAST_WORDS_MS);
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

static void finish_at_exit(void) {
    logging_finish(exiting);
}

void logging_open(struct supervisor *s) {
    int ends[2];
    s->stderr_fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 16);
    if (s->stderr_fd < 0 || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        fprintf(stderr, "bulkhead: no log: %s\n", strerror(errno));
        exit(1);
    }
    s->own_log_fd = ends[0];
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    exiting = s;
    atexit(finish_at_exit);
}

void logging_start(struct supervisor *s) {
    struct child *c = child_of(s, BULKHEAD__ROLE__ROLE_LOGD, 0);
    if (!s->stop && !c->pid)
        child_start(s, c, s->counters_fd[c->role->role]);
}

void logging_on_exit(struct supervisor *s, struct child *c, bool fault) {
    c->restart_ms = s->now_ms + child_restart_delay(s, c, &s->logd_restarts, fault);
    if (c->restart_ms <= s->now_ms)
        logging_start(s);
}
