/* SPDX-License-Identifier: Apache-2.0 */
/* A daemon that does nothing: it takes settings, answers to pokes and reloads, and ends when it is told to. */
#include <stdlib.h>
#include <poll.h>

#include "base/log.h"
#include "ipc/channel.h"
#include "ipc/control.pb-c.h"
#include "ipc/note.h"
#include "ipc/settings.h"
#include "shm/counters.h"
#include "shm/memfd.h"

static struct settings settings;
static struct settings_change change;
static struct counters *counters;

static enum err on_settings(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)owner;
    void *at;
    if (settings_take(&settings, message) != ERR_OK ||
        memfd_map(&at, fds[0], memfd_round(sizeof(struct counters)), 1) != ERR_OK)
        return ERR_RANGE;
    counters = at;
    return note_send(c, NOTE_READY, 0, 0);
}

static enum err on_prepare(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)owner, (void)fds;
    return settings_prepare(&change, c, message, UINT64_MAX);
}

static enum err on_commit(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)owner, (void)fds;
    enum err e = settings_commit(&settings, &change, message);
    log_info("generation %u", settings.generation);
    return e == ERR_OK ? note_send(c, NOTE_APPLIED, settings.generation, 0) : e;
}

static enum err on_poke(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)owner, (void)message, (void)fds;
    counter_add(counters, COUNTER_HEARTBEAT, 1);
    return ERR_OK;
}

static enum err on_stop(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)owner, (void)message, (void)fds;
    exit(0);
}

static const struct channel_rule rules[] = {
    {MESSAGE_SETTINGS, 1, 1, 4096, &bulkhead__settings__descriptor, on_settings},
    {MESSAGE_PREPARE, 0, 1, 4096, &bulkhead__settings__descriptor, on_prepare},
    {MESSAGE_COMMIT, 0, 1, 64, &bulkhead__commit__descriptor, on_commit},
    {MESSAGE_POKE, 0, 1, 0, &bulkhead__poke__descriptor, on_poke},
    {MESSAGE_STOP, 0, 1, 64, &bulkhead__stop__descriptor, on_stop},
};

int main(void) {
    struct channel control;
    if (channel_open(&control, CONTROL_FD, "supervisor", rules, sizeof rules / sizeof *rules, NULL, 1) != ERR_OK)
        log_die("No control socket");
    while (poll(&(struct pollfd){CONTROL_FD, POLLIN, 0}, 1, -1) >= 0) {
        if (channel_receive(&control, 16) != ERR_OK)
            return 1;
    }
    return 1;
}
