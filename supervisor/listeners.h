/* supervisor/listeners.h: one listening socket for each frontend, all on one address, the kernel spreads the
 * connections.
 *
 * The supervisor keeps every one of them open, so that connections which wait in its queue outlive a frontend.
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

/* "host:port", with brackets around an IPv6 address. */
void listeners_address(char *out, size_t cap, const char *host, int32_t port);

#endif
