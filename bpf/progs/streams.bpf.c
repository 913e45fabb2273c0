// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Only for tests and benchmarks, never attached and not part of the agent: parsers of streams in the kernel, by
 * BPF_PROG_RUN, on the bytes behind the packet's Ethernet header.
 *
 * tc (streams_http2)  goes on with the connection streams_h2
 * tc (streams_touch)  only loads the bytes, which is what the parser is measured against
 * tc (streams_hello)  goes on with the ClientHello streams_hellos, and behind it as long as a second one may come
 * tc (streams_order)  puts streams_segment in order: its bytes, the rest of the packet, go on streams_text
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <lib/stream.h>

struct h2_user {}; /* nothing more is kept with a connection */

#include <parse/clienthello_again.h>
#include <parse/http2.h>

char _license[] SEC("license") = "Dual BSD/GPL";

enum streams_limits {
	STREAMS_BEGIN = 14,
	STREAMS_PIECE = 256,
	STREAMS_PIECES = 1 << 8,
	STREAMS_STEPS = 1 << 14, /* more than a piece can make: it hands on what it stands for, HPACK_HEAD at most */
	STREAMS_REQUESTS = 64,
};

/* The bytes that are read now. */
struct piece {
	__u32 at;
	__u32 len;
	__u8 bytes[STREAMS_PIECE];
};

struct h2 streams_h2;
struct piece streams_piece;
__u32 streams_requests;			 /* that are complete */
__u64 streams_hash[STREAMS_REQUESTS + 1]; /* of each one: of its fields' numbers and values */

enum h2_field streams_field; /* its names are for user space */

static __always_inline void streams_mix(__u32 c)
{
	__u64 *hash = &streams_hash[streams_requests & (STREAMS_REQUESTS - 1)];

	*hash = parse_mix(*hash, c);
}

static void h2_request(struct h2 *h)
{
	streams_hash[streams_requests & (STREAMS_REQUESTS - 1)] = 0;
}

static void h2_value(struct h2 *h, __u8 c)
{
	streams_mix(c);
}

static void h2_value_end(struct h2 *h)
{
	streams_mix(256 + h->head.field);
}

static void h2_request_end(struct h2 *h)
{
	streams_requests++;
}

static long streams_step(__u32 index, void *data)
{
	struct h2 *h = &streams_h2;
	struct piece *piece = &streams_piece;
	__u32 pass;

	if (h->error)
		return 1;
	if (h2_is_due(h)) {
		h2_step(h, 0);
		return 0;
	}
	if (piece->at >= piece->len)
		return 1;
	pass = h2_pass(h, piece->len - piece->at);
	piece->at += pass;
	if (!pass)
		h2_step(h, piece->bytes[piece->at++ & (STREAMS_PIECE - 1)]);
	return 0;
}

/* Loads a piece. Returns 0: there is none. */
static __always_inline int streams_load(struct __sk_buff *skb, __u32 index)
{
	__u32 at = STREAMS_BEGIN + index * STREAMS_PIECE;
	__u32 n = skb->len - at;

	if (at >= skb->len)
		return 0;
	if (n > STREAMS_PIECE)
		n = STREAMS_PIECE;
	streams_piece.at = 0;
	streams_piece.len = n;
	return !bpf_skb_load_bytes(skb, at, streams_piece.bytes, ((n - 1) & (STREAMS_PIECE - 1)) + 1);
}

static long streams_read(__u32 index, void *data)
{
	if (!streams_load(*(struct __sk_buff **)data, index))
		return 1;
	bpf_loop(STREAMS_STEPS, streams_step, 0, 0);
	return 0;
}

SEC("tc")
int streams_http2(struct __sk_buff *skb)
{
	bpf_loop(STREAMS_PIECES, streams_read, &skb, 0);
	return streams_h2.error;
}

static long streams_only_load(__u32 index, void *data)
{
	return !streams_load(*(struct __sk_buff **)data, index);
}

SEC("tc")
int streams_touch(struct __sk_buff *skb)
{
	bpf_loop(STREAMS_PIECES, streams_only_load, &skb, 0);
	return 0;
}

/* A connection of TLS. */
struct hellos {
	struct hello now;
	__u8 name[HELLO_NAME]; /* of the first one */
	__u32 flags; /* of the first one */
	__u32 begun; /* 1: the first one is whole */
	__u32 event; /* enum hello_event of the last bytes */
	__u32 pad;
};

enum streams_hello_limits {
	STREAMS_HELLO_EVENTS = 8, /* more than a chunk makes */
};

struct hellos streams_hellos;
struct http1_room streams_room;
enum hello_event streams_hello_event; /* its names are for user space */

/* Goes on in the chunk to the next event. */
static __always_inline int streams_hello_next(struct hellos *s)
{
	int event;

	if (s->begun && s->now.state == HELLO_WHOLE && !s->now.skip)
		return hello_follow(&s->now, &streams_room);
	event = hello_feed(&s->now, &streams_room);
	if (event != HELLO_DONE)
		return event;
	if (!s->begun) {
		s->begun = 1;
		s->flags = s->now.flags;
		__builtin_memcpy(s->name, s->now.name, sizeof(s->name));
	}
	return s->now.flags & HELLO_SECOND ? hello_follow(&s->now, &streams_room) : HELLO_MORE;
}

static long streams_hello_events(__u32 index, void *data)
{
	streams_hellos.event = streams_hello_next(&streams_hellos);
	return streams_hellos.event != HELLO_MORE || streams_room.pos >= streams_room.len;
}

static long streams_hello_chunk(__u32 index, void *data)
{
	struct __sk_buff *skb = *(struct __sk_buff **)data;
	__u32 at = STREAMS_BEGIN + index * HTTP1_CHUNK;
	__u32 n = skb->len - at;

	if (at >= skb->len || streams_hellos.event != HELLO_MORE)
		return 1;
	if (n > HTTP1_CHUNK)
		n = HTTP1_CHUNK;
	if (bpf_skb_load_bytes(skb, at, streams_room.chunk, ((n - 1) & (HTTP1_TEXT - 1)) + 1))
		return 1;
	streams_room.pos = 0;
	streams_room.len = n;
	bpf_loop(STREAMS_HELLO_EVENTS, streams_hello_events, 0, 0);
	return 0;
}

SEC("tc")
int streams_hello(struct __sk_buff *skb)
{
	bpf_loop(STREAMS_PIECES, streams_hello_chunk, &skb, 0);
	return 0;
}

enum streams_order_limits {
	STREAMS_TEXT = 1 << 12,
	STREAMS_SEGMENT = 1 << 6,
};

/* A connection whose reader only writes down what it read, and goes back when it is told to. */
struct ordered {
	struct stream stream;
	struct segment segment; /* as it came; then as stream_order() left it */
	__u64 now_ns;
	__u32 order; /* enum stream_order */
	__u32 len;   /* bytes read */
	__u32 former; /* the same before the last that mattered */
	__u32 pad;
	__u8 text[STREAMS_TEXT];
};

struct ordered streams_ordered;
enum stream_order streams_order_name; /* its names are for user space */

SEC("tc")
int streams_order(struct __sk_buff *skb)
{
	struct ordered *o = &streams_ordered;
	struct segment *seg = &o->segment;
	__u32 len, to;

	seg->at = STREAMS_BEGIN;
	o->order = stream_order(&o->stream, seg);
	if (seg->again)
		o->len = o->former;
	if (o->order != STREAM_READ)
		return 0;
	len = ((seg->len - 1) & (STREAMS_SEGMENT - 1)) + 1;
	to = o->len & (STREAMS_TEXT - 1);
	if (to > STREAMS_TEXT - STREAMS_SEGMENT ||
	    bpf_skb_load_bytes(skb, seg->at, o->text + to, len))
		return 1;
	if (seg->len > seg->free || o->stream.from == o->stream.next)
		o->former = o->len;
	o->len = to + len;
	stream_read(&o->stream, seg, o->now_ns);
	return 0;
}
