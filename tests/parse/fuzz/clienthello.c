// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* The parser of ClientHellos, the first and a second one, for libFuzzer: an input is what a client sends. */
#include <parse/clienthello_again.h>

#include "fuzz.h"

static struct http1_room room;

struct reading {
	struct hello h;
	__u64 digest;
	int begun; /* the first message is whole */
	int event;
};

static void add(struct reading *r)
{
	if (r->h.len >= HELLO_NAME || (r->h.flags & HELLO_NAMED && r->h.name[r->h.len]))
		abort();
	for (int i = 0; i < r->h.len; i++)
		r->digest = digest_add(r->digest, r->h.name[i]);
	r->digest = digest_add(r->digest, r->h.flags);
}

/* The next event of the chunk. */
static int next(struct reading *r)
{
	int event;

	if (r->begun && r->h.state == HELLO_WHOLE && !r->h.skip)
		return hello_follow(&r->h, &room);
	event = hello_feed(&r->h, &room);
	if (event != HELLO_DONE)
		return event;
	add(r);
	r->begun = 1;
	return r->h.flags & HELLO_SECOND ? hello_follow(&r->h, &room) : HELLO_MORE;
}

static void feed(struct reading *r, const __u8 *bytes, size_t n)
{
	size_t some;

	for (; n && r->event == HELLO_MORE; bytes += some, n -= some) {
		some = n < HTTP1_CHUNK ? n : HTTP1_CHUNK;
		memcpy(room.chunk, bytes, some);
		room.pos = 0;
		room.len = some;
		do {
			r->event = next(r);
			if (room.pos > room.len)
				abort();
		} while (r->event == HELLO_MORE && room.pos != room.len);
	}
}

static void begin(struct reading *r)
{
	memset(r, 0, sizeof(*r));
	hello_begin(&r->h);
	r->event = HELLO_MORE;
}

static __u64 end(const struct reading *r)
{
	return digest_add(digest_add(digest_add(r->digest, r->event), r->h.flaw), r->begun);
}

int LLVMFuzzerTestOneInput(const __u8 *bytes, size_t n)
{
	struct reading whole, pieces;
	size_t piece, at;

	if (!n)
		return 0;
	begin(&whole);
	feed(&whole, bytes, n);
	begin(&pieces);
	piece = piece_of(bytes, n);
	for (at = 0; at < n; at += piece)
		feed(&pieces, bytes + at, n - at < piece ? n - at : piece);
	must_agree(end(&whole), end(&pieces));
	return 0;
}
