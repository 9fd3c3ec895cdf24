/* SPDX-License-Identifier: Apache-2.0 */
/* libxcrypt does the work. Its own readings of the prefixes repair or repeat faults of old libraries; nats-server knows
 * no such readings, so every prefix becomes $2b$. What is compared are the 31 characters behind the salt: the last
 * character of a salt has bits that mean nothing. */
#include "authd/bcrypt.h"

#include <crypt.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/wipe.h"

enum { SALT_END = 29, PASSWORD_MAX = 72 };

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

bool bcrypt_is_hash(struct view t) {
    return t.len >= 7 && t.at[0] == '$' && t.at[1] == '2' && strchr("abxy", t.at[2]) && t.at[2] && t.at[3] == '$' &&
           is_digit(t.at[4]) && is_digit(t.at[5]) && t.at[6] == '$';
}

uint32_t bcrypt_cost(struct view t) {
    if (!bcrypt_is_hash(t) || t.len != BCRYPT_CHARS)
        return 0;
    uint32_t cost = (uint32_t)(t.at[4] - '0') * 10 + (uint32_t)(t.at[5] - '0');
    return cost < BCRYPT_COST_MIN || cost > BCRYPT_COST_MAX ? 0 : cost;
}

bool bcrypt_matches(struct view hash, struct view password) {
    if (!bcrypt_cost(hash))
        return false;
    char setting[BCRYPT_CHARS + 1] = {0}, phrase[PASSWORD_MAX + 1] = {0};
    size_t len = password.len < PASSWORD_MAX ? password.len : PASSWORD_MAX;
    memcpy(setting, hash.at, hash.len);
    setting[2] = 'b';
    if (len)
        memcpy(phrase, password.at, len);
    bool whole = strlen(phrase) == len; /* the same work for one that has a NUL */
    struct crypt_data *data = calloc(1, sizeof *data);
    const char *made = data ? crypt_r(phrase, setting, data) : NULL;
    bool same = made && strlen(made) == BCRYPT_CHARS && whole &&
                sodium_memcmp(made + SALT_END, hash.at + SALT_END, BCRYPT_CHARS - SALT_END) == 0;
    wipe(phrase, sizeof phrase);
    wipe(setting, sizeof setting);
    if (data)
        wipe(data, sizeof *data);
    free(data);
    return same;
}
