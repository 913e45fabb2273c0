/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * GATE, queries over TCP that may not be asked: as lib/dns_refuse.h, gate_skb lets the segment go as far as the veth, where
 * gate_tc answers REFUSED in the resolver's name (lib/dns_over.h). The client's bytes after it are numbered as the resolver
 * never saw them, so nothing can follow: the answer ends the connection, and RFC 7766 (6.2.4) has clients ask again on a
 * new one for what else they wait for.
 *
 * What nobody can answer, since it could not be read or is the resolver's own, is reset at both ends when one of them says
 * something more.
 *
 * The answer begins where the last one ended. While one is half there, or not yet taken, the query is dropped instead,
 * and comes again. Fails closed: from then on the flow is FLOW_REFUSED, of which gate_tc passes nothing.
 */
#include <lib/dns_pass.h>
#include <lib/segment.h>

static __always_inline struct dns_stream *stream_of(struct bpf_sock *sk, int out, __u64 flags)
{
	if (out)
		return bpf_sk_storage_get(&queries_by_sock, sk, 0, flags);
	return bpf_sk_storage_get(&answers_by_sock, sk, 0, flags);
}

/* Sets what the flow is for gate_tc. Returns 0 when it has been lost: its next packet makes it again. */
static __always_inline int flow_becomes(const struct flow_key *key, __u32 flow_state)
{
	struct flow *flow = bpf_map_lookup_elem(&flow_by_tuple, key);

	if (flow)
		flow->state = flow_state;
	return !!flow;
}

/* A socket whose connection was refused opens another. Not inline: stacks below its caller are deep. */
__noinline int stream_anew(struct dns_scratch *s, struct sock_state *state)
{
	struct flow_key key;

	if (!s || !state)
		return 0;
	key = s->key;
	state->refused = 0;
	return flow_becomes(&key, FLOW_DNS);
}

/* What a client says behind what was refused: it is answered at the veth, unread. */
__noinline int stream_late(struct dns_scratch *s)
{
	struct flow_key key;

	if (!s)
		return 0;
	key = s->key;
	s->unread = 0;
	s->verdict = VERDICT_DROP;
	s->refused = flow_becomes(&key, FLOW_REFUSED);
	return 0;
}

/* Whether an answer may begin with the byte that the client's segment wants next, place. */
static __always_inline int stream_is_between(struct dns_stream *answers, __u32 place)
{
	int between;

	if (!answers)
		return 1; /* there was none yet */
	if (!stream_enter(&answers->order))
		return 0;
	between = !answers->order.begun || (answers->order.next == place && !answers->now.filled);
	stream_leave(&answers->order);
	return between;
}

/* Writes the refusal of the query in s->m, whose text begins at text behind its length. Returns 0 when it cannot. */
static __always_inline int refusal_write(struct dns_scratch *s)
{
	__u32 i, len = s->m.question, flags = (s->m.flags & DNS_KEPT) | DNS_REFUSAL;
	__u8 *text = s->refusal.text;

	for (i = 0; i < STREAM_REFUSAL_TEXT / 8; i++)
		((__u64 *)text)[i] = 0;
	if (len < sizeof(__u16) + DNS_HEADER || len > STREAM_REFUSAL_TEXT)
		return 0;
	PARSE_OPAQUE(len); /* else the mask goes, and Linux 6.1 has no bound */
	len = ((len - 1) & (STREAM_REFUSAL_TEXT - 1)) + 1;
	if (bpf_probe_read_kernel(text, len, (void *)(long)s->m.memory))
		return 0;
	text[0] = (len - sizeof(__u16)) >> 8;
	text[1] = len - sizeof(__u16);
	text[4] = flags >> 8;
	text[5] = flags;
	for (i = 6; i < sizeof(__u16) + DNS_HEADER; i++)
		text[i] = i == 7; /* one question, nothing else */
	s->refusal.len = len;
	return 1;
}

/*
 * Ends a connection at the veth, because of the message in s->m, which its stream still holds; s->refused: it is so, and
 * a query's segment may go there. Else it is to be dropped, and comes again. Static, for Linux 6.1 takes no value of a map
 * from an argument of a global function.
 */
static __noinline int stream_refuse(struct __sk_buff *skb, struct dns_scratch *s, struct sock_state *state)
{
	struct bpf_sock *sk = skb->sk;
	struct flow_key key;
	__u32 begin, place;

	if (!s || !state)
		return 0;
	sk = sk ? bpf_sk_fullsock(sk) : 0;
	begin = segment_begin(skb);
	if (!sk || !begin || bpf_skb_load_bytes(skb, begin + TCP_ACK_SEQ, &place, sizeof(place)))
		return 0;
	place = bpf_ntohl(place);
	s->refusal.len = 0;
	key = s->key;
	if (!is_gated(skb, &key))
		return 0;
	if (s->refuse == DNS_REFUSE_TELL && (!stream_is_between(stream_of(sk, 0, 0), place) || !refusal_write(s)))
		return 0;
	s->refusal.place = place;
	if (bpf_map_update_elem(&stream_refusals, &key, &s->refusal, BPF_ANY))
		return 0;
	state->refused = 1;
	s->refused = flow_becomes(&key, FLOW_REFUSED);
	return 0;
}
