/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/listeners.h: one listening socket for each frontend, all on one address, the kernel spreads the
 * connections.
 *
 * The supervisor keeps them open, so that connections which wait in a queue outlive a frontend; but for one that rests
 * in a crash loop (supervisor/edges.c).
 */
#ifndef SUPERVISOR_LISTENERS_H
#define SUPERVISOR_LISTENERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { LISTENER_BACKLOG = 4096 };

/* Binds count sockets; port -1: one that the kernel chooses; *bound_port is the port in the end. ERR_SYSTEM: why (cap
 * bytes) says it in the words of nats-server. */
enum err listeners_bind(int *fds, uint32_t count, const char *host, int32_t port, uint16_t *bound_port, char *why,
                        size_t cap);

/* One more socket on the address of one that listens; it is the caller's. ERR_SYSTEM with errno. */
enum err listeners_join(int *fd, int sibling_fd);

/* True for a host that means every address of the machine, of both families. */
bool listeners_are_everywhere(const char *host);

/* "host:port", with brackets around an IPv6 address. */
void listeners_address(char *out, size_t cap, const char *host, int32_t port);

#endif
