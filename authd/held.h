/* SPDX-License-Identifier: Apache-2.0 */
/* authd/held.h: answers that wait for their time, the earliest first. Bounded by link. */
#ifndef AUTHD_HELD_H
#define AUTHD_HELD_H

#include "authd/source.h"
#include "authd/users.h"
#include "base/err.h"
#include "ipc/nonce.h"
#include "shm/commit.h"

enum { HELD_LINK_MAX = 4096 };

/* One answer to one login. A binding is made when the answer is sent, because a held answer may outlive its table of users. */
struct answer {
    uint32_t link, session, id;
    uint32_t conn, generation;
    uint32_t table;          /* of users, that was in force when it was decided */
    const struct user *user; /* of that table; NULL: refused */
    int reason;              /* if refused: enum RefusalReason */
    const char *why;         /* static text or NULL */
    struct source_address source;
    bool counted; /* among the bad verdicts that its source has waiting */
    bool has_nonce;
    char nonce[NONCE_CHARS]; /* is used up when the answer is sent */
    uint64_t nonce_ms;       /* when it was shown, clock_mono_ms */
};

struct held_answer {
    uint64_t due_ms, number;
    uint32_t place; /* in the heap */
    struct answer answer;
};

/* A zeroed one is empty. */
struct held {
    struct held_answer **at; /* a heap */
    uint32_t count, cap;
    uint64_t number; /* of the latest: equal times keep their order */
    uint32_t of_link[LINKS_MAX];
};

/* NULL: too many of that link, or no memory. It is good until it is taken out. */
struct held_answer *held_put(struct held *held, const struct answer *answer, uint64_t due_ms);

/* The earliest; NULL: there is none. */
struct held_answer *held_first(const struct held *held);

/* Takes one out and gives it back. */
void held_take(struct held *held, struct held_answer *one, struct answer *answer);

void held_free(struct held *held);

#endif
