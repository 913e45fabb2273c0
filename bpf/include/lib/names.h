/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * JUDGE by name: the rules that match the names which DNS has told a container for an address.
 *
 * A name's rules are computed from its text when they are first asked for under a revision, and kept
 * with it. So a change of the policy touches no name and loses none, and nobody reads the rules of one
 * revision for another's: a slot is written again only two revisions later, when no program can still
 * be in the former one (see maps/tables.h).
 */
#include <lib/dfa.h>
#include <maps/names.h>

/*
 * Room for looking names up, off the stack, which is deep below a socket. A program can be interrupted
 * on its CPU by another, and be moved aside by another task, so each takes a room of its own.
 */
struct names_room {
	__u32 busy;
	__u32 bit; /* the rule whose name is looked for; RULE_MAX: add the rules of all to match */
	__u64 revision;
	struct told_key key;
	struct name_key name;
	__u64 serial; /* of name; 0: none */
	struct bits match;
};

enum names_limits {
	NAMES_ROOMS = 4,
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, NAMES_ROOMS);
	__type(key, __u32);
	__type(value, struct names_room);
} names_rooms SEC(".maps");

/* NULL: none is free. */
static __always_inline struct names_room *names_room_take(void)
{
	struct names_room *room;
	__u32 i;

	for (i = 0; i < NAMES_ROOMS; i++) {
		__u32 key = i;

		room = bpf_map_lookup_elem(&names_rooms, &key);
		if (room && !__sync_val_compare_and_swap(&room->busy, 0, 1))
			return room;
	}
	return 0;
}

static __always_inline void names_room_give(struct names_room *room)
{
	__sync_lock_test_and_set(&room->busy, 0);
}

/*
 * Adds the rules of the name to match where bit is RULE_MAX, else returns whether rule bit is among
 * them. A name that is gone has none.
 */
__noinline int name_rules(struct ruleset *ruleset, struct names_room *room)
{
	struct name_key key; /* 6.1 takes keys from the stack, not from what a pointer argument points to */
	__u32 slot, bit, i;
	struct name *name;

	if (!ruleset || !room || !room->serial)
		return 0;
	key = room->name;
	name = bpf_map_lookup_elem(&name_by_hash, &key);
	if (!name || name->serial != room->serial)
		return 0;
	slot = room->revision & (SLOTS - 1);
	if (name->revision[slot] != room->revision) {
		struct bits *rules = dfa_accept(room->revision, &ruleset->names, name->text);

		/* Whoever does this at the same time writes the same. */
		for (i = 0; i < RULE_WORDS; i++)
			name->rules[slot].word[i] = rules ? rules->word[i] : 0;
		name->used = bpf_ktime_get_boot_ns();
		__sync_lock_test_and_set(&name->revision[slot], room->revision);
	}
	bit = room->bit;
	if (bit < RULE_MAX)
		return name->rules[slot].word[bit / 64 & (RULE_WORDS - 1)] >> (bit & 63) & 1;
	for (i = 0; i < RULE_WORDS; i++)
		room->match.word[i] |= name->rules[slot].word[i];
	return 0;
}

/*
 * Goes through the names of room->key's address, and first the one that the connection was opened by,
 * room->name, which is live though it may have expired. Returns whether one has rule bit: room->name.
 */
__noinline int names_walk(struct ruleset *ruleset, struct names_room *room)
{
	struct told_key key;
	struct told *told;
	__u64 now;
	int i;

	if (!ruleset || !room)
		return 0;
	key = room->key;
	if (name_rules(ruleset, room))
		return 1;
	told = bpf_map_lookup_elem(&names_by_addr, &key);
	if (!told)
		return 0;
	now = bpf_ktime_get_boot_ns();
	for (i = 0; i < NAME_WAYS; i++) {
		if (told->way[i].expires <= now)
			continue;
		room->name.hash = told->way[i].hash;
		room->serial = told->way[i].serial;
		if (name_rules(ruleset, room))
			return 1;
	}
	return 0;
}
