/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

const char *err_text(enum err e) {
    static const char *const text[ERR_COUNT] = {
        [ERR_OK] = "ok",
        [ERR_NOMEM] = "out of memory",
        [ERR_AGAIN] = "not ready yet",
        [ERR_END] = "closed by the other side",
        [ERR_SYNTAX] = "malformed",
        [ERR_LONG] = "too long",
        [ERR_RANGE] = "out of range",
        [ERR_STATE] = "not allowed now",
        [ERR_HOSTILE] = "rules of the link broken",
        [ERR_FORGED] = "seal does not fit",
        [ERR_STALE] = "no longer valid",
        [ERR_SYSTEM] = "refused by the kernel",
    };
    return (unsigned)e < ERR_COUNT ? text[e] : "unknown error";
}
