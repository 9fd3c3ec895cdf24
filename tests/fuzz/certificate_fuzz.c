/* SPDX-License-Identifier: Apache-2.0 */
/* A client's certificate of arbitrary bytes, and the same bytes as a user's distinguished name. What must hold: who is
 * found is a user of the table; a name that is read has canonical bytes that do not depend on the order of its parts.
 */
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>

#include "authd/certificate.h"
#include "authd/names.h"
#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct users *users;

static void open_users(void) {
    static const char text[] =
        "authorization {users: [{user: \"CN=fred\"}, {user: \"CN=fred,OU=ops\"}, {user: "
        "\"cn=dora, ou=Dev\"}, {user: \"x@example.com\"}, {user: \"host.example.com\"}, {user: "
        "\"spiffe://x/y\"}, {user: \"CN=ed+OU=7\"}, {user: \"CN=fred,OU=ops,DC=com,DC=example\"}]}";
    static const uint8_t key[USERS_KEY_BYTES] = {7};
    struct arena arena = {0};
    struct text why = {.arena = &arena};
    check(sodium_init() >= 0);
    certificates_open();
    check(users_read(&users, VIEW(text), key, &why) == ERR_OK);
    arena_free(&arena);
}

static void check_name(struct view text) {
    static struct name name, turned;
    struct arena arena = {0};
    if (name_parse(&name, text, &arena) == ERR_OK) {
        turned.count = name.count;
        for (uint32_t i = 0; i < name.count; i++)
            turned.part[i] = name.part[name.count - 1 - i];
        check(view_equal(name_canonical(&name, &arena), name_canonical(&turned, &arena)));
    }
    arena_free(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!users)
        open_users();
    uint8_t *bytes = malloc(size + (size == 0)); /* of exactly its size, for the sanitizer */
    check(bytes);
    memcpy(bytes, data, size);
    const struct user *user = certificate_user(users, view_of(bytes, size));
    check(!user || (user >= users->at && user < users->at + users->count));
    check_name(view_of(bytes, size));
    free(bytes);
    return 0;
}
