/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <linux/types.h>

/* A parser of HTTP/1 requests between two bytes: see parse/http1.h. */
struct http1 {
	__u64 seed;
	__u64 word[3];	 /* what is being read, in lower case: a method, the name or the value of a header */
	__u64 left;	 /* bytes of the body, or of the chunk */
	__u64 authority; /* hash of the host in an absolute target */
	__u64 host;	 /* hash of the Host header */
	__u16 head;	 /* bytes of this head */
	__u16 count;	 /* bytes of word; of digits */
	__u8 state;	 /* enum http1_state */
	__u8 part;	 /* enum http1_part */
	__u8 flags;	 /* enum http1_flags */
	__u8 flaw;	 /* enum flaw */
	__u8 field;	 /* enum http1_field */
	__u8 segment;	 /* of the path: enum http1_segment */
	__u8 percent;	 /* of a code: 0 none, 1 before its first digit, 2 before its second */
	__u8 digit;	 /* its first digit */
	__u8 query;	 /* 1: the query is handed on */
	__u8 upgrade;	 /* enum http1_upgrade */
	__u8 pad[2];
};
