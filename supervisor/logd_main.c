/* bulkhead-logd: the one writer of the log.
 *
 * Reads the log pipe of every process and writes lines to descriptor 2, the server's own stderr. Alone of all it may
 * wait while writing: nobody waits for it. It does not end with the supervisor but when every pipe has ended, so that
 * last words are written.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sandbox.h"
#include "ipc/channel.h"
#include "ipc/control.pb-c.h"
#include "ipc/note.h"
#include "ipc/settings.h"
#include "supervisor/logd.h"

static const struct sandbox_call allowed_calls[] = {
    SANDBOX_CALL(epoll_wait),
    SANDBOX_CALL(recvmsg),
    SANDBOX_CALL(epoll_ctl),
    SANDBOX_CALL_ARGS(fcntl, SANDBOX_ARG(1, 0xffffffff, F_GETFL)),
    SANDBOX_CALL_ARGS(sendto, SANDBOX_ARG(4, ~UINT64_C(0), 0)),
};

struct pipe_end {
    int fd;
    struct logd_source source;
};

struct logd {
    struct channel control;
    struct logd_style style;
    struct timespec time;
    int epoll_fd;
    unsigned pipe_count;
    bool had_pipe;
    size_t out_len;
    char out[16 * LOGD_OUT_MAX];
};

static void write_out(struct logd *l) {
    size_t done = 0;
    while (done < l->out_len) {
        ssize_t n = write(STDERR_FILENO, l->out + done, l->out_len - done);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            break; /* nobody reads it any more: the lines are lost */
        done += n > 0 ? (size_t)n : 0;
    }
    l->out_len = 0;
}

static void emit(void *owner, const char *line, size_t len) {
    struct logd *l = owner;
    if (sizeof l->out - l->out_len < LOGD_OUT_MAX)
        write_out(l);
    l->out_len += logd_format(l->out + l->out_len, &l->style, &l->time, line, len);
}

/* Reads a pipe once; false at its end. */
static bool read_pipe(struct logd *l, struct pipe_end *p) {
    char bytes[65536];
    ssize_t n = read(p->fd, bytes, sizeof bytes);
    if (n > 0)
        logd_take(&p->source, bytes, (size_t)n, emit, l);
    else if (n == 0)
        logd_end(&p->source, emit, l);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* The supervisor keeps the pipe open too, so closing alone would not take it out of epoll. */
static void close_pipe(struct logd *l, struct pipe_end *p) {
    epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, p->fd, NULL);
    close(p->fd);
    free(p);
    l->pipe_count--;
}

static enum err watch(const struct logd *l, int fd, void *what) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};
    return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0 ? ERR_OK : ERR_SYSTEM;
}

static enum err on_settings(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)owner;
    (void)message;
    close(fds[0]); /* the counters page: nothing to count yet */
    c->state = 1;
    return note_send(c->fd, NOTE_READY, 0, 0);
}

static enum err on_log_pipe(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c;
    (void)message; /* the name is for whoever looks at the conversation: it is not part of the line */
    struct logd *l = owner;
    struct pipe_end *p = calloc(1, sizeof *p);
    if (!p || watch(l, fds[0], p) != ERR_OK) {
        close(fds[0]);
        free(p);
        return ERR_NOMEM;
    }
    p->fd = fds[0];
    l->pipe_count++;
    l->had_pipe = true;
    return ERR_OK;
}

static const struct channel_rule rules[] = {
    {MESSAGE_SETTINGS, 1, 1 << 0, 4096, &bulkhead__settings__descriptor, on_settings},
    {MESSAGE_LOG_PIPE, 1, 1 << 1, 256, &bulkhead__log_pipe__descriptor, on_log_pipe},
};

/* True while the supervisor or a pipe is there. */
static bool turn(struct logd *l) {
    struct epoll_event events[64];
    int count = epoll_wait(l->epoll_fd, events, 64, -1);
    clock_gettime(CLOCK_REALTIME, &l->time);
    for (int i = 0; i < count; i++) {
        struct pipe_end *p = events[i].data.ptr;
        if (p) {
            if (!read_pipe(l, p))
                close_pipe(l, p);
        } else if (l->control.fd >= 0 && channel_receive(&l->control, 64) != ERR_OK) {
            channel_close(&l->control);
        }
    }
    write_out(l);
    return l->control.fd >= 0 ? !l->had_pipe || l->pipe_count : l->pipe_count;
}

int main(void) {
    sandbox_start();
    static struct logd l;
    l.style = (struct logd_style){.pid = getppid(), .colour = isatty(STDERR_FILENO)};
    l.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (prctl(PR_SET_PDEATHSIG, 0) != 0 || l.epoll_fd < 0 ||
        channel_open(&l.control, CONTROL_FD, "supervisor", rules, 2, &l, 1) != ERR_OK ||
        watch(&l, CONTROL_FD, NULL) != ERR_OK)
        return 1;
    tzset(); /* reads its file now */
    if (sandbox_enter(allowed_calls, sizeof allowed_calls / sizeof *allowed_calls) != ERR_OK)
        return 1;
    while (turn(&l))
        ;
    return 0;
}
