#include "supervisor/logd.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct level {
    char letter;
    const char *name;
    const char *colour;
};

static const struct level levels[] = {
    {'E', "ERR", "31"},   {'I', "INF", "32"}, {'D', "DBG", "36"},
    {'W', "WRN", "0;93"}, {'F', "FTL", "31"}, {'T', "TRC", "33"},
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

size_t logd_format(char out[static LOGD_OUT_MAX], const struct logd_style *style, const struct timespec *time,
                   const char *line, size_t len) {
    if (len > LOGD_LINE_MAX)
        len = LOGD_LINE_MAX;
    const struct level *level = len ? level_find(line[0]) : NULL;
    if (level) {
        line++;
        len--;
    } else {
        level = &levels[0];
    }
    struct tm tm;
    localtime_r(&time->tv_sec, &tm);
    size_t n = (size_t)snprintf(out, 128, "[%d] %04d/%02d/%02d %02d:%02d:%02d.%06ld [%s%s%s%s%s] ", style->pid,
                                tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                                time->tv_nsec / 1000, style->colour ? "\x1b[" : "", style->colour ? level->colour : "",
                                style->colour ? "m" : "", level->name, style->colour ? "\x1b[0m" : "");
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
