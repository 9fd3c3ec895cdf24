/* One table: names, kind, where the value goes, its bounds, its line of help. Times are given in seconds (a fraction is
 * fine) where nats-server counts in seconds, in milliseconds where the name says so; all are kept in milliseconds. */
#include "supervisor/options.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "ipc/settings.h"
#include "shm/commit.h"
#include "shm/record.h"

enum kind {
    KIND_TEXT,
    KIND_BOOL,
    KIND_BOTH_BOOLS,
    KIND_U32,
    KIND_U64,
    KIND_PORT,
    KIND_SECONDS,
    KIND_AUTO,
    KIND_VERSION,
    KIND_HELP
};

struct option {
    const char *names[3];
    enum kind kind;
    uint16_t offset; /* in struct options */
    uint64_t low, high;
    const char *section; /* of the help, where a new one begins */
    const char *value;
    const char *help;
};

#define AT(field) offsetof(struct options, field)

/* clang-format off */
static const struct option table[] = {
#define SECTION(title) .section = (title)
#define BOUNDS(l, h)   .low = (l), .high = (h)
    {{"a", "addr", "net"}, KIND_TEXT, AT(host), SECTION("Server Options"),
        .value = "HOST", .help = "Bind to this address (default: 0.0.0.0)"},
    {{"p", "port"}, KIND_PORT, AT(port), BOUNDS(0, UINT16_MAX),
        .value = "PORT", .help = "Port for clients, -1 for any free one (default: 4222)"},
    {{"n", "name", "server_name"}, KIND_TEXT, AT(name),
        .value = "NAME", .help = "Server name (default: the server id)"},
    {{"P", "pid"}, KIND_TEXT, AT(pid_file),
        .value = "FILE", .help = "Write the process id to this file"},
    {{"ports_file_dir"}, KIND_TEXT, AT(ports_file_dir),
        .value = "DIR", .help = "Write bulkhead_<pid>.ports there while the server is ready"},
    {{"frontends"}, KIND_AUTO, AT(frontends), BOUNDS(1, LINKS_MAX),
        .value = "N", .help = "Frontend processes (default: auto, one a core)"},
    {{"uid_base"}, KIND_U32, AT(uid_base), BOUNDS(1, UINT32_MAX - 1000),
        .value = "UID", .help = "First of the user ids of the children (default: 64100)"},

    {{"max_payload"}, KIND_U32, AT(max_payload), BOUNDS(1, SETTINGS_PAYLOAD_MAX), SECTION("Limits"),
        .value = "BYTES", .help = "Largest message (default: 1048576)"},
    {{"max_control_line"}, KIND_U32, AT(max_control_line), BOUNDS(64, RECORD_TEXT_MAX),
        .value = "BYTES", .help = "Longest protocol line (default: 4096)"},
    {{"max_pending"}, KIND_U64, AT(max_pending), BOUNDS(1024, UINT64_C(1) << 40),
        .value = "BYTES", .help = "Unsent bytes of one client (default: 67108864)"},
    {{"max_connections"}, KIND_U32, AT(max_connections), BOUNDS(1, 1u << 22),
        .value = "N", .help = "Client connections (default: 65536)"},
    {{"max_subscriptions"}, KIND_U32, AT(max_subscriptions), BOUNDS(0, UINT32_MAX),
        .value = "N", .help = "Subscriptions of one client, 0: no limit"},
    {{"max_sub_tokens"}, KIND_U32, AT(max_sub_tokens), BOUNDS(0, UINT32_MAX),
        .value = "N", .help = "Tokens of a subscription's subject, 0: no limit"},
    {{"ping_interval"}, KIND_SECONDS, AT(ping_interval_ms), BOUNDS(1, UINT32_MAX),
        .value = "SECONDS", .help = "Time between PINGs (default: 120)"},
    {{"ping_max"}, KIND_U32, AT(ping_max), BOUNDS(0, UINT32_MAX),
        .value = "N", .help = "PINGs without an answer (default: 2)"},
    {{"write_deadline"}, KIND_SECONDS, AT(write_deadline_ms), BOUNDS(1, UINT32_MAX),
        .value = "SECONDS", .help = "A client must read within this time (default: 10)"},
    {{"auth_timeout"}, KIND_SECONDS, AT(auth_timeout_ms), BOUNDS(1, UINT32_MAX),
        .value = "SECONDS", .help = "A client must CONNECT within this time (default: 2)"},

    {{"source_wait_ms"}, KIND_U32, AT(source_wait_ms), BOUNDS(1, 600000), SECTION("Patience inside"),
        .value = "MS", .help = "A source waits for one destination (default: 20)"},
    {{"source_share_ms"}, KIND_U32, AT(source_share_ms), BOUNDS(1, 600000),
        .value = "MS", .help = "The same in any second (default: 100)"},
    {{"edge_dead_ms"}, KIND_U32, AT(edge_dead_ms), BOUNDS(1, 600000),
        .value = "MS", .help = "A full ring without progress (default: 1000)"},
    {{"replay_ms"}, KIND_U32, AT(replay_ms), BOUNDS(1, 600000),
        .value = "MS", .help = "Replay to a new router (default: 500)"},
    {{"spill_bytes"}, KIND_U64, AT(spill_bytes), BOUNDS(0, UINT64_C(1) << 40),
        .value = "BYTES", .help = "Overflow of one frontend (default: 67108864)"},

    {{"D", "debug"}, KIND_BOOL, AT(debug), SECTION("Logging Options"), .help = "Debug lines"},
    {{"V", "trace"}, KIND_BOOL, AT(trace), .help = "Protocol lines"},
    {{"DV"}, KIND_BOTH_BOOLS, .help = "Both"},

    {{"v", "version"}, KIND_VERSION, SECTION("Common Options"), .help = "Print the version"},
    {{"h", "help"}, KIND_HELP, .help = "Print this text"},
};
/* clang-format on */

enum { TABLE_LEN = sizeof table / sizeof *table };

static void print_usage(void) {
    printf("\nUsage: bulkhead [options]\n");
    for (size_t i = 0; i < TABLE_LEN; i++) {
        const struct option *o = &table[i];
        if (o->section)
            printf("\n%s:\n", o->section);
        char left[80];
        int n = 0;
        for (int k = 0; k < 3 && o->names[k]; k++)
            n += snprintf(left + n, sizeof left - (size_t)n, "%s%s%s", k ? ", " : "",
                          strlen(o->names[k]) > 2 ? "--" : "-", o->names[k]);
        if (o->value)
            snprintf(left + n, sizeof left - (size_t)n, " %s", o->value);
        printf("    %-34s %s\n", left, o->help);
    }
}

static void print_version(void) {
    printf("bulkhead: v%s\n", BULKHEAD_VERSION);
}

static const struct option *option_find(const char *name, size_t len) {
    for (size_t i = 0; i < TABLE_LEN; i++) {
        for (int k = 0; k < 3 && table[i].names[k]; k++) {
            if (strlen(table[i].names[k]) == len && memcmp(table[i].names[k], name, len) == 0)
                return &table[i];
        }
    }
    return NULL;
}

static bool parse_number(uint64_t *out, const char *text, uint64_t low, uint64_t high) {
    if (*text < '0' || *text > '9')
        return false;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || *end || v < low || v > high)
        return false;
    *out = v;
    return true;
}

/* Seconds with a fraction, kept in milliseconds. */
static bool parse_seconds(uint64_t *out, const char *text, uint64_t low_ms, uint64_t high_ms) {
    char *end;
    double seconds = strtod(text, &end);
    if (end == text || *end || !isfinite(seconds) || seconds < 0 || seconds * 1000 < (double)low_ms ||
        seconds * 1000 > (double)high_ms)
        return false;
    *out = (uint64_t)(seconds * 1000 + 0.5);
    return true;
}

static bool parse_bool(bool *out, const char *text) {
    static const char *const words[] = {"1", "t", "T", "true",  "TRUE",  "True",
                                        "0", "f", "F", "false", "FALSE", "False"};
    for (size_t i = 0; i < 12; i++) {
        if (strcmp(text, words[i]) == 0) {
            *out = i < 6;
            return true;
        }
    }
    return false;
}

static bool parse_text(char out[OPTION_TEXT_MAX + 1], const char *text) {
    size_t len = strlen(text);
    if (len > OPTION_TEXT_MAX)
        return false;
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            return false;
    }
    memcpy(out, text, len + 1);
    return true;
}

static bool option_store(struct options *o, const struct option *option, const char *text) {
    void *at = (char *)o + option->offset;
    uint64_t number;
    switch (option->kind) {
    case KIND_TEXT:
        return parse_text(at, text);
    case KIND_BOOL:
        return parse_bool(at, text);
    case KIND_BOTH_BOOLS:
        return parse_bool(&o->debug, text) && parse_bool(&o->trace, text);
    case KIND_PORT:
        if (strcmp(text, "-1") == 0) {
            *(int32_t *)at = -1;
            return true;
        }
        if (!parse_number(&number, text, option->low, option->high))
            return false;
        *(int32_t *)at = number ? (int32_t)number : 4222; /* 0 is "not set" to nats-server */
        return true;
    case KIND_U64:
        return parse_number(at, text, option->low, option->high);
    case KIND_AUTO:
        if (strcmp(text, "auto") == 0) {
            *(uint32_t *)at = 0;
            return true;
        }
        /* fall through */
    case KIND_U32:
        if (!parse_number(&number, text, option->low, option->high))
            return false;
        *(uint32_t *)at = (uint32_t)number;
        return true;
    case KIND_SECONDS:
        if (!parse_seconds(&number, text, option->low, option->high))
            return false;
        *(uint32_t *)at = (uint32_t)number;
        return true;
    case KIND_VERSION:
    case KIND_HELP:
        return true;
    }
    return false;
}

static bool takes_word(enum kind kind) {
    return kind != KIND_BOOL && kind != KIND_BOTH_BOOLS && kind != KIND_VERSION && kind != KIND_HELP;
}

#ifdef BULKHEAD_SANITIZED
enum { SLOWNESS = 20 };
#else
enum { SLOWNESS = 1 };
#endif

static void set_defaults(struct options *o) {
    *o = (struct options){
        .host = "0.0.0.0",
        .port = 4222,
        .max_payload = 1 << 20,
        .max_control_line = 4096,
        .max_pending = 64 << 20,
        .max_connections = 65536,
        .ping_interval_ms = 120000,
        .ping_max = 2,
        .write_deadline_ms = 10000,
        .auth_timeout_ms = 2000 * SLOWNESS,
        .source_wait_ms = 20 * SLOWNESS,
        .source_share_ms = 100 * SLOWNESS,
        .edge_dead_ms = 1000 * SLOWNESS,
        .replay_ms = 500 * SLOWNESS,
        .spill_bytes = 64 << 20,
        .uid_base = 64100,
    };
}

static enum options_verdict bad_usage(void) {
    print_usage();
    return OPTIONS_EXIT_0; /* as nats-server does it */
}

static enum options_verdict parse_word(const char *word) {
    if (strcasecmp(word, "version") == 0) {
        print_version();
        return OPTIONS_EXIT_0;
    }
    if (strcasecmp(word, "help") == 0)
        return bad_usage();
    fprintf(stderr, "bulkhead: unrecognized command: \"%s\"\n", word);
    return OPTIONS_EXIT_1;
}

enum options_verdict options_parse(struct options *o, int argc, char **argv) {
    set_defaults(o);
    bool version = false;
    int i = 1;
    for (; i < argc && argv[i][0] == '-' && argv[i][1]; i++) {
        if (strcmp(argv[i], "--") == 0) {
            i++;
            break;
        }
        const char *name = argv[i] + (argv[i][1] == '-' ? 2 : 1);
        size_t len = strcspn(name, "=");
        const char *text = name[len] == '=' ? name + len + 1 : NULL;
        const struct option *option = option_find(name, len);
        if (!option) {
            fprintf(stderr, "flag provided but not defined: -%.*s\n", (int)len, name);
            return bad_usage();
        }
        if (!text && takes_word(option->kind)) {
            if (i + 1 >= argc) {
                fprintf(stderr, "flag needs an argument: -%.*s\n", (int)len, name);
                return bad_usage();
            }
            text = argv[++i];
        }
        if (!option_store(o, option, text ? text : "true")) {
            fprintf(stderr, "invalid value \"%s\" for flag -%.*s: parse error\n", text, (int)len, name);
            return bad_usage();
        }
        if (option->kind == KIND_HELP)
            return bad_usage();
        version = version || option->kind == KIND_VERSION;
    }
    if (version) {
        print_version();
        return OPTIONS_EXIT_0;
    }
    return i < argc ? parse_word(argv[i]) : OPTIONS_RUN;
}
