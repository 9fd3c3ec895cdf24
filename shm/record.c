/* SPDX-License-Identifier: Apache-2.0 */
/* The shape of each record type, in one table, and the one check that every reader makes. */
#include "shm/record.h"

struct shape {
    uint8_t direction;                     /* enum record_direction + 1; 0: no such type */
    uint8_t fixed;                         /* bytes of the fixed part */
    bool targets, subject, reply, payload; /* may have them */
};

static const struct shape shapes[RECORD_TYPE_END] = {
    [RECORD_BIND] = {.direction = 1, .payload = true},
    [RECORD_OPTIONS] = {.direction = 1},
    [RECORD_SUB] = {.direction = 1, .fixed = sizeof(struct record_sub), .subject = true, .reply = true},
    [RECORD_UNSUB] = {.direction = 1, .fixed = sizeof(struct record_unsub)},
    [RECORD_PUB] = {.direction = 1, .subject = true, .reply = true, .payload = true},
    [RECORD_GATE] = {.direction = 1},
    [RECORD_CLOSE] = {.direction = 1},
    [RECORD_REPLAY_BEGIN] = {.direction = 1},
    [RECORD_REPLAY_END] = {.direction = 1},
    [RECORD_DELIVER] = {.direction = 2, .targets = true, .subject = true, .reply = true, .payload = true},
    [RECORD_DELIVER_MORE] = {.direction = 2, .targets = true},
    [RECORD_OK] = {.direction = 2},
    [RECORD_DENY] = {.direction = 2, .targets = true, .subject = true, .reply = true},
    [RECORD_KICK] = {.direction = 2},
    [RECORD_STALL] = {.direction = 2},
    [RECORD_RESUME] = {.direction = 2},
    [RECORD_SLOT_FREE] = {.direction = 2},
    [RECORD_CONN_FREE] = {.direction = 2},
    [RECORD_EPOCH] = {.direction = 2},
};

enum err record_take(struct record *copy, struct record_parts *parts, const uint8_t *at, uint64_t ready,
                     enum record_direction direction) {
    if (ready < RECORD_HEADER)
        return ERR_HOSTILE;
    /* The barrier keeps the compiler from reading the shared bytes a second time instead of the copy. */
    memcpy(copy, at, sizeof *copy);
    __asm__ volatile("" ::: "memory");
    if (copy->type >= RECORD_TYPE_END || copy->target_count > RECORD_TARGETS_MAX)
        return ERR_HOSTILE;
    const struct shape *s = &shapes[copy->type];
    /* One branch for all parts that the type may not have: x & (may - 1) is x if may is 0, else 0. */
    uint32_t extra = (copy->target_count & (s->targets - 1u)) | (copy->subject_len & (s->subject - 1u)) |
                     (copy->reply_len & (s->reply - 1u)) | (copy->payload_len & (s->payload - 1u));
    if (s->direction != (uint8_t)direction + 1 || extra != 0)
        return ERR_HOSTILE;
    uint64_t targets = RECORD_HEADER + (uint64_t)s->fixed;
    uint64_t subject = targets + 8u * (uint64_t)copy->target_count;
    uint64_t reply = subject + copy->subject_len;
    uint64_t payload = reply + copy->reply_len;
    if (copy->len != payload + copy->payload_len || copy->len > ready)
        return ERR_HOSTILE;
    if ((copy->type == RECORD_PUB || copy->type == RECORD_DELIVER) && copy->aux > copy->payload_len)
        return ERR_HOSTILE;
    *parts = (struct record_parts){(uint32_t)targets, (uint32_t)subject, (uint32_t)reply, (uint32_t)payload};
    return ERR_OK;
}
