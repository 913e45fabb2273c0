/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * What is reported of the answers to requests over HTTP/2 that were told and pass: what the server says is followed from
 * its first byte on (parse/http2_status.h), and each stream whose request was told is awaited.
 *
 * Nothing is decided by it, so everything here fails open: of a connection that cannot be followed nothing more is told.
 */
#include <lib/response.h>
#include <parse/http2_status.h>

enum h2_status_reading {
	H2_STATUS_STEPS = 1 << 20, /* of reading one piece: a byte of a head, or all that is there of anything else */
};

/* n bytes at some place are to be read. */
static __always_inline void h2_status_give(struct h2_status *s, __u64 at, __u64 n)
{
	s->piece.at = at;
	s->piece.left = n;
	s->piece.pos = s->piece.len = 0;
}

/* Reading them has ended, of a hostile one before all was read: open, nothing more is told of it. */
static __always_inline void h2_status_given(struct h2_status *s)
{
	if (s->piece.left || s->piece.pos < s->piece.len)
		h2_status_lose(s);
}

/* Passes over bytes that nobody needs, in the chunk and behind it. Returns 0: the next one is needed. */
static __always_inline int h2_status_skip(struct h2_status *s)
{
	struct h2_status_piece *piece = &s->piece;
	__u32 here = piece->len - piece->pos, n;
	__u64 all = here + piece->left;

	n = h2_status_pass(s, all > ~0U ? ~0U : all);
	if (n <= here) {
		piece->pos += n;
		return n > 0;
	}
	piece->at += n - here;
	piece->left -= n - here;
	piece->pos = piece->len = 0;
	return 1;
}

/* How many bytes are to be loaded next, as an index that no kernel's verifier takes for zero. */
static __always_inline __u32 h2_status_chunk(const struct h2_status_piece *piece)
{
	__u32 n = (piece->left > H2_STATUS_CHUNK ? H2_STATUS_CHUNK : piece->left) - 1;

	PARSE_OPAQUE(n);
	return n & (H2_STATUS_CHUNK - 1);
}

/* That many were loaded, or (failed) cannot be read, and the connection is lost. Returns 0 then. */
static __always_inline int h2_status_loaded(struct h2_status *s, __u32 n, long failed)
{
	struct h2_status_piece *piece = &s->piece;

	if (failed) {
		h2_status_lose(s);
		return 0;
	}
	piece->at += n;
	piece->left -= n;
	piece->pos = 0;
	piece->len = n;
	return 1;
}

/* Reads the next byte of the chunk. */
static __always_inline void h2_status_next(struct h2_status *s)
{
	__u32 pos = s->piece.pos++;

	h2_status_step(s, s->piece.chunk[pos & (H2_STATUS_CHUNK - 1)]);
}
