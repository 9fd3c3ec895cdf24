/* SPDX-License-Identifier: Apache-2.0 */
/* authd/identity.h: from what the configuration says to numbers that outlive it.
 *
 * Accounts, users and permission sets have numbers that are given once per life of the server. Holding a table of users
 * against the ledger gives each of its users these numbers, and writes into the account book what follows for those who
 * are connected already: who is removed, moved or has other credentials is ended, who has other permissions keeps the
 * connection under the new ones.
 */
#ifndef AUTHD_IDENTITY_H
#define AUTHD_IDENTITY_H

#include "authd/ledger.h"
#include "authd/users.h"
#include "shm/book.h"

struct identity {
    struct book book;
    struct ledger ledger;
    struct identity_index *accounts, *sets; /* what the book has */
};

/* Reads what earlier lives left in both memories. ERR_FORGED: the book is damaged. */
enum err identity_open(struct identity *id, int book_fd, int ledger_fd);
void identity_close(struct identity *id);

/* True if the book and the ledger have room for what identity_apply could write. */
bool identity_has_room(const struct identity *id, const struct users *users);

/* Gives the table its numbers, writes the changes. serial: the lowest that will be given from now on. subs_max is the
 * server's own. ERR_LONG: no room. Can be repeated after any interruption. */
enum err identity_apply(struct identity *id, struct users *users, uint64_t serial, uint32_t subs_max);

#endif
