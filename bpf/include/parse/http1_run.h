/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
#pragma once
/*
 * Runs of bytes that only go on with what is being read, several in one step: what http1_byte() would do with each of them
 * one after another, and nothing else. Where a byte does more the run ends before it.
 */
#include <parse/http1_target.h>

/* Whether the HTTP1_DULL bytes at pos, in the chunk, are all of a value and none of them its last. */
static __always_inline int http1_dull(const struct http1_room *room, __u32 pos)
{
	const __u64 ones = 0x0101010101010101ULL, highs = 0x8080808080808080ULL;
	__u64 bytes, deletes;

	__builtin_memcpy(&bytes, room->chunk + (pos & (HTTP1_TEXT - 1)), sizeof(bytes));
	deletes = bytes ^ 0x7f * ones;
	return !((((bytes - 0x20 * ones) & ~bytes) | ((deletes - ones) & ~deletes)) & highs);
}

/* The byte of a chunk behind pos, for i < HTTP1_RUN. */
static __always_inline __u32 http1_at(const struct http1_room *room, __u32 pos, __u32 i)
{
	return room->chunk[(pos & (HTTP1_TEXT - 1)) + i];
}

/* Whether the chunk has an i-th byte behind pos. Its bound is hidden, or a compiler makes one of both and 6.1 sees none. */
static __always_inline int http1_has(__u32 i, __u32 left)
{
	PARSE_OPAQUE(left);
	return i < left;
}

/* Those that nobody wants. They all return how many there are, at most left. */
static __always_inline __u32 http1_run_skip(const struct http1_room *room, __u32 pos, __u32 left, __u32 class)
{
	__u32 i;

	for (i = 0; i < HTTP1_RUN && http1_has(i, left); i++)
		if (!(http1_class(http1_at(room, pos, i)) & class))
			break;
	return i;
}

/* Of a value that nobody wants. */
static __always_inline __u32 http1_run_value(const struct http1_room *room, __u32 pos, __u32 left)
{
	__u32 i, n = 0;

	for (i = 0; i < HTTP1_DULL; i++) {
		if (left < HTTP1_DULL || !http1_dull(room, pos + n))
			break;
		n += HTTP1_DULL;
		left -= HTTP1_DULL;
	}
	return n + http1_run_skip(room, pos + n, left, HTTP1_CLASS_VALUE);
}

/* Those that are handed on as they are. */
static __always_inline __u32 http1_run_text(struct http1_room *room, __u32 pos, __u32 left, __u32 class)
{
	__u32 i, c, to = room->text_len;

	for (i = 0; i < HTTP1_RUN && http1_has(i, left); i++) {
		c = http1_at(room, pos, i);
		if (!(http1_class(c) & class))
			break;
		room->text[(to + i) & (HTTP1_TEXT - 1)] = c;
	}
	room->text_len = to + i;
	return i;
}

/* Of a path. */
static __always_inline __u32 http1_run_path(struct http1 *h, struct http1_room *room, __u32 pos, __u32 left)
{
	__u32 class = HTTP1_CLASS_PATH, n;

	if (h->percent)
		return 0;
	if (h->segment >= HTTP1_SEGMENT_NAMED)
		class |= HTTP1_CLASS_DOT;
	n = http1_run_text(room, pos, left, class);
	if (n && h->segment < HTTP1_SEGMENT_NAMED)
		h->segment = HTTP1_SEGMENT_NAMED;
	return n;
}

/* Of a header's name: those that go into one word of it. */
static __always_inline __u32 http1_run_name(struct http1 *h, struct http1_room *room, __u32 pos, __u32 left)
{
	__u32 i, c, class, count = h->count, to = room->text_len;
	__u64 word = 0;

	for (i = 0; i < HTTP1_WORD_LEN && http1_has(i, left); i++) {
		c = http1_at(room, pos, i);
		class = http1_class(c);
		if (!(class & HTTP1_CLASS_NAME) || (i && !((count + i) & (HTTP1_WORD_LEN - 1))))
			break;
		c |= (class & HTTP1_CLASS_UPPER) >> 1; /* in lower case */
		word |= (__u64)c << ((count + i) & (HTTP1_WORD_LEN - 1)) * 8;
		room->text[(to + i) & (HTTP1_TEXT - 1)] = c;
	}
	if (count < sizeof(h->word)) {
		h->word[(count >> 3) & 3] |= word;
		h->count = count + i;
	} else if (i) {
		h->count = sizeof(h->word) + 1;
	}
	if (h->part)
		room->text_len = to + i;
	return i;
}

/* Of the Host header's value. */
static __always_inline __u32 http1_run_host(struct http1 *h, struct http1_room *room, __u32 pos, __u32 left)
{
	__u32 i, c, class, to = room->text_len;
	__u64 host = h->host;

	if (h->flags & HTTP1_GAP)
		return 0;
	for (i = 0; i < HTTP1_RUN && http1_has(i, left); i++) {
		c = http1_at(room, pos, i);
		class = http1_class(c);
		if (!(class & HTTP1_CLASS_HOST))
			break;
		c |= (class & HTTP1_CLASS_UPPER) >> 1;
		host = parse_mix(host, c);
		room->text[(to + i) & (HTTP1_TEXT - 1)] = c;
	}
	h->host = host;
	room->text_len = to + i;
	return i;
}

/* Reads the run at pos, in the chunk. Returns how many bytes it has. */
static __always_inline __u32 http1_run(struct http1 *h, struct http1_room *room, __u32 pos)
{
	__u32 left = room->len - pos;

	switch (h->state) {
	case HTTP1_PATH:
		return http1_run_path(h, room, pos, left);
	case HTTP1_QUERY:
		return h->query ? http1_run_text(room, pos, left, HTTP1_CLASS_QUERY) :
				  http1_run_skip(room, pos, left, HTTP1_CLASS_QUERY);
	case HTTP1_NAME:
		return http1_run_name(h, room, pos, left);
	case HTTP1_VALUE:
		if (h->field == HTTP1_HOST)
			return http1_run_host(h, room, pos, left);
		if (h->field != HTTP1_OTHER)
			return 0;
		return h->part ? http1_run_text(room, pos, left, HTTP1_CLASS_VALUE) : http1_run_value(room, pos, left);
	}
	return 0;
}
