/* SPDX-License-Identifier: Apache-2.0 */
/* frontend/frontend.h: one frontend's state.
 *
 * A frontend owns client sockets and one link to the router. One loop (frontend/main.c) does, again and again:
 *
 *   read sockets -> parse -> records into the ingress ring -> publish
 *   load consumed, load produced -> drain the egress ring -> format -> write sockets
 *   pass fences: lines that had to wait until the router had handled what came before them
 *
 * Who does what:
 *
 *   accept.c    new connections, places, connection ids, INFO
 *   delays.c    addresses whose new connections wait
 *   client.c    a connection's beginning, and the marks of its end
 *   turn.c      one turn of the loop
 *   ends.c      what has ended leaves every module, once a turn
 *   trace.c     log lines about a connection
 *   input.c     bytes to operations
 *   ops.c       operations to records
 *   faults.c    what cannot be an operation
 *   connect.c   CONNECT
 *   subs.c      subscriptions: slots, sids; the truth for a replay
 *   memory.c    what clients hold: its bounds, and who is closed when there is too much
 *   link.c      fences, windows, records that are owed (edge/ has the rings and the journal)
 *   egress.c    the router's records to protocol lines
 *   output.c    what waits to be written to a client
 *   timers.c    pings, deadlines, the end of a stall
 *   login.c     who a connection is: logins, and what follows from a verdict
 *   authd.c     the conversation with authd: policy, numbers, bindings and nonces ahead
 *   secrets.c   memory for credentials
 *   tls*.c      TLS; see tls.h
 *   replay.c    what a new router is told (edge/replay.h)
 *   control.c   what the supervisor says
 *   lame.c      a lame duck's end, and connections without a place
 *
 * An idle connection owns no buffer. A connection whose next step must wait (for a fence, a binding, the end of a stall, room
 * in the ring) is paused: its unparsed bytes stay in a buffer of its own, and its socket is not read.
 */
#ifndef FRONTEND_FRONTEND_H
#define FRONTEND_FRONTEND_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/list.h"
#include "base/pool.h"
#include "edge/journal.h"
#include "edge/link.h"
#include "edge/replay.h"
#include "ipc/channel.h"
#include "ipc/nonce.h"
#include "ipc/settings.h"
#include "nats/connect.h"
#include "nats/name.h"
#include "nats/parser.h"
#include "shm/binding.h"
#include "shm/commit.h"
#include "shm/counters.h"
#include "shm/record.h"
#include "shm/ring.h"

enum {
    READ_BYTES = 128 * 1024, /* the one read buffer */
    READ_HALF = READ_BYTES / 2,
    FLUSH_BYTES = 128 * 1024,   /* pending output of one client that is written at once */
    TURN_WRITE_BYTES = 8 << 20, /* bytes to all sockets in one turn; beyond it each client gets little */
    DRAIN_PLAIN = 4096,         /* records up to this size count in full towards DRAIN_BYTES, larger ones a quarter */
    DRAIN_BYTES = 64 * 1024,    /* egress bytes after which all dirty clients are written */
    GATE_BYTES = 4 << 20,       /* pending output that gates a client, if half of max_pending is not less */
    UNDER_WAY_BYTES = 64 << 20, /* bound of what all clients together may have beyond max_pending (output.c) */
    DRAINS_BYTES = 64 * 1024,   /* a gated client took so many bytes: RECORD_GATE_DRAINS */
    WINDOW_UNITS = 512 * 1024,  /* half of one client's window; a record costs its bytes and RECORD_UNITS */
    WINDOW_SHARED_UNITS = 32 * 1024, /* the same while other connections of this frontend send too */
    WINDOW_FIRST_UNITS = 4096,       /* of a new client, and when a publisher was stalled */
    WINDOW_DEAR_WORK = 8 << 20,      /* units of the router's work: a dearer window shrinks to one record */
    RECORD_UNITS = 64,              /* of a window, for each record beside its bytes */
    SUB_UNITS = 512,                 /* the same, in addition, for a SUB or UNSUB: they cost the router more */
    SHARED_MS = 50,                  /* after a second client was read, clients count as sharing the ring for so long */
    STALL_NO_MS = 100,               /* least time between two new beginnings of all windows, after stalls */
    SHARED_BYTES = 16 * 1024,        /* payloads of at least this size are shared by the clients that get them */
    SPREAD_SUBS = 32 * 1024,         /* from so many subscriptions on those of the next records are prefetched */
    STOCK = 64,                      /* bindings sealed ahead */
    NONCES = 256,                    /* nonces in hand */
    CHUNK = 1024,                    /* entries of one piece of a table */
    SLOTS_MAX = 16 * 1024 * CHUNK,
    LINGER_MS = 100,         /* for a refused connection's text */
    FENCE_BYTES = 16 * 1024, /* with so many bytes of lines behind a fence a PING waits for it to pass */
};

enum client_state {
    CLIENT_OPEN,   /* INFO is out; it has no identity yet */
    CLIENT_BOUND,  /* BIND was written: it has a number and an identity */
    CLIENT_ENDING, /* no more input is parsed; fails when its fence has passed and its output is written */
    CLIENT_FAILED, /* nothing is read, written or added any more; the end of the turn closes the socket (ends.c) */
    CLIENT_GONE,   /* the socket is closed; kept for a replay until CONN_FREE */
};

enum client_flag {
    CLIENT_PLACE = 1 << 0,       /* it holds a place of max_connections */
    CLIENT_WANTS_PLACE = 1 << 1, /* it has asked for a place: the parser stands still */
    CLIENT_CONNECTED = 1 << 2,   /* it has sent CONNECT */
    CLIENT_PINGED = 1 << 3,      /* its first PING was answered */
    CLIENT_STALLED = 1 << 4,     /* a STALL is in force: its socket is not read */
    CLIENT_DISARMED = 1 << 5,    /* EPOLLIN is off */
    CLIENT_BLOCKED = 1 << 6,     /* EPOLLOUT is on */
    CLIENT_GATED = 1 << 7,       /* its output is over the gate */
    CLIENT_GATE_TOLD = 1 << 8,   /* the router knows that it is gated */
    CLIENT_POLITE = 1 << 9,      /* it failed after its last text had been written */
    CLIENT_CLOSE_TOLD = 1 << 10, /* CLOSE was written */
    CLIENT_HALF = 1 << 11,       /* the client has closed its side */
    CLIENT_HELD = 1 << 12,       /* its parser stopped before an operation that must wait */
    CLIENT_COMPLAINED = 1 << 13, /* pedantic: the text for the operation that waits was queued */
    CLIENT_DRAINS = 1 << 14,     /* gated, and has taken so much that the router must hear of it */
    CLIENT_CHECKED = 1 << 15,    /* a login is out: the parser stands still */
    CLIENT_GREETED = 1 << 16,    /* it has had its first INFO; no other INFO has a nonce */
    CLIENT_TRACED = 1 << 17,     /* the operation that waits has its trace line */
    CLIENT_MEASURED = 1 << 18,   /* no memory for its next SUB: the SUB has waited once for removals that free some */
    CLIENT_SETTLED = 1 << 19,    /* gated, and the messages that were under way then have come */
};

struct blob; /* a shared payload, output.c */
struct tls;  /* tls.h, with the next two */
struct tls_context;
struct tls_signer;
struct Bulkhead__Tls; /* a protobuf message */

enum tls_next { TLS_NEXT_NONE, TLS_NEXT_GOOD, TLS_NEXT_BAD };

/* A stretch of output. */
struct piece {
    struct piece *next;
    struct blob *blob; /* null: the bytes are data[], or borrowed from the ring */
    const char *at;    /* first byte not yet written */
    uint32_t len;      /* not yet written */
    uint32_t cap;      /* of data[], 0 if the bytes lie elsewhere */
    char data[];
};

struct client {
    struct edge_conn edge; /* first; edge.number is EDGE_NO_NUMBER before BIND */
    int fd;          /* -1: closed */
    uint8_t state;   /* enum client_state */
    uint8_t options; /* enum record_options, as CONNECT asked */
    uint16_t peer_port;
    uint32_t flags;        /* enum client_flag */
    uint32_t first_sub;    /* head of the list over struct fsub's conn_next; 0: none (slots count from 1 here) */
    uint64_t cid;          /* the connection's id, as clients and log lines have it */
    uint64_t window_pos;   /* ingress position behind the last record of its previous half window */
    uint32_t window_units; /* used of the present half window */
    uint32_t window_cap;   /* units that it may send before the router must have handled all; 0: a whole window */
    uint64_t window_work;  /* ring_writer_work when the connection began to wait for its window */
    uint32_t stall_no;     /* f->stall_no when its window had become whole; 0: it is not whole */
    char *fence;           /* lines that wait for edge.last_pos to be consumed */
    uint32_t fence_len, fence_cap;
    uint32_t fence_asked;    /* fence_len when fence_owed was loaded */
    uint64_t fence_owed;     /* egress position that must be read first, because the link spills; 0: not loaded yet */
    uint32_t in_len, in_cap; /* bytes of `in` that were read and not parsed; bytes allocated */
    uint32_t in_need;        /* bytes that the next operation needs in all; 0: unknown */
    char *in;
    struct piece *out_first, *out_last;
    uint64_t out_bytes;                 /* not yet written */
    uint64_t sub_bytes, sub_bytes_most; /* price of its subscriptions, bytes: now, and the most that it ever was */
    uint32_t drained;                   /* gated: bytes taken since the router was last told */
    uint64_t gate_pos;                  /* gated: ingress position behind its GATE record */
    uint64_t settle_ms;  /* gated: when CLIENT_SETTLED is set if no message comes before; 0: none came yet */
    uint64_t under_way;  /* bytes beyond max_pending that do not end it (output.c) */
    uint64_t write_mark; /* out_bytes at the time of write_due that must be gone by then */
    uint32_t heap_at;    /* index in the timer heap + 1; 0: not there */
    uint8_t ping_out;    /* the server's PINGs that it has not answered */
    uint8_t protocol;    /* as CONNECT says */
    uint64_t due_ms;     /* the earliest of the four below */
    uint64_t ping_due_ms, write_due_ms, stall_due_ms, auth_due_ms; /* 0: none */
    uint64_t activity_ms, ping_sent_ms;
    /* One link for each list of struct frontend that it may be on. */
    struct list_link fenced, dirty, borrows, owes, ready, ended;
    struct list_link waits; /* the parser waits for a place, for a binding in stock or for room in its window */
    const char *reason;     /* static: why it ends, for the log */
    struct tls *tls;        /* null: plain */
    char *who;              /* `"vVERSION:LANG:NAME"` of CONNECT, or null */
    char *user;             /* `User "x"` or `Nkey "U..."` for log lines; null: it has sent no credentials */
    struct in6_addr peer;
    struct login *login;         /* the login that authd decides (login.c); null: none */
    char nonce[NONCE_CHARS + 1]; /* of its INFO; empty: INFO had none */
    struct binding binding;
};

/* One subscription, from SUB until SLOT_FREE. 36 bytes. */
struct fsub {
    uint32_t number;    /* of its connection; EDGE_NO_NUMBER: the slot is free, and conn_next is the next free one */
    uint32_t delivered; /* messages taken out of the egress ring since SUB */
    uint32_t max;       /* messages, as UNSUB asked; 0: no maximum */
    uint32_t conn_next, conn_prev, sid_next;
    uint16_t subject_len, queue_len, sid_len;
    bool outside;  /* the piece holds a pointer to the text instead of the text */
    uint32_t text; /* a piece of f->texts: sid, subject, queue */
};

/* A binding that was sealed ahead, for a connection without credentials. */
struct stock {
    uint32_t number; /* of the connection that it is for */
    struct binding binding;
};

struct nonce {
    char text[NONCE_CHARS];
    uint64_t until_ms; /* not shown to a client later than that */
};

/* How connections begin, as authd says. */
struct policy {
    bool known;                /* a Policy has come */
    bool auth_required, nonce; /* as INFO says */
    bool login;                /* CONNECT is sent to authd; false: connections take bindings from the stock */
    bool anonymous;            /* an operation before CONNECT is a login without credentials */
    int log_form;              /* Bulkhead__LogForm */
};

/* What was asked of authd for a connection number and not answered yet. */
enum asked_for { ASKED_NOTHING = 0, ASKED_STOCK, ASKED_LOGIN };
struct asked {
    enum asked_for what;
    struct client *client; /* of a login; null: the client has gone */
};
enum { LOGIN_POLICY = 0, LOGIN_OPEN }; /* states of the conversation */

struct frontend {
    struct settings settings;
    struct settings_change change; /* prepared, not yet in force */
    struct parse_limits limits;
    uint64_t gate_bytes, flush_bytes, pending_bytes; /* see control.c */
    struct counters *counters;
    struct hash_key hash;
    struct channel control, authd;
    bool have_settings, have_link, authd_open, go, stopping;
    uint32_t authd_polled; /* epoll events */
    int epoll;
    int listener;                         /* -1: none */
    bool listener_armed, listener_told;   /* watched now; NOTE_READY was sent */
    uint32_t sockets_max;                 /* clients that there are descriptors for */
    uint32_t rest_ms;                     /* the listener rests for so long after a failed accept; 0: it went well */
    uint64_t rest_until_ms, rest_told_ms; /* end of that rest; when a log line last told of one */
    struct policy policy;
    uint64_t now_ns, now_ms;

    /* the link */
    struct edge_link link;
    struct edge_journal journal; /* ids: slots as records carry them, numbers */
    struct edge_replay replay;
    bool again;              /* a fence may pass at once: one more turn before sleeping */

    /* connections by number */
    struct client **by_number;
    uint32_t *generation; /* last one used, by number */
    uint32_t number_high; /* numbers below have been used */
    uint32_t *number_free;
    uint32_t number_free_count;
    struct asked *asked; /* by number */
    struct stock stock[STOCK];
    uint32_t stock_count, stock_asked;
    struct nonce nonces[NONCES]; /* oldest first */
    uint32_t nonce_count;
    bool nonces_asked;

    /* subscriptions by slot - 1 */
    struct fsub **sub_chunk;
    uint32_t sub_high, sub_free, sub_count;
    uint32_t denied_slot; /* + 1, of the SUB that was refused last: what ends with it never was a subscription; 0: none */
    struct pool texts;
    uint64_t sub_bytes;      /* price of all subscriptions */
    uint64_t leaving_bytes;  /* price of those whose clients have gone: CONN_FREE ends them */
    uint64_t failing_bytes;  /* held by clients that memory.c has closed in this turn */
    uint64_t memory_next_ms; /* when memory.c may close the next client for memory that it holds unused */
    uint32_t **sid_chunk;    /* buckets of (connection, sid), linear hashing */
    uint32_t sid_buckets, sid_mask;

    uint64_t last_reader;     /* cid of the connection that was read last */
    uint64_t shared_until_ms; /* until then several connections count as sending; 0: one alone */
    uint64_t turn_written;    /* bytes written to sockets in this turn */
    uint64_t under_way;       /* sum of all clients' under_way, at most UNDER_WAY_BYTES */
    bool delivering;          /* messages are being added to outputs, not lines of the frontend's own */
    uint32_t stall_no;        /* grows with the first STALL in STALL_NO_MS; never 0 */
    uint64_t stall_no_ms;     /* from then on it may grow */
    /* Clients: */
    struct list fenced;                         /* whose line, or end, waits for the router */
    struct list dirty;                          /* with unwritten output */
    struct list borrowers;                      /* with output that lies in the egress ring */
    struct list owing;                          /* of which a GATE or CLOSE record must be written */
    struct list ready;                          /* with parsable bytes in their own buffers */
    struct list ended;                          /* that have ended since the last turn (ends.c) */
    struct list freed;                          /* gone, and freed by the router: their subscriptions are being dropped */
    struct list placeless, stockless, deferred; /* that wait for a place, a binding, room in the window */
    struct list asking, admitted; /* struct login: without a verdict; with a verdict that waits for room in the ring */
    struct client **heap;         /* by due_ms; room for every client with a socket is reserved */
    uint32_t heap_count, heap_cap;
    struct piece *free_small, *free_large;
    uint32_t free_small_count, free_large_count;

    uint64_t cid_next, cid_end, cid_then, cid_then_end; /* connection ids in hand: this block, the next block */
    bool cids_asked;
    uint32_t places, places_asked; /* free places in hand; places asked for */
    uint32_t shed; /* places that go back when connections end that were closed for a smaller max_connections */
    uint32_t client_count;

    struct tls_context *tls;      /* of new connections; null: they speak no TLS */
    struct tls_context *tls_next; /* holds from the Commit of tls_next_generation on; null: no TLS */
    uint32_t tls_next_generation;
    enum tls_next tls_next_state;
    uint32_t tls_rate_count; /* new handshakes until tls_rate_until_ms */
    uint64_t tls_rate_until_ms;
    struct tls_signer *signer; /* null before there was one */

    struct delays *delays; /* null: no address has to wait */

    bool lame, lame_told;
    uint64_t lame_due_ms, lame_due_ns; /* when the next client is closed; 0: never */
    uint32_t lame_pace_us;

    uint8_t names[2 * (RECORD_TEXT_MAX + 1) + NAME_PAD]; /* subject and reply of the record being delivered */
    char read[READ_BYTES];
    size_t read_left; /* bytes of read that input_wipe must wipe */
};

/* ---- link.c ---- */
/* As edge_link_put and edge_link_small, and the record counts in c's window. */
void link_put(struct frontend *f, struct client *c, uint64_t len);
bool link_small(struct frontend *f, struct client *c, enum record_type type, uint32_t aux);
/* An entry for the record that was put last; room is reserved before the record is made, so that none is without its entry. */
void link_journal(struct frontend *f, enum record_type type, uint32_t id, uint8_t old_flag, uint32_t old_max);
/* True if c may make another record. False: it has enough in the ring already and is woken when the router has come on; so
 * one connection's flood never makes the others wait long. */
bool link_window(struct frontend *f, struct client *c);
void link_window_pass(struct frontend *f);
/* c's window begins anew with so many units, because a stall ended or its records are dear. It doubles as long as the router is
 * fast. */
void link_window_begin(struct client *c, uint32_t units);
/* Text that goes out when all records of c have been consumed and what they caused has been delivered. */
void fence_add(struct frontend *f, struct client *c, const char *text, size_t len);
/* True if a line that makes no record may join the fence that stands. False: its operation waits until that has passed. */
bool fence_takes(const struct frontend *f, const struct client *c, size_t len);
void fence_pass(struct frontend *f); /* after the egress ring was drained */
void owes(struct frontend *f, struct client *c);
void owes_pay(struct frontend *f);

/* ---- egress.c ---- */
void egress_run(struct frontend *f);

/* ---- output.c ---- */
/* What is added to a connection that has failed is dropped, and what cannot be added for lack of memory fails it.
 *
 * n contiguous bytes to write to; null: no memory. out_put makes them part of the output. Both only for one that has not failed. */
char *out_room(struct frontend *f, struct client *c, uint32_t n);
void out_put(struct frontend *f, struct client *c, uint32_t n);
void out_bytes(struct frontend *f, struct client *c, const void *bytes, uint32_t n);
struct blob *blob_make(const void *bytes, uint32_t n); /* one reference, the caller's; null: no memory */
void blob_drop(struct blob *b);
void out_blob(struct frontend *f, struct client *c, struct blob *b, uint32_t from, uint32_t n);
/* The same for bytes that stay where they are only until out_return_borrowed. */
void out_borrow(struct frontend *f, struct client *c, const void *bytes, uint32_t n);
void out_return_borrowed(struct frontend *f);
void out_flush(struct frontend *f, struct client *c);
void out_flush_dirty(struct frontend *f);
void out_drop(struct frontend *f, struct client *c);
uint64_t out_held(void); /* bytes of memory in all output */
uint64_t out_held_by(const struct client *c); /* its part; of what is shared its share */

/* ---- frontend.c ---- */
/* Tables and lists: before anything else is called. ERR_NOMEM. */
enum err frontend_open(struct frontend *f);

/* ---- turn.c ---- */
struct epoll_event;
void turn_event(struct frontend *f, const struct epoll_event *e);
void turn_once(struct frontend *f);

/* ---- client.c ---- */
struct client *client_new(struct frontend *f, int fd); /* null: no memory, or the socket cannot be watched */
/* The three ways to end are marks; ends_run does the rest. A client that has ended ends no second time, but one that is ending may
 * fail.
 *
 * With a text (or null) after all that came before, see nats/errors.h. reason: for the log, static. */
void client_error(struct frontend *f, struct client *c, const char *text, const char *reason);
/* Without a text, after everything that it sent has been handled and written. */
void client_finish(struct frontend *f, struct client *c, const char *reason);
/* Now: unwritten output is dropped. */
void client_fail(struct frontend *f, struct client *c, const char *reason);
void client_no_memory(struct frontend *f, struct client *c); /* client_fail, and counted */
bool client_paused(const struct client *c);
void client_wake(struct frontend *f, struct client *c); /* something that it waited for has come */
void client_sync_events(struct frontend *f, struct client *c); /* epoll follows the flags */

/* ---- ends.c ---- */
void ends_run(struct frontend *f); /* once a turn: what was marked leaves every module */
void ends_freed(struct frontend *f, struct client *c); /* CONN_FREE has come for one that is gone */
void ends_empty(struct frontend *f); /* once a turn: some subscriptions of those */

/* ---- trace.c ---- */
const char *client_user(const struct client *c); /* for log lines */
void client_log(const struct client *c, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Trace lines; only to be called when log_traces(). What the client sent: a PUB, HPUB, SUB or UNSUB; another line, which is cut
 * where JSON may begin in it; a CONNECT, of which only what is no secret is shown; a payload (len_max 0: all that a line holds). */
void client_trace(const struct client *c, struct view line);
void client_trace_other(const struct client *c, struct view line);
void client_trace_connect(const struct client *c, struct view line);
void client_trace_payload(const struct client *c, struct view payload, uint32_t len_max);
/* What it gets, one line or several; and that a subscription has ended. */
void client_trace_out(const struct client *c, struct view lines);
void client_trace_end(const struct client *c, struct view sid);
/* The first of bytes that are no operation, for an error line: quoted, without the quote at the beginning, cut where JSON may begin. */
enum { SNIPPET_BYTES = 32, SNIPPET_TEXT = 10 * SNIPPET_BYTES + 8 };
size_t client_snippet(char *out, size_t cap, struct view bytes);

/* ---- faults.c ---- */
/* What a client sent that cannot be: the log says which operation and what was wrong with it, and the connection ends.
 *
 * at: the bytes from the operation's beginning on, as far as they have come; line: as the parser left it. */
void fault_parse(struct frontend *f, struct client *c, enum parse_result why, const struct parse_line *line, struct view at);
void fault_payload_end(struct frontend *f, struct client *c, struct view at); /* at: behind the payload */
/* what: for the log. Without a text for the client. */
void fault_operation(struct frontend *f, struct client *c, const char *what);

/* ---- accept.c ---- */
void accept_prepare(struct frontend *f); /* looks at the limit of descriptors */
void accept_some(struct frontend *f);
/* The peer of a socket; IPv4: mapped. */
struct in6_addr accept_address(const struct sockaddr_storage *from, uint16_t *port);
/* Makes a connection of an accepted socket. False: not yet, something that every connection needs is not there. */
bool accept_begin(struct frontend *f, int fd, const struct sockaddr_storage *from);
void accept_arm(struct frontend *f); /* watches the listener, if all that a new connection needs is there */
void accept_disarm(struct frontend *f);
void accept_places(struct frontend *f, uint32_t count);
void accept_recall(struct frontend *f);
void accept_info(struct frontend *f, struct client *c);
enum { INFO_BYTES = 2048 };
size_t accept_info_line(const struct frontend *f, const struct client *c, char out[static INFO_BYTES]);
void accept_place_back(struct frontend *f, struct client *c);

/* ---- delays.c: nothing but delays_add and delays_count may be called while f->delays is null ---- */
enum err delays_add(struct frontend *f, const struct in6_addr *source, uint32_t wait_ms, uint32_t lasts_ms);
/* Takes an accepted socket over if its peer is to wait. */
bool delays_hold(struct frontend *f, int fd, const struct sockaddr_storage *from);
void delays_run(struct frontend *f); /* once a turn */
uint32_t delays_count(const struct frontend *f); /* sockets that wait */
uint64_t delays_due_ms(const struct frontend *f); /* when delays_run has something to do; 0: never */

/* ---- input.c ---- */
void input_read(struct frontend *f, struct client *c);
void input_resume(struct frontend *f);
void input_release(struct client *c); /* its own buffer goes, wiped; never while it is parsed */
uint64_t input_held(void); /* bytes of memory in all own buffers */
void input_wipe(struct frontend *f);    /* before sleeping: what may be secret in the read buffer */

/* ---- ops.c ---- */
enum op_result {
    OP_DONE,
    OP_SECRET, /* done, and its line may hold a credential */
    OP_PAUSE, /* cannot be done now; the same line again later */
    OP_ENDED, /* the connection ends */
};
enum op_result op_run(struct frontend *f, struct client *c, const struct parse_line *line, const char *payload);
/* A PUB or HPUB of which something is still to come: what is wrong with it so far is said at once. rest: what has come behind its
 * line. */
void op_announced(struct frontend *f, struct client *c, const struct parse_line *line, struct view rest);

/* ---- subs.c ---- */
/* Where that slot is kept, without a look at it; null beyond the table. */
const struct fsub *sub_hint(const struct frontend *f, uint32_t slot);
struct fsub *sub_at(const struct frontend *f, uint32_t slot); /* null beyond the table or free */
/* A new one; 0: no memory. */
uint32_t sub_make(struct frontend *f, struct client *c, const struct parse_line *line);
/* Slots of that connection and sid, newest first: the first one after `after` (0: from the start); 0: none. */
uint32_t sub_find(const struct frontend *f, uint32_t number, struct view sid, uint32_t after);
void sub_drop(struct frontend *f, uint32_t slot);
/* Drops at most *most subscriptions of a client, which need not be known by its number any more, and counts them off. True if none is
 * left. */
bool sub_drop_some(struct frontend *f, struct client *c, uint32_t *most);
static inline const char *sub_text(const struct frontend *f, const struct fsub *s) {
    const char *at = pool_at(&f->texts, s->text);
    if (unlikely(s->outside))
        memcpy(&at, at, sizeof at);
    return at;
}
static inline struct view sub_sid(const struct frontend *f, const struct fsub *s) {
    return view_of(sub_text(f, s), s->sid_len);
}
static inline struct view sub_subject(const struct frontend *f, const struct fsub *s) {
    return view_of(sub_text(f, s) + s->sid_len, s->subject_len);
}
static inline struct view sub_queue(const struct frontend *f, const struct fsub *s) {
    return view_of(sub_text(f, s) + s->sid_len + s->subject_len, s->queue_len);
}
/* What a subscription with so many bytes of text is charged for: never less than it takes. */
uint64_t sub_price(size_t text_len);

/* ---- memory.c ---- */
/* Would a subscription of that price be too much for the client or for this process? */
bool memory_refuses(const struct frontend *f, const struct client *c, uint64_t price);
void memory_leaves(struct frontend *f, struct client *c); /* it has gone; its subscriptions end when the router says so */
void memory_watch(struct frontend *f); /* beyond the process's limit: ends clients that hold most */

/* ---- timers.c ---- */
bool timers_reserve(struct frontend *f); /* room for one more connection; false: no memory */
void timers_renew(struct frontend *f); /* the due times of many have changed */
void timer_update(struct frontend *f, struct client *c); /* the client's due times have changed */
void timer_remove(struct frontend *f, struct client *c);
void timers_run(struct frontend *f);
int timers_wait_ms(const struct frontend *f); /* -1: none */
void ping_restart(struct frontend *f, struct client *c, bool first);

/* ---- connect.c ---- */
enum op_result connect_run(struct frontend *f, struct client *c, struct view json);
void connect_name(struct client *c, const struct connect *in); /* for log lines: language, version and name */
/* What CONNECT says takes effect, with the verdict on it (null: none was asked for). OP_PAUSE: no binding in stock or no room in
 * the ring; nothing has changed. */
enum op_result connect_take(struct frontend *f, struct client *c, struct connect *in, struct login *login);

/* ---- login.c ---- */
/* A connection that nobody has let in sends something that begins with this byte: may it be parsed? If not, a login is on its
 * way or the connection ends. */
bool login_gate(struct frontend *f, struct client *c, char first);
/* Asks authd; the parser stands still. in: null for a login without CONNECT; else its texts are taken and it is emptied. */
enum op_result login_ask(struct frontend *f, struct client *c, struct connect *in);
void login_ask_again(struct frontend *f);    /* what was asked of the authd before is not owed by this one */
void login_send_waiting(struct frontend *f); /* logins that found no authd, or no room */
void login_run(struct frontend *f);          /* verdicts that waited for room in the ring */
void login_drop(struct frontend *f, struct client *c); /* the connection ends */
uint64_t login_due_ms(const struct frontend *f);        /* for one that begins now; 0: no login is asked for */
void login_clock(struct frontend *f, struct client *c); /* the time for a login begins, if one is asked for */
void login_due(struct frontend *f, struct client *c);   /* it is over */
/* Says so in the log and ends the connection. Texts may be null. */
void login_refused(struct frontend *f, struct client *c, const char *user, const char *nkey);
void login_verdict(struct frontend *f, struct client *c, const struct binding *b);
void login_refusal(struct frontend *f, struct client *c, int why); /* Bulkhead__RefusalReason */
bool login_is_new(const struct client *c, const struct login *login); /* the verdict is another identity than c has */
enum op_result login_bind(struct frontend *f, struct client *c, struct login *login);
/* BIND and OPTIONS under that number, and before them CLOSE of the identity that c had. OP_PAUSE: no room; nothing has
 * changed. */
enum op_result identity_bind(struct frontend *f, struct client *c, uint32_t number, const struct binding *b);

/* ---- authd.c ---- */
enum err login_open(struct frontend *f, int fd);
void login_events(struct frontend *f);
void login_poll(struct frontend *f); /* epoll follows the backlog */
void login_refill(struct frontend *f);
bool login_can_greet(struct frontend *f); /* INFO can be written */
void login_greet(struct frontend *f, struct client *c); /* a nonce for its INFO, if it is to have one */
/* identity_bind with a binding from the stock; OP_PAUSE also if there is none yet. */
enum op_result login_stock_bind(struct frontend *f, struct client *c);
uint32_t number_take(struct frontend *f, enum asked_for what); /* in a new generation; EDGE_NO_NUMBER: none left */
void number_free(struct frontend *f, uint32_t number);

/* ---- tls.c, tls_sign.c ---- */
/* Before the sandbox: all that OpenSSL and the C library look at or load only once. */
enum err tls_prepare(void);
/* Takes fd over. at_once: it holds for new connections from now on; else from tls_commit of its generation on. An error
 * has been logged; one of settings that are not for now shows in tls_acceptable. */
enum err tls_message(struct frontend *f, const struct Bulkhead__Tls *m, int fd, bool at_once);
bool tls_acceptable(const struct frontend *f, uint32_t generation);
void tls_commit(struct frontend *f, uint32_t generation);
enum err tls_signer_open(struct frontend *f, int fd);
void tls_signer_events(struct frontend *f, uint32_t events);
/* A new connection where f->tls is set: INFO, then the handshake; or -ERR where there are too many. */
void tls_accept(struct frontend *f, struct client *c);
/* As recv: plain bytes, 0 at the client's end, -1 and errno (EAGAIN: nothing yet, or c has ended meanwhile). cap: 16 KB
 * at least. All of a record that was begun is returned. c->tls may be gone afterwards: the client speaks plainly. */
ssize_t tls_read(struct frontend *f, struct client *c, char *at, size_t cap);
bool tls_more(const struct tls *t);      /* the last read has left something that epoll does not know of */
bool tls_has_begun(const struct tls *t); /* false: what is written now goes out plainly */
/* As write, for one record's worth. */
ssize_t tls_write(struct client *c, const char *at, size_t len);
bool tls_wants_write(const struct tls *t); /* then tls_writable comes before anything else */
void tls_writable(struct frontend *f, struct client *c);
uint64_t tls_due_ms(const struct tls *t); /* 0: none */
void tls_due(struct frontend *f, struct client *c);
void tls_end(struct client *c, bool polite); /* polite: all output is out */
/* The client's own certificate, DER, where authd is to have it; else empty. */
struct view tls_certificate(const struct client *c);
/* Changes fields of INFO as TLS is configured. */
struct info;
void tls_describe(const struct frontend *f, struct info *info);

/* ---- replay.c ---- */
void replay_begin(struct frontend *f, uint32_t epoch);

/* ---- lame.c ---- */
void lame_begin(struct frontend *f, uint32_t wait_us, uint32_t pace_us); /* ipc/control.proto, LameDuck */
void lame_run(struct frontend *f); /* in every turn of a lame duck */
void lame_shed(struct frontend *f, uint32_t count, bool strangers); /* strangers: nobody has logged in on them */

/* ---- control.c ---- */
enum err control_open(struct frontend *f);
void control_events(struct frontend *f);

#endif
