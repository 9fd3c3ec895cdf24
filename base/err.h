/* SPDX-License-Identifier: Apache-2.0 */
/* base/err.h: the one convention for errors.
 *
 * A function that can fail returns `enum err` and puts its results in out-parameters, which are only valid after ERR_OK.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum err {
    ERR_OK = 0,
    ERR_NOMEM,   /* no memory, or an arena's end */
    ERR_AGAIN,   /* nothing there yet, or no room yet: try again later */
    ERR_END,     /* the other side has closed */
    ERR_SYNTAX,  /* bytes that do not follow their grammar */
    ERR_LONG,    /* more than a limit allows */
    ERR_RANGE,   /* a number outside its bounds */
    ERR_STATE,   /* not allowed now, or not from this peer */
    ERR_HOSTILE, /* a peer broke the rules of a shared memory or conversation: the link must end */
    ERR_FORGED,  /* a seal does not fit its content */
    ERR_STALE,   /* once valid, no longer: closed, expired, below the floor, another incarnation */
    ERR_SYSTEM,  /* the kernel refused; the log line has errno's words */
    ERR_COUNT
};

/* A few words for a log line; never NULL. */
const char *err_text(enum err e);

#endif
