/* SPDX-License-Identifier: Apache-2.0 */
/* tests/system/c/expect.h: what the programs with the C client library expect; a failed expectation ends the program with
 * its line.
 */
#ifndef TESTS_EXPECT_H
#define TESTS_EXPECT_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#define EXPECT(condition)           expect((condition), #condition, __LINE__)
#define EXPECT_OK(call)             expect_status((call), NATS_OK, #call, __LINE__)
#define EXPECT_STATUS(call, status) expect_status((call), (status), #call, __LINE__)

static void expect(bool condition, const char *text, int line) {
    if (condition)
        return;
    fprintf(stderr, "line %d: %s\n", line, text);
    exit(1);
}

static void expect_status(natsStatus got, natsStatus wanted, const char *text, int line) {
    if (got == wanted)
        return;
    fprintf(stderr, "line %d: %s: %s (%s)\n", line, text, natsStatus_GetText(got), nats_GetLastError(NULL));
    exit(1);
}

#endif
