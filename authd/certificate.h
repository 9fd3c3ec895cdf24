/* SPDX-License-Identifier: Apache-2.0 */
/* authd/certificate.h: which user a client's certificate stands for (`verify_and_map`).
 *
 * The chain, the pins and the proof that the client has the key are the edge's to check; here the certificate is only
 * read. It is hostile: any bytes can come.
 */
#ifndef AUTHD_CERTIFICATE_H
#define AUTHD_CERTIFICATE_H

#include "authd/users.h"

enum { CERTIFICATE_BYTES_MAX = 16384, CERTIFICATE_NAMES_MAX = 256, CERTIFICATE_TEXT_MAX = 8192 };

/* What needs files or more system calls than reading a certificate does; once, before the first. */
void certificates_open(void);

/* Looks for a user by, in this order: email, DNS and URI alternative names; the subject as a distinguished name in any
 * order; the subject's text with its domain components; the subject's text. Says at debug level what it found. NULL:
 * nobody, or no certificate that can be read. */
const struct user *certificate_user(const struct users *users, struct view der);

#endif
