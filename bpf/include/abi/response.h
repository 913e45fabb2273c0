/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <linux/types.h>

/* The answer that is awaited to the last request that was told of a connection. Nothing of its body is read. */
struct response {
	__u64 asked_ns; /* when that was told, CLOCK_BOOTTIME; 0: none is awaited */
	__u32 next;	/* at the gate: sequence number of its next byte */
	__u16 code;	/* the digits read so far */
	__u8 at;	/* bytes of the status line that were read */
	__u8 pad;
};
