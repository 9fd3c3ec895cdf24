/* supervisor/logd.h: from bytes of a log pipe to lines of the log.
 *
 * A line in a pipe is a level letter and text (base/log.h). In the log it is
 *
 *   [PID] YYYY/MM/DD hh:mm:ss.uuuuuu [LVL] text
 *
 * with the pid of the supervisor, local time and the names of nats-server's levels. Bytes that could forge a line or
 * move a terminal's cursor become \xHH. A line that does not begin with a level letter (a sanitizer's report) is an
 * error line as it stands.
 */
#ifndef SUPERVISOR_LOGD_H
#define SUPERVISOR_LOGD_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

enum {
    LOGD_LINE_MAX = 8192,                   /* bytes of text; what is beyond is cut */
    LOGD_OUT_MAX = 4 * LOGD_LINE_MAX + 1024, /* a formatted line, every byte escaped */
};

/* What kind of place the lines go to. */
enum logd_kind { LOGD_STREAM = 1, LOGD_SYSLOG_LOCAL, LOGD_SYSLOG_REMOTE };

struct logd_style {
    int pid;
    bool colour;
    bool timeless; /* lines begin without the time */
    bool utc;
    const char *tag, *host; /* of syslog lines */
};

/* Formats one line of len bytes without its newline. Returns the length, at most LOGD_OUT_MAX. */
size_t logd_format(char out[static LOGD_OUT_MAX], const struct logd_style *style, const struct timespec *time,
                   const char *line, size_t len);

/* The same for a syslog: `<PRIORITY>TIME [HOST ]TAG[PID]: text`, facility daemon. */
size_t logd_format_syslog(char out[static LOGD_OUT_MAX], const struct logd_style *style, const struct timespec *time,
                          enum logd_kind kind, const char *line, size_t len);

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

#endif
