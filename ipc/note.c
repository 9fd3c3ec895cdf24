/* SPDX-License-Identifier: Apache-2.0 */
/* A note is one packet. Plain send and recv: no address, no control buffer, so no descriptor can ride along. */
#include "ipc/note.h"

#include <errno.h>
#include <sys/socket.h>

enum err note_send(struct channel *control, enum note_type type, uint32_t number, uint64_t value) {
    struct note note = {.type = type, .number = number, .value = value};
    return channel_send_bytes(control, &note, sizeof note);
}

enum err note_receive(int fd, struct note *note) {
    char packet[sizeof *note + 1]; /* one byte more, to see a packet that is too long */
    ssize_t len;
    do /* of a peer that died with unread packets the reset is reported once, before what it had sent */
        len = recv(fd, packet, sizeof packet, MSG_DONTWAIT);
    while (len < 0 && (errno == EINTR || errno == ECONNRESET));
    if (len < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return ERR_AGAIN;
    if (len == 0)
        return ERR_END;
    if (len < 0)
        return ERR_SYSTEM;
    if (len != (ssize_t)sizeof *note)
        return ERR_HOSTILE;
    __builtin_memcpy(note, packet, sizeof *note);
    return note->type > 0 && note->type < NOTE_TYPE_END ? ERR_OK : ERR_HOSTILE;
}
