/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <linux/bpf.h>
#include <maps/flow.h>

/*
 * Counts a packet of a flow at the veth. Without a locked bus, which would cost a third of what a known packet costs:
 * packets of one flow and direction that pass on two processors at once may be counted as one. Nothing is decided by it.
 */
static __always_inline void flow_count(struct flow *flow, const struct __sk_buff *skb, __u32 direction)
{
	flow->packets[direction]++;
	flow->bytes[direction] += skb->len;
}
