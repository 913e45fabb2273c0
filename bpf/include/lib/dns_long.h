/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * GATE, answers over TCP that are longer than what can be kept with a socket: they are put together in one of a few rooms.
 * A room is its socket's for as long as an answer is waited for, so that who never ends one keeps nobody else out, and a
 * container has only some of them. Who is at work in a room holds it, so that nobody's bytes get into another's answer.
 *
 * Fails closed: without a room the packet is dropped, and comes again; an answer whose room was taken is not read further.
 */
#include <lib/dns_gate.h>
#include <maps/names.h>

enum dns_long_limits {
	ROOM_REST_NS = 500000000, /* how long a whole answer is kept, in case TCP has not taken it */
};

enum long_next {
	LONG_AGAIN = 0, /* to be dropped, and comes again */
	LONG_READ,
	LONG_LOST,	/* can not be read any more */
};

/* Leaves the room that is held, if any; stream: in whose place it is kept, if it is. */
static __always_inline void long_give(struct dns_scratch *s, struct dns_stream *stream)
{
	__u32 key = s->held - 1, kept = stream->kept.room == s->held;
	struct dns_room *room;

	if (!s->held)
		return;
	room = bpf_map_lookup_elem(&dns_rooms, &key);
	if (!room)
		return;
	if (stream->now.room != s->held)
		room->until = kept ? bpf_ktime_get_boot_ns() + ROOM_REST_NS : 0;
	s->held = 0;
	__sync_lock_test_and_set(&room->busy, 0);
}

/* What all steps over rooms share. */
struct long_look {
	__u64 container;
	__u64 now;
	__u64 cookie;
	__u32 had;  /* rooms of the container */
	__u32 held; /* as in struct dns_scratch */
};

/* Takes a room that is free, unless the container has enough. */
static long long_look(__u32 index, void *data)
{
	struct long_look *look = data;
	struct dns_room *room = bpf_map_lookup_elem(&dns_rooms, &index);

	if (!room)
		return 1;
	if (room->until >= look->now) {
		look->had += room->container == look->container;
		return 0;
	}
	if (look->held || __sync_val_compare_and_swap(&room->busy, 0, 1))
		return 0;
	if (room->until >= look->now) { /* taken in between */
		__sync_lock_test_and_set(&room->busy, 0);
		return 0;
	}
	room->owner = look->cookie;
	room->container = look->container;
	room->until = look->now + DNS_WAIT_NS;
	look->held = index + 1;
	return 0;
}

/* Takes a room for the message whose length has come; s->held says which. */
__noinline int long_take(struct __sk_buff *skb, struct dns_scratch *s, __u64 container)
{
	struct long_look look = {.container = container};
	struct dns_room *room;
	__u32 key;

	if (!s)
		return 0;
	look.now = bpf_ktime_get_boot_ns();
	look.cookie = bpf_get_socket_cookie(skb);
	bpf_loop(DNS_ROOMS, long_look, &look, 0);
	key = look.held - 1;
	room = look.held ? bpf_map_lookup_elem(&dns_rooms, &key) : 0;
	if (!room || look.had >= DNS_ROOMS_OF_ONE) {
		count_error(SITE_DNS_BUSY);
		if (room) {
			room->until = 0;
			__sync_lock_test_and_set(&room->busy, 0);
		}
		return 0;
	}
	s->held = look.held;
	return 0;
}

/* Holds the room of a message that has begun. Returns an enum long_next. */
static __always_inline int long_hold(struct __sk_buff *skb, struct dns_scratch *s, struct dns_stream *stream)
{
	__u32 key = stream->now.room - 1;
	struct dns_room *room = bpf_map_lookup_elem(&dns_rooms, &key);

	if (!room)
		return LONG_LOST;
	if (__sync_val_compare_and_swap(&room->busy, 0, 1))
		return LONG_AGAIN;
	if (room->owner == bpf_get_socket_cookie(skb)) {
		s->held = stream->now.room;
		return LONG_READ;
	}
	__sync_lock_test_and_set(&room->busy, 0);
	return LONG_LOST;
}

/*
 * Some bytes of a message that is want bytes long with its length, which is in the stream's text at base. Returns an
 * enum long_next.
 */
__noinline int long_bytes(struct __sk_buff *skb, struct dns_scratch *s, struct dns_stream *stream, __u32 want)
{
	__u32 key, filled, n, base;
	struct dns_room *room;
	int next;

	if (!s || !stream)
		return LONG_LOST;
	if (s->held && s->held != stream->now.room)
		long_give(s, stream);
	if (stream->now.room && !s->held) {
		next = long_hold(skb, s, stream);
		if (next != LONG_READ)
			return next;
	}
	if (!s->held)
		long_take(skb, s, s->container);
	key = s->held - 1;
	room = s->held ? bpf_map_lookup_elem(&dns_rooms, &key) : 0;
	if (!room)
		return LONG_AGAIN;
	filled = stream->now.filled & (DNS_ROOM_TEXT - 1);
	if (!stream->now.room) {
		base = (stream->now.half & 1) * DNS_STREAM_HALF;
		room->text[0] = stream->text[base];
		room->text[1] = stream->text[base + 1];
		stream->now.room = s->held;
	}
	s->long_text = (__u64)(long)room->text;
	n = want - filled;
	if (n > s->left)
		n = s->left;
	if (n > DNS_STREAM_STEP)
		n = DNS_STREAM_STEP;
	n = ((n - 1) & (DNS_STREAM_STEP - 1)) + 1;
	if (bpf_skb_load_bytes(skb, s->at, &room->text[filled], n))
		return LONG_LOST;
	s->at += n;
	s->left -= n;
	stream->now.filled = filled + n;
	return LONG_READ;
}
