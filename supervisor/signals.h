/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/signals.h: `bulkhead --signal COMMAND[=PID|FILE]`. */
#ifndef SUPERVISOR_SIGNALS_H
#define SUPERVISOR_SIGNALS_H

/* Signals a running server; says what is wrong on stderr; returns the exit status. Only a supervisor of Bulkhead is
 * signalled: it is held by a pidfd, and what it executes and whose it is are looked at, before the signal is sent. */
int signals_send(const char *parameter);

#endif
