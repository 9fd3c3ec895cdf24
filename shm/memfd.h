/* SPDX-License-Identifier: Apache-2.0 */
/* shm/memfd.h: shared memory that cannot change under its readers.
 *
 * The supervisor makes every piece. It has a fixed size (sealed against shrinking and growing) and mode 0400, so that a
 * reader with another user id cannot open it again for writing. What an edge writes is sealed a second time once the edge
 * has mapped it: from then on nobody can make a new writable map or take pages out (F_SEAL_FUTURE_WRITE), while the one
 * existing map goes on writing. What must outlive its writer is not sealed that way; the supervisor keeps its descriptor.
 */
#ifndef SHM_MEMFD_H
#define SHM_MEMFD_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* A new piece of `bytes` (rounded up to whole pages), zeroed. allocated: take all pages now, because memory that a
 * hostile peer maps must never fault for lack of memory; else pages come as they are touched. ERR_SYSTEM. */
enum err memfd_make(int *fd, const char *name, size_t bytes, int allocated);

/* A second descriptor of the same memory, for reading only. */
enum err memfd_reader(int *reader, int fd);

/* The second seal, after the writer has mapped: no further writable map, no hole, no more seals. */
enum err memfd_seal_writer(int fd);

/* Size of the memory behind fd in bytes. */
enum err memfd_size(int fd, size_t *bytes);

/* Maps all of fd; writable needs a writable descriptor. Closes nothing. ERR_NOMEM: there is no memory, or there are no
 * addresses for it (ulimit -v); ERR_SYSTEM. */
enum err memfd_map(void **at, int fd, size_t bytes, int writable);

/* The error for an mmap that has just failed: ERR_NOMEM or ERR_SYSTEM, by errno. */
enum err memfd_map_error(void);

static inline size_t memfd_round(size_t bytes) {
    return (bytes + 4095) & ~(size_t)4095;
}

#endif
