/* SPDX-License-Identifier: Apache-2.0 */
#include "config/url.h"

#include <string.h>

static bool is_alnum(char b) {
    return (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9');
}

static bool is_hex(char b) {
    return (b >= '0' && b <= '9') || ((b | 0x20) >= 'a' && (b | 0x20) <= 'f');
}

static const char *find_last(struct view s, char byte) {
    for (size_t i = s.len; i-- > 0;) {
        if (s.at[i] == byte)
            return s.at + i;
    }
    return NULL;
}

static const char *find_first(struct view s, char byte) {
    return s.len ? memchr(s.at, byte, s.len) : NULL;
}

static struct view from(struct view s, const char *at) {
    return view_of(at, s.len - (size_t)(at - s.at));
}

static struct view before(struct view s, const char *at) {
    return at ? view_of(s.at, (size_t)(at - s.at)) : s;
}

/* Every byte is alphanumeric, not ASCII, in the list, or a whole escape. In a host only escapes of other bytes count.
 */
static bool holds_only(struct view s, const char *others, bool host) {
    for (size_t i = 0; i < s.len; i++) {
        char b = s.at[i];
        if (b == '%') {
            if (s.len - i < 3 || !is_hex(s.at[i + 1]) || !is_hex(s.at[i + 2]) || (host && s.at[i + 1] < '8'))
                return false;
            i += 2;
        } else if (!is_alnum(b) && !(b & 0x80) && !(b && strchr(others, b))) {
            return false;
        }
    }
    return true;
}

static bool is_port(struct view s) {
    if (s.len == 0)
        return true;
    for (size_t i = 1; i < s.len; i++) {
        if (s.at[i] < '0' || s.at[i] > '9')
            return false;
    }
    return s.at[0] == ':';
}

static bool check_host(struct view host) {
    static const char allowed[] = "-_.~!$&'()*+,;=:[]<>\"";
    if (host.len && host.at[0] == '[') {
        const char *close = find_last(host, ']');
        return close && is_port(from(host, close + 1)) && holds_only(before(host, close), allowed, false);
    }
    const char *colon = find_last(host, ':');
    return (!colon || is_port(from(host, colon))) && holds_only(host, allowed, true);
}

static bool take_authority(struct url *u, struct view authority) {
    const char *at = find_last(authority, '@');
    u->host = at ? from(authority, at + 1) : authority;
    if (at) {
        struct view info = before(authority, at);
        const char *colon = find_first(info, ':');
        u->has_user = true;
        u->user = before(info, colon);
        u->has_password = colon != NULL;
        u->password = colon ? from(info, colon + 1) : view_of(NULL, 0);
        if (!holds_only(info, "-._:~!$&'()*+,;=@", false))
            return false;
    }
    return check_host(u->host);
}

/* The scheme before the first colon; false where a colon stands without one. */
static bool take_scheme(struct url *u, struct view *s) {
    for (size_t i = 0; i < s->len; i++) {
        char b = s->at[i];
        if (b == ':') {
            u->scheme = view_of(s->at, i);
            *s = from(*s, s->at + i + 1);
            return i > 0;
        }
        bool later = (b >= '0' && b <= '9') || b == '+' || b == '-' || b == '.';
        if (!((b | 0x20) >= 'a' && (b | 0x20) <= 'z') && !(later && i > 0))
            return true;
    }
    return true;
}

bool url_parse(struct url *u, struct view s) {
    *u = (struct url){0};
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.at[i] < 0x20 || s.at[i] == 0x7f)
            return false;
    }
    s = before(s, find_first(s, '#'));
    if (!take_scheme(u, &s))
        return false;
    s = before(s, find_first(s, '?'));
    if (view_starts(s, VIEW("//")) && (u->scheme.len || !view_starts(s, VIEW("///")))) {
        struct view rest = from(s, s.at + 2);
        const char *slash = find_first(rest, '/');
        if (!take_authority(u, before(rest, slash)))
            return false;
        s = slash ? from(rest, slash) : view_of(NULL, 0);
    } else if (s.len && s.at[0] != '/') {
        if (u->scheme.len)
            return true; /* opaque: nothing more is looked at */
        if (find_first(before(s, find_first(s, '/')), ':'))
            return false;
    }
    return holds_only(s, " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~", false);
}

/* Where the password of a text that is no URL would stand: between the last colon behind the scheme and the last '@'.
 */
static struct view guess_password(struct view s) {
    const char *at = find_last(s, '@'), *slashes = s.len ? memmem(s.at, s.len, "//", 2) : NULL;
    struct view info = at ? before(s, at) : view_of(NULL, 0);
    if (slashes && at && slashes < at)
        info = from(info, slashes + 2);
    const char *colon = find_last(info, ':');
    return colon ? from(info, colon + 1) : view_of(NULL, 0);
}

void text_add_url(struct text *t, struct view s) {
    struct url u;
    struct view password = url_parse(&u, s) ? u.password : guess_password(s);
    if (!password.at) {
        text_add(t, s);
        return;
    }
    text_add(t, before(s, password.at));
    text_add(t, VIEW("xxxxx"));
    text_add(t, from(s, password.at + password.len));
}

bool address_split(struct view s, struct view *host, struct view *port) {
    const char *colon = find_last(s, ':');
    if (!colon)
        return false;
    struct view rest = s;
    *host = before(s, colon);
    *port = from(s, colon + 1);
    if (s.at[0] == '[') {
        const char *close = find_first(s, ']');
        if (!close || close + 1 != colon)
            return false;
        *host = view_of(s.at + 1, (size_t)(close - s.at) - 1);
        rest = view_of(s.at + 1, s.len - 1);
        return !find_first(rest, '[') && !find_first(*port, ']');
    }
    return !find_first(*host, ':') && !find_first(rest, '[') && !find_first(rest, ']');
}

bool parse_int(struct view s, int64_t *out) {
    bool negative = s.len && s.at[0] == '-';
    size_t i = s.len && (s.at[0] == '-' || s.at[0] == '+');
    if (i == s.len)
        return false;
    for (*out = 0; i < s.len; i++) {
        int digit = s.at[i] - '0';
        if (digit < 0 || digit > 9 || __builtin_mul_overflow(*out, 10, out) ||
            __builtin_add_overflow(*out, negative ? -digit : digit, out))
            return false;
    }
    return true;
}
