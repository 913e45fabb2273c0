// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* The parser of HTTP/1 requests for libFuzzer: an input is what a client sends. Read whole, in pieces, and without headers and queries. */
#include <parse/http1.h>

#include "fuzz.h"

static struct http1_room room;

struct reading {
	struct http1 h;
	__u64 digest; /* of what is whole */
	__u64 text;   /* of the part that is not */
	__u32 part;   /* that it is of */
};

/* Takes what was handed on of a part. What a line's name has said goes when it turns out to be the host's. */
static void take_text(struct reading *r)
{
	if (r->part != r->h.part)
		r->text = 0;
	r->part = r->h.part;
	if (room.text_len >= HTTP1_TEXT || memchr(room.text, 0, HTTP1_TEXT) != room.text + room.text_len)
		abort();
	for (__u32 i = 0; i < room.text_len; i++)
		r->text = digest_add(r->text, room.text[i]);
}

/* Passes over what is here of a body. Returns 0: there is none of it. */
static int skip(struct reading *r)
{
	__u64 here = room.len - room.pos;

	if (!here)
		return 0;
	if (here > r->h.left)
		here = r->h.left;
	http1_skip(&r->h, here);
	room.pos += here;
	return 1;
}

/* Reads what is in the chunk. Returns 0 when nothing more can be read. */
static int read_chunk(struct reading *r)
{
	for (;;) {
		int event = http1_feed(&r->h, &room);

		if (room.pos > room.len)
			abort();
		if (event == HTTP1_MORE || event == HTTP1_PART)
			take_text(r);
		if (event == HTTP1_MORE || event == HTTP1_BAD)
			return event == HTTP1_MORE;
		if (event == HTTP1_BODY) {
			if (!skip(r))
				return 1;
			continue;
		}
		if (event == HTTP1_PART)
			r->digest = digest_add(digest_add(r->digest, r->text), r->part);
		else
			r->digest = digest_add(r->digest, 0x100 + event);
		r->text = r->part = 0;
	}
}

static void feed(struct reading *r, const __u8 *bytes, size_t n)
{
	size_t some;

	for (; n; bytes += some, n -= some) {
		some = n < HTTP1_CHUNK ? n : HTTP1_CHUNK;
		memcpy(room.chunk, bytes, some);
		room.pos = 0;
		room.len = some;
		if (!read_chunk(r))
			return;
	}
}

/* all: also what is handed on only where somebody asks for it. */
static void begin(struct reading *r, int all)
{
	http1_begin(&r->h, 0x5eed, all ? HTTP1_WANT_LINES : 0);
	r->h.query = all;
	r->h.upgrade = HTTP1_UPGRADE_MAY;
	r->digest = r->text = r->part = 0;
}

static __u64 end(struct reading *r)
{
	return digest_add(digest_add(digest_add(r->digest, r->h.state), r->h.flaw), r->h.left);
}

int LLVMFuzzerTestOneInput(const __u8 *bytes, size_t n)
{
	struct reading whole, pieces, bare;
	size_t piece, at;

	if (!n)
		return 0;
	begin(&whole, 1);
	feed(&whole, bytes, n);
	begin(&pieces, 1);
	piece = piece_of(bytes, n);
	for (at = 0; at < n; at += piece)
		feed(&pieces, bytes + at, n - at < piece ? n - at : piece);
	must_agree(end(&whole), end(&pieces));
	begin(&bare, 0);
	feed(&bare, bytes, n);
	if (bare.h.flaw != whole.h.flaw || bare.h.state != whole.h.state || bare.h.left != whole.h.left)
		abort();
	return 0;
}
