/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* Answers to requests that were told at the gate: see lib/response.h. Nothing here delays or drops a packet. */
#include <lib/packet.h>
#include <lib/response.h>
#include <lib/segment.h>
#include <maps/requests.h>

/* A segment has passed in which requests were told: the answer is awaited. No memory: it is not told (open). */
__noinline int response_await(struct __sk_buff *skb, const struct request_room *room)
{
	struct bpf_sock *sk = skb->sk;
	struct response *r;

	if (!room || !sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	r = bpf_sk_storage_get(&response_by_sock, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (r)
		response_expect(r, room, room->edge);
	return 0;
}

/* The bytes of a segment that are the next of a response. Returns an enum status_event. */
static __always_inline int response_segment(struct __sk_buff *skb, struct response *r, const struct segment *seg)
{
	__s32 old = seq_past(r->next, seg->seq);
	__u8 line[16] = {};
	__u32 n;

	if (!seg->len || old < 0 || (__u32)old >= seg->len)
		return STATUS_MORE; /* no bytes, or not yet its turn, or seen */
	n = response_chunk(seg->len - old);
	PARSE_OPAQUE(n);
	n = (n & 15) + 1;
	if (bpf_skb_load_bytes(skb, seg->at + old, line, n))
		return STATUS_BAD;
	r->next += n;
	return response_feed(r, line, n);
}

/* Global: its stack is its own. */
__noinline int gate_responded(__u64 asked, __u32 status, const struct response_of *of, const struct label *owner)
{
	if (!of || !owner)
		return 0;
	return tell_response(asked, status, of, owner, STEP_GATE);
}

/* A packet of a connection whose requests are told, in the direction of answers. */
__noinline int response_see(struct __sk_buff *skb, const struct flow_key *key, const struct sock_state *state, int out)
{
	struct response_of of = {};
	struct bpf_sock *sk = skb->sk;
	struct segment seg;
	struct response *r;
	int event;

	if (!key || !state || !sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	r = sk ? bpf_sk_storage_get(&response_by_sock, sk, 0, 0) : 0;
	if (!r || !r->asked_ns || !segment_parse(skb, out, &seg))
		return 0;
	event = response_segment(skb, r, &seg);
	if (event == STATUS_BAD)
		r->asked_ns = 0;
	if (event == STATUS_INTERIM)
		response_again(r, seg.seq + seg.len);
	if (event != STATUS_DONE)
		return 0;
	of.key = *key;
	of.direction = out ? DIR_INGRESS : DIR_EGRESS;
	return gate_responded(response_asked(r), r->code, &of, &state->owner);
}
