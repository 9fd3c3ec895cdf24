/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/notify.h: what a service manager is told (sd_notify), where NOTIFY_SOCKET is set; else nothing happens. */
#ifndef SUPERVISOR_NOTIFY_H
#define SUPERVISOR_NOTIFY_H

#include <stdint.h>

/* Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID once. */
void notify_open(void);

void notify_ready(void); /* also after a reload */
void notify_reloading(void);
void notify_stopping(void);

/* Feeds the watchdog when that is due; returns when to call again, 0: there is none. */
uint64_t notify_tick(uint64_t now_ms);

#endif
