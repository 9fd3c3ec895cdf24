/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of the machine and of its control groups.
 *
 * Version 2 has one hierarchy (`0::/path`, memory.max), version 1 one for memory (`4:memory:/path`,
 * memory/.../memory.limit_in_bytes). The limits of all parents hold too. Inside of a container the path may be that of the
 * host, where nothing is mounted: then the root's own file is the container's.
 */
#include "supervisor/machine.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { PATH_BYTES = 1024 };

/* The content of a small file as a text; an empty one where there is none. */
static size_t file_read(const char *path, char *out, size_t cap) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, out, cap - 1);
    if (fd >= 0)
        close(fd);
    out[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

/* "max", and what is no number, is no limit. */
static uint64_t file_limit(const char *path) {
    char text[64], *end;
    if (file_read(path, text, sizeof text) == 0)
        return UINT64_MAX;
    unsigned long long limit = strtoull(text, &end, 10);
    return end == text || limit == 0 ? UINT64_MAX : limit;
}

/* Of the group `path` below `base` and of all above it. */
static uint64_t group_limit(const char *base, struct view path, const char *file) {
    uint64_t least = UINT64_MAX;
    for (;;) {
        char name[PATH_BYTES];
        while (path.len > 0 && path.at[path.len - 1] == '/')
            path.len--;
        int n = snprintf(name, sizeof name, "%s%.*s/%s", base, (int)path.len, path.at, file);
        uint64_t limit = n < (int)sizeof name ? file_limit(name) : UINT64_MAX;
        least = limit < least ? limit : least;
        if (path.len == 0)
            return least;
        while (path.len > 0 && path.at[path.len - 1] != '/')
            path.len--;
    }
}

/* One line: NUMBER:CONTROLLERS:PATH. */
static uint64_t line_limit(struct view line, const char *root) {
    const char *first = memchr(line.at, ':', line.len);
    const char *second = first ? memchr(first + 1, ':', (size_t)(line.at + line.len - first - 1)) : NULL;
    if (!second)
        return UINT64_MAX;
    struct view controllers = view_of(first + 1, (size_t)(second - first - 1));
    struct view path = view_of(second + 1, (size_t)(line.at + line.len - second - 1));
    char base[PATH_BYTES];
    if (controllers.len == 0)
        return group_limit(root, path, "memory.max");
    if (!view_equal(controllers, VIEW("memory")) || snprintf(base, sizeof base, "%s/memory", root) >= (int)sizeof base)
        return UINT64_MAX;
    return group_limit(base, path, "memory.limit_in_bytes");
}

uint64_t machine_group_limit(struct view cgroup, const char *root) {
    uint64_t least = UINT64_MAX;
    while (cgroup.len > 0) {
        const char *end = memchr(cgroup.at, '\n', cgroup.len);
        size_t len = end ? (size_t)(end - cgroup.at) : cgroup.len;
        uint64_t limit = line_limit(view_of(cgroup.at, len), root);
        least = limit < least ? limit : least;
        size_t used = end ? len + 1 : len;
        cgroup = view_of(cgroup.at + used, cgroup.len - used);
    }
    return least;
}

uint64_t machine_memory(void) {
    char cgroup[4096];
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    uint64_t memory = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_C(1) << 30;
    size_t len = file_read("/proc/self/cgroup", cgroup, sizeof cgroup);
    uint64_t limit = machine_group_limit(view_of(cgroup, len), "/sys/fs/cgroup");
    return limit < memory ? limit : memory;
}

uint64_t machine_address_limit(void) {
    struct rlimit limit;
    return getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : limit.rlim_cur;
}
