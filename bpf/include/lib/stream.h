/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * READ, the order of bytes: which bytes of a TCP segment are the next that nobody has read, so that who
 * reads a connection at its packets sees what its receiver will read, each byte once. The rest is dropped
 * and comes again in order, or passes because it was read.
 *
 * Leaving, the bytes are the kernel's own copy, and a retransmission has them again: its sequence numbers
 * say that they were read. Memory that the sender can still write is another matter: see segment_is_shared().
 *
 * Coming in, a retransmission may have other bytes, and TCP may not take a segment that passed here (a bad
 * checksum, a full buffer). So bytes that matter pass only in order as TCP counts, the next ones that matter
 * only when TCP has taken them, and what it has not taken is read again, from the state before it, but only
 * when nothing of it can still be on its way. Bytes that may be anything (a body) are only counted.
 */
#include <abi/stream.h>
#include <lib/tcp.h>

enum stream_limits {
	STREAM_REST_NS = 50000000, /* a packet that passed here is at its socket long before */
};

/* A segment of TCP, and what its socket knows. */
struct segment {
	__u64 now_ns; /* CLOCK_MONOTONIC; asked for when it is needed, 0 before */
	__u32 first;  /* sequence number of its first byte */
	__u32 seq;    /* the same; behind stream_order(): of the first new one */
	__u32 len;    /* of its bytes */
	__u32 at;     /* offset of its first byte from skb->data; behind stream_order(): of the first new one */
	__u32 taken;  /* coming in: sequence number up to which TCP has the bytes (rcv_nxt) */
	__u32 free;   /* how many of the bytes that nobody has read may be anything; set by who reads */
	__u8 flags;   /* of TCP */
	__u8 out;     /* 1: leaving its socket */
	__u8 at_rest; /* coming in: 1: no packet of the connection waits for its socket */
	__u8 again;   /* result: what was read last is to be forgotten */
	__u32 pad;
};

/* What is to be done with a segment. */
enum stream_order {
	STREAM_PASS, /* nothing in it is to be read */
	STREAM_READ, /* seg->len bytes at seg->at are new: read them, then stream_read() */
	STREAM_DROP, /* it comes again */
	STREAM_LOST, /* bytes were not read: nobody knows any more what comes */
};

/* a - b, as sequence numbers. */
static __always_inline __s32 seq_past(__u32 a, __u32 b)
{
	return (__s32)(a - b);
}

/* Begins with the byte that has this sequence number. */
static __always_inline void stream_begin(struct stream *s, __u32 seq)
{
	s->next = s->from = seq;
	s->begun = 1;
}

/* Keeps other processors out, until stream_leave(). Returns 0: one is in there; drop the packet. */
static __always_inline int stream_enter(struct stream *s)
{
	return !__sync_val_compare_and_swap(&s->busy, 0, 1);
}

static __always_inline void stream_leave(struct stream *s)
{
	__sync_lock_test_and_set(&s->busy, 0);
}

/* Whether bytes that matter were read and may not be taken: then the next call wants at_rest, now_ns. */
static __always_inline int stream_waits(const struct stream *s, const struct segment *seg)
{
	return !seg->out && s->from != s->next && seq_past(seg->taken, s->next) < 0;
}

/*
 * What TCP took of what was read. Returns 0 when the segment has to wait for that, sets seg->again when it
 * is to be read anew.
 */
static __always_inline int stream_settle(struct stream *s, struct segment *seg)
{
	if (!stream_waits(s, seg)) {
		s->from = s->next;
		return 1;
	}
	if (!seg->at_rest || seg->now_ns - s->read_ns < STREAM_REST_NS)
		return 0;
	s->next = s->from;
	seg->again = 1;
	seg->free = 0; /* was said of what came behind it */
	return 1;
}

/*
 * Says what a segment is to a stream, as an enum stream_order. With seg->again, whatever is returned, the
 * reader goes back to its state before the last stream_read() that was not free.
 */
static __always_inline int stream_order(struct stream *s, struct segment *seg)
{
	__u32 end = seg->seq + seg->len;
	__s32 old;

	seg->again = 0;
	if (!seg->len || seg->flags & TCP_RST)
		return STREAM_PASS;
	if (seg->flags & TCP_SYN)
		return STREAM_DROP; /* with data (fast open): its sender repeats without */
	if (!s->begun)
		return STREAM_LOST;
	if (!seg->out) {
		if (seq_past(end, seg->taken) <= 0)
			return STREAM_PASS; /* TCP throws it away */
		if (seq_past(seg->taken, s->next) > 0)
			return STREAM_LOST;
		if (!stream_settle(s, seg))
			return STREAM_DROP;
		if (seq_past(seg->taken, s->next) > 0)
			return STREAM_LOST; /* half of what is to be read again is taken: closed */
	}
	old = seq_past(s->next, seg->seq);
	if (old < 0)
		return seg->out ? STREAM_LOST : STREAM_DROP;
	if ((__u32)old >= seg->len)
		return STREAM_PASS; /* was read; coming in: and is free */
	/* What matters must not wait behind a gap, where TCP would mix it with what comes later. */
	if (!seg->out && seg->len - old > seg->free && seq_past(seg->seq, seg->taken) > 0)
		return STREAM_DROP;
	seg->seq += old;
	seg->at += old;
	seg->len -= old;
	return STREAM_READ;
}

/* All up to the end of a segment passes unread. */
static __always_inline void stream_pass_over(struct stream *s, const struct segment *seg)
{
	if (seq_past(seg->seq + seg->len, s->next) > 0)
		s->from = s->next = seg->seq + seg->len;
}

/* The bytes that stream_order() called new were read. now_ns: CLOCK_MONOTONIC. */
static __always_inline void stream_read(struct stream *s, const struct segment *seg, __u64 now_ns)
{
	s->next += seg->len;
	if (seg->out || seg->len <= seg->free)
		s->from = s->next;
	else
		s->read_ns = now_ns;
}
