#include "supervisor/restarts.h"

bool restarts_note(struct restarts *r, uint64_t now_ms, bool fault, uint32_t *delay_ms) {
    *delay_ms = 0;
    if (!fault)
        return true;
    r->fault_ms[r->fault_count++ % RESTARTS_GIVE_UP] = now_ms;
    uint32_t recent = 0;
    for (uint32_t i = 0; i < RESTARTS_GIVE_UP && i < r->fault_count; i++)
        recent += now_ms - r->fault_ms[i] < RESTARTS_WINDOW_MS;
    if (recent >= RESTARTS_GIVE_UP)
        return false;
    if (recent > 1) {
        uint32_t delay = (uint32_t)RESTARTS_DELAY_MS << (recent - 2);
        *delay_ms = delay < RESTARTS_DELAY_MAX_MS ? delay : RESTARTS_DELAY_MAX_MS;
    }
    return true;
}
