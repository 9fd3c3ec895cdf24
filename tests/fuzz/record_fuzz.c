/* SPDX-License-Identifier: Apache-2.0 */
/* record_take on arbitrary bytes. The first byte: bit 0 the direction, bit 1 that len is mended to the size, the others
 * how much less is ready than the input has; then the record. What must hold: what is taken lies within what was ready,
 * its parts are in order and add up; nothing but the header is read by the check, and all of the parts can be read. */
#include "shm/record.h"

#include <stdlib.h>

#include "base/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint32_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    uint8_t how = data[0];
    uint64_t given = size - 1, less = how >> 2, ready = given > less ? given - less : 0;
    enum record_direction direction = how & 1 ? RECORD_TO_EDGE : RECORD_TO_ROUTER;
    uint8_t *at = malloc(given ? given : 1);
    check(at);
    memcpy(at, data + 1, given);
    if (how & 2 && given >= RECORD_HEADER) {
        uint32_t len = (uint32_t)given;
        memcpy(at, &len, sizeof len);
    }

    /* The header alone, at the end of its memory, with everything ready that it may claim. */
    struct record copy;
    struct record_parts parts;
    if (given >= RECORD_HEADER) {
        uint8_t *header = malloc(RECORD_HEADER);
        check(header);
        memcpy(header, at, RECORD_HEADER);
        enum err e = record_take(&copy, &parts, header, UINT64_MAX, direction);
        check(e == ERR_OK || e == ERR_HOSTILE);
        if (e == ERR_OK)
            check(parts.payload >= RECORD_HEADER && copy.len == (uint64_t)parts.payload + copy.payload_len);
        free(header);
    }

    enum err e = record_take(&copy, &parts, at, ready, direction);
    check(e == ERR_OK || e == ERR_HOSTILE);
    if (e == ERR_OK) {
        check(memcmp(&copy, at, sizeof copy) == 0);
        check(copy.len >= RECORD_HEADER && copy.len <= ready && copy.target_count <= RECORD_TARGETS_MAX);
        check(parts.targets >= RECORD_HEADER && parts.subject == parts.targets + 8u * copy.target_count);
        check(parts.reply == parts.subject + copy.subject_len && parts.payload == parts.reply + copy.reply_len);
        check(copy.len == (uint64_t)parts.payload + copy.payload_len);
        check((copy.type < RECORD_DELIVER) == (direction == RECORD_TO_ROUTER));
        if (copy.type == RECORD_PUB || copy.type == RECORD_DELIVER)
            check(copy.aux <= copy.payload_len);
        for (uint32_t i = 0; i < copy.len; i++)
            sink += at[i];
    }
    free(at);
    return 0;
}
