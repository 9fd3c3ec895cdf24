/* SPDX-License-Identifier: Apache-2.0 */
/* header.claims.signature, each base64url. Version 2 signs header and claims, version 1 the claims alone. */
#include "config/jwt.h"

#include <jansson.h>
#include <sodium.h>
#include <string.h>

#include "nats/json.h"
#include "nats/nkey.h"

struct part {
    unsigned char *bytes;
    size_t len;
};

static bool decode(struct arena *arena, struct view s, struct part *out) {
    out->bytes = arena_take(arena, s.len + 1);
    return sodium_base642bin(out->bytes, s.len + 1, s.at, s.len, NULL, &out->len, NULL,
                             sodium_base64_VARIANT_URLSAFE_NO_PADDING) == 0;
}

static bool json_says(const json_t *object, const char *key, const char *value) {
    const char *text = json_string_value(json_object_get(object, key));
    return text && strcasecmp(text, value) == 0;
}

/* The issuer's key, if the claims are of that type. */
static bool take_issuer(const json_t *claims, const char *type, uint8_t key[NKEY_BYTES]) {
    const char *issuer = json_string_value(json_object_get(claims, "iss"));
    const json_t *nats = json_object_get(claims, "nats");
    if (!json_says(nats, "type", type) && !json_says(claims, "type", type))
        return false;
    return issuer && (nkey_parse(key, NKEY_OPERATOR, view_text(issuer)) == ERR_OK ||
                      nkey_parse(key, NKEY_ACCOUNT, view_text(issuer)) == ERR_OK);
}

static enum err fail(struct text *why, const char *words) {
    text_add(why, view_text(words));
    return ERR_SYNTAX;
}

static enum err check_parts(const struct part part[3], struct view jwt, struct view claims_text, const char *type,
                            struct text *why) {
    json_prepare();
    json_t *header = json_loadb((const char *)part[0].bytes, part[0].len, 0, NULL);
    json_t *claims = json_loadb((const char *)part[1].bytes, part[1].len, 0, NULL);
    bool v1 = json_says(header, "alg", "ed25519"), v2 = json_says(header, "alg", "ed25519-nkey");
    struct view signed_text = v1 ? claims_text : view_of(jwt.at, (size_t)(claims_text.at + claims_text.len - jwt.at));
    uint8_t key[NKEY_BYTES];
    enum err e = ERR_OK;
    if (!header || !claims)
        e = fail(why, "invalid character in JWT");
    else if (!json_says(header, "typ", "jwt") || (!v1 && !v2))
        e = fail(why, "unexpected algorithm or type");
    else if (!take_issuer(claims, type, key))
        e = fail(why, "expected other claims");
    else if (part[2].len != crypto_sign_BYTES ||
             crypto_sign_verify_detached(part[2].bytes, (const unsigned char *)signed_text.at, signed_text.len, key) !=
                 0)
        e = fail(why, "claim failed V2 signature verification");
    json_decref(header);
    json_decref(claims);
    return e;
}

enum err jwt_check(struct view jwt, const char *type, struct text *why) {
    struct view text[3];
    struct part part[3];
    size_t from = 0, count = 0;
    for (size_t i = 0; i <= jwt.len; i++) {
        if (i < jwt.len && jwt.at[i] != '.')
            continue;
        if (count < 3)
            text[count] = view_of(jwt.at + from, i - from);
        count++;
        from = i + 1;
    }
    if (count != 3)
        return fail(why, "expected 3 chunks");
    for (size_t i = 0; i < 3; i++) {
        if (!decode(why->arena, text[i], &part[i]))
            return fail(why, "illegal base64 data");
    }
    return check_parts(part, jwt, text[1], type, why);
}
