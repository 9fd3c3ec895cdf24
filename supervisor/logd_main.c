/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead-logd: the one writer of the log.
 *
 * Reads the log pipe of every process and writes lines to the sink that the supervisor hands it: stderr, a file, a
 * syslog. It opens and renames nothing: when a file has reached its limit it says so, and gets another. A process that
 * writes too much loses lines, and so do all while the sink is full: both are told of once a second. It does not end with
 * the supervisor but when every pipe has ended, so that last words are written; for a sink that is full then it waits
 * LAST_WORDS_MS.
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

#include "base/clock.h"
#include "base/log.h"
#include "base/sandbox.h"
#include "ipc/channel.h"
#include "ipc/control.pb-c.h"
#include "ipc/note.h"
#include "ipc/settings.h"
#include "shm/counters.h"
#include "shm/memfd.h"
#include "supervisor/logd.h"
#include "supervisor/logd_out.h"

enum { LAST_WORDS_MS = 1000 }; /* less than the supervisor gives to logd */

static const struct sandbox_call allowed_calls[] = {
    SANDBOX_CALL(epoll_wait),
    SANDBOX_CALL(recvmsg),
    SANDBOX_CALL(epoll_ctl),
    SANDBOX_CALL_ARGS(dup3, SANDBOX_ARG(1, 0xffffffff, STDERR_FILENO)),
    SANDBOX_CALL_ARGS(fcntl, SANDBOX_ARG(1, 0xffffffff, F_GETFL)),
    SANDBOX_CALL_ARGS(sendto, SANDBOX_ARG(4, ~UINT64_C(0), 0)),
};

struct pipe_end {
    struct pipe_end *next, **link;
    struct logd *logd;
    int fd;
    struct logd_origin origin;
    struct logd_rate rate;
    struct logd_source source;
};

struct logd {
    struct channel control;
    struct logd_style style;
    enum logd_kind kind;
    struct logd_out out; /* of a LOGD_STREAM */
    bool out_polled;
    int sink_fd;
    uint64_t size, limit; /* bytes in the file; 0: no limit */
    bool full;            /* and the supervisor knows */
    bool lost;            /* the syslog is gone, and the supervisor knows */
    bool debug, trace;    /* these lines are wanted, so there are not too many */
    char tag[256], host[256];
    struct timespec time;
    uint64_t now_ms;
    int epoll_fd;
    struct counters *counters;
    struct pipe_end *pipes;
    bool had_pipe;
    struct logd_origin self, supervisor;
    struct logd_rate full_rate; /* of lines about a sink that was full */
};

/* ---- writing ---- */

static void flush(struct logd *l) {
    logd_out_flush(&l->out);
    l->size += logd_out_written(&l->out);
    if (l->limit && l->size > l->limit && !l->full && l->control.fd >= 0)
        l->full = note_send(&l->control, NOTE_LOG_FULL, 0, 0) == ERR_OK;
}

static void emit_syslog(struct logd *l, const struct logd_origin *origin, const char *line, size_t len) {
    char out[LOGD_OUT_MAX];
    size_t n = logd_format_syslog(out, &l->style, origin, &l->time, l->kind, line, len);
    if (send(l->sink_fd, out, n, MSG_NOSIGNAL) < 0 && errno != EINTR && errno != EMSGSIZE && !l->lost &&
        l->control.fd >= 0)
        l->lost = note_send(&l->control, NOTE_LOG_LOST, 0, 0) == ERR_OK;
}

static void emit(struct logd *l, const struct logd_origin *origin, const char *line, size_t len) {
    if (l->kind != LOGD_STREAM) {
        emit_syslog(l, origin, line, len);
        return;
    }
    char *room = logd_out_room(&l->out);
    if (room)
        logd_out_put(&l->out, logd_format(room, &l->style, origin, &l->time, line, len));
}

/* What was asked for by -D or -V is written, however much it is. */
static bool is_wanted(const struct logd *l, const char *line, size_t len) {
    return len && ((l->debug && *line == LOG_DEBUG) || (l->trace && *line == LOG_TRACE));
}

static void on_line(void *owner, const char *line, size_t len) {
    struct pipe_end *p = owner;
    if (is_wanted(p->logd, line, len) || logd_rate_admit(&p->rate, p->logd->now_ms, len))
        emit(p->logd, &p->origin, line, len);
}

/* ---- lost lines ---- */

static void tell_lost(struct logd *l, const struct logd_origin *origin, struct logd_rate *rate, const char *why) {
    char line[128];
    uint64_t count = logd_rate_lost(rate, l->now_ms);
    if (count)
        emit(l, origin, line,
             (size_t)snprintf(line, sizeof line, "W%llu lines were lost: %s", (unsigned long long)count, why));
}

/* Returns when to do it again, in milliseconds; -1: when there is something new. */
static int tell_all_lost(struct logd *l) {
    bool more = false;
    l->full_rate.lost += logd_out_lost(&l->out);
    if (logd_out_waits(&l->out))
        return -1;
    tell_lost(l, &l->self, &l->full_rate, "the log took no more");
    for (struct pipe_end *p = l->pipes; p; p = p->next) {
        tell_lost(l, &p->origin, &p->rate, "this process writes too many");
        more |= p->rate.lost > 0;
    }
    return more || l->full_rate.lost ? LOGD_TELL_MS : -1;
}

/* ---- pipes ---- */

/* Reads a pipe once; false at its end. */
static bool read_pipe(struct pipe_end *p) {
    char bytes[65536];
    ssize_t n = read(p->fd, bytes, sizeof bytes);
    if (n > 0)
        logd_take(&p->source, bytes, (size_t)n, on_line, p);
    else if (n == 0)
        logd_end(&p->source, on_line, p);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

/* The supervisor keeps the pipe open too, so closing alone would not take it out of epoll. */
static void close_pipe(struct logd *l, struct pipe_end *p) {
    epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, p->fd, NULL);
    close(p->fd);
    if (p->next)
        p->next->link = p->link;
    *p->link = p->next;
    p->rate.told_ms = 0;
    tell_lost(l, &p->origin, &p->rate, "this process wrote too many");
    free(p);
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
    return note_send(c, NOTE_READY, 0, 0);
}

static bool take_text(char *out, size_t cap, const ProtobufCBinaryData *text) {
    if (text->len >= cap || (text->len && memchr(text->data, 0, text->len)))
        return false;
    if (text->len)
        memcpy(out, text->data, text->len);
    out[text->len] = '\0';
    return true;
}

static enum err on_log_pipe(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c;
    struct logd *l = owner;
    const Bulkhead__LogPipe *m = message;
    struct pipe_end *p = calloc(1, sizeof *p);
    if (!p || !take_text(p->origin.name, sizeof p->origin.name, &m->name) || watch(l, fds[0], p) != ERR_OK) {
        close(fds[0]);
        free(p);
        return ERR_NOMEM;
    }
    p->logd = l;
    p->fd = fds[0];
    p->origin.pid = (int)m->pid;
    p->origin.clients = m->clients;
    p->next = l->pipes;
    p->link = &l->pipes;
    if (p->next)
        p->next->link = &p->next;
    l->pipes = p;
    l->had_pipe = true;
    return ERR_OK;
}

/* nats-server ends this one line with a carriage return. */
static void write_first(struct logd *l, const char *line, size_t len) {
    char *room = len && l->kind == LOGD_STREAM ? logd_out_room(&l->out) : NULL;
    if (!room)
        return;
    clock_gettime(CLOCK_REALTIME, &l->time);
    size_t n = logd_format(room, &l->style, &l->supervisor, &l->time, line, len);
    room[n - 1] = '\r';
    room[n++] = '\n';
    logd_out_put(&l->out, n);
}

static enum err on_sink(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c;
    struct logd *l = owner;
    const Bulkhead__Sink *m = message;
    if (m->kind < LOGD_STREAM || m->kind > LOGD_SYSLOG_REMOTE || !take_text(l->tag, sizeof l->tag, &m->tag) ||
        !take_text(l->host, sizeof l->host, &m->host)) {
        close(fds[0]);
        return ERR_RANGE;
    }
    flush(l);
    logd_out_set(&l->out, -1);
    if (l->sink_fd != STDERR_FILENO)
        close(l->sink_fd);
    l->kind = (enum logd_kind)m->kind;
    l->sink_fd = fds[0];
    if (l->kind == LOGD_STREAM) { /* then logd's own last words go there too */
        dup3(fds[0], STDERR_FILENO, 0);
        close(fds[0]);
        l->sink_fd = STDERR_FILENO;
        logd_out_set(&l->out, STDERR_FILENO);
    }
    l->style = (struct logd_style){
        .colour = m->colour, .timeless = !m->logtime, .utc = m->utc, .tag = l->tag, .host = l->host};
    l->size = m->size;
    l->limit = m->limit;
    l->debug = m->debug;
    l->trace = m->trace;
    l->full = l->lost = false;
    write_first(l, (const char *)m->first.data, m->first.len);
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

/* Looks for room as long as something waits for it. */
static void poll_out(struct logd *l) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &l->out};
    bool waits = logd_out_waits(&l->out);
    if (waits != l->out_polled)
        epoll_ctl(l->epoll_fd, waits ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, l->out.room_fd, &event);
    l->out_polled = waits;
}

static void read_clocks(struct logd *l) {
    clock_gettime(CLOCK_REALTIME, &l->time);
    l->now_ms = clock_mono_ms();
}

/* True while the supervisor or a pipe is there. */
static bool turn(struct logd *l) {
    struct epoll_event events[64];
    int timeout_ms = tell_all_lost(l);
    flush(l);
    poll_out(l);
    int count = epoll_wait(l->epoll_fd, events, 64, timeout_ms);
    read_clocks(l);
    for (int i = 0; i < count; i++) { /* a new sink first: what is in the pipes now is for that one */
        if (!events[i].data.ptr && l->control.fd >= 0 && channel_receive(&l->control, 64) != ERR_OK)
            channel_close(&l->control);
    }
    for (int i = 0; i < count; i++) {
        struct pipe_end *p = events[i].data.ptr;
        if (p && events[i].data.ptr != &l->out && !read_pipe(p))
            close_pipe(l, p);
    }
    if (l->counters)
        counter_add(l->counters, COUNTER_HEARTBEAT, 1);
    return l->control.fd >= 0 ? !l->had_pipe || l->pipes : l->pipes != NULL;
}

static void say_last_words(struct logd *l) {
    uint64_t end_ms = clock_mono_ms() + LAST_WORDS_MS;
    flush(l);
    while (logd_out_waits(&l->out) && !l->out.stuck && (l->now_ms = clock_mono_ms()) < end_ms) {
        logd_out_wait(&l->out, (int)(end_ms - l->now_ms));
        flush(l);
    }
}

int main(void) {
    sandbox_start();
    static struct logd l;
    l.self = (struct logd_origin){.pid = getpid(), .name = "logd"};
    l.supervisor = (struct logd_origin){.pid = getppid()};
    l.style = (struct logd_style){.tag = l.tag, .host = l.host};
    l.kind = LOGD_STREAM;
    l.sink_fd = STDERR_FILENO;
    l.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (prctl(PR_SET_PDEATHSIG, 0) != 0 || l.epoll_fd < 0 || logd_out_open(&l.out) != ERR_OK ||
        logd_out_set(&l.out, STDERR_FILENO) != ERR_OK ||
        channel_open(&l.control, CONTROL_FD, "supervisor", rules, sizeof rules / sizeof *rules, &l, 1) != ERR_OK ||
        channel_watch(&l.control, l.epoll_fd, (union epoll_data){.ptr = NULL}) != ERR_OK)
        return 1;
    tzset(); /* reads its file now */
    if (sandbox_enter(allowed_calls, sizeof allowed_calls / sizeof *allowed_calls) != ERR_OK)
        return 1;
    while (turn(&l))
        ;
    say_last_words(&l);
    return 0;
}
