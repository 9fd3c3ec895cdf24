/* SPDX-License-Identifier: Apache-2.0 */
#include "authd/ledger.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "shm/memfd.h"

/* ---- users ---- */

static uint64_t version_of(const struct ledger *l, uint32_t number) {
    return atomic_load_explicit(&l->memory->entry[number].version, memory_order_acquire);
}

static uint32_t high_of(const struct ledger *l) {
    uint32_t high = atomic_load_explicit(&l->memory->entries_high, memory_order_acquire);
    return high < LEDGER_ENTRIES ? high : LEDGER_ENTRIES;
}

void ledger_free(struct ledger *l, uint32_t number) {
    if (number < l->hint)
        l->hint = number;
    atomic_store_explicit(&l->memory->entry[number].version, 0, memory_order_release);
    l->live--;
}

struct listed {
    const struct ledger_entry *entry;
    uint32_t number;
    uint64_t version;
};

static int compare_listed(const void *left, const void *right) {
    const struct listed *a = left, *b = right;
    int order = memcmp(a->entry->user.name, b->entry->user.name, LEDGER_NAME_BYTES);
    return order ? order : (a->version > b->version) - (a->version < b->version);
}

/* A death left the old entry of a user beside the new one. */
static enum err repair(struct ledger *l) {
    uint32_t count = 0, high = high_of(l);
    struct listed *list = malloc((high + 1) * sizeof *list);
    if (!list)
        return ERR_NOMEM;
    for (uint32_t i = 0; i < high; i++) {
        uint64_t version = version_of(l, i);
        if (!version)
            continue;
        list[count++] = (struct listed){&l->memory->entry[i], i, version};
        if (version > l->version_high)
            l->version_high = version;
    }
    l->live = count;
    qsort(list, count, sizeof *list, compare_listed);
    for (uint32_t i = 0; i + 1 < count; i++) {
        if (memcmp(list[i].entry->user.name, list[i + 1].entry->user.name, LEDGER_NAME_BYTES) == 0)
            ledger_free(l, list[i].number);
    }
    free(list);
    return ERR_OK;
}

enum err ledger_open(struct ledger *l, int fd) {
    size_t bytes;
    void *at;
    enum err e = memfd_size(fd, &bytes);
    if (e == ERR_OK && bytes < sizeof(struct ledger_memory))
        e = ERR_RANGE;
    if (e == ERR_OK)
        e = memfd_map(&at, fd, bytes, 1);
    if (e != ERR_OK)
        return e;
    *l = (struct ledger){.memory = at};
    madvise(at, bytes, MADV_DONTDUMP);
    if (!atomic_load_explicit(&l->memory->made, memory_order_acquire)) {
        randombytes_buf(l->memory->key, sizeof l->memory->key);
        atomic_store_explicit(&l->memory->made, 1, memory_order_release);
    }
    return repair(l);
}

void ledger_close(struct ledger *l) {
    munmap(l->memory, LEDGER_BYTES);
    l->memory = NULL;
}

uint32_t ledger_find(const struct ledger *l, const uint8_t name[static LEDGER_NAME_BYTES]) {
    for (uint32_t i = 0; i < high_of(l); i++) {
        if (version_of(l, i) && memcmp(l->memory->entry[i].user.name, name, LEDGER_NAME_BYTES) == 0)
            return i;
    }
    return UINT32_MAX;
}

uint32_t ledger_new_principal(struct ledger *l) {
    uint32_t high = atomic_load_explicit(&l->memory->principal_high, memory_order_relaxed);
    if (high == UINT32_MAX)
        return 0;
    atomic_store_explicit(&l->memory->principal_high, high + 1, memory_order_release);
    return high + 1;
}

uint32_t ledger_put(struct ledger *l, const struct ledger_user *user, uint32_t replaced) {
    while (l->hint < high_of(l) && version_of(l, l->hint))
        l->hint++;
    uint32_t number = l->hint;
    if (number == LEDGER_ENTRIES)
        return UINT32_MAX;
    if (number == high_of(l))
        atomic_store_explicit(&l->memory->entries_high, number + 1, memory_order_release);
    struct ledger_entry *entry = &l->memory->entry[number];
    entry->user = *user;
    atomic_store_explicit(&entry->version, ++l->version_high, memory_order_release);
    l->live++;
    if (replaced != UINT32_MAX)
        ledger_free(l, replaced);
    return number;
}

/* ---- nonces ----
 *
 * A nonce says where it lies: its first two bytes are its place, hidden under a keyed hash of the nine random ones. */

static uint16_t mask_of(const struct ledger *l, uint32_t link, const uint8_t *bytes) {
    uint8_t hash[crypto_generichash_BYTES_MIN], from[LEDGER_NONCE_BYTES - 2 + 1];
    uint16_t mask;
    memcpy(from, bytes + 2, LEDGER_NONCE_BYTES - 2);
    from[sizeof from - 1] = (uint8_t)link;
    crypto_generichash(hash, sizeof hash, from, sizeof from, l->memory->key, LEDGER_KEY_BYTES);
    memcpy(&mask, hash, sizeof mask);
    return mask;
}

void nonces_open_link(struct ledger *l, uint32_t link, uint64_t incarnation) {
    struct ledger_link *table = &l->memory->link[link];
    if (table->incarnation == incarnation)
        return;
    /* After a death between the two stores the same happens again. */
    table->epoch++;
    atomic_signal_fence(memory_order_release);
    table->incarnation = incarnation;
}

void nonces_give(struct ledger *l, uint32_t link, uint64_t now_ms, char text[static NONCE_CHARS]) {
    struct ledger_link *table = &l->memory->link[link];
    uint16_t place = (uint16_t)(table->next++ % LEDGER_NONCES);
    struct ledger_nonce *nonce = &table->nonce[place];
    char encoded[NONCE_CHARS + 1];
    /* Never is a new nonce good with the old time, nor the old one with the new time. */
    atomic_store_explicit(&nonce->state, NONCE_NEVER, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    nonce->given_ms = now_ms;
    nonce->epoch = table->epoch;
    randombytes_buf(nonce->bytes + 2, sizeof nonce->bytes - 2);
    uint16_t hidden = place ^ mask_of(l, link, nonce->bytes);
    memcpy(nonce->bytes, &hidden, sizeof hidden);
    atomic_store_explicit(&nonce->state, NONCE_GIVEN, memory_order_release);
    sodium_bin2base64(encoded, sizeof encoded, nonce->bytes, sizeof nonce->bytes,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    memcpy(text, encoded, NONCE_CHARS);
}

/* NULL: never given to that link, or forgotten. */
static struct ledger_nonce *find_nonce(const struct ledger *l, uint32_t link, const void *text, size_t len) {
    uint8_t bytes[LEDGER_NONCE_BYTES];
    size_t decoded;
    uint16_t hidden;
    if (len != NONCE_CHARS ||
        sodium_base642bin(bytes, sizeof bytes, text, len, NULL, &decoded, NULL,
                          sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
        decoded != sizeof bytes)
        return NULL;
    memcpy(&hidden, bytes, sizeof hidden);
    struct ledger_link *table = &l->memory->link[link];
    struct ledger_nonce *nonce = &table->nonce[hidden ^ mask_of(l, link, bytes)];
    bool found = atomic_load_explicit(&nonce->state, memory_order_acquire) != NONCE_NEVER &&
                 nonce->epoch == table->epoch && sodium_memcmp(nonce->bytes, bytes, sizeof bytes) == 0;
    return found ? nonce : NULL;
}

static enum nonce_look look(const struct ledger_nonce *nonce, uint64_t now_ms) {
    if (!nonce)
        return NONCE_BAD;
    if (atomic_load_explicit(&nonce->state, memory_order_acquire) == NONCE_USED)
        return NONCE_SPENT;
    return now_ms - nonce->given_ms <= NONCE_MS ? NONCE_GOOD : NONCE_BAD;
}

enum nonce_look nonces_look(const struct ledger *l, uint32_t link, uint64_t now_ms, const void *text, size_t len) {
    return look(find_nonce(l, link, text, len), now_ms);
}

bool nonces_take(struct ledger *l, uint32_t link, uint64_t now_ms, const void *text, size_t len) {
    struct ledger_nonce *nonce = find_nonce(l, link, text, len);
    if (look(nonce, now_ms) != NONCE_GOOD)
        return false;
    atomic_store_explicit(&nonce->state, NONCE_USED, memory_order_release);
    return true;
}
