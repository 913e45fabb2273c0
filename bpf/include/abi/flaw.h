/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once

/*
 * Why what a client sends cannot be judged as a request: it is none, or two programs could read it in
 * two ways. As in probes/event.
 */
enum flaw {
	FLAW_NONE = 0,
	FLAW_SYNTAX = 1,   /* no HTTP/1: a byte where it cannot be */
	FLAW_TLS = 2,	   /* a TLS record */
	FLAW_HTTP2 = 3,	   /* the preface of HTTP/2 */
	FLAW_LONG = 4,	   /* a head of more than 8 KiB */
	FLAW_LINE_END = 5, /* a line that does not end in CR LF */
	FLAW_FOLDED = 6,   /* a header that goes on in the next line */
	FLAW_FRAMING = 7,  /* where the body ends: two lengths, a length and an encoding, another encoding */
	FLAW_HOST = 8,	   /* none, two, or another than the target names */
	FLAW_PATH = 9,	   /* dot segments, empty ones, an encoded slash or NUL */
	FLAW_TUNNEL = 10,  /* CONNECT, Upgrade: what follows is no HTTP/1 */
	FLAW_HEADER = 11,  /* a header that a rule demands is there twice */
	FLAW_MIDWAY = 12,  /* the connection began before it was governed, or the policy changed inside a head */
	FLAW_URGENT = 13,  /* urgent data: receivers read streams with and without it */
	FLAW_SHARED = 14,  /* a head in memory that the sender can still change (sendfile, splice, MSG_ZEROCOPY) */
	FLAW_UNREAD = 15, /* a part of it was in memory that could not be read, or nobody read it */
	FLAW_HPACK = 16,  /* HTTP/2: headers that do not decode, or to more than is kept */
	FLAW_HELLO = 17,  /* TLS whose ClientHello cannot be read, or asks for a name in two ways */
};
