/* SPDX-License-Identifier: Apache-2.0 */
/* tests/system/c/idle.h: the rows of a daemon that does nothing, for the two tables of the supervisor (tests/tests.mk). */
#define FAMILY_TEST_ROWS                                                                                               \
    [8] = {(Bulkhead__Role)8, "idle", "bulkhead-idle", .uid_offset = 6, .most = 1, .reload = RELOAD_EDGES, .start = 2, \
           .work = 1, .death = "nobody misses it"},
#define ROLES_TEST_ROWS [8] = {.start = child_begin, .on_exit = child_replace, .on_answer = reload_on_answer},
