/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/secrets.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shm/memfd.h"

static const char *const names[READER_PARTS] = {"auth part", "certificates", "private keys", "command line"};

enum err secrets_make(struct secrets *s) {
    *s = SECRETS_NONE;
    for (int i = 0; i < READER_PARTS; i++) {
        s->fd[i] = memfd_create(names[i], MFD_CLOEXEC | MFD_ALLOW_SEALING);
        if (s->fd[i] < 0 || fchmod(s->fd[i], 0400) != 0) {
            secrets_close(s);
            return ERR_SYSTEM;
        }
    }
    return ERR_OK;
}

enum err secrets_seal(const struct secrets *s) {
    for (int i = 0; i < READER_PARTS; i++) {
        size_t bytes;
        if (fcntl(s->fd[i], F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0 ||
            memfd_size(s->fd[i], &bytes) != ERR_OK)
            return ERR_SYSTEM;
        if (bytes > READER_PART_MAX)
            return ERR_RANGE;
    }
    return ERR_OK;
}

enum err secrets_reader(int *reader, const struct secrets *s, enum reader_part part) {
    return memfd_reader(reader, s->fd[part]);
}

void secrets_close(struct secrets *s) {
    for (int i = 0; i < READER_PARTS; i++) {
        if (s->fd[i] >= 0)
            close(s->fd[i]);
    }
    *s = SECRETS_NONE;
}
