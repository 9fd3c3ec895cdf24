/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates. Whether a key fits its certificate, and what the files hold, is for the source to say (config/tls.h):
 * only the reader of the configuration knows OpenSSL. */
#include <string.h>

#include "config/checker.h"
#include "config/rules.h"

/* Suites of TLS 1.3 are accepted and always on; the old ones without forward secrecy are accepted as nats-server does.
 */
static const char *const ciphers[] = {"TLS_RSA_WITH_RC4_128_SHA",
                                      "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
                                      "TLS_RSA_WITH_AES_128_CBC_SHA",
                                      "TLS_RSA_WITH_AES_128_CBC_SHA256",
                                      "TLS_RSA_WITH_AES_256_CBC_SHA",
                                      "TLS_RSA_WITH_AES_256_GCM_SHA384",
                                      "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
                                      "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
                                      "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
                                      "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
                                      "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
                                      "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
                                      "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
                                      "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256",
                                      "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
                                      "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                                      "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                                      "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
                                      "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                                      "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",
                                      "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
                                      "TLS_AES_128_GCM_SHA256",
                                      "TLS_AES_256_GCM_SHA384",
                                      "TLS_CHACHA20_POLY1305_SHA256",
                                      NULL};
static const char *const curves[] = {"X25519", "CurveP256", "CurveP384", "CurveP521", NULL};

const char *const *tls_cipher_names(void) {
    return ciphers;
}

const char *const *tls_curve_names(void) {
    return curves;
}

static bool is_one_of(struct view s, const char *const *names) {
    for (; *names; names++) {
        if (view_equal(s, view_text(*names)))
            return true;
    }
    return false;
}

static struct value *check_names(struct checker *c, struct value *list, const char *what, const char *const *names) {
    for (size_t i = 0; i < list->array->count; i++) {
        struct value *name = list->array->at[i];
        if (text_is(name) && !is_one_of(name->text, names))
            problem_at(c, name, "unrecognized %s %v", what, name->text);
    }
    return list;
}

RULE(rule_ciphers) {
    v = check_shape(c, o, key, v, out);
    if (v && !v->array->count)
        problem_at(c, v, "error parsing tls config, 'cipher_suites' cannot be empty");
    return v ? check_names(c, v, "cipher", ciphers) : NULL;
}

RULE(rule_curves) {
    v = check_shape(c, o, key, v, out);
    if (v && !v->array->count)
        problem_at(c, v, "error parsing tls config, 'curve_preferences' cannot be empty");
    return v ? check_names(c, v, "curve preference", curves) : NULL;
}

static struct value *lower_hex(struct checker *c, const struct value *v) {
    struct text t = {.arena = c->arena};
    bool hex = v->text.len == 64;
    for (size_t i = 0; i < v->text.len; i++) {
        char b = v->text.at[i] >= 'A' && v->text.at[i] <= 'Z' ? (char)(v->text.at[i] | 0x20) : v->text.at[i];
        hex = hex && ((b >= '0' && b <= '9') || (b >= 'a' && b <= 'f'));
        text_add_byte(&t, b);
    }
    if (hex)
        return derive_text(c, v, text_view(&t));
    problem_at(c, v,
               "error parsing tls config, 'pinned_certs' key %v does not look like hex-encoded sha256 of DER encoded "
               "SubjectPublicKeyInfo",
               text_view(&t));
    return NULL;
}

RULE(rule_pins) {
    v = check_shape(c, o, key, v, out);
    if (!v)
        return NULL;
    struct value *pins = derive(c, v, VALUE_ARRAY);
    for (size_t i = 0; i < v->array->count; i++) {
        struct value *pin = text_is(v->array->at[i]) ? lower_hex(c, v->array->at[i]) : NULL;
        if (pin)
            value_append(c->arena, pins, pin);
    }
    value_measure(pins);
    return pins;
}

/* A boolean, or the time for a hello in nanoseconds. */
RULE(rule_handshake_first) {
    (void)o, (void)out;
    static const char *const yes[] = {"true", "on"}, *const no[] = {"false", "off"},
                             *const some[] = {"auto", "auto_fallback"};
    int64_t ns = 50000000;
    if (v->type == VALUE_BOOL)
        return v;
    if (!text_is(v)) {
        problem_at(c, v, "field \"%k\" should be a boolean or a string, got %T", key, v);
        return NULL;
    }
    for (size_t i = 0; i < 2; i++) {
        if (view_equal_fold(v->text, yes[i]) || view_equal_fold(v->text, no[i])) {
            struct value *truth = derive(c, v, VALUE_BOOL);
            truth->truth = view_equal_fold(v->text, yes[i]);
            return truth;
        }
        if (view_equal_fold(v->text, some[i]))
            return derive_int(c, v, ns);
    }
    struct text why = {.arena = c->arena};
    if (duration_parse(&ns, v->text, &why) == ERR_OK && ns > 0)
        return derive_int(c, v, ns);
    problem_at(c, v, "field \"%k\"'s value %q is invalid", key, v->text);
    return NULL;
}

/* ---- files ---- */

static enum err check_pair(const struct source *source, struct arena *arena, const char *cert_path,
                           const char *key_path, struct text *why) {
    struct view cert, key;
    text_add(why, VIEW("error parsing X509 certificate/key pair: "));
    enum err e = source_read(source, cert_path, arena, &cert, why);
    if (e == ERR_OK)
        e = source_read(source, key_path, arena, &key, why);
    if (e == ERR_OK && source->check_pair)
        e = source->check_pair(cert, key, why);
    if (e == ERR_OK)
        why->len = 0;
    return e;
}

static enum err check_ca(const struct source *source, struct arena *arena, const char *path, struct text *why) {
    struct view pem;
    enum err e = source_read(source, path, arena, &pem, why);
    return e == ERR_OK && source->check_ca ? source->check_ca(pem, why) : e;
}

enum err tls_check_files(const struct source *source, struct arena *arena, const struct value *block,
                         struct text *why) {
    const struct value *cert = value_find(block, VIEW("cert_file")), *key = value_find(block, VIEW("key_file"));
    const struct value *ca = value_find(block, VIEW("ca_file"));
    if (text_given(cert) != text_given(key)) {
        text_add_format(why, "missing '%s' in TLS configuration", text_given(cert) ? "key_file" : "cert_file");
        return ERR_SYNTAX;
    }
    enum err e = ERR_OK;
    if (text_given(cert))
        e = check_pair(source, arena, arena_copy(arena, cert->text).at, arena_copy(arena, key->text).at, why);
    if (e == ERR_OK && text_given(ca))
        e = check_ca(source, arena, arena_copy(arena, ca->text).at, why);
    return e;
}

static struct value *read_tls(struct checker *c, struct value *v, bool peer) {
    if (v->type != VALUE_MAP) {
        problem_at(c, v, "interface conversion: interface {} is %T, not map[string]interface {}", v);
        return NULL;
    }
    size_t before = c->config->problem_count;
    struct value *block = check_block(c, SECTION_TLS, v);
    const struct value *known = value_find(block, VIEW("verify_cert_and_check_known_urls"));
    if (known && known->truth && !peer)
        problem_at(c, known, "verify_cert_and_check_known_urls not supported in this context");
    struct text why = {.arena = c->arena};
    if (c->config->problem_count == before && tls_check_files(c->config->source, c->arena, block, &why) != ERR_OK)
        problem_at(c, v, "%k", text_view(&why)); /* paths of certificates are no secret */
    return block;
}

/* The time for the handshake with clients is kept beside the block: it also stretches the time for logging in. */
RULE(rule_tls) {
    (void)key, (void)out;
    struct value *block = read_tls(c, v, false);
    const struct value *timeout = block ? value_find(block, VIEW("timeout")) : NULL;
    if (timeout && o->section == SECTION_TOP && view_equal(option_name(o), VIEW("tls")))
        c->config->options.tls_timeout_ns = timeout->number;
    return block;
}

RULE(rule_tls_peer) {
    (void)o, (void)key, (void)out;
    return read_tls(c, v, true);
}

/* ---- stapling ---- */

RULE(rule_ocsp_mode) {
    static const char *const modes[] = {"always", "must", "never", "auto"};
    v = check_shape(c, o, key, v, out);
    for (size_t i = 0; v && i < 4; i++) {
        if (view_equal_fold(v->text, modes[i]))
            return derive_text(c, v, view_text(modes[i]));
    }
    if (v)
        problem_at(c, v, "error parsing ocsp config: unsupported ocsp mode string");
    return NULL;
}

RULE(rule_ocsp) {
    if (v->type != VALUE_BOOL)
        return check_shape(c, o, key, v, out);
    struct value *block = derive(c, v, VALUE_MAP);
    value_put(c->arena, block, VIEW("mode"), derive_text(c, v, v->truth ? VIEW("auto") : VIEW("never")));
    value_measure(block);
    return block;
}
