/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * A query for a name that may not be asked for is answered with REFUSED, as a resolver would: gate_skb,
 * which knows who asks, notes it down and lets it go as far as the veth, where gate_tc turns it round.
 * The note is looked up by all of flow, id and name, so that it says nothing of any other query.
 */
#include <lib/dns_room.h>
#include <lib/turn.h>

enum refuse_limits {
	REFUSE_NS = 30000000000ULL, /* how long a query may take to the veth */
	REFUSE_BUFFER = 320,	    /* pseudo header and the longest refusal, a multiple of four */
	IP6_PSEUDO = 40,
	DNS_KEPT = 0x0110, /* bits of a query that its answer keeps: RD, CD */
	DNS_REFUSAL = 0x8085, /* QR, RA, REFUSED */
};

static __always_inline void refusal_key(struct refusal_key *key, const struct flow_key *flow,
					const struct dns_message *m)
{
	key->flow = *flow;
	key->exact = m->exact;
	key->hash = m->hash;
	key->id = m->id;
}

/* Notes that a query is to be refused at the veth. Returns 0 if it could not be noted. */
__noinline int refuse_later(const struct flow_key *flow, const struct dns_message *m)
{
	__u64 until = bpf_ktime_get_boot_ns() + REFUSE_NS, former;
	struct refusal_key key = {};
	__u64 *noted;

	if (!flow || !m)
		return 0;
	refusal_key(&key, flow, m);
	if (!bpf_map_update_elem(&refusals, &key, &until, BPF_NOEXIST))
		return 1;
	noted = bpf_map_lookup_elem(&refusals, &key);
	if (!noted)
		return 0;
	former = *noted;
	/* 0: just being swept. */
	return former && __sync_val_compare_and_swap(noted, former, until) == former;
}

/* Whether the query in m is to be refused. */
static __always_inline int is_refused(const struct flow_key *flow, const struct dns_message *m)
{
	struct refusal_key key = {};

	refusal_key(&key, flow, m);
	return !!bpf_map_lookup_elem(&refusals, &key);
}

/* The UDP and DNS headers of the answer, at off. Returns 0 when they cannot be made. */
static __always_inline int turn_udp(struct __sk_buff *skb, const struct dns_message *m, __u32 off,
				    __u32 len)
{
	__u16 head[10], port;

	if (bpf_skb_load_bytes(skb, off, head, sizeof(head)))
		return 0;
	port = head[0];
	head[0] = head[1];
	head[1] = port;
	head[2] = bpf_htons(len);
	head[3] = 0;
	head[5] = bpf_htons((m->flags & DNS_KEPT) | DNS_REFUSAL);
	head[6] = bpf_htons(1);
	head[7] = head[8] = head[9] = 0;
	return !bpf_skb_store_bytes(skb, off, head, sizeof(head), 0);
}

/* The checksum that IPv6 needs, over the pseudo header in buffer and the rest. */
static __always_inline int sum_ip6(struct __sk_buff *skb, __u32 off, __u32 len, __u8 *buffer)
{
	__u16 sum;

	if (len > REFUSE_BUFFER - IP6_PSEUDO)
		return 0;
	len = ((len - 1) & 511) + 1;
	if (len > REFUSE_BUFFER - IP6_PSEUDO || bpf_skb_load_bytes(skb, off, buffer + IP6_PSEUDO, len))
		return 0;
	sum = fold(bpf_csum_diff(0, 0, (__u32 *)buffer, REFUSE_BUFFER, 0));
	if (!sum)
		sum = 0xffff;
	return !bpf_skb_store_bytes(skb, off + 6, &sum, sizeof(sum), 0);
}

/*
 * Makes the query in m, in a frame on the node's side of the veth, the answer REFUSED to who sent it.
 * Returns 0 when it cannot: closed, the query is dropped.
 */
__noinline int turn_round(struct __sk_buff *skb, struct dns_message *m)
{
	__u32 off, len, i, ip6;
	__u8 *buffer;

	if (!m)
		return 0;
	off = m->begin - UDP_HEADER;
	len = m->question - off;
	ip6 = skb->protocol == bpf_htons(ETHERTYPE_IP6);
	buffer = m->name; /* has been read */
	for (i = 0; i < REFUSE_BUFFER / 8; i++)
		((__u64 *)buffer)[i] = 0;
	if (bpf_skb_change_tail(skb, m->question, 0) || !turn_link(skb))
		return 0;
	if (ip6 ? !turn_ip6(skb, len, 1, PROTO_UDP, buffer) : !turn_ip4(skb, len, 1, buffer))
		return 0;
	buffer[34] = len >> 8;
	buffer[35] = len;
	buffer[39] = PROTO_UDP;
	if (!turn_udp(skb, m, off, len))
		return 0;
	return !ip6 || sum_ip6(skb, off, len, buffer);
}
