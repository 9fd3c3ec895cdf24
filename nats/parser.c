/* SPDX-License-Identifier: Apache-2.0 */
/* The parser of client lines: the hottest code of the product.
 *
 * Two ways lead to the same answer. A short line in the form that client libraries send (one blank between arguments,
 * CRLF, within one 64-byte block) is cut by one mask of its bytes up to ' '. Everything else, odd, long, wrong or
 * incomplete, takes the general way: name by table, line end by memchr, arguments by masks. The short way may give up
 * on anything, and must never decide what the general way would decide otherwise; tests compare them.
 *
 * What follows the name is bounded twice: the blanks before the argument part by BLANKS_MAX, the argument part by
 * limits->control_line. So what a line without an end makes the caller keep is bounded too.
 */
#include "nats/parser.h"

#include "base/check.h"
#include "nats/proto.h"
#include "nats/scan.h"

enum {
    ARGS_MAX = 4,      /* HPUB's */
    BLANKS_MAX = 4096, /* before the argument part */
};

/* The arguments of one line; count is ARGS_MAX + 1 if there are more. */
struct args {
    struct view at[ARGS_MAX];
    unsigned count;
};

/* No name is the start of another, so the longest common start decides. */
static const struct op_name {
    struct view name;
    enum parse_op op;
    bool needs_blank;
} op_names[] = {
    {{"PUB", 3}, PARSE_PUB, true},          {{"HPUB", 4}, PARSE_HPUB, true},  {{"SUB", 3}, PARSE_SUB, true},
    {{"UNSUB", 5}, PARSE_UNSUB, true},      {{"PING", 4}, PARSE_PING, false}, {{"PONG", 4}, PARSE_PONG, false},
    {{"CONNECT", 7}, PARSE_CONNECT, false}, {{"INFO", 4}, PARSE_INFO, false}, {{"+OK", 3}, PARSE_PLUS_OK, false},
    {{"-ERR", 4}, PARSE_MINUS_ERR, true},
};

static bool is_blank(char c) {
    return c == ' ' || c == '\t';
}

/* '\v' | 0x20 is '+' and '\r' | 0x20 is '-', so only letters are folded. */
static char upper(char c) {
    return c >= 'a' && c <= 'z' ? (char)(c - ('a' - 'A')) : c;
}

/* A size of 1 to PROTO_SIZE_DIGITS_MAX digits and nothing else. */
static inline bool size_read(struct view text, uint32_t *out) {
    if (text.len == 0 || text.len > PROTO_SIZE_DIGITS_MAX)
        return false;
    uint32_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned char)text.at[i] - (unsigned)'0';
        if (digit > 9)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

static inline enum parse_result take_pub(struct view subject, struct view reply, struct view size,
                                         const struct parse_limits *limits, struct parse_line *line) {
    line->subject = subject;
    line->reply = reply;
    if (!size_read(size, &line->payload_len))
        return PARSE_CLOSE;
    return line->payload_len > limits->payload ? PARSE_PAYLOAD_LONG : PARSE_DONE;
}

static inline enum parse_result take_hpub(struct view subject, struct view reply, struct view header_size,
                                          struct view size, const struct parse_limits *limits,
                                          struct parse_line *line) {
    enum parse_result result = take_pub(subject, reply, size, limits, line);
    if (!size_read(header_size, &line->header_len) || result == PARSE_CLOSE)
        return PARSE_CLOSE;
    return line->header_len > line->payload_len ? PARSE_CLOSE : result;
}

static inline enum parse_result take_sub(struct view subject, struct view queue, struct view sid,
                                         struct parse_line *line) {
    line->subject = subject;
    line->queue = queue;
    line->sid = sid;
    return PARSE_DONE;
}

static enum parse_result take_unsub(struct view sid, bool has_max, struct view max, struct parse_line *line) {
    line->sid = sid;
    line->has_max = has_max;
    line->max = 0;
    if (has_max && !size_read(max, &line->max))
        line->max = 0;
    return PARSE_DONE;
}

/* What the short way has cut: two arguments, or three with one in the middle. */
struct cut {
    struct view first;
    struct view middle; /* empty: there were two */
    struct view last;
    size_t used;
};

/* The short way: cuts the arguments that begin at from and end with CRLF; low is the mask of all bytes up to ' ' in
 * at[from..len). False if the line has another form or is not complete. */
static inline bool cut_short(const char *at, size_t len, uint64_t low, size_t from, struct cut *cut) {
    if (low == 0)
        return false;
    size_t first_end = (size_t)__builtin_ctzll(low);
    low &= low - 1;
    if (low == 0)
        return false;
    size_t end = (size_t)__builtin_ctzll(low);
    size_t last_from = first_end + 1;
    if (at[first_end] != ' ' || first_end == from || end == last_from)
        return false;
    cut->first = view_of(at + from, first_end - from);
    cut->middle = view_of(NULL, 0);
    if (at[end] == ' ') {
        low &= low - 1;
        if (low == 0)
            return false;
        cut->middle = view_of(at + last_from, end - last_from);
        last_from = end + 1;
        end = (size_t)__builtin_ctzll(low);
        if (end == last_from)
            return false;
    }
    cut->last = view_of(at + last_from, end - last_from);
    cut->used = end + 2;
    return cut->used <= len && at[end] == '\r' && at[end + 1] == '\n';
}

/* The general way: cuts text at blanks, and at CRs if cr_cuts; false if a CR is left. */
static bool cut_any(struct view text, bool cr_cuts, struct args *args) {
    size_t from = 0;
    args->count = 0;
    for (size_t pos = 0; pos < text.len; pos += SCAN_BLOCK) {
        size_t len = text.len - pos < SCAN_BLOCK ? text.len - pos : SCAN_BLOCK;
        for (uint64_t low = scan_low(text.at + pos, len); low != 0; low &= low - 1) {
            size_t end = pos + (size_t)__builtin_ctzll(low);
            if (text.at[end] == '\r' && !cr_cuts)
                return false;
            if (!is_blank(text.at[end]) && text.at[end] != '\r')
                continue;
            if (end > from && args->count <= ARGS_MAX) {
                if (args->count < ARGS_MAX)
                    args->at[args->count] = view_of(text.at + from, end - from);
                args->count++;
            }
            from = end + 1;
        }
    }
    if (text.len > from && args->count <= ARGS_MAX) {
        if (args->count < ARGS_MAX)
            args->at[args->count] = view_of(text.at + from, text.len - from);
        args->count++;
    }
    return true;
}

/* Finds the operation whose name at[0..len) starts with. */
static enum parse_result find_name(const char *at, size_t len, const struct op_name **found) {
    for (size_t i = 0; i < sizeof op_names / sizeof op_names[0]; i++) {
        struct view name = op_names[i].name;
        size_t same = 0;
        while (same < name.len && same < len && upper(at[same]) == name.at[same])
            same++;
        if (same == name.len) {
            *found = &op_names[i];
            return PARSE_DONE;
        }
        if (same == len)
            return PARSE_MORE;
    }
    return PARSE_UNKNOWN;
}

/* Finds the argument part of a line whose name ends at *used: from the first byte that is no blank up to the line's end
 * without its CR. Sets *used behind the LF. */
static enum parse_result find_text(const char *at, size_t len, size_t limit, struct view *text, size_t *used) {
    size_t from = *used;
    while (from < len && is_blank(at[from])) {
        if (from - *used == BLANKS_MAX)
            return PARSE_LINE_LONG;
        from++;
    }
    size_t rest = len - from;
    size_t window = rest < limit + 2 ? rest : limit + 2; /* CR and LF do not count */
    const char *end = window > 0 ? memchr(at + from, '\n', window) : NULL;
    size_t text_len = end != NULL ? (size_t)(end - (at + from)) : window;
    if (text_len > 0 && at[from + text_len - 1] == '\r')
        text_len--;
    if (text_len > limit)
        return PARSE_LINE_LONG;
    if (end == NULL)
        return PARSE_MORE;
    *text = view_of(at + from, text_len);
    *used = (size_t)(end - at) + 1;
    return PARSE_DONE;
}

/* The operation's result from its arguments, wherever they were cut. */
static enum parse_result take_args(const struct args *args, const struct parse_limits *limits,
                                   struct parse_line *line) {
    static const struct view none;
    const struct view *at = args->at;
    unsigned count = args->count;
    switch (line->op) {
    case PARSE_PUB:
        if (count == 2)
            return take_pub(at[0], none, at[1], limits, line);
        return count == 3 ? take_pub(at[0], at[1], at[2], limits, line) : PARSE_CLOSE;
    case PARSE_HPUB:
        if (count == 3)
            return take_hpub(at[0], none, at[1], at[2], limits, line);
        return count == 4 ? take_hpub(at[0], at[1], at[2], at[3], limits, line) : PARSE_CLOSE;
    case PARSE_SUB:
        if (count == 2)
            return take_sub(at[0], none, at[1], line);
        return count == 3 ? take_sub(at[0], at[1], at[2], line) : PARSE_CLOSE;
    case PARSE_UNSUB:
        if (count == 1)
            return take_unsub(at[0], false, none, line);
        return count == 2 ? take_unsub(at[0], true, at[1], line) : PARSE_CLOSE;
    default:
        check(false);
    }
    return PARSE_CLOSE;
}

static enum parse_result parse_any(const char *at, size_t len, const struct parse_limits *limits,
                                   struct parse_line *line) {
    const struct op_name *found = NULL;
    enum parse_result result = find_name(at, len, &found);
    if (result != PARSE_DONE)
        return result;
    size_t used = found->name.len;
    if (found->needs_blank && used == len)
        return PARSE_MORE;
    if (found->needs_blank && !is_blank(at[used]))
        return PARSE_UNKNOWN;
    struct view text;
    bool subjects = found->op <= PARSE_UNSUB;
    line->op = found->op;
    result = find_text(
        at, len, subjects && limits->control_line > PARSER_SUBJECTS_MAX ? PARSER_SUBJECTS_MAX : limits->control_line,
        &text, &used);
    if (result != PARSE_DONE)
        return result;

    line->used = (uint32_t)used;
    struct args args;
    switch (found->op) {
    case PARSE_PUB:
    case PARSE_HPUB:
    case PARSE_SUB:
    case PARSE_UNSUB:
        if (!cut_any(text, found->op == PARSE_SUB || found->op == PARSE_UNSUB, &args))
            return PARSE_CLOSE;
        return take_args(&args, limits, line);
    case PARSE_CONNECT:
    case PARSE_INFO:
    case PARSE_MINUS_ERR:
        line->json = text;
        return PARSE_DONE;
    case PARSE_PING:
    case PARSE_PONG:
    case PARSE_PLUS_OK:
        return PARSE_DONE;
    }
    check(false);
    return PARSE_CLOSE;
}

/* The first four bytes as a number, the first three of them in lower case. What becomes a letter was a letter. */
static inline uint32_t first_four(const char *at) {
    uint32_t word;
    memcpy(&word, at, sizeof word);
    return le32toh(word) | 0x00202020u;
}

#define FOUR(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

static inline uint64_t low_after(const char *at, size_t len, size_t from) {
    uint64_t low = likely(len >= SCAN_BLOCK) ? scan_low(at, SCAN_BLOCK) : scan_low(at, len);
    return low & ~UINT64_C(0) << from;
}

/* HPUB has its subject before what cut_short knows. */
static enum parse_result parse_hpub(const char *at, size_t len, const struct parse_limits *limits,
                                    struct parse_line *line) {
    enum { NAME_LEN = 5 }; /* with the blank */
    uint64_t low = low_after(at, len, NAME_LEN);
    size_t end = low != 0 ? (size_t)__builtin_ctzll(low) : NAME_LEN;
    struct cut cut;
    if (at[NAME_LEN - 1] != ' ' || end == NAME_LEN || at[end] != ' ' ||
        !cut_short(at, len, low & (low - 1), end + 1, &cut) || cut.used - 2 - NAME_LEN > limits->control_line)
        return parse_any(at, len, limits, line);
    line->op = PARSE_HPUB;
    line->used = (uint32_t)cut.used;
    struct view subject = view_of(at + NAME_LEN, end - NAME_LEN);
    if (cut.middle.len == 0)
        return take_hpub(subject, cut.middle, cut.first, cut.last, limits, line);
    return take_hpub(subject, cut.first, cut.middle, cut.last, limits, line);
}

enum parse_result parser_next(const char *at, size_t len, const struct parse_limits *limits, struct parse_line *line) {
    enum { NAME_LEN = 4, SHORTEST = 8 }; /* PUB or SUB with its blank; `SUB a 1` and an end */
    if (len < SHORTEST)
        return parse_any(at, len, limits, line);
    uint32_t four = first_four(at);
    if (four == FOUR('h', 'p', 'u', 'B') || four == FOUR('h', 'p', 'u', 'b'))
        return parse_hpub(at, len, limits, line);
    if (four != FOUR('p', 'u', 'b', ' ') && four != FOUR('s', 'u', 'b', ' '))
        return parse_any(at, len, limits, line);

    struct cut cut;
    if (!cut_short(at, len, low_after(at, len, NAME_LEN), NAME_LEN, &cut) ||
        cut.used - 2 - NAME_LEN > limits->control_line)
        return parse_any(at, len, limits, line);
    line->used = (uint32_t)cut.used;
    if (four == FOUR('p', 'u', 'b', ' ')) {
        line->op = PARSE_PUB;
        return take_pub(cut.first, cut.middle, cut.last, limits, line);
    }
    line->op = PARSE_SUB;
    return take_sub(cut.first, cut.middle, cut.last, line);
}
