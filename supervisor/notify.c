/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol is a datagram of lines to a Unix socket, see sd_notify(3): too little for a library. */
#include "supervisor/notify.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static struct {
    int fd; /* 0: nobody listens */
    bool ready;
    uint64_t interval_ms, due_ms; /* of the watchdog, 0: none */
} manager;

void notify_open(void) {
    const char *path = getenv("NOTIFY_SOCKET"), *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = path ? strlen(path) : 0;
    if ((len && path[0] != '/' && path[0] != '@') || len < 2 || len >= sizeof address.sun_path)
        return;
    memcpy(address.sun_path, path, len);
    if (path[0] == '@')
        address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, size) != 0) {
        if (fd >= 0)
            close(fd);
        return;
    }
    manager.fd = fd;
    if (usec && (!pid || atol(pid) == (long)getpid()))
        manager.interval_ms = strtoull(usec, NULL, 10) / 2000; /* twice as often as it must be */
    unsetenv("NOTIFY_SOCKET");
}

static void tell(const char *text) {
    if (manager.fd > 0 && send(manager.fd, text, strlen(text), MSG_NOSIGNAL) < 0)
        return; /* it will notice by itself */
}

void notify_ready(void) {
    manager.ready = true;
    tell("READY=1\n");
}

void notify_reloading(void) {
    char text[96];
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%llu\n",
             (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000);
    tell(text);
}

void notify_stopping(void) {
    tell("STOPPING=1\n");
}

uint64_t notify_tick(uint64_t now_ms) {
    if (manager.fd <= 0 || !manager.interval_ms)
        return 0;
    if (now_ms >= manager.due_ms) {
        tell("WATCHDOG=1\n");
        manager.due_ms = now_ms + manager.interval_ms;
    }
    return manager.due_ms;
}
