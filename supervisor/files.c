#include "supervisor/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "supervisor/listeners.h"

/* Makes the file new: never through a link that somebody put there. */
static int write_new(const char *path, const char *text, int mode) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return -1;
    size_t len = strlen(text);
    int failed = write(fd, text, len) != (ssize_t)len;
    return close(fd) != 0 || failed ? -1 : 0;
}

void files_write_pid(const char *path) {
    char text[32];
    snprintf(text, sizeof text, "%d", (int)getpid());
    if (write_new(path, text, 0660) != 0)
        log_die("Could not write pidfile: %s: %s", path, strerror(errno));
}

static void ports_path(char *out, size_t cap, const char *directory, const char *suffix) {
    snprintf(out, cap, "%s/bulkhead_%d.ports%s", directory, (int)getpid(), suffix);
}

void files_write_ports(const char *directory, const char *host, uint16_t port) {
    if (!directory[0])
        return;
    char path[512], unfinished[512], address[400], text[512];
    ports_path(path, sizeof path, directory, "");
    ports_path(unfinished, sizeof unfinished, directory, ".new");
    listeners_address(address, sizeof address, host, port);
    snprintf(text, sizeof text, "{\"nats\":[\"nats://%s\"]}", address);
    if (write_new(unfinished, text, 0666) != 0 || rename(unfinished, path) != 0)
        log_error("Error writing ports file to %s: %s", path, strerror(errno));
}

void files_remove_ports(const char *directory) {
    if (!directory[0])
        return;
    char path[512];
    ports_path(path, sizeof path, directory, "");
    unlink(path);
}
