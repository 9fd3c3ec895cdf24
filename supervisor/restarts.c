/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/restarts.h"

static uint32_t note_kill(struct restarts *r, uint64_t now_ms) {
    r->kills = r->kill_ms && now_ms - r->kill_ms < RESTARTS_ROW_MS ? r->kills + 1 : 1;
    r->kill_ms = now_ms;
    return r->kills > RESTARTS_KILLS_FREE ? RESTARTS_DELAY_MS : 0;
}

uint32_t restarts_note(struct restarts *r, uint64_t now_ms, bool fault, uint32_t most_ms) {
    if (!fault)
        return note_kill(r, now_ms);
    uint64_t healed = now_ms > r->healing_ms ? (now_ms - r->healing_ms) / RESTARTS_HEAL_MS : 0;
    r->faults -= healed < r->faults ? (uint32_t)healed : r->faults;
    if (r->faults < RESTARTS_FAULTS_MAX)
        r->faults++;
    uint32_t delay_ms = r->faults > 1 ? (uint32_t)RESTARTS_DELAY_MS << (r->faults - 2) : 0;
    if (delay_ms > most_ms)
        delay_ms = most_ms;
    r->healing_ms = now_ms + delay_ms;
    return delay_ms;
}
