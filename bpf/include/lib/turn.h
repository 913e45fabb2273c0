/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * GATE, frames at tc that become others: sent back to where they came from, or made shorter or longer on their way. Only
 * IPv4 without options and IPv6 without extension headers, so that the transport header stays where it was: the kernel
 * may still have to write a checksum there (CHECKSUM_PARTIAL). What cannot be made is for the caller to drop: closed.
 */
#include <lib/packet.h>

enum turn_limits {
	TURN_HOPS = 64,
	MAC_LEN = 6,
	IP6_LENGTH = 4, /* offsets */
	IP6_NEXT = 6,
	IP6_HOPS = 7,
	IP6_SRC = 8,
	IP6_ADDR = 16, /* bytes */
};

static __always_inline __u16 fold(__s64 sum)
{
	__u32 folded = sum;

	folded = (folded & 0xffff) + (folded >> 16);
	folded = (folded & 0xffff) + (folded >> 16);
	return ~folded;
}

/* Sends a frame back to the station that it came from. Returns 0 when it cannot. */
static __always_inline int turn_link(struct __sk_buff *skb)
{
	__u8 link[2 * MAC_LEN];

	return !bpf_skb_load_bytes(skb, 0, link, sizeof(link)) &&
	       !bpf_skb_store_bytes(skb, 0, link + MAC_LEN, MAC_LEN, 0) &&
	       !bpf_skb_store_bytes(skb, MAC_LEN, link, MAC_LEN, 0);
}

/*
 * The IPv4 header in front of len bytes of a datagram; back: to the sender. ends: source and destination as they are
 * then. Returns 0 when it cannot be made.
 */
static __always_inline int turn_ip4(struct __sk_buff *skb, __u32 len, int back, __u8 *ends)
{
	struct ip4_header ip;
	__u32 src;

	if (packet_load(skb, 0, &ip, sizeof(ip)) || ip.version_ihl != IP4_PLAIN)
		return 0;
	if (back) {
		src = ip.src;
		ip.src = ip.dst;
		ip.dst = src;
		ip.ttl = TURN_HOPS;
	}
	ip.total_be = bpf_htons(IP4_LEN + len);
	ip.frag_be = 0;
	ip.check = 0;
	ip.check = fold(bpf_csum_diff(0, 0, (__u32 *)&ip, sizeof(ip), 0));
	__builtin_memcpy(ends, &ip.src, 8);
	return !bpf_skb_store_bytes(skb, ETHER_LEN, &ip, sizeof(ip), 0);
}

/* The same for IPv6, of a datagram of this protocol; ends: in either order, which is one to a checksum. */
static __always_inline int turn_ip6(struct __sk_buff *skb, __u32 len, int back, __u8 protocol, __u8 *ends)
{
	__u16 len_be = bpf_htons(len);
	__u8 next, hops = TURN_HOPS;

	if (packet_load(skb, IP6_NEXT, &next, sizeof(next)) || next != protocol ||
	    packet_load(skb, IP6_SRC, ends, 2 * IP6_ADDR))
		return 0;
	if (back && (bpf_skb_store_bytes(skb, ETHER_LEN + IP6_SRC, ends + IP6_ADDR, IP6_ADDR, 0) ||
		     bpf_skb_store_bytes(skb, ETHER_LEN + IP6_SRC + IP6_ADDR, ends, IP6_ADDR, 0) ||
		     bpf_skb_store_bytes(skb, ETHER_LEN + IP6_HOPS, &hops, sizeof(hops), 0)))
		return 0;
	return !bpf_skb_store_bytes(skb, ETHER_LEN + IP6_LENGTH, &len_be, sizeof(len_be), 0);
}
