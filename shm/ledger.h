/* SPDX-License-Identifier: Apache-2.0 */
/* shm/ledger.h: the size of authd's ledger, for the supervisor, which makes the memory. authd alone maps it
 * (authd/ledger.h). Pages are taken as they are touched. */
#ifndef SHM_LEDGER_H
#define SHM_LEDGER_H

enum { LEDGER_BYTES = 128 << 20 };

#endif
