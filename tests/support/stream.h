/* SPDX-License-Identifier: Apache-2.0 */
/* tests/support/stream.h: random streams of records over several links, and what must come of them.
 *
 * A stream is a list of batches. A batch holds records of one link, or messages alone of all links; the next begins when
 * everything has been consumed. So what each subscription gets of each publisher does not depend on how links interleave,
 * nor on how many routers die. The oracle is a list of subscriptions and subject_matches. Half of the connections have a permission
 * set, which oracle.h judges; run_begin puts the sets into the world's book.
 */
#ifndef TESTS_SUPPORT_STREAM_H
#define TESTS_SUPPORT_STREAM_H

#include "tests/support/edge.h"

enum op_type { OP_CONNECT, OP_OPTIONS, OP_SUB, OP_UNSUB, OP_PUB, OP_CLOSE, OP_GATE };

struct op {
    uint8_t type, link, options;
    uint8_t subject, queue;    /* indexes; queue 0: none */
    uint8_t set;               /* of OP_CONNECT */
    uint32_t conn, sub, after; /* uids; after UINT32_MAX: none */
    uint32_t max, seq;
};

struct log {
    uint64_t *at; /* publisher uid << 32 | seq */
    uint32_t count, cap;
};

enum { STREAM_SUBS_MAX = 8192, STREAM_CONNS_MAX = 2048, STREAM_QUEUES = 3 };

struct stream_sub {
    struct log log;
    uint32_t slot, conn, max, delivered;
    uint8_t subject, queue;
    bool live, had_max, made;
};

struct stream_conn {
    uint32_t number, seq, denies;
    uint8_t link, options, set; /* set: number of its permissions, 0: none */
    bool live, gate;
};

/* What is expected, or what has come. */
struct result {
    struct stream_sub sub[STREAM_SUBS_MAX];
    struct stream_conn conn[STREAM_CONNS_MAX];
    struct log group[STREAM_QUEUES];
};

struct batch {
    uint32_t first, count;
};

struct stream {
    struct op *op;
    uint32_t op_count, op_cap;
    struct batch *batch;
    uint32_t batch_count;
    uint32_t sub_count, conn_count;
    struct result want;
};

/* A stream of batch_count batches over link_count links. */
struct stream *stream_make(uint64_t seed, uint32_t link_count, uint32_t batch_count);
void stream_free(struct stream *s);

/* A run of it over a world. */
struct run {
    const struct stream *stream;
    struct world *world;
    struct result got;
};
void run_begin(struct run *run, const struct stream *s, struct world *w);
void run_op(struct run *run, const struct op *op); /* writes the record; nothing is published */
void run_publish(struct run *run);
/* Null, or what is wrong, with everything consumed and read. */
const char *run_judge(struct run *run);
void run_end(struct run *run);

#endif
