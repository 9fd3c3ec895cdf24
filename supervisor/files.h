/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/files.h: the two small files that tell others about the running server.
 *
 * They are made relative to the descriptor of their folder, and never through a link in the place of the file itself.
 */
#ifndef SUPERVISOR_FILES_H
#define SUPERVISOR_FILES_H

#include <stdbool.h>
#include <stdint.h>

/* Writes the process id, without a newline. Not 0: it failed, with errno. */
int files_write_pid(const char *path);

/* Writes DIR/NAME_PID.ports: {"nats":["nats://HOST:PORT"]} (tls://HOST:PORT with TLS), for a listener on all addresses one
 * for each; it appears whole. A failure is one log line. No directory (an empty text): nothing happens. */
void files_write_ports(const char *directory, const char *name, const char *host, uint16_t port, bool tls);
void files_remove_ports(const char *directory, const char *name);

#endif
