/* SPDX-License-Identifier: Apache-2.0 */
/* One write per line, never a wait. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool log_debug_on, log_trace_on;
static uint64_t dropped_count;

void log_set(bool debug, bool trace) {
    log_debug_on = debug;
    log_trace_on = trace;
}

uint64_t log_dropped(void) {
    return dropped_count;
}

/* Copies text into out with control bytes as \xHH; returns the length, at most cap. *cut: some of it found no room. */
static size_t escape(char *out, size_t cap, const char *text, bool *cut) {
    size_t n = 0;
    const unsigned char *p = (const unsigned char *)text;
    for (; *p && n + 4 < cap; p++) {
        if (*p < 0x20 || *p == 0x7f)
            n += (size_t)snprintf(out + n, 5, "\\x%02x", *p);
        else
            out[n++] = (char)*p;
    }
    *cut = *p;
    return n;
}

static void write_line(enum log_level level, const char *format, va_list args) {
    static const char mark[] = "...";
    char text[LOG_LINE_MAX], line[LOG_LINE_MAX];
    bool cut;
    int len = vsnprintf(text, sizeof text, format, args);
    line[0] = (char)level;
    size_t n = 1 + escape(line + 1, sizeof line - 1 - sizeof mark, text, &cut);
    if (cut || len >= (int)sizeof text) {
        memcpy(line + n, mark, sizeof mark - 1);
        n += sizeof mark - 1;
    }
    line[n++] = '\n';
    if (write(2, line, n) < 0)
        dropped_count++;
}

void log_line(enum log_level level, const char *format, ...) {
    if ((level == LOG_DEBUG && !log_debug_on) || (level == LOG_TRACE && !log_trace_on))
        return;
    va_list args;
    va_start(args, format);
    write_line(level, format, args);
    va_end(args);
}

_Noreturn void log_die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    write_line(LOG_FATAL, format, args);
    va_end(args);
    exit(1);
}
