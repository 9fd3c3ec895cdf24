/* SPDX-License-Identifier: Apache-2.0 */
/* base/list.h: lists whose links lie in what they hold.
 *
 * A ring through a head, so a link leaves its list at once, without a look for it, and nothing is ever allocated. A link is on one
 * list or on none: a struct has one link for each list that it may be on at the same time. Being on a list is a flag of its own.
 */
#ifndef BASE_LIST_H
#define BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

/* Zeroed: on no list. */
struct list_link {
    struct list_link *next, *prev;
};

struct list {
    struct list_link head; /* next is the first, prev the last */
};

/* The struct that holds this link as its field; not for a null link. */
/* clang-format off */
#define list_entry(link, type, field) ((type *)(void *)((char *)(link) - offsetof(type, field)))
/* clang-format on */

/* Before anything else is done with a list. */
static inline void list_init(struct list *l) {
    l->head.next = l->head.prev = &l->head;
}

static inline bool list_is_empty(const struct list *l) {
    return l->head.next == &l->head;
}

static inline bool list_has(const struct list_link *link) {
    return link->next != NULL;
}

/* At the end; a link that is on a list stays where it is. */
static inline void list_add(struct list *l, struct list_link *link) {
    if (list_has(link))
        return;
    link->prev = l->head.prev;
    link->next = &l->head;
    l->head.prev->next = link;
    l->head.prev = link;
}

/* Nothing happens to a link that is on no list. */
static inline void list_remove(struct list_link *link) {
    if (!list_has(link))
        return;
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->next = link->prev = NULL;
}

/* Takes the first one out; null: the list is empty. */
static inline struct list_link *list_pop(struct list *l) {
    struct list_link *first = l->head.next;
    if (first == &l->head)
        return NULL;
    list_remove(first);
    return first;
}

/* All links on `from` move to `to`, which need not be initialized. */
static inline void list_move(struct list *to, struct list *from) {
    list_init(to);
    if (list_is_empty(from))
        return;
    to->head = from->head;
    to->head.next->prev = to->head.prev->next = &to->head;
    list_init(from);
}

#endif
