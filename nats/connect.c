/* SPDX-License-Identifier: Apache-2.0 */
/* CONNECT is decoded key by key, because a JSON object in memory has forgotten what a CONNECT may depend on: that a key
 * came twice in two spellings, or twice with one wrong type.
 *
 * jansson first checks the whole text. Then the text, now known to be JSON, is cut at the commas of its outer level,
 * and each member is decoded as an object of its own. The text holds passwords, so it is wiped, and so is each piece of
 * memory that jansson gives back. */
#include "nats/connect.h"

#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <strings.h>

#include "nats/json.h"
#include "nats/utf8.h"

/* A byte that is not UTF-8, and an escaped surrogate without its partner, become U+FFFD. */
#define REPLACEMENT "\xef\xbf\xbd"
enum { REPLACEMENT_LEN = sizeof REPLACEMENT - 1, ESCAPE_LEN = 6 };

static const char hex[] = "0123456789abcdefABCDEF";

enum { LOAD_FLAGS = JSON_ALLOW_NUL };

static const struct text_key {
    const char *name;
    enum connect_text text;
} text_keys[] = {
    {"user", CONNECT_USER},       {"pass", CONNECT_PASS}, {"auth_token", CONNECT_AUTH_TOKEN},
    {"nkey", CONNECT_NKEY},       {"jwt", CONNECT_JWT},   {"sig", CONNECT_SIG},
    {"name", CONNECT_NAME},       {"lang", CONNECT_LANG}, {"version", CONNECT_VERSION},
    {"account", CONNECT_ACCOUNT},
};

static const struct bool_key {
    const char *name;
    size_t offset; /* in struct connect */
} bool_keys[] = {
    {"verbose", offsetof(struct connect, verbose)},
    {"pedantic", offsetof(struct connect, pedantic)},
    {"echo", offsetof(struct connect, echo)},
    {"headers", offsetof(struct connect, headers)},
    {"no_responders", offsetof(struct connect, no_responders)},
    {"tls_required", offsetof(struct connect, tls_required)},
    {"new_account", offsetof(struct connect, new_account)},
};

/* The value of an escape `\uXXXX` that v starts with, 0 if there is none. */
static unsigned escaped_unit(struct view v) {
    unsigned unit = 0;
    if (v.len < ESCAPE_LEN || v.at[0] != '\\' || v.at[1] != 'u')
        return 0;
    for (size_t i = 2; i < ESCAPE_LEN; i++) {
        const char *digit = memchr(hex, v.at[i], sizeof hex - 1);
        if (digit == NULL)
            return 0;
        unsigned value = (unsigned)(digit - hex);
        unit = unit << 4 | (value < 16 ? value : value - 6);
    }
    return unit;
}

/* Cuts one rune or escape off *rest and gives what jansson may read for it. */
static struct view piece_cut(struct view *rest) {
    uint32_t rune;
    size_t len = utf8_read(*rest, &rune);
    struct view piece = view_of(rest->at, len);
    if (len == 0) {
        len = 1;
        piece = VIEW(REPLACEMENT);
    } else if (rest->at[0] == '\\' && rest->len > 1) {
        unsigned unit = escaped_unit(*rest);
        bool pair = unit >> 10 == 0xd800 >> 10 &&
                    escaped_unit(view_of(rest->at + ESCAPE_LEN, rest->len - ESCAPE_LEN)) >> 10 == 0xdc00 >> 10;
        bool alone = !pair && unit >= 0xd800 && unit <= 0xdfff;
        len = pair ? 2 * ESCAPE_LEN : alone ? ESCAPE_LEN : 2;
        piece = alone ? VIEW("\\ufffd") : view_of(rest->at, len);
    }
    *rest = view_of(rest->at + len, rest->len - len);
    return piece;
}

/* A copy of json in which all is UTF-8; json_wipe it. Null: no memory. */
static char *copy_as_utf8(struct view json, size_t *len) {
    char *copy = malloc(json.len * REPLACEMENT_LEN + 1);
    *len = 0;
    while (copy != NULL && json.len > 0) {
        struct view piece = piece_cut(&json);
        memcpy(copy + *len, piece.at, piece.len);
        *len += piece.len;
    }
    return copy;
}

/* The place of the ',' or '}' that ends the member after at[from], in a text that is an object. */
static size_t member_end(const char *at, size_t from) {
    int depth = 0;
    bool in_string = false;
    for (size_t i = from;; i++) {
        if (in_string) {
            if (at[i] == '\\')
                i++;
            else if (at[i] == '"')
                in_string = false;
        } else if (at[i] == '"') {
            in_string = true;
        } else if (depth == 0 && (at[i] == ',' || at[i] == '}')) {
            return i;
        } else if (at[i] == '{' || at[i] == '[') {
            depth++;
        } else if (at[i] == '}' || at[i] == ']') {
            depth--;
        }
    }
}

static enum err text_set(char **slot, const json_t *value) {
    const char *text = json_string_value(value);
    if (text == NULL)
        return ERR_SYNTAX;
    char *copy = NULL;
    if (text[0] != '\0' && (copy = strdup(text)) == NULL)
        return ERR_NOMEM;
    json_wipe(*slot);
    *slot = copy;
    return ERR_OK;
}

/* "import" and "export" mean nothing for clients, but must be {"allow": [texts], "deny": [texts]}. */
static enum err permissions_check(json_t *value) {
    const char *key;
    json_t *list, *entry;
    size_t i;
    if (!json_is_object(value))
        return ERR_SYNTAX;
    json_object_foreach(value, key, list) {
        if ((strcasecmp(key, "allow") != 0 && strcasecmp(key, "deny") != 0) || json_is_null(list))
            continue;
        if (!json_is_array(list))
            return ERR_SYNTAX;
        json_array_foreach(list, i, entry) {
            if (!json_is_string(entry) && !json_is_null(entry))
                return ERR_SYNTAX;
        }
    }
    return ERR_OK;
}

/* Takes one key into *c; touched gets a bit for each text. */
static enum err member_take(struct connect *c, unsigned *touched, const char *key, json_t *value) {
    if (json_is_null(value))
        return ERR_OK;
    for (size_t i = 0; i < sizeof text_keys / sizeof text_keys[0]; i++) {
        if (strcasecmp(key, text_keys[i].name) != 0)
            continue;
        *touched |= 1u << text_keys[i].text;
        return text_set(&c->text[text_keys[i].text], value);
    }
    for (size_t i = 0; i < sizeof bool_keys / sizeof bool_keys[0]; i++) {
        if (strcasecmp(key, bool_keys[i].name) != 0)
            continue;
        bool on = json_is_true(value);
        memcpy((char *)c + bool_keys[i].offset, &on, sizeof on);
        return json_is_boolean(value) ? ERR_OK : ERR_SYNTAX;
    }
    if (strcasecmp(key, "protocol") == 0) {
        json_int_t number = json_integer_value(value);
        c->protocol = number < INT_MIN ? INT_MIN : number > INT_MAX ? INT_MAX : (int)number;
        return json_is_integer(value) ? ERR_OK : ERR_SYNTAX;
    }
    if (strcasecmp(key, "import") == 0 || strcasecmp(key, "export") == 0)
        return permissions_check(value);
    return ERR_OK;
}

/* Decodes `{member}` in at[0..len), an object of one key or none. */
static enum err member_parse(struct connect *c, unsigned *touched, const char *at, size_t len) {
    json_t *object = json_loadb(at, len, LOAD_FLAGS, NULL);
    if (object == NULL) /* a number beyond 64 bits, which an unknown key may have */
        object = json_loadb(at, len, LOAD_FLAGS | JSON_DECODE_INT_AS_REAL, NULL);
    enum err e = object == NULL ? ERR_NOMEM : ERR_OK;
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) e = member_take(c, touched, key, value);
    json_decref(object);
    return e;
}

/* Decodes the members of the object in the text at, which it overwrites. */
static enum err members_parse(struct connect *c, unsigned *touched, char *at) {
    size_t from = strcspn(at, "{");
    for (bool last = false; !last;) {
        size_t end = member_end(at, from + 1);
        last = at[end] == '}';
        at[from] = '{';
        at[end] = '}';
        enum err e = member_parse(c, touched, at + from, end + 1 - from);
        if (e != ERR_OK)
            return e;
        from = end;
    }
    return ERR_OK;
}

/* Checks json as a whole and gives a copy to cut, or null in *text if it is `null`. */
static enum err text_open(struct view json, char **text) {
    size_t len;
    *text = NULL;
    char *copy = copy_as_utf8(json, &len);
    if (copy == NULL)
        return ERR_NOMEM;
    copy[len] = '\0';
    json_ran_short();
    json_t *whole = json_loadb(copy, len, LOAD_FLAGS | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
    enum err e = json_is_object(whole) || json_is_null(whole) ? ERR_OK : ERR_SYNTAX;
    if (whole == NULL && json_ran_short())
        e = ERR_NOMEM;
    if (e == ERR_OK && json_is_object(whole))
        *text = copy;
    else
        json_wipe(copy);
    json_decref(whole);
    return e;
}

static void texts_free(struct connect *c, unsigned which) {
    for (unsigned i = 0; i < CONNECT_TEXT_COUNT; i++) {
        if ((which & 1u << i) == 0)
            continue;
        json_wipe(c->text[i]);
        c->text[i] = NULL;
    }
}

void connect_init(struct connect *c) {
    *c = (struct connect){.verbose = true, .pedantic = true, .echo = true};
}

enum err connect_parse(struct connect *c, struct view json) {
    json_prepare();
    char *text;
    enum err e = text_open(json, &text);
    if (e != ERR_OK || text == NULL)
        return e;
    struct connect next = *c;
    unsigned touched = 0;
    memset(next.text, 0, sizeof next.text);
    e = members_parse(&next, &touched, text);
    json_wipe(text);
    if (e != ERR_OK) {
        texts_free(&next, touched);
        return e;
    }
    texts_free(c, touched);
    for (unsigned i = 0; i < CONNECT_TEXT_COUNT; i++) {
        if ((touched & 1u << i) == 0)
            next.text[i] = c->text[i];
    }
    *c = next;
    return ERR_OK;
}

bool connect_is_object(struct view json) {
    json_prepare();
    char *text;
    bool is_object = text_open(json, &text) == ERR_OK;
    json_wipe(text);
    return is_object;
}

void connect_wipe(struct connect *c) {
    texts_free(c, 1u << CONNECT_USER | 1u << CONNECT_PASS | 1u << CONNECT_AUTH_TOKEN | 1u << CONNECT_NKEY |
                      1u << CONNECT_JWT | 1u << CONNECT_SIG);
}

void connect_free(struct connect *c) {
    texts_free(c, ~0u);
}
