/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Rooms for reading and judging requests. Who reads can be interrupted on its CPU by another, and be moved aside
 * by another task: each takes a room of its own.
 */
#include <lib/request.h>

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REQUEST_ROOMS);
	__type(key, __u32);
	__type(value, struct request_room);
} request_rooms SEC(".maps");

/* NULL: none is free, which is counted at site: closed, what is to be read does not pass. */
static __always_inline struct request_room *request_room_take(enum site site)
{
	struct request_room *room;
	__u32 i;

	for (i = 0; i < REQUEST_ROOMS; i++) {
		__u32 key = i;

		room = bpf_map_lookup_elem(&request_rooms, &key);
		if (room && !__sync_val_compare_and_swap(&room->busy, 0, 1)) {
			room->place = i;
			return room;
		}
	}
	count_error(site);
	return 0;
}

static __always_inline void request_room_give(struct request_room *room)
{
	__sync_lock_test_and_set(&room->busy, 0);
}
