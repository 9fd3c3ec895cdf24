/* SPDX-License-Identifier: Apache-2.0 */
#include "nats/json.h"

#include <jansson.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/check.h"
#include "base/wipe.h"

void json_wipe(void *piece) {
    if (piece == NULL)
        return;
    wipe(piece, malloc_usable_size(piece));
    free(piece);
}

static bool ran_short;

static void *take(size_t size) {
    void *piece = malloc(size);
    ran_short |= piece == NULL;
    return piece;
}

bool json_ran_short(void) {
    bool was = ran_short;
    ran_short = false;
    return was;
}

void json_prepare(void) {
    static bool prepared;
    if (prepared)
        return;
    size_t seed;
    check(getrandom(&seed, sizeof seed, 0) == sizeof seed);
    json_object_seed(seed | 1); /* 0 would make jansson open a file */
    json_set_alloc_funcs(take, json_wipe);
    prepared = true;
}
