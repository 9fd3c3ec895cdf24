/* config/reader.h: what the reader of the configuration and the supervisor say to one another.
 *
 * The reader is a short-lived process without rights. It asks for each file and each environment variable that the
 * configuration names, one packet a question, and ends with its answer. Packets of the reader have a fixed size: the
 * supervisor parses nothing. Texts in them end with a NUL, or the packet is refused.
 *
 *   supervisor                          reader
 *     struct reader_task, words  ---->
 *                                <----  struct reader_ask            as often as it likes, within bounds
 *     struct reader_answer       ---->                               with a descriptor for READER_OPEN
 *                                <----  struct reader_result         once, then it ends
 */
#ifndef CONFIG_READER_H
#define CONFIG_READER_H

#include "config/parser.h"
#include "config/reload.h"

enum {
    READER_WORDS_MAX = 60000, /* bytes of the command line, each word with its NUL */
    READER_TEXT_MAX = 60000,  /* bytes of an environment variable, of a message */
    READER_ASKS_MAX = 100000, /* questions of one reading */
};

/* Followed by the words of the command line, argv[0] first, each with its NUL. */
struct reader_task {
    uint8_t key[RELOAD_KEY_BYTES]; /* of the marks */
    uint32_t test;                 /* only what -t asks */
    uint32_t bytes;                /* of the words */
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
    char message[READER_TEXT_MAX]; /* of a fault: behind the program's name and a colon; else warnings, or nothing */
};

#endif
