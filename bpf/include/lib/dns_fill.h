/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * The addresses of an answer, put where JUDGE looks for them before the answer is delivered.
 *
 * Writers take an entry's lock for a few stores and never sleep with it; answers come in softirq, so
 * none interrupts another on its CPU. Whoever cannot get it soon, or finds an entry that is just
 * being swept, drops the answer: the resolver library asks again. So an answer that is read has its
 * addresses in the map, or reached a bound, which is counted and told.
 */
#include <lib/control.h>
#include <lib/names.h>
#include <parse/dns.h>

enum fill_limits {
	LOCK_TRIES = 512,
	NAME_FRESH_NS = 1000000000, /* a second: a name is not swept before its addresses are written */
};

/* What dns_address() needs, in the sink of the message. */
enum fill_sink {
	SINK_CONTAINER,
	SINK_SERIAL,
	SINK_NOW,
	SINK_LATEST, /* when the last of the addresses expires */
	SINK_LOST,   /* addresses that reached a bound */
	SINK_AGAIN,  /* 1: the answer is to be dropped and asked for again */
};

static long lock_step(__u32 index, void *data)
{
	__u32 *lock = *(__u32 **)data;

	return __sync_val_compare_and_swap(lock, LOCK_FREE, LOCK_HELD) == LOCK_FREE;
}

/* Takes a lock. Returns 0 if it could not be had. */
static __always_inline int lock_take(__u32 *lock)
{
	return bpf_loop(LOCK_TRIES, lock_step, &lock, 0) < LOCK_TRIES;
}

static __always_inline void lock_give(__u32 *lock)
{
	__sync_lock_test_and_set(lock, LOCK_FREE);
}

/* The counts of a container, made on first use; NULL: no room. */
static __always_inline struct name_count *count_of(__u64 container)
{
	struct name_count *count = bpf_map_lookup_elem(&names_of_cgrp, &container);
	struct name_count none = {};

	if (count)
		return count;
	bpf_map_update_elem(&names_of_cgrp, &container, &none, BPF_NOEXIST);
	return bpf_map_lookup_elem(&names_of_cgrp, &container);
}

/* Counts one more, unless the bound is reached. Returns whether it was counted. */
static __always_inline int count_up(__u32 *count)
{
	struct control *c = control_get();

	if (!c)
		return 0;
	if (__sync_fetch_and_add(count, 1) < c->names_most)
		return 1;
	__sync_fetch_and_add(count, -1);
	return 0;
}

/* An entry of zeros: what is in it is written under its lock. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct name);
} name_zero SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct told);
} told_zero SEC(".maps");

/* The name's entry, made when it is new; NULL: the bound is reached or there is no memory. */
static __always_inline struct name *name_entry(const struct name_key *key)
{
	struct name *name = bpf_map_lookup_elem(&name_by_hash, key);
	struct name_count *count;
	__u32 zero = 0;
	void *none;
	long err;

	if (name)
		return name;
	count = count_of(key->container);
	none = bpf_map_lookup_elem(&name_zero, &zero);
	if (!count || !none || !count_up(&count->names))
		return 0;
	err = bpf_map_update_elem(&name_by_hash, key, none, BPF_NOEXIST);
	if (err)
		__sync_fetch_and_add(&count->names, -1); /* another made it, or there is no memory */
	return bpf_map_lookup_elem(&name_by_hash, key);
}

/* Whether an entry is of the name in the question. */
static __always_inline int name_is(const struct name *name, const struct dns_message *m)
{
	const __u64 *a = (const __u64 *)name->text, *b = (const __u64 *)m->name;
	int i;

	for (i = 0; i < NAME_LEN / 8; i++)
		if (a[i] != b[i])
			return 0;
	return 1;
}

/*
 * Makes sure that the name in the question has an entry, which lives at least until expires, and
 * puts its serial into the sink. Returns 0 when it has none.
 */
__noinline int name_live(struct dns_message *m, __u64 expires)
{
	struct name_key key;
	struct name *name;
	int i, same;

	if (!m)
		return 0;
	key.container = m->sink[SINK_CONTAINER];
	key.hash = m->hash;
	name = name_entry(&key);
	if (!name)
		return 0;
	if (!lock_take(&name->lock)) {
		m->sink[SINK_AGAIN] = 1;
		return 0;
	}
	if (!name->serial) {
		for (i = 0; i < NAME_LEN / 8; i++)
			((__u64 *)name->text)[i] = ((__u64 *)m->name)[i];
		__sync_lock_test_and_set(&name->serial, control_next_id());
	}
	same = name_is(name, m);
	if (same && name->expires < expires)
		name->expires = expires;
	m->sink[SINK_SERIAL] = name->serial;
	lock_give(&name->lock);
	return same; /* a collision of hashes is not remembered: closed */
}

static __always_inline struct told *told_entry(const struct told_key *key)
{
	struct told *told = bpf_map_lookup_elem(&names_by_addr, key);
	struct name_count *count;
	__u32 zero = 0;
	void *none;
	long err;

	if (told)
		return told;
	count = count_of(key->container);
	none = bpf_map_lookup_elem(&told_zero, &zero);
	if (!count || !none || !count_up(&count->addresses))
		return 0;
	err = bpf_map_update_elem(&names_by_addr, key, none, BPF_NOEXIST);
	if (err)
		__sync_fetch_and_add(&count->addresses, -1);
	return bpf_map_lookup_elem(&names_by_addr, key);
}

/* Gives an address, whose lock is held, a name. Of too many, the one that expires first goes. */
static __always_inline void told_write(struct told *told, const struct dns_message *m,
				       __u64 expires)
{
	__u64 least = ~0ULL, serial = m->sink[SINK_SERIAL];
	struct told_way *way;
	__u32 i, place = 0;

	for (i = 0; i < NAME_WAYS; i++) {
		if (told->way[i].serial == serial) {
			if (told->way[i].expires < expires)
				told->way[i].expires = expires;
			return;
		}
		if (told->way[i].expires < least) {
			least = told->way[i].expires;
			place = i;
		}
	}
	if (least > m->sink[SINK_NOW])
		count_error(SITE_NAMES);
	way = &told->way[place & (NAME_WAYS - 1)];
	/* A reader sees the former name, none, or the new one: never one's hash with another's serial. */
	__sync_lock_test_and_set(&way->expires, 0);
	__sync_lock_test_and_set(&way->hash, m->hash);
	__sync_lock_test_and_set(&way->serial, serial);
	__sync_lock_test_and_set(&way->expires, expires);
}

/* Remembers one address. Returns 1: drop the answer. */
__noinline int told_put(struct dns_message *m, const struct told_key *address, __u32 ttl)
{
	struct control *c = control_get();
	__u64 wait = (__u64)ttl * 1000000000;
	struct told_key key;
	struct told *told;

	if (!m || !address || !c)
		return 1;
	key = *address;
	if (wait < c->ttl_least_ns)
		wait = c->ttl_least_ns;
	wait += m->sink[SINK_NOW];
	told = told_entry(&key);
	if (!told) {
		count_error(SITE_NAMES);
		m->sink[SINK_LOST]++;
		return 0;
	}
	if (!lock_take(&told->lock)) {
		m->sink[SINK_AGAIN] = 1;
		return 1;
	}
	told_write(told, m, wait);
	lock_give(&told->lock);
	if (m->sink[SINK_LATEST] < wait)
		m->sink[SINK_LATEST] = wait;
	return 0;
}

static long dns_address(struct dns_message *m, const __u8 *address, __u32 ttl)
{
	struct told_key key;

	key.container = m->sink[SINK_CONTAINER];
	__builtin_memcpy(key.addr, address, sizeof(key.addr));
	return told_put(m, &key, ttl);
}

/* Remembers what an answer says that was read to its end. Returns 0 when it must be dropped. */
static __always_inline int fill(struct __sk_buff *skb, struct dns_message *m, __u64 container)
{
	m->sink[SINK_CONTAINER] = container;
	m->sink[SINK_NOW] = bpf_ktime_get_boot_ns();
	m->sink[SINK_LATEST] = m->sink[SINK_LOST] = m->sink[SINK_AGAIN] = 0;
	if (!name_live(m, m->sink[SINK_NOW] + NAME_FRESH_NS)) {
		if (m->sink[SINK_AGAIN])
			return 0;
		count_error(SITE_NAMES);
		m->sink[SINK_LOST] = 1;
		return 1;
	}
	if (!dns_deliver(skb, m))
		return 0;
	if (m->sink[SINK_LATEST])
		name_live(m, m->sink[SINK_LATEST]);
	return !m->sink[SINK_AGAIN];
}
