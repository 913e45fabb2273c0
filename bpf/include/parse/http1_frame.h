/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* Where the body of a request ends, so that the next request is found. */
#include <parse/http1_state.h>

/* Whether the next bytes are a body's. */
static __always_inline int http1_in_body(const struct http1 *h)
{
	return h->left && (h->state == HTTP1_BODY_DATA || h->state == HTTP1_CHUNK_DATA);
}

/* The line before a chunk is whole. */
static __always_inline void http1_sized(struct http1 *h)
{
	h->head = 0;
	if (h->left) {
		h->state = HTTP1_CHUNK_DATA;
		return;
	}
	h->flags |= HTTP1_TRAILER;
	h->state = HTTP1_FIELD;
}

static __always_inline int http1_chunk_size(struct http1 *h, __u32 c)
{
	int digit = http1_digit(c);

	if (digit >= 0) {
		if (h->count >= HTTP1_DIGITS)
			return http1_bad(h, FLAW_FRAMING);
		h->count++;
		h->left = h->left << 4 | (__u32)digit;
		return HTTP1_MORE;
	}
	if (!h->count || (c != '\r' && c != ';'))
		return http1_bad(h, FLAW_FRAMING);
	h->state = c == ';' ? HTTP1_CHUNK_EXTENSION : HTTP1_CHUNK_LF;
	return HTTP1_MORE;
}

/* A byte behind a head that is no body's. */
static __always_inline int http1_frame(struct http1 *h, __u32 c)
{
	switch (h->state) {
	case HTTP1_CHUNK_SIZE:
		return http1_chunk_size(h, c);
	case HTTP1_CHUNK_EXTENSION:
		if (c == '\r')
			h->state = HTTP1_CHUNK_LF;
		else if ((c < ' ' && c != '\t') || c == 0x7f)
			return http1_bad(h, FLAW_FRAMING);
		return HTTP1_MORE;
	case HTTP1_CHUNK_LF:
		if (c != '\n')
			return http1_bad(h, FLAW_LINE_END);
		http1_sized(h);
		return HTTP1_MORE;
	case HTTP1_CHUNK_CR:
		if (c != '\r')
			return http1_bad(h, FLAW_FRAMING);
		h->state = HTTP1_CHUNK_DATA_LF;
		return HTTP1_MORE;
	case HTTP1_CHUNK_DATA_LF:
		if (c != '\n')
			return http1_bad(h, FLAW_LINE_END);
		h->state = HTTP1_CHUNK_SIZE;
		h->count = h->head = 0;
		return HTTP1_MORE;
	}
	return http1_bad(h, FLAW_SYNTAX);
}
