/* SPDX-License-Identifier: Apache-2.0 */
/* config/room.h: one of the checks of config_check_start. Only for config/. */
#ifndef CONFIG_ROOM_H
#define CONFIG_ROOM_H

struct checker;

/* Adds an error for each table of another process that cannot hold what the checked tree names. */
void check_room(struct checker *c);

#endif
