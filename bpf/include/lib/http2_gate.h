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

enum http2_gate_limits {
	HTTP2_PREFACE = 4, /* bytes of the preface by which HTTP/2 is told from HTTP/1: "PRI " */
};

_Static_assert(sizeof(struct h2) <= sizeof(struct h2_room), "fits");

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
	h = bpf_sk_storage_get(&h2_by_sock, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!h) {
		count_error(SITE_SOCK_STORAGE);
		return 0;
	}
	seed = requests->now.parser.seed;
	__builtin_memset(&requests->now, 0, sizeof(requests->now));
	http1_begin(&requests->now.parser, seed, 0);
	request_h2_begin(h, HTTP2_PREFACE);
	h->user.request.parser.seed = seed;
	requests->carries = CARRIES_HTTP2;
	return 1;
}

/* Takes what a head has said from where it is read, or (into) puts there what it has said in former packets. */
static __always_inline void http2_said(struct request_room *room, int into)
{
	__u32 place = room->place;
	struct request_room *text = bpf_map_lookup_elem(&request_texts, &place);

	if (!text)
		return;
	if (into)
		bpf_probe_read_kernel(&text->said, __builtin_offsetof(struct said, spare), &room->said);
	else
		bpf_probe_read_kernel(&room->said, __builtin_offsetof(struct said, spare), &text->said);
}

/* Passes over what there is of a frame that is no head's. */
static __always_inline void http2_skip(struct h2 *h, struct request_room *room)
{
	struct http1_room *parse = &room->parse;
	__u32 here = parse->len - parse->pos;
	__u32 n = request_h2_skip(h, here + (room->end - room->at));

	room->others = 1;
	if (n <= here) {
		parse->pos += n;
		return;
	}
	room->at += n - here;
	parse->pos = parse->len = 0;
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
		http2_said(room, 1);
	return h;
}

/* Ends it: text that goes on in another packet is walked, as the room is given away. */
static __always_inline void http2_leave(struct h2 *h, struct request_room *room)
{
	request_h2_walk(h, 0);
	if (h->open)
		http2_said(room, 0);
}

/* A step of reading. Returns an enum reading_acts. */
static __always_inline int http2_step(struct h2 *h, struct requests *requests, struct request_room *room)
{
	h->user.event = HTTP1_MORE;
	request_h2_on(h, &room->parse);
	if (h->user.event == HTTP1_BODY)
		http2_skip(h, room);
	if (h->user.event == HTTP1_HEAD) {
		http2_said(room, 0);
		return READING_JUDGE;
	}
	if (h->user.event != HTTP1_BAD)
		return READING_ON;
	requests_give_up(requests, h->user.request.parser.flaw);
	return READING_GIVE_UP;
}

/* Asks in room->query about the request whose head was read: see request_ask(). */
__noinline int http2_ask(struct __sk_buff *skb, struct requests *requests, struct request_room *room, struct label *owner)
{
	struct h2 *h;

	if (!requests || !room || !owner)
		return 0;
	h = http2_of(skb, requests);
	if (!h) {
		http1_bad(&requests->now.parser, FLAW_UNREAD);
		return request_ask(&requests->now, room, owner);
	}
	requests->on = h->newest;
	return request_ask(&h->user.request, room, owner);
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

/* How many of the next bytes may be anything. */
__noinline int http2_free(struct __sk_buff *skb, const struct requests *requests)
{
	struct h2 *h;

	if (!requests)
		return 0;
	h = http2_of(skb, requests);
	return h && h2_is_passing(h) ? h->left : 0;
}

/*
 * What comes in is read anew (again) from where it was kept, or kept; where nothing was kept, it began as HTTP/2 in the bytes
 * that are read anew. No memory: nothing more can be read (closed).
 */
__noinline int http2_keep(struct __sk_buff *skb, struct requests *requests, int again)
{
	struct bpf_sock *sk = skb->sk;
	struct h2 *h, *before;

	if (!requests || !sk)
		return 0;
	h = http2_of(skb, requests);
	if (!h)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	before = bpf_sk_storage_get(&h2_before_by_sock, sk, 0, again ? 0 : BPF_SK_STORAGE_GET_F_CREATE);
	if (!before) {
		if (again) {
			requests->carries = CARRIES_REQUESTS;
			requests->asked = 0; /* nothing was before */
			return 0;
		}
		count_error(SITE_SOCK_STORAGE);
		requests_give_up(requests, FLAW_UNREAD);
	} else if (again) {
		bpf_probe_read_kernel(h, sizeof(*h), before);
	} else {
		bpf_probe_read_kernel(before, sizeof(*before), h);
	}
	return 0;
}
