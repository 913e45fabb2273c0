/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <linux/bpf.h>
#include <maps/flow.h>

/* Counts a packet of a flow at the veth. */
static __always_inline void flow_count(struct flow *flow, const struct __sk_buff *skb, __u32 direction)
{
	__sync_fetch_and_add(&flow->packets[direction], 1);
	__sync_fetch_and_add(&flow->bytes[direction], skb->len);
}
