/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <linux/bpf.h>
#include <abi/state.h>
#include <maps/label.h>

/* Whether a packet at its socket goes through gate_tc, or has: not over loopback, nor by another device. */
static __always_inline int is_gated(const struct __sk_buff *skb, const struct flow_key *key)
{
	__u64 cookie = key->netns;
	struct netns *netns = bpf_map_lookup_elem(&netns_by_cookie, &cookie);

	return netns && netns->ifindex && netns->inside == skb->ifindex;
}
