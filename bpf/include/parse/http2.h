/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * HTTP/2 from a client to a server (RFC 9113), byte by byte and resumable at any of them: the preface,
 * frames, and in them the heads of requests. What is no head is passed over, so that bodies cost nothing.
 * Streams need no state of their own: the blocks of two heads cannot be interleaved (4.3), and a head on a
 * stream that has had one is its trailers.
 *
 * Who includes this defines what is done with a request, and before that struct h2_user, what it keeps with
 * a connection. Drive it so:
 *
 *	if (h2_is_due(h))		h2_step(h, 0);
 *	else if ((n = h2_pass(h, left)))	the next n bytes are nobody's
 *	else				h2_step(h, the next byte);
 *
 * until there are no bytes and nothing is due, or h->error is set. An error is for good: the connection
 * cannot be understood any more.
 */
#include <parse/http2_frame.h>
#include <parse/http2_head.h>

enum h2_error {
	H2_OK,
	H2_BAD_PREFACE,
	H2_BAD_FRAME,  /* of a kind, a size or a stream that a client's cannot have */
	H2_BAD_BLOCK,  /* another frame amid the frames of one head */
	H2_BAD_HPACK,  /* h->hpack.error says which */
	H2_BAD_HEAD,   /* h->head.error says which */
};

enum h2_state {
	H2_IN_PREFACE,
	H2_IN_FRAME,
	H2_IN_PAYLOAD,
};

struct h2 {
	struct h2_user user;
	__u32 left;   /* bytes of the frame's payload still to come */
	__u32 block;  /* of them, of the head's block, when what is before it has been read */
	__u32 stream; /* of the frame */
	__u32 newest; /* stream that a request has come on */
	__u8 state;   /* enum h2_state */
	__u8 type;
	__u8 flags;
	__u8 at;      /* bytes of the preface or of the frame's header so far */
	__u8 before;  /* bytes before the block still to come: */
	__u8 padded;  /* 1: the first of them says how many are behind it */
	__u8 open;    /* 1: a head's next frame must follow */
	__u8 closing; /* 1: a head's last byte has come */
	__u8 settled; /* 1: the first frame, the settings, has come */
	__u8 error;   /* enum h2_error */
	__u8 frame[H2_FRAME];
	__u8 pad[5];
	struct h2_head head;
	struct hpack hpack;
};

/* Defined by who includes this: a request's head begins; a byte of the value of field h->head.field, whose
 * name is h->head.name; that field ends; the head is complete and well made. */
static void h2_request(struct h2 *h);
static void h2_value(struct h2 *h, __u8 c);
static void h2_value_end(struct h2 *h);
static void h2_request_end(struct h2 *h);

static __always_inline struct h2 *h2_of(struct hpack *hpack)
{
	return (struct h2 *)((char *)hpack - __builtin_offsetof(struct h2, hpack));
}

static void hpack_text(struct hpack *hpack, __u8 c)
{
	struct h2 *h = h2_of(hpack);

	if (h->head.part == HPACK_NAME) {
		h2_name_byte(&h->head, c);
		return;
	}
	h2_value_byte(&h->head, c);
	if (!h->head.trailers && !h->head.error)
		h2_value(h, c);
}

static void hpack_named(struct hpack *hpack)
{
	h2_named(&h2_of(hpack)->head);
}

static void hpack_field(struct hpack *hpack)
{
	struct h2 *h = h2_of(hpack);

	h2_field_end(&h->head);
	if (!h->head.trailers && !h->head.error)
		h2_value_end(h);
	h2_field_next(&h->head);
}

/* A connection begins. h is zeroes. */
static __always_inline void h2_start(struct h2 *h)
{
	hpack_start(&h->hpack);
}

static __always_inline void h2_fail(struct h2 *h, enum h2_error error)
{
	h->error = error;
}

static __always_inline int h2_is_due(const struct h2 *h)
{
	return hpack_is_due(&h->hpack) || h->closing;
}

/* A frame is complete. */
static __always_inline void h2_frame_end(struct h2 *h)
{
	h->state = H2_IN_FRAME;
	h->at = 0;
	if (h->type == H2_HEADERS || h->type == H2_CONTINUATION)
		h->closing = !!(h->flags & H2_END_HEADERS);
}

/* A head's frames are complete, and all that they made has been handed on. */
static __always_inline void h2_block_end(struct h2 *h)
{
	h->closing = 0;
	h->open = 0;
	hpack_end(&h->hpack);
	h2_head_end(&h->head);
	if (h->hpack.error)
		h2_fail(h, H2_BAD_HPACK);
	else if (h->head.error)
		h2_fail(h, H2_BAD_HEAD);
	else if (!h->head.trailers)
		h2_request_end(h);
}

/* The header of HEADERS has been read. */
static __always_inline void h2_headers(struct h2 *h)
{
	int trailers = h->stream <= h->newest;

	h->padded = !!(h->flags & H2_PADDED);
	h->before = h->padded + (h->flags & H2_HAS_PRIORITY ? H2_PRIORITY : 0);
	/* Clients' streams are odd (5.1.1); behind trailers there is nothing (8.1). */
	if (!(h->stream & 1) || h->before > h->left || (trailers && !(h->flags & H2_END_STREAM))) {
		h2_fail(h, H2_BAD_FRAME);
		return;
	}
	h->block = h->left - h->before;
	h->open = 1;
	if (!trailers)
		h->newest = h->stream;
	hpack_begin(&h->hpack);
	h2_head_begin(&h->head, trailers);
	if (!trailers)
		h2_request(h);
}

/* A frame's header has been read. */
PARSE_GLOBAL int h2_frame(struct h2 *h)
{
	__u32 stream;

	if (!h)
		return 0;
	stream = (__u32)(h->frame[5] & 0x7f) << 24 | h->frame[6] << 16 | h->frame[7] << 8 | h->frame[8];
	h->left = h->frame[0] << 16 | h->frame[1] << 8 | h->frame[2];
	h->type = h->frame[3];
	h->flags = h->frame[4];
	h->block = h->before = h->padded = 0;
	h->state = H2_IN_PAYLOAD;
	if (h->open && (h->type != H2_CONTINUATION || stream != h->stream)) {
		h2_fail(h, H2_BAD_BLOCK);
		return 0;
	}
	h->stream = stream;
	if (!h->settled && h->type != H2_SETTINGS)
		h2_fail(h, H2_BAD_PREFACE);
	h->settled = 1;
	switch (h->type) {
	case H2_DATA:
		if (!(stream & 1) || stream > h->newest)
			h2_fail(h, H2_BAD_FRAME);
		break;
	case H2_HEADERS:
		h2_headers(h);
		break;
	case H2_SETTINGS:
		if (stream || h->left % H2_SETTING)
			h2_fail(h, H2_BAD_FRAME);
		break;
	case H2_PUSH_PROMISE:
		h2_fail(h, H2_BAD_FRAME);
		break;
	case H2_CONTINUATION:
		if (!h->open)
			h2_fail(h, H2_BAD_BLOCK);
		h->block = h->left;
		break;
	}
	if (!h->left)
		h2_frame_end(h);
	return 0;
}

/* A step of a head's block. Global functions, so that the verifier looks into each once. */
PARSE_GLOBAL int h2_block(struct h2 *h, __u32 c)
{
	if (h)
		hpack_step(&h->hpack, c);
	return 0;
}

/* A byte of a payload that h2_pass() does not pass. */
static __always_inline void h2_payload(struct h2 *h, __u8 c)
{
	h->left--;
	if (h->before) {
		h->before--;
		if (h->padded) {
			h->padded = 0;
			if (c > h->block)
				h2_fail(h, H2_BAD_FRAME);
			else
				h->block -= c;
		}
	} else {
		h->block--;
		h2_block(h, c);
	}
	if (!h->left)
		h2_frame_end(h);
}

/* Whether the next byte is one that nobody needs to look at. */
static __always_inline int h2_is_passing(const struct h2 *h)
{
	return h->state == H2_IN_PAYLOAD && !h->before && !h->block && h->left;
}

/* How many of the next n bytes nobody needs to look at; they are done with. */
static __always_inline __u32 h2_pass(struct h2 *h, __u32 n)
{
	if (!h2_is_passing(h))
		return 0;
	if (n > h->left)
		n = h->left;
	h->left -= n;
	if (!h->left)
		h2_frame_end(h);
	return n;
}

/* One step. c is the next byte, and is not looked at when h2_is_due(). */
static __always_inline void h2_step(struct h2 *h, __u8 c)
{
	static const __u8 preface[32] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

	if (hpack_is_due(&h->hpack)) {
		h2_block(h, 0);
	} else if (h->closing) {
		h2_block_end(h);
	} else if (h->state == H2_IN_PREFACE) {
		if (c != preface[h->at & 31])
			h2_fail(h, H2_BAD_PREFACE);
		if (++h->at == H2_PREFACE) {
			h->at = 0;
			h->state = H2_IN_FRAME;
		}
	} else if (h->state == H2_IN_FRAME) {
		if (h->at < H2_FRAME)
			h->frame[h->at] = c;
		if (++h->at == H2_FRAME)
			h2_frame(h);
	} else {
		h2_payload(h, c);
	}
	if (h->hpack.error)
		h2_fail(h, H2_BAD_HPACK);
	else if (h->head.error)
		h2_fail(h, H2_BAD_HEAD);
}
