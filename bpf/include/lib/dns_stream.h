/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * GATE, for TCP connections with resolvers that rules.dns speaks about (RFC 7766: each message after its length): the
 * bytes are put together in order, and a packet passes when every message that ends in it may, as lib/dns_gate.h says.
 * So what is denied never leaves whole, and a program has no answer whole before its addresses are remembered.
 *
 * Fails closed, and for the whole connection, as bytes cannot be left out: what is dropped here comes again until
 * one side gives up, or hears at the veth that the connection is over: of what is denied, of answers to nothing, of what cannot
 * be read. That is also a connection that was there before rules.dns spoke about it, queries longer than
 * DNS_STREAM_TEXT, and bytes that others can still change.
 */
#include <lib/dns_long.h>
#include <lib/dns_stream_refuse.h>

enum dns_stream_steps {
	DNS_STREAM_STEPS = 1024, /* of one packet */
};

/*
 * A segment being read; the rest is in the room, since stacks below a socket are deep: one pointer more here, and
 * the chain down to evaluate_pick() is over the 512 bytes of Linux 6.1.
 */
struct dns_segment {
	struct __sk_buff *skb;
	struct dns_scratch *s;
	struct sock_state *state;
	struct dns_stream *stream;
};

/* The message that has come whole: judged, as one in a packet of its own. Returns a verdict. */
static __always_inline int stream_message(struct dns_segment *d, __u64 memory, __u32 len)
{
	struct dns_message *m = &d->s->m;
	int begun = clear_message(m, d->s->seg.out ? DNS_QUERY : DNS_ANSWER);

	m->memory = memory;
	m->begin = sizeof(__u16);
	m->end = sizeof(__u16) + len;
	if (!d->s->seg.out)
		return take_answer(d->skb, d->s, &d->s->key, d->state, begun);
	begun = begun && dns_question(d->skb, m) && dns_rest(d->skb, m);
	return query_out(d->skb, d->s, &d->s->key, d->state, begun);
}

/* Some bytes of a message, and the message when they are its last. */
static long stream_step(__u32 index, void *data)
{
	struct dns_segment *d = data;
	struct dns_stream *stream = d->stream;
	__u32 base = (stream->now.half & 1) * DNS_STREAM_HALF;
	__u32 filled = stream->now.filled, want = sizeof(__u16), len = 0, n;
	int next;

	if (!d->s->left)
		return 1;
	d->s->long_text = 0;
	if (filled >= sizeof(__u16)) {
		len = dns_be16(&stream->text[base]);
		want += len;
		if (!len || want > (d->s->seg.out ? DNS_STREAM_TEXT : DNS_ROOM_TEXT))
			goto unread;
	}
	if (want > DNS_STREAM_TEXT) {
		next = long_bytes(d->skb, d->s, stream, want);
		if (next == LONG_READ)
			goto taken;
		d->s->verdict = VERDICT_DROP;
		d->s->unread = next == LONG_LOST;
		return 1;
	}
	filled &= DNS_STREAM_TEXT - 1;
	n = want - filled;
	if (n > d->s->left)
		n = d->s->left;
	if (n > DNS_STREAM_STEP)
		n = DNS_STREAM_STEP;
	n = ((n - 1) & (DNS_STREAM_STEP - 1)) + 1;
	if (bpf_skb_load_bytes(d->skb, d->s->at, &stream->text[base + filled], n))
		goto unread;
	d->s->at += n;
	d->s->left -= n;
	stream->now.filled = filled + n;
taken:
	if (!len || stream->now.filled < want)
		return 0;
	d->s->verdict = stream_message(d, d->s->long_text ?: (__u64)(long)&stream->text[base], len);
	stream->now.filled = 0;
	stream->now.room = 0;
	stream->now.half = stream->kept.half ^ 1;
	return !verdict_passes(d->s->verdict);
unread:
	d->s->verdict = VERDICT_DROP;
	d->s->unread = 1;
	return 1;
}

/* What stream_segment() returns besides a verdict. */
enum dns_stream_next {
	DNS_STREAM_READ = 256, /* bytes are to be read */
	DNS_STREAM_UNREAD,     /* they cannot be */
};

/* What a segment is to its stream, as stream_segment(). */
static __always_inline int stream_place(struct __sk_buff *skb, struct segment *seg,
					struct bpf_sock *sk, struct dns_stream *stream, int out)
{
	int order;

	if (!segment_parse(skb, out, seg) || seg->flags & TCP_URG)
		return VERDICT_DROP;
	if (!out && !stream->order.begun && seg->len) {
		struct bpf_tcp_sock *tcp = bpf_tcp_sock(sk);

		/* The first byte of an answer: TCP has taken none yet. */
		if (tcp && !tcp->bytes_received)
			stream_begin(&stream->order, tcp->rcv_nxt);
	}
	if (out && seg->flags & TCP_SYN)
		stream_begin(&stream->order, seg->seq + 1);
	if (!out && !segment_socket(skb, sk, &stream->order, seg))
		return VERDICT_DROP;
	order = stream_order(&stream->order, seg);
	if (seg->again)
		stream->now = stream->kept;
	if (order == STREAM_PASS)
		return VERDICT_ALLOW;
	if (order == STREAM_DROP)
		return VERDICT_DROP;
	if (order == STREAM_LOST || (out && segment_is_shared(skb)))
		return DNS_STREAM_UNREAD;
	return DNS_STREAM_READ;
}

/*
 * What a packet is to its stream: a verdict, or one of enum dns_stream_next, for which stream_bytes() is to be called;
 * until then the stream is held. A function of its own, so that its stack is not below those that read messages.
 */
__noinline int stream_segment(struct __sk_buff *skb, struct dns_scratch *s, int out)
{
	struct bpf_sock *sk = skb->sk;
	struct dns_stream *stream;
	int next;

	if (!s)
		return VERDICT_DENY;
	sk = sk ? bpf_sk_fullsock(sk) : 0;
	if (!sk)
		return VERDICT_DENY;
	stream = stream_of(sk, out, BPF_SK_STORAGE_GET_F_CREATE);
	if (!stream) {
		count_error(SITE_SOCK_STORAGE); /* closed */
		return VERDICT_DROP;
	}
	if (!stream_enter(&stream->order))
		return VERDICT_DROP; /* another processor reads; it comes again */
	next = stream_place(skb, &s->seg, sk, stream, out);
	if (next < DNS_STREAM_READ)
		stream_leave(&stream->order);
	return next;
}

/* Reads the bytes that stream_segment() has found, of the flow s->key; s->verdict says what becomes of them. */
__noinline int stream_bytes(struct __sk_buff *skb, struct dns_scratch *s, struct sock_state *state)
{
	struct dns_segment d = {.skb = skb, .s = s, .state = state};
	struct bpf_sock *sk = skb->sk;

	if (!s || !state)
		return 0;
	s->verdict = VERDICT_DENY;
	sk = sk ? bpf_sk_fullsock(sk) : 0;
	d.stream = sk ? stream_of(sk, s->seg.out, 0) : 0;
	if (!d.stream)
		return 0;
	s->verdict = VERDICT_ALLOW;
	s->at = s->seg.at;
	s->left = s->seg.len;
	d.stream->kept = d.stream->now;
	bpf_loop(DNS_STREAM_STEPS, stream_step, &d, 0);
	return 0;
}

/* Ends what stream_segment() has begun. read: stream_bytes() has read. Returns the packet's verdict. */
__noinline int stream_end(struct __sk_buff *skb, struct dns_scratch *s, int read)
{
	struct bpf_sock *sk = skb->sk;
	struct dns_stream *stream;

	if (!s)
		return VERDICT_DENY;
	sk = sk ? bpf_sk_fullsock(sk) : 0;
	stream = sk ? stream_of(sk, s->seg.out, 0) : 0;
	if (!stream)
		return VERDICT_DENY;
	if (read && s->left && !s->unread && verdict_passes(s->verdict))
		s->verdict = VERDICT_DROP; /* more messages than are read of one packet */
	if (s->unread && verdict_passes(s->verdict))
		stream->order.begun = 0; /* a rule without rules.dns lets it go on, unread */
	else if (read && verdict_passes(s->verdict))
		stream_read(&stream->order, &s->seg, s->seg.out ? 0 : bpf_ktime_get_ns());
	else if (read)
		stream->now = stream->kept;
	long_give(s, stream);
	stream_leave(&stream->order);
	return s->verdict;
}

/* Reports that a connection cannot be read any further. Returns a verdict. */
__noinline int stream_unread(struct __sk_buff *skb, struct dns_scratch *s, const struct flow_key *key,
			     struct sock_state *state)
{
	if (!s || !key || !state)
		return VERDICT_DENY;
	clear_message(&s->m, DNS_ANSWER);
	return not_asked(skb, s, key, state, REASON_DNS_STREAM);
}

/* A packet of a TCP connection with a resolver. Returns a verdict. */
static __always_inline int dns_tcp(struct __sk_buff *skb, const struct flow_key *key,
				   struct sock_state *state, int out)
{
	struct dns_scratch *s = scratch_take();
	int next;

	if (!s)
		return VERDICT_DROP; /* as a loss on the way */
	s->key = *key;
	s->refuse = s->refused = s->held = s->seg.flags = 0;
	s->container = state->owner.container;
	next = stream_segment(skb, s, out);
	if (out && state->refused && s->seg.flags & TCP_SYN)
		stream_anew(s, state);
	if (next >= DNS_STREAM_READ) {
		s->unread = next == DNS_STREAM_UNREAD;
		if (next == DNS_STREAM_READ)
			stream_bytes(skb, s, state);
		if (s->unread && out && state->refused)
			stream_late(s);
		if (s->unread)
			s->verdict = stream_unread(skb, s, key, state);
		if (s->refuse)
			stream_refuse(skb, s, state);
		next = stream_end(skb, s, next == DNS_STREAM_READ);
		if (s->refused && out)
			next = VERDICT_ALLOW; /* as far as the veth */
	}
	scratch_give(s);
	return next;
}
