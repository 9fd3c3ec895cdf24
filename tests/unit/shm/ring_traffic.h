/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/shm/ring_traffic.h: two sides that send each other records through a real ring, with pipes as bells and
 * real sleep. A record says by itself where it belongs: its length follows from its position, its payload begins with
 * that position and a checksum. So whoever opens the ring anywhere knows whether what lies there is whole.
 */
#ifndef TESTS_SHM_TRAFFIC_H
#define TESTS_SHM_TRAFFIC_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>

#include "shm/record.h"
#include "tests/unit/shm/shm_testing.h"

enum traffic_end {
    TRAFFIC_DONE = 0,
    TRAFFIC_TIME_OVER,
    TRAFFIC_BROKEN,      /* the ring says that the other side broke a rule */
    TRAFFIC_WRONG,       /* a record is not what belongs there */
    TRAFFIC_LOST_WAKEUP, /* slept although there was something to do, and no bell came */
    TRAFFIC_STUCK,       /* the other side does nothing any more */
    TRAFFIC_PEER_GONE,
};

static inline const char *traffic_text(int end) {
    static const char *const texts[] = {"done",           "time over", "an impossible position", "a wrong record",
                                        "a lost wake-up", "stuck",     "the other side has gone"};
    return end >= 0 && end < (int)(sizeof texts / sizeof *texts) ? texts[end] : "died";
}

/* ---- records ---- */

enum { TRAFFIC_SUBJECT = 3, TRAFFIC_LEAST = RECORD_HEADER + TRAFFIC_SUBJECT + 16 };

/* Mostly small, one in 512 up to a quarter of the ring. */
static inline uint32_t traffic_len(uint64_t pos, uint64_t cap) {
    uint64_t h = mix(pos + 1);
    uint64_t most = h % 512 == 0 ? cap / 4 - TRAFFIC_LEAST : 64;
    return (uint32_t)(TRAFFIC_LEAST + (h >> 16) % (most + 1));
}

static inline uint64_t traffic_sum(const uint8_t *at, uint64_t len, uint64_t pos) {
    uint64_t sum = pos, word;
    for (; len >= 8; at += 8, len -= 8) {
        memcpy(&word, at, 8);
        sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
        sum ^= sum >> 29;
    }
    for (; len > 0; at++, len--)
        sum = (sum ^ *at) * 0x100000001b3u;
    return sum;
}

static inline void traffic_write(uint8_t *at, uint64_t pos, uint64_t cap) {
    struct record r = {.len = traffic_len(pos, cap), .type = RECORD_PUB, .subject_len = TRAFFIC_SUBJECT};
    r.payload_len = r.len - RECORD_HEADER - TRAFFIC_SUBJECT;
    memcpy(at, &r, sizeof r);
    memcpy(at + RECORD_HEADER, "a.b", TRAFFIC_SUBJECT);
    uint8_t *payload = at + RECORD_HEADER + TRAFFIC_SUBJECT;
    uint64_t word = mix(pos), left = r.payload_len - 16;
    for (uint8_t *to = payload + 16; left > 0; word += 0x9e3779b97f4a7c15u) {
        uint64_t n = left < 8 ? left : 8;
        memcpy(to, &word, n);
        to += n;
        left -= n;
    }
    uint64_t sum = traffic_sum(payload + 16, r.payload_len - 16, pos);
    memcpy(payload, &pos, 8);
    memcpy(payload + 8, &sum, 8);
}

/* Takes the record at the tail, looks at all of it and goes on behind it; false if it isn't what belongs there. */
static inline bool traffic_read(struct ring_reader *r) {
    struct record rec;
    struct record_parts parts;
    const uint8_t *at = ring_tail(r);
    if (record_take(&rec, &parts, at, ring_ready(r), RECORD_TO_ROUTER) != ERR_OK ||
        rec.len != traffic_len(r->tail_pos, r->cap) || rec.type != RECORD_PUB || rec.payload_len < 16)
        return false;
    uint64_t pos, sum;
    memcpy(&pos, at + parts.payload, 8);
    memcpy(&sum, at + parts.payload + 8, 8);
    if (pos != r->tail_pos || memcmp(at + parts.subject, "a.b", TRAFFIC_SUBJECT) != 0 ||
        sum != traffic_sum(at + parts.payload + 16, rec.payload_len - 16, pos))
        return false;
    ring_skip(r, rec.len);
    return true;
}

/* ---- bells ---- */

struct bells {
    int in, out;
    uint64_t sleeps; /* so many reads of the pipe that had to wait */
};

/* Two pipes; side 0 is the producer's. */
static inline void bells_make(struct bells side[2]) {
    int to_consumer[2], to_producer[2];
    check(pipe2(to_consumer, O_CLOEXEC | O_NONBLOCK) == 0 && pipe2(to_producer, O_CLOEXEC | O_NONBLOCK) == 0);
    side[0] = (struct bells){to_producer[0], to_consumer[1], 0};
    side[1] = (struct bells){to_consumer[0], to_producer[1], 0};
}

static inline void bells_close(struct bells *b) {
    close(b->in);
    close(b->out);
}

static inline void bell_ring(struct bells *b) {
    check(write(b->out, "x", 1) == 1 || errno == EAGAIN || errno == EPIPE);
}

enum { TRAFFIC_PATIENCE_MS = 20000 };

/* Sleeps until a bell, then takes all of them. ERR_AGAIN: none came; ERR_END: the other side has gone. */
static inline enum err bell_wait(struct bells *b, int timeout_ms) {
    struct pollfd p = {.fd = b->in, .events = POLLIN};
    b->sleeps++;
    int n;
    while ((n = poll(&p, 1, timeout_ms)) < 0)
        check(errno == EINTR);
    if (n == 0)
        return ERR_AGAIN;
    char taken[64];
    ssize_t got = read(b->in, taken, sizeof taken);
    return got == 0 ? ERR_END : ERR_OK;
}

/* ---- the sides ---- */

static inline void traffic_show(struct ring_writer *w, struct bells *b) {
    ring_publish(w);
    ring_fence();
    if (ring_writer_must_ring(w))
        bell_ring(b);
}

static inline void traffic_give_back(struct ring_reader *r, struct bells *b) {
    ring_release(r);
    ring_fence();
    if (ring_reader_must_ring(r))
        bell_ring(b);
}

/* 0: for ever. Until then a side sleeps as long as it must. */
static inline int until_ms(uint64_t until_ns) {
    if (until_ns == 0)
        return TRAFFIC_PATIENCE_MS;
    uint64_t now = now_ns();
    return now >= until_ns ? 0 : (int)((until_ns - now) / 1000000);
}

/* What a sleep without a bell was: over in time, or one too many. */
static inline enum traffic_end silence(bool has_work, uint64_t until_ns) {
    if (until_ns != 0)
        return TRAFFIC_TIME_OVER;
    return has_work ? TRAFFIC_LOST_WAKEUP : TRAFFIC_STUCK;
}

/* Writes `count` records in batches, from where the ring stands; stops at until_ns, if that is not 0. */
static inline enum traffic_end traffic_produce(struct ring_writer *w, struct bells *b, uint64_t count,
                                               uint64_t until_ns, uint64_t seed) {
    uint64_t batch = 1, mood = 0;
    while (count > 0) {
        uint64_t len = ring_round(traffic_len(w->head_pos, w->cap));
        if (!ring_has_room(w, len, 0)) {
            traffic_show(w, b);
            ring_writer_sleeps(w);
            ring_fence();
            if (!ring_has_room(w, len, 0) && !w->broken) {
                enum err e = bell_wait(b, until_ms(until_ns));
                if (e == ERR_END)
                    return TRAFFIC_PEER_GONE;
                if (e == ERR_AGAIN)
                    return silence(ring_has_room(w, len, 0), until_ns);
            }
            if (w->broken)
                return TRAFFIC_BROKEN;
            continue;
        }
        traffic_write(ring_head(w), w->head_pos, w->cap);
        ring_advance(w, len);
        count--;
        if (--batch == 0) {
            traffic_show(w, b);
            if (until_ns != 0 && now_ns() >= until_ns)
                return TRAFFIC_TIME_OVER;
            if (random_below(&seed, 2000) ==
                0) /* now one by one, so that the consumer sleeps; now in heaps, so that it doesn't */
                mood = random_below(&seed, 3) * 20;
            batch = 1 + random_below(&seed, mood + 1);
        }
    }
    traffic_show(w, b);
    return TRAFFIC_DONE;
}

/* The same for reading; *count is what is left in the end. */
static inline enum traffic_end traffic_consume(struct ring_reader *r, struct bells *b, uint64_t *count,
                                               uint64_t until_ns, uint64_t seed) {
    uint64_t batch = 1;
    bool slow = false;
    while (*count > 0) {
        if (ring_ready(r) == 0) {
            if (!ring_reader_refresh(r))
                return TRAFFIC_BROKEN;
            if (ring_ready(r) > 0)
                continue;
            traffic_give_back(r, b);
            if (until_ns != 0 && now_ns() >= until_ns)
                return TRAFFIC_TIME_OVER;
            ring_reader_sleeps(r);
            ring_fence();
            if (!ring_reader_refresh(r))
                return TRAFFIC_BROKEN;
            if (ring_ready(r) > 0)
                continue;
            enum err e = bell_wait(b, until_ms(until_ns));
            if (e == ERR_OK)
                continue;
            bool has_work = ring_reader_refresh(r) && ring_ready(r) > 0;
            if (e == ERR_END && has_work)
                continue;
            return e == ERR_END ? TRAFFIC_PEER_GONE : silence(has_work, until_ns);
        }
        for (int again = 0; slow && again < 6; again++) { /* so that the producer has to wait: read it more often */
            struct ring_reader copy = *r;
            if (!traffic_read(&copy))
                return TRAFFIC_WRONG;
        }
        if (!traffic_read(r))
            return TRAFFIC_WRONG;
        --*count;
        if (--batch == 0) {
            traffic_give_back(r, b);
            if (until_ns != 0 && now_ns() >= until_ns)
                return TRAFFIC_TIME_OVER;
            batch = 1 + random_below(&seed, 64);
            if (random_below(&seed, 100) == 0)
                slow = random_below(&seed, 3) == 0;
        }
    }
    traffic_give_back(r, b);
    return TRAFFIC_DONE;
}

/* All records through one ring between this process and a child. NULL, or what went wrong. */
static inline const char *traffic_run(uint64_t cap, uint64_t begin_pos, uint64_t count, uint64_t seed) {
    static char text[200];
    struct pair p;
    struct bells side[2];
    pair_map(&p, cap);
    pair_set(&p, begin_pos, begin_pos);
    bells_make(side);
    uint64_t *sleeps = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    check(sleeps != MAP_FAILED);
    pid_t child = testing_fork();
    if (child == 0) {
        signal(SIGPIPE, SIG_IGN);
        bells_close(&side[1]);
        struct ring_writer w;
        int end = ring_writer_open(&w, &p.producer) == ERR_OK ? (int)traffic_produce(&w, &side[0], count, 0, seed)
                                                              : TRAFFIC_BROKEN;
        *sleeps = side[0].sleeps;
        _exit(end);
    }
    signal(SIGPIPE, SIG_IGN);
    bells_close(&side[0]);
    struct ring_reader r = {0};
    uint64_t left = count;
    int end = ring_reader_open(&r, &p.consumer) == ERR_OK ? (int)traffic_consume(&r, &side[1], &left, 0, ~seed)
                                                          : TRAFFIC_BROKEN;
    bells_close(&side[1]);
    int other = testing_wait(child);
    printf("%llu records, cap %llu, from %llx: %llu sleeps for room, %llu for records\n",
           (unsigned long long)(count - left), (unsigned long long)cap, (unsigned long long)begin_pos,
           (unsigned long long)*sleeps, (unsigned long long)side[1].sleeps);
    snprintf(text, sizeof text, "consumer: %s, %llu records left; producer: %s (%d)", traffic_text(end),
             (unsigned long long)left, traffic_text(other), other);
    bool good = end == TRAFFIC_DONE && other == TRAFFIC_DONE && ring_ready(&r) == 0 && r.tail_pos == r.produced_pos;
    munmap(sleeps, 4096);
    pair_free(&p);
    return good ? NULL : text;
}

#endif
