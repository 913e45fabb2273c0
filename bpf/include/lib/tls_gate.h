/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * GATE, for TLS on flows that only rules.http allow: it passes as long as a tap reads what the library encrypts that
 * it comes from (lib/tie.h), which judges the requests. A connection is TLS from its first byte or not at all, so that
 * no cleartext passes for it.
 *
 * Fails closed: TLS that no tap sees is left to lib/http_gate.h, where it is no request, and so is what lies in
 * memory that its sender can still change, which no library that writes to its socket leaves there.
 */
#include <lib/segment.h>
#include <lib/tie_status.h>
#include <maps/requests.h>
#include <parse/http1.h>

enum tls_records {
	TLS_HANDSHAKE = 0x16, /* type of the first one */
};

/* Whether requests are read on a connection at the gate, or what could not be read. */
static __always_inline int requests_are_read(const struct requests *requests)
{
	return requests->carries == CARRIES_REQUESTS || requests->carries >= CARRIES_HTTP2;
}

/* Leaves what comes from here on to who reads requests, as something that cannot be read. */
static __always_inline void requests_give_up(struct requests *requests, __u32 flaw)
{
	if (requests->carries != CARRIES_HTTP2)
		requests->carries = CARRIES_REQUESTS;
	http1_bad(&requests->now.parser, flaw);
}

/* The same, from this segment on. */
static __always_inline int tls_give_up(struct requests *requests, const struct segment *seg, __u32 flaw)
{
	requests_give_up(requests, flaw);
	requests->stream.next = seg->seq;
	return VERDICT_NONE;
}

/* Whether the first bytes of a connection are a TLS handshake. */
static __always_inline int tls_begins(struct __sk_buff *skb, const struct requests *requests,
				      const struct segment *seg)
{
	__u8 type = 0;

	return requests->stream.begun && seg->seq == requests->stream.next &&
	       !bpf_skb_load_bytes(skb, seg->at, &type, sizeof(type)) && type == TLS_HANDSHAKE;
}

/* The library's object that the connection of this packet is tied to; NULL: none. */
static __always_inline struct tls_tie *tls_tie_of(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	if (sk)
		sk = bpf_sk_fullsock(sk);
	return sk ? bpf_sk_storage_get(&tie_by_sock, sk, 0, 0) : 0;
}

/* Whether a tap reads what the connection of this packet carries. Returns an enum tie_status. */
static __always_inline int tls_status(struct __sk_buff *skb)
{
	struct tls_tie *tie = tls_tie_of(skb);

	return tie ? tie_status(tie) : TIE_NONE;
}

/* Returns a verdict for a segment that leaves on a connection of TLS that a tap serves, for others VERDICT_NONE. */
static __always_inline int tls_pass(struct __sk_buff *skb, struct requests *requests, const struct segment *seg)
{
	int status;

	if (!seg->out)
		return VERDICT_NONE;
	if (!requests->stream.begun || requests_are_read(requests) || requests->refused || !seg->len || seg->flags & TCP_SYN)
		return VERDICT_NONE;
	status = tls_status(skb);
	if (requests->carries == CARRIES_NOTHING) {
		if ((status != TIE_GOOD && status != TIE_HELD) || !tls_begins(skb, requests, seg))
			return VERDICT_NONE;
		requests->carries = CARRIES_TLS;
	}
	if (status == TIE_DENIED) {
		requests->refused = VERDICT_DENY; /* told by the tap */
		requests->end = HTTP_END_RESET;
		return VERDICT_DENY;
	}
	if (status == TIE_NONE)
		return tls_give_up(requests, seg, FLAW_TLS);
	if (segment_is_shared(skb))
		return tls_give_up(requests, seg, FLAW_SHARED);
	if (seq_past(seg->seq + seg->len, requests->stream.next) > 0)
		requests->stream.next = seg->seq + seg->len; /* for who ends it */
	return VERDICT_ALLOW;
}
