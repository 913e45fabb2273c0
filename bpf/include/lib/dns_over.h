/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * GATE, at the veth: TCP connections that are over because a query was refused (FLOW_REFUSED, lib/dns_stream_refuse.h).
 * The resolver gets a reset, at once and whenever it says something more. The client gets the answer REFUSED and the end
 * of the connection, and what it says then is answered as by a host that has closed it: its end is acknowledged, and
 * more data reset. Nothing else passes. Where it can be told nothing, both ends are reset as soon as one of them says something.
 */
#include <lib/dns_room.h>
#include <lib/tcp_answer.h>

_Static_assert((int)STREAM_REFUSAL_TEXT == (int)TCP_TEXT, "a refusal is sent whole");

/* Sequence number behind what the client is told, with the end of the connection. */
static __always_inline __u32 over_end(const struct stream_refusal *refusal)
{
	return refusal->place + refusal->len + 1;
}

/* Answers a segment of the client that has been told. Returns an enum tcp_next. */
static __always_inline int over_told(struct __sk_buff *skb, const struct tcp_seen *seen)
{
	struct tcp_say say = {.seq = seen->ack, .flags = TCP_ACK, .back = 1};

	if (seen->len)
		return tcp_reset_back(skb, seen);
	say.ack = seen->seq + tcp_takes(seen);
	return seen->flags & TCP_FIN && tcp_make(skb, seen, &say, 0);
}

/* A segment of a client. Returns an enum tcp_next. */
__noinline int over_from_client(struct __sk_buff *skb, const struct flow_key *flow)
{
	struct tcp_say say = {.flags = TCP_PSH | TCP_ACK | TCP_FIN, .back = 1};
	struct stream_refusal *refusal;
	struct tcp_seen seen = {};
	struct flow_key key;

	if (!flow || !tcp_read(skb, &seen))
		return TCP_NEXT_DROP;
	if (seen.flags & TCP_RST)
		return seen.len ? TCP_NEXT_DROP : TCP_NEXT_PASS; /* also what is sent in its name */
	key = *flow;
	refusal = bpf_map_lookup_elem(&stream_refusals, &key);
	if (!refusal || seen.flags & TCP_SYN)
		return TCP_NEXT_DROP; /* comes again, with a new refusal */
	if (refusal->len && seen.ack == over_end(refusal))
		return over_told(skb, &seen);
	if (refusal->len && (!seen.len || seen.ack != refusal->place))
		return TCP_NEXT_DROP; /* on its way to be told; what was to be refused comes again */
	if (!tcp_reset_on(skb, &seen, seen.seq, BPF_F_INGRESS))
		return TCP_NEXT_DROP;
	if (!refusal->len)
		return tcp_reset_back(skb, &seen);
	say.seq = seen.ack;
	say.ack = seen.seq + tcp_takes(&seen);
	say.len = refusal->len;
	return tcp_make(skb, &seen, &say, refusal->text);
}

/* A segment of the resolver, as what is made of the client's does not come by here. Returns an enum tcp_next. */
__noinline int over_to_client(struct __sk_buff *skb, const struct flow_key *flow)
{
	struct stream_refusal *refusal;
	struct tcp_seen seen = {};
	struct flow_key key;

	if (!flow || !tcp_read(skb, &seen))
		return TCP_NEXT_DROP;
	if (seen.flags & TCP_RST)
		return TCP_NEXT_PASS;
	if (!(seen.flags & TCP_ACK))
		return TCP_NEXT_DROP;
	key = *flow;
	refusal = bpf_map_lookup_elem(&stream_refusals, &key);
	if (refusal && !refusal->len && !tcp_reset_on(skb, &seen, seen.seq, 0))
		return TCP_NEXT_DROP;
	return tcp_reset_back(skb, &seen);
}
