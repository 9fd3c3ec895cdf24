/* SPDX-License-Identifier: Apache-2.0 */
/* ipc/nonce.h: the nonce of a connection's INFO, which authd gives out and an nkey signs.
 *
 * 11 random bytes as 15 characters of raw URL base64; what is signed are the 15 characters. Each is good once, on the link
 * that it was given to.
 */
#ifndef IPC_NONCE_H
#define IPC_NONCE_H

enum {
    NONCE_CHARS = 15,
    NONCE_ASK_MAX = 1024,      /* of one WantNonces */
    NONCE_STOCK_MS = 60000,    /* so long an edge may keep one before it shows it to a client */
    NONCE_MS = 10 * 60 * 1000, /* so long authd takes one: the stock's time, and the longest time for a login */
};

#endif
