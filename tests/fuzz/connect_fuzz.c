/* SPDX-License-Identifier: Apache-2.0 */
/* CONNECT on arbitrary bytes: once into the defaults, once more into the result. What must hold: a refused text changes
 * nothing, an accepted one is an object or null and leaves texts that are not empty and have no invalid byte left, and
 * the same text again changes nothing more. */
#include "nats/connect.h"

#include <stdint.h>
#include <stdlib.h>

#include "base/check.h"
#include "nats/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_texts(const struct connect *c) {
    for (int i = 0; i < CONNECT_TEXT_COUNT; i++) {
        if (c->text[i] == NULL)
            continue;
        struct view rest = view_text(c->text[i]);
        check(rest.len > 0);
        while (rest.len > 0) {
            uint32_t rune;
            size_t len = utf8_read(rest, &rune);
            check(len > 0);
            rest = view_of(rest.at + len, rest.len - len);
        }
    }
}

static void check_same(const struct connect *a, const struct connect *b) {
    check(a->verbose == b->verbose && a->pedantic == b->pedantic && a->echo == b->echo && a->headers == b->headers);
    check(a->no_responders == b->no_responders && a->tls_required == b->tls_required);
    check(a->new_account == b->new_account && a->protocol == b->protocol);
    for (int i = 0; i < CONNECT_TEXT_COUNT; i++) {
        check((a->text[i] == NULL) == (b->text[i] == NULL));
        check(a->text[i] == NULL || strcmp(a->text[i], b->text[i]) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *json = malloc(size + (size == 0)); /* of exactly its size, for the sanitizer */
    check(json != NULL);
    if (size > 0)
        memcpy(json, data, size);
    struct view text = view_of(json, size);
    struct connect once, twice;
    connect_init(&once);
    connect_init(&twice);
    enum err e = connect_parse(&twice, text);
    check(e == ERR_OK || e == ERR_SYNTAX);
    check(e != ERR_OK || connect_is_object(text));
    if (e == ERR_SYNTAX)
        check_same(&once, &twice);
    check(connect_parse(&once, text) == e && connect_parse(&twice, text) == e);
    check_same(&once, &twice);
    check_texts(&once);
    connect_wipe(&once);
    check(once.text[CONNECT_PASS] == NULL && once.text[CONNECT_SIG] == NULL);
    connect_free(&once);
    connect_free(&twice);
    free(json);
    return 0;
}
