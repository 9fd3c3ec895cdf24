/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/reader.h: has the configuration read by a process without rights (bulkhead-config), and serves it files.
 *
 * The reader gets descriptors of regular files for reading, and empty memories for what is secret
 * (supervisor/secrets.h), nothing else; paths are relative to the supervisor's own folder. What comes back in a packet
 * has a fixed size and no credential in it.
 */
#ifndef SUPERVISOR_READER_H
#define SUPERVISOR_READER_H

#include "config/flags.h"
#include "config/reader.h"
#include "supervisor/secrets.h"
#include "supervisor/spawn.h"

struct reading {
    const struct spawner *spawner;
    int argc;
    char **argv;
    const uint8_t *key; /* RELOAD_KEY_BYTES */
    bool test;          /* only what -t asks: then the result has the options, and no secrets come with it */
    int memory_fd;      /* the READER_MEMORY of the last reading, at its beginning, instead of argv; -1: none */
    uint32_t until_ms;  /* how long the reader may take; 0: as long as is usual */
    /* What goes on while the reader works: called when loop_fd is readable, and every 20 ms; false gives the reading up.
     * NULL: nothing. */
    bool (*meanwhile)(void *owner);
    void *owner;
    int loop_fd;
};

/* Waits for the reader. result->valid is false for whatever went wrong; then the message says it, and there are no
 * secrets. Else *secrets, unless it was a test, is sealed and the caller's, and the environment variables that were
 * used have been wiped: the next reading gets them out of READER_MEMORY. */
void reader_run(const struct reading *r, struct reader_result *result, struct secrets *secrets);

#endif
