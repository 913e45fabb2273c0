/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * HTTP/2 from a server to a client (RFC 9113), as far as the status of each answer: byte by byte and resumable at any
 * of them. What is no head is passed over. What a server says is hostile, and only reported: what cannot be read is not,
 * for good (lost).
 *
 * Drive it so:
 *
 *	if ((n = h2_status_pass(s, left)))	the next n bytes are nobody's
 *	else					h2_status_step(s, the next byte);
 *	if (s->whole)				a head on s->stream is whole: h2_status_head()
 */
#include <parse/hpack_status.h>
#include <parse/http2_frame.h>

enum h2_status_codes {
	H2_STATUS_NONE = 1,    /* of a promise, which answers nothing: stands for one that was read */
	H2_STATUS_FINAL = 200, /* the least that is no interim one */
};

/* A connection begins, of which all is zeroes. */
static __always_inline void h2_status_start(struct h2_status *s)
{
	s->limit = HPACK_RING;
}

static __always_inline int h2_status_has_block(const struct h2_status *s)
{
	return s->type == H2_HEADERS || s->type == H2_CONTINUATION || s->type == H2_PUSH_PROMISE;
}

/* A frame is complete. */
static __always_inline void h2_status_frame_end(struct h2_status *s)
{
	s->in_frame = s->at = 0;
	if (!h2_status_has_block(s) || !(s->flags & H2_END_HEADERS))
		return;
	s->open = 0;
	s->whole = 1;
	if (s->state != HPACK_FIELD)
		h2_status_lose(s); /* the block ends inside of a field */
}

/* The header of a frame that has a block has been read; a head begins, unless it goes on. */
static __always_inline void h2_status_frame_block(struct h2_status *s)
{
	s->padded = s->type != H2_CONTINUATION && s->flags & H2_PADDED;
	s->before = s->padded;
	if (s->type == H2_HEADERS && s->flags & H2_HAS_PRIORITY)
		s->before += H2_PRIORITY;
	if (s->type == H2_PUSH_PROMISE)
		s->before += H2_PROMISED;
	if (s->before > s->left || (s->type == H2_CONTINUATION && !s->open))
		h2_status_lose(s);
	s->block = s->left - s->before;
	if (s->open)
		return;
	s->open = 1;
	s->code = s->type == H2_PUSH_PROMISE ? H2_STATUS_NONE : 0;
	s->state = HPACK_FIELD;
}

/*
 * Whether a frame may be the first that is seen: of a connection. Of a server that speaks before its client asks those
 * before it, which have no block either, may not have been.
 */
static __always_inline int h2_status_is_first(const struct h2_status *s)
{
	if (s->type == H2_SETTINGS)
		return s->left % H2_SETTING == 0;
	return (s->type == H2_PING && s->left == H2_PING_SIZE) || (s->type == H2_WINDOW_UPDATE && s->left == H2_WINDOW_SIZE);
}

/* A frame's header has been read. */
static __always_inline void h2_status_frame(struct h2_status *s)
{
	__u32 stream = (__u32)(s->frame[5] & 0x7f) << 24 | s->frame[6] << 16 | s->frame[7] << 8 | s->frame[8];

	s->left = s->frame[0] << 16 | s->frame[1] << 8 | s->frame[2];
	s->type = s->frame[3];
	s->flags = s->frame[4];
	s->block = s->before = s->padded = 0;
	s->in_frame = 1;
	if (s->open && (s->type != H2_CONTINUATION || stream != s->stream))
		h2_status_lose(s);
	if (!s->settled && (stream || !h2_status_is_first(s)))
		h2_status_lose(s);
	s->settled = 1;
	s->stream = stream;
	if (h2_status_has_block(s))
		h2_status_frame_block(s);
	if (!s->left)
		h2_status_frame_end(s);
}

/* A byte before a block: how long the padding behind it is, or nobody's. */
static __always_inline void h2_status_before(struct h2_status *s, __u32 c)
{
	s->before--;
	if (!s->padded)
		return;
	s->padded = 0;
	if (c > s->block)
		h2_status_lose(s);
	else
		s->block -= c;
}

/* How many of the next n bytes nobody needs to look at; they are done with. */
static __always_inline __u32 h2_status_pass(struct h2_status *s, __u32 n)
{
	if (!s->in_frame || s->before || s->block)
		return 0;
	if (n > s->left)
		n = s->left;
	s->left -= n;
	if (!s->left)
		h2_status_frame_end(s);
	return n;
}

/* The next byte, which h2_status_pass() does not pass. Global, so that the verifier looks into it once. */
PARSE_GLOBAL int h2_status_step(struct h2_status *s, __u32 c)
{
	if (!s || s->lost)
		return 0;
	c &= 0xff;
	if (!s->in_frame) {
		if (s->at < H2_FRAME)
			s->frame[s->at] = c;
		if (++s->at >= H2_FRAME)
			h2_status_frame(s);
		return 0;
	}
	s->left--;
	if (s->before) {
		h2_status_before(s, c);
	} else {
		s->block--;
		h2_status_block(s, c);
	}
	if (!s->left)
		h2_status_frame_end(s);
	return 0;
}

/* A head is whole. Returns its status where it answers a request for good: no interim one, trailers, or a promise. */
static __always_inline __u32 h2_status_head(struct h2_status *s)
{
	s->whole = 0;
	return s->lost || s->code < H2_STATUS_FINAL ? 0 : s->code;
}

/* A request was told that has come on a stream: its answer is awaited. */
static __always_inline void h2_status_expect(struct h2_status *s, __u32 stream, __u64 asked_ns)
{
	__u32 at = stream / 2 & (H2_STATUS_STREAMS - 1); /* clients' streams are odd */

	s->asked_ns[at] = 0; /* who reads does not take one for the other */
	s->asked_on[at] = stream;
	s->asked_ns[at] = asked_ns;
}

/* When the request was told whose answer on the frame's stream has begun, once; 0: none is awaited there. */
static __always_inline __u64 h2_status_asked(struct h2_status *s)
{
	__u32 at = s->stream / 2 & (H2_STATUS_STREAMS - 1);

	return s->asked_on[at] == s->stream ? __sync_lock_test_and_set(&s->asked_ns[at], 0) : 0;
}
