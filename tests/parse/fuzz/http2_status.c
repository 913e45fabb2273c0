// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* The parser of a server's HTTP/2 for libFuzzer: an input is what the server sends. Read at once and in pieces. */
#include "fuzz.h"

#include <parse/http2_status.h>

#include "../http2_status_piece.h"

static __u64 digest;

static void told(struct h2_status *s, __u32 status)
{
	digest = digest_add(digest_add(digest, s->stream), status);
}

static __u64 end(struct h2_status *s, const __u8 *bytes, size_t n, size_t piece)
{
	size_t at;

	digest = 0;
	memset(s, 0, sizeof(*s));
	h2_status_start(s);
	for (at = 1; at < 2 * H2_STATUS_STREAMS; at += 2)
		h2_status_expect(s, at, at);
	for (at = 0; at < n; at += piece)
		http2_status_piece(s, bytes + at, n - at < piece ? n - at : piece);
	if (s->size > HPACK_RING || s->count > H2_STATUS_ENTRIES)
		abort();
	return digest_add(digest, s->lost);
}

int LLVMFuzzerTestOneInput(const __u8 *bytes, size_t n)
{
	static struct h2_status whole, pieces;

	if (n)
		must_agree(end(&whole, bytes, n, n), end(&pieces, bytes, n, piece_of(bytes, n)));
	return 0;
}
