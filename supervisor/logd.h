/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/logd.h: from bytes of a log pipe to lines of the log.
 *
 * A line in a pipe is a level letter and text (base/log.h). In the log it is
 *
 *   [PID] YYYY/MM/DD hh:mm:ss.uuuuuu [LVL] NAME: text
 *
 * with the pid and the name of the process that has the pipe, as the supervisor knows them: no process can write a line in
 * another's name. The supervisor's own lines have no name, and neither have those of a frontend about a client, which begin
 * with its address (`127.0.0.1:4711 - cid:5 - `). Time is local, levels have nats-server's names. Bytes that could forge a line or
 * move a terminal's cursor become \xHH. A line that does not begin with a level letter (a sanitizer's report) is an
 * error line as it stands.
 */
#ifndef SUPERVISOR_LOGD_H
#define SUPERVISOR_LOGD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

enum {
    LOGD_LINE_MAX = 8192,                    /* bytes of text; what is beyond is cut */
    LOGD_OUT_MAX = 4 * LOGD_LINE_MAX + 1024, /* a formatted line, every byte escaped */
};

/* What kind of place the lines go to. */
enum logd_kind { LOGD_STREAM = 1, LOGD_SYSLOG_LOCAL, LOGD_SYSLOG_REMOTE };

struct logd_style {
    bool colour;
    bool timeless; /* lines begin without the time */
    bool utc;
    const char *tag, *host; /* of syslog lines */
};

/* Whose lines they are. */
struct logd_origin {
    int pid;
    bool clients;  /* it has clients */
    char name[32]; /* empty: the supervisor */
};

/* Formats one line of len bytes without its newline. Returns the length, at most LOGD_OUT_MAX. */
size_t logd_format(char out[static LOGD_OUT_MAX], const struct logd_style *style, const struct logd_origin *origin,
                   const struct timespec *time, const char *line, size_t len);

/* The same for a syslog: `<PRIORITY>TIME [HOST ]TAG[PID]: NAME: text`, facility daemon. */
size_t logd_format_syslog(char out[static LOGD_OUT_MAX], const struct logd_style *style,
                          const struct logd_origin *origin, const struct timespec *time, enum logd_kind kind,
                          const char *line, size_t len);

/* One pipe: collects its bytes into lines. */
struct logd_source {
    size_t len;
    bool cut; /* the rest of a long line is skipped */
    char line[LOGD_LINE_MAX];
};

/* Takes count bytes; each whole line is given to emit. */
typedef void logd_emit(void *owner, const char *line, size_t len);
void logd_take(struct logd_source *source, const char *bytes, size_t count, logd_emit *emit, void *owner);

/* The pipe has ended: what is left without a newline is a line too. */
void logd_end(struct logd_source *source, logd_emit *emit, void *owner);

/* How much one process may write, in bytes of text and LOGD_LINE_COST for each line: LOGD_BURST at once, LOGD_A_SECOND from
 * then on. Zeroed is full. */
enum { LOGD_LINE_COST = 64, LOGD_BURST = 4 << 20, LOGD_A_SECOND = 128 << 10, LOGD_TELL_MS = 1000 };

struct logd_rate {
    uint64_t spent, at_ms; /* of the burst; when that was so */
    uint64_t lost, told_ms;
};

/* False: that line is too much, and counted. */
bool logd_rate_admit(struct logd_rate *rate, uint64_t now_ms, size_t len);

/* How many lines were lost and are to be told of now: 0 within a second after the last time. */
uint64_t logd_rate_lost(struct logd_rate *rate, uint64_t now_ms);

#endif
