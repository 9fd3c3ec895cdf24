/* SPDX-License-Identifier: Apache-2.0 */
/* nats/parser.h: the lines that a client sends.
 *
 * The parser is a function without state: given the bytes of a connection from the start of a line on, it answers with one
 * operation, "more", or what is wrong. It looks at the control line only; a payload follows at line.used. So a caller may
 * hand it any split of the stream, as long as it keeps what was not used. The first byte that no operation can continue is
 * an error at once, without waiting for the line's end. The grammar is docs/client-protocol.md.
 *
 * The caller must be able to keep twice control_line and 16 bytes: blanks before the arguments, and the arguments, may each
 * be control_line bytes long. Only the fields that are named beside an operation are written.
 *
 * Names are case-insensitive; blanks are ' ' and '\t'; a line ends with LF, one CR before it is dropped. Views point into
 * the caller's bytes and hold no blank, CR or LF, except json.
 */
#ifndef NATS_PARSER_H
#define NATS_PARSER_H

#include <stdint.h>

#include "base/view.h"

enum parse_op {
    PARSE_PUB,     /* subject, reply, payload_len */
    PARSE_HPUB,    /* subject, reply, header_len, payload_len (total) */
    PARSE_SUB,     /* subject, queue, sid */
    PARSE_UNSUB,   /* sid, has_max, max */
    PARSE_CONNECT, /* json: all of the argument, may be empty */
    PARSE_INFO,    /* json */
    PARSE_PING,
    PARSE_PONG,
    PARSE_PLUS_OK,
    PARSE_MINUS_ERR, /* json holds the text */
};

enum parse_result {
    PARSE_DONE,         /* one operation in *line */
    PARSE_MORE,         /* the line is not complete */
    PARSE_UNKNOWN,      /* "Unknown Protocol Operation", close */
    PARSE_CLOSE,        /* wrong arguments: close without a text; line->op is filled */
    PARSE_LINE_LONG,    /* "maximum control line exceeded", close; line->op is filled */
    PARSE_PAYLOAD_LONG, /* "Maximum Payload Violation", close; *line is filled */
};

/* Whatever control_line says, arguments with a subject in them are no longer: inside, its length has 16 bits. */
enum { PARSER_SUBJECTS_MAX = 65535 };

struct parse_limits {
    /* Bytes of the argument part: from the first non-blank after the name to the end without CR. */
    uint32_t control_line;
    uint32_t payload; /* bytes, of PUB's size and HPUB's total */
};

struct parse_line {
    enum parse_op op;
    uint32_t used; /* bytes of the line with its LF */
    struct view subject;
    struct view reply; /* empty: none */
    struct view queue; /* empty: none */
    struct view sid;
    struct view json;
    uint32_t header_len;
    uint32_t payload_len;
    uint32_t max;
    bool has_max; /* UNSUB with a second argument; a max that is no number is 0, as the protocol asks */
};

/* The next operation in at[0..len). After PARSE_PUB and PARSE_HPUB payload_len bytes and CRLF follow at at + line->used;
 * that they are there and end with CRLF is the caller's look-out. PING, PONG and +OK ignore what follows them on the line,
 * up to control_line bytes. Allocates nothing. */
enum parse_result parser_next(const char *at, size_t len, const struct parse_limits *limits, struct parse_line *line);

#endif
