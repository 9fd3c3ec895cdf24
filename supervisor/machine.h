/* SPDX-License-Identifier: Apache-2.0 */
/* supervisor/machine.h: how much memory there is for the family. */
#ifndef SUPERVISOR_MACHINE_H
#define SUPERVISOR_MACHINE_H

#include <stdint.h>

#include "base/view.h"

/* Bytes of memory: the machine's, or less where a control group of this process has a limit that can be read. */
uint64_t machine_memory(void);

/* The lowest limit among the control groups that the text of /proc/PID/cgroup names, and their parents; UINT64_MAX: there is
 * none. root: where the hierarchies are mounted. */
uint64_t machine_group_limit(struct view cgroup, const char *root);

/* Bytes of addresses that a process may take (ulimit -v); UINT64_MAX: there is no limit. */
uint64_t machine_address_limit(void);

#endif
