/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a client's certificate is accepted: by the rules of nats-server's TLS, and never by weaker ones.
 *
 * OpenSSL builds the chain and checks signatures, times, path lengths and names. What a TLS client's certificate must be good
 * for is another matter there (it goes by purposes), so that is switched off, and every certificate of the chain is looked at
 * once more here. Any certificate of the list of CAs ends a chain: an intermediate, or the client's own.
 *
 * Stricter than nats-server: one chain is tried, not all of them; keys are RSA from 1024 to 8192 bits, P-256, P-384, P-521 and
 * Ed25519; constraints on names hold for the common name too.
 */
#include "frontend/tls.h"

enum { RSA_BITS_MIN = 1024, RSA_BITS_GOOD = 2048, RSA_BITS_MAX = 8192, LEVEL = 1 /* 80 bits: RSA of 1024, no SHA-1 */ };

/* ---- one certificate ---- */

static bool is_among(int nid, const int *list, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (list[i] == nid)
            return true;
    }
    return false;
}
#define IS_AMONG(nid, list) is_among(nid, list, sizeof(list) / sizeof *(list))

static bool has_good_key(X509 *x) {
    static const int curves[] = {NID_X9_62_prime256v1, NID_secp384r1, NID_secp521r1};
    EVP_PKEY *key = X509_get0_pubkey(x);
    char curve[64];
    switch (key ? EVP_PKEY_get_base_id(key) : EVP_PKEY_NONE) {
    case EVP_PKEY_RSA:
        return EVP_PKEY_get_bits(key) >= RSA_BITS_MIN && EVP_PKEY_get_bits(key) <= RSA_BITS_MAX;
    case EVP_PKEY_EC:
        return EVP_PKEY_get_group_name(key, curve, sizeof curve, NULL) && IS_AMONG(OBJ_sn2nid(curve), curves);
    default:
        return key && EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519;
    }
}

static bool has_good_signature(X509 *x) {
    static const int digests[] = {NID_sha256, NID_sha384, NID_sha512, NID_undef /* Ed25519 has none */};
    int digest;
    return X509_get_signature_info(x, &digest, NULL, NULL, NULL) && IS_AMONG(digest, digests);
}

static bool is_for_clients(X509 *x) {
    return !(X509_get_extension_flags(x) & EXFLAG_XKUSAGE) ||
           (X509_get_extended_key_usage(x) & (XKU_SSL_CLIENT | XKU_ANYEKU));
}

/* A version 1 certificate knows no extensions, so it may only end a chain. */
static bool may_issue(X509 *x, bool last) {
    uint32_t flags = X509_get_extension_flags(x);
    if (X509_get_version(x) != X509_VERSION_3)
        return last;
    return (flags & EXFLAG_BCONS) && (flags & EXFLAG_CA) &&
           (!(flags & EXFLAG_KUSAGE) || (X509_get_key_usage(x) & KU_KEY_CERT_SIGN));
}

/* ---- critical extensions: none that would not be heeded ---- */

static const int name_kinds[] = {GEN_EMAIL, GEN_DNS, GEN_URI, GEN_IPADD};

static bool has_known_name(const X509 *x) {
    GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    bool found = false;
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names); i++)
        found = found || IS_AMONG(sk_GENERAL_NAME_value(names, i)->type, name_kinds);
    GENERAL_NAMES_free(names);
    return found;
}

static bool are_known(const STACK_OF(GENERAL_SUBTREE) * trees) {
    for (int i = 0; trees && i < sk_GENERAL_SUBTREE_num(trees); i++) {
        if (!IS_AMONG(sk_GENERAL_SUBTREE_value(trees, i)->base->type, name_kinds))
            return false;
    }
    return true;
}

static bool has_known_constraints(const X509 *x) {
    NAME_CONSTRAINTS *names = X509_get_ext_d2i(x, NID_name_constraints, NULL, NULL);
    bool known = names && are_known(names->permittedSubtrees) && are_known(names->excludedSubtrees);
    NAME_CONSTRAINTS_free(names);
    return known;
}

static bool heeds_critical(const X509 *x) {
    static const int heeded[] = {NID_key_usage,
                                 NID_basic_constraints,
                                 NID_ext_key_usage,
                                 NID_certificate_policies,
                                 NID_crl_distribution_points,
                                 NID_authority_key_identifier,
                                 NID_subject_key_identifier,
                                 NID_info_access};
    for (int i = 0; i < X509_get_ext_count(x); i++) {
        X509_EXTENSION *extension = X509_get_ext(x, i);
        int nid = OBJ_obj2nid(X509_EXTENSION_get_object(extension));
        if (!X509_EXTENSION_get_critical(extension) || IS_AMONG(nid, heeded))
            continue;
        if (nid == NID_subject_alt_name   ? !has_known_name(x)
            : nid == NID_name_constraints ? !has_known_constraints(x)
                                          : true)
            return false;
    }
    return true;
}

/* ---- the chain ---- */

/* The place of a certificate counts from the client's own, 0; last: a CA of ours, whose signature proves nothing. */
static int fault_of(X509 *x, int place, bool last) {
    long most = X509_get_pathlen(x);
    if (!heeds_critical(x))
        return X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION;
    if (!has_good_key(x))
        return place ? X509_V_ERR_CA_KEY_TOO_SMALL : X509_V_ERR_EE_KEY_TOO_SMALL;
    if (!last && !has_good_signature(x))
        return X509_V_ERR_CA_MD_TOO_WEAK;
    if (!is_for_clients(x))
        return X509_V_ERR_INVALID_PURPOSE;
    if (place > 0 && !may_issue(x, last))
        return X509_V_ERR_INVALID_CA;
    return place > 0 && most >= 0 && place - 1 > most ? X509_V_ERR_PATH_LENGTH_EXCEEDED : X509_V_OK;
}

int tls_verify(X509_STORE_CTX *store, void *unused) {
    (void)unused;
    X509_VERIFY_PARAM *param = X509_STORE_CTX_get0_param(store);
    X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
    X509_VERIFY_PARAM_set_auth_level(param, LEVEL);
    if (!X509_VERIFY_PARAM_set_purpose(param, X509_PURPOSE_ANY) || X509_verify_cert(store) != 1)
        return 0;
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_chain(store);
    int count = sk_X509_num(chain);
    for (int i = 0; i < count; i++) {
        int fault = fault_of(sk_X509_value(chain, i), i, i == count - 1);
        if (fault == X509_V_OK)
            continue;
        X509_STORE_CTX_set_error_depth(store, i);
        X509_STORE_CTX_set_error(store, fault);
        return 0;
    }
    return 1;
}

int tls_verify_weak_bits(X509 *x) {
    EVP_PKEY *key = X509_get0_pubkey(x);
    int bits = key && EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA ? EVP_PKEY_get_bits(key) : RSA_BITS_GOOD;
    return bits < RSA_BITS_GOOD ? bits : 0;
}
