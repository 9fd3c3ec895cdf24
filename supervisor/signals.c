/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/signals.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PIDS_MAX = 1024, TEXT_MAX = 255 };

static const struct {
    const char *command;
    int number;
} commands[] = {{"stop", SIGKILL},   {"quit", SIGINT},   {"term", SIGTERM},
                {"reopen", SIGUSR1}, {"reload", SIGHUP}, {"ldm", SIGUSR2}};

static int complain(const char *words, const char *text, bool quoted) {
    fprintf(stderr, quoted ? "bulkhead: %s \"%s\"\n" : "bulkhead: %s%s\n", words, text);
    return 1;
}

/* The name of what a process executes, without what the kernel adds when the file has gone (an upgrade). */
static bool read_executable(pid_t pid, char *name, size_t cap) {
    char path[64], target[4096];
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    ssize_t len = readlink(path, target, sizeof target - 1);
    if (len <= 0)
        return false;
    target[len] = '\0';
    char *gone = strstr(target, " (deleted)");
    if (gone && !gone[sizeof " (deleted)" - 1])
        *gone = '\0';
    const char *slash = strrchr(target, '/');
    snprintf(name, cap, "%.*s", (int)cap - 1, slash ? slash + 1 : target);
    return true;
}

/* The name that the kernel shows when the executable may not be looked at: a server of another user, or one that is not
 * dumpable. */
static bool read_name(pid_t pid, char *name, size_t cap) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
    FILE *file = fopen(path, "re");
    bool found = file && fgets(name, (int)cap, file);
    if (file)
        fclose(file);
    if (found)
        name[strcspn(name, "\n")] = '\0';
    return found;
}

/* A supervisor of the same user, or of any for root. */
static bool is_server(pid_t pid) {
    char path[64], name[256];
    struct stat status;
    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    if (stat(path, &status) != 0)
        return false;
    /* Of a process that is not dumpable /proc belongs to root: the kernel's own check at the signal decides then. */
    if (geteuid() != 0 && status.st_uid != geteuid() && status.st_uid != 0)
        return false;
    if (!read_executable(pid, name, sizeof name) && !read_name(pid, name, sizeof name))
        return false;
    return strcmp(name, "bulkhead") == 0;
}

static int find_servers(pid_t pids[static PIDS_MAX]) {
    int count = 0;
    DIR *folder = opendir("/proc");
    for (const struct dirent *entry; folder && count < PIDS_MAX && (entry = readdir(folder));) {
        pid_t pid = (pid_t)atoi(entry->d_name);
        if (isdigit((unsigned char)entry->d_name[0]) && pid != getpid() && is_server(pid))
            pids[count++] = pid;
    }
    if (folder)
        closedir(folder);
    return folder ? count : -1;
}

static int resolve(pid_t *pid) {
    static pid_t pids[PIDS_MAX];
    int count = find_servers(pids);
    if (count < 0)
        return complain("unable to resolve pid, try providing one", "", false);
    if (count == 0)
        return complain("no bulkhead processes running", "", false);
    *pid = pids[0];
    if (count == 1)
        return 0;
    fprintf(stderr, "bulkhead: multiple bulkhead processes running:");
    for (int i = 0; i < count; i++)
        fprintf(stderr, "\n%d", (int)pids[i]);
    fprintf(stderr, "\n");
    return 1;
}

/* The pid itself, or a file that holds it. */
static int read_pid(const char *text, pid_t *pid) {
    char content[TEXT_MAX + 1];
    int fd = open(text, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    ssize_t len = fd >= 0 ? read(fd, content, TEXT_MAX) : -1;
    if (fd >= 0)
        close(fd);
    if (len >= 0)
        content[len] = '\0';
    else
        snprintf(content, sizeof content, "%s", text);
    char *end;
    errno = 0;
    long number = strtol(content, &end, 10);
    bool whole = end != content && strspn(end, " \t\r\n") == strlen(end);
    content[strcspn(content, "\r\n")] = '\0';
    if (!whole || errno || number <= 0 || number > INT32_MAX)
        return complain("invalid pid: ", content, false);
    *pid = (pid_t)number;
    return 0;
}

static int signal_server(pid_t pid, int number) {
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0)
        return complain(errno == ESRCH || errno == EINVAL ? "no such process" : strerror(errno), "", false);
    /* While the descriptor is open the number cannot become somebody else's. */
    if (!is_server(pid)) {
        fprintf(stderr, "bulkhead: process %d is not a bulkhead server of this user\n", (int)pid);
        return 1;
    }
    if (syscall(SYS_pidfd_send_signal, pidfd, number, NULL, 0) != 0)
        return complain(errno == ESRCH   ? "no such process"
                        : errno == EPERM ? "operation not permitted"
                                         : strerror(errno),
                        "", false);
    return 0;
}

int signals_send(const char *parameter) {
    char command[TEXT_MAX + 1];
    size_t len = strcspn(parameter, "=");
    snprintf(command, sizeof command, "%.*s", (int)(len < TEXT_MAX ? len : TEXT_MAX), parameter);
    int number = 0;
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        if (strcmp(command, commands[i].command) == 0)
            number = commands[i].number;
    }
    if (!number)
        return complain("unknown signal", command, true);
    pid_t pid;
    const char *target = parameter[len] == '=' ? parameter + len + 1 : "";
    int failed = *target ? read_pid(target, &pid) : resolve(&pid);
    return failed ? failed : signal_server(pid, number);
}
