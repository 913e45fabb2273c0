/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * HTTP/1.0 and 1.1 requests (RFC 9112), byte by byte, so that no split of the stream makes a difference.
 * Stricter than the RFC where servers differ: see enum flaw. Bodies are counted, not read.
 *
 * The path is canonical: from the target, without the query; percent-encoded letters, digits, - . _ ~
 * are decoded, the hex digits of other codes in upper case. Refused are dot segments (also before ;),
 * empty segments, \, encoded / \ and control characters.
 */
#include <parse/http1_field.h>
#include <parse/http1_frame.h>
#include <parse/http1_run.h>
#include <parse/http1_target.h>

/* One byte of a request. Returns an enum http1_event. */
static __always_inline int http1_byte(struct http1 *h, struct http1_room *room, __u32 c)
{
	if (h->state < HTTP1_FIELD)
		return http1_request_line(h, room, c);
	if (h->state < HTTP1_CHUNK_SIZE)
		return http1_field_line(h, room, c);
	return http1_frame(h, c);
}

struct http1_at {
	struct http1 *h;
	struct http1_room *room;
};

/* A run of bytes, and the one behind it. */
static long http1_step(__u32 index, void *data)
{
	struct http1 *h = ((struct http1_at *)data)->h;
	struct http1_room *room = ((struct http1_at *)data)->room;
	__u32 pos = room->pos, n;

	if (http1_in_body(h)) {
		room->event = HTTP1_BODY;
		return 1;
	}
	if (pos >= room->len)
		return 1;
	n = http1_run(h, room, pos);
	pos += n;
	if (pos < room->len) {
		room->pos = pos + 1;
		h->head += n + 1;
		room->event = http1_byte(h, room, room->chunk[pos & (HTTP1_TEXT - 1)]);
	} else {
		room->pos = pos;
		h->head += n;
	}
	if (h->head > HTTP1_HEAD_MAX)
		room->event = http1_bad(h, FLAW_LONG);
	return room->event != HTTP1_MORE;
}

/*
 * Reads on in the chunk, from room->pos to the next event, which it returns (enum http1_event). With
 * HTTP1_MORE and HTTP1_PART room->text holds what h->part got of its text, since the last call.
 */
PARSE_GLOBAL int http1_feed(struct http1 *h, struct http1_room *room)
{
	struct http1_at at = {.h = h, .room = room};

	if (!h || !room)
		return HTTP1_BAD;
	room->text_len = 0;
	room->event = HTTP1_MORE;
	if (h->state == HTTP1_BROKEN)
		return HTTP1_BAD;
	if (h->state == HTTP1_QUERY)
		h->part = h->query ? HTTP1_PART_QUERY : HTTP1_PART_NONE; /* the path was handed on */
	parse_loop(HTTP1_CHUNK + 1, http1_step, &at);
	room->text[room->text_len & (HTTP1_TEXT - 1)] = 0;
	return room->event;
}

/* Skips n bytes of a body, or fewer: as many as are left of it. Returns how many. */
static __always_inline __u64 http1_skip(struct http1 *h, __u64 n)
{
	if (n > h->left)
		n = h->left;
	h->left -= n;
	if (!h->left)
		h->state = h->state == HTTP1_CHUNK_DATA ? HTTP1_CHUNK_CR : HTTP1_START;
	return n;
}

/* Sets a parser up for the first byte of a connection. seed: secret, of the hashes of hosts. */
static __always_inline void http1_begin(struct http1 *h, __u64 seed, __u32 flags)
{
	__builtin_memset(h, 0, sizeof(*h));
	h->seed = seed;
	h->flags = flags;
}
