/* bulkhead-signer: holds the private keys of TLS. What there is so far keeps the conversation with the supervisor. */
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sandbox.h"
#include "ipc/channel.h"
#include "ipc/control.pb-c.h"
#include "ipc/note.h"
#include "ipc/settings.h"

#include <poll.h>
#include <sys/socket.h>

static struct settings settings;
static struct settings_change change;

static enum err on_settings(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)owner;
    close(fds[0]);
    c->state = 1;
    return settings_take(&settings, message);
}

static enum err on_close(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)owner, (void)message;
    close(fds[0]);
    return ERR_OK;
}

static enum err on_prepare(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)owner, (void)fds;
    return settings_prepare(&change, c->fd, message, UINT64_MAX);
}

static enum err on_commit(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)owner, (void)fds;
    enum err e = settings_commit(&settings, &change, message);
    return e == ERR_OK ? note_send(c->fd, NOTE_APPLIED, settings.generation, 0) : e;
}

static enum err on_stop(struct channel *c, void *owner, const void *message, const int *fds) {
    (void)c, (void)owner, (void)message, (void)fds;
    exit(0);
}

static const struct channel_rule rules[] = {
    {MESSAGE_SETTINGS, 1, 1, 4096, &bulkhead__settings__descriptor, on_settings},
    {MESSAGE_KEYS, 1, 2, 64, &bulkhead__keys__descriptor, on_close},
    {MESSAGE_PEER, 1, 2, 64, &bulkhead__peer__descriptor, on_close},
    {MESSAGE_PREPARE, 0, 2, 4096, &bulkhead__settings__descriptor, on_prepare},
    {MESSAGE_COMMIT, 0, 2, 64, &bulkhead__commit__descriptor, on_commit},
    {MESSAGE_STOP, 0, 3, 64, &bulkhead__stop__descriptor, on_stop},
};

int main(void) {
    static struct channel control;
    sandbox_start();
    if (channel_open(&control, CONTROL_FD, "supervisor", rules, sizeof rules / sizeof *rules, &control, 1) != ERR_OK)
        return 1;
    for (;;) {
        struct pollfd waits = {CONTROL_FD, POLLIN, 0};
        poll(&waits, 1, -1);
        enum err e = channel_receive(&control, 64);
        if (e == ERR_END)
            exit(0);
        if (e != ERR_OK)
            log_die("The supervisor's conversation broke: %s", err_text(e));
    }
}
