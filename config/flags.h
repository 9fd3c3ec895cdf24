/* SPDX-License-Identifier: Apache-2.0 */
/* config/flags.h: the command line, by the same table as the file.
 *
 * Go's rules for flags, as nats-server has them: one dash or two are the same, a value follows as the next word or
 * behind
 * '=', a boolean takes a value only behind '=', short flags do not combine, parsing stops at the first word that is no
 * flag. A flag beats the file, also after every reload: the same flags are applied again to the file read anew.
 */
#ifndef CONFIG_FLAGS_H
#define CONFIG_FLAGS_H

#include "config/config.h"

enum { FLAGS_MAX = 256 };

enum flags_verdict {
    FLAGS_RUN,    /* start, with the file if one is named */
    FLAGS_TEST,   /* check the file and end */
    FLAGS_SIGNAL, /* signal a running server and end */
    FLAGS_EXIT_0, /* all has been printed */
    FLAGS_EXIT_1
};

struct flag {
    const struct option *option;
    struct view name; /* as given, without dashes */
    const char *text;
};

struct flags {
    struct flag at[FLAGS_MAX]; /* in the order of the command line; the texts stay in argv */
    size_t count;
    const char *config_path; /* NULL: none */
    const char *signal;      /* of FLAGS_SIGNAL: command[=pid], with at most one '=' */
};

/* Reads the words behind argv[0]; what there is to say has been printed: usage and version to stdout, faults to stderr.
 */
enum flags_verdict flags_read(struct flags *f, int argc, char **argv);

/* Overwrites the values of flags that hold credentials, where they lie: in argv, which /proc shows. */
void flags_wipe(const struct flags *f);

/* Puts the flags over what the file said, then fills in the defaults. On an error the message is appended to why. */
enum err flags_apply(const struct flags *f, struct config *c, struct text *why);

/* FLAGS_TEST: checks what a start with these flags would read and appends the answer to said, without a last newline. False:
 * such a start would be refused, or nats-server has a warning, which fails a test there. */
bool flags_check(const struct flags *f, struct config *c, struct text *said);

/* All of a start but the printing: the file, the flags, the defaults, and what config_check_start asks. On an error
 * message holds what to print behind the program's name and a colon; else what to print as it is: warnings, or nothing.
 */
enum err flags_load(const struct flags *f, struct config *c, struct text *message);

#endif
