/* SPDX-License-Identifier: Apache-2.0 */
/* The configuration in force: which users there are, and what that means for the edges and the router. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "authd/authd.h"
#include "base/log.h"
#include "shm/memfd.h"

enum { PART_BYTES_MAX = 128 << 20 };

void part_stage(struct authd *a, int fd, uint32_t generation) {
    if (a->part_fd >= 0)
        close(a->part_fd);
    a->part_fd = fd;
    a->part_generation = generation;
}

static enum err read_text(struct authd *a, struct view text) {
    struct arena arena = {0};
    struct text why = {.arena = &arena};
    users_free(a->users_next);
    a->users_next = NULL;
    enum err e = users_read(&a->users_next, text, a->identity.ledger.memory->key, &why);
    if (e != ERR_OK)
        log_error("The users of the configuration cannot be taken: %.*s", (int)why.len, why.at);
    arena_free(&arena);
    return e;
}

/* The descriptor is closed whatever comes of it. */
static enum err read_part(struct authd *a, int fd) {
    size_t bytes = 0;
    void *at;
    enum err e = memfd_size(fd, &bytes);
    if (e == ERR_OK && bytes > PART_BYTES_MAX)
        e = ERR_LONG;
    if (e == ERR_OK && bytes)
        e = memfd_map(&at, fd, bytes, 0);
    close(fd);
    if (e != ERR_OK)
        return e;
    if (!bytes)
        return read_text(a, view_of("", 0));
    madvise(at, bytes, MADV_DONTDUMP);
    e = read_text(a, view_of(at, strnlen(at, bytes)));
    munmap(at, bytes);
    return e;
}

/* A part whose descriptor was taken out; ERR_OK without one. */
static enum err read_staged(struct authd *a) {
    int fd = a->part_fd;
    a->part_fd = -1;
    return fd < 0 ? ERR_OK : read_part(a, fd);
}

bool part_prepare(struct authd *a, uint32_t generation) {
    users_free(a->users_next);
    a->users_next = NULL;
    if (a->part_fd < 0 || a->part_generation != generation)
        return true;
    if (read_staged(a) != ERR_OK)
        return false;
    if (identity_has_room(&a->identity, a->users_next))
        return true;
    log_error("The account book or the ledger has no room for another configuration: restart the server to reload it");
    return false;
}

void part_commit(struct authd *a) {
    struct users *old = a->users;
    if (a->users_next) {
        a->users = a->users_next;
        a->users_next = NULL;
        a->table++;
        users_free(old);
    }
    enum err e = identity_apply(&a->identity, a->users, a->logins.serial + 1, a->settings.max_subscriptions);
    if (e != ERR_OK)
        log_die("The users of the configuration cannot be applied: %s", err_text(e));
    a->known_pos = a->identity.book.pos;
    edges_set_policy(a);
    router_tell(a);
}

enum err part_start(struct authd *a, int book_fd, int ledger_fd) {
    enum err e = identity_open(&a->identity, book_fd, ledger_fd);
    if (e != ERR_OK)
        return e;
    e = read_staged(a);
    if (e == ERR_OK && !a->users_next)
        e = read_text(a, view_of("", 0));
    if (e != ERR_OK)
        return e;
    if (a->users_next->has_plain)
        log_warn("Plaintext passwords detected, use nkeys or bcrypt");
    part_commit(a);
    return ERR_OK;
}
