/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* The headers of a request, and the trailers behind a chunked body. */
#include <parse/http1_target.h>

/* The first byte of a line. */
static __always_inline int http1_field_first(struct http1 *h, struct http1_room *room, __u32 c)
{
	if (c == '\r') {
		h->state = HTTP1_HEAD_LF;
		return HTTP1_MORE;
	}
	if (http1_is_blank(c))
		return http1_bad(h, FLAW_FOLDED);
	if (!http1_is_token(c))
		return http1_bad(h, c == '\n' ? FLAW_LINE_END : FLAW_SYNTAX);
	http1_unpack(h);
	http1_pack(h, http1_lower(c));
	h->state = HTTP1_NAME;
	h->part = h->flags & HTTP1_WANT_LINES && !(h->flags & HTTP1_TRAILER) ? HTTP1_PART_LINE :
										 HTTP1_PART_NONE;
	if (h->part)
		http1_put(room, http1_lower(c));
	return HTTP1_MORE;
}

/* What is wrong with a message in which this header is. */
static __always_inline __u32 http1_flaw_of(__u32 field)
{
	if (field == HTTP1_UPGRADE)
		return FLAW_TUNNEL;
	return field == HTTP1_HOST ? FLAW_HOST : FLAW_FRAMING;
}

/* A header whose name is whole. Those that frame the message may be there once, and not as trailers. */
static __always_inline int http1_named(struct http1 *h, struct http1_room *room)
{
	__u32 seen = 0;

	h->field = HTTP1_OTHER;
	h->flags &= ~HTTP1_GAP;
	h->state = HTTP1_BEFORE_VALUE;
	if (http1_is(h, HTTP1_WORD('h', 'o', 's', 't', 0, 0, 0, 0), 0, 0)) {
		h->field = HTTP1_HOST;
		h->part = HTTP1_PART_HOST;
		h->host = h->seed;
		room->text_len = 0; /* its name is whole in this chunk or was handed on before */
		seen = HTTP1_HAS_HOST;
	} else if (http1_is(h, HTTP1_WORD('c', 'o', 'n', 't', 'e', 'n', 't', '-'),
			    HTTP1_WORD('l', 'e', 'n', 'g', 't', 'h', 0, 0), 0)) {
		h->field = HTTP1_LENGTH;
		seen = HTTP1_HAS_LENGTH;
	} else if (http1_is(h, HTTP1_WORD('t', 'r', 'a', 'n', 's', 'f', 'e', 'r'),
			    HTTP1_WORD('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n'), 'g')) {
		h->field = HTTP1_ENCODING;
		seen = HTTP1_CHUNKED;
	} else if (http1_is(h, HTTP1_WORD('u', 'p', 'g', 'r', 'a', 'd', 'e', 0), 0, 0)) {
		if (h->upgrade != HTTP1_UPGRADE_MAY || h->flags & HTTP1_TRAILER)
			return http1_bad(h, FLAW_TUNNEL);
		h->upgrade = HTTP1_UPGRADE_ASKED;
		h->field = HTTP1_UPGRADE;
	}
	http1_unpack(h);
	if (seen & h->flags || (seen && h->flags & HTTP1_TRAILER))
		return http1_bad(h, http1_flaw_of(h->field));
	h->flags |= seen;
	return HTTP1_MORE;
}

static __always_inline int http1_name(struct http1 *h, struct http1_room *room, __u32 c)
{
	if (c == ':') {
		if (h->part)
			http1_put(room, c);
		return http1_named(h, room);
	}
	if (!http1_is_token(c))
		return http1_bad(h, c == '\n' ? FLAW_LINE_END : FLAW_SYNTAX);
	http1_pack(h, http1_lower(c));
	if (h->part)
		http1_put(room, http1_lower(c));
	return HTTP1_MORE;
}

/* A byte of a value that frames the message. */
static __always_inline int http1_framing_value(struct http1 *h, struct http1_room *room, __u32 c)
{
	if (http1_is_blank(c)) {
		h->flags |= HTTP1_GAP;
		return HTTP1_MORE;
	}
	if (h->flags & HTTP1_GAP)
		return http1_bad(h, http1_flaw_of(h->field));
	switch (h->field) {
	case HTTP1_HOST:
		if (!http1_is_host(c))
			return http1_bad(h, FLAW_HOST);
		h->host = parse_mix(h->host, http1_lower(c));
		http1_put(room, http1_lower(c));
		return HTTP1_MORE;
	case HTTP1_LENGTH:
		if (c < '0' || c > '9' || h->count >= HTTP1_DIGITS)
			return http1_bad(h, FLAW_FRAMING);
		h->count++;
		h->left = h->left * 10 + (c - '0');
		break;
	default:
		http1_pack(h, http1_lower(c));
	}
	if (h->part)
		http1_put(room, c);
	return HTTP1_MORE;
}

/* The end of a value. */
static __always_inline int http1_valued(struct http1 *h)
{
	h->state = HTTP1_VALUE_LF;
	if (h->field == HTTP1_LENGTH && !h->count)
		return http1_bad(h, FLAW_FRAMING);
	if (h->field == HTTP1_ENCODING &&
	    !http1_is(h, HTTP1_WORD('c', 'h', 'u', 'n', 'k', 'e', 'd', 0), 0, 0))
		return http1_bad(h, FLAW_FRAMING);
	if (h->field == HTTP1_UPGRADE && !http1_is(h, HTTP1_WORD('w', 'e', 'b', 's', 'o', 'c', 'k', 'e'), 't', 0))
		return http1_bad(h, FLAW_TUNNEL);
	return h->part ? HTTP1_PART : HTTP1_MORE;
}

static __always_inline int http1_value(struct http1 *h, struct http1_room *room, __u32 c)
{
	if (c == '\r')
		return http1_valued(h);
	if (c < ' ' && c != '\t')
		return http1_bad(h, c == '\n' ? FLAW_LINE_END : FLAW_SYNTAX);
	if (c == 0x7f)
		return http1_bad(h, FLAW_SYNTAX);
	if (h->state == HTTP1_BEFORE_VALUE) {
		if (http1_is_blank(c))
			return HTTP1_MORE;
		h->state = HTTP1_VALUE;
	}
	if (h->field != HTTP1_OTHER)
		return http1_framing_value(h, room, c);
	if (h->part)
		http1_put(room, c);
	return HTTP1_MORE;
}

/*
 * The end of a head: what its headers say together, and what follows it. Of one that asks for WebSocket nothing does: its
 * client waits for the answer.
 */
static __always_inline int http1_headed(struct http1 *h)
{
	__u32 flags = h->flags;

	if (flags & HTTP1_TRAILER) {
		h->state = HTTP1_START;
		return HTTP1_END;
	}
	if (!(flags & HTTP1_HAS_HOST) && (flags & HTTP1_ABSOLUTE || !(flags & HTTP1_OLD)))
		return http1_bad(h, FLAW_HOST);
	if (flags & HTTP1_ABSOLUTE && h->authority != h->host)
		return http1_bad(h, FLAW_HOST);
	if (flags & HTTP1_CHUNKED && flags & (HTTP1_HAS_LENGTH | HTTP1_OLD))
		return http1_bad(h, FLAW_FRAMING);
	if (h->upgrade == HTTP1_UPGRADE_ASKED && (h->left || flags & (HTTP1_CHUNKED | HTTP1_OLD)))
		return http1_bad(h, FLAW_TUNNEL);
	h->head = 0;
	h->state = HTTP1_START;
	if (flags & HTTP1_CHUNKED) {
		h->state = HTTP1_CHUNK_SIZE;
		h->count = 0;
	} else if (h->left) {
		h->state = HTTP1_BODY_DATA;
	}
	return HTTP1_HEAD;
}

/* A byte from HTTP1_FIELD on, in a head or in trailers. */
static __always_inline int http1_field_line(struct http1 *h, struct http1_room *room, __u32 c)
{
	switch (h->state) {
	case HTTP1_FIELD:
		return http1_field_first(h, room, c);
	case HTTP1_NAME:
		return http1_name(h, room, c);
	case HTTP1_BEFORE_VALUE:
	case HTTP1_VALUE:
		return http1_value(h, room, c);
	}
	if (c != '\n')
		return http1_bad(h, FLAW_LINE_END);
	if (h->state == HTTP1_HEAD_LF)
		return http1_headed(h);
	h->state = HTTP1_FIELD;
	return HTTP1_MORE;
}
