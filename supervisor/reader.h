/* supervisor/reader.h: has the configuration read by a process without rights (bulkhead-config), and serves it files.
 *
 * The reader gets descriptors of regular files for reading, nothing else; paths are relative to the supervisor's own
 * folder. What comes back has a fixed size and no credential in it.
 */
#ifndef SUPERVISOR_READER_H
#define SUPERVISOR_READER_H

#include "config/flags.h"
#include "config/reader.h"
#include "supervisor/spawn.h"

struct reading {
    const struct spawner *spawner;
    int argc;
    char **argv;
    const uint8_t *key; /* RELOAD_KEY_BYTES */
    bool test;          /* only what -t asks */
    /* What goes on while the reader works: called when loop_fd is readable, and every 20 ms; false gives the reading up.
     * NULL: nothing. */
    bool (*meanwhile)(void *owner);
    void *owner;
    int loop_fd;
};

/* Waits for the reader, READER_MS at most. result->valid is false for whatever went wrong; then the message says it. */
void reader_run(const struct reading *r, struct reader_result *result);

#endif
