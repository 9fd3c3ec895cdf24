/* SPDX-License-Identifier: Apache-2.0 */
/* Texts of clients inside error messages, in the style of Go's %q: what a terminal or a log could stumble over is
 * escaped.
 *
 * The table below knows the assigned code points that do not print (controls, formats, blanks other than ' ', private
 * use) and the large unassigned areas. Small gaps inside a script count as printing: they are assigned sooner or later.
 */
#include "nats/quote.h"

#include <stdint.h>
#include <stdio.h>

#include "nats/utf8.h"

enum { ESCAPE_LEN_MAX = 10 };

/* Ordered, from U+0080 on. */
static const struct range {
    uint32_t first, last;
} unprintable[] = {
    {0x80, 0xa0},       {0xad, 0xad},       {0x378, 0x379},     {0x600, 0x605},        {0x61c, 0x61c},
    {0x6dd, 0x6dd},     {0x70f, 0x70f},     {0x890, 0x891},     {0x8e2, 0x8e2},        {0x1680, 0x1680},
    {0x180e, 0x180e},   {0x2000, 0x200f},   {0x2028, 0x202f},   {0x205f, 0x206f},      {0x3000, 0x3000},
    {0xd7fc, 0xf8ff},   {0xfdd0, 0xfdef},   {0xfeff, 0xfeff},   {0xfff0, 0xfffb},      {0xfffe, 0xffff},
    {0x110bd, 0x110bd}, {0x110cd, 0x110cd}, {0x13430, 0x13438}, {0x1bca0, 0x1bca3},    {0x1d173, 0x1d17a},
    {0x1fffe, 0x1ffff}, {0x2fa1e, 0x2ffff}, {0x323b0, 0xe00ff}, {0xe01f0, UINT32_MAX},
};

/* True if the rune stands as it is, apart from " and \\. */
static bool prints(uint32_t rune) {
    if (rune < 0x80)
        return rune >= ' ' && rune != 0x7f;
    for (size_t i = 0; i < sizeof unprintable / sizeof unprintable[0] && unprintable[i].first <= rune; i++) {
        if (rune <= unprintable[i].last)
            return false;
    }
    return true;
}

static char short_escape(uint32_t rune) {
    static const char letters[] = "abtnvfr"; /* for 7 to 13 */
    if (rune == '"' || rune == '\\')
        return (char)rune;
    return rune >= '\a' && rune <= '\r' ? letters[rune - '\a'] : '\0';
}

/* Writes the escape of a rune that does not print, or of a lone byte; returns its length. */
static size_t escape(char out[static ESCAPE_LEN_MAX + 1], uint32_t rune, bool lone_byte) {
    const char *format = lone_byte || rune < 0x80 ? "\\x%02x" : rune < 0x10000 ? "\\u%04x" : "\\U%08x";
    char letter = lone_byte ? '\0' : short_escape(rune);
    int len = letter != '\0' ? snprintf(out, ESCAPE_LEN_MAX + 1, "\\%c", letter)
                             : snprintf(out, ESCAPE_LEN_MAX + 1, format, rune);
    return (size_t)len;
}

size_t quote_text(char *out, size_t cap, struct view v) {
    size_t used = 0;
    while (v.len > 0) {
        uint32_t rune = 0;
        char escaped[ESCAPE_LEN_MAX + 1];
        const char *piece = v.at;
        size_t len = utf8_read(v, &rune);
        size_t piece_len = len;
        if (len == 0 || !prints(rune) || short_escape(rune) != '\0') {
            piece = escaped;
            piece_len = escape(escaped, len == 0 ? (unsigned char)v.at[0] : rune, len == 0);
        }
        if (len == 0)
            len = 1;
        if (piece_len > cap - used)
            break;
        memcpy(out + used, piece, piece_len);
        used += piece_len;
        v = view_of(v.at + len, v.len - len);
    }
    return used;
}
