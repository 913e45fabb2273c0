/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* Look-ups in the tables of one revision. A missing table is a broken swap: callers fail closed. */
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <lib/control.h>
#include <maps/tables.h>

static __always_inline void *table(void *outer, __u64 revision)
{
	__u32 slot = revision & (SLOTS - 1);

	return bpf_map_lookup_elem(outer, &slot);
}

enum ruleset_lookup {
	RULESET_FOUND,
	RULESET_UNKNOWN, /* nothing is known of the container yet */
	RULESET_BROKEN,	 /* the tables are not whole */
};

/* The ruleset of a container. */
static __always_inline enum ruleset_lookup ruleset_of(__u64 revision, __u64 container,
						      struct ruleset **ruleset)
{
	void *containers = table(&ruleset_by_cgrp, revision);
	void *all = table(&rulesets, revision);
	__u32 *id;

	*ruleset = 0;
	if (!containers || !all)
		return RULESET_BROKEN;
	id = bpf_map_lookup_elem(containers, &container);
	if (!id)
		return RULESET_UNKNOWN;
	*ruleset = bpf_map_lookup_elem(all, id);
	return *ruleset ? RULESET_FOUND : RULESET_BROKEN;
}

/* Whether a ruleset has rules that are not only audited. */
static __always_inline int is_enforced(const struct ruleset *ruleset)
{
	__u64 any = 0;
	int i;

	for (i = 0; i < RULE_WORDS; i++)
		any |= (ruleset->allow[DIR_EGRESS].word[i] | ruleset->allow[DIR_INGRESS].word[i] |
			ruleset->deny[DIR_EGRESS].word[i] | ruleset->deny[DIR_INGRESS].word[i]) &
		       ~ruleset->audit.word[i];
	return any != 0;
}

/* The rules that match an address; NULL: broken tables. */
static __always_inline struct bits *bits_of_peer(__u64 revision, struct ruleset *ruleset,
						 const __u8 *addr)
{
	void *addresses = table(&identity_by_addr, revision);
	void *peers = table(&rules_by_peer, revision);
	struct address_key key = {.prefixlen = 128};
	struct peer_key peer = {.ruleset = ruleset->id};
	struct bits *bits;
	__u32 *identity;

	if (!addresses || !peers)
		return 0;
	__builtin_memcpy(key.addr, addr, sizeof(key.addr));
	identity = bpf_map_lookup_elem(addresses, &key);
	if (!identity)
		return 0; /* ::/0 is always there */
	peer.identity = *identity;
	bits = bpf_map_lookup_elem(peers, &peer);
	return bits ? bits : &ruleset->any_peer;
}

/* The rules that match a port; NULL: broken tables. */
static __always_inline struct bits *bits_of_port(__u64 revision, struct ruleset *ruleset,
						 __u8 protocol, __u16 port)
{
	void *ports = table(&rules_by_port, revision);
	struct port_key key = {.prefixlen = 64};
	struct bits *bits;

	if (!ports)
		return 0;
	key.ruleset = bpf_htonl(ruleset->id);
	key.protocol = protocol;
	key.port_be = bpf_htons(port);
	bits = bpf_map_lookup_elem(ports, &key);
	return bits ? bits : &ruleset->any_port;
}

/* Whether there is any rule among them. */
static __always_inline int has_bits(const struct bits *bits)
{
	__u64 all = 0;
	int i;

	for (i = 0; i < RULE_WORDS; i++)
		all |= bits->word[i];
	return all != 0;
}

static __always_inline struct rule *rule_of(__u64 revision, struct ruleset *ruleset, __u32 bit)
{
	void *all = table(&rules, revision);
	__u32 index = ruleset->id * RULE_MAX + bit;

	return all ? bpf_map_lookup_elem(all, &index) : 0;
}
