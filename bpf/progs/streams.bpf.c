// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Only for tests and benchmarks, never attached and not part of the agent: parsers of streams in the kernel, by
 * BPF_PROG_RUN, on the bytes behind the packet's Ethernet header.
 *
 * tc (streams_http2)  goes on with the connection streams_h2
 * tc (streams_touch)  only loads the bytes, which is what the parser is measured against
 * tc (streams_order)  puts streams_segment in order: its bytes, the rest of the packet, go on streams_text
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <lib/stream.h>

struct h2_user {};

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
