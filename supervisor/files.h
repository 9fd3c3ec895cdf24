/* supervisor/files.h: the two small files that tell others about the running server. */
#ifndef SUPERVISOR_FILES_H
#define SUPERVISOR_FILES_H

#include <stdint.h>

/* Writes the process id, without a newline. Ends the server if that fails. */
void files_write_pid(const char *path);

/* Writes DIR/bulkhead_PID.ports: {"nats":["nats://HOST:PORT"]}; it appears whole. A failure is one log line. No
 * directory (an empty text): nothing happens. */
void files_write_ports(const char *directory, const char *host, uint16_t port);
void files_remove_ports(const char *directory);

#endif
