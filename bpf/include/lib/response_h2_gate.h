/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Answers at the gate to requests over HTTP/2 that were told: see lib/response_h2.h. Nothing here delays or drops a packet.
 * They are read in the order of TCP as their packets pass; behind a gap, unless it lies within what nobody needs, nothing more
 * of the connection is told.
 */
#include <lib/response_gate.h>
#include <lib/response_h2.h>

/* The state of a socket's connection, which can be made; NULL: nothing of it is told. */
static __always_inline struct h2_status *h2_status_of(struct __sk_buff *skb, int make)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	if (make)
		bpf_sk_storage_delete(&h2_status_by_sock, sk); /* of a former connection of this socket */
	return bpf_sk_storage_get(&h2_status_by_sock, sk, 0, make ? BPF_SK_STORAGE_GET_F_CREATE : 0);
}

/*
 * A connection of HTTP/2 begins: the next byte of its server is the first, unless more is on its way that nobody has read.
 * No memory: nothing is told (open).
 */
__noinline int h2_status_begin(struct __sk_buff *skb, const struct request_room *room)
{
	struct h2_status *s;

	if (!room || !(room->flags & CONTROL_TELL_CONNECT))
		return 0;
	s = h2_status_of(skb, 1);
	if (!s)
		return 0;
	h2_status_start(s);
	s->next = room->edge;
	__sync_lock_test_and_set(&s->turn, H2_STATUS_FREE); /* last: its server may be speaking already */
	return 0;
}

/* The request on a stream was told, and passes. */
__noinline int h2_status_await(struct __sk_buff *skb, const struct request_room *room, __u32 stream)
{
	struct h2_status *s = h2_status_of(skb, 0);

	if (s && room)
		h2_status_expect(s, stream, room->told_ns);
	return 0;
}

/* A segment that is read. */
struct h2_status_segment {
	struct __sk_buff *skb;
	struct h2_status *s;
	const struct label *owner;
	struct response_of of;
};

/* Loads the next bytes. Returns 0: there are none, or they cannot be read, and the connection is lost. */
static __always_inline int h2_status_load(struct h2_status_segment *g)
{
	struct h2_status_piece *piece = &g->s->piece;
	__u32 n;

	if (!piece->left)
		return 0;
	n = h2_status_chunk(piece) + 1;
	return h2_status_loaded(g->s, n, bpf_skb_load_bytes(g->skb, piece->at, piece->chunk, n));
}

static long h2_status_segment_step(__u32 index, void *data)
{
	struct h2_status_segment *g = data;
	struct h2_status *s = g->s;
	__u32 status;

	if (!h2_status_skip(s)) {
		if (s->piece.pos >= s->piece.len && !h2_status_load(g))
			return 1;
		h2_status_next(s);
	}
	if (s->lost)
		return 1;
	if (!s->whole)
		return 0;
	status = h2_status_head(s);
	if (status)
		gate_responded(h2_status_asked(s), status, &g->of, g->owner);
	return 0;
}

/*
 * What of a segment is next. Returns 0: nothing, it was read. A gap before the first has passed while the connection began:
 * settings of a server that speaks first, which the socket had not counted yet.
 */
static __always_inline int h2_status_order(struct h2_status *s, struct segment *seg)
{
	__s32 old = seq_past(s->next, seg->seq);
	__u32 gap = old < 0 && (s->settled || s->at) ? -old : 0;

	if (!seg->len || (old > 0 && (__u32)old >= seg->len))
		return 0;
	if (gap && h2_status_pass(s, gap) != gap) {
		h2_status_lose(s);
		return 0;
	}
	if (old > 0) {
		seg->at += old;
		seg->len -= old;
		seg->seq += old;
	}
	s->next = seg->seq + seg->len;
	return 1;
}

/* A packet of a connection whose requests are told, in the direction of answers. */
__noinline int h2_status_see(struct __sk_buff *skb, const struct flow_key *key, const struct sock_state *state, int out)
{
	struct h2_status_segment g = {.skb = skb};
	struct h2_status *s = h2_status_of(skb, 0);
	struct segment seg;

	if (!key || !state || !s || s->lost || !segment_parse(skb, out, &seg))
		return 0;
	if (__sync_val_compare_and_swap(&s->turn, H2_STATUS_FREE, H2_STATUS_BUSY) != H2_STATUS_FREE)
		return 0; /* open: another processor reads, and the next packet finds a gap */
	if (h2_status_order(s, &seg)) {
		g.of.key = *key;
		g.of.direction = out ? DIR_INGRESS : DIR_EGRESS;
		g.s = s;
		g.owner = &state->owner;
		h2_status_give(s, seg.at, seg.len);
		bpf_loop(H2_STATUS_STEPS, h2_status_segment_step, &g, 0);
		h2_status_given(s);
	}
	__sync_lock_test_and_set(&s->turn, H2_STATUS_FREE);
	return 0;
}
