/* SPDX-License-Identifier: Apache-2.0 */
/* One child, whatever its role: started, spoken to, listened to, buried.
 *
 * From a child only notes are read (ipc/note.h), never a message. What a child is sent waits in its channel while its
 * socket is full; a child that lets too much wait is killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "supervisor/supervisor.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

enum { RETRY_MS = 1000, NOTES_PER_TURN = 256, LAST_NOTES = 4096 };

struct child *child_of(struct supervisor *s, Bulkhead__Role role, uint32_t index) {
    const struct family_role *row = family_role(role);
    check(row && index < row->most);
    return &s->child[row->uid_offset + index];
}

/* ---- sockets ---- */

/* Two ends that keep message borders and never block. No descriptor can be sent to an end that does not accept them. */
static enum err make_pair(int ends[2], bool second_accepts_fds) {
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
        return ERR_SYSTEM;
    setsockopt(ends[0], SOL_SOCKET, SO_PASSRIGHTS, &(int){0}, sizeof(int));
    if (!second_accepts_fds)
        setsockopt(ends[1], SOL_SOCKET, SO_PASSRIGHTS, &(int){0}, sizeof(int));
    return ERR_OK;
}

static void poll_fd(struct supervisor *s, int fd, const struct child *c, bool process, uint32_t events, int operation) {
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)c->number << 1 | process};
    check(epoll_ctl(s->epoll_fd, operation, fd, &event) == 0);
}

/* Polls for writing as long as something waits. */
static void update_polling(struct supervisor *s, struct child *c) {
    uint32_t events = EPOLLIN | (c->control.backlog ? EPOLLOUT : 0u);
    if (c->pid && c->polled && events != c->polled) {
        poll_fd(s, c->control.fd, c, false, events, EPOLL_CTL_MOD);
        c->polled = events;
    }
}

static void stop_polling(struct supervisor *s, struct child *c) {
    if (c->polled)
        epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, c->control.fd, NULL);
    c->polled = 0;
}

bool child_is_spare(const struct supervisor *s, const struct child *c) {
    return c->role->gifts & GIFT_LINKS && s->router && c->number != s->router;
}

/* ---- sending ---- */

void child_signal(const struct child *c, int signal_number) {
    if (c->pid)
        syscall(SYS_pidfd_send_signal, c->pidfd, signal_number, NULL, 0);
}

void child_blame(struct child *c, const char *what) {
    if (!c->pid || c->blamed)
        return;
    log_error("%s %u (pid %d) %s: killed", c->role->name, c->index, (int)c->pid, what);
    c->blamed = true;
    child_signal(c, SIGKILL);
}

void child_send(struct supervisor *s, struct child *c, enum message_type type, const void *message, const int *fds,
                int fd_count) {
    if (!c->pid || c->blamed || c->handlers->on_packets)
        return;
    enum err e = channel_send(&c->control, type, message, fds, fd_count);
    if (e != ERR_OK && e != ERR_END) /* at the end its death is noticed elsewhere */
        child_blame(c, "does not take what it is sent");
    update_polling(s, c);
}

static void fill_peer(Bulkhead__Peer *peer, const struct supervisor *s, const struct child *c) {
    bulkhead__peer__init(peer);
    peer->role = c->role->role;
    if (c->link != LINK_NONE) {
        peer->link = c->link;
        peer->incarnation = s->edge[c->link].incarnation;
        peer->kind = c->role->kind;
    }
}

static void introduce(struct supervisor *s, struct child *a, struct child *b) {
    check(family_may_talk(a->role->role, b->role->role));
    int ends[2];
    if (make_pair(ends, false) != ERR_OK) {
        log_error("No socket between %s and %s: %s", a->role->name, b->role->name, strerror(errno));
        return;
    }
    Bulkhead__Peer peer_a, peer_b;
    fill_peer(&peer_a, s, a);
    fill_peer(&peer_b, s, b);
    child_send(s, a, MESSAGE_PEER, &peer_b.base, &ends[0], 1);
    child_send(s, b, MESSAGE_PEER, &peer_a.base, &ends[1], 1);
    close(ends[0]);
    close(ends[1]);
}

void child_meet(struct supervisor *s, struct child *c) {
    c->meets = true;
    for (uint32_t i = 0; i < FAMILY_UIDS; i++) {
        struct child *other = &s->child[i];
        if (other->pid && other->meets && family_may_talk(other->role->role, c->role->role))
            introduce(s, other, c);
    }
}

/* ---- starting ---- */

static void send_key(struct supervisor *s, struct child *c) {
    Bulkhead__Key key = BULKHEAD__KEY__INIT;
    key.number = s->key->number;
    key.key = (ProtobufCBinaryData){sizeof s->key->key, s->key->key};
    child_send(s, c, MESSAGE_KEY, &key.base, NULL, 0);
}

void child_send_log_pipe(struct supervisor *s, const struct child *c) {
    Bulkhead__LogPipe message = BULKHEAD__LOG_PIPE__INIT;
    char name[32] = "";
    if (c && c->role->most > 1)
        snprintf(name, sizeof name, "%s %u", c->role->name, c->index);
    else if (c)
        snprintf(name, sizeof name, "%s", c->role->name);
    message.name = (ProtobufCBinaryData){strlen(name), (uint8_t *)name};
    message.pid = (uint32_t)(c ? c->pid : getpid());
    message.clients = c && c->role->gifts & GIFT_LISTENER;
    child_send(s, child_of(s, BULKHEAD__ROLE__ROLE_LOGD, 0), MESSAGE_LOG_PIPE, &message.base,
               c ? &c->log_fd : &s->own_log_fd, 1);
}

/* logd's own last words go where lines go, if that is no syslog. */
static int logd_stderr(const struct supervisor *s) {
    return s->sink.kind == LOGD_STREAM && s->sink.fd >= 0 ? s->sink.fd : s->stderr_fd;
}

static enum err start_process(struct supervisor *s, struct child *c) {
    int control[2] = {-1, -1}, log[2] = {-1, -1};
    bool brief = c->role->gifts & GIFT_BRIEF, own_pipe = !(c->role->gifts & (GIFT_STDERR | GIFT_BRIEF));
    enum err e = make_pair(control, true);
    if (e == ERR_OK && brief && fcntl(control[1], F_SETFL, 0) != 0) /* it has nothing else to do than to wait */
        e = ERR_SYSTEM;
    if (e == ERR_OK && own_pipe && pipe2(log, O_CLOEXEC | O_NONBLOCK) != 0)
        e = ERR_SYSTEM;
    if (e == ERR_OK)
        e = spawn_child(&s->spawner, c->role, c->number,
                        own_pipe ? log[1]
                        : brief  ? STDERR_FILENO
                                 : logd_stderr(s),
                        control[1], &c->pid, &c->pidfd);
    if (e == ERR_OK)
        e = channel_open(&c->control, control[0], c->role->name, NULL, 0, s, 0);
    if (log[1] >= 0)
        close(log[1]);
    if (control[1] >= 0)
        close(control[1]);
    if (e != ERR_OK) {
        if (log[0] >= 0)
            close(log[0]);
        if (control[0] >= 0)
            close(control[0]);
        return e;
    }
    c->log_fd = log[0];
    return ERR_OK;
}

int child_counters(const struct supervisor *s, const struct child *c) {
    return c->link != LINK_NONE ? s->edge[c->link].counters_fd : s->counters_fd[c->role->role];
}

static void send_settings(struct supervisor *s, struct child *c) {
    struct settings own = s->settings;
    int counters_fd = child_counters(s, c);
    Bulkhead__Settings settings;
    if (c->handlers->settings)
        c->handlers->settings(s, &own);
    settings_fill(&settings, &own);
    child_send(s, c, MESSAGE_SETTINGS, &settings.base, &counters_fd, 1);
}

enum err child_start(struct supervisor *s, struct child *c) {
    check(!c->pid);
    c->restart_ms = 0;
    if (start_process(s, c) != ERR_OK) {
        if (c->role->gifts & GIFT_BRIEF) { /* whoever wanted it says so */
            c->pid = 0;
            return ERR_SYSTEM;
        }
        log_error("Cannot start a %s: %s; tried again in %d ms", c->role->name, strerror(errno), RETRY_MS);
        c->pid = 0;
        c->restart_ms = s->now_ms + RETRY_MS;
        return ERR_SYSTEM;
    }
    c->ready = c->blamed = c->hung = c->stopped = c->awaited = c->dismissed = c->told_tls = c->meets = false;
    c->hangs = (struct hangs){0};
    c->generation = c->prepared = s->settings.generation;
    c->told = UINT32_MAX;
    c->polled = EPOLLIN;
    poll_fd(s, c->control.fd, c, false, EPOLLIN, EPOLL_CTL_ADD);
    poll_fd(s, c->pidfd, c, true, EPOLLIN, EPOLL_CTL_ADD);
    if (c->role->gifts & GIFT_KEY)
        send_key(s, c);
    if (!(c->role->gifts & GIFT_BRIEF))
        send_settings(s, c);
    if (c->log_fd >= 0)
        child_send_log_pipe(s, c);
    log_line(c->replaces ? LOG_INFO : LOG_DEBUG, "Started %s %u (pid %d)%s", c->role->name, c->index, (int)c->pid,
             c->replaces ? " in place of the one that died" : "");
    c->replaces = false;
    return ERR_OK;
}

/* ---- listening ---- */

static void on_note(struct supervisor *s, struct child *c, const struct note *note) {
    bool answer = note->type == NOTE_PREPARED || note->type == NOTE_APPLIED;
    if (answer && c->handlers->on_answer)
        c->handlers->on_answer(s, c, note);
    else if (!answer && c->handlers->on_note)
        c->handlers->on_note(s, c, note);
    else if (note->type == NOTE_READY)
        c->ready = true;
    else
        child_blame(c, "sent a note that its role may not send");
}

static void take_packets(struct supervisor *s, struct child *c) {
    enum err e = c->handlers->on_packets(s, c);
    if (e == ERR_AGAIN)
        return;
    stop_polling(s, c);
    if (e != ERR_OK)
        child_signal(c, SIGKILL);
}

void child_on_control(struct supervisor *s, struct child *c, uint32_t events) {
    if (!c->pid || !c->polled)
        return;
    if (events & EPOLLOUT) {
        channel_flush(&c->control);
        update_polling(s, c);
    }
    if (c->handlers->on_packets) {
        take_packets(s, c);
        return;
    }
    for (int i = 0; i < NOTES_PER_TURN && c->pid && !c->blamed; i++) {
        struct note note;
        switch (note_receive(c->control.fd, &note)) {
        case ERR_OK:
            on_note(s, c, &note);
            break;
        case ERR_AGAIN:
            return;
        case ERR_END: /* it is about to end, or has no use without this socket */
            stop_polling(s, c);
            child_signal(c, SIGKILL);
            return;
        default:
            child_blame(c, "sent something that is no note");
        }
    }
    if (c->blamed)
        stop_polling(s, c);
}

/* ---- burying ---- */

/* Those that follow one another in one place die of one another's faults. */
static struct restarts *restarts_of(struct supervisor *s, struct child *c) {
    return c->link != LINK_NONE ? &c->restarts : &child_of(s, c->role->role, 0)->restarts;
}

uint32_t child_rest(struct supervisor *s, struct child *c, bool fault, uint32_t most_ms) {
    c->restart_ms = s->now_ms;
    if (s->stop)
        return 0;
    struct restarts *r = restarts_of(s, c);
    uint32_t delay_ms = restarts_note(r, s->now_ms, fault, s->announced ? most_ms : CHILD_REST_MS);
    c->restart_ms += delay_ms;
    if (!fault || r->faults < RESTARTS_LOOP)
        return delay_ms;
    char what[sizeof s->lost];
    snprintf(what, sizeof what, "%s %u dies again and again by its own fault, soon after each start", c->role->name,
             c->index);
    if (s->announced)
        log_error("%s: the next one is started in %u ms", what, delay_ms);
    else
        memcpy(s->lost, what, sizeof what);
    return delay_ms;
}

void child_replace(struct supervisor *s, struct child *c, const struct death *death) {
    if (child_rest(s, c, death->fault, CHILD_REST_MS) == 0)
        c->handlers->start(s, c);
}

void child_begin(struct supervisor *s, struct child *c) {
    if (!s->stop && !c->pid && child_start(s, c) == ERR_OK)
        child_meet(s, c);
}

/* Says what happened and returns whether it was the child's own fault. *signal_number: what it died of, 0 for an exit.
 */
static bool judge_death(const struct supervisor *s, const struct child *c, const siginfo_t *info, int *signal_number) {
    bool exited = info->si_code == CLD_EXITED;
    *signal_number = exited ? 0 : info->si_status;
    if (c->role->gifts & GIFT_BRIEF) /* whoever wanted it says what came of it */
        return false;
    bool outside = !exited && (info->si_status == SIGKILL || info->si_status == SIGTERM) && (!c->blamed || c->stopped);
    if ((s->stop || c->dismissed) && (exited ? info->si_status == 0 : outside)) {
        log_debug("%s %u (pid %d) has ended", c->role->name, c->index, (int)c->pid);
        return !outside;
    }
    char how[64];
    if (exited)
        snprintf(how, sizeof how, "exited with status %d", info->si_status);
    else
        snprintf(how, sizeof how, "was killed by signal %d (%s)", info->si_status, strsignal(info->si_status));
    bool spare = child_is_spare(s, c);
    log_line(outside ? LOG_WARN : LOG_ERROR, "%s %u%s (pid %d) %s: %s", c->role->name, c->index,
             spare ? ", the spare," : "", (int)c->pid, how, spare ? "another spare is started" : c->role->death);
    return !outside;
}

/* A signal that a process causes by what it does. */
static bool is_own_signal(int signal_number) {
    static const int own[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGSYS};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (signal_number == own[i])
            return true;
    }
    return false;
}

/* What it said before it died still holds: a router's word, say, that a link's edge has broken a rule. */
static void read_last_notes(struct supervisor *s, struct child *c) {
    struct note note;
    if (c->handlers->on_packets) {
        c->handlers->on_packets(s, c);
        return;
    }
    for (int i = 0; i < LAST_NOTES && !c->blamed && note_receive(c->control.fd, &note) == ERR_OK; i++)
        on_note(s, c, &note);
}

bool child_on_exit(struct supervisor *s, struct child *c) {
    siginfo_t info = {0};
    if (!c->pid || waitid((idtype_t)P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG) != 0 || info.si_pid == 0)
        return false;
    struct death death = {.well = info.si_code == CLD_EXITED && info.si_status == 0};
    death.fault = judge_death(s, c, &info, &death.signal_number);
    read_last_notes(s, c);
    stop_polling(s, c);
    epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, c->pidfd, NULL);
    close(c->pidfd);
    channel_close(&c->control);
    if (c->log_fd >= 0)
        close(c->log_fd);
    c->log_fd = c->pidfd = -1;
    c->pid = 0;
    c->replaces = !c->dismissed && !(c->role->gifts & GIFT_BRIEF);
    death.caused = c->hung || is_own_signal(death.signal_number);
    c->handlers->on_exit(s, c, &death);
    c->awaited = false;
    return true;
}
