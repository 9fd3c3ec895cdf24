/* SPDX-License-Identifier: Apache-2.0 */
/* config/config.h: a configuration, read and checked.
 *
 * Reading has two halves. config_read does what nats-server's `-t` does: the file's syntax and every single option, all
 * faults collected. config_check_start does what nats-server checks at a start: whether the options fit together; and
 * whether this server has what they ask for, in every process. Here `-t` and a start do both. The result is a struct
 * options with the scalars, and a checked tree: maps with the first name of each option as key, `listen` split into host and port, times as nanoseconds, single texts as arrays where many are
 * possible, default permissions not yet applied. Credentials in the tree are marked (struct value, secret); struct
 * options holds none.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "config/options.h"
#include "config/parser.h"

enum { CONFIG_PROBLEMS_MAX = 10000 }; /* more are only counted */

enum problem_kind {
    PROBLEM_WARNING, /* nats-server's: `-t` fails, a start does not */
    PROBLEM_ERROR,
    PROBLEM_NOTICE, /* an option that the server starts without, or takes otherwise than written */
};

struct problem {
    enum problem_kind kind;
    struct view text; /* with its position, without a newline */
};

struct config {
    struct arena arena;
    const struct source *source;
    const char *path;
    struct value *tree; /* checked; a map, empty before it is read */
    struct options options;
    struct text fault; /* the file could not be read or parsed: the one message */
    struct problem *problems;
    size_t problem_count, problem_cap, problems_left_out;
};

/* A configuration without a file. The source must live as long. */
void config_open(struct config *c, const struct source *source);

/* Reads and checks a file. ERR_OK: at most warnings. The defaults are not filled in yet (options_fill): flags come
 * first. */
enum err config_read(struct config *c, const char *path);

/* Adds errors for what a start refuses, notices for what has no effect; brings numbers that mean "no limit" to what this
 * server can do. After flags and defaults. ERR_SYNTAX: there was an error. */
enum err config_check_start(struct config *c);

/* Appends what nats-server prints behind its name and a colon: the fault, or all warnings and then all errors, each
 * with a newline; notices come last. */
void config_say(const struct config *c, struct text *t);

bool config_has_errors(const struct config *c);
bool config_has_warnings(const struct config *c);

/* A value of the checked tree by names joined with dots; NULL: not there. */
struct value *config_find(const struct config *c, const char *path);

/* Puts a value into the checked tree, as flags do; section is one that has a key (options.h). */
void config_put(struct config *c, enum section section, struct view name, struct value *v);

/* Takes an option of the top level out of the checked tree. */
void config_remove(struct config *c, struct view name);

/* What may see a credential. */
enum config_part { PART_PUBLIC, PART_AUTH };

/* Appends the checked tree in the configuration language, for the component's parser: all of it, credentials only in
 * PART_AUTH. Everybody else gets "[REDACTED]" in their place. */
void config_print(const struct config *c, enum config_part part, struct text *t);

/* Wipes and gives back everything. */
void config_close(struct config *c);

#endif
