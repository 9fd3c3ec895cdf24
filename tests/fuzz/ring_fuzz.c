/* SPDX-License-Identifier: Apache-2.0 */
/* Both sides of a ring against a peer that is the input: a list of operations, of which half are the peer's stores into
 * the page and the area that it may write, and half are steps of ours. When a rule is found broken the link ends and a
 * new one begins on the same memory.
 *
 * What must hold: ours never reads or writes outside the mapping (the area stands between pages that nobody may touch),
 * never believes more ready than the capacity nor more room than there is, and every offset is the position's. */
#include "shm/ring.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "shm/memfd.h"
#include "shm/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CAP = 3 * 4096 };

enum op {
    PEER_POSITION,      /* 8 bytes: store it */
    PEER_POSITION_NEAR, /* 2 bytes, signed: the last one plus so much */
    PEER_NUMBER,        /* 1 byte: sleep or room number plus so much */
    PEER_BYTES,         /* 2 bytes offset, 1 byte length, bytes: into the area */
    PEER_HEADER,        /* 24 bytes: at the peer's head, which goes on behind what they say */
    OUR_LOOK,
    OUR_RECORD, /* reader: take one; writer: 2 bytes length, write one */
    OUR_COMMIT, /* release or publish, then the look at the number */
    OUR_SLEEP,
    OUR_OPEN,
    OP_COUNT
};

struct input {
    const uint8_t *at;
    size_t left;
};

static void take(struct input *in, void *to, size_t len) {
    size_t n = in->left < len ? in->left : len;
    memset(to, 0, len);
    if (n > 0)
        memcpy(to, in->at, n);
    in->at += n;
    in->left -= n;
}

static struct ring_map producer, consumer;
static uint8_t names[2 * RECORD_TEXT_MAX], payload[CAP];

/* Between two pages without rights. */
static struct ring_map map_guarded(int data_fd, int credit_fd, bool is_producer) {
    struct ring_map map, guarded;
    check(ring_map(&map, data_fd, credit_fd, is_producer) == ERR_OK);
    size_t bytes = RING_PAGE + 2 * (size_t)map.cap;
    uint8_t *room = mmap(NULL, bytes + 2 * RING_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(room != MAP_FAILED);
    guarded = map;
    guarded.data = room + RING_PAGE;
    int prot = is_producer ? PROT_READ | PROT_WRITE : PROT_READ;
    check(mmap(guarded.data, ring_data_bytes(map.cap), prot, MAP_SHARED | MAP_FIXED, data_fd, 0) == guarded.data);
    uint8_t *again = room + RING_PAGE + ring_data_bytes(map.cap);
    check(mmap(again, map.cap, prot, MAP_SHARED | MAP_FIXED, data_fd, RING_PAGE) == again);
    munmap(map.data, bytes);
    return guarded;
}

static void make_rings(void) {
    int data_fd, credit_fd;
    check(memfd_make(&data_fd, "fuzz-data", ring_data_bytes(CAP), 1) == ERR_OK);
    check(memfd_make(&credit_fd, "fuzz-credit", RING_PAGE, 1) == ERR_OK);
    producer = map_guarded(data_fd, credit_fd, true);
    consumer = map_guarded(data_fd, credit_fd, false);
}

static struct ring_data *shared_data(void) {
    return producer.data;
}

static struct ring_credit *shared_credit(void) {
    return consumer.credit;
}

/* ---- our side ---- */

static struct ring_reader reader;
static struct ring_writer writer;
static bool is_open, ours_writes;

static void look_reader(void) {
    check(ring_ready(&reader) <= CAP && reader.produced_pos - reader.consumed_pos <= CAP);
    check(reader.tail_off < CAP && reader.tail_pos % RING_ALIGN == 0 && ring_ready(&reader) % RING_ALIGN == 0);
    check(reader.tail_pos - reader.consumed_pos <= reader.produced_pos - reader.consumed_pos);
}

static void look_writer(void) {
    check(ring_room(&writer) <= CAP && writer.head_pos - writer.consumed_pos <= CAP);
    check(writer.head_off < CAP && writer.head_pos % RING_ALIGN == 0 && writer.consumed_pos % RING_ALIGN == 0);
    check(writer.produced_pos - writer.consumed_pos <= writer.head_pos - writer.consumed_pos);
}

static void read_record(void) {
    if (ring_ready(&reader) == 0)
        return;
    struct record rec;
    struct record_parts parts;
    const uint8_t *at = ring_tail(&reader);
    enum record_direction direction = at[0] & 1 ? RECORD_TO_ROUTER : RECORD_TO_EDGE;
    if (record_take(&rec, &parts, at, ring_ready(&reader), direction) != ERR_OK) {
        is_open = false;
        return;
    }
    check(at + rec.len <= reader.area + 2 * CAP);
    memcpy(names, at + parts.subject, (size_t)rec.subject_len + rec.reply_len);
    memcpy(payload, at + parts.payload, rec.payload_len);
    ring_skip(&reader, rec.len);
}

static void write_record(uint64_t len) {
    len = 1 + len % CAP;
    if (!ring_has_room(&writer, ring_round(len), 0)) {
        is_open = !writer.broken;
        return;
    }
    memset(ring_head(&writer), (int)len, len);
    ring_advance(&writer, len);
}

static void commit(void) {
    if (ours_writes) {
        ring_publish(&writer);
        ring_fence();
        if (ring_writer_must_ring(&writer))
            check(!ring_writer_must_ring(&writer));
    } else {
        ring_release(&reader);
        ring_fence();
        if (ring_reader_must_ring(&reader))
            check(!ring_reader_must_ring(&reader));
    }
}

static void open_ours(void) {
    is_open = (ours_writes ? ring_writer_open(&writer, &producer) : ring_reader_open(&reader, &consumer)) == ERR_OK;
}

/* ---- the peer ---- */

static void peer_bytes(struct input *in, uint64_t at, uint64_t len) {
    uint8_t *area = (uint8_t *)producer.data + RING_PAGE;
    take(in, area + at, len);
}

static void peer_header(struct input *in, uint64_t pos) {
    struct record r;
    take(in, &r, sizeof r);
    memcpy((uint8_t *)producer.data + RING_PAGE + pos % CAP, &r, sizeof r);
    atomic_store(&shared_data()->produced_pos, pos + ring_round(r.len));
}

static void step(struct input *in, _Atomic uint64_t *peer_pos, _Atomic uint64_t *peer_no) {
    uint8_t op;
    take(in, &op, 1);
    switch ((enum op)(op % OP_COUNT)) {
    case PEER_POSITION: {
        uint64_t pos;
        take(in, &pos, sizeof pos);
        atomic_store(peer_pos, pos);
        break;
    }
    case PEER_POSITION_NEAR: {
        int16_t by;
        take(in, &by, sizeof by);
        atomic_fetch_add(peer_pos, (uint64_t)(int64_t)by);
        break;
    }
    case PEER_NUMBER: {
        uint8_t by;
        take(in, &by, 1);
        atomic_fetch_add(peer_no, by);
        break;
    }
    case PEER_BYTES: {
        uint16_t at;
        uint8_t len;
        take(in, &at, sizeof at);
        take(in, &len, 1);
        if (!ours_writes)
            peer_bytes(in, at % CAP, len);
        break;
    }
    case PEER_HEADER:
        if (!ours_writes)
            peer_header(in, atomic_load(peer_pos));
        break;
    case OUR_LOOK:
        if (is_open)
            is_open = ours_writes ? ring_writer_refresh(&writer) : ring_reader_refresh(&reader);
        break;
    case OUR_RECORD: {
        uint16_t len = 0;
        if (ours_writes)
            take(in, &len, sizeof len);
        if (is_open && ours_writes)
            write_record(len);
        else if (is_open)
            read_record();
        break;
    }
    case OUR_COMMIT:
        if (is_open)
            commit();
        break;
    case OUR_SLEEP:
        if (is_open && ours_writes)
            ring_writer_sleeps(&writer);
        else if (is_open)
            ring_reader_sleeps(&reader);
        break;
    case OUR_OPEN:
    case OP_COUNT:
        open_ours();
        break;
    }
    if (is_open && ours_writes)
        look_writer();
    else if (is_open)
        look_reader();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!producer.data)
        make_rings();
    struct input in = {data, size};
    uint8_t how;
    take(&in, &how, 1);
    ours_writes = how & 1;
    /* Begins: zero, the ends of 32 and 63 bits, or wherever the input says; ours and theirs the same, so that it opens.
     */
    uint64_t begin = 0;
    if (how & 2)
        begin = how & 4 ? ((uint64_t)1 << 63) - 64 : ((uint64_t)1 << 32) - 64;
    else if (how & 4)
        take(&in, &begin, sizeof begin);
    memset(shared_data(), 0, RING_PAGE);
    memset(shared_credit(), 0, RING_PAGE);
    memset((uint8_t *)producer.data + RING_PAGE, 0, CAP);
    atomic_store(&shared_data()->produced_pos, begin);
    atomic_store(&shared_credit()->consumed_pos, begin);
    open_ours();
    while (in.left > 0)
        if (ours_writes)
            step(&in, &shared_credit()->consumed_pos, &shared_credit()->sleep_no);
        else
            step(&in, &shared_data()->produced_pos, &shared_data()->room_no);
    return 0;
}
