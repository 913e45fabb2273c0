/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Packets turned into flow keys. The same parser for cgroup_skb and tc: all offsets count from the
 * network header. Packets are hostile input: what cannot be parsed is PACKET_MALFORMED, and the
 * callers drop it where a pod is governed.
 */
#include <linux/bpf.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include <lib/socket.h>
#include <lib/tcp.h>

enum packet_limits {
	ETHERTYPE_IP4 = 0x0800,
	ETHERTYPE_IP6 = 0x86dd,
	ETHERTYPE_ARP = 0x0806,
	ETHER_LEN = 14,
	IP4_LEN = 20,
	IP6_LEN = 40,
	PORTS_LEN = 8, /* of a transport header: what every one has that has ports */
	IP4_PLAIN = 0x45, /* version 4, no options */
	IP6_EXTENSIONS = 8, /* more of them is malformed */
	IP4_OFFSET_MASK = 0x1fff,
	IP4_MORE = 0x2000,
	IP4_DONT = 0x4000,
	IP6_MORE = 0x0001,
	IP6_OFFSET_MASK = 0xfff8,
};

enum ip6_next {
	NEXT_HOP_BY_HOP = 0,
	NEXT_ROUTING = 43,
	NEXT_FRAGMENT = 44,
	NEXT_AUTH = 51,
	NEXT_NONE = 59,
	NEXT_DESTINATION = 60,
	NEXT_MOBILITY = 135,
};

enum packet_kind {
	PACKET_MALFORMED = 0,
	PACKET_FLOW = 1,     /* src, dst, ports and protocol are a flow's */
	PACKET_FRAGMENT = 2, /* a later fragment: no ports, follows its first by frag_id */
	PACKET_ERROR = 3,    /* an ICMP error: the packet it is about begins at inner */
	PACKET_LINK = 4,     /* neighbour discovery and group membership, by its type */
};

/* What a packet is, as the sender sees it. */
struct packet {
	__u8 src[16]; /* IPv4-mapped */
	__u8 dst[16];
	__u16 src_port; /* host byte order; ICMP echo: the id, on both sides */
	__u16 dst_port;
	__u8 protocol;
	__u8 kind;	/* enum packet_kind */
	__u8 first;	/* 1: the first of several fragments */
	__u8 tcp_flags; /* of TCP */
	__u8 icmp_type;
	__u8 ip6;
	__u16 inner; /* for PACKET_ERROR: offset from the network header */
	__u32 frag_id;
	__u8 hops; /* time to live, hop limit */
	__u8 pad[7];
};

enum hops {
	HOPS_ONE = 1,	  /* no router passes it on */
	HOPS_FRESH = 255, /* no router has passed it on */
};

enum icmp4_types {
	ICMP4_ECHO_REPLY = 0,
	ICMP4_ECHO = 8,
	ICMP4_TIMESTAMP = 13,
	ICMP4_TIMESTAMP_REPLY = 14,
	ICMP4_EXTENDED_ECHO = 42,
	ICMP4_EXTENDED_ECHO_REPLY = 43,
};

enum icmp6_types {
	ICMP6_ECHO = 128,
	ICMP6_ECHO_REPLY = 129,
	ICMP6_MLD_QUERY = 130,
	ICMP6_MLD_REPORT = 131,
	ICMP6_MLD_DONE = 132,
	ICMP6_ROUTER_SOLICITATION = 133,
	ICMP6_NEIGHBOUR_SOLICITATION = 135,
	ICMP6_NEIGHBOUR_ADVERTISEMENT = 136,
	ICMP6_NODE_QUERY = 138,
	ICMP6_RENUMBERING = 140,
	ICMP6_MLD2_REPORT = 143,
	ICMP6_EXTENDED_ECHO = 160,
	ICMP6_EXTENDED_ECHO_REPLY = 161,
};

struct ip4_header {
	__u8 version_ihl;
	__u8 tos;
	__u16 total_be;
	__u16 id_be;
	__u16 frag_be;
	__u8 ttl;
	__u8 protocol;
	__u16 check;
	__u32 src;
	__u32 dst;
};

struct ip6_header {
	__u32 flow;
	__u16 len_be;
	__u8 next;
	__u8 hops;
	__u8 src[16];
	__u8 dst[16];
};

static __always_inline int packet_load(struct __sk_buff *skb, __u32 off, void *to, __u32 len)
{
	return bpf_skb_load_bytes_relative(skb, off, to, len, BPF_HDR_START_NET);
}

/* ICMP and ICMPv6: errors, echoes, link-local chatter, the rest. */
static __always_inline void packet_icmp(struct packet *packet, const __u8 *head, __u32 off)
{
	__u8 type = head[0];
	int error, echo, link = 0;

	packet->icmp_type = type;
	if (packet->ip6) {
		error = type >= 1 && type <= 4;
		echo = type == 128 || type == 129;
		link = type >= ICMP6_MLD_QUERY && type <= ICMP6_MLD2_REPORT &&
		       !(type >= ICMP6_NODE_QUERY && type <= ICMP6_RENUMBERING);
	} else {
		error = type == 3 || type == 4 || type == 5 || type == 11 || type == 12;
		echo = type == 0 || type == 8;
	}
	packet->kind = PACKET_FLOW;
	if (error) {
		packet->kind = PACKET_ERROR;
		packet->inner = off + 8;
	} else if (link) {
		packet->kind = PACKET_LINK;
	} else if (echo) {
		packet->src_port = packet->dst_port = head[4] << 8 | head[5];
	}
}

/* The transport header at off. Eight bytes are there in every packet these protocols may send. */
static __always_inline void packet_transport(struct __sk_buff *skb, struct packet *packet, __u32 off)
{
	__u8 head[16] = {};

	packet->kind = PACKET_FLOW;
	switch (packet->protocol) {
	case PROTO_TCP:
		if (packet_load(skb, off, head, 14)) {
			/* The packet inside an ICMP error ends after eight bytes. */
			if (packet_load(skb, off, head, 8)) {
				packet->kind = PACKET_MALFORMED;
				return;
			}
		}
		packet->tcp_flags = head[13];
		break;
	case PROTO_UDP:
	case PROTO_UDPLITE:
	case PROTO_SCTP:
		if (packet_load(skb, off, head, 8)) {
			packet->kind = PACKET_MALFORMED;
			return;
		}
		break;
	case PROTO_ICMP:
	case PROTO_ICMPV6:
		if ((packet->protocol == PROTO_ICMPV6) != packet->ip6 ||
		    packet_load(skb, off, head, 8)) {
			packet->kind = PACKET_MALFORMED;
			return;
		}
		packet_icmp(packet, head, off);
		return;
	case PROTO_IGMP:
		packet->kind = PACKET_LINK;
		return;
	default:
		return; /* no ports */
	}
	packet->src_port = head[0] << 8 | head[1];
	packet->dst_port = head[2] << 8 | head[3];
}

static __always_inline void packet_ip4(struct __sk_buff *skb, struct packet *packet, __u32 off)
{
	struct ip4_header ip;
	__u16 frag;
	__u32 len;

	if (packet_load(skb, off, &ip, sizeof(ip)) || ip.version_ihl >> 4 != 4)
		return;
	len = (ip.version_ihl & 15) * 4;
	if (len < IP4_LEN)
		return;
	address_from_ip4(packet->src, ip.src);
	address_from_ip4(packet->dst, ip.dst);
	packet->protocol = ip.protocol;
	packet->hops = ip.ttl;
	frag = bpf_ntohs(ip.frag_be);
	packet->frag_id = ip.id_be;
	if (frag & IP4_OFFSET_MASK) {
		packet->kind = PACKET_FRAGMENT;
		return;
	}
	packet->first = !!(frag & IP4_MORE);
	packet_transport(skb, packet, off + len);
}

/* ::ffff:0:0/96, which is no address of the wire: it would be taken for an IPv4 flow's. */
static __always_inline int is_mapped(const __u8 *addr)
{
	const __u32 *word = (const __u32 *)addr;

	return !word[0] && !word[1] && word[2] == bpf_htonl(0xffff);
}

static __always_inline void packet_ip6(struct __sk_buff *skb, struct packet *packet, __u32 off)
{
	struct ip6_header ip;
	__u8 next;
	int i;

	if (packet_load(skb, off, &ip, sizeof(ip)) || (ip.flow & 0xf0) != 0x60)
		return;
	if (is_mapped(ip.src) || is_mapped(ip.dst))
		return;
	packet->ip6 = 1;
	packet->hops = ip.hops;
	__builtin_memcpy(packet->src, ip.src, sizeof(ip.src));
	__builtin_memcpy(packet->dst, ip.dst, sizeof(ip.dst));
	next = ip.next;
	off += IP6_LEN;
	for (i = 0; i <= IP6_EXTENSIONS; i++) {
		__u8 head[8];
		__u16 frag;

		switch (next) {
		case NEXT_HOP_BY_HOP:
		case NEXT_ROUTING:
		case NEXT_DESTINATION:
		case NEXT_MOBILITY:
			if (packet_load(skb, off, head, sizeof(head)))
				return;
			if (next == NEXT_ROUTING && head[3])
				return; /* segments left: it goes on to another than dst */
			next = head[0];
			off += (head[1] + 1) * 8;
			break;
		case NEXT_AUTH:
			if (packet_load(skb, off, head, sizeof(head)))
				return;
			next = head[0];
			off += (head[1] + 2) * 4;
			break;
		case NEXT_FRAGMENT:
			if (packet_load(skb, off, head, sizeof(head)))
				return;
			frag = head[2] << 8 | head[3];
			packet->protocol = head[0];
			__builtin_memcpy(&packet->frag_id, head + 4, 4);
			if (frag & IP6_OFFSET_MASK) {
				packet->kind = PACKET_FRAGMENT;
				return;
			}
			packet->first = frag & IP6_MORE;
			next = head[0];
			off += 8;
			break;
		default:
			packet->protocol = next;
			packet_transport(skb, packet, off);
			return;
		}
	}
}

/* Parses the packet whose IP header is at off; its kind says how that went. */
__noinline int packet_parse(struct __sk_buff *skb, struct packet *packet, __u32 off)
{
	__u8 version;

	if (!packet)
		return 0;
	__builtin_memset(packet, 0, sizeof(*packet));
	if (packet_load(skb, off, &version, 1))
		return 0;
	if (version >> 4 == 4)
		packet_ip4(skb, packet, off);
	else if (version >> 4 == 6)
		packet_ip6(skb, packet, off);
	return 0;
}

/* The type of the request that a message answers; its own type when it answers none. */
static __always_inline __u8 icmp_request(const struct packet *packet)
{
	__u8 type = packet->icmp_type;

	if (packet->protocol == PROTO_ICMP) {
		if (type == ICMP4_ECHO_REPLY)
			return ICMP4_ECHO;
		if (type == ICMP4_TIMESTAMP_REPLY || type == ICMP4_EXTENDED_ECHO_REPLY)
			return type - 1;
	} else if (type == ICMP6_ECHO_REPLY || type == ICMP6_EXTENDED_ECHO_REPLY) {
		return type - 1;
	}
	return type;
}

/* The flow of a packet as the pod sees it: out when the pod sent it. */
static __always_inline void packet_flow_key(const struct packet *packet, __u64 netns, int out,
					    struct flow_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->netns = netns;
	__builtin_memcpy(key->local, out ? packet->src : packet->dst, 16);
	__builtin_memcpy(key->remote, out ? packet->dst : packet->src, 16);
	key->local_port = out ? packet->src_port : packet->dst_port;
	key->remote_port = out ? packet->dst_port : packet->src_port;
	key->protocol = packet->protocol;
	if (protocol_is_icmp(packet->protocol)) {
		key->icmp_type = icmp_request(packet);
		key->icmp_asked = out == (key->icmp_type != packet->icmp_type);
	}
}

/*
 * The same in one step for the commonest packets: whole TCP and UDP over IPv4 without options or IPv6
 * without extensions, read where they lie, the IP header begin bytes after data. Returns 0 for any
 * other, of which it says nothing.
 */
static __always_inline int packet_common_flow(struct __sk_buff *skb, __u32 begin, __u64 netns,
					      int out, struct flow_key *key)
{
	void *head = (void *)(long)skb->data + begin, *end = (void *)(long)skb->data_end;
	__u8 *local = out ? key->local : key->remote, *remote = out ? key->remote : key->local;
	const struct ip4_header *ip4 = head;
	const struct ip6_header *ip6 = head;
	const __u16 *ports;
	__u8 protocol;
	__u32 *tail;

	if (head + IP4_LEN + PORTS_LEN > end)
		return 0;
	if (ip4->version_ihl == IP4_PLAIN) {
		if (ip4->frag_be & ~bpf_htons(IP4_DONT))
			return 0;
		protocol = ip4->protocol;
		address_from_ip4(local, ip4->src);
		address_from_ip4(remote, ip4->dst);
		ports = head + IP4_LEN;
	} else if (ip4->version_ihl >> 4 == 6) {
		if (head + IP6_LEN + PORTS_LEN > end || is_mapped(ip6->src) || is_mapped(ip6->dst))
			return 0;
		protocol = ip6->next;
		__builtin_memcpy(local, ip6->src, sizeof(ip6->src));
		__builtin_memcpy(remote, ip6->dst, sizeof(ip6->dst));
		ports = head + IP6_LEN;
	} else {
		return 0;
	}
	if (protocol != PROTO_TCP && protocol != PROTO_UDP)
		return 0;
	key->netns = netns;
	/* In words, as they are hashed: bytes would have to leave the store buffer first. */
	tail = (__u32 *)&key->local_port;
	tail[0] = bpf_ntohs(ports[out ? 0 : 1]) | (__u32)bpf_ntohs(ports[out ? 1 : 0]) << 16;
	tail[1] = protocol;
	return 1;
}

static __always_inline void packet_frag_key(const struct packet *packet, __u64 netns,
					    struct frag_key *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->netns = netns;
	__builtin_memcpy(key->src, packet->src, 16);
	__builtin_memcpy(key->dst, packet->dst, 16);
	key->id = packet->frag_id;
	/* IPv6 knows a datagram by its id alone: later fragments may name another header. */
	key->protocol = packet->ip6 ? 0 : packet->protocol;
}
