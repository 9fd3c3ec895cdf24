/* SPDX-License-Identifier: Apache-2.0 */
/* OpenSSL takes the certificate apart; every text is copied out of it before anything looks at it. The subject's text
 * is made as nats-server makes it: a fixed order of kinds, values of one kind joined, of a common name and a serial
 * number the last one alone. */
#define ERR_STATE openssl_err_state /* OpenSSL has a type of this name */
#include <openssl/x509v3.h>
#undef ERR_STATE

#include <string.h>

#include "authd/certificate.h"
#include "authd/names.h"
#include "base/log.h"

struct subject {
    struct name name;
    bool foreign; /* has an attribute that names do not know */
    bool any;     /* has an attribute at all */
};

/* ---- alternative names ---- */

static struct view text_of(const ASN1_STRING *s) {
    return view_of(ASN1_STRING_get0_data(s), (size_t)ASN1_STRING_length(s));
}

static const struct user *find_alternative(const struct users *users, const GENERAL_NAMES *names, int type,
                                           const char *said) {
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names) && i < CERTIFICATE_NAMES_MAX; i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != type)
            continue;
        struct view text = text_of(name->d.ia5); /* email, DNS and URI are all IA5 strings */
        const struct user *user = text.len ? users_find(users, USER_NAME, text) : NULL;
        if (user) {
            log_debug("Using %s found in cert for auth [\"%.*s\"]", said, (int)text.len, text.at);
            return user;
        }
    }
    return NULL;
}

static bool has_alternative(const GENERAL_NAMES *names, int type) {
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++) {
        if (sk_GENERAL_NAME_value(names, i)->type == type)
            return true;
    }
    return false;
}

/* ---- the subject ---- */

static bool type_of(const X509_NAME_ENTRY *entry, enum name_type *type) {
    static const int nids[NAME_TYPES] = {
        [NAME_CN] = NID_commonName,      [NAME_SERIALNUMBER] = NID_serialNumber, [NAME_C] = NID_countryName,
        [NAME_L] = NID_localityName,     [NAME_ST] = NID_stateOrProvinceName,    [NAME_STREET] = NID_streetAddress,
        [NAME_O] = NID_organizationName, [NAME_OU] = NID_organizationalUnitName, [NAME_POSTALCODE] = NID_postalCode,
        [NAME_DC] = NID_domainComponent,
    };
    int nid = OBJ_obj2nid(X509_NAME_ENTRY_get_object(entry));
    for (int i = 0; i < NAME_TYPES; i++) {
        if (nids[i] == nid) {
            *type = (enum name_type)i;
            return true;
        }
    }
    return false;
}

static enum err read_subject(struct subject *s, const X509_NAME *from, struct arena *arena) {
    int count = X509_NAME_entry_count(from);
    s->any = count > 0;
    for (int i = 0; i < count; i++) {
        const X509_NAME_ENTRY *entry = X509_NAME_get_entry(from, i);
        enum name_type type;
        if (!type_of(entry, &type)) {
            s->foreign = true;
            continue;
        }
        unsigned char *text;
        int len = ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(entry));
        if (len < 0)
            return ERR_SYNTAX;
        struct view value = arena_copy(arena, view_of(text, (size_t)len));
        OPENSSL_free(text);
        enum err e = name_add(&s->name, (uint32_t)X509_NAME_ENTRY_set(entry), type, value);
        if (e != ERR_OK)
            return e;
    }
    return ERR_OK;
}

struct line {
    char *at;
    size_t len; /* CERTIFICATE_TEXT_MAX + 1: it did not fit */
};

static void add(struct line *line, struct view bytes) {
    if (bytes.len > CERTIFICATE_TEXT_MAX - (line->len > CERTIFICATE_TEXT_MAX ? CERTIFICATE_TEXT_MAX : line->len)) {
        line->len = CERTIFICATE_TEXT_MAX + 1;
        return;
    }
    if (bytes.len)
        memcpy(line->at + line->len, bytes.at, bytes.len);
    line->len += bytes.len;
}

static void add_value(struct line *line, struct view value) {
    for (size_t i = 0; i < value.len; i++) {
        char b = value.at[i];
        bool edge = i == 0 || i + 1 == value.len;
        if ((b && strchr(",+\"\\<>;", b)) || (b == '#' && i == 0) || (b == ' ' && edge))
            add(line, VIEW("\\"));
        add(line, view_of(&value.at[i], 1));
    }
}

/* All values of one kind; of some the last one alone. */
static void add_kind(struct line *line, const struct name *name, enum name_type type, const char *between) {
    bool last_only = type == NAME_CN || type == NAME_SERIALNUMBER, begun = false;
    for (uint32_t i = 0; i < name->count; i++) {
        bool more = false;
        for (uint32_t k = i + 1; k < name->count && last_only; k++)
            more = more || name->part[k].type == type;
        if (name->part[i].type != type || more || (last_only && !name->part[i].value.len))
            continue;
        if (line->len)
            add(line, view_text(begun ? between : ","));
        add(line, view_text(name_type_text(type)));
        add(line, VIEW("="));
        add_value(line, name->part[i].value);
        begun = true;
    }
}

static bool subject_text(const struct name *name, struct line *line) {
    static const enum name_type order[] = {NAME_SERIALNUMBER, NAME_CN, NAME_OU, NAME_O, NAME_POSTALCODE,
                                           NAME_STREET,       NAME_L,  NAME_ST, NAME_C};
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        add_kind(line, name, order[i], "+");
    return line->len <= CERTIFICATE_TEXT_MAX;
}

static const struct user *find_text(const struct users *users, const struct line *line, const char *said) {
    struct view text = view_of(line->at, line->len);
    const struct user *user = text.len <= CERTIFICATE_TEXT_MAX && text.len ? users_find(users, USER_NAME, text) : NULL;
    if (user)
        log_debug("Using %s for auth [\"%.*s\"]", said, (int)text.len, text.at);
    return user;
}

static const struct user *find_subject(const struct users *users, struct subject *s, struct arena *arena) {
    struct line line = {.at = arena_take(arena, CERTIFICATE_TEXT_MAX + 1)};
    bool fits = subject_text(&s->name, &line);
    struct line whole = {.at = arena_take(arena, CERTIFICATE_TEXT_MAX + 1)};
    add(&whole, view_of(line.at, fits ? line.len : 0));
    size_t without = whole.len;
    add_kind(&whole, &s->name, NAME_DC, ",");
    const struct user *user = s->foreign ? NULL : users_find_dn(users, name_canonical(&s->name, arena));
    if (user)
        log_debug("Using DistinguishedNameMatch for auth [\"%.*s\"]", (int)user->name.len, user->name.at);
    if (!user && fits && whole.len != without)
        user = find_text(users, &whole, "RDNSequence");
    if (!user && fits)
        user = find_text(users, &line, "certificate subject");
    if (!user)
        log_debug("User in cert [\"%.*s\"], not found", fits ? (int)line.len : 0, line.at);
    return user;
}

/* ---- the whole ---- */

void certificates_open(void) {
    OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL);
}

static const struct user *find_user(const struct users *users, X509 *x, struct subject *s, struct arena *arena) {
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    const struct user *user = NULL;
    if (read_subject(s, X509_get_subject_name(x), arena) != ERR_OK) {
        log_debug("User required in cert, its subject cannot be read");
    } else if (!s->any && !has_alternative(names, GEN_EMAIL) && !has_alternative(names, GEN_DNS) &&
               !has_alternative(names, GEN_URI)) {
        log_debug("User required in cert, none found");
    } else {
        user = find_alternative(users, names, GEN_EMAIL, "email");
        if (!user)
            user = find_alternative(users, names, GEN_DNS, "SAN");
        if (!user)
            user = find_alternative(users, names, GEN_URI, "URI");
        if (!user)
            user = find_subject(users, s, arena);
    }
    GENERAL_NAMES_free(names);
    return user;
}

const struct user *certificate_user(const struct users *users, struct view der) {
    const unsigned char *at = (const unsigned char *)der.at;
    X509 *x = der.len && der.len <= CERTIFICATE_BYTES_MAX ? d2i_X509(NULL, &at, (long)der.len) : NULL;
    if (!x || at != (const unsigned char *)der.at + der.len) {
        log_debug("User required in cert, the certificate cannot be read");
        X509_free(x);
        return NULL;
    }
    struct arena arena = {0};
    struct subject subject = {0};
    const struct user *user = find_user(users, x, &subject, &arena);
    X509_free(x);
    arena_free(&arena);
    return user;
}
