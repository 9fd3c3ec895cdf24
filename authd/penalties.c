#include "authd/penalties.h"

void penalties_open(struct penalties *p) {
    memset(p, 0, sizeof *p);
    hash_key_make(&p->key);
}

static uint32_t *bucket_of(struct penalties *p, struct source_address source) {
    return &p->bucket[hash_bytes(&p->key, source.at, sizeof source.at) % PENALTIES_SOURCES];
}

static struct penalty *find(struct penalties *p, struct source_address source) {
    for (uint32_t n = *bucket_of(p, source); n; n = p->at[n - 1].next) {
        if (source_equal(p->at[n - 1].source, source))
            return &p->at[n - 1];
    }
    return NULL;
}

static void forget(struct penalties *p, struct penalty *gone) {
    uint32_t *link = bucket_of(p, gone->source), number = (uint32_t)(gone - p->at) + 1;
    while (*link != number)
        link = &p->at[*link - 1].next;
    *link = gone->next;
    *gone = (struct penalty){0};
}

/* A free place, or that of the source that failed longest ago. */
static struct penalty *take_place(struct penalties *p) {
    struct penalty *oldest = &p->at[0];
    for (uint32_t i = 0; i < PENALTIES_SOURCES; i++) {
        if (!p->at[i].last_ms)
            return &p->at[i];
        if (p->at[i].last_ms < oldest->last_ms)
            oldest = &p->at[i];
    }
    forget(p, oldest);
    return oldest;
}

void penalties_count(struct penalties *p, struct source_address source, uint64_t now_ms) {
    struct penalty *e = find(p, source);
    now_ms = now_ms ? now_ms : 1;
    if (!e) {
        e = take_place(p);
        uint32_t *bucket = bucket_of(p, source);
        *e = (struct penalty){.source = source, .next = *bucket};
        *bucket = (uint32_t)(e - p->at) + 1;
    }
    if (!e->failures || now_ms - e->first_ms > PENALTIES_WINDOW_MS) {
        e->first_ms = now_ms;
        e->failures = 0;
    }
    e->failures++;
    e->last_ms = now_ms;
}

enum err penalties_delay(struct penalties *p, const struct user_penalties *rules, struct source_address source,
                         uint64_t now_ms, uint32_t *delay_ms) {
    const struct penalty *e = find(p, source);
    *delay_ms = 0;
    if (!rules->after || !e || e->failures < rules->after || now_ms - e->first_ms > PENALTIES_WINDOW_MS)
        return ERR_OK;
    uint64_t delay = (uint64_t)rules->step_ms * (e->failures - rules->after + 1);
    *delay_ms = delay > rules->max_ms ? rules->max_ms : (uint32_t)delay;
    return *delay_ms && e->held >= PENALTIES_HELD_MAX ? ERR_LONG : ERR_OK;
}

void penalties_hold(struct penalties *p, struct source_address source) {
    struct penalty *e = find(p, source);
    if (e)
        e->held++;
}

void penalties_release(struct penalties *p, struct source_address source) {
    struct penalty *e = find(p, source);
    if (e && e->held)
        e->held--;
}
