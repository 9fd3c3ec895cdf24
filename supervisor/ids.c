/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/ids.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static bool is_number(const char *text, uint32_t *number) {
    if (!*text || text[strspn(text, "0123456789")])
        return false;
    unsigned long n = strtoul(text, NULL, 10);
    *number = n >= UINT32_MAX ? UINT32_MAX : (uint32_t)n;
    return true;
}

static uint32_t count_of(const struct family_role *role, uint32_t frontends) {
    return role->kind ? frontends : role->most;
}

static bool is_ours(const char *name) {
    return strncmp(name, "bulkhead", 8) == 0;
}

void ids_fill(struct process_id ids[static FAMILY_UIDS], uint32_t uid_base) {
    for (uint32_t i = 0; i < FAMILY_UIDS; i++)
        ids[i] = (struct process_id){uid_base + i, uid_base + i};
}

static enum err check_base(uint32_t uid_base, char *why, size_t cap) {
    for (uint32_t i = 0; i < FAMILY_UIDS; i++) {
        const struct passwd *user = getpwuid(uid_base + i);
        if (user && !is_ours(user->pw_name)) {
            snprintf(why, cap, "user id %u belongs to \"%s\"; choose %d free ids with --uid_base", uid_base + i,
                     user->pw_name, FAMILY_UIDS);
            return ERR_SYSTEM;
        }
        const struct group *group = getgrgid(uid_base + i);
        if (group && !is_ours(group->gr_name)) {
            snprintf(why, cap, "group id %u belongs to \"%s\"; choose %d free ids with --uid_base", uid_base + i,
                     group->gr_name, FAMILY_UIDS);
            return ERR_SYSTEM;
        }
    }
    return ERR_OK;
}

/* One name for all processes of the kind. */
static enum err take_name(struct process_id *ids, uint32_t count, const char *kind, const char *name, char *why,
                          size_t cap) {
    const struct passwd *user = getpwnam(name);
    if (!user) {
        snprintf(why, cap, "processes.%s.user: unknown user \"%s\"", kind, name);
        return ERR_SYSTEM;
    }
    for (uint32_t i = 0; i < count; i++)
        ids[i] = (struct process_id){user->pw_uid, user->pw_gid};
    return ERR_OK;
}

/* The first is chosen, whoever it belongs to; the further ones must be free. */
static enum err take_numbers(struct process_id *ids, uint32_t count, const char *kind, uint32_t first, char *why,
                             size_t cap) {
    if (first > UINT32_MAX - 1000) {
        snprintf(why, cap, "processes.%s.user: there is no such user id", kind);
        return ERR_SYSTEM;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct passwd *user = getpwuid(first + i);
        if (user && i && !is_ours(user->pw_name)) {
            snprintf(why, cap, "processes.%s.user: id %u belongs to \"%s\", %u free ids from %u on are needed", kind,
                     first + i, user->pw_name, count, first);
            return ERR_SYSTEM;
        }
        ids[i] = (struct process_id){first + i, user ? user->pw_gid : first + i};
    }
    return ERR_OK;
}

static enum err take_group(struct process_id *ids, uint32_t count, const char *kind, const char *name, char *why,
                           size_t cap) {
    uint32_t gid = 0;
    if (!is_number(name, &gid)) {
        const struct group *group = getgrnam(name);
        if (!group) {
            snprintf(why, cap, "processes.%s.group: unknown group \"%s\"", kind, name);
            return ERR_SYSTEM;
        }
        gid = group->gr_gid;
    }
    for (uint32_t i = 0; i < count; i++)
        ids[i].gid = gid;
    return ERR_OK;
}

static enum err take_kind(struct process_id *ids, uint32_t count, const char *kind, const struct process_ids *given,
                          char *why, size_t cap) {
    enum err e = ERR_OK;
    uint32_t first;
    if (is_number(given->user, &first))
        e = take_numbers(ids, count, kind, first, why, cap);
    else if (given->user[0])
        e = take_name(ids, count, kind, given->user, why, cap);
    if (e == ERR_OK && given->group[0])
        e = take_group(ids, count, kind, given->group, why, cap);
    for (uint32_t i = 0; i < count && e == ERR_OK; i++) {
        if (ids[i].uid && ids[i].gid && ids[i].gid != UINT32_MAX)
            continue;
        snprintf(why, cap, "processes.%s: %s", kind,
                 ids[i].uid && ids[i].gid ? "there is no such group id" : "a process may not run as root");
        e = ERR_SYSTEM;
    }
    return e;
}

enum err ids_resolve(struct process_id ids[static FAMILY_UIDS], const struct options *o, uint32_t frontends, char *why,
                     size_t cap) {
    ids_fill(ids, (uint32_t)o->uid_base);
    enum err e = check_base((uint32_t)o->uid_base, why, cap);
    for (int i = 0; i < FAMILY_ROLE_END && e == ERR_OK; i++) {
        const struct family_role *role = family_role((Bulkhead__Role)i);
        const struct process_ids *given = role ? options_process(o, role->name) : NULL;
        if (given)
            e = take_kind(ids + role->uid_offset, count_of(role, frontends), role->name, given, why, cap);
    }
    return e;
}

/* Sharing a user id within a role is harmless (two routers see the same data), except for frontends, whose clients differ. */
static void say_pair(const struct process_id *ids, const struct family_role *a, const struct family_role *b,
                     uint32_t frontends) {
    for (uint32_t i = 0; i < count_of(a, frontends); i++) {
        for (uint32_t k = a == b ? i + 1 : 0; k < count_of(b, frontends); k++) {
            uid_t uid = ids[a->uid_offset + i].uid;
            if (uid != ids[b->uid_offset + k].uid)
                continue;
            if (a == b)
                log_warn("All %s processes share user id %u: fewer walls stand between them", a->name, uid);
            else
                log_warn("%s and %s share user id %u: fewer walls stand between them", a->name, b->name, uid);
            return;
        }
    }
}

void ids_say(const struct process_id ids[static FAMILY_UIDS], uint32_t frontends) {
    for (int i = 0; i < FAMILY_ROLE_END; i++) {
        for (int k = i; k < FAMILY_ROLE_END; k++) {
            const struct family_role *a = family_role((Bulkhead__Role)i), *b = family_role((Bulkhead__Role)k);
            if (a && b && (a != b || a->kind))
                say_pair(ids, a, b, frontends);
        }
    }
}
