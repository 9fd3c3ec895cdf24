/* SPDX-License-Identifier: Apache-2.0 */
/* Certificates, keys and CA certificates as files hold them, looked at as the reader does it. Input: the certificate file, a
 * NUL, the key file, a NUL, the CA file. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "config/tls.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    tls_files_prepare();
    return 0;
}

static struct view cut(struct view *rest) {
    const char *end = rest->len ? memchr(rest->at, '\0', rest->len) : NULL;
    size_t len = end ? (size_t)(end - rest->at) : rest->len;
    struct view part = view_of(rest->at, len);
    *rest = view_of(rest->at + len + (end != NULL), rest->len - len - (end != NULL));
    return part;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct view rest = view_of((const char *)data, size);
    struct view cert = cut(&rest), key = cut(&rest), ca = cut(&rest);
    struct arena arena = {0};
    struct text why = {.arena = &arena}, unsaid = {.arena = &arena};
    bool refused = tls_check_pair(cert, key, &why) != ERR_OK;
    check(refused == (why.len > 0));
    refused = tls_check_ca(ca, &unsaid) != ERR_OK;
    check(refused == (unsaid.len > 0));
    arena_free(&arena);
    return 0;
}
