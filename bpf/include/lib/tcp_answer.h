/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * GATE, a segment of TCP at tc that becomes another of the same connection: an answer in the name of the other end, or a
 * reset. Of options an answer has timestamps where the connection has them, because some hosts take no segment without
 * (RFC 7323, 3.2): those that the other end has last sent, as far as the segment tells. A reset needs none.
 *
 * The checksum is put together by bpf_l4_csum_replace() from a neutral one, so that it is right for both kinds of
 * packet: those that still need theirs from a device, as they come from a veth, and those that have it.
 */
#include <lib/turn.h>
#include <parse/input.h>

enum tcp_answer_limits {
	TCP_TEXT = 512, /* bytes: as many as bpf_csum_diff() takes; a power of two */
	TCP_CHECK = 16, /* offset */
	TCP_WINDOW = 14,
	TCP_NEUTRAL = 0xffff, /* zero, as a sum and as the complement of one */
	TCP_STAMPS_LEN = 12,
	TCP_STAMPS = 0x0101080a, /* two bytes of padding, kind and length of the option, as Linux and others send it */
};

/* What becomes of a frame at tc. tcp_make() and tcp_reset_back() return one of the first two. */
enum tcp_next {
	TCP_NEXT_DROP = 0, /* nobody needs to hear anything */
	TCP_NEXT_BACK = 1, /* the frame has become what its sender is to get */
	TCP_NEXT_PASS = 2,
	TCP_NEXT_FOREIGN = 3, /* gate_skb has not seen it: closed */
};

/* What a segment is. */
struct tcp_seen {
	__u32 seq;
	__u32 ack;
	__u32 len; /* of its bytes */
	__u16 at;  /* where TCP begins in the frame */
	__u8 flags;
	__u8 ip6;
	__u32 stamps[3]; /* its option with timestamps, in network byte order; first 0: none */
};

/* What is to be said in place of a segment. */
struct tcp_say {
	__u32 seq;
	__u32 ack;
	__u16 len;   /* of its text, at most TCP_TEXT */
	__u8 flags;
	__u8 back;   /* 1: to who sent the segment, in the name of the other end; 0: onwards, in the sender's */
};

/* How much of the sequence a segment takes. */
static __always_inline __u32 tcp_takes(const struct tcp_seen *seen)
{
	return seen->len + !!(seen->flags & TCP_SYN) + !!(seen->flags & TCP_FIN);
}

/* Reads the segment in a frame. Returns 0 when it is none that can be answered. */
static __noinline int tcp_read(struct __sk_buff *skb, struct tcp_seen *seen)
{
	__u8 ip[IP6_LEN], head[TCP_LEN];
	__u32 end, begin;

	if (!seen || packet_load(skb, 0, ip, IP4_LEN))
		return 0;
	seen->ip6 = ip[0] >> 4 == 6;
	if (seen->ip6) {
		if (packet_load(skb, 0, ip, sizeof(ip)) || ip[6] != PROTO_TCP)
			return 0;
		end = ETHER_LEN + IP6_LEN + (ip[4] << 8 | ip[5]);
	} else {
		if (ip[0] != IP4_PLAIN || ip[9] != PROTO_TCP || (ip[6] << 8 | ip[7]) & (IP4_MORE | IP4_OFFSET_MASK))
			return 0;
		end = ETHER_LEN + (ip[2] << 8 | ip[3]);
	}
	seen->at = ETHER_LEN + (seen->ip6 ? IP6_LEN : IP4_LEN);
	if (bpf_skb_load_bytes(skb, seen->at, head, sizeof(head)))
		return 0;
	begin = seen->at + (head[TCP_DATA_OFFSET] >> 4) * 4;
	if (skb->gso_segs > 1)
		end = skb->len; /* several in one: the length in the header may be none */
	if (begin < seen->at + TCP_LEN || end < begin || end > skb->len)
		return 0;
	__builtin_memcpy(&seen->seq, head + TCP_SEQ, 4);
	__builtin_memcpy(&seen->ack, head + TCP_ACK_SEQ, 4);
	seen->seq = bpf_ntohl(seen->seq);
	seen->ack = bpf_ntohl(seen->ack);
	seen->len = end - begin;
	seen->flags = head[TCP_FLAGS];
	if (begin < seen->at + TCP_LEN + TCP_STAMPS_LEN ||
	    bpf_skb_load_bytes(skb, seen->at + TCP_LEN, seen->stamps, sizeof(seen->stamps)) ||
	    seen->stamps[0] != bpf_htonl(TCP_STAMPS))
		seen->stamps[0] = 0;
	return 1;
}

/* Adds bytes to the checksum of the segment at a place in the frame. Returns 0 when it cannot. */
static __always_inline int tcp_sum(struct __sk_buff *skb, __u32 at, __u32 *bytes, __u32 len, __u64 flags)
{
	__s64 sum = bpf_csum_diff(0, 0, bytes, len, 0);

	return sum >= 0 && !bpf_l4_csum_replace(skb, at + TCP_CHECK, 0, sum, flags);
}

/* How long the options are of what is said. */
static __always_inline __u32 tcp_options(const struct tcp_seen *seen, const struct tcp_say *say)
{
	return seen->stamps[0] && !(say->flags & TCP_RST) ? TCP_STAMPS_LEN : 0;
}

/* The timestamps of an answer: its own is what the segment's sender echoes, and it echoes the sender's. */
static __always_inline int tcp_stamp(struct __sk_buff *skb, const struct tcp_seen *seen)
{
	__u32 stamps[3] = {seen->stamps[0], seen->stamps[2], seen->stamps[1]};

	return !bpf_skb_store_bytes(skb, seen->at + TCP_LEN, stamps, sizeof(stamps), 0) &&
	       tcp_sum(skb, seen->at, stamps, sizeof(stamps), 0);
}

/* The header of what is said, with its own part of the checksum. options: their length. Returns 0 when it cannot be made. */
static __always_inline int tcp_head(struct __sk_buff *skb, const struct tcp_say *say, __u32 at, __u32 options)
{
	__u32 words[TCP_LEN / 4] = {};
	__u8 *head = (__u8 *)words;
	__u32 seq = bpf_htonl(say->seq), ack = bpf_htonl(say->ack);
	__u16 ports[2], neutral = TCP_NEUTRAL;

	if (bpf_skb_load_bytes(skb, at, ports, sizeof(ports)))
		return 0;
	__builtin_memcpy(head, &ports[!!say->back], 2);
	__builtin_memcpy(head + 2, &ports[!say->back], 2);
	__builtin_memcpy(head + TCP_SEQ, &seq, 4);
	__builtin_memcpy(head + TCP_ACK_SEQ, &ack, 4);
	head[TCP_DATA_OFFSET] = (TCP_LEN + options) / 4 << 4;
	head[TCP_FLAGS] = say->flags;
	head[TCP_WINDOW] = head[TCP_WINDOW + 1] = say->flags & TCP_RST ? 0 : 0xff;
	return !bpf_skb_store_bytes(skb, at, head, TCP_LEN, 0) &&
	       !bpf_skb_store_bytes(skb, at + TCP_CHECK, &neutral, sizeof(neutral), 0) &&
	       tcp_sum(skb, at, words, sizeof(words), 0);
}

/* The headers in front of what is said, and all of the checksum but that of the text. Returns 0 when they cannot be made. */
static __noinline int tcp_heads(struct __sk_buff *skb, const struct tcp_seen *seen, const struct tcp_say *say)
{
	__u32 len, options, pseudo[10] = {};

	if (!seen || !say)
		return 0;
	options = tcp_options(seen, say);
	len = TCP_LEN + options + say->len;
	if (say->back && !turn_link(skb))
		return 0;
	if (seen->ip6 ? !turn_ip6(skb, len, say->back, PROTO_TCP, (__u8 *)pseudo) :
			!turn_ip4(skb, len, say->back, (__u8 *)pseudo))
		return 0;
	pseudo[8] = bpf_htonl(len);
	pseudo[9] = bpf_htonl(PROTO_TCP);
	return tcp_head(skb, say, seen->at, options) &&
	       tcp_sum(skb, seen->at, pseudo, sizeof(pseudo), BPF_F_PSEUDO_HDR) && (!options || tcp_stamp(skb, seen));
}

/*
 * Makes the frame whose segment was seen into what is to be said. text: TCP_TEXT bytes, zeroes behind say->len; 0: none.
 * Returns 0 when it cannot; then nothing of the frame can be relied upon, and it is to be dropped.
 */
static __noinline int tcp_make(struct __sk_buff *skb, const struct tcp_seen *seen, const struct tcp_say *say,
			       const __u8 *text)
{
	__u32 len, at, begin;

	if (!seen || !say)
		return 0;
	at = seen->at;
	begin = at + TCP_LEN + tcp_options(seen, say);
	len = say->len;
	if (len > TCP_TEXT || bpf_skb_change_tail(skb, begin + len, 0) || !tcp_heads(skb, seen, say))
		return 0;
	if (!len || !text)
		return !len;
	PARSE_OPAQUE(len); /* else the mask goes, and Linux 6.1 has no bound */
	len = ((len - 1) & (TCP_TEXT - 1)) + 1;
	if (bpf_skb_store_bytes(skb, begin, text, len, 0))
		return 0;
	return tcp_sum(skb, at, (__u32 *)text, TCP_TEXT, 0);
}

/* Puts four bytes in the place of zeroes in the text of a segment, at an even place of it. Returns 0 when it cannot. */
static __always_inline int tcp_put(struct __sk_buff *skb, __u32 at, __u32 place, __u32 bytes)
{
	return !bpf_skb_store_bytes(skb, place, &bytes, sizeof(bytes), 0) && tcp_sum(skb, at, &bytes, sizeof(bytes), 0);
}

/*
 * Says to where a segment was going that the connection is over, as of seq, and leaves the frame to be made another. flags:
 * of bpf_clone_redirect(), towards there. Returns 0 when that cannot be done any more. What could not be sent is not: the
 * other end hears it when it says something.
 */
static __always_inline int tcp_reset_on(struct __sk_buff *skb, const struct tcp_seen *seen, __u32 seq, __u64 flags)
{
	struct tcp_say say = {.seq = seq, .ack = seen->ack, .flags = TCP_RST | TCP_ACK};

	if (!tcp_make(skb, seen, &say, 0))
		return 0;
	bpf_clone_redirect(skb, skb->ifindex, flags);
	return 1;
}

/* Makes the frame say to who sent it that its connection is over. Returns 0 when it cannot. */
static __always_inline int tcp_reset_back(struct __sk_buff *skb, const struct tcp_seen *seen)
{
	struct tcp_say say = {.seq = seen->ack, .flags = TCP_RST | TCP_ACK, .back = 1};

	say.ack = seen->seq + tcp_takes(seen);
	return tcp_make(skb, seen, &say, 0);
}
