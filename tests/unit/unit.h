/* SPDX-License-Identifier: Apache-2.0 */
/* tests/unit/unit.h: the end of every unit test's main. */
#ifndef TESTS_UNIT_UNIT_H
#define TESTS_UNIT_UNIT_H

#include <check.h>

/* Runs a suite and frees it. Returns the exit status: 0 if nothing failed. CK_VERBOSITY says how much is printed. */
static inline int unit_run(Suite *suite) {
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

#endif
