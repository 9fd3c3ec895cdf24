/* SPDX-License-Identifier: Apache-2.0 */
/* A real bulkhead-frontend and a real bulkhead-signer in a hand-made family: this program plays their supervisor, the
 * router (tests/support) and an authd that lets everybody in.
 *
 *   tls_world FOLDER LOG      FOLDER: of the executables; LOG: gets the lines of both
 *
 * Commands come on stdin, one a line, and each is answered by one line on stdout:
 *
 *   tls WORD...         the first one starts the family and answers `port N frontend PID signer PID`; a later one is a
 *                       reload and answers `applied` or `refused`. Words: key=FILE (the first of several is used),
 *                       chain=FILE, ca=FILE, ciphers=, groups=, pin=HEX, verify, map, timeout=MS, rate=N,
 *                       allow_non_tls, first, first_after=MS, quiet (no debug lines)
 *   signer stop|start   kills it; starts another one
 *   pause, resume       places for connections are withheld; given out again
 *   counters            `NAME=VALUE ...` of both processes
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "ipc/auth.pb-c.h"
#include "ipc/channel.h"
#include "ipc/control.pb-c.h"
#include "ipc/note.h"
#include "ipc/settings.h"
#include "ipc/sign.h"
#include "shm/memfd.h"
#include "tests/support/edge.h"

enum { RING_BYTES = 8 << 20, PEM_MAX = 256 * 1024, WAIT_MS = 60000 };

struct process {
    pid_t pid;
    struct channel control;
    int counters_fd;
    struct counters *counters;
    bool ready, prepared, applied;
    uint64_t refusal;
};

static struct {
    const char *folder;
    int log_fd, listener;
    uint16_t port;
    struct world world;
    struct settings settings;
    struct process frontend, signer;
    struct channel authd;
    uint64_t next_cid;
    uint32_t places_wanted;
    bool started, paused;
} family;

/* ---- parts ---- */

static int memory_with(const void *bytes, size_t len) {
    int fd;
    check(memfd_make(&fd, "test", len ? len : 1, 0) == ERR_OK);
    check(pwrite(fd, bytes, len, 0) == (ssize_t)len);
    int reader;
    check(memfd_reader(&reader, fd) == ERR_OK);
    close(fd);
    return reader;
}

static size_t read_file(const char *path, char *out, size_t cap) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    check(fd >= 0);
    ssize_t n = read(fd, out, cap);
    check(n >= 0 && (size_t)n < cap);
    close(fd);
    return (size_t)n;
}

static struct process spawn(const char *name) {
    struct process p = {0};
    int ends[2];
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", family.folder, name);
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    p.pid = fork();
    check(p.pid >= 0);
    if (p.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGPIPE, SIG_IGN);
        check(dup2(family.log_fd, 2) == 2 && dup2(ends[1], CONTROL_FD) == CONTROL_FD);
        execl(path, name, NULL);
        _exit(127);
    }
    close(ends[1]);
    check(channel_open(&p.control, ends[0], name, NULL, 0, NULL, 0) == ERR_OK);
    void *at;
    check(memfd_make(&p.counters_fd, "counters", sizeof(struct counters), 0) == ERR_OK);
    check(memfd_map(&at, p.counters_fd, sizeof(struct counters), 1) == ERR_OK);
    p.counters = at;
    return p;
}

static void tell(struct process *p, enum message_type type, const void *message, const int *fds, int fd_count) {
    check(channel_send(&p->control, type, message, fds, fd_count) == ERR_OK);
    for (int i = 0; i < fd_count; i++)
        close(fds[i]);
}

static void tell_settings(struct process *p, enum message_type type) {
    Bulkhead__Settings m;
    settings_fill(&m, &family.settings);
    int fds[1] = {type == MESSAGE_SETTINGS ? dup(p->counters_fd) : -1};
    tell(p, type, &m, fds, type == MESSAGE_SETTINGS);
}

/* ---- what the command `tls` says ---- */

struct parts {
    Bulkhead__Tls tls;
    char keys[PEM_MAX], pem[2 * PEM_MAX];
    size_t keys_len;
    uint32_t key_count;
    ProtobufCBinaryData pins[16];
    uint8_t pin[16][32];
    char ciphers[512], groups[512];
};

static void put_u32(char *at, uint32_t n) {
    memcpy(at, &n, sizeof n);
}

static void add_key(struct parts *p, const char *path) {
    size_t n = read_file(path, p->keys + p->keys_len + 8, sizeof p->keys - p->keys_len - 8);
    put_u32(p->keys + p->keys_len, ++p->key_count);
    put_u32(p->keys + p->keys_len + 4, (uint32_t)n);
    p->keys_len += 8 + n;
}

static void add_pin(struct parts *p, const char *hex) {
    size_t n = p->tls.n_pins++;
    check(n < 16 && strlen(hex) == 64);
    for (int i = 0; i < 32; i++)
        check(sscanf(hex + 2 * i, "%2hhx", &p->pin[n][i]) == 1);
    p->pins[n] = (ProtobufCBinaryData){32, p->pin[n]};
}

static ProtobufCBinaryData bytes(char *copy, const char *text) {
    return (ProtobufCBinaryData){(size_t)sprintf(copy, "%s", text), (uint8_t *)copy};
}

static void take_word(struct parts *p, const char *name, const char *value, const char **chain, const char **ca) {
    Bulkhead__Tls *t = &p->tls;
    if (strcmp(name, "key") == 0)
        add_key(p, value);
    else if (strcmp(name, "chain") == 0)
        *chain = value;
    else if (strcmp(name, "ca") == 0)
        *ca = value;
    else if (strcmp(name, "ciphers") == 0)
        t->ciphers = bytes(p->ciphers, value);
    else if (strcmp(name, "groups") == 0)
        t->groups = bytes(p->groups, value);
    else if (strcmp(name, "pin") == 0)
        add_pin(p, value);
    else if (strcmp(name, "verify") == 0)
        t->verify = true;
    else if (strcmp(name, "map") == 0)
        t->map = true;
    else if (strcmp(name, "allow_non_tls") == 0)
        t->allow_non_tls = true;
    else if (strcmp(name, "quiet") == 0)
        family.settings.debug = false;
    else if (strcmp(name, "first") == 0)
        t->first = true;
    else if (strcmp(name, "timeout") == 0)
        t->timeout_ms = (uint32_t)atoi(value);
    else if (strcmp(name, "rate") == 0)
        t->rate_limit = (uint32_t)atoi(value);
    else if (strcmp(name, "first_after") == 0)
        t->first_after_ms = (uint32_t)atoi(value);
    else
        check(!"an option of the command `tls`");
}

static void read_parts(struct parts *p, char *words) {
    bulkhead__tls__init(&p->tls);
    const char *chain = NULL, *ca = NULL;
    p->keys_len = 4;
    p->key_count = 0;
    p->tls.pins = p->pins;
    p->tls.timeout_ms = 2000;
    p->tls.key = 1;
    p->tls.generation = family.settings.generation;
    for (char *word; (word = strsep(&words, " "));) {
        char *value = strchr(word, '=');
        if (value)
            *value++ = '\0';
        if (*word)
            take_word(p, word, value, &chain, &ca);
    }
    put_u32(p->keys, p->key_count);
    p->tls.chain_bytes = chain ? (uint32_t)read_file(chain, p->pem, PEM_MAX) : 0;
    p->tls.ca_bytes = ca ? (uint32_t)read_file(ca, p->pem + p->tls.chain_bytes, PEM_MAX) : 0;
}

static struct parts parts, held; /* what the last command said; what holds, also for a new signer */

static void tell_keys(const struct parts *p) {
    Bulkhead__Keys m = BULKHEAD__KEYS__INIT;
    m.generation = p->tls.generation;
    int fd = memory_with(p->keys, p->keys_len);
    tell(&family.signer, MESSAGE_KEYS, &m, &fd, 1);
}

static void tell_tls(void) {
    int fd = memory_with(parts.pem, parts.tls.chain_bytes + parts.tls.ca_bytes);
    tell(&family.frontend, MESSAGE_TLS, &parts.tls, &fd, 1);
}

/* ---- authd ---- */

static enum err on_login(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)owner, (void)fds;
    const Bulkhead__Login *m = message;
    struct edge *e = &family.world.edge[0];
    struct binding b = {.kind = LINK_FRONTEND,
                        .link = 0,
                        .incarnation = e->incarnation,
                        .conn = m->conn,
                        .generation = m->generation,
                        .serial = ++family.world.serial,
                        .issued_s = clock_wall_s(),
                        .account = 1,
                        .principal = 1,
                        .payload_max = family.settings.max_payload};
    binding_seal(&b, &family.world.key);
    Bulkhead__Bound bound = BULKHEAD__BOUND__INIT;
    bound.id = m->id;
    bound.sealed = (ProtobufCBinaryData){sizeof b, (uint8_t *)&b};
    bound.payload_max = b.payload_max;
    return channel_send(c, MESSAGE_BOUND, &bound.base, NULL, 0);
}

static const struct channel_rule authd_rules[] = {{MESSAGE_LOGIN, 0, 1, 512, &bulkhead__login__descriptor, on_login}};

static void introduce(struct process *to, Bulkhead__Role role, int fd) {
    Bulkhead__Peer m = BULKHEAD__PEER__INIT;
    m.role = role;
    m.kind = role == BULKHEAD__ROLE__ROLE_FRONTEND ? LINK_FRONTEND : 0;
    m.incarnation = role == BULKHEAD__ROLE__ROLE_FRONTEND ? family.world.edge[0].incarnation : 0;
    tell(to, MESSAGE_PEER, &m, &fd, 1);
}

static void introduce_authd(void) {
    int ends[2];
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    check(channel_open(&family.authd, ends[0], "frontend", authd_rules, 1, NULL, 0) == ERR_OK);
    Bulkhead__Policy policy = BULKHEAD__POLICY__INIT;
    policy.anonymous = true;
    policy.log_form = BULKHEAD__LOG_FORM__LOG_PLAIN;
    check(channel_send(&family.authd, MESSAGE_POLICY, &policy.base, NULL, 0) == ERR_OK);
    introduce(&family.frontend, BULKHEAD__ROLE__ROLE_AUTHD, ends[1]);
}

/* ---- the loop ---- */

static void give_cids(void) {
    Bulkhead__Cids m = BULKHEAD__CIDS__INIT;
    m.first = family.next_cid;
    m.count = 100000;
    family.next_cid += m.count;
    tell(&family.frontend, MESSAGE_CIDS, &m, NULL, 0);
}

static void take_note(struct process *p, const struct note *n) {
    if (n->type == NOTE_READY || n->type == NOTE_MAPPED) {
        p->ready = true;
    } else if (n->type == NOTE_PREPARED) {
        p->prepared = true;
        p->refusal = n->value;
    } else if (n->type == NOTE_APPLIED) {
        p->applied = true;
    } else if (n->type == NOTE_WANT_CIDS) {
        give_cids();
    } else if (n->type == NOTE_WANT_PLACES) {
        family.places_wanted++;
    }
}

static void give_places(void) {
    while (family.places_wanted > 0 && !family.paused) {
        Bulkhead__Places m = BULKHEAD__PLACES__INIT;
        m.count = 100;
        tell(&family.frontend, MESSAGE_PLACES, &m, NULL, 0);
        family.places_wanted--;
    }
}

static void take_notes(struct process *p) {
    struct note n;
    enum err e = ERR_OK;
    while (p->pid && (e = note_receive(p->control.fd, &n)) == ERR_OK)
        take_note(p, &n);
    if (e != ERR_AGAIN && e != ERR_OK) {
        fprintf(stderr, "a process has ended: %s\n", err_text(e));
        exit(1);
    }
}

/* One turn; waits for events a moment. True: a command has come. */
static bool turn(void) {
    struct world *w = &family.world;
    struct pollfd fds[5] = {{.fd = 0, .events = POLLIN}};
    nfds_t count = 1;
    if (family.started) {
        fds[count++] = (struct pollfd){.fd = family.frontend.control.fd, .events = POLLIN};
        fds[count++] = (struct pollfd){.fd = family.authd.fd, .events = POLLIN};
        fds[count++] = (struct pollfd){.fd = w->edge[0].bell_to_router[0], .events = POLLIN};
        if (family.signer.pid)
            fds[count++] = (struct pollfd){.fd = family.signer.control.fd, .events = POLLIN};
    }
    bool worked = false;
    for (int i = 0; w->router && i < 100; i++) {
        w->now = clock_mono_ns();
        w->wall = clock_wall_s();
        if (!world_step(w))
            break;
        worked = true;
    }
    poll(fds, count, !family.started ? -1 : worked ? 0 : 5);
    char bells[256];
    if (family.started) {
        if (read(w->edge[0].bell_to_router[0], bells, sizeof bells) < 0)
            check(errno == EAGAIN);
        take_notes(&family.frontend);
        if (family.signer.pid)
            take_notes(&family.signer);
        if (channel_receive(&family.authd, 64) != ERR_OK)
            exit(1);
        give_places();
    }
    return fds[0].revents != 0;
}

static void wait_for(const bool *what) {
    uint64_t until = clock_mono_ms() + WAIT_MS;
    while (!*what) {
        turn();
        check(clock_mono_ms() < until);
    }
}

/* ---- commands ---- */

static void start_signer(void) {
    family.signer = spawn("bulkhead-signer");
    tell_settings(&family.signer, MESSAGE_SETTINGS);
    tell_keys(&held);
    int ends[2];
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    introduce(&family.signer, BULKHEAD__ROLE__ROLE_FRONTEND, ends[0]);
    introduce(&family.frontend, BULKHEAD__ROLE__ROLE_SIGNER, ends[1]);
}

static void stop_signer(void) {
    int status;
    kill(family.signer.pid, SIGKILL);
    check(waitpid(family.signer.pid, &status, 0) == family.signer.pid);
    channel_close(&family.signer.control);
    close(family.signer.counters_fd);
    family.signer.pid = 0;
}

static void listen_somewhere(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    family.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    check(family.listener >= 0 && bind(family.listener, (struct sockaddr *)&a, len) == 0);
    check(setsockopt(family.listener, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int)) == 0); /* clients inherit it */
    check(listen(family.listener, 4096) == 0 && getsockname(family.listener, (struct sockaddr *)&a, &len) == 0);
    family.port = ntohs(a.sin_port);
}

static void tell_link(void) {
    struct edge *e = &family.world.edge[0];
    Bulkhead__Link m = BULKHEAD__LINK__INIT;
    m.kind = LINK_FRONTEND;
    m.incarnation = e->incarnation;
    m.fresh = true;
    int fds[8];
    for (int i = 0; i < 6; i++)
        fds[i] = dup(e->fds[i]);
    fds[6] = dup(e->bell_to_router[1]);
    fds[7] = dup(e->bell_to_edge[0]);
    tell(&family.frontend, MESSAGE_LINK, &m, fds, 8);
}

static void start_family(void) {
    held = parts;
    listen_somewhere();
    family.settings.port = family.port;
    family.frontend = spawn("bulkhead-frontend");
    tell_settings(&family.frontend, MESSAGE_SETTINGS);
    tell_tls();
    tell_link();
    Bulkhead__Listener listener = BULKHEAD__LISTENER__INIT;
    int fd = dup(family.listener);
    tell(&family.frontend, MESSAGE_LISTENER, &listener, &fd, 1);
    give_cids();
    introduce_authd();
    start_signer();
    Bulkhead__Go go = BULKHEAD__GO__INIT;
    family.places_wanted = 1;
    tell(&family.frontend, MESSAGE_GO, &go, NULL, 0);
    family.started = true;
    wait_for(&family.frontend.ready);
    family.frontend.ready = false;
    wait_for(&family.frontend.ready);
    wait_for(&family.signer.ready);
    printf("port %u frontend %d signer %d\n", family.port, family.frontend.pid, family.signer.pid);
}

static bool prepare(struct process *p) {
    p->prepared = p->applied = false;
    tell_settings(p, MESSAGE_PREPARE);
    wait_for(&p->prepared);
    return p->refusal == SETTINGS_FINE;
}

static void commit(struct process *p) {
    Bulkhead__Commit m = BULKHEAD__COMMIT__INIT;
    m.generation = family.settings.generation;
    tell(p, MESSAGE_COMMIT, &m, NULL, 0);
    wait_for(&p->applied);
}

static void reload(void) {
    tell_keys(&parts);
    tell_tls();
    bool fine = prepare(&family.frontend);
    fine &= prepare(&family.signer);
    if (fine) {
        commit(&family.frontend);
        commit(&family.signer);
        held = parts;
    }
    puts(fine ? "applied" : "refused");
}

static void counters(void) {
    static const char *const names[] = {
#define X(name, text) #name,
        COUNTER_TABLE(X)
#undef X
    };
    for (int i = 0; i < COUNTER_COUNT; i++) {
        bool signs = i == COUNTER_SIGNATURES || i == COUNTER_SIGNATURES_REFUSED;
        const struct process *p = signs ? &family.signer : &family.frontend;
        printf("%s=%llu ", names[i], (unsigned long long)counter_get(p->counters, (enum counter)i));
    }
    puts("");
}

static void command(char *line) {
    if (strncmp(line, "tls ", 4) == 0) {
        family.settings.generation++;
        read_parts(&parts, line + 4);
        if (family.started)
            reload();
        else
            start_family();
    } else if (strcmp(line, "signer stop") == 0) {
        stop_signer();
        puts("stopped");
    } else if (strcmp(line, "signer start") == 0) {
        start_signer();
        printf("signer %d\n", family.signer.pid);
    } else if (strcmp(line, "pause") == 0 || strcmp(line, "resume") == 0) {
        family.paused = *line == 'p';
        puts(line);
    } else if (strcmp(line, "counters") == 0) {
        counters();
    } else {
        check(!"a command");
    }
    fflush(stdout);
}

int main(int argc, char **argv) {
    static char line[8192];
    check(argc == 3);
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    family.folder = argv[1];
    family.log_fd = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    family.next_cid = 1;
    family.authd.fd = -1;
    check(family.log_fd >= 0);
    world_make(&family.world, 1, RING_BYTES, 1 << 20);
    family.world.edge[0].paused = true; /* the frontend is the edge */
    family.settings = family.world.settings;
    family.settings.max_pending = 64 << 20;
    family.settings.ping_interval_ms = 120000;
    family.settings.ping_max = 2;
    family.settings.write_deadline_ms = 10000;
    family.settings.auth_timeout_ms = 3000;
    family.settings.debug = true;
    strcpy(family.settings.server_id, "NTLS");
    strcpy(family.settings.server_name, "NTLS");
    strcpy(family.settings.host, "127.0.0.1");
    world_begin(&family.world);
    size_t len = 0;
    for (;;) {
        if (!turn())
            continue;
        ssize_t n = read(0, line + len, sizeof line - 1 - len);
        if (n <= 0)
            break;
        len += (size_t)n;
        line[len] = '\0';
        for (char *end; (end = strchr(line, '\n'));) {
            *end = '\0';
            command(line);
            len -= (size_t)(end + 1 - line);
            memmove(line, end + 1, len + 1);
        }
    }
    world_free(&family.world);
    return 0;
}
