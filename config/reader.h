/* SPDX-License-Identifier: Apache-2.0 */
/* config/reader.h: what the reader of the configuration and the supervisor say to one another.
 *
 * The reader is a short-lived process without rights. It asks for each file and each environment variable that the
 * configuration names, one packet a question, and ends with its answer. Packets of the reader have a fixed size: the
 * supervisor parses nothing. Texts in them end with a NUL, or the packet is refused.
 *
 *   supervisor                          reader
 *     struct reader_task, words  ---->                               with a descriptor for each part
 *                                <----  struct reader_ask            as often as it likes, within bounds
 *     struct reader_answer       ---->                               with a descriptor for READER_OPEN
 *                                <----  struct reader_result         once, then it ends with status 0
 *
 * What holds a secret never comes back in a packet. The supervisor makes an empty memory for each part, the reader
 * writes it, the supervisor seals it and hands it on without a look. One part is for the next reader: the words of the
 * command line and the environment variables that were used, because the supervisor wipes both once they have been
 * read.
 */
#ifndef CONFIG_READER_H
#define CONFIG_READER_H

#include "config/parser.h"
#include "config/reload.h"
#include "config/tls.h"

enum {
    READER_WORDS_MAX = 60000,          /* bytes of the command line, each word with its NUL */
    READER_TEXT_MAX = 60000,           /* bytes of an environment variable, of a message */
    READER_ASKS_MAX = 100000,          /* questions of one reading */
    READER_PART_MAX = PARSER_FILE_MAX, /* bytes of one part */
};

/* What a reading makes beside its result; each lies in a memory of its own, exactly as long as its content. */
enum reader_part {
    READER_AUTH,   /* for authd: config_print with PART_AUTH; never empty */
    READER_TLS,    /* for frontends: certificate chain, CA certificates (config/tls.h); empty without TLS */
    READER_KEYS,   /* for the signer: private keys (config/tls.h); empty without TLS */
    READER_MEMORY, /* for the next reader: struct reader_memory and what follows it */
    READER_PARTS
};

/* Followed by the words of the command line, argv[0] first, each with its NUL. With it come, unless it is a test, the
 * writable descriptors of the parts, in their order, and behind them, where memory is set, one for reading: what the
 * last reading wrote as READER_MEMORY. Then the words lie there, and none follow. */
struct reader_task {
    uint8_t key[RELOAD_KEY_BYTES]; /* of the marks */
    uint32_t test;                 /* only what -t asks */
    uint32_t shows_included;       /* struct source */
    uint32_t memory;
    uint32_t bytes; /* of the words */
};

/* Followed by the words of the command line, then the environment variables, NAME=TEXT; each ends with a NUL. */
struct reader_memory {
    uint32_t words_bytes, variables_bytes;
};

enum reader_question { READER_OPEN = 1, READER_PROBE, READER_FOLDER, READER_VARIABLE };

struct reader_ask {
    uint32_t question; /* enum reader_question */
    char name[PARSER_PATH_MAX];
};

/* Followed by the text of a variable. */
struct reader_answer {
    int32_t number; /* 0 or an errno */
    uint32_t bytes; /* of the text */
};

struct reader_result {
    uint32_t valid;
    struct reload_state state;     /* if valid, and not for a test */
    struct tls_options tls;        /* the same */
    char message[READER_TEXT_MAX]; /* of a fault: behind the program's name and a colon; else warnings, or nothing */
};

#endif
