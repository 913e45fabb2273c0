/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/* The first line of a request: method, target, version. */
#include <parse/http1_state.h>

enum http1_segment {
	HTTP1_SEGMENT_EMPTY,
	HTTP1_SEGMENT_DOT,
	HTTP1_SEGMENT_DOTS,
	HTTP1_SEGMENT_NAMED,
	HTTP1_SEGMENT_CLOSED, /* behind a ; */
};

static __always_inline int http1_start(struct http1 *h, struct http1_room *room, __u32 c)
{
	if (c == 0x16)
		return http1_bad(h, FLAW_TLS);
	if (!http1_is_token(c))
		return http1_bad(h, c == '\n' ? FLAW_LINE_END : FLAW_SYNTAX);
	h->head = 1;
	h->flags &= HTTP1_WANT_LINES;
	h->left = h->authority = h->host = 0;
	if (h->upgrade)
		h->upgrade = HTTP1_UPGRADE_MAY;
	h->state = HTTP1_METHOD;
	h->part = HTTP1_PART_METHOD;
	http1_unpack(h);
	http1_pack(h, c);
	http1_put(room, c);
	return HTTP1_MORE;
}

static __always_inline int http1_method(struct http1 *h, struct http1_room *room, __u32 c)
{
	if (c != ' ') {
		if (!http1_is_token(c) || h->count >= HTTP1_METHOD_MAX)
			return http1_bad(h, FLAW_SYNTAX);
		http1_pack(h, c);
		http1_put(room, c);
		return HTTP1_MORE;
	}
	if (http1_is(h, HTTP1_WORD('P', 'R', 'I', 0, 0, 0, 0, 0), 0, 0))
		return http1_bad(h, FLAW_HTTP2);
	if (http1_is(h, HTTP1_WORD('C', 'O', 'N', 'N', 'E', 'C', 'T', 0), 0, 0))
		return http1_bad(h, FLAW_TUNNEL);
	h->state = HTTP1_TARGET;
	http1_unpack(h);
	return HTTP1_PART;
}

/* Begins the path, whose first byte is a slash that was sent or is meant. */
static __always_inline void http1_begin_path(struct http1 *h, struct http1_room *room)
{
	h->state = HTTP1_PATH;
	h->segment = HTTP1_SEGMENT_EMPTY;
	h->percent = 0;
	h->part = HTTP1_PART_PATH;
	http1_put(room, '/');
}

static __always_inline int http1_target(struct http1 *h, struct http1_room *room, __u32 c)
{
	if (c == '/') {
		http1_begin_path(h, room);
		return HTTP1_MORE;
	}
	if (c == '*') {
		h->state = HTTP1_STAR;
		h->part = HTTP1_PART_PATH;
		http1_put(room, c);
		return HTTP1_MORE;
	}
	h->part = HTTP1_PART_NONE;
	h->state = HTTP1_SCHEME;
	http1_pack(h, http1_lower(c));
	return HTTP1_MORE;
}

static __always_inline int http1_scheme(struct http1 *h, __u32 c)
{
	if (h->count >= 7)
		return http1_bad(h, FLAW_SYNTAX);
	http1_pack(h, http1_lower(c));
	if (h->count < 7)
		return HTTP1_MORE;
	if (!http1_is(h, HTTP1_WORD('h', 't', 't', 'p', ':', '/', '/', 0), 0, 0))
		return http1_bad(h, FLAW_SYNTAX);
	h->flags |= HTTP1_ABSOLUTE;
	h->authority = h->seed;
	h->state = HTTP1_AUTHORITY;
	return HTTP1_MORE;
}

/* Begins what follows the path or what should: the query, or the version. */
static __always_inline int http1_end_target(struct http1 *h, __u32 c)
{
	h->state = c == '?' ? HTTP1_QUERY : HTTP1_VERSION;
	http1_unpack(h);
	return HTTP1_PART;
}

static __always_inline int http1_authority(struct http1 *h, struct http1_room *room, __u32 c)
{
	if (http1_is_host(c)) {
		h->authority = parse_mix(h->authority, http1_lower(c));
		return HTTP1_MORE;
	}
	if (h->authority == h->seed || (c != '/' && c != '?' && c != ' '))
		return http1_bad(h, FLAW_SYNTAX);
	http1_begin_path(h, room);
	return c == '/' ? HTTP1_MORE : http1_end_target(h, c);
}

/* A byte of a path that stands for itself. */
static __always_inline int http1_path_byte(struct http1 *h, struct http1_room *room, __u32 c)
{
	if (h->segment < HTTP1_SEGMENT_CLOSED) {
		if (c == '.' && h->segment < HTTP1_SEGMENT_DOTS)
			h->segment++;
		else
			h->segment = HTTP1_SEGMENT_NAMED;
	}
	http1_put(room, c);
	return HTTP1_MORE;
}

/* The second digit of a code. */
static __always_inline int http1_decoded(struct http1 *h, struct http1_room *room, __u32 low)
{
	__u32 c = (__u32)h->digit << 4 | low, lower = c | 0x20;
	__u32 high = h->digit;

	h->percent = 0;
	if (c == '/' || c == '\\' || c < 0x20 || c == 0x7f)
		return http1_bad(h, FLAW_PATH);
	if ((c >= '0' && c <= '9') || (lower >= 'a' && lower <= 'z' && c < 0x80) || c == '-' ||
	    c == '.' || c == '_' || c == '~')
		return http1_path_byte(h, room, c);
	http1_path_byte(h, room, '%');
	http1_put(room, high < 10 ? high + '0' : high - 10 + 'A');
	http1_put(room, low < 10 ? low + '0' : low - 10 + 'A');
	return HTTP1_MORE;
}

static __always_inline int http1_is_dotted(const struct http1 *h)
{
	return h->segment == HTTP1_SEGMENT_DOT || h->segment == HTTP1_SEGMENT_DOTS;
}

static __always_inline int http1_path(struct http1 *h, struct http1_room *room, __u32 c)
{
	if (h->percent) {
		int digit = http1_digit(c);

		if (digit < 0)
			return http1_bad(h, FLAW_PATH);
		if (h->percent == 2)
			return http1_decoded(h, room, digit);
		h->digit = digit;
		h->percent = 2;
		return HTTP1_MORE;
	}
	switch (c) {
	case '%':
		h->percent = 1;
		return HTTP1_MORE;
	case '/':
		if (http1_is_dotted(h) || h->segment == HTTP1_SEGMENT_EMPTY)
			return http1_bad(h, FLAW_PATH);
		h->segment = HTTP1_SEGMENT_EMPTY;
		http1_put(room, c);
		return HTTP1_MORE;
	case ';':
		if (http1_is_dotted(h))
			return http1_bad(h, FLAW_PATH);
		h->segment = HTTP1_SEGMENT_CLOSED;
		http1_put(room, c);
		return HTTP1_MORE;
	case '?':
	case ' ':
		if (http1_is_dotted(h))
			return http1_bad(h, FLAW_PATH);
		return http1_end_target(h, c);
	case '\\':
	case '#':
		return http1_bad(h, FLAW_PATH);
	}
	if (c <= ' ' || c >= 0x7f)
		return http1_bad(h, c == '\n' ? FLAW_LINE_END : FLAW_SYNTAX);
	return http1_path_byte(h, room, c);
}

static __always_inline int http1_query(struct http1 *h, struct http1_room *room, __u32 c)
{
	if (c == ' ') {
		h->state = HTTP1_VERSION;
		return h->query ? HTTP1_PART : HTTP1_MORE;
	}
	if (c < ' ' || c == 0x7f || c == '#')
		return http1_bad(h, c == '\n' ? FLAW_LINE_END : FLAW_SYNTAX);
	if (h->query)
		http1_put(room, c);
	return HTTP1_MORE;
}

static __always_inline int http1_version(struct http1 *h, __u32 c)
{
	if (c != '\r') {
		if (c == '\n')
			return http1_bad(h, FLAW_LINE_END);
		http1_pack(h, c);
		return h->count > 8 ? http1_bad(h, FLAW_SYNTAX) : HTTP1_MORE;
	}
	if (http1_is(h, HTTP1_WORD('H', 'T', 'T', 'P', '/', '1', '.', '0'), 0, 0))
		h->flags |= HTTP1_OLD;
	else if (!http1_is(h, HTTP1_WORD('H', 'T', 'T', 'P', '/', '1', '.', '1'), 0, 0))
		return http1_bad(h, FLAW_SYNTAX);
	h->state = HTTP1_LINE_LF;
	return HTTP1_MORE;
}

/* A byte before HTTP1_FIELD. */
static __always_inline int http1_request_line(struct http1 *h, struct http1_room *room, __u32 c)
{
	switch (h->state) {
	case HTTP1_START:
		return http1_start(h, room, c);
	case HTTP1_METHOD:
		return http1_method(h, room, c);
	case HTTP1_TARGET:
		return http1_target(h, room, c);
	case HTTP1_SCHEME:
		return http1_scheme(h, c);
	case HTTP1_AUTHORITY:
		return http1_authority(h, room, c);
	case HTTP1_PATH:
		return http1_path(h, room, c);
	case HTTP1_QUERY:
		return http1_query(h, room, c);
	case HTTP1_STAR:
		return c == ' ' ? http1_end_target(h, c) : http1_bad(h, FLAW_SYNTAX);
	case HTTP1_VERSION:
		return http1_version(h, c);
	default: /* HTTP1_LINE_LF */
		if (c != '\n')
			return http1_bad(h, FLAW_LINE_END);
		h->state = HTTP1_FIELD;
		return HTTP1_MORE;
	}
}
