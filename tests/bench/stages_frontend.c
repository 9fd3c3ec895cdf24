/* SPDX-License-Identifier: Apache-2.0 */
/* The frontend's stages: a frontend in this process, whose clients and router are played by hand.
 *
 *   parse_*  lines alone
 *   in_*     from bytes in a socket to published records: input_read(), link_publish()
 *   out_*    from DELIVER records to written sockets (of the null device): egress_run(), out_flush_dirty()
 */
#include <sys/epoll.h>
#include <sys/socket.h>

#include "frontend/frontend.h"
#include "ipc/control.pb-c.h"
#include "nats/json.h"
#include "tests/bench/stages.h"

enum { CLIENTS = 5, ALL = 512, FEW = 32, FEWER = 4 };

static struct frontend frontend;
static struct client *clients[CLIENTS];
static int peers[CLIENTS]; /* the clients' ends */
static struct ring_reader ingress;
static struct ring_writer egress;
static char payload[16384];

/* ---- a frontend and its clients ---- */

static void say(uint32_t client, const char *text, size_t len) {
    check(write(peers[client], text, len) == (ssize_t)len);
    input_read(&frontend, clients[client]);
    edge_link_publish(&frontend.link);
    check(clients[client]->in_len == 0 && clients[client]->state == CLIENT_BOUND);
}

static void give_client(uint32_t i) {
    struct frontend *f = &frontend;
    static const char hello[] = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true,\"no_responders\":true,"
                                "\"protocol\":1}\r\nSUB load.subject 1\r\n";
    int pair[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
    clients[i] = client_new(f, pair[0]);
    check(clients[i] != NULL);
    peers[i] = pair[1];
    f->number_high = i + 1;
    f->stock[f->stock_count++] = (struct stock){.number = i,
                                                .binding = {
                                                    .conn = i,
                                                    .generation = 1,
                                                }};
    say(i, hello, sizeof hello - 1);
    clients[i]->window_cap = 0; /* what it sends has shown itself to be cheap */
    clients[i]->stall_no = f->stall_no;
}

/* Settings and link come as in life, so that all that follows from them is there. */
static void play_supervisor(void) {
    struct frontend *f = &frontend;
    struct channel supervisor;
    struct settings settings = {.host = "0.0.0.0",
                                .server_id = "S",
                                .server_name = "S",
                                .max_payload = 1 << 20,
                                .max_control_line = 4096,
                                .max_pending = 64 << 20,
                                .ping_interval_ms = 120000,
                                .ping_max = 2,
                                .write_deadline_ms = 10000,
                                .auth_timeout_ms = 2000};
    Bulkhead__Settings settings_message;
    Bulkhead__Link link = BULKHEAD__LINK__INIT;
    int pair[2], fds[8], bells[4], counters;
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair) == 0);
    int far = fcntl(pair[1], F_DUPFD, 16);
    check(far >= 0 && dup2(pair[0], CONTROL_FD) == CONTROL_FD && control_open(f) == ERR_OK);
    check(channel_open(&supervisor, far, "frontend", NULL, 0, NULL, 1) == ERR_OK);
    check(memfd_make(&counters, "counters", sizeof(struct counters), 1) == ERR_OK);
    settings_fill(&settings_message, &settings);
    check(channel_send(&supervisor, MESSAGE_SETTINGS, &settings_message.base, &counters, 1) == ERR_OK);

    for (int i = 0; i < 6; i += 2)
        stage_ring_make(&fds[i]);
    stage_reader_open(&ingress, &fds[0]);
    stage_writer_open(&egress, &fds[2]);
    check(pipe2(&bells[0], O_NONBLOCK) == 0 && pipe2(&bells[2], O_NONBLOCK) == 0);
    fds[6] = bells[1];
    fds[7] = bells[2];
    link.kind = LINK_FRONTEND;
    link.incarnation = 1;
    link.fresh = true;
    check(channel_send(&supervisor, MESSAGE_LINK, &link.base, fds, 8) == ERR_OK);
    check(channel_send(&supervisor, MESSAGE_GO, NULL, NULL, 0) == ERR_OK);
    control_events(f);
    check(f->have_link && f->go);
}

static void open_frontend(void) {
    struct frontend *f = &frontend;
    check(frontend_open(f) == ERR_OK);
    f->now_ms = 1000;
    json_prepare();
    f->epoll = epoll_create1(0);
    check(f->epoll >= 0);
    if (f->epoll == CONTROL_FD) { /* that number is the supervisor's */
        f->epoll = fcntl(f->epoll, F_DUPFD, CONTROL_FD + 1);
        close(CONTROL_FD);
    }
    play_supervisor();
    for (uint32_t i = 0; i < CLIENTS; i++)
        give_client(i);
    stage_take_all(&ingress, RECORD_PUB);
    f->now_ms += 2 * SHARED_MS; /* from now on one of them sends alone */
    f->last_reader = clients[0]->cid;
}

/* The same, but what is written to clients goes nowhere. */
static void open_sink(void) {
    open_frontend();
    int sink = open("/dev/null", O_WRONLY);
    for (uint32_t i = 0; i < CLIENTS; i++)
        check(dup2(sink, clients[i]->fd) >= 0);
}

/* ---- lines ---- */

static char lines[128 * 1024];
static size_t lines_len;
static uint32_t messages;

static void make_lines(uint32_t count, const char *reply, uint32_t size) {
    messages = count;
    lines_len = 0;
    for (uint32_t i = 0; i < count; i++) {
        lines_len += (size_t)sprintf(lines + lines_len, "PUB load.subject %s%u\r\n", reply, size);
        memset(lines + lines_len, 'x', size);
        lines_len += size;
        memcpy(lines + lines_len, "\r\n", 2);
        lines_len += 2;
    }
    check(lines_len < sizeof lines);
}

static void open_lines_16(void) {
    open_frontend();
    make_lines(ALL, "", 16);
}

static void open_lines_128(void) {
    open_frontend();
    make_lines(ALL, "", 128);
}

static void open_lines_16k(void) {
    open_frontend();
    make_lines(FEWER, "", 16384);
}

static void open_lines_request(void) {
    open_frontend();
    make_lines(ALL, "_INBOX.load0000.0000000 ", 16);
}

static void nothing(void) {
}

static void parse(void) {
    for (size_t at = 0; at < lines_len;) {
        struct parse_line line;
        check(parser_next(lines + at, lines_len - at, &frontend.limits, &line) == PARSE_DONE);
        at += line.used + line.payload_len + 2;
    }
}

/* ---- in ---- */

static void write_lines(void) {
    check(write(peers[0], lines, lines_len) == (ssize_t)lines_len);
}

static void read_lines(void) {
    input_read(&frontend, clients[0]);
    edge_link_publish(&frontend.link);
}

static void take_records(void) {
    check(stage_take_all(&ingress, RECORD_PUB) == messages && clients[0]->in_len == 0);
    check(ring_writer_refresh(&frontend.link.ingress));
}

/* ---- out ---- */

static void deliver(uint32_t count, uint32_t targets, const char *reply, uint32_t size) {
    struct record_target target[CLIENTS];
    for (uint32_t i = 0; i < targets; i++)
        target[i] = (struct record_target){.conn = 1 + i, .slot = 1 + i};
    for (uint32_t i = 0; i < count; i++)
        stage_put(&egress,
                  (struct record){.type = RECORD_DELIVER, .payload_len = size, .target_count = (uint16_t)targets},
                  target, targets * (uint32_t)sizeof *target, "load.subject", reply, payload);
    ring_publish(&egress);
}

static void deliver_16(void) {
    deliver(ALL, 1, "", 16);
}

static void deliver_128(void) {
    deliver(ALL, 1, "", 128);
}

static void deliver_16k(void) {
    deliver(FEW, 1, "", 16384);
}

static void deliver_four(void) {
    deliver(ALL, 4, "", 128);
}

static void deliver_request(void) {
    deliver(ALL, 1, "_INBOX.load0000.0000000", 16);
}

static void write_deliveries(void) {
    frontend.turn_written = 0;
    egress_run(&frontend);
    out_flush_dirty(&frontend);
}

static void look_at_clients(void) {
    check(frontend.link.egress.tail_pos == egress.produced_pos);
    for (uint32_t i = 0; i < CLIENTS; i++)
        check(clients[i]->state == CLIENT_BOUND && clients[i]->out_bytes == 0);
}

static const struct stage stages[] = {
    {"parse_16", ALL, open_lines_16, nothing, parse, nothing},
    {"parse_request", ALL, open_lines_request, nothing, parse, nothing},
    {"in_16", ALL, open_lines_16, write_lines, read_lines, take_records},
    {"in_128", ALL, open_lines_128, write_lines, read_lines, take_records},
    {"in_16K", FEWER, open_lines_16k, write_lines, read_lines, take_records},
    {"in_request", ALL, open_lines_request, write_lines, read_lines, take_records},
    {"out_16", ALL, open_sink, deliver_16, write_deliveries, look_at_clients},
    {"out_128", ALL, open_sink, deliver_128, write_deliveries, look_at_clients},
    {"out_16K", FEW, open_sink, deliver_16k, write_deliveries, look_at_clients},
    {"out_1:4_128", ALL, open_sink, deliver_four, write_deliveries, look_at_clients},
    {"out_request", ALL, open_sink, deliver_request, write_deliveries, look_at_clients},
};

int main(int argc, char **argv) {
    return stage_main(stages, sizeof stages / sizeof *stages, argc, argv);
}
