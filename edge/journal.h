/* SPDX-License-Identifier: Apache-2.0 */
/* edge/journal.h: the state records that the router may not have consumed.
 *
 * An edge's tables say what is true now. A new router goes on where the dead one had consumed, so it must be told what was true there.
 * The journal keeps, for each record above that position that changes state, what the state was before it: an edge_undo of it turns the tables
 * of now into those of then. See edge/replay.h for the only reader of an undo.
 */
#ifndef EDGE_JOURNAL_H
#define EDGE_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "shm/record.h"

/* A state record that the router may not have consumed yet. */
struct edge_change {
    uint64_t end_pos; /* ingress position behind the record */
    uint32_t id;      /* SUB, UNSUB: slot; otherwise the connection's number */
    uint8_t type;     /* enum record_type */
    uint8_t old_flag; /* OPTIONS, GATE: the state before the record */
    uint32_t old_max; /* UNSUB: the maximum before the record */
};

/* Zeroed: empty, without memory. */
struct edge_journal {
    struct edge_change *changes; /* a ring of `cap` entries, the oldest at `at` */
    uint32_t at, count, cap;
};

/* Room for `count` more entries, at most 256. False: no memory, and the record must not be written. */
bool edge_journal_reserve(struct edge_journal *j, uint32_t count);
/* For a record that was just put; end_pos is the position behind it. Room must have been reserved. */
void edge_journal_add(struct edge_journal *j, uint64_t end_pos, enum record_type type, uint32_t id, uint8_t old_flag,
                      uint32_t old_max);
/* Forgets what the router has consumed. */
void edge_journal_trim(struct edge_journal *j, uint64_t consumed);
void edge_journal_free(struct edge_journal *j); /* empty again, without memory */

/* What the journal undoes. */
struct edge_undo {
    uint8_t *conn_out;    /* by number: BIND lies above consumed */
    uint8_t *conn_option; /* by number: options + 1 as of consumed; 0: as they are */
    uint8_t *conn_gate;   /* by number: gate + 1 as of consumed; 0: as it is */
    uint8_t *slot_out;    /* by slot: SUB lies above consumed */
    uint8_t *slot_undone; /* by slot: the maximum is the one in slot_max */
    uint32_t *slot_max;
};

/* All numbers of the journal lie below conn_count, all slots below slot_count. ERR_NOMEM: nothing was taken. */
enum err edge_undo_make(struct edge_undo *u, const struct edge_journal *j, uint32_t conn_count, uint32_t slot_count);
void edge_undo_free(struct edge_undo *u);

#endif
