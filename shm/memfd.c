/* SPDX-License-Identifier: Apache-2.0 */
#include "shm/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

enum err memfd_make(int *fd, const char *name, size_t bytes, int allocated) {
    int made = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (made < 0)
        return ERR_SYSTEM;
    off_t size = (off_t)memfd_round(bytes);
    if (ftruncate(made, size) != 0 || (allocated && fallocate(made, 0, 0, size) != 0) || fchmod(made, 0400) != 0 ||
        fcntl(made, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
        close(made);
        return ERR_SYSTEM;
    }
    *fd = made;
    return ERR_OK;
}

enum err memfd_reader(int *reader, int fd) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int opened = open(path, O_RDONLY | O_CLOEXEC);
    if (opened < 0)
        return ERR_SYSTEM;
    *reader = opened;
    return ERR_OK;
}

enum err memfd_seal_writer(int fd) {
    return fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0 ? ERR_OK : ERR_SYSTEM;
}

enum err memfd_size(int fd, size_t *bytes) {
    struct stat st;
    if (fstat(fd, &st) != 0 || st.st_size < 0)
        return ERR_SYSTEM;
    *bytes = (size_t)st.st_size;
    return ERR_OK;
}

enum err memfd_map_error(void) {
    return errno == ENOMEM ? ERR_NOMEM : ERR_SYSTEM;
}

enum err memfd_map(void **at, int fd, size_t bytes, int writable) {
    void *mapped = mmap(NULL, bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        return memfd_map_error();
    *at = mapped;
    return ERR_OK;
}
