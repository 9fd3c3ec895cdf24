/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of frontend/tls_verify.c: which clients' certificates are accepted. The answers are those of nats-server's TLS, except
 * where a row says "stricter". */
#include "frontend/tls.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/unit.h"

/* ---- certificates ---- */

#define CA "basicConstraints=critical,CA:TRUE|keyUsage=critical,keyCertSign"

enum key { P256, RSA2048, RSA1024, RSA512, ED25519, P224, DSA2048, KEYS };

/* issuer null: signed by itself. extensions: `name=value`, with '|' between them; null: a certificate of version 1. */
static const struct spec {
    const char *name, *issuer, *extensions;
    enum key key;
    int days;           /* that it has been valid for, of 2; 0: it begins now */
    const char *digest; /* of its signature; null: SHA-256 */
} specs[] = {
    {"root", NULL, CA, .key = P256},
    {"root1024", NULL, CA, .key = RSA1024},
    {"root512", NULL, CA, .key = RSA512},
    {"rootV1", NULL, NULL, .key = P256},
    {"rootV3Bare", NULL, "keyUsage=keyCertSign", .key = P256},
    {"rootNoSign", NULL, "basicConstraints=CA:TRUE|keyUsage=digitalSignature", .key = P256},
    {"rootServer", NULL, "basicConstraints=CA:TRUE|extendedKeyUsage=serverAuth", .key = P256},
    {"rootShort", NULL, "basicConstraints=CA:TRUE,pathlen:0", .key = P256},
    {"rootNames", NULL, CA "|nameConstraints=critical,permitted;DNS:good.test", .key = P256},
    {"rootDirNames", NULL, CA "|nameConstraints=critical,permitted;dirName:dir", .key = P256},
    {"rootOld", NULL, CA, .key = P256, .days = 3},
    {"inter", "root", CA, .key = P256},
    {"inter2", "inter", CA, .key = P256},
    {"interServer", "root", CA "|extendedKeyUsage=serverAuth", .key = P256},
    {"interAny", "root", CA "|extendedKeyUsage=anyExtendedKeyUsage", .key = P256},
    {"interNoCa", "root", "basicConstraints=CA:FALSE", .key = P256},
    {"interV1", "root", NULL, .key = P256},
    {"interShort", "rootShort", CA, .key = P256},
    {"leaf", "root", "basicConstraints=CA:FALSE", .key = P256},
    {"bare", "root", "", .key = P256},
    {"leafV1", "root", NULL, .key = P256},
    {"rsa", "root", "", .key = RSA2048},
    {"rsa1024", "root", "", .key = RSA1024},
    {"rsa512", "root", "", .key = RSA512},
    {"ed25519", "root", "", .key = ED25519},
    {"dsa", "root", "", .key = DSA2048},
    {"p224", "root", "", .key = P224},
    {"sha1", "root", "", .key = P256, .digest = "SHA1"},
    {"sha224", "root", "", .key = P256, .digest = "SHA224"},
    {"sha384", "root", "", .key = P256, .digest = "SHA384"},
    {"old", "root", "", .key = P256, .days = 3},
    {"ofInter", "inter", "", .key = P256},
    {"ofInter2", "inter2", "", .key = P256},
    {"ofServer", "interServer", "", .key = P256},
    {"ofAny", "interAny", "", .key = P256},
    {"ofNoCa", "interNoCa", "", .key = P256},
    {"ofV1", "interV1", "", .key = P256},
    {"ofShort", "rootShort", "", .key = P256},
    {"ofInterShort", "interShort", "", .key = P256},
    {"ofRoot1024", "root1024", "", .key = P256},
    {"ofRoot512", "root512", "", .key = P256},
    {"ofRootV1", "rootV1", "", .key = P256},
    {"ofRootV3Bare", "rootV3Bare", "", .key = P256},
    {"ofRootNoSign", "rootNoSign", "", .key = P256},
    {"ofRootServer", "rootServer", "", .key = P256},
    {"ofRootOld", "rootOld", "", .key = P256},
    {"goodName", "rootNames", "subjectAltName=DNS:a.good.test", .key = P256},
    {"badName", "rootNames", "subjectAltName=DNS:a.bad.test", .key = P256},
    {"ofDirNames", "rootDirNames", "", .key = P256},
    {"self", NULL, "basicConstraints=CA:FALSE", .key = P256},
    {"selfCa", NULL, "basicConstraints=CA:TRUE", .key = P256},
    {"ofSelf", "self", "", .key = P256},
    {"any", "root", "extendedKeyUsage=anyExtendedKeyUsage", .key = P256},
    {"anyServer", "root", "extendedKeyUsage=serverAuth,anyExtendedKeyUsage", .key = P256},
    {"client", "root", "extendedKeyUsage=clientAuth", .key = P256},
    {"server", "root", "extendedKeyUsage=serverAuth", .key = P256},
    {"mail", "root", "extendedKeyUsage=emailProtection", .key = P256},
    {"foreignUse", "root", "extendedKeyUsage=1.2.3.4", .key = P256},
    {"encipher", "root", "keyUsage=keyEncipherment,dataEncipherment", .key = P256},
    {"critEncipher", "root", "keyUsage=critical,keyEncipherment", .key = P256},
    {"nonRepudiation", "root", "keyUsage=nonRepudiation", .key = P256},
    {"nsServer", "root", "nsCertType=server", .key = P256},
    {"nsClient", "root", "nsCertType=client", .key = P256},
    {"critNs", "root", "nsCertType=critical,client", .key = P256},
    {"critUnknown", "root", "1.2.3.4=critical,ASN1:NULL", .key = P256},
    {"unknown", "root", "1.2.3.4=ASN1:NULL", .key = P256},
    {"critPolicy", "root", "policyConstraints=critical,requireExplicitPolicy:3", .key = P256},
    {"critDns", "root", "subjectAltName=critical,DNS:x.test", .key = P256},
    {"critOther", "root", "subjectAltName=critical,otherName:1.2.3.4;UTF8:x", .key = P256},
};
enum { SPECS = sizeof specs / sizeof *specs };

static struct made {
    X509 *x;
    EVP_PKEY *key;
} made[SPECS];

static EVP_PKEY *make_dsa(void) {
    EVP_PKEY *params = NULL, *key = NULL;
    EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "DSA", NULL);
    ck_assert(EVP_PKEY_paramgen_init(ctx) == 1 &&
              EVP_PKEY_CTX_set_params(ctx, (OSSL_PARAM[]){OSSL_PARAM_construct_size_t("pbits", &(size_t){2048}),
                                                          OSSL_PARAM_construct_size_t("qbits", &(size_t){256}),
                                                          OSSL_PARAM_construct_end()}) == 1 &&
              EVP_PKEY_paramgen(ctx, &params) == 1);
    EVP_PKEY_CTX_free(ctx);
    ctx = EVP_PKEY_CTX_new(params, NULL);
    ck_assert(EVP_PKEY_keygen_init(ctx) == 1 && EVP_PKEY_keygen(ctx, &key) == 1);
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(params);
    return key;
}

static EVP_PKEY *make_key(enum key kind) {
    switch (kind) {
    case P256:
        return EVP_EC_gen("P-256");
    case P224:
        return EVP_EC_gen("P-224");
    case RSA2048:
        return EVP_RSA_gen(2048);
    case RSA1024:
        return EVP_RSA_gen(1024);
    case RSA512:
        return EVP_RSA_gen(512);
    case ED25519:
        return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    default:
        return make_dsa();
    }
}

static int find(const char *name, size_t len) {
    for (int i = 0; i < SPECS; i++) {
        if (strlen(specs[i].name) == len && memcmp(specs[i].name, name, len) == 0)
            return i;
    }
    ck_abort_msg("no certificate %.*s", (int)len, name);
    return -1;
}

static void add_extensions(X509 *x, const char *list) {
    char *copy = strdup(list), *rest = copy;
    CONF *conf = NCONF_new(NULL);
    BIO *text = BIO_new_mem_buf("[dir]\nO=Other\n", -1);
    long line;
    ck_assert(NCONF_load_bio(conf, text, &line) == 1);
    BIO_free(text);
    X509V3_CTX ctx = {0};
    X509V3_set_nconf(&ctx, conf);
    for (char *one; (one = strsep(&rest, "|")) && *one;) {
        char *value = strchr(one, '=');
        *value++ = '\0';
        X509_EXTENSION *e = X509V3_EXT_nconf(conf, &ctx, one, value);
        ck_assert_msg(e != NULL, "%s=%s", one, value);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    NCONF_free(conf);
    free(copy);
}

static X509 *make(int i) {
    const struct spec *s = &specs[i];
    if (made[i].x)
        return made[i].x;
    int by = s->issuer ? find(s->issuer, strlen(s->issuer)) : i;
    made[i].key = make_key(s->key);
    if (by != i)
        make(by);
    X509 *x = X509_new();
    X509_set_version(x, s->extensions ? X509_VERSION_3 : X509_VERSION_1);
    ASN1_INTEGER_set(X509_get_serialNumber(x), i + 1);
    X509_set_pubkey(x, made[i].key);
    X509_gmtime_adj(X509_getm_notBefore(x), -86400L * s->days);
    X509_gmtime_adj(X509_getm_notAfter(x), 86400L * (2 - s->days));
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8, (const unsigned char *)s->name, -1, -1,
                               0);
    X509_set_issuer_name(x, X509_get_subject_name(by == i ? x : made[by].x));
    if (s->extensions)
        add_extensions(x, s->extensions);
    const EVP_MD *digest = specs[by].key == ED25519 ? NULL : EVP_get_digestbyname(s->digest ? s->digest : "SHA256");
    ck_assert_msg(X509_sign(x, made[by].key, digest) > 0, "%s", s->name);
    made[i].x = x;
    return x;
}

static STACK_OF(X509) * make_all(const char *names) {
    STACK_OF(X509) *all = sk_X509_new_null();
    for (size_t len; *names; names += len + (names[len] == ' ')) {
        len = strcspn(names, " ");
        sk_X509_push(all, make(find(names, len)));
    }
    return all;
}

/* ---- rows ---- */

static const struct {
    const char *name, *trusted, *sent; /* the client's own first */
    bool accepted;
} rows[] = {
    {"a root's own", "root", "leaf", true},
    {"without basic constraints", "root", "bare", true},
    {"version 1", "root", "leafV1", true},
    {"nobody's", "inter", "leaf", false},
    {"another root's", "root1024", "leaf", false},
    {"over", "root", "old", false},
    {"of a root that is over", "rootOld", "ofRootOld", false},
    /* where a chain ends */
    {"with its intermediate", "root", "ofInter inter", true},
    {"without its intermediate", "root", "ofInter", false},
    {"only the intermediate is trusted", "inter", "ofInter", true},
    {"only the intermediate is trusted, and sent", "inter", "ofInter inter", true},
    {"the upper of two is trusted", "inter", "ofInter2 inter2", true},
    {"the lower of two is trusted", "inter2", "ofInter2", true},
    {"root and intermediate are trusted", "root inter", "ofInter", true},
    {"the client's own is trusted", "leaf", "leaf", true},
    {"the client's own is trusted, and over", "old", "old", false},
    {"self-signed, no CA", "self", "self", true},
    {"self-signed CA", "selfCa", "selfCa", true},
    {"self-signed, not trusted", "root", "self", false},
    {"issued by one that is trusted but no CA", "self", "ofSelf", false},
    /* who may issue */
    {"intermediate that is no CA", "root", "ofNoCa interNoCa", false},
    {"intermediate that is no CA, trusted", "interNoCa", "ofNoCa", false},
    {"intermediate of version 1", "root", "ofV1 interV1", false},
    {"root of version 1", "rootV1", "ofRootV1", true},
    {"root without basic constraints", "rootV3Bare", "ofRootV3Bare", false},
    {"root that may not sign certificates", "rootNoSign", "ofRootNoSign", false},
    {"path length 0", "rootShort", "ofShort", true},
    {"path length 0 and an intermediate", "rootShort", "ofInterShort interShort", false},
    {"names as they may be", "rootNames", "goodName", true},
    {"names as they may not be", "rootNames", "badName", false},
    {"names of a kind that is not heeded", "rootDirNames", "ofDirNames", false},
    /* purposes */
    {"any use", "root", "any", true},
    {"any use and servers", "root", "anyServer", true},
    {"for clients", "root", "client", true},
    {"for servers", "root", "server", false},
    {"for mail", "root", "mail", false},
    {"for something unknown", "root", "foreignUse", false},
    {"intermediate for servers", "root", "ofServer interServer", false},
    {"intermediate for any use", "root", "ofAny interAny", true},
    {"root for servers", "rootServer", "ofRootServer", false},
    {"key for enciphering", "root", "encipher", true},
    {"key for enciphering, critical", "root", "critEncipher", true},
    {"key for non-repudiation", "root", "nonRepudiation", true},
    {"Netscape type of servers", "root", "nsServer", true},
    {"Netscape type of clients", "root", "nsClient", true},
    {"a CA as client", "root", "inter", true},
    /* critical extensions */
    {"critical Netscape type", "root", "critNs", false},
    {"critical and unknown", "root", "critUnknown", false},
    {"unknown", "root", "unknown", true},
    {"critical policy constraint", "root", "critPolicy", false},
    {"critical name", "root", "critDns", true},
    {"critical name of another kind", "root", "critOther", false},
    /* keys and signatures */
    {"RSA 2048", "root", "rsa", true},
    {"RSA 1024", "root", "rsa1024", true},
    {"RSA 512", "root", "rsa512", false},
    {"Ed25519", "root", "ed25519", true},
    {"DSA", "root", "dsa", false},
    {"P-224: stricter", "root", "p224", false},
    {"of a root with RSA 1024", "root1024", "ofRoot1024", true},
    {"of a root with RSA 512: stricter", "root512", "ofRoot512", false},
    {"SHA-1", "root", "sha1", false},
    {"SHA-224", "root", "sha224", false},
    {"SHA-384", "root", "sha384", true},
};

/* As libssl does it, whose level is 2. */
static bool accepts(const char *trusted, const char *sent) {
    STACK_OF(X509) *anchors = make_all(trusted), *chain = make_all(sent);
    X509_STORE *store = X509_STORE_new();
    for (int i = 0; i < sk_X509_num(anchors); i++)
        X509_STORE_add_cert(store, sk_X509_value(anchors, i));
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    ck_assert(X509_STORE_CTX_init(ctx, store, sk_X509_value(chain, 0), chain) == 1);
    X509_VERIFY_PARAM_set_auth_level(X509_STORE_CTX_get0_param(ctx), 2);
    X509_STORE_CTX_set_default(ctx, "ssl_client");
    bool accepted = tls_verify(ctx, NULL);
    ck_assert_int_eq(X509_STORE_CTX_get_error(ctx) == X509_V_OK, accepted);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    sk_X509_free(anchors);
    sk_X509_free(chain);
    return accepted;
}

START_TEST(test_rows) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        ck_assert_msg(accepts(rows[i].trusted, rows[i].sent) == rows[i].accepted, "%s", rows[i].name);
}
END_TEST

START_TEST(test_weak_keys) {
    ck_assert_int_eq(tls_verify_weak_bits(make(find("rsa1024", 7))), 1024);
    ck_assert_int_eq(tls_verify_weak_bits(make(find("rsa", 3))), 0);
    ck_assert_int_eq(tls_verify_weak_bits(make(find("leaf", 4))), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("frontend/tls_verify");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 60);
    tcase_add_test(rules, test_rows);
    tcase_add_test(rules, test_weak_keys);
    suite_add_tcase(suite, rules);
    return unit_run(suite);
}
