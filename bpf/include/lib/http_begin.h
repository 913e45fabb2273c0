/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* GATE, where reading begins in a connection whose requests are judged. */
#include <lib/request_room.h>
#include <maps/requests.h>

/* Whether rules say which requests may be made; 1 where that cannot be told: they are read, and judged. */
static __always_inline int requests_count(const struct request_room *room)
{
	struct ruleset *ruleset;

	return ruleset_of(room->query.revision, room->container, &ruleset) != RULESET_FOUND || has_bits(&ruleset->http);
}

/* A new connection, whose first byte has this sequence number. */
static __always_inline void requests_begin(struct requests *requests, __u32 seq)
{
	struct control *c = control_get();

	stream_begin(&requests->stream, seq);
	requests->refused = requests->end = requests->asked = 0;
	requests->carries = CARRIES_NOTHING;
	requests->named = 0;
	__builtin_memset(&requests->now, 0, sizeof(requests->now));
	http1_begin(&requests->now.parser, c ? c->seed : 0, 0);
	requests->now.parser.upgrade = HTTP1_UPGRADE_MAY;
	requests->before = requests->now;
}

/*
 * Begins where that can be known: with a client's SYN, with a server's first byte. Who may set the sequence numbers of a
 * socket (TCP_REPAIR) connects it without a SYN: that connection has not begun, whatever was read on a former one.
 */
static __always_inline void requests_may_begin(struct requests *requests, struct bpf_sock *sk,
					       const struct request_room *room)
{
	const struct segment *seg = &room->segment;
	struct bpf_tcp_sock *tcp;

	if (seg->out) {
		if (seg->flags & TCP_SYN && sk->state == BPF_TCP_SYN_SENT)
			requests_begin(requests, seg->seq + 1);
		else if (requests->opened != room->opened)
			requests->stream.begun = 0;
		requests->opened = room->opened;
		return;
	}
	if (requests->stream.begun)
		return;
	tcp = bpf_tcp_sock(sk);
	if (tcp && !tcp->bytes_received)
		requests_begin(requests, tcp->rcv_nxt);
}
