/* SPDX-License-Identifier: Apache-2.0 */
/* Packets in, checked messages out.
 *
 * What keeps a hostile peer small: a packet has a fixed largest size; it unpacks into an arena that just ends (so tiny
 * sub-messages and unknown fields cannot grow); the shape of every rule is walked once at the start and may not be
 * recursive, so unpacking cannot go deeper than CHANNEL_DEPTH_MAX; then the message is walked before its handler sees
 * it. Arena and packet are wiped after each message: a login may have been in it.
 *
 * Edges are not allowed sendmsg, so a message without descriptors goes out by plain send.
 */
#include "ipc/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "base/wipe.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83 /* since Linux 6.16; set to 0 the kernel refuses descriptors on behalf of this end */
#endif

struct frame_head {
    uint16_t type;
    uint16_t zero;
};

struct channel_packet {
    struct channel_packet *next;
    uint32_t len;
    uint32_t fd_count;
    int fds[CHANNEL_FDS_MAX];
    char bytes[];
};

struct channel_arena {
    size_t used;
    _Alignas(16) unsigned char memory[CHANNEL_ARENA];
    unsigned char packet[CHANNEL_FRAME_MAX];
};

/* ---- shapes and messages ---- */

static bool shape_fits(const ProtobufCMessageDescriptor *shape, int depth) {
    if (depth > CHANNEL_DEPTH_MAX)
        return false;
    for (unsigned i = 0; i < shape->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &shape->fields[i];
        if (field->type == PROTOBUF_C_TYPE_STRING)
            return false;
        if (field->type == PROTOBUF_C_TYPE_MESSAGE && !shape_fits(field->descriptor, depth + 1))
            return false;
    }
    return true;
}

static enum err check_message(const ProtobufCMessage *message, int depth);

static enum err check_value(const ProtobufCFieldDescriptor *field, const void *value, int depth) {
    switch (field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return ERR_SYNTAX;
    case PROTOBUF_C_TYPE_ENUM:
        return protobuf_c_enum_descriptor_get_value(field->descriptor, *(const int *)value) ? ERR_OK : ERR_RANGE;
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *sub = *(ProtobufCMessage *const *)value;
        if (sub)
            return check_message(sub, depth + 1);
        return field->label == PROTOBUF_C_LABEL_OPTIONAL ? ERR_OK : ERR_SYNTAX;
    }
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *bytes = value;
        return bytes->len == 0 || bytes->data ? ERR_OK : ERR_SYNTAX;
    }
    default:
        return ERR_OK;
    }
}

static size_t value_size(ProtobufCType type) {
    switch (type) {
    case PROTOBUF_C_TYPE_MESSAGE:
    case PROTOBUF_C_TYPE_STRING:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    default:
        return 4;
    }
}

static enum err check_field(const ProtobufCMessage *message, const ProtobufCFieldDescriptor *field, int depth) {
    const char *at = (const char *)message + field->offset;
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t count = *(const size_t *)(const void *)((const char *)message + field->quantifier_offset);
        const char *values = *(char *const *)(const void *)at;
        if (count > CHANNEL_REPEATED_MAX || (count && !values))
            return ERR_LONG;
        for (size_t i = 0; i < count; i++) {
            enum err e = check_value(field, values + i * value_size(field->type), depth);
            if (e != ERR_OK)
                return e;
        }
        return ERR_OK;
    }
    if (field->label == PROTOBUF_C_LABEL_OPTIONAL && field->type != PROTOBUF_C_TYPE_MESSAGE &&
        field->type != PROTOBUF_C_TYPE_STRING &&
        !*(const protobuf_c_boolean *)(const void *)((const char *)message + field->quantifier_offset))
        return ERR_OK;
    return check_value(field, at, depth);
}

static enum err check_message(const ProtobufCMessage *message, int depth) {
    if (depth > CHANNEL_DEPTH_MAX || message->n_unknown_fields)
        return depth > CHANNEL_DEPTH_MAX ? ERR_LONG : ERR_SYNTAX;
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        enum err e = check_field(message, &message->descriptor->fields[i], depth);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

enum err channel_check(const ProtobufCMessage *message) {
    return check_message(message, 1);
}

/* ---- the arena ---- */

static void *arena_take(void *data, size_t size) {
    struct channel_arena *arena = data;
    if (size > sizeof arena->memory)
        return NULL;
    size = (size + 15) & ~(size_t)15;
    if (size > sizeof arena->memory - arena->used)
        return NULL;
    void *piece = arena->memory + arena->used;
    arena->used += size;
    return piece;
}

static void arena_give(void *data, void *piece) {
    (void)data;
    (void)piece;
}

static void arena_wipe(struct channel_arena *arena, size_t packet_len) {
    wipe(arena->memory, arena->used);
    wipe(arena->packet, packet_len);
    arena->used = 0;
}

/* ---- opening and closing ---- */

enum err channel_open(struct channel *c, int fd, const char *peer, const struct channel_rule *rules,
                      uint32_t rule_count, void *owner, int accept_fds) {
    *c =
        (struct channel){.fd = -1, .epoll = -1, .peer = peer, .rules = rules, .rule_count = rule_count, .owner = owner};
    c->backlog_end = &c->backlog;
    for (uint32_t i = 0; i < rule_count; i++)
        check(!rules[i].shape || shape_fits(rules[i].shape, 1));
    if (rule_count) {
        c->arena = malloc(sizeof *c->arena);
        if (!c->arena)
            return ERR_NOMEM;
        c->arena->used = 0;
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && !(flags & O_NONBLOCK)) {
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
        if (!accept_fds)
            setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &(int){0}, sizeof(int));
    }
    c->fd = fd;
    return ERR_OK;
}

static void close_all(const int *fds, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        close(fds[i]);
}

/* With EPOLLOUT while something is kept. */
static enum err watch(const struct channel *c, int how) {
    struct epoll_event event = {.events = EPOLLIN | (c->backlog ? EPOLLOUT : 0u), .data = c->epoll_data};
    return c->epoll < 0 || epoll_ctl(c->epoll, how, c->fd, &event) == 0 ? ERR_OK : ERR_SYSTEM;
}

enum err channel_watch(struct channel *c, int epoll, union epoll_data data) {
    c->epoll = epoll;
    c->epoll_data = data;
    return watch(c, EPOLL_CTL_ADD);
}

static void backlog_drop_first(struct channel *c) {
    struct channel_packet *first = c->backlog;
    c->backlog = first->next;
    if (!c->backlog)
        c->backlog_end = &c->backlog;
    c->backlog_bytes -= first->len;
    close_all(first->fds, first->fd_count);
    wipe(first->bytes, first->len);
    free(first);
}

void channel_close(struct channel *c) {
    while (c->backlog)
        backlog_drop_first(c);
    if (c->arena)
        arena_wipe(c->arena, sizeof c->arena->packet);
    free(c->arena);
    c->arena = NULL;
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

/* ---- sending ---- */

static enum err send_packet(int fd, const void *bytes, size_t len, const int *fds, uint32_t fd_count) {
    ssize_t sent;
    do {
        if (fd_count == 0) {
            sent = send(fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
            continue;
        }
        _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)] = {0};
        struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = len};
        struct msghdr head = {.msg_iov = &part,
                              .msg_iovlen = 1,
                              .msg_control = control,
                              .msg_controllen = CMSG_SPACE(sizeof(int) * fd_count)};
        struct cmsghdr *c = CMSG_FIRSTHDR(&head);
        *c = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int) * fd_count)};
        memcpy(CMSG_DATA(c), fds, sizeof(int) * fd_count);
        sent = sendmsg(fd, &head, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent >= 0)
        return ERR_OK;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return ERR_AGAIN;
    return errno == EPIPE || errno == ECONNRESET ? ERR_END : ERR_SYSTEM;
}

static enum err backlog_add(struct channel *c, const void *bytes, size_t len, const int *fds, uint32_t fd_count) {
    if (len > CHANNEL_BACKLOG_MAX - c->backlog_bytes)
        return ERR_LONG;
    struct channel_packet *packet = malloc(sizeof *packet + len);
    if (!packet)
        return ERR_NOMEM;
    packet->next = NULL;
    packet->len = (uint32_t)len;
    packet->fd_count = 0;
    memcpy(packet->bytes, bytes, len);
    for (uint32_t i = 0; i < fd_count; i++) {
        int copy = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
        if (copy < 0) {
            close_all(packet->fds, packet->fd_count);
            free(packet);
            return ERR_SYSTEM;
        }
        packet->fds[packet->fd_count++] = copy;
    }
    bool first = !c->backlog;
    *c->backlog_end = packet;
    c->backlog_end = &packet->next;
    c->backlog_bytes += (uint32_t)len;
    return first ? watch(c, EPOLL_CTL_MOD) : ERR_OK;
}

static enum err send_or_keep(struct channel *c, const void *bytes, size_t len, const int *fds, uint32_t fd_count) {
    enum err e = c->backlog ? ERR_AGAIN : send_packet(c->fd, bytes, len, fds, fd_count);
    return e == ERR_AGAIN ? backlog_add(c, bytes, len, fds, fd_count) : e;
}

enum err channel_send_bytes(struct channel *c, const void *bytes, size_t len) {
    return c->fd < 0 ? ERR_END : send_or_keep(c, bytes, len, NULL, 0);
}

enum err channel_send(struct channel *c, enum message_type type, const ProtobufCMessage *message, const int *fds,
                      int fd_count) {
    check(fd_count >= 0 && fd_count <= CHANNEL_FDS_MAX);
    if (c->fd < 0)
        return ERR_END;
    unsigned char packet[CHANNEL_FRAME_MAX];
    struct frame_head head = {.type = (uint16_t)type};
    size_t len = message ? protobuf_c_message_get_packed_size(message) : 0;
    if (len > sizeof packet - sizeof head)
        return ERR_LONG;
    memcpy(packet, &head, sizeof head);
    if (message)
        protobuf_c_message_pack(message, packet + sizeof head);
    len += sizeof head;
    enum err e = send_or_keep(c, packet, len, fds, (uint32_t)fd_count);
    wipe(packet, len);
    return e;
}

int channel_flush(struct channel *c) {
    if (!c->backlog)
        return 0;
    while (c->fd >= 0 && c->backlog) {
        struct channel_packet *first = c->backlog;
        if (send_packet(c->fd, first->bytes, first->len, first->fds, first->fd_count) == ERR_AGAIN)
            return 1;
        backlog_drop_first(c); /* sent, or of no use to a peer that has gone: channel_receive finds that out */
    }
    if (c->fd >= 0)
        watch(c, EPOLL_CTL_MOD);
    return 0;
}

/* ---- receiving ---- */

struct arrival {
    size_t len;
    bool cut; /* the packet or its descriptors were longer than allowed */
    uint32_t fd_count;
    int fds[CHANNEL_FDS_MAX];
};

static void collect_fds(struct arrival *a, struct msghdr *head) {
    for (struct cmsghdr *c = CMSG_FIRSTHDR(head); c; c = CMSG_NXTHDR(head, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (a->fd_count < CHANNEL_FDS_MAX) {
                a->fds[a->fd_count++] = fd;
            } else {
                close(fd);
                a->cut = true;
            }
        }
    }
}

static enum err receive_packet(struct channel *c, struct arrival *a) {
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int) * CHANNEL_FDS_MAX)];
    struct iovec part = {.iov_base = c->arena->packet, .iov_len = sizeof c->arena->packet};
    struct msghdr head = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t len;
    do /* of a peer that died with unread packets the reset is reported once, before what it had sent */
        len = recvmsg(c->fd, &head, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (len < 0 && (errno == EINTR || errno == ECONNRESET));
    if (len < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? ERR_AGAIN : ERR_SYSTEM;
    *a = (struct arrival){.len = (size_t)len, .cut = head.msg_flags & (MSG_TRUNC | MSG_CTRUNC)};
    collect_fds(a, &head);
    if (len == 0 && a->fd_count == 0)
        return ERR_END;
    return ERR_OK;
}

static enum err refuse(const struct channel *c, enum err e, unsigned type, const char *why) {
    log_error("Message %u from %s refused: %s; the conversation ends", type, c->peer, why);
    return e;
}

static const struct channel_rule *rule_find(const struct channel *c, uint16_t type, bool *known) {
    *known = false;
    for (uint32_t i = 0; i < c->rule_count; i++) {
        if (c->rules[i].type != type)
            continue;
        *known = true;
        if (c->rules[i].states & (UINT32_C(1) << c->state))
            return &c->rules[i];
    }
    return NULL;
}

/* Checks one packet against the table and gives it to its handler. *taken: the descriptors are the handler's. */
static enum err handle_packet(struct channel *c, const struct arrival *a, bool *taken) {
    struct frame_head head;
    if (a->cut || a->len < sizeof head)
        return refuse(c, ERR_HOSTILE, 0, "not a frame");
    memcpy(&head, c->arena->packet, sizeof head);
    bool known;
    const struct channel_rule *rule = rule_find(c, head.type, &known);
    if (!rule || head.zero != 0)
        return refuse(c, known ? ERR_STATE : ERR_HOSTILE, head.type, known ? "not allowed now" : "not in the table");
    if (a->fd_count != rule->fd_count)
        return refuse(c, ERR_HOSTILE, head.type, "another number of descriptors");
    size_t len = a->len - sizeof head;
    if (len > rule->bytes_max || (!rule->shape && len > 0))
        return refuse(c, ERR_LONG, head.type, "too long");
    ProtobufCMessage *message = NULL;
    if (rule->shape) {
        ProtobufCAllocator allocator = {.alloc = arena_take, .free = arena_give, .allocator_data = c->arena};
        message = protobuf_c_message_unpack(rule->shape, &allocator, len, c->arena->packet + sizeof head);
        if (!message)
            return refuse(c, ERR_SYNTAX, head.type, "malformed, or more than its arena holds");
        enum err e = channel_check(message);
        if (e != ERR_OK)
            return refuse(c, e, head.type, err_text(e));
    }
    *taken = true;
    enum err e = rule->handle(c, c->owner, message, a->fds);
    /* A peer that goes while it is being answered has done nothing wrong. */
    return e == ERR_OK || e == ERR_END ? e : refuse(c, e, head.type, err_text(e));
}

enum err channel_receive(struct channel *c, int most) {
    check(c->arena);
    channel_flush(c);
    for (int i = 0; i < most; i++) {
        struct arrival arrival;
        enum err e = receive_packet(c, &arrival);
        if (e == ERR_AGAIN)
            return ERR_OK;
        if (e != ERR_OK)
            return e;
        bool taken = false;
        e = handle_packet(c, &arrival, &taken);
        if (!taken)
            close_all(arrival.fds, arrival.fd_count);
        if (!c->arena) /* the handler closed the channel */
            return e == ERR_OK ? ERR_END : e;
        arena_wipe(c->arena, arrival.len);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}
