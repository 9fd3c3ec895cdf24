/* SPDX-License-Identifier: Apache-2.0 */
#include "config/text.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "config/value.h"

void text_add(struct text *t, struct view bytes) {
    if (t->cap - t->len < bytes.len) {
        size_t cap = t->cap ? t->cap : 64;
        while (cap - t->len < bytes.len)
            cap *= 2;
        char *larger = arena_take(t->arena, cap);
        if (t->len)
            memcpy(larger, t->at, t->len);
        t->at = larger;
        t->cap = cap;
    }
    if (bytes.len)
        memcpy(t->at + t->len, bytes.at, bytes.len);
    t->len += bytes.len;
}

void text_add_byte(struct text *t, char byte) {
    text_add(t, view_of(&byte, 1));
}

void text_add_rune(struct text *t, int32_t rune) {
    uint32_t r = (uint32_t)rune;
    if (r < 0x80) {
        text_add_byte(t, (char)r);
    } else if (r < 0x800) {
        text_add(t, view_of((char[]){(char)(0xc0 | r >> 6), (char)(0x80 | (r & 0x3f))}, 2));
    } else if (r < 0x10000) {
        text_add(
            t, view_of((char[]){(char)(0xe0 | r >> 12), (char)(0x80 | (r >> 6 & 0x3f)), (char)(0x80 | (r & 0x3f))}, 3));
    } else {
        text_add(t, view_of((char[]){(char)(0xf0 | r >> 18), (char)(0x80 | (r >> 12 & 0x3f)),
                                     (char)(0x80 | (r >> 6 & 0x3f)), (char)(0x80 | (r & 0x3f))},
                            4));
    }
}

/* ---- Go's quotes ---- */

/* Decodes one code point; an invalid byte is -1 and one byte long. */
static int32_t rune_at(struct view s, size_t *len) {
    unsigned char b = (unsigned char)s.at[0];
    *len = b < 0x80 ? 1 : b < 0xc2 ? 0 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : b < 0xf5 ? 4 : 0;
    static const unsigned char first_bits[5] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    int32_t rune = b & first_bits[*len];
    for (size_t i = 1; i < *len; i++) {
        if (i >= s.len || (s.at[i] & 0xc0) != 0x80)
            *len = 0;
        else
            rune = rune << 6 | (s.at[i] & 0x3f);
    }
    if (*len == 0 || (*len == 3 && (rune < 0x800 || (rune >= 0xd800 && rune < 0xe000))) ||
        (*len == 4 && (rune < 0x10000 || rune > 0x10ffff))) {
        *len = 1;
        return -1;
    }
    return rune;
}

/* Code points that Go escapes although they are no control bytes: odd blanks, marks without width, private use. */
static bool rune_prints(int32_t r) {
    static const int32_t hidden[][2] = {{0x7f, 0xa0},     {0xad, 0xad},     {0x1680, 0x1680}, {0x2000, 0x200f},
                                        {0x2028, 0x202f}, {0x205f, 0x206f}, {0x3000, 0x3000}, {0xe000, 0xf8ff},
                                        {0xfeff, 0xfeff}, {0xfff0, 0xfffb}, {0xfffe, 0xffff}, {0xe0000, 0x10ffff}};
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++) {
        if (r >= hidden[i][0] && r <= hidden[i][1])
            return false;
    }
    return r >= 0x20;
}

static void quote_rune(struct text *t, int32_t rune, unsigned char byte) {
    static const char letters[] = "abtnvfr"; /* 7 to 13 */
    char out[16];
    if (rune == '"' || rune == '\\')
        snprintf(out, sizeof out, "\\%c", rune);
    else if (rune >= 7 && rune <= 13)
        snprintf(out, sizeof out, "\\%c", letters[rune - 7]);
    else if (rune < 0)
        snprintf(out, sizeof out, "\\x%02x", byte);
    else if (rune < 0x80)
        snprintf(out, sizeof out, "\\x%02x", (unsigned)rune);
    else
        snprintf(out, sizeof out, rune < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)rune);
    text_add(t, view_text(out));
}

void text_add_quoted(struct text *t, struct view bytes) {
    text_add_byte(t, '"');
    while (bytes.len) {
        size_t len;
        int32_t rune = rune_at(bytes, &len);
        if (rune_prints(rune) && rune != '"' && rune != '\\')
            text_add(t, view_of(bytes.at, len));
        else
            quote_rune(t, rune, (unsigned char)bytes.at[0]);
        bytes = view_of(bytes.at + len, bytes.len - len);
    }
    text_add_byte(t, '"');
}

/* ---- Go's durations ---- */

static const struct unit {
    const char *name;
    uint64_t ns;
} units[] = {{"ns", 1},       {"us", 1000},      {"µs", 1000},       {"μs", 1000},
             {"ms", 1000000}, {"s", 1000000000}, {"m", 60000000000}, {"h", 3600000000000}};

/* A number with at most nine decimals, without trailing zeros. */
static void add_decimal(struct text *t, uint64_t value, uint64_t unit, const char *name) {
    char out[48], fraction[24] = "";
    if (value % unit) {
        int digits = unit == 1000000000 ? 9 : unit == 1000000 ? 6 : 3;
        snprintf(fraction, sizeof fraction, ".%0*" PRIu64, digits, value % unit);
        for (char *end = fraction + strlen(fraction) - 1; *end == '0'; end--)
            *end = '\0';
    }
    snprintf(out, sizeof out, "%" PRIu64 "%s%s", value / unit, fraction, name);
    text_add(t, view_text(out));
}

void text_add_duration(struct text *t, int64_t ns) {
    uint64_t left = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    if (ns < 0)
        text_add_byte(t, '-');
    if (left == 0) {
        text_add(t, VIEW("0s"));
        return;
    }
    if (left < 1000000000) {
        const struct unit *u = left < 1000 ? &units[0] : left < 1000000 ? &units[2] : &units[4];
        add_decimal(t, left, u->ns, u->name);
        return;
    }
    const uint64_t hour = 3600000000000, minute = 60000000000;
    if (left >= hour)
        text_add_format(t, "%dh", (int64_t)(left / hour));
    if (left >= minute)
        text_add_format(t, "%dm", (int64_t)(left % hour / minute));
    add_decimal(t, left % minute, 1000000000, "s");
}

/* Reads digits; false when the number is too large. */
static bool take_digits(struct view *s, uint64_t *value, size_t *count) {
    bool fits = true;
    *value = 0;
    for (*count = 0; s->len && *s->at >= '0' && *s->at <= '9'; (*count)++) {
        fits = fits && *value <= (INT64_MAX - 9) / 10;
        if (fits)
            *value = *value * 10 + (uint64_t)(*s->at - '0');
        *s = view_of(s->at + 1, s->len - 1);
    }
    return fits;
}

/* The digits behind the point: as many as count for a nanosecond, the rest is cut off. */
static double take_fraction(struct view *s, size_t *count) {
    double fraction = 0, scale = 1;
    *count = 0;
    if (!s->len || *s->at != '.')
        return 0;
    *s = view_of(s->at + 1, s->len - 1);
    for (; s->len && *s->at >= '0' && *s->at <= '9'; (*count)++) {
        scale /= 10;
        fraction += scale * (*s->at - '0');
        *s = view_of(s->at + 1, s->len - 1);
    }
    return fraction;
}

static const struct unit *take_unit(struct view *s, struct view *name) {
    size_t len = 0;
    while (len < s->len && s->at[len] != '.' && (s->at[len] < '0' || s->at[len] > '9'))
        len++;
    *name = view_of(s->at, len);
    *s = view_of(s->at + len, s->len - len);
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (view_equal(*name, view_text(units[i].name)))
            return &units[i];
    }
    return NULL;
}

static enum err bad_duration(struct text *why, struct view whole) {
    text_add_format(why, "time: invalid duration %q", whole);
    return ERR_SYNTAX;
}

enum err duration_parse(int64_t *ns, struct view s, struct text *why) {
    struct view whole = s, name;
    bool negative = s.len && *s.at == '-';
    if (s.len && (*s.at == '-' || *s.at == '+'))
        s = view_of(s.at + 1, s.len - 1);
    *ns = 0;
    if (view_equal(s, VIEW("0")))
        return ERR_OK;
    if (s.len == 0)
        return bad_duration(why, whole);
    uint64_t sum = 0;
    while (s.len) {
        uint64_t number;
        size_t digits, decimals;
        bool fits = take_digits(&s, &number, &digits);
        double fraction = take_fraction(&s, &decimals);
        if (!fits || digits + decimals == 0)
            return bad_duration(why, whole);
        const struct unit *unit = take_unit(&s, &name);
        if (!unit) {
            text_add_format(why,
                            name.len ? "time: unknown unit %q in duration %q" : "time: missing unit in duration %q",
                            name.len ? name : whole, whole);
            return ERR_SYNTAX;
        }
        if (number > (INT64_MAX - unit->ns) / unit->ns)
            return bad_duration(why, whole);
        number = number * unit->ns + (uint64_t)(fraction * (double)unit->ns + 1e-7);
        if (number > (uint64_t)INT64_MAX - sum)
            return bad_duration(why, whole);
        sum += number;
    }
    *ns = negative ? -(int64_t)sum : (int64_t)sum;
    return ERR_OK;
}

/* ---- formats ---- */

/* What a discreet text hides; the argument is passed over. True: it was such a verb. */
static bool hide(struct text *t, char verb, va_list *list) {
    switch (verb) {
    case 'v':
    case 'q':
        (void)va_arg(*list, struct view);
        break;
    case 'd':
    case 'D':
        (void)va_arg(*list, int64_t);
        break;
    case 'c':
        (void)va_arg(*list, int32_t);
        break;
    case 'V':
        (void)va_arg(*list, const struct value *);
        break;
    default:
        return false;
    }
    text_add(t, VIEW("..."));
    return true;
}

static void add_verb(struct text *t, char verb, va_list *list) {
    char number[24];
    switch (verb) {
    case 's':
        text_add(t, view_text(va_arg(*list, const char *)));
        break;
    case 'v':
    case 'k':
        text_add(t, va_arg(*list, struct view));
        break;
    case 'q':
        text_add_quoted(t, va_arg(*list, struct view));
        break;
    case 'd':
        snprintf(number, sizeof number, "%" PRId64, va_arg(*list, int64_t));
        text_add(t, view_text(number));
        break;
    case 'D':
        text_add_duration(t, va_arg(*list, int64_t));
        break;
    case 'c':
        text_add_rune(t, va_arg(*list, int32_t));
        break;
    case 'T':
        text_add(t, view_text(value_type_name(va_arg(*list, const struct value *)->type)));
        break;
    case 'V':
        value_show(t, va_arg(*list, const struct value *));
        break;
    default:
        text_add_byte(t, verb);
    }
}

void text_add_format_list(struct text *t, const char *format, va_list list) {
    va_list rest;
    va_copy(rest, list);
    while (*format) {
        size_t plain = strcspn(format, "%");
        text_add(t, view_of(format, plain));
        format += plain;
        if (!*format)
            break;
        if (!t->discreet || !hide(t, format[1], &rest))
            add_verb(t, format[1], &rest);
        format += 2;
    }
    va_end(rest);
}

void text_add_format(struct text *t, const char *format, ...) {
    va_list list;
    va_start(list, format);
    text_add_format_list(t, format, list);
    va_end(list);
}

struct view text_view(const struct text *t) {
    return view_of(t->at, t->len);
}
