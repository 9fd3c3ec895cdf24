/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/reader.h: the conversation with the process that reads the configuration (bulkhead-config), which has no rights and
 * is served files.
 *
 * The reader gets descriptors of regular files for reading, and empty memories for what is secret
 * (supervisor/secrets.h), nothing else; paths are relative to the supervisor's own folder. What comes back in a packet
 * has a fixed size and no credential in it. Nothing here waits: the caller starts the process, calls reader_on_packets when
 * its socket is readable, and reader_end when it has died.
 */
#ifndef SUPERVISOR_READER_H
#define SUPERVISOR_READER_H

#include "base/err.h"
#include "config/flags.h"
#include "config/reader.h"
#include "supervisor/secrets.h"

#ifdef BULKHEAD_SANITIZED
enum { READER_MS = 60000 };
#else
enum { READER_MS = 10000 }; /* who takes longer is killed */
#endif

/* What is to be read. */
struct reading {
    int argc;
    char **argv;
    const uint8_t *key; /* RELOAD_KEY_BYTES */
    bool test;          /* only what -t asks: then the result has the options, and no secrets come with it */
    int memory_fd;      /* the READER_MEMORY of the last reading, at its beginning, instead of argv; -1: none */
};

struct reader {
    int socket; /* the caller's, and not blocking */
    bool test;
    bool answered;
    uint32_t asked;  /* questions so far */
    const char *why; /* what went wrong, for the message of the result; NULL: nothing so far */
    struct secrets secrets;
    struct reader_result *result; /* the caller's */
};

/* Gives the reader its task. An error: kill it; reader_end says why. */
enum err reader_begin(struct reader *r, int socket, const struct reading *what, struct reader_result *result);

/* Answers what has come. ERR_AGAIN: more will come; ERR_OK: it has said all and has to end; others: kill it. */
enum err reader_on_packets(struct reader *r);

/* It has died: well, if it ended by itself with status 0; late: it was killed because it took too long. result->valid is false for
 * whatever went wrong; then the message says it, and there are no secrets. Else *secrets, unless it was a test, is sealed and
 * the caller's, and the environment variables that were used have been wiped: the next reading gets them out of
 * READER_MEMORY. */
void reader_end(struct reader *r, bool well, bool late, struct secrets *secrets);

/* No reader could be started: result says why. */
void reader_fail(struct reader_result *result, const char *why);

#endif
