/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* GATE, what stays on the pod's link: neighbour discovery and group membership, which no router passes on. */
#include <lib/packet.h>
#include <maps/flow.h>

static __always_inline int is_link_local(const __u8 *addr)
{
	return addr[0] == 0xfe && (addr[1] & 0xc0) == 0x80;
}

/* ff01::/16 and ff02::/16 */
static __always_inline int is_link_group(const __u8 *addr)
{
	return addr[0] == 0xff && ((addr[1] & 0xf) == 1 || (addr[1] & 0xf) == 2);
}

static __always_inline int is_group(const struct packet *packet)
{
	return packet->ip6 ? packet->dst[0] == 0xff : (packet->dst[12] & 0xf0) == 0xe0;
}

/* The entry that says that a neighbour has asked the pod for its link address. */
static __always_inline void neighbour_key(struct gate *gate, const __u8 *remote,
					  struct flow_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->netns = gate->netns;
	__builtin_memcpy(key->remote, remote, sizeof(key->remote));
	key->protocol = PROTO_ICMPV6;
}

/*
 * Whether the pod may send a PACKET_LINK unjudged: what a host, not a router, says, and only where
 * nobody passes it on, so that it carries nothing beyond the link.
 */
__noinline int link_passes(const struct packet *packet, struct gate *gate)
{
	struct flow_key key;

	if (!packet || !gate)
		return 0;
	if (packet->hops == HOPS_ONE && is_group(packet))
		return packet->icmp_type != ICMP6_MLD_QUERY;
	switch (packet->icmp_type) { /* 0 of IGMP */
	case ICMP6_MLD_REPORT:
	case ICMP6_MLD_DONE:
	case ICMP6_MLD2_REPORT:
	case ICMP6_ROUTER_SOLICITATION:
	case ICMP6_NEIGHBOUR_SOLICITATION:
	case ICMP6_NEIGHBOUR_ADVERTISEMENT:
		break;
	default:
		return 0;
	}
	if (is_link_group(packet->dst) || is_link_local(packet->dst) || is_link_local(packet->src))
		return 1;
	/* Between global addresses, which could be routed: only the answer to a neighbour that asked. */
	if (packet->icmp_type != ICMP6_NEIGHBOUR_ADVERTISEMENT)
		return 0;
	neighbour_key(gate, packet->dst, &key);
	return !!bpf_map_lookup_elem(&flow_by_tuple, &key);
}

/* Whether a PACKET_LINK may enter: it comes from the link itself. Remembers who asked. */
__noinline int link_enters(const struct packet *packet, struct gate *gate)
{
	struct flow pending = {.state = FLOW_PENDING, .direction = DIR_INGRESS};
	struct flow_key key;

	if (!packet || !gate)
		return 0;
	if (packet->hops != HOPS_ONE && packet->hops != HOPS_FRESH)
		return 0;
	if (packet->icmp_type != ICMP6_NEIGHBOUR_SOLICITATION || packet->hops != HOPS_FRESH)
		return 1;
	neighbour_key(gate, packet->src, &key);
	if (bpf_map_update_elem(&flow_by_tuple, &key, &pending, BPF_ANY))
		count_error(SITE_FLOW_MAP); /* closed: the neighbour gets no answer and asks again */
	return 1;
}
