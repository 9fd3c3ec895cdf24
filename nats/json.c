#include "nats/json.h"

#include <jansson.h>
#include <malloc.h>
#include <stdbool.h>
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

void json_prepare(void) {
    static bool prepared;
    if (prepared)
        return;
    size_t seed;
    check(getrandom(&seed, sizeof seed, 0) == sizeof seed);
    json_object_seed(seed | 1); /* 0 would make jansson open a file */
    json_set_alloc_funcs(malloc, json_wipe);
    prepared = true;
}
