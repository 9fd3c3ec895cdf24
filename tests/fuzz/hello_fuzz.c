/* SPDX-License-Identifier: Apache-2.0 */
/* What a client sends before and in a handshake, in pieces, to a frontend's TLS step. The first byte chooses the manner
 * (bit 0: plain clients beside TLS, bit 1: the handshake comes first), the second how the rest is cut. There is no
 * signer: a good hello ends in a paused job, which the end of the connection must bring to its end. What must hold:
 * nothing breaks, nothing leaks, and no connection is left over. */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/clock.h"
#include "frontend/tls.h"
#include "ipc/control.pb-c.h"
#include "tests/support/front.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct frontend frontend;
static struct tls_context *contexts[4];

static void prepare(struct frontend *f) {
    check(frontend_open(f) == ERR_OK && tls_prepare() == ERR_OK);
    char *pem = front_certificate(), why[256];
    Bulkhead__Tls m = BULKHEAD__TLS__INIT;
    m.chain_bytes = (uint32_t)strlen(pem);
    m.timeout_ms = 1000;
    for (int i = 0; i < 4; i++) {
        m.allow_non_tls = i & 1;
        m.first = i & 2;
        m.first_after_ms = m.first ? 100 : 0;
        check(tls_context_make(&contexts[i], &m, pem, why, sizeof why) == ERR_OK);
    }
    free(pem);
    f->counters = calloc(1, sizeof *f->counters);
    f->epoll = epoll_create1(EPOLL_CLOEXEC);
    f->settings.max_payload = 1024;
    f->settings.ping_interval_ms = 1000;
    f->limits = (struct parse_limits){1024, 1024};
    f->flush_bytes = f->pending_bytes = f->gate_bytes = 1 << 20;
    int signer[2];
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, signer) == 0);
    check(tls_signer_open(f, signer[0]) == ERR_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct frontend *f = &frontend;
    if (!f->counters)
        prepare(f);
    if (size < 2)
        return 0;
    f->tls = contexts[data[0] & 3];
    f->now_ms = clock_mono_ms();
    size_t step = data[1] ? data[1] : 65536;
    int ends[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    struct client *c = client_new(f, ends[0]);
    check(c != NULL);
    tls_accept(f, c);
    for (size_t at = 2; at < size && c->state < CLIENT_ENDING && c->tls; at += step) {
        size_t n = size - at < step ? size - at : step;
        if (send(ends[1], data + at, n, MSG_NOSIGNAL) < 0)
            break;
        char at_once[TLS_RECORD];
        while (c->state < CLIENT_ENDING && c->tls && tls_read(f, c, at_once, sizeof at_once) > 0)
            continue;
    }
    client_fail(f, c, "the end");
    ends_run(f);
    check(f->client_count == 0 && f->heap_count == 0);
    close(ends[1]);
    return 0;
}
