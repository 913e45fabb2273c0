/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
#include <linux/types.h>

enum hello_limits {
	HELLO_NAME = 256, /* bytes of a name with its NUL */
};

enum hello_flags {
	HELLO_NAMED = 1,     /* it asks for a name */
	HELLO_ALPN = 2,	     /* it offers protocols */
	HELLO_HTTP1 = 4,     /* http/1.1 or http/1.0 among them */
	HELLO_HTTP2 = 8,     /* h2 among them */
	HELLO_OTHER = 16,    /* another among them */
	HELLO_ENCRYPTED = 32, /* an inner ClientHello, whose name nobody on the way can read, or its decoy */
	HELLO_SECOND = 64, /* it is the one that a server has asked for anew */
	HELLO_NAMED_FIRST = 128, /* the one before it asked for a name */
};

/* A parser of a TLS ClientHello between two bytes: see parse/clienthello.h. At first zeroes, and hello_begin(). */
struct hello {
	__u64 word;   /* the beginning of a protocol's name */
	__u32 record; /* bytes left in the record */
	__u32 body;   /* bytes left in the message */
	__u32 value;  /* a number being read */
	__u32 seen;   /* records */
	__u16 skip;   /* bytes left that nobody looks at */
	__u16 left;   /* bytes left in the extension */
	__u16 part;   /* bytes left in the name, in the protocol */
	__u16 len;    /* of name */
	__u8 need;    /* bytes left of the number */
	__u8 header;  /* bytes read of the header of a record */
	__u8 state;   /* enum hello_state */
	__u8 flags;   /* enum hello_flags */
	__u8 flaw;    /* enum hello_flaw */
	__u8 high;    /* the first byte of a record's length */
	__u8 kind;    /* behind the message: type of the record */
	__u8 pad;
	__u8 name[HELLO_NAME]; /* in lower case, NUL-terminated */
};
