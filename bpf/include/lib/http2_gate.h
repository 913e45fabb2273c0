/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * GATE, requests over HTTP/2 in cleartext, from a connection's first byte on (prior knowledge, RFC 9113, 3.3): in the
 * place of lib/http_gate.h's reader, with its order of bytes and its verdicts. A change to HTTP/2 amid HTTP/1 (Upgrade:
 * h2c, a second preface) is no request there.
 *
 * Fails closed: a connection whose state is not to be had cannot be read.
 */
#include <lib/hello_gate.h>
#include <lib/request_h2.h>
#include <lib/response_h2_gate.h>

_Static_assert(sizeof(struct h2) <= sizeof(struct h2_room), "fits");
_Static_assert(__builtin_offsetof(struct h2, hpack.ring) == sizeof(struct h2_before), "all but the text");
_Static_assert(HPACK_RING == sizeof(struct h2_text), "all of the text");

/* The text of a table before what comes in, by the place of the room that this is read in. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REQUEST_ROOMS);
	__type(key, __u32);
	__type(value, struct h2_text);
} h2_texts SEC(".maps");

/* What is kept of the connection; NULL: it is not of HTTP/2. */
static __always_inline struct h2 *http2_of(struct __sk_buff *skb, const struct requests *requests)
{
	struct bpf_sock *sk = skb->sk;

	if (!sk || requests->carries != CARRIES_HTTP2)
		return 0;
	sk = bpf_sk_fullsock(sk);
	return sk ? (struct h2 *)bpf_sk_storage_get(&h2_by_sock, sk, 0, 0) : 0;
}

/*
 * Begins behind "PRI " in the place of a connection's first request. Returns 0: it is something else, or there is no
 * memory (closed: it stays what cannot be read).
 */
__noinline int http2_begin(struct __sk_buff *skb, struct requests *requests, const struct request_room *room)
{
	struct bpf_sock *sk = skb->sk;
	__u32 seed;
	struct h2 *h;

	if (!requests || !room || !sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk || requests->now.parser.flaw != FLAW_HTTP2 || requests->asked || room->others)
		return 0;
	bpf_sk_storage_delete(&h2_by_sock, sk); /* of a former connection of this socket */
	bpf_sk_storage_delete(&h2_before_by_sock, sk);
	bpf_sk_storage_delete(&h2_text_by_sock, sk);
	h = bpf_sk_storage_get(&h2_by_sock, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!h) {
		count_error(SITE_SOCK_STORAGE);
		return 0;
	}
	seed = requests->now.parser.seed;
	__builtin_memset(&requests->now, 0, sizeof(requests->now));
	http1_begin(&requests->now.parser, seed, 0);
	request_h2_begin(h, REQUEST_H2_PREFACE);
	h->user.request.parser.seed = seed;
	h2_status_begin(skb, room);
	requests->carries = CARRIES_HTTP2;
	return 1;
}

/* Begins to read a packet's bytes. Returns the connection's state; NULL: nothing can be read of it. */
static __always_inline struct h2 *http2_enter(struct __sk_buff *skb, struct requests *requests, struct request_room *room,
					      struct label *owner)
{
	struct h2 *h = http2_of(skb, requests);

	if (!h) {
		requests_give_up(requests, FLAW_UNREAD);
		return 0;
	}
	if (!request_h2_enter(h, room, owner)) {
		requests_give_up(requests, h->user.request.parser.flaw);
		return 0;
	}
	if (h->open)
		request_h2_said(room, 1);
	return h;
}

/* Ends it: text that goes on in another packet is walked, as the room is given away. */
static __always_inline void http2_leave(struct h2 *h, struct request_room *room)
{
	request_h2_walk(h, 0);
	if (h->open)
		request_h2_said(room, 0);
}

/* A step of reading. Returns an enum http1_event. */
static __always_inline int http2_step(struct h2 *h, struct request_room *room)
{
	h->user.event = HTTP1_MORE;
	request_h2_on(h, &room->parse);
	if (h->user.event == HTTP1_HEAD)
		request_h2_said(room, 0);
	return h->user.event;
}

/* Whether a head goes on in the next packet. */
__noinline int http2_is_partial(struct __sk_buff *skb, const struct requests *requests)
{
	struct h2 *h;

	if (!requests)
		return 0;
	h = http2_of(skb, requests);
	return h && h->open;
}

/* How many of the next bytes may be anything: those of a frame that is no head's. */
__noinline int http2_free(struct __sk_buff *skb, const struct requests *requests)
{
	struct h2 *h;

	if (!requests)
		return 0;
	h = http2_of(skb, requests);
	return h && h2_is_passing(h) ? h->left : 0;
}

/*
 * The connection's state is to be as it was kept. Where nothing was, it began as HTTP/2 in the bytes that are read anew.
 * Closed: a table whose text is gone cannot be read on.
 */
static __always_inline void http2_restore(struct bpf_sock *sk, struct requests *requests, struct h2 *h)
{
	struct h2 *before = bpf_sk_storage_get(&h2_before_by_sock, sk, 0, 0);
	struct h2_text *text;
	int overwritten;

	if (!before) {
		requests->carries = CARRIES_REQUESTS;
		requests->asked = 0; /* nothing was before */
		return;
	}
	overwritten = hpack_is_overwritten(&h->hpack, &before->hpack);
	bpf_probe_read_kernel(h, sizeof(struct h2_before), before);
	if (!overwritten)
		return;
	text = bpf_sk_storage_get(&h2_text_by_sock, sk, 0, 0);
	if (!text) {
		requests_give_up(requests, FLAW_UNREAD);
		return;
	}
	bpf_probe_read_kernel(h->hpack.ring, sizeof(*text), text);
	bpf_sk_storage_delete(&h2_text_by_sock, sk);
}

/* The state is kept, its text only until what comes in was read. No memory: nothing more can be read (closed). */
static __always_inline void http2_keep_state(struct bpf_sock *sk, struct requests *requests, const struct request_room *room,
					     struct h2 *h)
{
	struct h2 *before = bpf_sk_storage_get(&h2_before_by_sock, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	__u32 place = room->place;
	struct h2_text *text = bpf_map_lookup_elem(&h2_texts, &place);

	if (!before || !text) {
		count_error(SITE_SOCK_STORAGE);
		requests_give_up(requests, FLAW_UNREAD);
		return;
	}
	if (hpack_is_overwritten(&h->hpack, &before->hpack))
		bpf_sk_storage_delete(&h2_text_by_sock, sk); /* of bytes that were taken */
	h->hpack.wrote = 0;
	bpf_probe_read_kernel(before, sizeof(struct h2_before), h);
	bpf_probe_read_kernel(text, sizeof(*text), h->hpack.ring);
}

/* What comes in is read anew (again) from where it was kept, or kept. */
__noinline int http2_keep(struct __sk_buff *skb, struct requests *requests, const struct request_room *room, int again)
{
	struct bpf_sock *sk = skb->sk;
	struct h2 *h;

	if (!requests || !room || !sk)
		return 0;
	h = http2_of(skb, requests);
	sk = bpf_sk_fullsock(sk);
	if (!h || !sk)
		return 0;
	if (again)
		http2_restore(sk, requests, h);
	else
		http2_keep_state(sk, requests, room, h);
	return 0;
}

/*
 * What came in was read: text that it has overwritten is kept. No memory: what TCP does not take of it cannot be read again
 * (closed).
 */
__noinline int http2_keep_text(struct __sk_buff *skb, const struct requests *requests, const struct request_room *room)
{
	struct bpf_sock *sk = skb->sk;
	struct h2 *h, *before;
	struct h2_text *text, *kept;
	__u32 place;

	if (!requests || !room || !sk)
		return 0;
	h = http2_of(skb, requests);
	sk = bpf_sk_fullsock(sk);
	if (!h || !sk)
		return 0;
	before = bpf_sk_storage_get(&h2_before_by_sock, sk, 0, 0);
	if (!before || !hpack_is_overwritten(&h->hpack, &before->hpack))
		return 0;
	place = room->place;
	text = bpf_map_lookup_elem(&h2_texts, &place);
	kept = bpf_sk_storage_get(&h2_text_by_sock, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (text && kept)
		bpf_probe_read_kernel(kept, sizeof(*kept), text);
	else
		count_error(SITE_SOCK_STORAGE);
	return 0;
}
