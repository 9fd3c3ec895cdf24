/* SPDX-License-Identifier: Apache-2.0 */
/* The one signer, which lives while there is TLS: it gets the private keys, and a socket to each edge that is going. */
#include <signal.h>

#include "supervisor/supervisor.h"

static struct child *signer(struct supervisor *s) {
    return child_of(s, BULKHEAD__ROLE__ROLE_SIGNER, 0);
}

void signer_start(struct supervisor *s, struct parts *p, uint32_t generation) {
    struct child *c = signer(s);
    if (s->stop || c->pid || !p->tls.given || child_start(s, c, s->counters_fd[c->role->role]) != ERR_OK)
        return;
    parts_send(s, c, p, generation);
    for (uint32_t i = 0; i < s->edge_count; i++) {
        if (s->edge[i].state == EDGE_GOING)
            child_introduce(s, c, child_of(s, BULKHEAD__ROLE__ROLE_FRONTEND, i));
    }
}

void signer_settle(struct supervisor *s) {
    struct child *c = signer(s);
    if (s->parts.tls.given && c->restart_ms <= s->now_ms)
        signer_start(s, &s->parts, s->settings.generation);
    if (s->parts.tls.given || s->stop)
        return;
    c->restart_ms = 0;
    c->dismissed = c->pid != 0;
    child_signal(c, SIGKILL); /* safe: with TLS off no handshake needs a signature */
}

void signer_on_exit(struct supervisor *s, struct child *c, bool fault) {
    if (!s->parts.tls.given)
        return;
    c->restart_ms = c->dismissed ? s->now_ms : s->now_ms + child_restart_delay(s, c, &s->signer_restarts, fault, CHILD_REST_MS);
    if (c->restart_ms <= s->now_ms)
        signer_settle(s);
}
