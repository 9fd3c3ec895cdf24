/* SPDX-License-Identifier: Apache-2.0 */
/* From the checked tree to struct tls_options. */
#include "config/tls.h"

#include <stdio.h>
#include <string.h>

#include "config/checker.h"

struct translation {
    const char *name, *openssl;
};

/* Suites with forward secrecy that OpenSSL has. Those of TLS 1.3 are always on and have no row. */
static const struct translation ciphers[] = {
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA-AES128-SHA"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA-AES256-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-RSA-AES128-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "ECDHE-RSA-AES128-SHA256"},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ECDHE-ECDSA-AES128-SHA256"},
    {"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {NULL, NULL}};
static const struct translation groups[] = {
    {"X25519", "X25519"}, {"CurveP256", "P-256"}, {"CurveP384", "P-384"}, {"CurveP521", "P-521"}, {NULL, NULL}};

static const char *translate(const struct translation *rows, struct view name) {
    for (; rows->name; rows++) {
        if (view_equal(name, view_text(rows->name)))
            return rows->openssl;
    }
    return NULL;
}

const char *tls_cipher_offered(struct view name) {
    return translate(ciphers, name);
}

/* Joins what is known, each name once: a list that repeats itself would otherwise have no bound. */
static void join(char *out, const struct value *list, const struct translation *rows) {
    size_t len = 0;
    for (size_t i = 0; list && i < list->array->count; i++) {
        const struct value *name = list->array->at[i];
        const char *known = text_is(name) ? translate(rows, name->text) : NULL;
        bool again = false;
        for (size_t k = 0; k < i && known; k++)
            again = again || (text_is(list->array->at[k]) && view_equal(list->array->at[k]->text, name->text));
        if (known && !again)
            len += (size_t)snprintf(out + len, TLS_NAMES_MAX - len, "%s%s", len ? ":" : "", known);
    }
}

static uint8_t hex_digit(char b) {
    return (uint8_t)(b <= '9' ? b - '0' : b - 'a' + 10);
}

static void take_pins(struct tls_options *t, const struct value *pins) {
    for (size_t i = 0; pins && i < pins->array->count && t->pin_count < TLS_PINS_MAX; i++) {
        const char *hex = pins->array->at[i]->text.at;
        for (size_t k = 0; k < TLS_PIN_BYTES; k++)
            t->pins[t->pin_count][k] = (uint8_t)(hex_digit(hex[2 * k]) << 4 | hex_digit(hex[2 * k + 1]));
        t->pin_count++;
    }
}

static bool is_true(const struct value *block, const char *name) {
    const struct value *v = value_find(block, view_text(name));
    return v && v->type == VALUE_BOOL && v->truth;
}

static uint32_t to_ms(int64_t ns) {
    int64_t ms = (ns + 999999) / 1000000;
    return ms < 1 ? 1 : ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
}

void tls_take(struct tls_options *t, const struct config *c) {
    const struct value *block = config_find(c, "tls"), *first, *rate;
    if (!block)
        return;
    first = value_find(block, VIEW("handshake_first"));
    rate = value_find(block, VIEW("connection_rate_limit"));
    t->given = true;
    t->map = is_true(block, "verify_and_map");
    t->verify = t->map || is_true(block, "verify");
    t->allow_non_tls = c->options.allow_non_tls;
    t->first = first && (first->type != VALUE_BOOL || first->truth);
    t->first_after_ms = first && first->type == VALUE_INT ? to_ms(first->number) : 0;
    t->timeout_ms = to_ms(c->options.tls_timeout_ns);
    t->rate_limit = rate && rate->number > 0 ? rate->number > UINT32_MAX ? UINT32_MAX : (uint32_t)rate->number : 0;
    join(t->ciphers, value_find(block, VIEW("cipher_suites")), ciphers);
    join(t->groups, value_find(block, VIEW("curve_preferences")), groups);
    take_pins(t, value_find(block, VIEW("pinned_certs")));
}
