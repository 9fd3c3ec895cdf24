/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/rehearse.h: what a start would meet on this machine, for -t.
 *
 * Nothing is made, opened or changed, but that the host is bound for a moment, on a port that nobody has.
 */
#ifndef SUPERVISOR_REHEARSE_H
#define SUPERVISOR_REHEARSE_H

#include "config/options.h"
#include "supervisor/spawn.h"

/* False: a start with the rights of this process would be refused; text (cap bytes) gets a line for each reason: users of
 * processes, the log file and the pid file, the host. */
bool rehearse_start(struct spawner *sp, const struct options *o, uint32_t frontends, char *text, size_t cap);

#endif
