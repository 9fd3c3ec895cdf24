/* SPDX-License-Identifier: Apache-2.0 */
#include "authd/hashing.h"

#include <fcntl.h>
#include <malloc.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"

enum { WORKER_STACK = 256 * 1024, WORKER_NICE = 10 };

static struct hash_job *job_of(struct fair_item *item) {
    return (struct hash_job *)(void *)item;
}

/* libseccomp has state of its own: one worker after the other, with the lock. */
static enum err enter(struct hashing *h) {
    pthread_mutex_lock(&h->lock);
    enum err e = h->lock_in();
    if (e != ERR_OK)
        h->trouble = e;
    h->ready++;
    pthread_cond_broadcast(&h->wanted);
    pthread_mutex_unlock(&h->lock);
    return e;
}

static struct hash_job *wait_for_job(struct hashing *h) {
    struct fair_item *item;
    pthread_mutex_lock(&h->lock);
    while (!(item = fair_take(&h->fair)))
        pthread_cond_wait(&h->wanted, &h->lock);
    pthread_mutex_unlock(&h->lock);
    return job_of(item);
}

static void put_done(struct hashing *h, struct hash_job *job) {
    pthread_mutex_lock(&h->lock);
    job->next = NULL;
    *h->done_end = job;
    h->done_end = &job->next;
    pthread_mutex_unlock(&h->lock);
    ssize_t rung = write(h->bell[1], "", 1);
    (void)rung; /* a full pipe rings as well */
}

static void *work(void *owner) {
    struct hashing *h = owner;
    setpriority(PRIO_PROCESS, 0, WORKER_NICE); /* of this thread */
    if (enter(h) != ERR_OK)
        return NULL;
    for (;;) {
        struct hash_job *job = wait_for_job(h);
        job->matches = bcrypt_matches(view_of(job->hash, sizeof job->hash), job->password);
        put_done(h, job);
    }
}

static uint32_t worker_count(void) {
    cpu_set_t cpus;
    int count = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 1;
    return count < 1 ? 1 : count > HASHING_WORKERS_MAX ? HASHING_WORKERS_MAX : (uint32_t)count;
}

enum err hashing_open(struct hashing *h, enum err (*lock_in)(void)) {
    pthread_attr_t attributes;
    pthread_t thread;
    uint32_t count = worker_count();
    *h = (struct hashing){.lock_in = lock_in, .bell = {-1, -1}};
    h->done_end = &h->done;
    fair_open(&h->fair);
    /* An arena for each thread would ask the kernel things that no filter here allows. */
    mallopt(M_ARENA_MAX, 1);
    if (pipe2(h->bell, O_CLOEXEC | O_NONBLOCK) != 0 || pthread_mutex_init(&h->lock, NULL) != 0 ||
        pthread_cond_init(&h->wanted, NULL) != 0 || pthread_attr_init(&attributes) != 0)
        return ERR_SYSTEM;
    pthread_attr_setstacksize(&attributes, WORKER_STACK);
    for (uint32_t i = 0; i < count; i++) {
        if (pthread_create(&thread, &attributes, work, h) != 0)
            return ERR_SYSTEM;
        pthread_detach(thread);
    }
    pthread_attr_destroy(&attributes);
    pthread_mutex_lock(&h->lock);
    while (h->ready < count)
        pthread_cond_wait(&h->wanted, &h->lock);
    enum err e = h->trouble;
    pthread_mutex_unlock(&h->lock);
    return e;
}

enum err hashing_submit(struct hashing *h, struct hash_job *job, struct hash_job **dropped) {
    struct fair_item *item;
    job->item.price = UINT64_C(1) << bcrypt_cost(view_of(job->hash, sizeof job->hash));
    *dropped = NULL;
    pthread_mutex_lock(&h->lock);
    enum err e = fair_put(&h->fair, &job->item, &item);
    pthread_cond_signal(&h->wanted);
    pthread_mutex_unlock(&h->lock);
    for (; item; item = item->next) {
        job_of(item)->next = *dropped;
        *dropped = job_of(item);
    }
    return e;
}

bool hashing_withdraw(struct hashing *h, struct hash_job *job) {
    pthread_mutex_lock(&h->lock);
    bool waited = fair_remove(&h->fair, &job->item);
    pthread_mutex_unlock(&h->lock);
    return waited;
}

struct hash_job *hashing_collect(struct hashing *h) {
    char bytes[64];
    while (read(h->bell[0], bytes, sizeof bytes) > 0)
        ;
    pthread_mutex_lock(&h->lock);
    struct hash_job *list = h->done;
    h->done = NULL;
    h->done_end = &h->done;
    pthread_mutex_unlock(&h->lock);
    return list;
}

struct hash_job *hashing_drop(struct hashing *h, uint32_t link) {
    struct hash_job *list = NULL;
    struct fair_item *item;
    pthread_mutex_lock(&h->lock);
    while ((item = fair_take_of(&h->fair, link))) {
        job_of(item)->next = list;
        list = job_of(item);
    }
    pthread_mutex_unlock(&h->lock);
    return list;
}
