/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * What DNS has told containers. Only the kernel writes names and addresses; it also takes them out,
 * asked by user space (names_sweep), because a compare and a delete must be one step.
 */
#include <linux/types.h>
#include <abi/policy.h>
#include <abi/state.h>
#include <abi/stream.h>

enum name_limits {
	NAME_LEN = 256,	 /* text of a name, NUL-terminated */
	NAME_WAYS = 8,	 /* names that one address can have for a container at a time */
	PENDING_WAYS = 64, /* queries that a socket can wait for at a time */
};

enum name_lock {
	LOCK_FREE = 0,
	LOCK_HELD = 1,
	LOCK_DEAD = 2, /* about to be deleted: never taken again */
};

struct name_key {
	__u64 container;
	__u64 hash; /* of the name in lower case, from control.seed */
};

/* A name that answers have told a container, and the rules of its ruleset that match it. */
struct name {
	__u64 serial;		 /* never used twice; 0: not written yet */
	__u64 expires;		 /* when the last of its addresses does */
	__u64 used;		 /* when it was first judged by under the newest revision that was */
	__u64 revision[SLOTS];	 /* that rules[] was computed for, by revision & 1 */
	struct bits rules[SLOTS];
	__u32 lock; /* enum name_lock, for the writers of text, serial and expires */
	__u32 pad;
	__u8 text[NAME_LEN];
};

struct told_key {
	__u64 container;
	__u8 addr[16]; /* IPv4-mapped */
};

struct told_way {
	__u64 hash; /* with serial: the name */
	__u64 serial;
	__u64 expires; /* CLOCK_BOOTTIME; 0: empty */
};

/* The names of an address. */
struct told {
	__u32 lock; /* enum name_lock, for writers */
	__u32 pad;
	struct told_way way[NAME_WAYS];
};

/* What a container has, against what it may have. */
struct name_count {
	__u64 told_ns; /* when it was last reported that the bound was reached */
	__u64 refused; /* addresses since then */
	__u32 addresses;
	__u32 names;
};

/* A query that a socket has sent. */
struct pending_way {
	__u64 deadline; /* CLOCK_BOOTTIME; 0: answered */
	__u64 hash;
	__u64 exact;
	__u8 remote[16];
	__u8 local[16];
	__u16 id;
	__u16 remote_port;
	__u16 type;
	__u16 refused; /* 1: by us; no other answer is one */
};

/* A query that gate_tc is to refuse. */
struct refusal_key {
	struct flow_key flow;
	__u64 exact; /* of the name */
	__u64 hash;
	__u32 id;
	__u32 pad;
};

enum stream_refusal_limits {
	STREAM_REFUSAL_TEXT = 512, /* more than the longest refusal with its length; as TCP_TEXT */
};

/* What a client is told over TCP instead of an answer, behind which its connection ends. */
struct stream_refusal {
	__u32 place; /* sequence number of its first byte: where the last answer ended */
	__u32 len;   /* of text; 0: nothing can be told there, the connection is reset */
	__u8 text[STREAM_REFUSAL_TEXT]; /* zeroes behind len */
};

struct pending {
	__u32 next;
	__u32 pad;
	__u64 told_ns; /* when an answer to nothing was last reported */
	__u64 held;    /* such answers since */
	struct pending_way way[PENDING_WAYS];
};

enum dns_stream_limits {
	/*
	 * Bytes of a message and its length that are kept with a socket; a longer query is not passed, a longer answer is kept
	 * in a room. A power of two: kernels before 6.7 give a socket 20 KiB for all that is kept with it.
	 */
	DNS_STREAM_TEXT = 2048,
	DNS_STREAM_STEP = 256,	/* bytes taken from a packet at a time, a power of two */
	DNS_STREAM_HALF = DNS_STREAM_TEXT + DNS_STREAM_STEP,
};

/* Where in the text the message is that is being read. */
struct dns_place {
	__u16 half;   /* 0 or 1 */
	__u16 room;   /* one more than the place in dns_rooms where a long one is; 0: it is in text */
	__u32 filled; /* how much of it is there, with its length, which comes first */
};

/* One direction of a TCP connection with a resolver. */
struct dns_stream {
	struct stream order;
	struct dns_place now;
	struct dns_place kept;		    /* before what was read last, whose text is untouched */
	__u8 text[2 * DNS_STREAM_HALF];
};

enum dns_room_abi_limits {
	DNS_ROOMS = 32,
	DNS_ROOMS_OF_ONE = 8,	/* that one container may have at a time */
	DNS_ROOM_TEXT = 65536,	/* bytes of a message and its length, a power of two */
};

/* Room for a long answer over TCP, until it is whole. */
struct dns_room {
	__u64 owner;	 /* cookie of the socket */
	__u64 container; /* of its owner */
	__u64 until;	 /* when others may take it; CLOCK_BOOTTIME */
	__u32 busy;	 /* 1: one is at work here */
	__u32 pad;
	__u8 text[DNS_ROOM_TEXT + DNS_STREAM_STEP];
};

/* What user space tells names_sweep. */
struct sweep {
	__u64 container; /* all of this one's go; 0: what has expired goes */
	__u32 addresses; /* how many went */
	__u32 names;
};
