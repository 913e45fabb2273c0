/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* What is kept of a connection whose requests are judged. */
#include <abi/clienthello.h>
#include <abi/http1.h>
#include <abi/stream.h>

enum request_limits {
	H2_ROOM = 5424, /* bytes */
	H2_TEXT = 4096, /* of them, of the text of HPACK's table, which is the last of it */
	REQUEST_ROOMS = 4, /* read in by one processor at a time, by programs that interrupt each other */
};

enum request_rows {
	REQUEST_ROW_METHOD = 0,
	REQUEST_ROW_PATH = 1,
	REQUEST_ROW_HOST = 2,
	REQUEST_ROW_LINE = 3,
	REQUEST_ROWS = 4,
};

/* A request being read and where the automata are in its parts. At first zeroes, and http1_begin(). */
struct request {
	struct http1 parser;
	__u64 revision; /* of the tables that the rows are of */
	__u64 met;	/* demands that its headers meet */
	__u64 seen;	/* demanded headers that were there */
	__u16 row[REQUEST_ROWS];
};

enum said_limits {
	SAID_PARTS = 3, /* method, path, host: as enum request_rows */
	SAID_TEXT = 256, /* bytes kept of each */
};

enum detail_limits {
	NAMED_HEADERS = 4,	/* that may be told */
	HEADER_NAME = 48,	/* bytes of a name and its colon, in whole words */
	HEADER_VALUE = 128,	/* bytes kept of a value */
	DETAILS = 1 + NAMED_HEADERS,
};

/* A header that is told: its name in lower case and a colon, and which of the bytes of a line they are. */
struct header_name {
	__u64 word[HEADER_NAME / 8];
	__u64 mask[HEADER_NAME / 8];
	__u32 len; /* with the colon; 0: none */
	__u32 pad;
};

/* The headers that are told. */
struct header_names {
	__u32 id; /* of this list, and in its records: those of another have other names */
	__u32 pad;
	struct header_name name[NAMED_HEADERS];
};

/* What a request says of itself, for reports; longer text is cut. */
struct said {
	__u32 len[SAID_PARTS];
	__u32 pad;
	__u8 text[SAID_PARTS][SAID_TEXT];
	__u8 spare[2 * SAID_TEXT]; /* never written: 6.1 does not see where text ends */
};

/* How a connection ends when one of its requests is denied. */
enum http_end {
	HTTP_END_SILENT = 0, /* nothing is answered, nothing more passes */
	HTTP_END_TEXT = 1,   /* the client gets 403, the server a reset */
	HTTP_END_HEAD = 2,   /* the same without a body: what was denied is HEAD */
	HTTP_END_RESET = 3,  /* both get a reset: nobody waits for an answer in HTTP/1 at that place */
	HTTP_END_STREAM = 4, /* as HTTP_END_TEXT, on a stream of HTTP/2 */
	HTTP_END_STREAM_HEAD = 5, /* as HTTP_END_HEAD, on such a stream */
};

/* What a connection carries. */
enum carries {
	CARRIES_NOTHING = 0, /* yet */
	CARRIES_REQUESTS = 1, /* which are read at the gate, or what it could not read */
	CARRIES_TLS = 2, /* whose requests a tap reads, see lib/tls_gate.h */
	CARRIES_HELLO = 3, /* TLS whose ClientHello is being read, or may come a second time */
	CARRIES_NAMED = 4, /* TLS that is allowed by the name it asks for */
	CARRIES_HTTP2 = 5, /* requests, over HTTP/2 from the first byte on, see lib/http2_gate.h */
	CARRIES_ASKED = 6, /* nothing, until its server has answered a request for WebSocket, see lib/upgrade_gate.h */
	CARRIES_UPGRADED = 7, /* WebSocket, which passes unread */
};

/* A connection at the gate whose requests are judged. */
struct requests {
	struct stream stream;
	struct request now;
	struct request before; /* coming in: as it was before the last bytes that matter */
	__u8 refused;	       /* enum verdict of the request behind which no byte passes; 0: none */
	__u8 end;	       /* enum http_end: what follows that request */
	__u8 asked;	       /* 1: a request has passed, and heard is known */
	__u8 carries;	       /* enum carries */
	__u32 heard;	       /* up to where the client had been answered when the last of a request passed */
	__u32 opened;	       /* as its socket's when it began */
	union {
		__u32 on;      /* over HTTP/2: the stream of the request that was judged last */
		__u32 digest;  /* of WebSocket: of the ruleset that allowed its request */
	};
	__u64 named;	       /* revision under which its ClientHello was judged; 0: it was not */
};

/* Room for struct h2, into which only programs look that read HTTP/2. */
struct h2_room {
	__u64 word[H2_ROOM / 8];
};

/* The same but for the text. */
struct h2_before {
	__u64 word[(H2_ROOM - H2_TEXT) / 8];
};

struct h2_text {
	__u64 word[H2_TEXT / 8];
};

/* The ClientHello of a connection at the gate. */
struct hello_conn {
	struct hello now;
	struct hello before; /* coming in: as it was before the last bytes that matter */
	__u32 over;	     /* 1: no other comes, or nothing of it can be read */
	__u32 again;	     /* 1: it is to be judged anew, under another policy */
	__u32 read;	     /* 1: what it is allowed by are rules.http, so that requests are to be read */
	__u32 pad;
};

/* Whether a connection has become one of WebSocket. */
enum passed_upgrade {
	PASSED_UPGRADE_NOT = 0,
	PASSED_UPGRADE_ASKED, /* set by gate_skb: its server is to answer at place */
	PASSED_UPGRADE_DONE, /* set by gate_tc, where nobody in the pod forges an answer: with 101 */
	PASSED_UPGRADE_REFUSED, /* the same: with something else */
};

/*
 * What gate_skb tells gate_tc of a connection with requests: what of it may pass at the veth, or how it ends. Sequence
 * numbers, in host byte order.
 */
struct passed {
	__u32 first; /* of the bytes of a client in the pod that may pass */
	__u32 next;  /* behind the last of them; of a connection that ends: what the server has, from either side */
	__u32 end;   /* enum http_end; HTTP_END_SILENT: it goes on */
	__u32 place; /* of the answer's first byte: behind all that the server has said; before the end: of that to who asks for WebSocket */
	__u32 on;    /* HTTP_END_STREAM: that stream */
	__u32 said;  /* behind the last byte that has passed to the client; where that is not in the pod, since the end */
	/* Not bits of one word, as two processors set them: one sees the client, the other what its server says. */
	__u32 has_said; /* 1: said is known */
	__u32 placed;   /* 1: the answer was begun: its place stays */
	__u32 upgrade; /* enum passed_upgrade */
};
