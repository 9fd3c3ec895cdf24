/* shm/ledger.h: the size of authd's ledger, for those who make the memory. What lies in it is authd's alone
 * (authd/ledger.h): nobody else maps it. Pages are taken as they are touched. */
#ifndef SHM_LEDGER_H
#define SHM_LEDGER_H

enum { LEDGER_BYTES = 128 << 20 };

#endif
