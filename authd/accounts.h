/* authd/accounts.h: the accounts that authd writes into the account book. Today there is one. */
#ifndef AUTHD_ACCOUNTS_H
#define AUTHD_ACCOUNTS_H

#include <stdint.h>

#include "base/err.h"
#include "shm/book.h"

enum { ACCOUNTS_GLOBAL = 1 }; /* the number of "$G" */

/* Opens the book behind fd for writing and sees that it knows "$G". *known_pos: a reader who has come so far knows it.
 * ERR_FORGED: the book is damaged. */
enum err accounts_open(struct book *book, int fd, uint64_t *known_pos);

#endif
