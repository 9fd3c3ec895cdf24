#include "authd/accounts.h"

#include <string.h>
#include <sys/mman.h>

/* Looks through the whole book; *known_pos stays as it is if the account is not there. */
static enum err find_global(int fd, uint64_t *known_pos) {
    struct book book;
    enum err e = book_open(&book, fd, false);
    if (e != ERR_OK)
        return e;
    struct book_entry entry;
    while ((e = book_next(&book, &entry)) == ERR_OK) {
        if (entry.type == BOOK_ACCOUNT && entry.account.number == ACCOUNTS_GLOBAL)
            *known_pos = book.pos;
    }
    munmap(book.at, book.bytes);
    return e == ERR_AGAIN ? ERR_OK : e;
}

enum err accounts_open(struct book *book, int fd, uint64_t *known_pos) {
    *known_pos = 0;
    enum err e = find_global(fd, known_pos);
    if (e == ERR_OK)
        e = book_open(book, fd, true);
    if (e != ERR_OK || *known_pos)
        return e;
    struct book_account global = {.number = ACCOUNTS_GLOBAL, .name_len = 2, .name = "$G"};
    e = book_append(book, BOOK_ACCOUNT, &global, sizeof global);
    *known_pos = book->pos;
    return e;
}
