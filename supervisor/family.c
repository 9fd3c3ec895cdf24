/* SPDX-License-Identifier: Apache-2.0 */
/* Read a row as: these processes, each with a user id of its own, get exactly these things and sockets to exactly these
 * roles. Beyond the gifts every process has its control socket, its log pipe and its counters page. */
#include "supervisor/family.h"

#include <stddef.h>

#include "config/reader.h"
#include "shm/commit.h"

#define LOGD       BULKHEAD__ROLE__ROLE_LOGD
#define ROUTER     BULKHEAD__ROLE__ROLE_ROUTER
#define AUTHD      BULKHEAD__ROLE__ROLE_AUTHD
#define FRONTEND   BULKHEAD__ROLE__ROLE_FRONTEND
#define SIGNER     BULKHEAD__ROLE__ROLE_SIGNER
#define CONFIG     BULKHEAD__ROLE__ROLE_CONFIG
#define TO(role)   (1u << (role))
#define PART(part) (1u << (part))

/* clang-format off */
static const struct family_role table[FAMILY_ROLE_END] = {
    [LOGD] = {
        LOGD, "logd", "bulkhead-logd", .uid_offset = 0, .most = 1,
        .gifts = GIFT_STDERR,
        .peers = 0,
        .start = 1, .work = 1, .death = "log lines may be missing here"},
    [ROUTER] = { /* the one at work, and the spare that waits */
        ROUTER, "router", "bulkhead-router", .uid_offset = 1, .most = 2,
        .gifts = GIFT_KEY | GIFT_COMMIT | GIFT_BOOK_R | GIFT_LINKS,
        .peers = TO(AUTHD),
        .reload = RELOAD_ROUTERS,
        .start = 4, .work = 1, .death = "another one takes its place, clients stay connected"},
    [AUTHD] = {
        AUTHD, "authd", "bulkhead-authd", .uid_offset = 3, .most = 1,
        .gifts = GIFT_KEY | GIFT_BOOK_W,
        .peers = TO(ROUTER) | TO(FRONTEND),
        .reload = RELOAD_AUTH, .parts = PART(READER_AUTH),
        .start = 2, .work = 4, .death = "logins wait for a new one"},
    [CONFIG] = { /* lives while the configuration is read (supervisor/reader.c) */
        CONFIG, "config", "bulkhead-config", .uid_offset = 4, .most = 1,
        .gifts = GIFT_BRIEF,
        .peers = 0,
        .work = 1, .death = "the configuration is not read"},
    [SIGNER] = { /* runs while there is TLS */
        SIGNER, "signer", "bulkhead-signer", .uid_offset = 5, .most = 1,
        .gifts = GIFT_KEYS,
        .peers = TO(FRONTEND),
        .reload = RELOAD_AUTH, .parts = PART(READER_KEYS),
        .start = 3, .work = 1, .death = "handshakes wait for a new one"},
    [FRONTEND] = {
        FRONTEND, "frontend", "bulkhead-frontend", .uid_offset = 16, .most = FRONTENDS_MAX,
        .gifts = GIFT_LISTENER | GIFT_FILES,
        .peers = TO(AUTHD) | TO(SIGNER),
        .kind = LINK_FRONTEND, .first_link = 0,
        .reload = RELOAD_EDGES, .parts = PART(READER_TLS),
        .start = 5, .work = 1, .death = "its clients reconnect"},
#ifdef FAMILY_TEST_ROWS
    FAMILY_TEST_ROWS
#endif
};
/* clang-format on */

_Static_assert(16 + LINKS_MAX <= FAMILY_UIDS, "every process has a user id of its own");

const struct family_role *family_role(Bulkhead__Role role) {
    return (unsigned)role < FAMILY_ROLE_END && table[role].executable ? &table[role] : NULL;
}

bool family_may_talk(Bulkhead__Role a, Bulkhead__Role b) {
    const struct family_role *row_a = family_role(a), *row_b = family_role(b);
    return row_a && row_b && row_a->peers & TO(b) && row_b->peers & TO(a);
}
