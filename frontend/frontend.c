/* SPDX-License-Identifier: Apache-2.0 */
/* The state that a frontend begins with; see frontend.h. */
#include "frontend/frontend.h"

#include <stdlib.h>

enum err frontend_open(struct frontend *f) {
    struct list *lists[] = {&f->fenced, &f->dirty,     &f->borrowers, &f->owing,    &f->ready,  &f->ended,
                            &f->freed,  &f->placeless, &f->stockless, &f->deferred, &f->asking, &f->admitted};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        list_init(lists[i]);
    f->listener = -1;
    f->stall_no = 1;
    hash_key_make(&f->hash);
    /* Large enough that their pages come as they are touched. */
    f->by_number = calloc(SOFT_CONNS_MAX, sizeof(struct client *));
    f->generation = calloc(SOFT_CONNS_MAX, sizeof(uint32_t));
    f->number_free = calloc(SOFT_CONNS_MAX, sizeof(uint32_t));
    f->asked = calloc(SOFT_CONNS_MAX, sizeof(struct asked));
    return f->by_number && f->generation && f->number_free && f->asked ? ERR_OK : ERR_NOMEM;
}
