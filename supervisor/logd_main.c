/* bulkhead-logd: the one writer of the log.
 *
 * Reads the log pipe of every process and writes lines to the sink that the supervisor hands it: stderr, a file, a
 * syslog. It opens and renames nothing: when a file has reached its limit it says so, and gets another. Alone of all it may
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
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sandbox.h"
#include "ipc/channel.h"
#include "ipc/control.pb-c.h"
#include "ipc/note.h"
#include "ipc/settings.h"
#include "shm/counters.h"
#include "shm/memfd.h"
#include "supervisor/logd.h"

static const struct sandbox_call allowed_calls[] = {
    SANDBOX_CALL(epoll_wait),
    SANDBOX_CALL(recvmsg),
    SANDBOX_CALL(epoll_ctl),
    SANDBOX_CALL_ARGS(dup3, SANDBOX_ARG(1, 0xffffffff, STDERR_FILENO)),
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
    enum logd_kind kind;
    int sink_fd;
    uint64_t size, limit; /* bytes in the file; 0: no limit */
    bool full;            /* and the supervisor knows */
    bool lost;            /* the syslog is gone, and the supervisor knows */
    char tag[256], host[256];
    struct timespec time;
    int epoll_fd;
    struct counters *counters;
    unsigned pipe_count;
    bool had_pipe;
    size_t out_len;
    char out[16 * LOGD_OUT_MAX];
};

static void write_out(struct logd *l) {
    size_t done = 0;
    while (done < l->out_len) {
        ssize_t n = write(l->sink_fd, l->out + done, l->out_len - done);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            break; /* nobody reads it any more: the lines are lost */
        done += n > 0 ? (size_t)n : 0;
    }
    l->size += done;
    l->out_len = 0;
    if (l->limit && l->size > l->limit && !l->full && l->control.fd >= 0)
        l->full = note_send(l->control.fd, NOTE_LOG_FULL, 0, 0) == ERR_OK;
}

static void emit_syslog(struct logd *l, const char *line, size_t len) {
    size_t n = logd_format_syslog(l->out, &l->style, &l->time, l->kind, line, len);
    if (send(l->sink_fd, l->out, n, MSG_NOSIGNAL) < 0 && errno != EINTR && errno != EMSGSIZE && !l->lost &&
        l->control.fd >= 0)
        l->lost = note_send(l->control.fd, NOTE_LOG_LOST, 0, 0) == ERR_OK;
}

static void emit(void *owner, const char *line, size_t len) {
    struct logd *l = owner;
    if (l->kind != LOGD_STREAM) {
        emit_syslog(l, line, len);
        return;
    }
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
    (void)message;
    void *counters;
    enum err e = memfd_map(&counters, fds[0], sizeof(struct counters), 1);
    close(fds[0]);
    if (e != ERR_OK)
        return e;
    ((struct logd *)owner)->counters = counters;
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

static bool take_name(char out[static 256], const ProtobufCBinaryData *name) {
    if (name->len >= 256 || memchr(name->data, 0, name->len))
        return false;
    memcpy(out, name->data, name->len);
    out[name->len] = '\0';
    return true;
}

static enum err on_sink(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c;
    struct logd *l = owner;
    const Bulkhead__Sink *m = message;
    if (m->kind < LOGD_STREAM || m->kind > LOGD_SYSLOG_REMOTE || !take_name(l->tag, &m->tag) ||
        !take_name(l->host, &m->host)) {
        close(fds[0]);
        return ERR_RANGE;
    }
    write_out(l);
    if (l->sink_fd != STDERR_FILENO)
        close(l->sink_fd);
    l->kind = (enum logd_kind)m->kind;
    l->sink_fd = fds[0];
    if (l->kind == LOGD_STREAM) { /* then logd's own last words go there too */
        dup3(fds[0], STDERR_FILENO, 0);
        close(fds[0]);
        l->sink_fd = STDERR_FILENO;
    }
    l->style = (struct logd_style){
        .pid = l->style.pid, .colour = m->colour, .timeless = !m->logtime, .utc = m->utc, .tag = l->tag, .host = l->host};
    l->size = m->size;
    l->limit = m->limit;
    l->full = l->lost = false;
    if (m->first.len && l->kind == LOGD_STREAM) {
        clock_gettime(CLOCK_REALTIME, &l->time);
        emit(l, (const char *)m->first.data, m->first.len);
        l->out[l->out_len - 1] = '\r'; /* nats-server ends this one line so (trap T5) */
        l->out[l->out_len++] = '\n';
    }
    return ERR_OK;
}

static enum err on_poke(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)message, (void)fds;
    counter_add(((struct logd *)owner)->counters, COUNTER_HEARTBEAT, 1);
    return ERR_OK;
}

static const struct channel_rule rules[] = {
    {MESSAGE_SINK, 1, 1 << 1, 4096, &bulkhead__sink__descriptor, on_sink},
    {MESSAGE_SETTINGS, 1, 1 << 0, 4096, &bulkhead__settings__descriptor, on_settings},
    {MESSAGE_POKE, 0, 1 << 1, 0, &bulkhead__poke__descriptor, on_poke},
    {MESSAGE_LOG_PIPE, 1, 1 << 1, 256, &bulkhead__log_pipe__descriptor, on_log_pipe},
};

/* True while the supervisor or a pipe is there. */
static bool turn(struct logd *l) {
    struct epoll_event events[64];
    int count = epoll_wait(l->epoll_fd, events, 64, -1);
    clock_gettime(CLOCK_REALTIME, &l->time);
    for (int i = 0; i < count; i++) { /* a new sink first: what is in the pipes now is for that one */
        if (!events[i].data.ptr && l->control.fd >= 0 && channel_receive(&l->control, 64) != ERR_OK)
            channel_close(&l->control);
    }
    for (int i = 0; i < count; i++) {
        struct pipe_end *p = events[i].data.ptr;
        if (p && !read_pipe(l, p))
            close_pipe(l, p);
    }
    write_out(l);
    if (l->counters)
        counter_add(l->counters, COUNTER_HEARTBEAT, 1);
    return l->control.fd >= 0 ? !l->had_pipe || l->pipe_count : l->pipe_count;
}

int main(void) {
    sandbox_start();
    static struct logd l;
    l.style = (struct logd_style){.pid = getppid(), .tag = l.tag, .host = l.host};
    l.kind = LOGD_STREAM;
    l.sink_fd = STDERR_FILENO;
    l.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (prctl(PR_SET_PDEATHSIG, 0) != 0 || l.epoll_fd < 0 ||
        channel_open(&l.control, CONTROL_FD, "supervisor", rules, sizeof rules / sizeof *rules, &l, 1) != ERR_OK ||
        watch(&l, CONTROL_FD, NULL) != ERR_OK)
        return 1;
    tzset(); /* reads its file now */
    if (sandbox_enter(allowed_calls, sizeof allowed_calls / sizeof *allowed_calls) != ERR_OK)
        return 1;
    while (turn(&l))
        ;
    return 0;
}
