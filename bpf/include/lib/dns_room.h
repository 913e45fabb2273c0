/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* Room for reading one DNS message, and for judging what is in it, off the stack. */
#include <lib/packet.h>
#include <lib/stream.h>
#include <parse/dns.h>

enum dns_room_limits {
	DNS_SCRATCHES = 4,
	UDP_HEADER = 8,
};

enum dns_refuse {
	DNS_REFUSE_NOT = 0,
	DNS_REFUSE_TELL, /* as a resolver would */
	DNS_REFUSE_RESET,
};

struct dns_scratch {
	__u32 busy;
	__u32 pad;
	struct dns_message m;
	struct ask ask;
	struct answer answer;
	struct bits who;
	struct label kernel; /* of a pod's kernel: this and the next are echo.h's */
	struct packet packet;
	struct flow_key key; /* echo.h's, and of a stream */
	struct segment seg; /* and the rest: dns_stream.h's */
	__u32 at;	    /* offset of the next byte */
	__u32 left;	    /* bytes */
	__s32 verdict;
	__u32 unread; /* 1: they cannot be read */
	__u32 refuse; /* enum dns_refuse: how the message in m is to be refused */
	__u32 refused; /* 1: by refusal, at the veth */
	__u32 held;    /* one more than the place of the room in dns_rooms that is held; 0: none */
	__u32 pad2;
	__u64 long_text; /* address of the text in there */
	__u64 container; /* of the socket */
	struct stream_refusal refusal;
};

/*
 * A program that is read here can be interrupted on its CPU by another, and be moved aside by another
 * task: each takes a room of its own. None free: the packet is dropped and counted.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, DNS_SCRATCHES);
	__type(key, __u32);
	__type(value, struct dns_scratch);
} dns_scratches SEC(".maps");

static __always_inline struct dns_scratch *scratch_take(void)
{
	struct dns_scratch *s;
	__u32 i;

	for (i = 0; i < DNS_SCRATCHES; i++) {
		__u32 key = i;

		s = bpf_map_lookup_elem(&dns_scratches, &key);
		if (s && !__sync_val_compare_and_swap(&s->busy, 0, 1))
			return s;
	}
	count_error(SITE_DNS_BUSY);
	return 0;
}

static __always_inline void scratch_give(struct dns_scratch *s)
{
	__sync_lock_test_and_set(&s->busy, 0);
}

/*
 * Where the message in a UDP packet begins and ends, into m; the network header is link bytes behind
 * skb->data. Returns 0 for what cannot be one.
 */
static __always_inline int payload(struct __sk_buff *skb, struct dns_message *m, __u32 link)
{
	__u8 head[8];
	__u32 at, len;

	if (packet_load(skb, 0, head, sizeof(head)))
		return 0;
	if (head[0] >> 4 == 4) {
		at = (head[0] & 15) * 4;
	} else {
		if (head[6] != PROTO_UDP)
			return 0; /* extension headers: no resolver library sends them */
		at = IP6_LEN;
	}
	if (skb->gso_segs > 1 || packet_load(skb, at, head, sizeof(head)))
		return 0; /* several messages in one */
	len = head[4] << 8 | head[5];
	if (len < UDP_HEADER)
		return 0;
	m->begin = link + at + UDP_HEADER;
	m->end = link + at + len;
	return 1;
}

/*
 * Sets a message up for reading. Nothing of the former one may be left: it was another's. Returns 0
 * when it cannot be read.
 */
static __always_inline int clear_message(struct dns_message *m, __u32 kind)
{
	struct control *c = control_get();
	int i;

	m->kind = kind;
	m->memory = 0;
	m->found = 0;
	m->type = m->flags = 0;
	for (i = 0; i < DNS_NAME / 8; i++)
		((__u64 *)m->name)[i] = 0;
	if (!c)
		return 0;
	m->seed = c->seed;
	return 1;
}

/* The same for the message in a UDP packet. Returns 0 for what cannot be one. */
static __always_inline int begin_message(struct __sk_buff *skb, struct dns_message *m, __u32 kind,
					 __u32 link)
{
	return clear_message(m, kind) && payload(skb, m, link);
}
