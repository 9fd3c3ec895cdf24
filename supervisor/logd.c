/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/logd.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct level {
    char letter;
    const char *name;
    const char *colour;
    int severity; /* of syslog */
};

static const struct level levels[] = {
    {'E', "ERR", "31", 3},   {'I', "INF", "32", 5}, {'D', "DBG", "36", 7},
    {'W', "WRN", "0;93", 4}, {'F', "FTL", "31", 2}, {'T', "TRC", "33", 5},
};

static const struct level *level_find(char letter) {
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        if (levels[i].letter == letter)
            return &levels[i];
    }
    return NULL;
}

/* Bytes of the valid UTF-8 sequence that begins at s, 0 if there is none: no overlong form, surrogate or number too
 * large. */
static size_t utf8_len(const unsigned char *s, size_t left) {
    size_t n = s[0] < 0x80                   ? 1
               : s[0] >= 0xc2 && s[0] < 0xe0 ? 2
               : s[0] >= 0xe0 && s[0] < 0xf0 ? 3
               : s[0] >= 0xf0 && s[0] < 0xf5 ? 4
                                             : 0;
    if (n == 0 || n > left)
        return 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    /* C1 control characters move a terminal's cursor too. */
    return n == 2 && s[0] == 0xc2 && s[1] < 0xa0 ? 0 : n;
}

static size_t escape(char *out, const char *text, size_t len) {
    static const char hex[] = "0123456789abcdef";
    const unsigned char *s = (const unsigned char *)text;
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        size_t rune = s[i] < 0x20 || s[i] == 0x7f ? 0 : utf8_len(s + i, len - i);
        if (rune) {
            memcpy(out + n, s + i, rune);
            n += rune;
            i += rune;
        } else {
            memcpy(out + n, (char[]){'\\', 'x', hex[s[i] >> 4], hex[s[i] & 15]}, 4);
            n += 4;
            i++;
        }
    }
    return n;
}

/* Takes the level letter off. */
static const struct level *take_level(const char **line, size_t *len) {
    if (*len > LOGD_LINE_MAX)
        *len = LOGD_LINE_MAX;
    const struct level *level = *len ? level_find(**line) : NULL;
    if (!level)
        return &levels[0];
    ++*line;
    --*len;
    return level;
}

/* `ADDRESS:PORT - cid:N - …` */
static bool is_about_client(const char *line, size_t len) {
    enum { ADDRESS_MAX = 64 };
    static const char mark[] = " - cid:";
    const char *blank = memchr(line, ' ', len < ADDRESS_MAX ? len : ADDRESS_MAX);
    size_t left = blank ? len - (size_t)(blank - line) : 0;
    return left > sizeof mark && blank != line && memcmp(blank, mark, sizeof mark - 1) == 0 &&
           blank[sizeof mark - 1] >= '0' && blank[sizeof mark - 1] <= '9';
}

static size_t write_name(char *out, const struct logd_origin *origin, const char *line, size_t len) {
    if (!origin->name[0] || (origin->clients && is_about_client(line, len)))
        return 0;
    return (size_t)sprintf(out, "%.*s: ", (int)sizeof origin->name - 1, origin->name);
}

static void split_time(struct tm *tm, const struct logd_style *style, const struct timespec *time) {
    if (style->utc)
        gmtime_r(&time->tv_sec, tm);
    else
        localtime_r(&time->tv_sec, tm);
}

size_t logd_format(char out[static LOGD_OUT_MAX], const struct logd_style *style, const struct logd_origin *origin,
                   const struct timespec *time, const char *line, size_t len) {
    const struct level *level = take_level(&line, &len);
    struct tm tm;
    split_time(&tm, style, time);
    size_t n = (size_t)snprintf(out, 32, "[%d] ", origin->pid);
    if (!style->timeless)
        n += (size_t)snprintf(out + n, 64, "%04d/%02d/%02d %02d:%02d:%02d.%06ld ", tm.tm_year + 1900, tm.tm_mon + 1,
                              tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, time->tv_nsec / 1000);
    n +=
        (size_t)snprintf(out + n, 64, "[%s%s%s%s%s] ", style->colour ? "\x1b[" : "", style->colour ? level->colour : "",
                         style->colour ? "m" : "", level->name, style->colour ? "\x1b[0m" : "");
    n += write_name(out + n, origin, line, len);
    n += escape(out + n, line, len);
    out[n++] = '\n';
    return n;
}

size_t logd_format_syslog(char out[static LOGD_OUT_MAX], const struct logd_style *style,
                          const struct logd_origin *origin, const struct timespec *time, enum logd_kind kind,
                          const char *line, size_t len) {
    enum { DAEMON = 3 << 3 };
    const struct level *level = take_level(&line, &len);
    struct tm tm;
    char when[64], zone[16] = "";
    localtime_r(&time->tv_sec, &tm);
    if (kind == LOGD_SYSLOG_LOCAL) {
        strftime(when, sizeof when, "%b %e %H:%M:%S", &tm);
    } else { /* RFC 3339, and the host */
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
        long offset = tm.tm_gmtoff / 60, size = offset < 0 ? -offset : offset;
        snprintf(zone, sizeof zone, offset ? "%c%02d:%02d " : "Z ", offset < 0 ? '-' : '+', (int)(size / 60 % 24),
                 (int)(size % 60));
    }
    size_t n = (size_t)snprintf(out, 768, "<%d>%s%s%.255s %.255s[%d]: ", DAEMON | level->severity, when, zone,
                                kind == LOGD_SYSLOG_LOCAL ? "" : style->host, style->tag, origin->pid);
    n += write_name(out + n, origin, line, len);
    n += escape(out + n, line, len);
    out[n++] = '\n';
    return n;
}

void logd_take(struct logd_source *source, const char *bytes, size_t count, logd_emit *emit, void *owner) {
    while (count) {
        const char *end = memchr(bytes, '\n', count);
        size_t part = end ? (size_t)(end - bytes) : count;
        size_t room = LOGD_LINE_MAX - source->len;
        size_t taken = source->cut ? 0 : part < room ? part : room;
        memcpy(source->line + source->len, bytes, taken);
        source->len += taken;
        source->cut = source->cut || taken < part;
        if (end) {
            emit(owner, source->line, source->len);
            source->len = 0;
            source->cut = false;
            part++;
        }
        bytes += part;
        count -= part;
    }
}

void logd_end(struct logd_source *source, logd_emit *emit, void *owner) {
    if (source->len)
        emit(owner, source->line, source->len);
    source->len = 0;
    source->cut = false;
}

bool logd_rate_admit(struct logd_rate *rate, uint64_t now_ms, size_t len) {
    uint64_t back = (now_ms - rate->at_ms) * LOGD_A_SECOND / 1000;
    if (back) {
        rate->spent -= back < rate->spent ? back : rate->spent;
        rate->at_ms = now_ms;
    }
    if (rate->spent + len + LOGD_LINE_COST > LOGD_BURST) {
        rate->lost++;
        return false;
    }
    rate->spent += len + LOGD_LINE_COST;
    return true;
}

uint64_t logd_rate_lost(struct logd_rate *rate, uint64_t now_ms) {
    uint64_t lost = rate->lost;
    if (!lost || (rate->told_ms && now_ms - rate->told_ms < LOGD_TELL_MS))
        return 0;
    rate->told_ms = now_ms;
    rate->lost = 0;
    return lost;
}
