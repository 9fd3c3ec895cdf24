/* SPDX-License-Identifier: Apache-2.0 */
#include "authd/logins.h"

void logins_open(struct logins *l, const struct binding_key *key, struct counters *counters, uint64_t wall_ns) {
    uint64_t high = counter_get(counters, COUNTER_SERIAL_HIGH);
    *l = (struct logins){.key = key, .counters = counters, .serial = high > wall_ns ? high : wall_ns};
}

/* The page has the number before anybody can see it. */
static uint64_t next_serial(struct logins *l) {
    l->serial++;
    counter_set(l->counters, COUNTER_SERIAL_HIGH, l->serial);
    return l->serial;
}

enum err logins_admit(struct logins *l, struct logins_edge *edge, uint32_t conn, uint32_t generation) {
    if (conn >= SOFT_CONNS_MAX || generation <= edge->last_generation[conn]) {
        counter_add(l->counters, COUNTER_BINDINGS_REFUSED, 1);
        return ERR_STALE;
    }
    edge->last_generation[conn] = generation;
    return ERR_OK;
}

void logins_seal(struct logins *l, const struct logins_edge *edge, uint32_t conn, uint32_t generation,
                 const struct user *user, uint64_t wall_s, struct binding *out) {
    *out = (struct binding){
        .kind = edge->kind,
        .link = edge->link,
        .incarnation = edge->incarnation,
        .conn = conn,
        .generation = generation,
        .serial = next_serial(l),
        .issued_s = wall_s,
        .account = user->account_number,
        .principal = user->principal,
        .permissions = user->permissions,
        .payload_max = user->payload_max,
        .subs_max = user->subs_max,
    };
    binding_seal(out, l->key);
    counter_add(l->counters, COUNTER_BINDINGS, 1);
}
