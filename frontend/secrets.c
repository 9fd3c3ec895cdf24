/* SPDX-License-Identifier: Apache-2.0 */
#include "frontend/secrets.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"
#include "base/wipe.h"

enum { PIECE_BYTES = 1024, PIECES = 1024 };

static struct {
    char (*piece)[PIECE_BYTES];
    uint16_t free[PIECES]; /* the last free_count of them */
    uint32_t free_count;
} region;

void secrets_prepare(void) {
    size_t bytes = (size_t)PIECES * PIECE_BYTES;
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return;
    if (mlock2(at, bytes, MLOCK_ONFAULT) != 0)
        log_warn("The memory for credentials cannot be locked: they may reach the swap space until authd has answered");
    madvise(at, bytes, MADV_DONTDUMP);
    region.piece = at;
    for (uint32_t i = 0; i < PIECES; i++)
        region.free[i] = (uint16_t)(PIECES - 1 - i);
    region.free_count = PIECES;
}

static bool is_ours(const void *piece) {
    uintptr_t at = (uintptr_t)piece, first = (uintptr_t)region.piece;
    return region.piece && at >= first && at < first + (size_t)PIECES * PIECE_BYTES;
}

void *secrets_take(size_t len) {
    if (len > PIECE_BYTES || region.free_count == 0)
        return malloc(len);
    return region.piece[region.free[--region.free_count]];
}

void secrets_give(void *piece, size_t len) {
    if (!piece)
        return;
    wipe(piece, len);
    if (is_ours(piece))
        region.free[region.free_count++] = (uint16_t)((char(*)[PIECE_BYTES])piece - region.piece);
    else
        free(piece);
}
