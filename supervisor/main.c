/* SPDX-License-Identifier: Apache-2.0 */
/* bulkhead: starts the family, watches it, ends it.
 *
 * Order of a start: command line, limits and executables, listeners, memory that outlives processes, then logd, authd,
 * router, frontends; "Server is ready" when every frontend is. Afterwards this process only waits: for deaths (a pidfd
 * each), for notes of its children, for signals and for times.
 */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sodium.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "nats/nkey.h"
#include "shm/book.h"
#include "shm/commit.h"
#include "shm/counters.h"
#include "shm/ledger.h"
#include "shm/memfd.h"
#include "shm/replies.h"
#include "supervisor/descriptors.h"
#include "supervisor/files.h"
#include "supervisor/machine.h"
#include "supervisor/notify.h"
#include "supervisor/rehearse.h"
#include "supervisor/signals.h"
#include "supervisor/supervisor.h"

enum { LATE_MS = 200, STOP_EDGES_MS = 4000, STOP_ALL_MS = 5000, PAYLOAD_WARNED = 8 << 20 };
static const uint64_t FROM_SIGNALS = UINT64_MAX;

static void turn(struct supervisor *s);

/* ---- the start, step by step ---- */

/* An empty page that is neither swapped, dumped nor inherited, for the key. */
static struct binding_key *make_key(void) {
    struct binding_key *key = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (key == MAP_FAILED)
        log_die("No memory for the binding key: %s", strerror(errno));
    if (mlock(key, 4096) != 0)
        log_warn("The binding key cannot be locked into memory (%s): it may reach the swap space", strerror(errno));
    madvise(key, 4096, MADV_DONTDUMP);
    madvise(key, 4096, MADV_WIPEONFORK);
    key->number = 1;
    randombytes_buf(key->key, sizeof key->key);
    return key;
}

static void make_server_id(struct supervisor *s) {
    uint8_t public_key[crypto_sign_PUBLICKEYBYTES], secret_key[crypto_sign_SECRETKEYBYTES];
    crypto_sign_keypair(public_key, secret_key);
    sodium_memzero(secret_key, sizeof secret_key);
    nkey_format(s->settings.server_id, NKEY_SERVER, public_key);
}

static void say_hello(const struct supervisor *s) {
    log_info("Starting bulkhead");
    log_info("  Version:  %s", BULKHEAD_VERSION);
    log_info("  Protocol: 2.9.10");
    log_info("  Name:     %s", s->settings.server_name);
    log_info("  ID:       %s", s->settings.server_id);
    if (s->flags.config_path)
        log_info("Using configuration file: %s", s->flags.config_path);
    if (s->settings.max_payload > PAYLOAD_WARNED)
        log_warn("Maximum payloads over 8.00 MB are generally discouraged and could lead to poor performance");
}

static void open_spawner(struct supervisor *s) {
    char why[512];
    if (spawn_open(&s->spawner, why, sizeof why) != ERR_OK)
        log_die("Cannot start: %s", why);
}

static bool names_users(const struct options *o) {
    static const struct process_ids none[OPTION_PROCESSES];
    return memcmp(o->process, none, sizeof none) != 0;
}

/* Users and walls of the children, and what is missing. */
static void configure_spawner(struct supervisor *s) {
    const struct options *o = &s->config.options;
    char why[512];
    if (spawn_configure(&s->spawner, o, s->frontend_count, why, sizeof why) != ERR_OK)
        log_die("Cannot start: %s", why);
    walls_say(&s->spawner.walls);
    if (spawn_changes_users(&s->spawner)) {
        ids_say(s->spawner.id, s->frontend_count);
        return;
    }
    log_warn("All processes share user id %u and keep it; the limit of open files is %u", (unsigned)getuid(),
             s->spawner.files_max);
    if (names_users(o))
        log_warn("The users and groups under `processes` have no effect: no process changes its user");
}

/* Says what came of the command line, as it is, and ends. */
static _Noreturn void leave(struct supervisor *s, int status, const char *text) {
    dprintf(s->stderr_fd, "bulkhead: %s\n", text);
    exit(status);
}

/* Each line of a reading is a warning. */
static void say_notices(char *lines) {
    for (char *rest = lines, *line; (line = strsep(&rest, "\n"));) {
        if (*line)
            log_warn("%s", line);
    }
}

/* A file that is good may ask for what this machine has not. Who has not the rights of a later start is only told of it. */
static _Noreturn void leave_test(struct supervisor *s, const struct reader_result *result) {
    char missing[2048];
    if (!result->valid)
        leave(s, 1, result->message);
    if (rehearse_start(&s->spawner, &result->state.options, settings_frontends(&result->state.options), missing,
                       sizeof missing))
        leave(s, 0, result->message);
    if (geteuid() == 0)
        leave(s, 1, missing);
    dprintf(s->stderr_fd, "bulkhead: %s\n%s", result->message, missing);
    exit(0);
}

/* Has the command line and the file read: the loop turns until it is done. */
static void read_config(struct supervisor *s, bool test) {
    struct reader_result *result = &s->reading.result;
    parts_read(s, test, &s->parts);
    while (!s->reading.done)
        turn(s);
    if (test)
        leave_test(s, result);
    if (!result->valid)
        leave(s, 1, result->message);
    say_notices(result->message);
    s->config = result->state;
    flags_wipe(&s->flags);
}

static void write_pid(const struct supervisor *s) {
    const char *path = s->config.options.pid_file;
    if (*path && files_write_pid(path) != 0)
        log_die("Could not write pidfile: %s: %s", path, strerror(errno));
}

static void open_sink(struct supervisor *s) {
    char why[OPTION_PATH_MAX + 256];
    if (logging_open_sink(s, &s->config.options, why, sizeof why) != ERR_OK)
        log_die("%s", why);
}

static void open_listeners(struct supervisor *s) {
    const struct options *o = &s->config.options;
    int fds[LINKS_MAX];
    char why[512], address[512];
    enum err e =
        listeners_bind(fds, s->frontend_count, o->host, (int32_t)o->port, &s->settings.bound_port, why, sizeof why);
    if (e != ERR_OK) {
        listeners_address(address, sizeof address, o->host, (int32_t)o->port);
        log_die("Error listening on port: %s, \"%s\"", address, why);
    }
    for (uint32_t i = 0; i < s->frontend_count; i++)
        s->edge[i].listener = fds[i];
    settings_fill_from(&s->settings, o); /* the port is known now */
    settings_hold(s);
    listeners_address(address, sizeof address, o->host, s->settings.bound_port);
    log_info("Listening for client connections on %s", address);
    if (s->parts.tls.given)
        log_info("TLS required for client connections");
}

/* What outlives the processes that use it. */
static void make_memory(struct supervisor *s) {
    bool made = memfd_make(&s->commit_fd, "commit", sizeof(struct commit_page), 1) == ERR_OK &&
                memfd_make(&s->book_fd, "book", BOOK_BYTES, 0) == ERR_OK &&
                memfd_reader(&s->book_reader_fd, s->book_fd) == ERR_OK &&
                memfd_make(&s->ledger_fd, "ledger", LEDGER_BYTES, 0) == ERR_OK &&
                memfd_make(&s->replies_fd, "open replies", sizeof(struct replies_table), 0) == ERR_OK;
    for (int role = 0; role < FAMILY_ROLE_END && made; role++) {
        const struct family_role *row = family_role((Bulkhead__Role)role);
        if (row && !row->kind)
            made = memfd_make(&s->counters_fd[role], "counters", sizeof(struct counters), 1) == ERR_OK;
    }
    if (!made)
        log_die("No shared memory: %s", strerror(errno));
}

static void on_places(void *owner, uint32_t frontend, uint32_t count) {
    struct supervisor *s = owner;
    Bulkhead__Places places = BULKHEAD__PLACES__INIT;
    places.count = count;
    child_send(s, child_of(s, BULKHEAD__ROLE__ROLE_FRONTEND, frontend), MESSAGE_PLACES, &places.base, NULL, 0);
}

static void on_recall(void *owner, uint32_t frontend) {
    struct supervisor *s = owner;
    child_send(s, child_of(s, BULKHEAD__ROLE__ROLE_FRONTEND, frontend), MESSAGE_RECALL, NULL, NULL, 0);
}

static void on_shed(void *owner, uint32_t frontend, uint32_t count, bool strangers) {
    struct supervisor *s = owner;
    Bulkhead__Shed shed = BULKHEAD__SHED__INIT;
    shed.count = count;
    shed.strangers = strangers;
    s->shed_count += strangers ? 0 : count;
    child_send(s, child_of(s, BULKHEAD__ROLE__ROLE_FRONTEND, frontend), MESSAGE_SHED, &shed.base, NULL, 0);
}

/* By the router's counters page; a router that has just taken over counts while it is told. */
static uint32_t count_bound(void *owner, uint32_t frontend) {
    const struct supervisor *s = owner;
    uint64_t count = 0;
    off_t at = (off_t)(offsetof(struct counters, link_conns) + frontend * sizeof count);
    if (s->router_state != ROUTER_READY ||
        pread(s->counters_fd[BULKHEAD__ROLE__ROLE_ROUTER], &count, sizeof count, at) != sizeof count)
        return UINT32_MAX; /* then nobody is accused */
    return count < UINT32_MAX ? (uint32_t)count : UINT32_MAX;
}

static void on_guilt(void *owner, uint32_t frontend, const char *what) {
    child_blame(child_of(owner, BULKHEAD__ROLE__ROLE_FRONTEND, frontend), what);
}

/* As many frontends as are asked for; where nobody asks, as many as there are descriptors for. */
static uint32_t count_frontends(const struct supervisor *s) {
    uint32_t wanted = settings_frontends(&s->config.options), limit = s->spawner.files_max;
    uint32_t fit = descriptors_frontends(limit);
    if (wanted <= fit)
        return wanted;
    if (fit == 0 || s->config.options.frontends)
        log_die(
            "Cannot start: a process may open %u files here, but %u %s %u. Raise the limit of open files (ulimit -n, "
            "LimitNOFILE)%s",
            limit, fit ? wanted : 1, wanted == 1 || !fit ? "frontend needs" : "frontends need",
            descriptors_needed(fit ? wanted : 1), fit ? ", or start fewer frontends" : "");
    log_warn(
        "A process may open %u files here: that is enough for %u of %u frontends. Raise the limit of open files (ulimit "
        "-n, LimitNOFILE) to start all of them",
        limit, fit, wanted);
    return fit;
}

/* The router maps the memory of all links; authd's threads have stacks. Without so much the family would not come up. */
static void check_addresses(const struct supervisor *s) {
    enum { ROUTER_OWN = 64 << 20, AUTHD_ALL = 192 << 20 };
    const struct options *o = &s->config.options;
    uint64_t each = links_mapped_bytes((uint32_t)o->max_payload, (uint32_t)o->max_control_line, (uint64_t)o->ring_bytes,
                                       (uint64_t)o->spill_bytes);
    uint64_t needed = ROUTER_OWN + s->frontend_count * each, limit = machine_address_limit();
    needed = needed > AUTHD_ALL ? needed : AUTHD_ALL;
    if (limit < needed)
        log_die(
            "Cannot start: a process may take %llu MB of memory here (ulimit -v, LimitAS), but with %u frontends the "
            "router needs %llu MB, %llu of them for each. Raise the limit, start fewer frontends, or make max_payload or "
            "rings.spill smaller",
            (unsigned long long)(limit >> 20), s->frontend_count, (unsigned long long)(needed >> 20),
            (unsigned long long)(each >> 20));
}

static void lay_out_role(struct supervisor *s, const struct family_role *row) {
    for (uint32_t i = 0; i < row->most; i++) {
        struct child *c = child_of(s, row->role, i);
        *c = (struct child){.role = row,
                            .handlers = roles_of(row->role),
                            .number = row->uid_offset + i,
                            .index = i,
                            .link = row->kind ? row->first_link + i : LINK_NONE,
                            .pidfd = -1,
                            .log_fd = -1};
        c->control.fd = -1;
    }
}

/* Every child that there can be has its place. */
static void lay_out_children(struct supervisor *s) {
    for (int role = 0; role < FAMILY_ROLE_END; role++) {
        if (family_role((Bulkhead__Role)role))
            lay_out_role(s, family_role((Bulkhead__Role)role));
    }
}

/* Every edge that is to run has its link. */
static void lay_out_links(struct supervisor *s) {
    s->frontend_count = count_frontends(s);
    for (uint32_t i = 0; i < LINKS_MAX; i++)
        s->edge[i].counters_fd = s->edge[i].listener = -1;
    for (uint32_t i = 0; i < FAMILY_UIDS; i++) {
        struct child *c = &s->child[i];
        if (c->role && c->link != LINK_NONE && (!(c->role->gifts & GIFT_LISTENER) || c->index < s->frontend_count))
            s->edge[c->link].child = c;
    }
    s->next_incarnation = clock_wall_ns(); /* never again, also after a restart */
    s->next_cid = 1;
}

/* After the first lines, because this may be worth one. */
static void open_places(struct supervisor *s) {
    places_open(&s->places, settings_connections(s), s, on_places, on_recall);
    s->places.send_shed = on_shed;
    s->places.count_bound = count_bound;
    s->places.end = on_guilt;
    s->places.each_max = descriptors_connections(s->spawner.files_max);
}

static void open_loop(struct supervisor *s) {
    signal(SIGPIPE, SIG_IGN);
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll_fd < 0)
        log_die("Cannot wait for anything: %s", strerror(errno));
}

/* Until then they do what they do to any process. */
static void open_signals(struct supervisor *s) {
    sigset_t handled;
    sigemptyset(&handled);
    for (size_t i = 0; i < 5; i++)
        sigaddset(&handled, (int[]){SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2}[i]);
    sigprocmask(SIG_BLOCK, &handled, NULL);
    s->signal_fd = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = FROM_SIGNALS};
    if (s->signal_fd < 0 || epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->signal_fd, &event) != 0)
        log_die("Cannot wait for anything: %s", strerror(errno));
}

/* When all edges are ready for the first time. */
static void announce(struct supervisor *s) {
    for (struct edge *e = edges_next(s, NULL); e; e = edges_next(s, e)) {
        if (!e->child->ready)
            return;
    }
    s->announced = true;
    log_info("Server is ready");
    files_write_ports(s->config.options.ports_file_dir, supervisor_name(s), s->config.options.host,
                      s->settings.bound_port, s->parts.tls.given);
    notify_ready();
}

/* ---- the end ---- */

static bool runs(const struct child *c) {
    return c->pid && c->role->role != BULKHEAD__ROLE__ROLE_LOGD;
}

static uint32_t count_running(const struct supervisor *s, bool edges_only) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < FAMILY_UIDS; i++)
        count += runs(&s->child[i]) && (!edges_only || s->child[i].link != LINK_NONE);
    return count;
}

static void stop_children(struct supervisor *s, bool edges) {
    for (uint32_t i = 0; i < FAMILY_UIDS; i++) {
        struct child *c = &s->child[i];
        if (runs(c) && edges == (c->link != LINK_NONE))
            child_send(s, c, MESSAGE_STOP, NULL, NULL, 0);
    }
}

static void kill_children(const struct supervisor *s) {
    for (uint32_t i = 0; i < FAMILY_UIDS; i++) {
        if (runs(&s->child[i]))
            child_signal(&s->child[i], SIGKILL);
    }
}

static _Noreturn void give_up(struct supervisor *s) {
    log_line(LOG_FATAL, "%s: the server ends", s->lost);
    kill_children(s);
    files_remove_ports(s->config.options.ports_file_dir, supervisor_name(s));
    exit(1); /* the log is finished on the way */
}

static void begin_to_stop(struct supervisor *s, int signal_number) {
    if (s->stop) {
        kill_children(s); /* asked twice */
        return;
    }
    log_info("Initiating Shutdown...");
    notify_stopping();
    s->stop = STOP_EDGES;
    s->stop_signal = signal_number;
    s->stop_edges_ms = s->now_ms + STOP_EDGES_MS;
    s->stop_all_ms = s->now_ms + STOP_ALL_MS;
    stop_children(s, true);
}

/* Edges first, because what they still deliver comes from the router. */
static void go_on_stopping(struct supervisor *s) {
    if (s->stop == STOP_EDGES && (count_running(s, true) == 0 || s->now_ms >= s->stop_edges_ms)) {
        s->stop = STOP_REST;
        stop_children(s, false);
    }
    if (s->now_ms >= s->stop_all_ms)
        kill_children(s);
    if (count_running(s, false))
        return;
    log_info("Server Exiting..");
    files_remove_ports(s->config.options.ports_file_dir, supervisor_name(s));
    exit(s->stop_signal == SIGINT ? 0 : 1); /* as nats-server does it */
}

/* ---- the loop ---- */

static void on_signal(struct supervisor *s, int number) {
    const char *name = number == SIGINT    ? "interrupt"
                       : number == SIGTERM ? "terminated"
                       : number == SIGHUP  ? "hangup"
                       : number == SIGUSR1 ? "user defined signal 1"
                                           : "user defined signal 2";
    log_debug("Trapped \"%s\" signal", name);
    switch (number) {
    case SIGHUP:
        reload_begin(s);
        break;
    case SIGUSR1:
        logging_reopen(s);
        break;
    case SIGUSR2:
        lame_begin(s);
        break;
    case SIGTERM:
        if (s->lame && !s->stop)
            break; /* as nats-server does it: the lame duck goes on */
        /* fall through */
    default:
        begin_to_stop(s, number);
    }
}

static void read_signals(struct supervisor *s) {
    struct signalfd_siginfo info;
    while (read(s->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        on_signal(s, (int)info.ssi_signo);
}

/* When a child that does not run is to be started; 0: not by time. Where its handler could not start it at that time, something
 * else will. */
static uint64_t start_due(const struct supervisor *s, const struct child *c) {
    return c->role && !c->pid && !s->stop ? c->restart_ms : 0;
}

static void start_due_children(struct supervisor *s) {
    for (uint32_t i = 0; i < FAMILY_UIDS; i++) {
        struct child *c = &s->child[i];
        uint64_t due = start_due(s, c);
        if (due && due <= s->now_ms)
            c->handlers->start(s, c);
    }
}

/* The whole family, in the order of its table. */
static void start_family(struct supervisor *s) {
    for (uint32_t turn = 1; turn <= FAMILY_ROLE_END; turn++) {
        for (uint32_t i = 0; i < FAMILY_UIDS; i++) {
            struct child *c = &s->child[i];
            if (c->role && c->role->start == turn)
                c->handlers->start(s, c);
        }
    }
}

static void earlier(uint64_t *a, uint64_t b) {
    if (b && b < *a)
        *a = b;
}

/* Does what is due; returns how long to wait for the next, in milliseconds, -1: no time is set. */
static int run_timers(struct supervisor *s) {
    uint64_t next = UINT64_MAX;
    start_due_children(s);
    for (uint32_t i = 0; i < FAMILY_UIDS; i++) {
        if (start_due(s, &s->child[i]) > s->now_ms)
            earlier(&next, s->child[i].restart_ms);
    }
    earlier(&next, places_tick(&s->places, s->now_ms));
    earlier(&next, logging_tick(s));
    earlier(&next, parts_tick(s));
    earlier(&next, reload_tick(s));
    earlier(&next, lame_tick(s));
    earlier(&next, notify_tick(s->now_ms));
    earlier(&next, watch_tick(s));
    if (s->stop) {
        go_on_stopping(s);
        earlier(&next, s->stop == STOP_EDGES ? s->stop_edges_ms : s->stop_all_ms);
    }
    if (next == UINT64_MAX)
        return -1;
    return next <= s->now_ms ? 1 : next - s->now_ms > 60000 ? 60000 : (int)(next - s->now_ms);
}

/* What a smaller max_connections has closed in this turn, in one line. */
static void say_shed(struct supervisor *s) {
    if (s->shed_count)
        log_info("Closed %u connections to fall within max_connections", s->shed_count);
    s->shed_count = 0;
}

/* The machine stood still, or nobody else ran either: who owes an answer gets that time on top. */
static void forgive(struct supervisor *s, uint64_t late_ms) {
    if (late_ms < LATE_MS)
        return;
    s->reload.until_ms += late_ms;
    places_forgive(&s->places, late_ms);
}

/* What the parts of the supervisor have asked for in this turn. */
static void act_on_marks(struct supervisor *s) {
    if (s->lost[0])
        give_up(s);
    if (s->stop_wanted && !s->stop)
        begin_to_stop(s, s->stop_wanted);
    s->stop_wanted = 0;
    if (!s->announced && !s->stop && s->frontend_count)
        announce(s);
    say_shed(s);
}

/* A reload may wait for an answer that will never come. */
static void on_exit_event(struct supervisor *s, struct child *c) {
    if (!child_on_exit(s, c))
        return;
    reload_on_exit(s, c);
    reload_go_on(s);
}

static void turn(struct supervisor *s) {
    struct epoll_event events[64];
    int timeout_ms = run_timers(s);
    uint64_t due_ms = timeout_ms < 0 ? UINT64_MAX : clock_mono_ms() + (uint64_t)timeout_ms;
    int count = epoll_wait(s->epoll_fd, events, 64, timeout_ms);
    s->now_ms = clock_mono_ms();
    if (s->now_ms > due_ms)
        forgive(s, s->now_ms - due_ms);
    for (int i = 0; i < count; i++) {
        uint64_t from = events[i].data.u64;
        if (from == FROM_SIGNALS)
            read_signals(s);
        else if (from & 1)
            on_exit_event(s, &s->child[from >> 1]);
        else
            child_on_control(s, &s->child[from >> 1], events[i].events);
    }
    act_on_marks(s);
}

/* Started with one of these closed, the next descriptor would take its place. */
static void fill_standard_descriptors(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            exit(1);
    }
}

int main(int argc, char **argv) {
    fill_standard_descriptors();
#ifndef BULKHEAD_SANITIZED
    prctl(PR_SET_DUMPABLE, 0);
#endif
    static struct supervisor s;
    s.stderr_fd = s.spawner.null_fd = s.memory_fd = -1;
    s.parts.secrets = s.reload.parts.secrets = SECRETS_NONE;
    s.argc = argc;
    s.argv = argv;
    enum flags_verdict verdict = flags_read(&s.flags, argc, argv);
    if (verdict == FLAGS_EXIT_0 || verdict == FLAGS_EXIT_1)
        return verdict == FLAGS_EXIT_0 ? 0 : 1;
    if (verdict == FLAGS_SIGNAL)
        return signals_send(s.flags.signal);
    notify_open();
    s.now_ms = clock_mono_ms();
    logging_open(&s);
    if (sodium_init() < 0)
        log_die("libsodium does not start");
    randombytes_buf(s.reload_key, sizeof s.reload_key);
    open_spawner(&s);
    lay_out_children(&s);
    open_loop(&s);
    read_config(&s, verdict == FLAGS_TEST);
    lay_out_links(&s);
    log_set(s.config.options.debug, s.config.options.trace);
    open_sink(&s);
    s.key = make_key();
    make_server_id(&s);
    settings_fill_from(&s.settings, &s.config.options);
    say_hello(&s);
    configure_spawner(&s);
    open_places(&s);
    check_addresses(&s);
    write_pid(&s);
    open_listeners(&s);
    make_memory(&s);
    open_signals(&s);

    watch_begin(&s);
    start_family(&s);
    while (true)
        turn(&s);
}
