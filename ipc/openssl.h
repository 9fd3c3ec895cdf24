/* SPDX-License-Identifier: Apache-2.0 */
/* ipc/openssl.h: the headers of OpenSSL, to be included through this one alone: one of its types bears the name of one
 * of our errors (base/err.h). */
#ifndef IPC_OPENSSL_H
#define IPC_OPENSSL_H

#define ERR_STATE OPENSSL_ERR_STATE
#include <openssl/async.h>
#include <openssl/bio.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#undef ERR_STATE

#endif
