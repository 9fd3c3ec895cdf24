/* SPDX-License-Identifier: Apache-2.0 */
/* tests/bench/stages.h: a program that runs one stage of a message's way again and again, for callgrind to count.
 *
 * A stage's fill and drain stand for the other side of it (a client, a ring's other end) and are not counted; only what
 * runs below stage_measured is. tests/bench/budget starts the programs, one stage each.
 */
#ifndef BENCH_STAGES_H
#define BENCH_STAGES_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "shm/memfd.h"
#include "shm/record.h"
#include "shm/ring.h"

enum { STAGE_ROUNDS = 20, STAGE_RING_BYTES = 2 << 20 };

struct stage {
    const char *name;
    uint32_t messages; /* of one round */
    void (*open)(void);
    void (*fill)(void);
    void (*run)(void);
    void (*drain)(void);
};

/* The name is what callgrind looks for. */
__attribute__((noinline, used)) void stage_measured(void (*run)(void));
void stage_measured(void (*run)(void)) {
    run();
    __asm__ volatile("" ::: "memory"); /* no tail call: the function must end after what it measures */
}

/* Without a name: the names of all. Else that stage, once to warm up and STAGE_ROUNDS times to be counted. */
static int stage_main(const struct stage *stages, size_t count, int argc, char **argv) {
    for (size_t i = 0; i < count; i++) {
        const struct stage *s = &stages[i];
        if (argc < 2)
            puts(s->name);
        if (argc < 2 || strcmp(argv[1], s->name) != 0)
            continue;
        s->open();
        for (uint32_t round = 0; round <= STAGE_ROUNDS; round++) {
            s->fill();
            if (round == 0)
                s->run();
            else
                stage_measured(s->run);
            s->drain();
        }
        printf("%u\n", STAGE_ROUNDS * s->messages);
        return 0;
    }
    return argc < 2 ? 0 : 2;
}

/* ---- ring memory ---- */

/* Data and credit of one ring. */
static inline void stage_ring_make(int fds[2]) {
    check(memfd_make(&fds[0], "data", ring_data_bytes(STAGE_RING_BYTES), 1) == ERR_OK);
    check(memfd_make(&fds[1], "credit", RING_PAGE, 1) == ERR_OK);
}

static inline void stage_writer_open(struct ring_writer *w, const int fds[2]) {
    struct ring_map map;
    check(ring_map(&map, fds[0], fds[1], true) == ERR_OK && ring_writer_open(w, &map) == ERR_OK);
}

static inline void stage_reader_open(struct ring_reader *r, const int fds[2]) {
    struct ring_map map;
    check(ring_map(&map, fds[0], fds[1], false) == ERR_OK && ring_reader_open(r, &map) == ERR_OK);
}

/* ---- records ---- */

/* Writes one record; lengths in rec but len are filled in from the parts, which may be null when they are empty. */
static inline void stage_put(struct ring_writer *w, struct record rec, const void *fixed, uint32_t fixed_len,
                             const char *subject, const char *reply, const void *payload) {
    rec.subject_len = (uint16_t)strlen(subject);
    rec.reply_len = (uint16_t)strlen(reply);
    rec.len = RECORD_HEADER + fixed_len + rec.subject_len + rec.reply_len + rec.payload_len;
    check(ring_has_room(w, ring_round(rec.len), 0));
    uint8_t *at = ring_head(w);
    memcpy(at, &rec, sizeof rec);
    at += sizeof rec;
    if (fixed_len > 0)
        memcpy(at, fixed, fixed_len);
    memcpy(at + fixed_len, subject, rec.subject_len);
    memcpy(at + fixed_len + rec.subject_len, reply, rec.reply_len);
    if (rec.payload_len > 0)
        memcpy(at + fixed_len + rec.subject_len + rec.reply_len, payload, rec.payload_len);
    ring_advance(w, rec.len);
}

/* Takes all that was published; returns how many records of that type there were. */
static inline uint32_t stage_take_all(struct ring_reader *r, enum record_type type) {
    uint32_t count = 0;
    check(ring_reader_refresh(r));
    while (ring_ready(r) > 0) {
        struct record rec;
        memcpy(&rec, ring_tail(r), sizeof rec);
        check(rec.len >= RECORD_HEADER && rec.len <= ring_ready(r));
        count += rec.type == type ? 1 : 0;
        ring_skip(r, rec.len);
    }
    ring_release(r);
    return count;
}

#endif
