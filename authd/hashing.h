/* SPDX-License-Identifier: Apache-2.0 */
/* authd/hashing.h: bcrypt hashes, made by threads of their own so that nothing else waits for them.
 *
 * A job is queued (authd/fair.h), compared by a worker, and collected. The workers are the only threads of authd. They
 * touch jobs and nothing else, run at a lower priority than traffic, and lock themselves in before they take one.
 */
#ifndef AUTHD_HASHING_H
#define AUTHD_HASHING_H

#include <pthread.h>

#include "authd/bcrypt.h"
#include "authd/fair.h"

enum { HASHING_WORKERS_MAX = 4 };

/* Embedded at the start of what the owner knows of it. password is the owner's memory, which stays as it is meanwhile.
 */
struct hash_job {
    struct fair_item item; /* link, source and bytes are the owner's to set */
    struct hash_job *next;
    char hash[BCRYPT_CHARS];
    struct view password;
    bool matches; /* the result */
};

struct hashing {
    pthread_mutex_t lock; /* of all but bell[0] */
    pthread_cond_t wanted;
    struct fair fair;
    struct hash_job *done, **done_end;
    uint32_t ready;   /* workers that are locked in */
    enum err trouble; /* why one could not be */
    enum err (*lock_in)(void);
    int bell[2]; /* a pipe: a byte in it when something is done; the reading end is to be polled */
};

/* Starts the workers, one a core, and waits until each has called lock_in; its error is returned. To be called once,
 * while threads can still be started; there is no way back. */
enum err hashing_open(struct hashing *h, enum err (*lock_in)(void));

/* Queues a job; it is the queue's until it is collected or dropped. *dropped: a list of jobs of the same link that had
 * to make room, whatever is returned. ERR_LONG: too much waits for that link or source; ERR_NOMEM. */
enum err hashing_submit(struct hashing *h, struct hash_job *job, struct hash_job **dropped);

/* Takes back one job, if nobody has begun it. */
bool hashing_withdraw(struct hashing *h, struct hash_job *job);

/* All that is done, a list in that order; NULL: nothing. Empties the bell. */
struct hash_job *hashing_collect(struct hashing *h);

/* Takes back all jobs of a link that nobody has begun, as a list. Those that were begun are collected as ever. */
struct hash_job *hashing_drop(struct hashing *h, uint32_t link);

#endif
