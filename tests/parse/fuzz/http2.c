// SPDX-License-Identifier: Apache-2.0
//go:build ignore

/* The parsers of HTTP/2 and HPACK for libFuzzer: an input is what a client sends. Read at once and in pieces. */
#include "fuzz.h"

struct h2_user {
	__u64 digest;
};

#include <parse/http2.h>

#include "../http2_piece.h"

static void h2_request(struct h2 *h)
{
	h->user.digest = digest_add(h->user.digest, 0x100);
}

static void h2_value(struct h2 *h, __u8 c)
{
	h->user.digest = digest_add(h->user.digest, c);
}

static void h2_value_end(struct h2 *h)
{
	const struct h2_head *head = &h->head;

	for (int i = 0; i < H2_NAME && i < head->name_len; i++)
		h->user.digest = digest_add(h->user.digest, head->name[i]);
	h->user.digest = digest_add(h->user.digest, 0x200 + head->field);
}

static void h2_request_end(struct h2 *h)
{
	h->user.digest = digest_add(h->user.digest, 0x300);
}

static __u64 end(const struct h2 *h)
{
	return digest_add(digest_add(digest_add(h->user.digest, h->error), h->hpack.error), h->head.error);
}

int LLVMFuzzerTestOneInput(const __u8 *bytes, size_t n)
{
	static struct h2 whole, pieces;
	size_t piece, at;

	if (!n)
		return 0;
	memset(&whole, 0, sizeof(whole));
	h2_start(&whole);
	http2_piece(&whole, bytes, n);
	memset(&pieces, 0, sizeof(pieces));
	h2_start(&pieces);
	piece = piece_of(bytes, n);
	for (at = 0; at < n; at += piece)
		http2_piece(&pieces, bytes + at, n - at < piece ? n - at : piece);
	must_agree(end(&whole), end(&pieces));
	return 0;
}
