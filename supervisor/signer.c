/* SPDX-License-Identifier: Apache-2.0 */
/* The one signer, which lives while there is TLS: it gets the private keys, and a socket to each edge that is going. */
#include <signal.h>

#include "supervisor/supervisor.h"

void signer_start(struct supervisor *s, struct parts *p, uint32_t generation) {
    struct child *c = child_of(s, BULKHEAD__ROLE__ROLE_SIGNER, 0);
    if (s->stop || c->pid || !p->tls.given || child_start(s, c) != ERR_OK)
        return;
    parts_send(s, c, p, generation);
    child_meet(s, c);
}

void signer_settle(struct supervisor *s, struct child *c) {
    if (s->parts.tls.given && c->restart_ms <= s->now_ms)
        signer_start(s, &s->parts, s->settings.generation);
    if (s->parts.tls.given || s->stop)
        return;
    c->restart_ms = 0;
    c->dismissed = c->pid != 0;
    child_signal(c, SIGKILL); /* safe: with TLS off no handshake needs a signature */
}

void signer_on_exit(struct supervisor *s, struct child *c, const struct death *death) {
    if (!s->parts.tls.given)
        return;
    if (c->dismissed || child_rest(s, c, death->fault, CHILD_REST_MS) == 0)
        signer_settle(s, c);
}
