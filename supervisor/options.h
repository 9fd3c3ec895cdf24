/* supervisor/options.h: the command line.
 *
 * Go flag rules, as nats-server has them: one dash or two are the same, a value follows as the next word or behind '=',
 * a boolean takes a value only behind '=', short flags do not combine, and parsing stops at the first word that is no
 * flag.
 */
#ifndef SUPERVISOR_OPTIONS_H
#define SUPERVISOR_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

enum { OPTION_TEXT_MAX = 255 };

struct options {
    char host[OPTION_TEXT_MAX + 1];
    char name[OPTION_TEXT_MAX + 1];           /* empty: the server id */
    char pid_file[OPTION_TEXT_MAX + 1];       /* empty: none */
    char ports_file_dir[OPTION_TEXT_MAX + 1]; /* empty: none */
    int32_t port;                             /* -1: any free one */
    bool debug, trace;
    uint32_t max_payload, max_control_line; /* bytes */
    uint64_t max_pending;                   /* bytes */
    uint32_t max_connections;
    uint32_t max_subscriptions, max_sub_tokens; /* 0: no limit */
    uint32_t ping_interval_ms, ping_max, write_deadline_ms, auth_timeout_ms;
    uint32_t source_wait_ms, source_share_ms, edge_dead_ms, replay_ms;
    uint64_t spill_bytes;
    uint32_t frontends; /* 0: by the number of cores */
    uint32_t uid_base;
};

enum options_verdict { OPTIONS_RUN, OPTIONS_EXIT_0, OPTIONS_EXIT_1 };

/* Fills o from the words behind argv[0]. Anything but OPTIONS_RUN has printed what there is to say. */
enum options_verdict options_parse(struct options *o, int argc, char **argv);

#endif
