/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of config/tls.c and config/tls_files.c: what frontends and the signer get. Certificates are made here. */
#include "config/tls.h"

#define ERR_STATE OPENSSL_ERR_STATE
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#undef ERR_STATE

#include <stdlib.h>

#include "tests/unit/config/config_testing.h"

static struct pair files[16];
static size_t file_count = 1; /* the first is the configuration */
static struct config c;
static struct tls_options t;

/* ---- files ---- */

static char *take_text(BIO *bio) {
    char *at;
    long len = BIO_get_mem_data(bio, &at);
    char *text = strndup(at, (size_t)len);
    BIO_free(bio);
    return text;
}

static void add_file(const char *name, char *text) {
    files[file_count++] = (struct pair){name, text};
}

static char *join(const char *a, const char *b) {
    char *text = malloc(strlen(a) + strlen(b) + 1);
    strcpy(text, a);
    return strcat(text, b);
}

static const char *text_of(const char *name) {
    return pair_find(files, name);
}

/* NAME.pem and NAME.key, the key in the traditional form, which is not how it is handed on. */
static void make_certificate(const char *cert_name, const char *key_name) {
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = X509_new();
    X509_set_version(x, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(x), (long)file_count);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)cert_name, -1, -1,
                               0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_set_pubkey(x, key);
    ck_assert(X509_sign(x, key, EVP_sha256()));
    BIO *pem = BIO_new(BIO_s_mem()), *private = BIO_new(BIO_s_mem());
    ck_assert(PEM_write_bio_X509(pem, x) &&
              PEM_write_bio_PrivateKey_traditional(private, key, NULL, NULL, 0, NULL, NULL));
    add_file(cert_name, take_text(pem));
    add_file(key_name, take_text(private));
    X509_free(x);
    EVP_PKEY_free(key);
}

static void make_files(void) {
    test_files = files;
    files[0].name = "t.conf";
    if (file_count > 1)
        return;
    make_certificate("one.pem", "one.key");
    make_certificate("two.pem", "two.key");
    add_file("chain.pem", join(text_of("one.pem"), text_of("two.pem")));
    char *behind_text = join("a text\n", text_of("two.pem"));
    add_file("both.pem", join(text_of("two.key"), behind_text));
    free(behind_text);
    add_file("junk.pem", strdup("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"));
    add_file("some.pem", join(text_of("junk.pem"), text_of("one.pem")));
}

static void read_config(const char *text) {
    static const struct source source = {NULL,           test_open,    test_probe, test_folder, test_environment,
                                         tls_check_pair, tls_check_ca, false};
    make_files();
    files[0].text = text;
    config_open(&c, &source);
    ck_assert_msg(config_read(&c, "t.conf") == ERR_OK, "%s: %s", text, test_said(&c));
    if (!c.options.tls_timeout_ns)
        c.options.tls_timeout_ns = 2000000000;
    options_fill(&c.options);
    t = (struct tls_options){0};
    tls_take(&t, &c);
}

/* ---- options ---- */

START_TEST(options_that_are_taken) {
    read_config("debug: true");
    ck_assert(!t.given);
    config_close(&c);
    read_config(
        "allow_non_tls: true\ntls { timeout: 0.5, verify: true, connection_rate_limit: 7, handshake_first: true,\n"
        "curve_preferences: [CurveP521, X25519, CurveP521]\n"
        "cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_AES_128_GCM_SHA256,"
        " TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n"
        "pinned_certs: [\"00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF\"] }");
    ck_assert(t.given && t.verify && !t.map && t.allow_non_tls && t.first);
    ck_assert_uint_eq(t.timeout_ms, 500);
    ck_assert_uint_eq(t.rate_limit, 7);
    ck_assert_uint_eq(t.first_after_ms, 0);
    ck_assert_str_eq(t.groups, "P-521:X25519");
    ck_assert_str_eq(t.ciphers, "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305");
    ck_assert_uint_eq(t.pin_count, 1);
    for (int i = 0; i < TLS_PIN_BYTES; i++)
        ck_assert_uint_eq(t.pins[0][i], (i % 16) * 0x11);
    config_close(&c);
    read_config("tls { verify_and_map: true, connection_rate_limit: -1 }");
    ck_assert(t.given && t.verify && t.map && !t.allow_non_tls && !t.first);
    ck_assert_uint_eq(t.rate_limit, 0);
    ck_assert_uint_eq(t.timeout_ms, 2000);
    ck_assert_str_eq(t.ciphers, "");
    config_close(&c);
}
END_TEST

START_TEST(first_handshakes) {
    static const struct {
        const char *text;
        bool first;
        uint32_t after_ms;
    } rows[] = {{"false", false, 0}, {"true", true, 0},      {"\"on\"", true, 0},   {"\"OFF\"", false, 0},
                {"auto", true, 50},  {"\"1s\"", true, 1000}, {"\"100us\"", true, 1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[64];
        snprintf(text, sizeof text, "tls { handshake_first: %s }", rows[i].text);
        read_config(text);
        ck_assert_msg(t.first == rows[i].first && t.first_after_ms == rows[i].after_ms, "%s", text);
        config_close(&c);
    }
}
END_TEST

/* Every suite and curve that a configuration may name fits, all at once. */
START_TEST(all_names) {
    struct arena arena = {0};
    struct text text = {.arena = &arena};
    text_add(&text, VIEW("tls { cipher_suites: ["));
    static const char *const suites[] = {
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
        "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",      "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",   "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",   "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305",    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305"};
    enum { COUNT = sizeof suites / sizeof *suites };
    for (size_t i = 0; i < COUNT; i++)
        text_add_format(&text, "%s, ", suites[i]);
    text_add(&text, VIEW("] }"));
    text_add_byte(&text, '\0');
    read_config(text.at);
    size_t names = 1;
    for (const char *at = t.ciphers; *at; at++)
        names += *at == ':';
    ck_assert_uint_eq(names, COUNT);
    config_close(&c);
    arena_free(&arena);
}
END_TEST

/* ---- parts ---- */

static struct text certificates, keys, why;

static enum err write_parts(const char *text) {
    read_config(text);
    certificates = keys = why = (struct text){.arena = &c.arena};
    return tls_files_write(&t, &c, &certificates, &keys, &why);
}

static uint32_t number_at(size_t at) {
    const unsigned char *b = (const unsigned char *)keys.at + at;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static bool equals(struct view v, const char *text) {
    return view_equal(v, view_text(text));
}

/* The one key, in any form, fits the certificate. */
static void check_keys(const char *certificate) {
    ck_assert_uint_eq(number_at(0), 1);
    ck_assert_uint_eq(number_at(4), TLS_KEY_NUMBER);
    ck_assert_uint_eq(number_at(8) + 12, keys.len);
    struct text none = {.arena = &c.arena};
    ck_assert_int_eq(tls_check_pair(view_text(certificate), view_of(keys.at + 12, keys.len - 12), &none), ERR_OK);
}

START_TEST(parts) {
    ck_assert_int_eq(write_parts("tls { cert_file: chain.pem, key_file: one.key, ca_file: some.pem }"), ERR_OK);
    ck_assert(equals(view_of(certificates.at, t.chain_bytes), text_of("chain.pem")));
    ck_assert(equals(view_of(certificates.at + t.chain_bytes, t.ca_bytes), text_of("one.pem")));
    ck_assert_uint_eq(t.chain_bytes + t.ca_bytes, certificates.len);
    check_keys(text_of("one.pem"));
    config_close(&c);
}
END_TEST

/* A key beside certificates is not handed on with them. */
START_TEST(no_key_among_certificates) {
    ck_assert_int_eq(write_parts("tls { cert_file: both.pem, key_file: both.pem, ca_file: both.pem }"), ERR_OK);
    ck_assert(equals(view_of(certificates.at, t.chain_bytes), text_of("two.pem")));
    ck_assert(equals(view_of(certificates.at + t.chain_bytes, t.ca_bytes), text_of("two.pem")));
    check_keys(text_of("two.pem"));
    config_close(&c);
}
END_TEST

START_TEST(no_ca) {
    ck_assert_int_eq(write_parts("tls { cert_file: one.pem, key_file: one.key }"), ERR_OK);
    ck_assert_uint_eq(t.ca_bytes, 0);
    config_close(&c);
    ck_assert_int_eq(write_parts("tls { cert_file: one.pem, key_file: one.key, verify: true }"), ERR_SYSTEM);
    ck_assert(memmem(why.at, why.len, "neither a ca_file nor", 21));
    config_close(&c);
    files[file_count] = (struct pair){"/etc/ssl/cert.pem", text_of("two.pem")}; /* the system's */
    ck_assert_int_eq(write_parts("tls { cert_file: one.pem, key_file: one.key, verify: true }"), ERR_OK);
    ck_assert(equals(view_of(certificates.at + t.chain_bytes, t.ca_bytes), text_of("two.pem")));
    config_close(&c);
    files[file_count] = (struct pair){NULL, NULL};
}
END_TEST

/* Between the check and the writing somebody has put another file there. */
START_TEST(files_that_change) {
    read_config("tls { cert_file: one.pem, key_file: one.key }");
    certificates = keys = why = (struct text){.arena = &c.arena};
    const char *before = files[2].text;
    ck_assert_str_eq(files[2].name, "one.key");
    files[2].text = text_of("two.key");
    ck_assert_int_eq(tls_files_write(&t, &c, &certificates, &keys, &why), ERR_SYNTAX);
    ck_assert(equals(text_view(&why), "tls: private key does not match public key"));
    ck_assert_uint_eq(certificates.len + keys.len, 0);
    files[2].text = before;
    config_close(&c);
}
END_TEST

START_TEST(verdicts) {
    static const struct {
        const char *cert, *key, *said;
    } rows[] = {{"one.pem", "one.key", ""},
                {"one.pem", "two.key", "tls: private key does not match public key"},
                {"one.key", "one.key",
                 "tls: failed to find certificate PEM data in certificate input, but did find a private "
                 "key; PEM inputs may have been switched"},
                {"one.pem", "one.pem", "tls: found a certificate rather than a key in the PEM for the private key"},
                {"junk.pem", "one.key", "x509: malformed certificate"},
                {"some.pem", "one.key", "x509: malformed certificate"}};
    struct arena arena = {0};
    make_files();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct text said = {.arena = &arena};
        enum err e = tls_check_pair(view_text(text_of(rows[i].cert)), view_text(text_of(rows[i].key)), &said);
        ck_assert_int_eq(e, *rows[i].said ? ERR_SYNTAX : ERR_OK);
        ck_assert_msg(equals(text_view(&said), rows[i].said), "%s, %s: %.*s", rows[i].cert, rows[i].key, (int)said.len,
                      said.at);
    }
    arena_free(&arena);
}
END_TEST

static void add(TCase *tc) {
    tcase_add_test(tc, options_that_are_taken);
    tcase_add_test(tc, first_handshakes);
    tcase_add_test(tc, all_names);
    tcase_add_test(tc, parts);
    tcase_add_test(tc, no_key_among_certificates);
    tcase_add_test(tc, no_ca);
    tcase_add_test(tc, files_that_change);
    tcase_add_test(tc, verdicts);
}

int main(void) {
    return test_run("config/tls", add);
}
