/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/files.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "supervisor/listeners.h"

enum { NAME_LEN = 512, TEXT_LEN = 16384 };

static int open_folder(const char *path) {
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int write_in(int folder_fd, const char *name, const char *text, int mode) {
    int fd = openat(folder_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, mode);
    if (fd < 0)
        return -1;
    size_t len = strlen(text);
    int failed = write(fd, text, len) != (ssize_t)len;
    return close(fd) != 0 || failed ? -1 : 0;
}

int files_write_pid(const char *path) {
    char text[32], folder[4096];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path + 1) : 1, slash ? path : ".");
    snprintf(text, sizeof text, "%d", (int)getpid());
    int folder_fd = open_folder(folder);
    if (folder_fd < 0)
        return -1;
    int failed = write_in(folder_fd, slash ? slash + 1 : path, text, 0660), kept = errno;
    close(folder_fd);
    errno = kept;
    return failed;
}

/* ---- ports ---- */

static void add_url(char *text, const char *scheme, const char *host, uint16_t port) {
    char address[400];
    size_t len = strlen(text);
    listeners_address(address, sizeof address, host, port);
    snprintf(text + len, TEXT_LEN - len, "%s\"%s://%s\"", text[len - 1] == '[' ? "" : ",", scheme, address);
}

/* Every address of this machine that the listener can be reached at. */
static void add_local_urls(char *text, const char *scheme, int family, uint16_t port) {
    struct ifaddrs *all;
    if (getifaddrs(&all) != 0)
        return;
    for (const struct ifaddrs *one = all; one; one = one->ifa_next) {
        char host[INET6_ADDRSTRLEN];
        if (!one->ifa_addr || one->ifa_addr->sa_family != family)
            continue;
        const void *address = family == AF_INET6
                                  ? (const void *)&((const struct sockaddr_in6 *)(const void *)one->ifa_addr)->sin6_addr
                                  : (const void *)&((const struct sockaddr_in *)(const void *)one->ifa_addr)->sin_addr;
        if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL((const struct in6_addr *)address))
            continue;
        add_url(text, scheme, inet_ntop(family, address, host, sizeof host), port);
    }
    freeifaddrs(all);
}

static void ports_name(char *out, const char *name, const char *suffix) {
    snprintf(out, NAME_LEN, "%.200s_%d.ports%s", name, (int)getpid(), suffix);
}

void files_write_ports(const char *directory, const char *name, const char *host, uint16_t port, bool tls) {
    const char *scheme = tls ? "tls" : "nats";
    static char text[TEXT_LEN];
    char file[NAME_LEN], unfinished[NAME_LEN];
    if (!directory[0])
        return;
    strcpy(text, "{\"nats\":[");
    if (listeners_are_everywhere(host)) {
        add_local_urls(text, scheme, AF_INET, port);
        add_local_urls(text, scheme, AF_INET6, port);
    }
    if (text[strlen(text) - 1] == '[')
        add_url(text, scheme, host, port);
    size_t len = strlen(text);
    snprintf(text + len, sizeof text - len, "]}");
    ports_name(file, name, "");
    ports_name(unfinished, name, ".new");
    int folder_fd = open_folder(directory);
    if (folder_fd < 0 || write_in(folder_fd, unfinished, text, 0666) != 0 ||
        renameat(folder_fd, unfinished, folder_fd, file) != 0)
        log_error("Error writing ports file to %s/%s: %s", directory, file, strerror(errno));
    if (folder_fd >= 0)
        close(folder_fd);
}

void files_remove_ports(const char *directory, const char *name) {
    char file[NAME_LEN];
    int folder_fd = directory[0] ? open_folder(directory) : -1;
    if (folder_fd < 0)
        return;
    ports_name(file, name, "");
    unlinkat(folder_fd, file, 0);
    close(folder_fd);
}
