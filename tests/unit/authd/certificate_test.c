/* SPDX-License-Identifier: Apache-2.0 */
/* Tests of authd/certificate.c and authd/names.c: which user a certificate stands for. */
#define ERR_STATE openssl_err_state
#include <openssl/evp.h>
#include <openssl/x509v3.h>
#undef ERR_STATE

#include "authd/certificate.h"

#include <check.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "authd/names.h"
#include "tests/unit/unit.h"

static EVP_PKEY *key;

/* A subject is written "TYPE=value/TYPE=value", "+" before a type that goes with the one before. */
static void add_subject(X509 *x, const char *subject) {
    char *copy = strdup(subject), *rest = copy;
    for (char *part; (part = strsep(&rest, "/")) && *part;) {
        bool joined = *part == '+';
        char *value = strchr(part, '=');
        *value++ = 0;
        ck_assert(X509_NAME_add_entry_by_txt(X509_get_subject_name(x), part + joined, MBSTRING_UTF8,
                                             (const unsigned char *)value, -1, -1, joined ? -1 : 0));
    }
    free(copy);
}

static struct view make(const char *subject, const char *alternative) {
    X509 *x = X509_new();
    uint8_t *der = NULL;
    X509_set_version(x, 2);
    X509_set_pubkey(x, key);
    X509_gmtime_adj(X509_getm_notBefore(x), 0);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    add_subject(x, subject);
    if (alternative) {
        X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alternative);
        ck_assert_ptr_nonnull(e);
        X509_add_ext(x, e, -1);
        X509_EXTENSION_free(e);
    }
    ck_assert_int_gt(X509_sign(x, key, EVP_sha256()), 0);
    int len = i2d_X509(x, &der);
    ck_assert_int_gt(len, 0);
    X509_free(x);
    return view_of(der, (size_t)len);
}

static struct users *read_users(const char *names) {
    static const uint8_t table_key[USERS_KEY_BYTES];
    struct arena arena = {0};
    struct text why = {.arena = &arena}, text = {.arena = &arena};
    struct users *users = NULL;
    char *copy = strdup(names), *rest = copy;
    text_add(&text, VIEW("authorization {users: ["));
    for (char *name; (name = strsep(&rest, "|"));) {
        text_add(&text, VIEW("{user: \""));
        for (const char *c = name; *c; c++) {
            if (*c == '\\' || *c == '"')
                text_add_byte(&text, '\\');
            text_add_byte(&text, *c);
        }
        text_add(&text, VIEW("\"}, "));
    }
    text_add(&text, VIEW("]}"));
    enum err e = users_read(&users, text_view(&text), table_key, &why);
    ck_assert_msg(e == ERR_OK, "%.*s", (int)why.len, why.at ? why.at : "");
    free(copy);
    arena_free(&arena);
    return users;
}

/* expected: the user; NULL: nobody. */
static const struct {
    const char *name, *subject, *alternative, *users, *expected;
} rows[] = {
    {"email first", "CN=c", "email:e@x.y,DNS:d.x.y,URI:u://x", "CN=c|d.x.y|u://x|e@x.y", "e@x.y"},
    {"second email", "CN=c", "email:a@x.y,email:e@x.y", "e@x.y", "e@x.y"},
    {"DNS before URI", "CN=c", "DNS:d.x.y,URI:u://x", "u://x|d.x.y", "d.x.y"},
    {"URI before subject", "CN=c", "URI:u://x/y", "CN=c|u://x/y", "u://x/y"},
    {"no prefix of a name", "CN=c", "URI:u://x/y", "u://x", NULL},
    {"no IP", "CN=c", "IP:127.0.0.1", "127.0.0.1", NULL},
    {"case of an email", "CN=c", "email:E@x.y", "e@x.y", NULL},
    {"DNS alone", "", "DNS:d.x.y", "d.x.y", "d.x.y"},
    {"IP alone", "", "IP:127.0.0.1", "127.0.0.1", NULL},
    {"email alone", "", "email:e@x.y", "e@x.y", "e@x.y"},
    {"nothing", "", NULL, "CN=c", NULL},
    {"subject", "CN=c", NULL, "CN=c", "CN=c"},
    {"case of a value", "CN=dora/OU=Dev", NULL, "CN=DORA,OU=Dev", NULL},
    {"case of a type, blanks, order", "OU=Dev/CN=dora", NULL, "cn=dora, ou=Dev", "cn=dora, ou=Dev"},
    {"other order", "CN=dora/OU=Dev", NULL, "ou = Dev , CN= dora", "ou = Dev , CN= dora"},
    {"domain components, any order", "DC=com/DC=example/OU=ops/CN=fred", NULL, "DC=example,CN=fred,DC=com,OU=ops",
     "DC=example,CN=fred,DC=com,OU=ops"},
    {"joined", "CN=ed/+OU=7", NULL, "OU=7+CN=ed", "OU=7+CN=ed"},
    {"joined is not apart", "CN=ed/+OU=7", NULL, "OU=7,CN=ed", NULL},
    {"joined, as a text", "CN=ed/+OU=7", NULL, "CN=ed,OU=7", "CN=ed,OU=7"},
    {"a subset", "CN=zed/OU=a/O=Acme", NULL, "CN=zed,OU=a", NULL},
    {"a superset", "CN=zed", NULL, "CN=zed,OU=a", NULL},
    {"twice the same is not two others", "CN=zed/OU=a/OU=b/O=Acme", NULL, "CN=zed,OU=a,OU=a,O=Acme", NULL},
    {"two of one kind", "CN=zed/OU=a/OU=b", NULL, "OU=b,OU=a,CN=zed", "OU=b,OU=a,CN=zed"},
    {"foreign attribute: no matching in any order", "UID=u/OU=o/CN=z", NULL, "OU=o,CN=z", NULL},
    {"foreign attribute: text", "UID=u/OU=o/CN=z", NULL, "CN=z,OU=o", "CN=z,OU=o"},
    {"text with domain components", "UID=u/DC=com/DC=example/OU=ops/CN=fred", NULL,
     "CN=fred,OU=ops|CN=fred,OU=ops,DC=com,DC=example", "CN=fred,OU=ops,DC=com,DC=example"},
    {"text without them", "UID=u/DC=com/CN=fred", NULL, "CN=fred", "CN=fred"},
    {"order of kinds in the text", "UID=x/OU=u/L=l/CN=c/street=s/C=US/ST=t/postalCode=p/O=o/serialNumber=n", NULL,
     "SERIALNUMBER=n,CN=c,OU=u,O=o,POSTALCODE=p,STREET=s,L=l,ST=t,C=US",
     "SERIALNUMBER=n,CN=c,OU=u,O=o,POSTALCODE=p,STREET=s,L=l,ST=t,C=US"},
    {"values of one kind in the text", "UID=x/OU=b/OU=a/CN=one/CN=two", NULL, "CN=two,OU=b+OU=a", "CN=two,OU=b+OU=a"},
    {"escapes in the text", "UID=x/CN=a,b/O=q+r", NULL, "CN=a\\,b,O=q\\+r", "CN=a\\,b,O=q\\+r"},
    {"escapes in the name", "CN=a,b", NULL, "CN=a\\2cb", "CN=a\\2cb"},
};

START_TEST(test_pairs) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct users *users = read_users(rows[i].users);
        struct view der = make(rows[i].subject, rows[i].alternative);
        const struct user *user = certificate_user(users, der);
        ck_assert_msg(!user == !rows[i].expected && (!user || strcmp(user->name.at, rows[i].expected) == 0), "%s: %s",
                      rows[i].name, user ? user->name.at : "nobody");
        OPENSSL_free((void *)(uintptr_t)der.at);
        users_free(users);
    }
}
END_TEST

/* Whatever is cut off or changed, nobody is harmed; what lies behind a certificate makes it none. */
START_TEST(test_damaged) {
    struct users *users = read_users("CN=c");
    struct view der = make("CN=c", NULL);
    char *copy = malloc(der.len + 1);
    for (size_t len = 0; len < der.len; len++)
        ck_assert_ptr_null(certificate_user(users, view_of(der.at, len)));
    memcpy(copy, der.at, der.len);
    copy[der.len] = 0;
    ck_assert_ptr_null(certificate_user(users, view_of(copy, der.len + 1)));
    for (size_t i = 0; i < der.len; i++) {
        copy[i] ^= 0x55;
        certificate_user(users, view_of(copy, der.len));
        copy[i] ^= 0x55;
    }
    ck_assert_ptr_nonnull(certificate_user(users, view_of(copy, der.len)));
    free(copy);
    OPENSSL_free((void *)(uintptr_t)der.at);
    users_free(users);
}
END_TEST

START_TEST(test_names) {
    static const struct {
        const char *text;
        enum err expected;
    } texts[] = {{"CN=a", ERR_OK},       {"CN=", ERR_OK},        {" cn = a + ou=b , o=c", ERR_OK},
                 {"CN", ERR_SYNTAX},     {"", ERR_SYNTAX},       {"CN=a,", ERR_SYNTAX},
                 {"XX=a", ERR_SYNTAX},   {"CN=a\\", ERR_SYNTAX}, {"CN=a\\z", ERR_SYNTAX},
                 {"CN=#04", ERR_SYNTAX}, {"=a", ERR_SYNTAX},     {"UID=u,CN=a", ERR_SYNTAX}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct arena arena = {0};
        struct name name;
        ck_assert_msg(name_parse(&name, view_text(texts[i].text), &arena) == texts[i].expected, "%s", texts[i].text);
        arena_free(&arena);
    }
    struct name *name = calloc(1, sizeof *name);
    struct arena arena = {0};
    struct text many = {.arena = &arena};
    for (int i = 0; i < NAMES_PARTS_MAX; i++)
        text_add(&many, VIEW("CN=a,"));
    text_add(&many, VIEW("CN=a"));
    ck_assert_int_eq(name_parse(name, text_view(&many), &arena), ERR_LONG);
    arena_free(&arena);
    free(name);
}
END_TEST

int main(void) {
    if (sodium_init() < 0)
        return 1;
    certificates_open();
    key = EVP_EC_gen("P-256");
    Suite *suite = suite_create("certificate");
    TCase *tcase = tcase_create("all");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, test_pairs);
    tcase_add_test(tcase, test_damaged);
    tcase_add_test(tcase, test_names);
    suite_add_tcase(suite, tcase);
    int status = unit_run(suite);
    EVP_PKEY_free(key);
    return status;
}
