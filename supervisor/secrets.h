/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/secrets.h: memories with what the supervisor must hand on and must not know.
 *
 * The reader of the configuration writes them, one for each enum reader_part; then they are sealed, and nobody can
 * change them any more. The supervisor keeps descriptors and never maps or reads one. A process that starts again gets
 * the very memory that its predecessor had, not what lies on disk by then.
 */
#ifndef SUPERVISOR_SECRETS_H
#define SUPERVISOR_SECRETS_H

#include "base/err.h"
#include "config/reader.h"

struct secrets {
    int fd[READER_PARTS]; /* -1: none */
};

#define SECRETS_NONE ((struct secrets){{-1, -1, -1, -1}})

/* Empty memories that can be written through their descriptors alone: no other user id can open them. ERR_SYSTEM: none
 * is left. */
enum err secrets_make(struct secrets *s);

/* Nobody writes them any more, nor changes their size. ERR_RANGE: one is larger than a part may be; ERR_SYSTEM: one is
 * still mapped by somebody who can write. */
enum err secrets_seal(const struct secrets *s);

/* A new descriptor of one of them, for reading alone, at its beginning. ERR_SYSTEM. */
enum err secrets_reader(int *reader, const struct secrets *s, enum reader_part part);

void secrets_close(struct secrets *s);

#endif
