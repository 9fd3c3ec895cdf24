/* SPDX-License-Identifier: Apache-2.0 */
/* ipc/channel.h: one conversation of protobuf messages over a Unix socket that keeps message borders (SOCK_SEQPACKET).
 *
 * A packet is a frame: 16-bit message type, 16-bit zero, then the message as protobuf. Each daemon has one table: which
 * type may come in which state, how long and with how many descriptors, and who handles it. What the table does not allow
 * ends the conversation.
 *
 * Unpacking is hostile ground: messages unpack into a fixed arena of the channel, and before a handler sees one it has been
 * walked once along its descriptor: no unknown field, no enum outside its names, no text type, no repeated field over
 * CHANNEL_REPEATED_MAX, no nesting deeper than CHANNEL_DEPTH_MAX.
 */
#ifndef IPC_CHANNEL_H
#define IPC_CHANNEL_H

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/err.h"

enum {
    CHANNEL_FRAME_MAX = 64 * 1024,
    CHANNEL_ARENA = 128 * 1024,
    CHANNEL_FDS_MAX = 16,
    CHANNEL_REPEATED_MAX = 1024,
    CHANNEL_DEPTH_MAX = 4,
};

/* Types of all conversations; the values are on the wire. */
enum message_type {
    MESSAGE_KEY = 1,
    MESSAGE_SETTINGS,
    MESSAGE_LINK,
    MESSAGE_KERNEL,
    MESSAGE_BEGIN,
    MESSAGE_REPLAY,
    MESSAGE_LINK_DOWN,
    MESSAGE_GO,
    MESSAGE_LISTENER,
    MESSAGE_CIDS,
    MESSAGE_PLACES,
    MESSAGE_RECALL,
    MESSAGE_PEER,
    MESSAGE_BOOK,
    MESSAGE_LOG_PIPE,
    MESSAGE_STOP,
    MESSAGE_SINK,
    MESSAGE_PREPARE,
    MESSAGE_COMMIT,
    MESSAGE_LAME_DUCK,
    MESSAGE_SHED,
    MESSAGE_AUTH_PART,
    MESSAGE_KEYS,
    MESSAGE_TLS,
    MESSAGE_POKE,
    MESSAGE_DELAY,
    MESSAGE_POLICY = 32,
    MESSAGE_LOGIN,
    MESSAGE_BOUND,
    MESSAGE_REFUSAL,
    MESSAGE_WANT_NONCES,
    MESSAGE_NONCES,
    MESSAGE_CANCEL,
    MESSAGE_BOOK_GROWN = 48,
    MESSAGE_BOOK_READ,
};

struct channel;

/* fds: fd_count descriptors, now the handler's to close. message lies in the arena and is gone after the return. An error
 * other than ERR_OK ends the conversation. */
typedef enum err channel_handler(struct channel *c, void *owner, const void *message, const int *fds);

struct channel_rule {
    uint16_t type;      /* enum message_type */
    uint16_t fd_count;  /* exactly so many descriptors */
    uint32_t states;    /* bit mask: 1 << state for each state in which it may come */
    uint32_t bytes_max; /* of the packed message */
    const ProtobufCMessageDescriptor *shape;
    channel_handler *handle;
};

struct channel {
    int fd;           /* non-blocking; -1: closed */
    const char *peer; /* for log lines, static text */
    const struct channel_rule *rules;
    uint32_t rule_count;
    uint32_t state; /* set by the owner; below 32 */
    void *owner;
    struct channel_arena *arena;
    /* Frames that the socket had no room for, in order. Beyond CHANNEL_BACKLOG_MAX bytes a send fails. */
    struct channel_packet *backlog, **backlog_end;
    uint32_t backlog_bytes;
    int epoll; /* of channel_watch; -1: the owner polls */
    union epoll_data epoll_data;
};

enum { CHANNEL_BACKLOG_MAX = 4 << 20 };

/* Takes fd over (makes it non-blocking, and closed to descriptors where accept_fds is false and the kernel can do that; a fd
 * that is non-blocking already was prepared by the supervisor and is taken as it is, without a call that a filter forbids).
 * No rule's shape may hold text or nest deeper than CHANNEL_DEPTH_MAX. Without rules nothing can be received. rules and peer
 * must outlive the channel. ERR_NOMEM: fd stays the caller's. */
enum err channel_open(struct channel *c, int fd, const char *peer, const struct channel_rule *rules,
                      uint32_t rule_count, void *owner, int accept_fds);
void channel_close(struct channel *c);

/* Sends one message (null: a message without fields), with descriptors that stay the caller's. A message that the
 * socket has no room for is kept, its descriptors duplicated. ERR_LONG, ERR_END, ERR_SYSTEM. */
enum err channel_send(struct channel *c, enum message_type type, const ProtobufCMessage *message, const int *fds,
                      int fd_count);

/* Watches the channel in an epoll set from now on: for packets, and for room while messages are kept. channel_receive sends the kept
 * messages. ERR_SYSTEM. */
enum err channel_watch(struct channel *c, int epoll, union epoll_data data);

/* Sends bytes that are no frame, as channel_send (ipc/note.h). */
enum err channel_send_bytes(struct channel *c, const void *bytes, size_t len);

/* Sends kept messages. True if some are still waiting (poll for writing). */
int channel_flush(struct channel *c);

/* Receives and handles at most `most` packets. ERR_OK: no further packet is there, or `most` is reached. ERR_END: the other side closed.
 * Anything else: the conversation must end; a log line has said why. Descriptors of a refused packet are closed. */
enum err channel_receive(struct channel *c, int most);

/* The check of one unpacked message, as described above; for tests and fuzzing. */
enum err channel_check(const ProtobufCMessage *message);

#endif
