/* SPDX-License-Identifier: Apache-2.0 */
/* base/log.h: lines for logd.
 *
 * Every process but logd has a pipe to logd as descriptor 2. A line is one level letter, the text, a newline, written in
 * one non-blocking write of at most LOG_LINE_MAX bytes: what does not fit into the pipe is dropped and counted, nobody ever
 * waits for a log. logd adds the time and the level's name. Control bytes in the text become \xHH here and again in
 * logd. A line says what happened to whom, and what follows from it.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum { LOG_LINE_MAX = 4096 }; /* PIPE_BUF: a write up to this size is never mixed with another */

enum log_level { LOG_FATAL = 'F', LOG_ERROR = 'E', LOG_WARN = 'W', LOG_INFO = 'I', LOG_DEBUG = 'D', LOG_TRACE = 'T' };

/* Which optional levels are written; both off at start. */
void log_set(bool debug, bool trace);

extern bool log_debug_on, log_trace_on; /* set by log_set alone; read on the message path */
static inline bool log_debugs(void) {
    return log_debug_on;
}
static inline bool log_traces(void) {
    return log_trace_on;
}

/* Lines that found no room since start. */
uint64_t log_dropped(void);

void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Writes a LOG_FATAL line and exits with status 1. */
_Noreturn void log_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...)                                                                                                 \
    do {                                                                                                               \
        if (log_debugs())                                                                                              \
            log_line(LOG_DEBUG, __VA_ARGS__);                                                                          \
    } while (0)

#endif
