/* SPDX-License-Identifier: Apache-2.0 */
/* config/reload.h: what has changed between two configurations, and may it change while the server runs?
 *
 * The supervisor has no credentials and no tree, so it cannot compare trees. It keeps of each configuration the struct
 * options and a mark for every option: a keyed hash of what the tree says, made by the reader under a key that only
 * this life of the server knows. Both have a fixed size and say nothing about a password.
 */
#ifndef CONFIG_RELOAD_H
#define CONFIG_RELOAD_H

#include "config/config.h"

enum { RELOAD_KEY_BYTES = 32, RELOAD_MARK_BYTES = 16, RELOAD_MARKS = 320 /* rows of the table, at least */ };

struct reload_marks {
    uint8_t at[RELOAD_MARKS][RELOAD_MARK_BYTES]; /* by row; zero: not given */
};

/* What a running configuration keeps of itself. */
struct reload_state {
    struct options options;
    struct reload_marks marks;
};

struct reload_change {
    const struct option *option;
    struct view line; /* for the log, without a newline: `Reloaded: max_payload = 2048` */
};

struct reload_changes {
    struct reload_change *at;
    size_t count, cap;
};

/* Takes the state of a configuration that has been read, with flags and defaults. certificates: the content of what tls
 * names, so that other certificates under the same names are a change. */
void reload_keep(struct reload_state *state, const struct config *c, struct view certificates,
                 const uint8_t key[static RELOAD_KEY_BYTES]);

/* Lists the changes, in the order of the table, in memory of the arena. ERR_STATE: one of them needs a restart; the
 * message of nats-server is appended to why, and nothing may be applied. Both states must have been made under one key.
 */
enum err reload_compare(const struct reload_state *old, const struct reload_state *new, struct arena *arena,
                        struct reload_changes *changes, struct text *why);

#endif
