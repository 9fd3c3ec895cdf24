/* SPDX-License-Identifier: Apache-2.0 */
#include "supervisor/descriptors.h"

#include "ipc/settings.h"
#include "shm/commit.h"

uint32_t descriptors_connections(uint32_t limit) {
    uint32_t clients = limit > EDGE_DESCRIPTORS ? limit - EDGE_DESCRIPTORS : 0;
    uint32_t refused = clients / 16 < 4 ? 4 : clients / 16 > 256 ? 256 : clients / 16;
    clients -= refused < clients ? refused : clients;
    return clients < SOFT_CONNS_MAX ? clients : SOFT_CONNS_MAX;
}
