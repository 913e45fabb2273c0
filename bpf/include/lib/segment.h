/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* READ, segments of TCP at their socket (cgroup_skb), for lib/stream.h, or at a veth (tc). */
#include <bpf/bpf_core_read.h>
#include <lib/packet.h>
#include <lib/stream.h>

/* Where TCP begins behind the network header; 0: it is not found. */
static __always_inline __u32 segment_begin(struct __sk_buff *skb)
{
	__u8 head[IP6_LEN + 2];

	if (packet_load(skb, 0, head, IP4_LEN))
		return 0;
	if (head[0] >> 4 == 4)
		return head[9] == PROTO_TCP ? (head[0] & 15) * 4 : 0;
	if (packet_load(skb, 0, head, sizeof(head)))
		return 0;
	if (head[6] == PROTO_TCP)
		return IP6_LEN;
	/* The jumbo payload of a packet that is still to be cut. */
	return head[6] == NEXT_HOP_BY_HOP && head[IP6_LEN] == PROTO_TCP && !head[IP6_LEN + 1] ? IP6_LEN + 8 :
											     0;
}

/*
 * Reads the segment of a packet whose network header is link bytes behind skb->data. Returns 0 when it cannot be read:
 * extension headers that no program of ours allows to be there, or a packet that is cut (closed: to be dropped).
 */
static __always_inline int segment_read(struct __sk_buff *skb, __u32 link, int out, struct segment *seg)
{
	__u32 begin = segment_begin(skb);
	__u8 head[TCP_LEN];
	__u32 seq;

	__builtin_memset(seg, 0, sizeof(*seg));
	if (!begin || packet_load(skb, begin, head, sizeof(head)))
		return 0;
	__builtin_memcpy(&seq, head + TCP_SEQ, sizeof(seq));
	seg->first = seg->seq = bpf_ntohl(seq);
	seg->flags = head[TCP_FLAGS];
	seg->out = out;
	begin += link;
	seg->at = begin + (head[TCP_DATA_OFFSET] >> 4) * 4;
	if (seg->at > skb->len || seg->at < begin + TCP_LEN)
		return 0;
	seg->len = skb->len - seg->at;
	return 1;
}

/* The same of a packet at its socket. */
__noinline int segment_parse(struct __sk_buff *skb, int out, struct segment *seg)
{
	return seg ? segment_read(skb, 0, out, seg) : 0;
}

/* Reads a member of a kernel's structure through a pointer that the verifier knows as another. */
#define segment_peek(to, from, type, member)                                                       \
	bpf_probe_read_kernel(&(to), sizeof(to),                                                   \
			      (void *)(from) + bpf_core_field_offset(type, member))

/* Whether no packet waits for the socket of this one. What cannot be read is none (closed). */
static __always_inline int socket_is_at_rest(struct __sk_buff *skb)
{
	struct sock *sk = 0;
	int waiting = 1;

	if (segment_peek(sk, skb, struct sk_buff, sk) ||
	    segment_peek(waiting, sk, struct sock, sk_backlog.len))
		return 0;
	return !waiting;
}

/* Fills in what the socket of a segment that comes in knows. Returns 0 when that is not known. */
static __always_inline int segment_socket(struct __sk_buff *skb, struct bpf_sock *sk,
					  const struct stream *s, struct segment *seg)
{
	struct bpf_tcp_sock *tcp = bpf_tcp_sock(sk);

	if (!tcp)
		return 0;
	seg->taken = tcp->rcv_nxt;
	if (!stream_waits(s, seg))
		return 1;
	seg->at_rest = socket_is_at_rest(skb);
	seg->now_ns = bpf_ktime_get_ns();
	return 1;
}

enum shared_flags {
	SHARED_ZERO_COPY = 1, /* SKBFL_ZEROCOPY_ENABLE */
	SHARED_FRAG = 2,      /* SKBFL_SHARED_FRAG: also of sendfile, splice, vmsplice */
};

/*
 * Whether bytes of a packet lie in memory that somebody else can write: as it leaves, or comes in from the same node.
 * Unreadable: yes (closed).
 */
static __always_inline int segment_is_shared(struct __sk_buff *skb)
{
	unsigned int end = 0, outside = 0; /* of its head, which is its own */
	unsigned char *head = 0;
	__u8 flags = 0;

	if (segment_peek(head, skb, struct sk_buff, head) ||
	    segment_peek(end, skb, struct sk_buff, end) ||
	    segment_peek(outside, skb, struct sk_buff, data_len) ||
	    segment_peek(flags, head + end, struct skb_shared_info, flags))
		return 1;
	return outside && flags & (SHARED_ZERO_COPY | SHARED_FRAG);
}
