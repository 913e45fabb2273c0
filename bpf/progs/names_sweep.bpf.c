// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Takes names and addresses out that have expired, or all of a container that is gone: asked by user
 * space, by BPF_PROG_RUN, and done here because only here a look and a delete are one step. An entry
 * is marked dead under its lock first; an answer that would write to it then is dropped and asked
 * for again, so none is ever lost that was delivered.
 *
 * syscall (names_sweep)  context: struct sweep
 *
 * Minimum kernel 5.14. Fails closed: what it does not take out counts against its container.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <lib/control.h>
#include <maps/names.h>

char _license[] SEC("license") = "Dual BSD/GPL";

enum sweep_limits {
	/* How long a name is kept for connections that it opened, when there is room for it. */
	NAME_KEEP_NS = 86400000000000ULL,
};

/* What a walk is asked for and what it has done. */
struct sweep_walk {
	__u64 container;
	__u64 now;
	__u32 addresses;
	__u32 names;
};

static __always_inline void uncount(__u64 container, int names)
{
	struct name_count *count = bpf_map_lookup_elem(&names_of_cgrp, &container);

	if (count)
		__sync_fetch_and_add(names ? &count->names : &count->addresses, -1);
}

/* Whether an entry may go; it is dead then. */
static __always_inline int dies(__u32 *lock)
{
	return __sync_val_compare_and_swap(lock, LOCK_FREE, LOCK_DEAD) == LOCK_FREE;
}

static __always_inline int told_lives(const struct told *told, __u64 now)
{
	int i;

	for (i = 0; i < NAME_WAYS; i++)
		if (told->way[i].expires > now)
			return 1;
	return 0;
}

static long sweep_told(void *map, const struct told_key *key, struct told *told,
		       struct sweep_walk *walk)
{
	struct told_key gone = *key;

	if (walk->container ? gone.container != walk->container : told_lives(told, walk->now))
		return 0;
	if (!dies(&told->lock))
		return 0; /* being written: it lives */
	if (!walk->container && told_lives(told, walk->now)) {
		__sync_lock_test_and_set(&told->lock, LOCK_FREE); /* written in between */
		return 0;
	}
	if (!bpf_map_delete_elem(&names_by_addr, &gone)) {
		uncount(gone.container, 0);
		walk->addresses++;
	}
	return 0;
}

/* A name is kept for live connections while its container has plenty of room. */
static __always_inline int name_lives(const struct name *name, __u64 container, __u64 now)
{
	struct name_count *count = bpf_map_lookup_elem(&names_of_cgrp, &container);
	struct control *c = control_get();

	if (name->expires > now)
		return 1;
	if (!count || !c || count->names > c->names_most / 2)
		return 0;
	return name->expires + NAME_KEEP_NS > now || name->used + NAME_KEEP_NS > now;
}

static long sweep_name(void *map, const struct name_key *key, struct name *name,
		       struct sweep_walk *walk)
{
	struct name_key gone = *key;

	if (walk->container ? gone.container != walk->container :
			      name_lives(name, gone.container, walk->now))
		return 0;
	if (!dies(&name->lock))
		return 0;
	if (!walk->container && name_lives(name, gone.container, walk->now)) {
		__sync_lock_test_and_set(&name->lock, LOCK_FREE);
		return 0;
	}
	if (!bpf_map_delete_elem(&name_by_hash, &gone)) {
		uncount(gone.container, 1);
		walk->names++;
	}
	return 0;
}

static long sweep_refusal(void *map, const struct refusal_key *key, __u64 *until,
			  struct sweep_walk *walk)
{
	struct refusal_key gone = *key;
	__u64 former = *until;

	/* To 0 first: a query that is just being refused again then fails instead. */
	if (former < walk->now && __sync_val_compare_and_swap(until, former, 0) == former)
		bpf_map_delete_elem(&refusals, &gone);
	return 0;
}

SEC("syscall")
int names_sweep(struct sweep *sweep)
{
	struct sweep_walk walk = {.container = sweep->container};

	walk.now = bpf_ktime_get_boot_ns();
	bpf_for_each_map_elem(&names_by_addr, sweep_told, &walk, 0);
	bpf_for_each_map_elem(&name_by_hash, sweep_name, &walk, 0);
	bpf_for_each_map_elem(&refusals, sweep_refusal, &walk, 0);
	if (walk.container)
		bpf_map_delete_elem(&names_of_cgrp, &walk.container);
	sweep->addresses = walk.addresses;
	sweep->names = walk.names;
	return 0;
}
