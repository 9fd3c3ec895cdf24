/* SPDX-License-Identifier: Apache-2.0 */
#include "authd/penalties.h"

#include "base/check.h"

void penalties_open(struct penalties *p) {
    memset(p, 0, sizeof *p);
    hash_key_make(&p->key);
}

static uint32_t *bucket_of(struct penalties *p, uint32_t link, struct source_address source) {
    return &p->bucket[(hash_bytes(&p->key, source.at, sizeof source.at) + link) % PENALTIES_SOURCES];
}

static struct penalty *find(struct penalties *p, uint32_t link, struct source_address source) {
    for (uint32_t n = *bucket_of(p, link, source); n; n = p->at[n - 1].next) {
        if (p->at[n - 1].link == link && source_equal(p->at[n - 1].source, source))
            return &p->at[n - 1];
    }
    return NULL;
}

static void forget(struct penalties *p, struct penalty *gone) {
    uint32_t *next = bucket_of(p, gone->link, gone->source), number = (uint32_t)(gone - p->at) + 1;
    while (*next != number)
        next = &p->at[*next - 1].next;
    *next = gone->next;
    p->of_link[gone->link]--;
    *gone = (struct penalty){0};
}

static uint32_t largest_link(const struct penalties *p) {
    uint32_t largest = 0;
    for (uint32_t i = 1; i < LINKS_MAX; i++) {
        if (p->of_link[i] > p->of_link[largest])
            largest = i;
    }
    return largest;
}

/* A free place, or one that is made free. */
static struct penalty *take_place(struct penalties *p) {
    struct penalty *oldest = NULL;
    uint32_t link = largest_link(p);
    for (uint32_t i = 0; i < PENALTIES_SOURCES; i++) {
        if (!p->at[i].last_ms)
            return &p->at[i];
        if (p->at[i].link == link && (!oldest || p->at[i].last_ms < oldest->last_ms))
            oldest = &p->at[i];
    }
    check(oldest != NULL);
    forget(p, oldest);
    return oldest;
}

void penalties_count(struct penalties *p, uint32_t link, struct source_address source, uint64_t now_ms) {
    check(link < LINKS_MAX);
    struct penalty *e = find(p, link, source);
    now_ms = now_ms ? now_ms : 1;
    if (!e) {
        e = take_place(p);
        uint32_t *bucket = bucket_of(p, link, source);
        *e = (struct penalty){.source = source, .link = link, .next = *bucket};
        *bucket = (uint32_t)(e - p->at) + 1;
        p->of_link[link]++;
    }
    if (!e->failures || now_ms - e->first_ms > PENALTIES_WINDOW_MS) {
        e->first_ms = now_ms;
        e->failures = e->served = 0;
    }
    e->failures++;
    e->last_ms = now_ms;
}

uint32_t penalties_delay(struct penalties *p, const struct user_penalties *rules, uint32_t link,
                         struct source_address source, uint64_t now_ms, bool good) {
    struct penalty *e = find(p, link, source);
    if (!rules->after || !rules->step_ms || !e || e->failures < rules->after ||
        now_ms - e->first_ms > PENALTIES_WINDOW_MS)
        return 0;
    if (good && e->served) {
        e->served--;
        return 0;
    }
    if (e->held >= PENALTIES_HELD_MAX)
        return good ? rules->max_ms : 0;
    uint64_t delay = (uint64_t)rules->step_ms * (e->failures - rules->after + 1);
    return delay > rules->max_ms ? rules->max_ms : (uint32_t)delay;
}

void penalties_hold(struct penalties *p, uint32_t link, struct source_address source) {
    struct penalty *e = find(p, link, source);
    if (e)
        e->held++;
}

void penalties_release(struct penalties *p, uint32_t link, struct source_address source) {
    struct penalty *e = find(p, link, source);
    if (e && e->held)
        e->held--;
}

void penalties_serve(struct penalties *p, uint32_t link, struct source_address source) {
    struct penalty *e = find(p, link, source);
    if (e)
        e->served++;
}
