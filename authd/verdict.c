/* SPDX-License-Identifier: Apache-2.0 */
#include "authd/verdict.h"

#include <sodium.h>
#include <string.h>

#include "authd/certificate.h"
#include "authd/signature.h"
#include "base/log.h"
#include "ipc/nonce.h"

static void refuse(struct verdict *v, const char *why) {
    v->kind = VERDICT_REFUSED;
    v->user = NULL;
    v->why = why;
}

static void grant(struct verdict *v, const struct user *user) {
    v->kind = VERDICT_GRANTED;
    v->user = user;
}

static bool type_allowed(const struct user *user, uint8_t type) {
    return !user->types || (type && user->types & 1u << (type - 1));
}

/* ---- passwords ---- */

static void ask_hash(struct verdict *v, const struct user *user, const char *hash, struct view password) {
    v->kind = VERDICT_HASH;
    v->user = user;
    memcpy(v->hash, hash, BCRYPT_CHARS);
    v->password = password;
}

/* No user means: the name is unknown, or must not be used here; the work is the same. hash: any user has a hash. */
static void compare(struct verdict *v, const struct users *users, const struct user *user, struct view password,
                    bool hash) {
    static const struct user_secret nobody;
    uint8_t mark[USERS_MARK_BYTES];
    const struct user_secret *secret = user ? user->secret : &nobody;
    if (secret->cost) {
        ask_hash(v, user, secret->hash, password);
        return;
    }
    users_mark(users, password, mark);
    bool same = sodium_memcmp(mark, secret->mark, sizeof mark) == 0;
    if (same && user && !secret->is_hash)
        grant(v, user);
    else if (hash)
        ask_hash(v, NULL, users->dummy, password);
    else
        refuse(v, NULL);
}

/* ---- methods ---- */

static void refuse_spent(struct verdict *v) {
    refuse(v, "The nonce was used already");
    v->nonce_spent = true;
}

static void by_nkey(struct verdict *v, const struct users *users, const struct credentials *c) {
    uint8_t key[NKEY_BYTES], signature[SIGNATURE_BYTES];
    const struct user *user = users_find(users, USER_NKEY, c->nkey);
    if (nkey_parse(key, NKEY_USER, c->nkey) != ERR_OK)
        refuse(v, "User nkey not valid: invalid public key");
    else if (!c->sig.len)
        refuse(v, "Signature missing");
    else if (signature_read(signature, c->sig) != ERR_OK)
        refuse(v, "Signature not valid base64");
    else if (c->nonce.len != NONCE_CHARS || !signature_is_good(key, c->nonce, signature))
        refuse(v, "Signature not verified");
    else if (c->nonce_spent)
        refuse_spent(v);
    else if (!c->nonce_good)
        refuse(v, "The nonce is not one of this connection");
    else if (!user)
        refuse(v, "User nkey not known");
    else if (!type_allowed(user, c->type))
        refuse(v, "Connection type not allowed");
    else
        grant(v, user);
}

static void by_certificate(struct verdict *v, const struct users *users, const struct credentials *c) {
    const struct user *user = certificate_user(users, c->certificate);
    if (c->user.len)
        log_warn("User \"%.*s\" found in connect proto, but user required from cert", (int)c->user.len, c->user.at);
    if (user && type_allowed(user, c->type))
        compare(v, users, user, c->pass, false);
    else
        refuse(v, user ? "Connection type not allowed" : "No user for the certificate");
}

static void unnamed(struct verdict *v, const struct users *users, const struct credentials *c) {
    if (type_allowed(users->unnamed, c->type))
        grant(v, users->unnamed);
    else
        refuse(v, "Connection type not allowed");
}

static void by_name(struct verdict *v, const struct users *users, const struct credentials *c) {
    const struct user *user = users_find(users, USER_NAME, c->user);
    if (user && !type_allowed(user, c->type)) {
        user = NULL;
        v->why = "Connection type not allowed";
    }
    compare(v, users, user, c->pass, users->cost_max > 0);
}

void verdict_make(struct verdict *v, const struct users *users, const struct credentials *c) {
    *v = (struct verdict){.kind = VERDICT_REFUSED};
    if (!users->required)
        grant(v, &users->at[0]);
    else if (users->has_nkeys && c->nkey.len)
        by_nkey(v, users, c);
    else if (users->has_array && users->maps_certificates)
        by_certificate(v, users, c);
    else if (users->unnamed && !c->user.len && !c->pass.len && !c->token.len)
        unnamed(v, users, c);
    else if ((users->has_array || users->single) && c->user.len)
        by_name(v, users, c);
    else if (users->token)
        compare(v, users, users->token, c->token, false);
}
