/* SPDX-License-Identifier: Apache-2.0 */
/* One row a role. */
#include "supervisor/roles.h"

#include "supervisor/supervisor.h"

static const struct role_handlers table[FAMILY_ROLE_END] = {
    [BULKHEAD__ROLE__ROLE_LOGD] = {.start = logging_start, .on_note = logging_on_note, .on_exit = child_replace},
    [BULKHEAD__ROLE__ROLE_ROUTER] = {.start = routers_start,
                                     .on_note = routers_on_note,
                                     .on_exit = routers_on_exit,
                                     .settings = routers_settings,
                                     .on_answer = reload_on_answer},
    [BULKHEAD__ROLE__ROLE_AUTHD] = {.start = authd_start, .on_exit = child_replace, .on_answer = reload_on_answer},
    [BULKHEAD__ROLE__ROLE_CONFIG] = {.on_packets = parts_on_packets, .on_exit = parts_on_exit},
    [BULKHEAD__ROLE__ROLE_SIGNER] = {.start = signer_settle, .on_exit = signer_on_exit, .on_answer = reload_on_answer},
    [BULKHEAD__ROLE__ROLE_FRONTEND] = {.start = edges_start,
                                       .on_note = edges_on_note,
                                       .on_exit = edges_on_exit,
                                       .on_answer = reload_on_answer},
#ifdef ROLES_TEST_ROWS
    ROLES_TEST_ROWS
#endif
};

const struct role_handlers *roles_of(Bulkhead__Role role) {
    return &table[role];
}
