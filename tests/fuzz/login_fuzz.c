/* SPDX-License-Identifier: Apache-2.0 */
/* A login as an edge may send it, over tables of users of every method. What must hold: nobody gets in without a
 * credential that is known; a refusal has no user. */
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>

#include "authd/certificate.h"
#include "authd/users.h"
#include "authd/verdict.h"
#include "base/check.h"
#include "ipc/auth.pb-c.h"
#include "ipc/channel.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NKEY_U "UAB2CB576PHBBPQ5ODORRZ2LYCMWPZGWGCN2KDK7DXOIMZASKUY3RLKK"

static struct users *tables[5];

static void read_tables(void) {
    static const char *const texts[] = {
        "authorization {users: [{user: \"a\", pass: \"correct horse\"}, {nkey: \"" NKEY_U "\"}]}",
        "authorization {token: \"a long token\"}",
        "authorization {user: \"a\", pass: \"correct horse\"}",
        "tls {verify_and_map: true}\nauthorization {users: [{user: \"CN=fred\", pass: \"correct horse\"}]}",
        "accounts {A: {users: [{user: \"h\", pass: "
        "\"$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\"}]}}",
    };
    static const uint8_t key[USERS_KEY_BYTES] = {7};
    check(sodium_init() >= 0);
    certificates_open();
    for (size_t i = 0; i < 5; i++) {
        struct arena arena = {0};
        struct text why = {.arena = &arena};
        check(users_read(&tables[i], view_text(texts[i]), key, &why) == ERR_OK);
        arena_free(&arena);
    }
}

#define FIELD(m, name) ((m)->has_##name ? view_of((m)->name.data, (m)->name.len) : view_of("", 0))

static void decide(const struct users *users, const Bulkhead__Login *m) {
    struct credentials c = {.user = FIELD(m, user),
                            .pass = FIELD(m, pass),
                            .token = FIELD(m, token),
                            .nkey = FIELD(m, nkey),
                            .sig = FIELD(m, sig),
                            .nonce = FIELD(m, nonce),
                            .certificate = FIELD(m, certificate),
                            .type = m->has_type ? (uint8_t)m->type : BULKHEAD__CONNECTION_TYPE__TYPE_STANDARD,
                            .nonce_good = true};
    struct verdict v;
    verdict_make(&v, users, &c);
    check(v.kind != VERDICT_REFUSED || !v.user);
    if (v.kind != VERDICT_GRANTED)
        return;
    check(v.user->kind == USER_NKEY || view_equal(c.pass, VIEW("correct horse")) ||
          view_equal(c.token, VIEW("a long token")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!tables[0])
        read_tables();
    if (size > CHANNEL_FRAME_MAX)
        return 0;
    Bulkhead__Login *m = bulkhead__login__unpack(NULL, size, data);
    if (m && channel_check(&m->base) == ERR_OK) {
        for (size_t i = 0; i < 5; i++)
            decide(tables[i], m);
    }
    if (m)
        bulkhead__login__free_unpacked(m, NULL);
    return 0;
}
