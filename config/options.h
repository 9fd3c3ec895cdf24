/* SPDX-License-Identifier: Apache-2.0 */
/* config/options.h: the one table of options.
 *
 * A row is all that is known of one option: its names, where it stands, what it takes, what it means, whether a running
 * server can change it, and whether this server has built it yet. Reading a file, defaults, flags, reload, the list in
 * the manual: all go by this table, none has a list of its own.
 *
 * An option's value ends up in two places: scalars that are no credentials in struct options, which has a fixed size
 * and no pointers so that it may cross a wall as it is; everything in the checked tree (config/config.h).
 */
#ifndef CONFIG_OPTIONS_H
#define CONFIG_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/view.h"

enum { OPTION_TEXT_MAX = 255, OPTION_PATH_MAX = 1023, OPTION_ID_MAX = 63, OPTION_PROCESSES = 10 };

/* User and group of a process: a name or the digits of a number; empty: not given. */
struct process_ids {
    char user[OPTION_ID_MAX + 1], group[OPTION_ID_MAX + 1];
};

/* Numbers are as nats-server counts them; times are nanoseconds. 0 and "" mean not set until the defaults are filled
 * in. */
struct options {
    char server_name[OPTION_TEXT_MAX + 1]; /* empty: the server id */
    char host[OPTION_TEXT_MAX + 1];
    int64_t port; /* -1: any free one */
    char client_advertise[OPTION_TEXT_MAX + 1];
    char http_host[OPTION_TEXT_MAX + 1]; /* empty: as host */
    int64_t http_port, https_port;       /* 0: off, -1: any free one */
    char http_base_path[OPTION_TEXT_MAX + 1];

    bool debug, trace, trace_verbose, logtime, logtime_utc, syslog;
    char log_file[OPTION_PATH_MAX + 1];
    int64_t log_size_limit, log_max_num; /* bytes, 0: none; files, 0: all */
    char remote_syslog[OPTION_TEXT_MAX + 1];
    int64_t max_traced_msg_len; /* 0: all */
    char pid_file[OPTION_PATH_MAX + 1], ports_file_dir[OPTION_PATH_MAX + 1];

    int64_t max_connections, max_subscriptions, max_sub_tokens; /* 0: no limit, but for max_connections */
    int64_t max_control_line, max_payload, max_pending;         /* bytes */
    int64_t ping_interval_ns, ping_max, write_deadline_ns, auth_timeout_ns, tls_timeout_ns;
    int64_t lame_duck_duration_ns, lame_duck_grace_period_ns;
    int64_t connect_error_reports, reconnect_error_reports;
    bool no_sublist_cache, no_header_support, allow_non_tls, no_system_account;
    char no_auth_user[OPTION_TEXT_MAX + 1], system_account[OPTION_TEXT_MAX + 1];
    int64_t prof_port;
    bool jetstream;
    char store_dir[OPTION_PATH_MAX + 1];

    char cluster_name[OPTION_TEXT_MAX + 1], cluster_host[OPTION_TEXT_MAX + 1], cluster_advertise[OPTION_TEXT_MAX + 1];
    int64_t cluster_port, cluster_connect_retries; /* port 0: off, -1: any free one */
    bool cluster_no_advertise;
    char gateway_name[OPTION_TEXT_MAX + 1], gateway_host[OPTION_TEXT_MAX + 1];
    int64_t gateway_port, leafnodes_port, websocket_port, mqtt_port;
    bool websocket_no_tls;

    /* Bulkhead's own */
    int64_t frontends; /* 0: by the number of cores */
    int64_t uid_base;
    struct process_ids process[OPTION_PROCESSES]; /* in the order of SECTION_PROCESSES, see options_process */
    bool sandbox_off, seccomp_off, landlock_off, namespaces_off, user_ids_off;
    char crash_exempt[OPTION_TEXT_MAX + 1]; /* config/networks.h */
    int64_t ring_bytes, spill_bytes;        /* ring_bytes 0: by max_payload */
    char unsupported[OPTION_TEXT_MAX + 1];  /* refuse or warn */
    int64_t source_wait_ns, source_share_ns, edge_dead_ns, replay_ns, hang_ns;
    /* Bytes; all but the first 0: by the machine's memory. */
    int64_t conn_memory, account_memory, router_memory, frontend_memory;
};

enum section {
    SECTION_TOP,
    SECTION_AUTHORIZATION, /* of clients; cluster and gateway have the same with fewer rights */
    SECTION_USER,
    SECTION_PERMISSIONS,
    SECTION_SUBJECTS,
    SECTION_RESPONSES,
    SECTION_ACCOUNT,
    SECTION_ACCOUNT_LIMITS,
    SECTION_ACCOUNT_JETSTREAM,
    SECTION_EXPORT,
    SECTION_LATENCY,
    SECTION_IMPORT,
    SECTION_IMPORT_FROM,
    SECTION_DESTINATION,
    SECTION_TLS,
    SECTION_OCSP,
    SECTION_RESOLVER,
    SECTION_CLUSTER,
    SECTION_GATEWAY,
    SECTION_GATEWAY_REMOTE,
    SECTION_LEAFNODES,
    SECTION_LEAF_AUTHORIZATION,
    SECTION_LEAF_USER,
    SECTION_LEAF_REMOTE,
    SECTION_WEBSOCKET,
    SECTION_SIMPLE_AUTHORIZATION,
    SECTION_MQTT,
    SECTION_JETSTREAM,
    SECTION_JETSTREAM_LIMITS,
    SECTION_PROCESSES,
    SECTION_PROCESS,
    SECTION_SANDBOX,
    SECTION_RINGS,
    SECTION_PATIENCE,
    SECTION_MEMORY,
    SECTION_LOGINS,
    SECTION_AUTH_HOST,
    SECTION_FLAGS, /* options of the command line alone */
    SECTION_COUNT
};

struct section_info {
    const char *title;   /* for lists: "cluster", "accounts.NAME.exports[]" */
    const char *key;     /* the option of SECTION_TOP that holds the one block of this kind; NULL: there may be many */
    const char *unknown; /* message for a key that is not in the table, with %q; NULL: such keys are ignored */
};

extern const struct section_info sections[SECTION_COUNT];

enum shape {
    SHAPE_TEXT,
    SHAPE_PATH, /* a text */
    SHAPE_BOOL,
    SHAPE_INT,
    SHAPE_COUNT,    /* an integer or the word auto, which is 0 */
    SHAPE_LISTEN,   /* port or host:port, becomes host and port */
    SHAPE_DURATION, /* text; an integer is seconds and a warning */
    SHAPE_PERIOD,   /* text only */
    SHAPE_SECONDS,  /* integer or float */
    SHAPE_TIMEOUT,  /* integer, float or text */
    SHAPE_STORAGE,  /* integer, or a text that ends in K, M, G or T */
    SHAPE_TEXTS,    /* a text or an array of texts, becomes an array */
    SHAPE_LIST,     /* an array of texts */
    SHAPE_URLS,     /* an array of URLs */
    SHAPE_BLOCK,    /* a map, see inner */
    SHAPE_BLOCKS,   /* an array of such maps */
    SHAPE_OWN,      /* the row's rule alone decides */
};

enum reload { RELOAD_NO, RELOAD_LIVE, RELOAD_TLS /* only its tls block */, RELOAD_PARTLY };

enum built {
    BUILT,       /* works */
    BUILT_NOT,   /* is checked; a start with it is refused or, where `unsupported` says so, goes on without it */
    BUILT_GUARD, /* the same, but never without it: it says who may log in */
    BUILT_IDLE   /* is checked and means nothing here: a notice */
};

struct checker;
struct option;
struct value;

/* Checks a value; returns what goes into the checked tree under the option's first name, or NULL for nothing. out is
 * the map that the block becomes. */
typedef struct value *option_rule(struct checker *c, const struct option *o, struct view key, struct value *v,
                                  struct value *out);

enum flag_action {
    FLAG_VALUE,
    FLAG_CONFIG,
    FLAG_TEST,
    FLAG_SIGNAL,
    FLAG_VERSION,
    FLAG_HELP,
    FLAG_HELP_TLS,
    FLAG_DEBUGS,
    FLAG_CREDENTIAL,
    FLAG_TLS,
    FLAG_TLS_FILE,
    FLAG_ROUTES,
    FLAG_CLUSTER
};

struct option {
    const char *names; /* separated by blanks, the first is the one that lists show; NULL: only a flag */
    const char *flags; /* the same for the command line; NULL: none */
    enum section section;
    enum shape shape;
    enum section inner;    /* of SHAPE_BLOCK and SHAPE_BLOCKS */
    uint16_t offset, size; /* in struct options; size 0: only in the tree */
    bool secret;           /* a credential */
    enum reload reload;
    enum built built;
    enum flag_action action;
    int64_t low, high; /* what this server can do, checked when it starts; both 0: anything */
    int64_t flag_unit; /* of a flag that is a plain number of time, in ns; 0: seconds */
    option_rule *rule; /* instead of the shape's own */
    /* Message for a value of the wrong type: %T its type, %V the value, %K the key; NULL: in Go's words. SHAPE_TEXTS: only the
     * name of what is parsed. */
    const char *wrong;
    const char *wrong_inner; /* the same for an element of SHAPE_BLOCKS */
    const char *fallback;    /* default, as it would be written; NULL: none */
    const char *unit;        /* bytes, seconds, messages, ... for lists; NULL: none */
    const char *field;       /* nats-server's name in messages about reload; NULL: none */
    const char *said;        /* the same in `Reloaded: ...`; NULL: the first name */
    const char *since;       /* version of nats-server; NULL: Bulkhead's own */
    const char *arg;         /* of the flag, in the help */
    const char *doc;         /* one sentence */
};

extern const struct option option_table[];
extern const size_t option_count;

/* The row of a key in a section, whatever its case; NULL: unknown. */
const struct option *option_find(enum section section, struct view key);

/* The row of a flag, without its dashes; NULL: unknown. */
const struct option *option_find_flag(struct view name);

/* The first of its names, or of its flags where it has no name. */
struct view option_name(const struct option *o);

/* The dashes before a flag in lists. */
const char *option_dashes(struct view flag);

/* Walks through a list of names separated by blanks: the next one, and the rest. False at the end. */
bool option_next_name(struct view *name, const char **rest);

/* Zeroes, and the options whose first value is not zero. */
void options_clear(struct options *o);

/* Sets to its default whatever is still 0 or empty, as nats-server does. */
void options_fill(struct options *o);

/* What `processes` says about one kind of process; NULL: it has no row there. */
const struct process_ids *options_process(const struct options *o, const char *name);

/* Where an option with a size lies. */
void *option_place(const struct option *o, struct options *options);
const void *option_place_const(const struct option *o, const struct options *options);

/* True for the shapes that are kept as nanoseconds. */
bool shape_is_time(enum shape shape);

#endif
