/* SPDX-License-Identifier: Apache-2.0 */
/* Reload: the file is read anew and compared; then routers, authd and the signer get the new parts (parts.c) and are asked
 * whether they can take the new settings; then all take them.
 *
 *   IDLE --HUP--> WAITING --authd and signer run--> READING --every change may be made--> PREPARING
 *   PREPARING --all say yes--> ROUTERS --> AUTH --> EDGES --> IDLE
 *   WAITING, READING, PREPARING --a fault; a no; authd or the signer silent or dead--> IDLE, as it was
 *
 * An edge has no veto: it is exposed to the network, and one that is lost could keep stolen credentials good for ever. What
 * it could refuse the reader and the router refuse before it; a revocation holds when the stage AUTH is over. An edge that
 * says no all the same, or nothing, is killed, and its successor starts with the new settings. Nobody else is waited for
 * longer than ANSWER_MS either: a silent process is killed, in whatever stage.
 *
 * While the file is read the family goes on: READING waits for the reader as PREPARING does for answers, so that a death
 * meanwhile costs no more than any other. A second HUP waits for its turn in every stage.
 *
 * From ROUTERS on the new settings are the server's: who starts then starts with them. Who gets more goes before who
 * gives more: routers, then authd and the signer, then the edges.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "supervisor/files.h"
#include "supervisor/notify.h"
#include "supervisor/supervisor.h"

#ifdef BULKHEAD_SANITIZED
enum { ANSWER_MS = 60000 };
#else
enum { ANSWER_MS = 3000 };
#endif

static void refuse(struct supervisor *s, const char *why) {
    struct reloading *r = &s->reload;
    if (r->has_sink)
        sink_close(&r->sink, s->stderr_fd);
    r->has_sink = false;
    secrets_close(&r->parts.secrets);
    r->stage = RELOAD_IDLE;
    for (uint32_t i = 0; i < FAMILY_UIDS; i++)
        s->child[i].awaited = false;
    signer_settle(s, child_of(s, BULKHEAD__ROLE__ROLE_SIGNER, 0));
    log_error("Failed to reload server configuration: %s", why);
    notify_ready();
}

/* One line out of several. */
static void join_lines(char *text) {
    size_t len = strlen(text);
    while (len && text[len - 1] == '\n')
        text[--len] = '\0';
    for (char *c = text; *c; c++) {
        if (*c == '\n')
            *c = ';';
    }
}

static bool is_edge(const struct child *c) {
    return c->role->reload == RELOAD_EDGES;
}

static bool takes_settings(const struct child *c) {
    return c->pid && !c->blamed && !c->dismissed && c->role->reload != RELOAD_IDLE;
}

/* Who decides about identity must hear of every change before it holds; null: nobody. */
static const char *who_is_missing(struct supervisor *s) {
    if (!takes_settings(child_of(s, BULKHEAD__ROLE__ROLE_AUTHD, 0)))
        return "authd is not running";
    if (s->parts.tls.given && !takes_settings(child_of(s, BULKHEAD__ROLE__ROLE_SIGNER, 0)))
        return "the signer is not running";
    return NULL;
}

static bool anybody_awaited(const struct supervisor *s) {
    for (uint32_t i = 0; i < FAMILY_UIDS; i++) {
        if (s->child[i].awaited && s->child[i].pid)
            return true;
    }
    return false;
}

static void send_prepare(struct supervisor *s, struct child *c, const struct settings *settings, struct parts *parts) {
    Bulkhead__Settings message;
    parts_send(s, c, parts, settings->generation);
    settings_fill(&message, settings);
    child_send(s, c, MESSAGE_PREPARE, &message.base, NULL, 0);
}

/* ---- the last stage ---- */

static void finish(struct supervisor *s) {
    struct reloading *r = &s->reload;
    for (size_t i = 0; i < r->changes.count; i++)
        log_info("%.*s", (int)r->changes.at[i].line.len, r->changes.at[i].line.at);
    log_info("Reloaded server configuration");
    r->stage = RELOAD_IDLE;
    signer_settle(s, child_of(s, BULKHEAD__ROLE__ROLE_SIGNER, 0));
    notify_ready();
}

static void send_commits(struct supervisor *s) {
    Bulkhead__Commit commit = BULKHEAD__COMMIT__INIT;
    commit.generation = s->settings.generation;
    for (uint32_t i = 0; i < FAMILY_UIDS; i++) {
        struct child *c = &s->child[i];
        if (!takes_settings(c) || c->generation == s->settings.generation || c->role->reload != s->reload.stage)
            continue;
        if (c->prepared != s->settings.generation) /* an edge, or it was started after the others were asked */
            send_prepare(s, c, &s->settings, &s->parts);
        child_send(s, c, MESSAGE_COMMIT, &commit.base, NULL, 0);
        c->awaited = true;
    }
    s->reload.until_ms = s->now_ms + ANSWER_MS;
}

/* What concerns the supervisor itself. */
static void apply_own(struct supervisor *s, const struct options *old) {
    const struct options *o = &s->config.options;
    struct reloading *r = &s->reload;
    log_set(o->debug, o->trace);
    if (r->has_sink) {
        sink_close(&s->sink, s->stderr_fd);
        s->sink = r->sink;
        s->sink_restart_ms = 0;
        r->has_sink = false;
    }
    s->sink_limit = (uint64_t)o->log_size_limit;
    logging_send_sink(s);
    if (strcmp(old->pid_file, o->pid_file) != 0 && o->pid_file[0] && files_write_pid(o->pid_file) != 0)
        log_error("Could not write pidfile: %s: %s", o->pid_file, strerror(errno));
    if (strcmp(old->ports_file_dir, o->ports_file_dir) != 0) {
        files_remove_ports(old->ports_file_dir, supervisor_name(s));
        files_write_ports(o->ports_file_dir, supervisor_name(s), o->host, s->settings.bound_port, s->parts.tls.given);
    }
    if (old->max_connections != o->max_connections)
        places_resize(&s->places, settings_connections(s), s->now_ms);
}

static void commit(struct supervisor *s) {
    static struct options old;
    struct reloading *r = &s->reload;
    old = s->config.options;
    s->config = r->next;
    s->settings = r->settings;
    secrets_close(&s->parts.secrets);
    s->parts = r->parts;
    r->parts.secrets = SECRETS_NONE;
    settings_hold(s);
    r->stage = RELOAD_ROUTERS;
    apply_own(s, &old);
    send_commits(s);
    reload_go_on(s);
}

void reload_go_on(struct supervisor *s) {
    struct reloading *r = &s->reload;
    while (r->stage > RELOAD_READING && !anybody_awaited(s)) {
        switch (r->stage) {
        case RELOAD_PREPARING:
            commit(s);
            return;
        case RELOAD_ROUTERS:
        case RELOAD_AUTH:
            r->stage++;
            send_commits(s);
            break;
        case RELOAD_EDGES:
            finish(s);
            break;
        case RELOAD_IDLE:
        case RELOAD_WAITING:
        case RELOAD_READING:
            break;
        }
    }
    if (r->stage == RELOAD_IDLE && r->again) {
        r->again = false;
        reload_begin(s);
    }
}

/* ---- the first stages ---- */

static bool sink_changes(const struct options *a, const struct options *b) {
    return strcmp(a->log_file, b->log_file) != 0 || strcmp(a->remote_syslog, b->remote_syslog) != 0 ||
           a->syslog != b->syslog;
}

static void ask(struct supervisor *s) {
    struct reloading *r = &s->reload;
    r->stage = RELOAD_PREPARING;
    r->until_ms = s->now_ms + ANSWER_MS;
    signer_start(s, &r->parts, r->settings.generation);
    if (r->parts.tls.given && !takes_settings(child_of(s, BULKHEAD__ROLE__ROLE_SIGNER, 0))) {
        refuse(s, "the signer is not running");
        return;
    }
    for (uint32_t i = 0; i < FAMILY_UIDS; i++) {
        struct child *c = &s->child[i];
        c->awaited = takes_settings(c) && !is_edge(c);
        if (c->awaited)
            send_prepare(s, c, &r->settings, &r->parts);
    }
    reload_go_on(s);
}

static void say_too_late(const struct supervisor *s) {
    if (s->lame && !s->stop)
        log_error("Failed to reload server configuration: the server is a lame duck and ends soon; nothing has changed");
}

/* The reader has ended. */
static void on_reading(struct supervisor *s) {
    struct reloading *r = &s->reload;
    struct reader_result *result = &s->reading.result;
    if (s->stop || s->lame) {
        say_too_late(s);
        secrets_close(&r->parts.secrets);
        r->stage = RELOAD_IDLE;
        return;
    }
    const char *missing = who_is_missing(s);
    if (missing) {
        refuse(s, missing);
        return;
    }
    join_lines(result->message);
    if (!result->valid) {
        refuse(s, result->message);
        return;
    }
    if (result->message[0])
        log_warn("%s", result->message);
    arena_free(&r->arena);
    r->arena = (struct arena){0};
    r->changes = (struct reload_changes){0};
    struct text why = {.arena = &r->arena};
    r->next = result->state;
    if (reload_compare(&s->config, &r->next, &r->arena, &r->changes, &why) != ERR_OK) {
        text_add_byte(&why, '\0');
        refuse(s, why.at);
        return;
    }
    char problem[OPTION_PATH_MAX + 256];
    if (sink_changes(&s->config.options, &r->next.options)) {
        if (sink_open(&r->sink, &r->next.options, s->stderr_fd, problem, sizeof problem) != ERR_OK) {
            refuse(s, problem);
            return;
        }
        r->has_sink = true;
    }
    r->settings = s->settings;
    settings_fill_from(&r->settings, &r->next.options);
    r->settings.generation = ++s->generation_count;
    ask(s);
}

static void read_anew(struct supervisor *s) {
    s->reload.stage = RELOAD_READING;
    parts_read(s, false, &s->reload.parts);
    if (s->reading.done)
        on_reading(s);
}

void reload_begin(struct supervisor *s) {
    struct reloading *r = &s->reload;
    if (s->stop || s->lame) {
        say_too_late(s);
        return;
    }
    if (r->stage != RELOAD_IDLE) {
        r->again = true;
        return;
    }
    if (!s->flags.config_path) {
        refuse(s, "can only reload config when a file is provided using -c or --config");
        return;
    }
    notify_reloading();
    r->stage = RELOAD_WAITING;
    r->until_ms = s->now_ms + ANSWER_MS;
    if (who_is_missing(s))
        return;
    read_anew(s);
    reload_go_on(s);
}

/* ---- answers ---- */

static void on_refusal(struct supervisor *s, const struct child *c, uint64_t why) {
    char text[256];
    snprintf(text, sizeof text, "%s %u cannot take it: %s", c->role->name, c->index,
             why == SETTINGS_RINGS_TOO_SMALL
                 ? "max_payload or max_control_line is too large for the rings this server was started with"
                 : "a value is out of bounds, or its part of the configuration cannot be used");
    refuse(s, text);
}

/* The reader has ended, or somebody who was asked: its successor has not been asked, and what it would start with is not what the others said yes to. */
void reload_on_exit(struct supervisor *s, const struct child *c) {
    char text[64];
    if (s->reload.stage == RELOAD_READING && c->role->role == BULKHEAD__ROLE__ROLE_CONFIG) {
        on_reading(s);
        return;
    }
    if (s->reload.stage != RELOAD_PREPARING || c->role->reload != RELOAD_AUTH)
        return;
    snprintf(text, sizeof text, "%s died when it was asked", c->role->name);
    refuse(s, text);
}

void reload_on_answer(struct supervisor *s, struct child *c, const struct note *note) {
    struct reloading *r = &s->reload;
    bool prepared = note->type == NOTE_PREPARED, applied = note->type == NOTE_APPLIED;
    if (c->dismissed)
        return;
    if (note->number > r->settings.generation || !takes_settings(c)) {
        child_blame(c, "answered what it was not asked");
        return;
    }
    if (prepared && note->number == r->settings.generation && note->value == SETTINGS_FINE) {
        c->prepared = note->number;
        log_debug("%s %u (pid %d) can take the new settings", c->role->name, c->index, (int)c->pid);
    }
    if (!c->awaited || note->number != r->settings.generation)
        return; /* of a reload that was given up */
    if (prepared && note->value != SETTINGS_FINE) {
        if (r->stage == RELOAD_PREPARING)
            on_refusal(s, c, note->value);
        else
            child_blame(c, "cannot take the settings that hold now");
    } else if (applied == (r->stage != RELOAD_PREPARING)) {
        c->awaited = false;
        if (applied) {
            c->generation = note->number;
            log_debug("%s %u (pid %d) has the new settings", c->role->name, c->index, (int)c->pid);
        }
    }
    reload_go_on(s);
}

/* Returns who has to decide about identity and said nothing, or NULL. */
static const char *kill_silent(struct supervisor *s) {
    const char *decisive = NULL;
    bool asked = s->reload.stage == RELOAD_PREPARING;
    for (uint32_t i = 0; i < FAMILY_UIDS; i++) {
        struct child *c = &s->child[i];
        if (c->awaited && c->pid) {
            child_blame(c, asked ? "does not say whether it can take new settings" : "does not apply its new settings");
            if (c->role->reload == RELOAD_AUTH)
                decisive = c->role->name;
        }
        c->awaited = false;
    }
    return decisive;
}

/* A router that says nothing decides nothing, as long as another one has said yes. */
static bool router_agrees(struct supervisor *s) {
    for (uint32_t i = 0; i < family_role(BULKHEAD__ROLE__ROLE_ROUTER)->most; i++) {
        const struct child *c = child_of(s, BULKHEAD__ROLE__ROLE_ROUTER, i);
        if (takes_settings(c) && c->prepared == s->reload.settings.generation)
            return true;
    }
    return false;
}

static void time_is_over(struct supervisor *s) {
    char text[64];
    const char *silent = kill_silent(s);
    if (s->reload.stage != RELOAD_PREPARING)
        return;
    if (!silent && !router_agrees(s))
        silent = "the router";
    snprintf(text, sizeof text, "%s does not answer", silent ? silent : "");
    if (silent)
        refuse(s, text);
}

uint64_t reload_tick(struct supervisor *s) {
    struct reloading *r = &s->reload;
    if (r->stage == RELOAD_IDLE || r->stage == RELOAD_READING)
        return 0;
    if (r->stage == RELOAD_WAITING) {
        const char *missing = who_is_missing(s);
        if (!missing)
            read_anew(s);
        else if (s->now_ms >= r->until_ms)
            refuse(s, missing);
        reload_go_on(s);
    }
    if (r->stage == RELOAD_IDLE || s->now_ms < r->until_ms)
        return r->stage == RELOAD_IDLE ? 0 : r->until_ms;
    time_is_over(s);
    reload_go_on(s);
    return r->stage == RELOAD_IDLE ? 0 : r->until_ms;
}
