/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <linux/types.h>

/* How far one direction of a TCP connection was read: see lib/stream.h. At first zeroes. */
struct stream {
	__u64 read_ns; /* when bytes were last read that TCP may not have taken yet; CLOCK_MONOTONIC */
	__u32 next;    /* sequence number of the first byte that nobody has read */
	__u32 from;    /* of the first byte that was read and matters, and that TCP may not have taken; next: none */
	__u32 begun;   /* 1: next is known */
	__u32 busy;    /* 1: a packet is being read */
};
