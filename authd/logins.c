#include "authd/logins.h"

#include "authd/accounts.h"

void logins_open(struct logins *l, const struct binding_key *key, struct counters *counters, uint32_t payload_max,
                 uint32_t subs_max, uint64_t wall_ns) {
    uint64_t high = counter_get(counters, COUNTER_SERIAL_HIGH);
    *l = (struct logins){.key = key,
                         .counters = counters,
                         .payload_max = payload_max,
                         .subs_max = subs_max,
                         .serial = high > wall_ns ? high : wall_ns};
}

/* The page has the number before anybody can see it. */
static uint64_t next_serial(struct logins *l) {
    l->serial++;
    counter_set(l->counters, COUNTER_SERIAL_HIGH, l->serial);
    return l->serial;
}

enum err logins_decide(struct logins *l, struct logins_edge *edge, uint32_t conn, uint32_t generation, uint64_t wall_s,
                       struct binding *out) {
    if (conn >= SOFT_CONNS_MAX || generation <= edge->last_generation[conn]) {
        counter_add(l->counters, COUNTER_BINDINGS_REFUSED, 1);
        return ERR_STALE;
    }
    edge->last_generation[conn] = generation;
    *out = (struct binding){
        .kind = edge->kind,
        .link = edge->link,
        .incarnation = edge->incarnation,
        .conn = conn,
        .generation = generation,
        .serial = next_serial(l),
        .issued_s = wall_s,
        .account = ACCOUNTS_GLOBAL,
        .principal = LOGINS_ONLY_PRINCIPAL,
        .payload_max = UINT32_MAX, /* none beside the server's own */
        .subs_max = l->subs_max,
    };
    binding_seal(out, l->key);
    counter_add(l->counters, COUNTER_BINDINGS, 1);
    return ERR_OK;
}
