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

enum h2_status_limits {
	H2_STATUS_CHUNK = 32,	 /* bytes that are loaded at a time */
	H2_STATUS_STREAMS = 32,	 /* whose answers are awaited at a time */
	H2_STATUS_ENTRIES = 128, /* HPACK_ENTRIES */
};

/* Who may read a connection at the gate. */
enum h2_status_turn {
	H2_STATUS_UNBEGUN = 0, /* nobody yet: next is not known */
	H2_STATUS_BUSY = 1,    /* nobody: a processor does */
	H2_STATUS_FREE = 2,
};

/* A piece of what a server sends, while it is read. Beside the connection, where every verifier takes it as it may be. */
struct h2_status_piece {
	__u64 at;   /* where the first byte is that is not in the chunk */
	__u64 left; /* bytes from there on */
	__u32 pos;  /* in the chunk */
	__u32 len;
	__u8 chunk[H2_STATUS_CHUNK];
};

/*
 * What a server sends over HTTP/2, as parse/http2_status.h follows it, and the streams whose answers are awaited. A
 * stream has the place of its number; a newer one takes it from one that was reset, or is not answered yet.
 */
struct h2_status {
	struct h2_status_piece piece;
	__u32 next;    /* at the gate: sequence number of the next byte */
	__u32 turn;    /* at the gate: enum h2_status_turn */
	__u32 left;    /* bytes of the frame's payload still to come */
	__u32 block;   /* of them, of the head's block, when what is before it has been read */
	__u32 stream;  /* of the frame */
	__u32 number;  /* the integer being read */
	__u32 string;  /* bytes of the string still to come, coded as they are */
	__u32 name;    /* bytes of the field being decoded */
	__u32 value;
	__u32 limit;   /* of the table, as the server has set it */
	__u32 size;    /* of the table (RFC 7541, 4.1) */
	__u16 digits;  /* of a field that is a status, so far */
	__u16 code;    /* of the head; 0: it has said none */
	__u8 lost;     /* 1: nothing more can be read */
	__u8 settled;  /* 1: the first frame has come */
	__u8 in_frame; /* 1: the header of a frame has been read */
	__u8 type;
	__u8 flags;
	__u8 at;       /* bytes of the frame's header so far */
	__u8 before;   /* bytes before the block still to come: */
	__u8 padded;   /* 1: the first of them says how many are behind it */
	__u8 open;     /* 1: a head's next frame must follow */
	__u8 whole;    /* 1: a head's last byte has come */
	__u8 state;    /* enum hpack_state */
	__u8 what;     /* enum hpack_number */
	__u8 part;     /* enum hpack_part */
	__u8 shift;
	__u8 coded;    /* 1: the string is in the Huffman code */
	__u8 huffman;  /* state of that machine */
	__u8 may_end;  /* 1: it may end here */
	__u8 keep;     /* 1: the field becomes an entry */
	__u8 is_status; /* 1: its name is :status; while that is read: so far */
	__u8 newest;   /* entry */
	__u8 count;    /* of entries */
	__u8 frame[9];
	__u8 pad[2];
	__u32 entry[H2_STATUS_ENTRIES]; /* H2_STATUS_IS and the code, or bytes of the name << 12 | bytes of the value */
	__u64 asked_ns[H2_STATUS_STREAMS]; /* when the request was told, CLOCK_BOOTTIME; 0: no answer is awaited */
	__u32 asked_on[H2_STATUS_STREAMS]; /* the stream */
};
