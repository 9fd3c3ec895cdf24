/* SPDX-License-Identifier: Apache-2.0 */
/* What the server costs: CPU and memory of its first process and all below that, from /proc. */
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/bench/load.h"

/* The text of /proc/pid/stat behind the process's name, which may hold anything; empty if the process has gone. */
static void read_stat(pid_t pid, char *text, size_t cap) {
    char path[64], all[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    text[0] = 0;
    FILE *file = fopen(path, "r");
    if (!file)
        return;
    size_t n = fread(all, 1, sizeof all - 1, file);
    fclose(file);
    all[n] = 0;
    char *end = strrchr(all, ')');
    if (end)
        snprintf(text, cap, "%s", end + 2);
}

static pid_t parent_of(pid_t pid) {
    char text[1024];
    int parent = -1;
    read_stat(pid, text, sizeof text);
    return sscanf(text, "%*c %d", &parent) == 1 ? parent : -1;
}

static bool tree_holds(const struct tree *t, pid_t pid) {
    for (uint32_t i = 0; i < t->count; i++)
        if (t->pid[i] == pid)
            return true;
    return false;
}

void tree_find(struct tree *t, pid_t first) {
    t->count = 0;
    if (first == 0)
        return;
    t->pid[t->count++] = first;
    for (uint32_t before = 0; before != t->count;) { /* until a round finds no more */
        before = t->count;
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        while (proc && (entry = readdir(proc))) {
            pid_t pid = atoi(entry->d_name);
            if (isdigit((unsigned char)entry->d_name[0]) && !tree_holds(t, pid) && tree_holds(t, parent_of(pid)) &&
                t->count < PIDS_MAX)
                t->pid[t->count++] = pid;
        }
        if (proc)
            closedir(proc);
    }
}

struct cpu tree_cpu(const struct tree *t) {
    struct cpu sum = {0};
    double tick_s = 1.0 / (double)sysconf(_SC_CLK_TCK);
    for (uint32_t i = 0; i < t->count; i++) {
        char text[1024];
        unsigned long user = 0, system = 0;
        read_stat(t->pid[i], text, sizeof text);
        sscanf(text, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
        sum.user_s += (double)user * tick_s;
        sum.system_s += (double)system * tick_s;
    }
    return sum;
}

double process_pss_kb(pid_t pid) {
    char path[64], line[256];
    double kb = 0;
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file) && sscanf(line, "Pss: %lf kB", &kb) != 1) {
    }
    fclose(file);
    return kb;
}

double tree_pss_kb(const struct tree *t) {
    double kb = 0;
    for (uint32_t i = 0; i < t->count; i++)
        kb += process_pss_kb(t->pid[i]);
    return kb;
}

void process_name(pid_t pid, char *name, size_t cap) {
    char path[64], command[256] = "";
    snprintf(path, sizeof path, "/proc/%d/cmdline", pid);
    FILE *file = fopen(path, "r");
    if (file) {
        if (fread(command, 1, sizeof command - 1, file) == 0)
            command[0] = 0;
        fclose(file);
    }
    const char *slash = strrchr(command, '/');
    snprintf(name, cap, "%s", slash ? slash + 1 : command);
    for (char *c = name; *c; c++)
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ')
            *c = '_';
}
