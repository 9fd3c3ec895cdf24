/* SPDX-License-Identifier: Apache-2.0 */
/* ipc/note.h: what a child tells the supervisor: 16 bytes, nothing to parse. */
#ifndef IPC_NOTE_H
#define IPC_NOTE_H

#include <stdint.h>

#include "base/err.h"
#include "ipc/channel.h"

enum note_type {
    NOTE_READY = 1,   /* the child does its job from now on */
    NOTE_MAPPED,      /* number: link. Its memory is mapped, the descriptors are closed */
    NOTE_RECOVERED,   /* router, number: epoch. The commit page is in order; edges may replay */
    NOTE_LINK_BAD,    /* router, number: link, value: incarnation. Its edge broke a rule or makes no progress: end it */
    NOTE_LINK_GONE,   /* router, number: link, value: incarnation. Nothing of it is left */
    NOTE_WANT_CIDS,   /* edge: another block of connection ids */
    NOTE_WANT_PLACES, /* frontend: places for connections */
    NOTE_PLACES_BACK, /* frontend, number: how many */
    NOTE_LOG_FULL,    /* logd: the file has reached its limit */
    NOTE_LOG_LOST,    /* logd: the syslog takes no lines any more */
    NOTE_PREPARED, /* number: generation; value: 0, or why the child cannot take these settings (enum settings_refusal) */
    NOTE_APPLIED,   /* number: generation. The new settings hold from now on */
    NOTE_LAME_DONE, /* frontend: a lame duck without clients */
    NOTE_TYPE_END
};

struct note {
    uint32_t type;
    uint32_t number;
    uint64_t value;
};
_Static_assert(sizeof(struct note) == 16, "a note has a fixed size");

/* Sends one note to the supervisor; control sockets keep message borders. Notes that the socket has no room for are kept, in order, and
 * sent later: no note is lost while both sides live. Errors as channel_send. */
enum err note_send(struct channel *control, enum note_type type, uint32_t number, uint64_t value);

/* ERR_AGAIN, ERR_END, ERR_HOSTILE (another size or an unknown type), ERR_SYSTEM. Descriptors that came along are never
 * accepted: the call takes no control buffer. */
enum err note_receive(int fd, struct note *note);

#endif
