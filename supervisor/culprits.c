/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/culprits.h"

#include <arpa/inet.h>
#include <string.h>

static struct in6_addr source_of(const struct in6_addr *peer) {
    struct in6_addr source = *peer;
    if (!IN6_IS_ADDR_V4MAPPED(peer))
        memset(&source.s6_addr[8], 0, 8);
    return source;
}

/* The entry of a source: its own, a new one, or the one whose last death is longest ago. */
static struct culprit *entry_of(struct culprits *t, const struct in6_addr *source) {
    struct culprit *oldest = &t->at[0];
    for (uint32_t i = 0; i < t->count; i++) {
        if (memcmp(&t->at[i].source, source, sizeof *source) == 0)
            return &t->at[i];
        if (t->at[i].died_ms[0] < oldest->died_ms[0])
            oldest = &t->at[i];
    }
    struct culprit *c = t->count < CULPRITS_MAX ? &t->at[t->count++] : oldest;
    *c = (struct culprit){.source = *source};
    return c;
}

const struct culprit *culprits_note(struct culprits *t, const struct in6_addr *peer, uint64_t now_ms) {
    struct in6_addr source = source_of(peer);
    struct culprit *c = entry_of(t, &source);
    if (culprits_lasts_ms(c, now_ms) == 0)
        c->wait_ms = 0;
    memmove(&c->died_ms[1], &c->died_ms[0], sizeof c->died_ms - sizeof c->died_ms[0]);
    c->died_ms[0] = now_ms;
    uint64_t first = c->died_ms[CULPRITS_DEATHS - 1];
    if (c->wait_ms)
        c->wait_ms = 2 * c->wait_ms < CULPRITS_WAIT_MAX_MS ? 2 * c->wait_ms : CULPRITS_WAIT_MAX_MS;
    else if (first && now_ms - first < CULPRITS_MEMORY_MS)
        c->wait_ms = CULPRITS_WAIT_MS;
    return c;
}

uint64_t culprits_lasts_ms(const struct culprit *c, uint64_t now_ms) {
    uint64_t end_ms = c->died_ms[0] + CULPRITS_MEMORY_MS;
    return c->wait_ms && now_ms < end_ms ? end_ms - now_ms : 0;
}

const char *culprits_text(const struct culprit *c, char text[static CULPRITS_TEXT]) {
    if (IN6_IS_ADDR_V4MAPPED(&c->source))
        return inet_ntop(AF_INET, &c->source.s6_addr[12], text, CULPRITS_TEXT);
    inet_ntop(AF_INET6, &c->source, text, INET6_ADDRSTRLEN);
    return strcat(text, "/64");
}
