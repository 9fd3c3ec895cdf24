/* SPDX-License-Identifier: Apache-2.0 */
/* The journal of an edge; see journal.h. */
#include "edge/journal.h"

#include <stdlib.h>

#include "base/check.h"

enum { JOURNAL_FIRST = 256 /* more than any caller reserves */ };

bool edge_journal_reserve(struct edge_journal *j, uint32_t count) {
    if (likely(j->count + count <= j->cap))
        return true;
    uint32_t cap = j->cap ? 2 * j->cap : JOURNAL_FIRST;
    struct edge_change *grown = malloc(cap * sizeof *grown);
    if (!grown)
        return false;
    for (uint32_t i = 0; i < j->count; i++)
        grown[i] = j->changes[(j->at + i) % j->cap];
    free(j->changes);
    *j = (struct edge_journal){.changes = grown, .count = j->count, .cap = cap};
    return true;
}

void edge_journal_add(struct edge_journal *j, uint64_t end_pos, enum record_type type, uint32_t id, uint8_t old_flag,
                      uint32_t old_max) {
    check(j->count < j->cap);
    j->changes[(j->at + j->count++) % j->cap] = (struct edge_change){end_pos, id, (uint8_t)type, old_flag, old_max};
}

void edge_journal_trim(struct edge_journal *j, uint64_t consumed) {
    while (j->count > 0 && j->changes[j->at].end_pos <= consumed) {
        j->at = (j->at + 1) % j->cap;
        j->count--;
    }
}

void edge_journal_free(struct edge_journal *j) {
    free(j->changes);
    *j = (struct edge_journal){0};
}

/* ---- undoing ---- */

static void undo(struct edge_undo *u, const struct edge_change *c) {
    switch (c->type) {
    case RECORD_BIND:
        u->conn_out[c->id] = 1;
        break;
    case RECORD_OPTIONS:
        u->conn_option[c->id] = (uint8_t)(c->old_flag + 1);
        break;
    case RECORD_GATE:
        u->conn_gate[c->id] = (uint8_t)(c->old_flag + 1);
        break;
    case RECORD_SUB:
        u->slot_out[c->id] = 1;
        break;
    case RECORD_UNSUB:
        u->slot_undone[c->id] = 1;
        u->slot_max[c->id] = c->old_max;
        break;
    default: /* CLOSE: the connection is still in */
        break;
    }
}

enum err edge_undo_make(struct edge_undo *u, const struct edge_journal *j, uint32_t conn_count, uint32_t slot_count) {
    size_t conns = (size_t)conn_count + 1, slots = (size_t)slot_count + 1; /* an empty table has memory, too */
    uint8_t *bytes = calloc(3 * conns + 2 * slots, 1);
    uint32_t *max = calloc(slots, sizeof *max);
    if (!bytes || !max) {
        free(bytes);
        free(max);
        return ERR_NOMEM;
    }
    *u = (struct edge_undo){
        .conn_out = bytes,
        .conn_option = bytes + conns,
        .conn_gate = bytes + 2 * conns,
        .slot_out = bytes + 3 * conns,
        .slot_undone = bytes + 3 * conns + slots,
        .slot_max = max,
    };
    for (uint32_t i = j->count; i-- > 0;) /* newest first: what the oldest says stays */
        undo(u, &j->changes[(j->at + i) % j->cap]);
    return ERR_OK;
}

void edge_undo_free(struct edge_undo *u) {
    free(u->conn_out);
    free(u->slot_max);
}
